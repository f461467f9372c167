"""Charges and payments: the contract against the pure machine, and every way to get it wrong."""

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from tests.contracts.conftest import (
    CHAIN,
    REF,
    Hub,
    account,
    as_abi,
    contract,
    key,
    make_hub,
    ordered,
    packed,
    raw,
    reverts,
)
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import SessionId, chain_ref, eip155
from tristrata.protocol.session import ChargeVoucher, Close, RequestClose, Session, SessionRefused, TopUp, apply
from tristrata.protocol.signing import Domain, digest, sign
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import splits_hash

FIRST = {"router": 5, "miner": 95}


def test_charge__voucher_of_the_session_key__records_it(hub: Hub) -> None:
    session = hub.open()

    hub.charge(session, 2, FIRST)

    [event] = [log for log in hub.settlement.get_logs() if type(log).__name__ == "Charged"]
    charged = hub.settlement.charged(session)
    assert (charged.cumulative, charged.count, charged.splits) == (100, 2, splits_hash(ordered(FIRST)))
    assert (event.cumulative, event.count, event.splits) == (100, 2, packed(ordered(FIRST)))


def test_charge__again_upwards__needs_the_previous_splits(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    with reverts("Settlement", "WrongPreviousSplits"):
        hub.charge(session, 3, {"router": 10, "miner": 190})
    hub.charge(session, 3, {"router": 10, "miner": 190, "other": 7}, FIRST)
    assert hub.settlement.charged(session).cumulative == 207


def test_charge__not_upwards__is_refused_with_both_values(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    with reverts("Settlement", "ChargeNotUp", 100, 2, 100, 2):
        hub.charge(session, 2, FIRST, FIRST)
    with reverts("Settlement", "ChargeNotUp", 101, 1, 100, 2):
        hub.charge(session, 1, {"router": 6, "miner": 95}, FIRST)


@pytest.mark.parametrize("earned", [{"router": 4, "miner": 200}, {"miner": 200}, {"router": 200}])
def test_charge__a_payee_would_have_less__is_refused(hub: Hub, earned: dict[str, int]) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    with reverts("Settlement", "SplitShrunk"):
        hub.charge(session, 3, earned, FIRST)


def test_charge__above_the_deposit__is_refused(hub: Hub) -> None:
    session = hub.open(deposit=50)

    with reverts("Settlement", "AboveDeposit", 100, 50):
        hub.charge(session, 1, FIRST)


def test_charge__above_the_daily_limit__waits_for_the_next_day(hub: Hub) -> None:
    session = hub.open(max_per_day=Amount(100), expiry=boa.env.timestamp + 10**6)
    hub.charge(session, 1, FIRST)

    with reverts("Settlement", "AboveDailyLimit", 150, 100):
        hub.charge(session, 2, {"router": 5, "miner": 145}, FIRST)
    boa.env.time_travel(86_400)
    hub.charge(session, 2, {"router": 5, "miner": 145}, FIRST)


def test_charge__signed_by_another__is_refused(hub: Hub) -> None:
    session = hub.open()
    splits = ordered(FIRST)
    voucher = hub.voucher(session, 1, splits)

    for signature in (hub.sign(voucher, "owner"), hub.sign(voucher)[:64], b"\0" * 65):
        with reverts("Settlement", "WrongSigner"):
            hub.settlement.charge(as_abi(voucher), packed(splits), [], signature)


def test_charge__malformed_splits__are_refused(hub: Hub) -> None:
    session = hub.open()
    splits = packed(ordered(FIRST))

    def attempt(words: list[int], total: int) -> None:
        hashed = splits_hash_of(words)
        voucher = replace(hub.voucher(session, 1, ordered(FIRST)), cumulative=Amount(total), splits=hashed)
        hub.settlement.charge(as_abi(voucher), words, [], hub.sign(voucher))

    with reverts("Settlement", "SplitsUnsorted"):
        attempt(splits[::-1], 100)
    with reverts("Settlement", "SplitsUnsorted"):
        attempt([splits[0], splits[0]], 2 * (splits[0] & (2**96 - 1)))
    with reverts("Settlement", "SplitsUnsorted"):
        attempt([7], 7)
    with reverts("Settlement", "WrongSum"):
        attempt(splits, 101)
    with reverts("Settlement", "WrongSum"):
        attempt([], 1)
    with reverts("Settlement", "WrongSplits"):
        voucher = hub.voucher(session, 1, ordered(FIRST))
        hub.settlement.charge(as_abi(voucher), packed(ordered({"router": 6, "miner": 94})), [], hub.sign(voucher))


def splits_hash_of(words: list[int]) -> bytes:
    return keccak(encode(["uint256[]"], [words]))


def test_charge__replayed_on_another_chain_contract_or_session__is_refused(hub: Hub) -> None:
    session, other = hub.open(nonce=1), hub.open(nonce=2)
    splits = ordered(FIRST)
    voucher = hub.voucher(session, 1, splits)
    elsewhere = contract("orchestration/Settlement.vy", REF, hub.sessions.address, hub.outbox.address, 0, 0)
    ours = hub.domain(hub.settlement)
    for domain in (
        Domain(eip155(2), ours.ref, ours.contract),
        Domain(CHAIN, chain_ref(eip155(2)), ours.contract),
        hub.domain(elsewhere),
    ):
        signature = sign(key("session key"), digest(domain.separator, voucher.struct_hash))
        with reverts("Settlement", "WrongSigner"):
            hub.settlement.charge(as_abi(voucher), packed(splits), [], signature)
    moved = replace(voucher, session=SessionId(other))
    with reverts("Settlement", "WrongSigner"):
        hub.settlement.charge(as_abi(moved), packed(splits), [], hub.sign(voucher))


def test_charge__unknown_or_closed_session__is_refused(hub: Hub) -> None:
    with reverts("Settlement", "SessionUnknown"):
        hub.charge(b"\x99" * 32, 1, FIRST)
    session = hub.open()
    boa.env.time_travel(20_000)
    hub.sessions.close(session)
    with reverts("Settlement", "SessionClosed"):
        hub.charge(session, 1, FIRST)


def test_claim_direct__from_many_sessions__pays_each_cent_once(hub: Hub) -> None:
    one, two = hub.open(nonce=1), hub.open(nonce=2)
    hub.charge(one, 1, FIRST)
    hub.charge(two, 1, {"miner": 50, "router": 1})

    def claim(session: bytes, earned: dict[str, int], name: str) -> int:
        splits = ordered(earned)
        index = [split.payee for split in splits].index(raw(name))
        return int(hub.settlement.claim_direct(session, packed(splits), index))

    assert claim(one, FIRST, "miner") == 95
    assert claim(one, FIRST, "miner") == 0
    assert claim(two, {"miner": 50, "router": 1}, "miner") == 50
    hub.charge(one, 2, {"router": 6, "miner": 100}, FIRST)
    assert claim(one, {"router": 6, "miner": 100}, "miner") == 5
    assert hub.dollar.balanceOf(account("miner")) == hub.settlement.claimed(account("miner")) == 150


def test_claim_direct__after_the_session_is_closed__still_pays(hub: Hub) -> None:
    session = hub.open(deposit=1_000)
    hub.charge(session, 1, FIRST)
    boa.env.time_travel(20_000)
    before = hub.dollar.balanceOf(account("owner"))
    hub.sessions.close(session)

    assert hub.dollar.balanceOf(account("owner")) - before == 900
    for index in range(2):
        hub.settlement.claim_direct(session, packed(ordered(FIRST)), index)
    assert hub.dollar.balanceOf(hub.sessions.address) == 0


def test_claim_direct__splits_that_were_not_charged__are_refused(hub: Hub) -> None:
    session = hub.open()

    with reverts("Settlement", "WrongSplits"):
        hub.settlement.claim_direct(session, packed(ordered(FIRST)), 0)
    hub.charge(session, 1, FIRST)
    with reverts("Settlement", "WrongSplits"):
        hub.settlement.claim_direct(session, packed(ordered({"miner": 100})), 0)
    with reverts("Settlement", "NoSuchSplit", 2, 2):
        hub.settlement.claim_direct(session, packed(ordered(FIRST)), 2)


class AgainstThePureMachine(RuleBasedStateMachine):
    """Random changes through `protocol.session` and through the contracts: same states, and P1 on real balances."""

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.hub = make_hub()
        terms = self.hub.terms(max_per_day=Amount(300))
        self.session_id = self.hub.open(deposit=500, max_per_day=Amount(300))
        self.pure = Session(self.session_id, raw("owner"), terms, Amount(500), grace=Seconds(60))
        self.put_in = 500

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def both(self, change: Any, call: Any) -> None:
        try:
            state, _ = apply(self.pure, change, Timestamp(boa.env.timestamp))
        except (SessionRefused, InvalidValue):
            with pytest.raises(boa.BoaError):
                call()
        else:
            call()
            self.pure = state

    @rule(seconds=st.integers(1, 100_000))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(amount=st.integers(0, 200))
    def top_up(self, amount: int) -> None:
        before = self.pure.deposit
        self.both(
            TopUp(Amount(amount)),
            lambda: self.hub.sessions.top_up(self.session_id, amount, sender=account("owner")),
        )
        self.put_in += self.pure.deposit - before

    @rule(router=st.integers(0, 200), miner=st.integers(0, 500), count=st.integers(0, 5))
    def charge(self, router: int, miner: int, count: int) -> None:
        splits = ordered({"router": router, "miner": miner})
        voucher = self.hub.voucher(self.session_id, count, splits)
        self.both(
            ChargeVoucher(voucher, splits),
            lambda: self.hub.settlement.charge(
                as_abi(voucher), packed(splits), packed(self.pure.charge.splits), self.hub.sign(voucher)
            ),
        )

    @rule(sender=st.sampled_from(["owner", "router", "session key", "stranger"]))
    def request_close(self, sender: str) -> None:
        self.both(
            RequestClose(raw(sender)),
            lambda: self.hub.sessions.request_close(self.session_id, sender=account(sender)),
        )

    @rule()
    def close(self) -> None:
        self.both(Close(), lambda: self.hub.sessions.close(self.session_id))

    @rule(index=st.integers(0, 1))
    def claim(self, index: int) -> None:
        if self.pure.charge.splits:
            self.hub.settlement.claim_direct(self.session_id, packed(self.pure.charge.splits), index)

    @invariant()
    def states_are_the_same_and_money_is_conserved(self) -> None:
        if not hasattr(self, "pure"):
            return
        charged = self.hub.settlement.charged(self.session_id)
        pure = self.pure.charge
        assert (charged.cumulative, charged.count) == (pure.cumulative, pure.count)
        assert charged.splits == splits_hash(pure.splits)
        session = self.hub.sessions.session(self.session_id)
        assert (session.deposit, session.closing_at, session.closed) == (
            self.pure.deposit,
            self.pure.closing_at,
            self.pure.closed,
        )
        paid = sum(self.hub.dollar.balanceOf(account(name)) for name in ("router", "miner"))
        refund = self.pure.remaining if self.pure.closed else 0
        assert paid <= pure.cumulative <= self.put_in
        assert self.hub.dollar.balanceOf(self.hub.sessions.address) == self.put_in - paid - refund


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
