"""Charges by voucher: what is recorded, and every way to get it wrong."""

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from msgspec.structs import replace

from tests.contracts.conftest import (
    CHAIN,
    GRACE,
    REF,
    ChargeCall,
    Hub,
    account,
    key,
    make_hub,
    ordered,
    packed,
    raw,
    reverts,
)
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import SessionId, chain_ref, checksum, eip155
from tristrata.protocol.session import MAX_COUNT
from tristrata.protocol.signing import Domain, compact, digest, sign
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import AMOUNT_BITS, charge_tail

FIRST = {"router": 5, "miner": 95}
SECOND = {"router": 10, "miner": 190}
ZERO = "0x" + 40 * "0"


def low(name: str) -> str:
    return account(name).lower()


def charged(hub: Hub, session: bytes) -> tuple[int, int]:
    return hub.settlement.charged_amount(session), hub.settlement.charged_tail(session)


def test_charge__voucher_of_the_session_key__records_it(hub: Hub) -> None:
    session = hub.open()

    hub.charge(session, 2, FIRST)

    [event] = [log for log in hub.settlement.get_logs() if type(log).__name__ == "Charged"]
    assert charged(hub, session) == (100, charge_tail(2, ordered(FIRST)))
    assert (event.session_id, event.count, event.head) == (session, 2, b"\x33" * 32)
    assert event.splits == packed(ordered(FIRST))
    assert (hub.settlement.total_charged(), hub.settlement.total_paid()) == (100, 0)


def test_charge__again_upwards__adds_payees_and_keeps_the_others(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    more = {"router": 5, "miner": 190, "other": 7}
    hub.charge(session, 3, more)

    assert charged(hub, session) == (202, charge_tail(3, ordered(more)))
    assert hub.settlement.total_charged() == 202


def test_charge__same_count_and_more__is_charged(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    hub.charge(session, 2, SECOND)
    hub.charge(session, MAX_COUNT, {"router": 10, "miner": 191})


def test_charge__32_payees__fit_twice(hub: Hub) -> None:
    session = hub.open()
    many = {f"payee {number}": number + 1 for number in range(32)}
    hub.charge(session, 1, many)

    hub.charge(session, 2, {name: amount + 1 for name, amount in many.items()})

    assert hub.settlement.charged_amount(session) == sum(many.values()) + 32


def test_charge__not_upwards__is_refused_with_both_values(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    with reverts("Settlement", "ChargeNotUp", 100, 2, 100, 2):
        hub.charge(session, 2, FIRST)
    with reverts("Settlement", "ChargeNotUp", 101, 1, 100, 2):
        hub.charge(session, 1, {"router": 6, "miner": 95})
    with reverts("Settlement", "ChargeNotUp", 101, MAX_COUNT + 1, 100, 2):
        hub.charge(session, MAX_COUNT + 1, {"router": 6, "miner": 95})


def test_charge__nothing_at_all__is_refused(hub: Hub) -> None:
    session = hub.open()

    with reverts("Settlement", "ChargeNotUp", 0, 1, 0, 0):
        hub.charge(session, 1, {})


def changed(call: ChargeCall, **changes: Any) -> ChargeCall:
    """A call with another count or other splits before; what was signed stays."""
    (session, count, head, count_before, split_count, r, vs), splits, before = call
    count_before = changes.get("count_before", count_before)
    return (session, count, head, count_before, split_count, r, vs), splits, changes.get("before", before)


@pytest.mark.parametrize(
    "changes",
    [
        {"before": [0, 0]},
        {"before": [94, 5]},
        {"before": [95, 4]},
        {"before": [95, 0]},
        {"count_before": 1},
        {"count_before": 0},
        {"count_before": 2**255},
    ],
)
def test_charge__after_something_that_was_not_charged__is_refused(hub: Hub, changes: dict[str, Any]) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)
    call = hub.charge_call(session, 3, SECOND)
    order = [split.payee for split in ordered(SECOND)]
    if "before" in changes and order[0] != raw("miner"):
        changes = {**changes, "before": changes["before"][::-1]}

    with reverts("Settlement", "WrongSplitsBefore", session):
        hub.settlement.charge(*changed(call, **changes))
    hub.settlement.charge(*call)


def test_charge__first_one_after_something__is_refused(hub: Hub) -> None:
    session = hub.open()
    call = hub.charge_call(session, 3, SECOND)

    for changes in ({"before": [1, 0]}, {"before": [0, 1]}, {"count_before": 1}):
        with reverts("Settlement", "WrongSplitsBefore", session):
            hub.settlement.charge(*changed(call, **changes))


def test_charge__as_many_splits_before_as_now__or_it_is_refused(hub: Hub) -> None:
    session = hub.open()
    call = hub.charge_call(session, 3, SECOND)

    for before in ([], [0], [0, 0, 0]):
        with reverts("Settlement", "LengthsDiffer", 2, len(before)):
            hub.settlement.charge(*changed(call, before=before))


def test_charge__a_payee_would_have_less__is_refused(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    for earned, name in (({"router": 4, "miner": 200}, "router"), ({"router": 200, "miner": 94}, "miner")):
        with reverts("Settlement", "SplitShrunk", low(name)):
            hub.charge(session, 3, earned)


@pytest.mark.parametrize("earned", [{"miner": 200}, {"router": 200}, {"other": 200}])
def test_charge__a_payee_was_left_out__is_refused(hub: Hub, earned: dict[str, int]) -> None:
    session = hub.open()
    hub.charge(session, 2, FIRST)

    with reverts("Settlement", "WrongSplitsBefore", session):
        hub.charge(session, 3, earned)


def test_charge__above_the_deposit__is_refused(hub: Hub) -> None:
    session = hub.open(deposit=99)

    with reverts("Settlement", "AboveDeposit", 100, 99):
        hub.charge(session, 1, FIRST)
    hub.sessions.top_up(session, 1, sender=account("owner"))
    hub.charge(session, 1, FIRST)


def test_charge__above_the_daily_limit__waits_for_the_next_utc_day(hub: Hub) -> None:
    session = hub.open(max_per_day=Amount(100), expiry=boa.env.timestamp + 10**6)
    hub.charge(session, 1, FIRST)
    day = boa.env.timestamp // 86_400

    assert hub.settlement.charged_on_day(session, day) == 100
    assert hub.settlement.charged_on_day(session, day + 1) == 0
    with reverts("Settlement", "AboveDailyLimit", 101, 100):
        hub.charge(session, 2, {"router": 6, "miner": 95})
    boa.env.time_travel((day + 1) * 86_400 - boa.env.timestamp)
    with reverts("Settlement", "AboveDailyLimit", 101, 100):
        hub.charge(session, 2, {"router": 6, "miner": 195})
    hub.charge(session, 2, {"router": 5, "miner": 195})


def test_charge__no_daily_limit__counts_no_days(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 1, FIRST)

    assert hub.settlement.charged_on_day(session, boa.env.timestamp // 86_400) == 0


def with_signature(call: ChargeCall, r: bytes, vs: bytes) -> ChargeCall:
    head, splits, before = call
    return (*head[:-2], r, vs), splits, before


def test_charge__signed_by_another__is_refused(hub: Hub) -> None:
    session = hub.open()
    call = hub.charge_call(session, 1, FIRST)

    for name in ("owner", "router", "miner"):
        with reverts("Settlement", "WrongSigner", low("session key"), low(name)):
            hub.charge(session, 1, FIRST, name)
    *_, r, vs = call[0]
    high_s = (2**255 - 1).to_bytes(32, "big")  # above half the order of the curve; most of those do not fit in vs
    for wrong in ((bytes(32), bytes(32)), (r, bytes(32)), (r, high_s), (b"\xff" * 32, vs)):
        with reverts("Settlement", "WrongSigner", low("session key"), ZERO):
            hub.settlement.charge(*with_signature(call, *wrong))
    hub.settlement.charge(*call)


def attempt(hub: Hub, session: SessionId, words: list[int], total: int) -> None:
    """Charge any words as splits, signed by the session's key."""
    hashed = keccak(encode(["uint256[]"], [words]))
    voucher = replace(hub.voucher(session, 1, ()), cumulative=Amount(total), splits=hashed)
    r, vs = compact(hub.sign(voucher))
    hub.settlement.charge((session, 1, voucher.head, 0, len(words), r, vs), words, [0] * len(words))


def test_charge__malformed_splits__are_refused(hub: Hub) -> None:
    session = hub.open()
    one, two = packed(ordered(FIRST))
    first, second = (checksum(split.payee).lower() for split in ordered(FIRST))
    nobody, nothing = 7, two >> AMOUNT_BITS << AMOUNT_BITS

    for words, payee in (
        ([two, one], first),
        ([one, one], first),
        ([nobody], ZERO),
        ([nothing], second),
        ([one, nothing], second),
    ):
        with reverts("Settlement", "SplitInvalid", payee):
            attempt(hub, session, words, sum(word % 2**AMOUNT_BITS for word in words))
    # The contract adds up by itself, so that whoever signed another sum signed another voucher.
    with reverts("Settlement", "WrongSigner"):
        attempt(hub, session, [one, two], 101)
    attempt(hub, session, [one, two], 100)


def test_charge__splits_of_another_voucher__are_refused(hub: Hub) -> None:
    session = hub.open()
    call, _, before = hub.charge_call(session, 1, FIRST)

    with reverts("Settlement", "WrongSigner"):
        hub.settlement.charge(call, packed(ordered({"router": 6, "miner": 94})), before)


def test_charge__voucher_of_another_chain_contract_or_session__is_refused(hub: Hub) -> None:
    session, other = hub.open(nonce=1), hub.open(nonce=2)
    call = hub.charge_call(session, 1, FIRST)
    voucher = hub.voucher(session, 1, ordered(FIRST))
    ours = hub.domain(hub.settlement)
    for domain in (
        Domain(eip155(2), ours.ref, ours.contract),
        Domain(CHAIN, chain_ref(eip155(2)), ours.contract),
        hub.domain(hub.sessions),
        hub.domain(make_hub().settlement),
    ):
        signature = sign(key("session key"), digest(domain.separator, voucher.struct_hash))
        with reverts("Settlement", "WrongSigner"):
            hub.settlement.charge(*with_signature(call, *compact(signature)))
    (_, *rest), splits, before = call
    with reverts("Settlement", "WrongSigner"):
        hub.settlement.charge((other, *rest), splits, before)
    hub.settlement.charge(*call)


def test_charge__unknown_or_closed_session__is_refused(hub: Hub) -> None:
    unknown = b"\x99" * 32
    with reverts("Settlement", "SessionUnknown", unknown):
        hub.charge(unknown, 1, FIRST)
    session = hub.open()
    hub.charge(session, 1, FIRST)
    boa.env.time_travel(20_000)
    hub.sessions.close(session)
    with reverts("Settlement", "SessionClosed", session):
        hub.charge(session, 2, SECOND)
    assert hub.settlement.escrow(session) == hub.settlement.charged_amount(session) == 100


def test_charge__closing_and_expired_but_not_closed__is_charged(hub: Hub) -> None:
    session = hub.open(expiry=boa.env.timestamp + 1)
    hub.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(10 * GRACE)

    hub.charge(session, 1, FIRST)


def test_chain_ref__of_settlement__is_the_hubs(hub: Hub) -> None:
    assert hub.settlement.chain_ref() == REF
    assert (hub.settlement.asset(), hub.settlement.sessions()) == (hub.dollar.address, hub.sessions.address)
