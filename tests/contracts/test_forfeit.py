"""Sessions whose key signed vouchers that contradict each other: who is paid, who pays, and who cannot misuse it."""

from typing import Any

import boa
import pytest

from tests.contracts.conftest import (
    CHAIN,
    DOLLAR,
    GRACE,
    Hub,
    account,
    as_abi,
    key,
    make_hub,
    ordered,
    packed,
    raw,
    reverts,
)
from tristrata.protocol.forfeit import add_bonus, cut, merge
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, SessionId, chain_ref, eip155
from tristrata.protocol.signing import Domain, compact, digest, sign
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import AMOUNT_BITS, Split, charge_tail, parse_splits

CHARGED = {"router": 10, "miner": 90}
FORK = {"router": 10, "other": 30}
BOND = 100_000


def low(name: str) -> str:
    return account(name).lower()


@pytest.fixture
def own(hub: Hub) -> tuple[Hub, SessionId]:
    """A session of 1,000 whose owner holds the key, charged 100."""
    session = hub.open(deposit=1_000)
    hub.charge(session, 1, CHARGED)
    return hub, session


def managed_session(bond: int = BOND, limit: int = 1_000, **terms: Any) -> tuple[Hub, SessionId]:
    """A session of 1,000 whose router holds the key, charged 100."""
    hub = make_hub(unsecured_limit=limit)
    hub.fund("router", bond)
    if bond:
        hub.dollar.approve(hub.routers.address, bond, sender=account("router"))
        hub.routers.add_bond(account("router"), bond, sender=account("router"))
    session = hub.open(deposit=1_000, managed=True, **terms)
    hub.charge(session, 1, CHARGED)
    return hub, session


def forfeit(hub: Hub, session: bytes, count: int, earned: dict[str, int], signer: str = "session key") -> Any:
    """Show a voucher that contradicts the last charge; gives the event."""
    call, splits, _ = hub.charge_call(session, count, earned, signer)
    hub.settlement.forfeit(call, splits, packed(hub.last.get(session, (0, ()))[1]), sender=account("anyone"))
    [event] = [log for log in hub.settlement.get_logs() if type(log).__name__ == "Forfeited"]
    hub.last[session] = (event.count, parse_splits(event.splits))
    return event


def earned(event: Any) -> dict[str, int]:
    names = {raw(name): name for name in ("router", "miner", "other", "third")}
    return {names[split.payee]: split.amount for split in parse_splits(event.splits)}


def collect(hub: Hub, session: bytes) -> int:
    """Have everybody take what is due from a session."""
    return sum(hub.claim_direct(session, index) for index in range(len(hub.last[session][1])))


def balance(hub: Hub, name: str) -> int:
    return int(hub.dollar.balanceOf(account(name)))


def test_forfeit__own_keys__the_rest_goes_to_the_miners_and_nothing_to_the_router(own: tuple[Hub, SessionId]) -> None:
    hub, session = own
    before = balance(hub, "owner")

    event = forfeit(hub, session, 2, FORK)

    assert (event.session_id, event.count, event.refund, event.from_bond) == (session, 2, 0, 0)
    last = max(raw("miner"), raw("other"))  # who has what rounding leaves
    bonus = {name: 870 * part // 120 + (raw(name) == last) for name, part in (("miner", 90), ("other", 30))}
    assert earned(event) == {"router": 10, "miner": 90 + bonus["miner"], "other": 30 + bonus["other"]}
    assert sum(earned(event).values()) == hub.settlement.charged_amount(session) == hub.settlement.escrow(session)
    assert hub.settlement.charged_tail(session) == charge_tail(2, parse_splits(event.splits))
    assert hub.settlement.total_charged() == 1_000
    assert hub.sessions.is_closed(session)
    assert balance(hub, "owner") == before
    assert collect(hub, session) == 1_000
    assert balance(hub, "router") == 10
    assert hub.dollar.balanceOf(hub.settlement.address) == 0


def test_forfeit__managed__the_owner_is_refunded_and_the_routers_bond_pays_the_miners() -> None:
    hub, session = managed_session()
    before = balance(hub, "owner")

    event = forfeit(hub, session, 2, FORK)

    assert (event.refund, event.from_bond) == (870, 870)
    assert balance(hub, "owner") == before + 870
    assert hub.routers.router(account("router")) == (BOND - 870, 0, 0, 0)
    assert (earned(event)["router"], sum(earned(event).values())) == (10, 1_000)
    assert collect(hub, session) == 1_000
    assert hub.dollar.balanceOf(hub.settlement.address) == 0
    assert hub.dollar.balanceOf(hub.routers.address) == BOND - 870


@pytest.mark.parametrize("bond", [0, 40])
def test_forfeit__managed_with_a_small_bond__it_pays_what_it_has(bond: int) -> None:
    hub, session = managed_session(bond=bond)

    event = forfeit(hub, session, 2, FORK)

    assert (event.refund, event.from_bond) == (870, bond)
    assert hub.routers.router(account("router")) == (0, 0, 0, 0)
    assert collect(hub, session) == hub.settlement.total_charged() == 130 + bond


def test_forfeit__managed_with_the_bond_leaving__is_paid_from_it_all_the_same() -> None:
    hub, session = managed_session()
    hub.routers.request_withdrawal(BOND, sender=account("router"))

    event = forfeit(hub, session, 2, FORK)

    assert event.from_bond == 870
    boa.env.time_travel(GRACE)
    hub.routers.withdraw(sender=account("router"))
    assert balance(hub, "router") == BOND - 870


def test_forfeit__managed__takes_never_more_than_the_daily_limit_from_the_owner() -> None:
    hub, session = managed_session(max_per_day=Amount(150))
    before = balance(hub, "owner")

    event = forfeit(hub, session, 2, {"other": 10**9})

    assert (event.refund, event.from_bond) == (850, 850)
    assert balance(hub, "owner") == before + 850
    assert hub.settlement.charged_amount(session) == 150 + 850


def test_forfeit__managed_after_midnight__the_limit_is_the_new_days() -> None:
    hub, session = managed_session(bond=0, max_per_day=Amount(150), expiry=boa.env.timestamp + 10**6)
    boa.env.time_travel(86_400)

    event = forfeit(hub, session, 2, {"other": 10**9})

    assert (event.refund, earned(event)) == (750, {"router": 10, "miner": 90, "other": 150})


def test_forfeit__own_keys_and_a_daily_limit__takes_no_more_than_the_key_could_charge_today(hub: Hub) -> None:
    session = hub.open(deposit=1_000, max_per_day=Amount(150))
    hub.charge(session, 1, CHARGED)

    event = forfeit(hub, session, 2, {"other": 10**9})

    assert (event.refund, earned(event)) == (850, {"router": 10, "miner": 90, "other": 50})


def test_forfeit__more_than_the_deposit__nobody_has_less_than_was_charged(own: tuple[Hub, SessionId]) -> None:
    hub, session = own

    event = forfeit(hub, session, 2, {"router": 2**96 - 1, "other": 2**96 - 1, "third": 2**96 - 1})

    result = earned(event)
    assert 90 <= result["miner"] <= 92  # what rounding leaves is shared out too
    assert sum(result.values()) == 1_000
    assert all(299 <= result[name] <= 311 for name in ("router", "other", "third"))


def test_forfeit__nothing_left_for_any_miner__the_owner_has_the_rest_and_the_bond_is_spared() -> None:
    hub = make_hub(unsecured_limit=1_000)
    session = hub.open(deposit=1_000, managed=True, max_per_day=Amount(10))
    hub.charge(session, 1, {"router": 10})

    event = forfeit(hub, session, 1, {"other": 5})

    assert (event.refund, event.from_bond, earned(event)) == (990, 0, {"router": 10, "other": 0})
    other = [split.payee for split in hub.last[session][1]].index(raw("other"))
    assert hub.claim_direct(session, other) == 0
    assert collect(hub, session) == 10


def test_forfeit__32_payees_each__fit(hub: Hub) -> None:
    session = hub.open(deposit=10**6)
    one = {f"payee {number}": 100 for number in range(32)}
    other = {f"payee {number}": 100 for number in range(32, 64)}
    hub.charge(session, 1, one)

    call, splits, _ = hub.charge_call(session, 1, other)
    hub.settlement.forfeit(call, splits, packed(ordered(one)))

    [event] = [log for log in hub.settlement.get_logs() if type(log).__name__ == "Forfeited"]
    assert len(event.splits) == 64
    hub.last[session] = (event.count, parse_splits(event.splits))
    assert collect(hub, session) == 10**6


@pytest.mark.parametrize(
    "earned",
    [CHARGED, {"miner": 90}, {"miner": 89}, {"router": 10, "miner": 90, "other": 1}, {"router": 11, "miner": 90}, {}],
)
def test_forfeit__vouchers_that_agree__is_refused(own: tuple[Hub, SessionId], earned: dict[str, int]) -> None:
    hub, session = own

    with reverts("Settlement", "VouchersAgree", session):
        forfeit(hub, session, 2, earned)


def test_forfeit__before_any_charge__is_refused(hub: Hub) -> None:
    session = hub.open()

    with reverts("Settlement", "VouchersAgree", session):
        forfeit(hub, session, 2, FORK)


def test_forfeit__signed_by_another__is_refused(own: tuple[Hub, SessionId]) -> None:
    hub, session = own

    for name in ("owner", "router", "thief"):
        with reverts("Settlement", "WrongSigner", low("session key"), low(name)):
            forfeit(hub, session, 2, FORK, name)
    call, splits, _ = hub.charge_call(session, 2, FORK)
    with reverts("Settlement", "WrongSigner", low("session key"), "0x" + 40 * "0"):
        hub.settlement.forfeit((*call[:-2], bytes(32), bytes(32)), splits, packed(ordered(CHARGED)))


def test_forfeit__voucher_of_another_session_or_hub__is_refused(own: tuple[Hub, SessionId]) -> None:
    hub, session = own
    call, splits, _ = hub.charge_call(hub.open(nonce=2), 2, FORK)
    charged = packed(ordered(CHARGED))

    with reverts("Settlement", "WrongSigner"):
        hub.settlement.forfeit((session, *call[1:3], 1, *call[4:]), splits, charged)
    voucher = hub.voucher(session, 2, ordered(FORK))
    ours = hub.domain(hub.settlement)
    for domain in (
        Domain(eip155(2), ours.ref, ours.contract),
        Domain(CHAIN, chain_ref(eip155(2)), ours.contract),
        hub.domain(make_hub().settlement),
    ):
        r, vs = compact(sign(key("session key"), digest(domain.separator, voucher.struct_hash)))
        with reverts("Settlement", "WrongSigner"):
            hub.settlement.forfeit((session, 2, voucher.head, 1, 2, r, vs), splits, charged)


def test_forfeit__not_what_was_charged__is_refused(own: tuple[Hub, SessionId]) -> None:
    hub, session = own
    call, splits, _ = hub.charge_call(session, 2, FORK)

    for wrong in ([], packed(ordered({"router": 10, "miner": 91})), packed(ordered({"miner": 90}))):
        with reverts("Settlement", "WrongSplits", session, 1):
            hub.settlement.forfeit(call, splits, wrong)
    with reverts("Settlement", "WrongSplits", session, 2):
        hub.settlement.forfeit((*call[:3], 2, *call[4:]), splits, packed(ordered(CHARGED)))


def test_forfeit__malformed_splits__are_refused(own: tuple[Hub, SessionId]) -> None:
    hub, session = own
    call, splits, _ = hub.charge_call(session, 2, FORK)
    first = min(raw("router"), raw("other"))

    with reverts("Settlement", "SplitInvalid", "0x" + first.hex()):
        hub.settlement.forfeit(call, splits[::-1], packed(ordered(CHARGED)))
    nothing = splits[0] >> AMOUNT_BITS << AMOUNT_BITS
    with reverts("Settlement", "SplitInvalid", "0x" + first.hex()):
        hub.settlement.forfeit(call, [nothing, splits[1]], packed(ordered(CHARGED)))


def test_forfeit__unknown_session__is_refused(hub: Hub) -> None:
    unknown = keccak(b"no such session")

    with reverts("Settlement", "SessionUnknown", unknown):
        forfeit(hub, unknown, 2, FORK)


def test_forfeit__twice_or_after_the_close__is_refused(own: tuple[Hub, SessionId]) -> None:
    hub, session = own
    closed = hub.open(nonce=2, deposit=1_000)
    hub.charge(closed, 1, CHARGED)
    hub.sessions.request_close(closed, sender=account("owner"))
    boa.env.time_travel(GRACE)
    hub.sessions.close(closed)
    forfeit(hub, session, 2, FORK)

    for each in (session, closed):
        with reverts("Settlement", "SessionClosed", each):
            forfeit(hub, each, 3, {"third": 1})
        with reverts("Settlement", "SessionClosed", each):
            hub.charge(each, 9, dict.fromkeys(("router", "miner", "other"), 5_000))
        with reverts("Sessions", "SessionClosed", each):
            hub.sessions.close(each)
        with reverts("Sessions", "SessionClosed", each):
            hub.sessions.top_up(each, 1, sender=account("owner"))


def test_forfeit__while_closing_or_expired__still_counts(own: tuple[Hub, SessionId]) -> None:
    hub, session = own
    hub.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(10 * GRACE)

    assert forfeit(hub, session, 2, FORK).refund == 0


@pytest.mark.parametrize("payee", [Address(b"\0" * 19 + b"\1"), Address(b"\xff" * 20)])
def test_forfeit__payee_with_the_lowest_or_highest_address__is_one_like_others(
    own: tuple[Hub, SessionId], payee: Address
) -> None:
    """Nobody gets away with a fork by naming an address at the end of all addresses."""
    hub, session = own
    splits = tuple(sorted([Split(raw("router"), Amount(10)), Split(payee, Amount(50))]))
    call, words, _ = hub.call_of(hub.voucher(session, 2, splits), splits)

    hub.settlement.forfeit(call, words, packed(hub.last[session][1]), sender=account("anyone"))

    [event] = [log for log in hub.settlement.get_logs() if type(log).__name__ == "Forfeited"]
    merged = merge(hub.last[session][1], splits)
    assert parse_splits(event.splits) == add_bonus(cut(merged, Amount(1_000)), Amount(850), raw("router"))


def test_forfeit__count_that_no_charge_could_have__is_refused(own: tuple[Hub, SessionId]) -> None:
    hub, session = own

    with reverts("Settlement", "CountTooHigh", 2**40):
        forfeit(hub, session, 2**40, FORK)


def test_forfeit__signed_by_the_replaced_key__counts_within_the_grace_period_only(own: tuple[Hub, SessionId]) -> None:
    """A key that was revoked, perhaps because it was stolen, is worth nothing after its time."""
    hub, session = own
    hub.sessions.replace_key(session, account("new key"), sender=account("owner"))
    with boa.env.anchor():
        boa.env.time_travel(GRACE + 1)
        with reverts("Settlement", "WrongSigner"):
            hub.charge(session, 2, {"router": 10, "miner": 95}, "session key")
        with reverts("Settlement", "WrongSigner"):
            forfeit(hub, session, 2, FORK, "session key")

    assert forfeit(hub, session, 2, FORK, "session key").refund == 0


def test_forfeit__owner_who_names_a_router_without_asking__cannot_take_its_bond() -> None:
    """Who holds the key of a managed session could have the named router's bond paid to accounts of its own."""
    hub, _ = managed_session()
    terms = hub.terms(managed=True, session_key=raw("owner's own key"))

    with reverts("Sessions", "NotRouter", low("owner"), low("router")):
        hub.sessions.open(7, 1_000, as_abi(terms), sender=account("owner"))
    assert hub.routers.router(account("router")).bond == BOND


def test_forfeit__owner_of_a_managed_session__cannot_sign_the_fork_with_a_key_of_its_own() -> None:
    hub, session = managed_session()

    with reverts("Sessions", "SessionManaged", session):
        hub.sessions.replace_key(session, account("owner's own key"), sender=account("owner"))
    with reverts("Settlement", "WrongSigner"):
        forfeit(hub, session, 2, {"other": 1}, "owner's own key")


def test_open__sybil_sessions_of_a_managed_router__never_exceed_its_bond_and_the_unsecured_limit() -> None:
    hub, session = managed_session(bond=2_500, limit=500)
    for nonce in (2, 3):
        hub.open(nonce=nonce, deposit=1_000, managed=True, session_key=raw(f"key {nonce}"))

    with reverts("RouterRegistry", "AboveRouterBond", low("router"), 3_001, 3_000):
        hub.open(nonce=4, deposit=1, managed=True)
    with reverts("RouterRegistry", "AboveRouterBond", low("router"), 3_001, 3_000):
        hub.sessions.top_up(session, 1, sender=account("owner"))
    hub.open(nonce=4, deposit=1_000)  # its owner holds the key
    forfeit(hub, session, 2, FORK)
    # The session is gone from what it manages, and so is what its bond paid.
    assert hub.routers.router(account("router")) == (2_500 - 870, 0, 0, 2_000)
    with reverts("RouterRegistry", "AboveRouterBond", low("router"), 2_131, 2_130):
        hub.open(nonce=5, deposit=131, managed=True)
    hub.open(nonce=5, deposit=130, managed=True)


def test_forfeit__stray_money_in_the_registry__is_not_taken() -> None:
    hub, session = managed_session(bond=40)
    hub.dollar.mint(hub.routers.address, DOLLAR, sender=hub.operator)

    assert forfeit(hub, session, 2, FORK).from_bond == 40
    assert hub.dollar.balanceOf(hub.routers.address) == DOLLAR
