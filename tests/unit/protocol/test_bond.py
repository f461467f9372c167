"""A miner's bond: what each change does, what is refused, and what no series of changes can break."""

from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.protocol.strategies import addresses, amounts, uint64, words
from tristrata.protocol.bond import (
    MAX_JAIL,
    MAX_OFFERS,
    AddBond,
    Bond,
    BondChange,
    BondChanged,
    BondRefused,
    Capability,
    Exit,
    Jail,
    Jailed,
    MakeOffer,
    OfferWithdrawn,
    Penalize,
    Penalized,
    Register,
    Release,
    RemoveBond,
    RequestExit,
    Reserve,
    Rules,
    Unjail,
    WithdrawBond,
    Withdrawn,
    WithdrawOffer,
    apply,
)
from tristrata.protocol.hashing import ZERO_WORD
from tristrata.protocol.ids import Address, ModelId
from tristrata.protocol.units import Amount, BasisPoints, Seconds, Timestamp

RULES = Rules(Amount(100), Seconds(60), BasisPoints(1_000))
MODEL = ModelId(b"\1" * 32)
MINER = Address(b"\2" * 20)
NOW = Timestamp(1_000)


def bond(*changes: BondChange, **fields: Any) -> Bond:
    """A miner with a bond of 500 that offers a model, after these changes at `NOW`."""
    state = Bond(RULES)
    for change in (Register(Amount(500)), MakeOffer(MODEL), *changes):
        state, _ = apply(state, change, NOW)
    return replace(state, **fields)


def jail(until: int = NOW + 10, penalty: int = 0, evidence: bytes = b"\3" * 32) -> Jail:
    return Jail(MINER, Timestamp(until), Amount(penalty), evidence)


@pytest.mark.parametrize(
    ("state", "change"),
    [
        (Bond(RULES), Register(Amount(99))),
        (bond(), Register(Amount(500))),
        (Bond(RULES), MakeOffer(MODEL)),
        (bond(), MakeOffer(ModelId(ZERO_WORD))),
        (bond(RequestExit()), MakeOffer(MODEL)),
        (bond(jail()), MakeOffer(MODEL)),
        (bond(Penalize(Amount(401), Seconds(0))), MakeOffer(MODEL)),
        (
            bond(*(MakeOffer(ModelId(bytes([n]) * 32)) for n in range(1, MAX_OFFERS + 1))),
            MakeOffer(ModelId(b"\xff" * 32)),
        ),
        (bond(), WithdrawOffer(ModelId(b"\xff" * 32))),
        (Bond(RULES), AddBond(Amount(1))),
        (bond(), AddBond(Amount(0))),
        (bond(), RemoveBond(Amount(0))),
        (bond(), RemoveBond(Amount(401))),
        (bond(Reserve(Amount(1))), RemoveBond(Amount(400))),
        (bond(RemoveBond(Amount(1))), RemoveBond(Amount(1))),
        (bond(RequestExit()), RemoveBond(Amount(1))),
        (bond(), WithdrawBond()),
        (bond(RemoveBond(Amount(1))), WithdrawBond()),
        (bond(withdraw_at=NOW, jailed_until=NOW + 1), WithdrawBond()),
        (bond(RequestExit()), RequestExit()),
        (bond(), Exit()),
        (bond(RequestExit()), Exit()),
        (bond(exit_at=NOW, reserved=Amount(1)), Exit()),
        (bond(exit_at=NOW, jailed_until=NOW + 1), Exit()),
        (bond(Reserve(Amount(5))), Release(Amount(6))),
        (Bond(RULES), jail()),
        (bond(), jail(until=NOW)),
        (bond(), jail(until=NOW + MAX_JAIL + 1)),
        (bond(jail()), jail()),
        (bond(), Unjail()),
        (bond(jail()), Unjail()),
    ],
)
def test_apply__against_the_rules__is_refused(state: Bond, change: BondChange) -> None:
    with pytest.raises(BondRefused):
        apply(state, change, NOW)


@pytest.mark.parametrize(
    ("state", "amount"),
    [
        (Bond(RULES), 0),
        (bond(), 501),
        (bond(Reserve(Amount(500))), 1),
        (bond(RequestExit()), 1),
        (bond(jail()), 1),
        (bond(Penalize(Amount(401), Seconds(0))), 0),
    ],
)
def test_reserve__cannot_be_met__changes_nothing(state: Bond, amount: int) -> None:
    assert apply(state, Reserve(Amount(amount)), NOW) == (state, [])


def test_reserve__then_release__moves_the_weight() -> None:
    state = bond(Reserve(Amount(200)))

    assert (state.reserved, state.weight) == (200, 300)
    assert apply(state, Release(Amount(150)), NOW)[0].weight == 450


def test_exit__due__pays_all_and_ends_the_offers() -> None:
    state = bond(RemoveBond(Amount(50)), RequestExit())

    assert state.weight == 0
    after, events = apply(state, Exit(), Timestamp(NOW + 60))
    assert after == Bond(RULES)
    assert events == [OfferWithdrawn(MODEL), BondChanged(Amount(0)), Withdrawn(Amount(500))]


def test_jail__penalty_above_the_cap__burns_the_cap() -> None:
    after, events = apply(bond(RemoveBond(Amount(100))), jail(penalty=400), NOW)

    assert events[1] == Penalized(Amount(50))  # ten percent of 400 bond and 100 being withdrawn
    assert (after.bond, after.withdrawing, after.weight) == (350, 100, 0)


def test_jail__shorter_than_the_one_before__leaves_that() -> None:
    after, events = apply(bond(jail(until=NOW + 50)), jail(until=NOW + 5, evidence=b"\4" * 32), NOW)

    assert after.jailed_until == NOW + 50
    assert events[0] == Jailed(Timestamp(NOW + 50), b"\4" * 32)


def test_penalize__beyond_the_bond__takes_what_is_being_withdrawn_then_stops() -> None:
    state = bond(RemoveBond(Amount(100)), Reserve(Amount(250)))
    after, _ = apply(state, Penalize(Amount(450), Seconds(2 * MAX_JAIL)), NOW)

    assert (after.bond, after.withdrawing, after.reserved, after.free) == (0, 50, 250, 0)
    assert after.jailed_until == NOW + MAX_JAIL
    assert apply(after, Penalize(Amount(450), Seconds(0)), NOW)[1][0] == Penalized(Amount(50))
    assert apply(Bond(RULES), Penalize(Amount(1), Seconds(1)), NOW) == (Bond(RULES), [])


def test_penalize__below_the_least_bond__weighs_nothing_until_it_is_raised() -> None:
    at_the_edge, below = (bond(Penalize(Amount(amount), Seconds(0))) for amount in (400, 401))

    assert (at_the_edge.weight, below.weight) == (100, 0)
    assert apply(at_the_edge, MakeOffer(MODEL), NOW)[0].weight == 100
    with pytest.raises(BondRefused, match=r"the bond is 99; it must be 100 at least"):
        apply(below, MakeOffer(MODEL), NOW)
    assert apply(below, AddBond(Amount(1)), NOW)[0].weight == 100


def test_unjail__time_is_over__restores_the_weight() -> None:
    state = bond(jail(until=NOW + 10))

    assert state.weight == 0
    assert apply(state, Unjail(), Timestamp(NOW + 10))[0].weight == 500
    assert apply(state, AddBond(Amount(1)), Timestamp(NOW + 10))[0].weight == 501


small = st.integers(0, 700).map(Amount)
changes = st.one_of(
    st.builds(Register, small),
    st.builds(MakeOffer, words.map(ModelId)),
    st.just(MakeOffer(MODEL)),
    st.just(WithdrawOffer(MODEL)),
    st.builds(AddBond, small),
    st.builds(RemoveBond, small),
    st.just(WithdrawBond()),
    st.just(RequestExit()),
    st.just(Exit()),
    st.builds(Reserve, small),
    st.builds(Release, small),
    st.builds(Penalize, small, st.integers(0, 100).map(Seconds)),
    st.builds(Jail, st.just(MINER), st.integers(0, 2_000).map(Timestamp), small, words),
    st.just(Unjail()),
)


@given(st.lists(st.tuples(changes, st.integers(0, 100)), max_size=40))
def test_apply__any_changes__conserve_money_and_hold_what_is_reserved(steps: list[tuple[BondChange, int]]) -> None:
    state, now, put_in, taken_out = Bond(RULES), 0, 0, 0
    for change, seconds in steps:
        now += seconds
        before = state
        try:
            state, events = apply(state, change, Timestamp(now))
        except BondRefused:
            continue
        if isinstance(change, Register):
            put_in += change.bond
        if isinstance(change, AddBond):
            put_in += change.amount
        taken_out += sum(event.amount for event in events if isinstance(event, Withdrawn | Penalized))
        assert put_in == taken_out + state.bond + state.withdrawing
        if any(isinstance(event, Withdrawn) for event in events):
            assert before.reserved == state.reserved
            assert state.bond == before.bond or before.reserved == 0
            assert not before.is_jailed(Timestamp(now))
        assert state.weight in (0, state.free)
        assert state.weight == 0 or state.may_work(Timestamp(now))


@given(addresses, uint64, amounts, words)
def test_jail__struct_hash__is_eip_712(miner: Address, until: int, penalty: Amount, evidence: bytes) -> None:
    order = Jail(miner, Timestamp(until), penalty, evidence)

    assert order.struct_hash == typed_hash(
        "Jail",
        {"miner": "address", "until": "uint64", "penalty": "uint96", "evidence": "bytes32"},
        {"miner": miner, "until": until, "penalty": penalty, "evidence": evidence},
    )


@given(addresses, words, words, uint64)
def test_capability__struct_hash__is_eip_712(miner: Address, model: bytes, reference: bytes, measured_at: int) -> None:
    measured = Capability(miner, ModelId(model), reference, Timestamp(measured_at))

    assert measured.struct_hash == typed_hash(
        "Capability",
        {"miner": "address", "model_id": "bytes32", "reference": "bytes32", "measured_at": "uint64"},
        {"miner": miner, "model_id": model, "reference": reference, "measured_at": measured_at},
    )


def typed_hash(name: str, fields: dict[str, str], values: dict[str, Any]) -> bytes:
    types = {name: [{"name": field, "type": kind} for field, kind in fields.items()]}
    return bytes(encode_typed_data({"name": "Tristrata"}, types, values).body)
