"""Opening, deposits, closing, messages: what `Sessions` itself decides."""

from typing import Any

import boa
import pytest

from tests.contracts.conftest import (
    CHANGE_DELAY,
    DOLLAR,
    GRACE,
    REF,
    WELCOME,
    WELCOME_CHAIN,
    Hub,
    account,
    as_abi,
    make_hub,
    raw,
    reverts,
)
from tristrata.protocol.ids import Address, session_id
from tristrata.protocol.session import MAX_DEPOSIT

ZERO = "0x" + 40 * "0"


def low(name: str) -> str:
    return account(name).lower()


def events(contract: Any, name: str) -> list[Any]:
    return [log for log in contract.get_logs() if type(log).__name__ == name]


def test_init__sessions__names_its_parameters(hub: Hub) -> None:
    sessions = hub.sessions

    assert (sessions.chain_ref(), sessions.grace(), sessions.change_delay()) == (REF, GRACE, CHANGE_DELAY)
    assert (sessions.asset(), sessions.settlement()) == (hub.dollar.address, hub.settlement.address)
    assert (sessions.routers(), sessions.inbox(), sessions.owner()) == (hub.routers.address, hub.operator, hub.operator)
    assert (sessions.welcome_chain(), sessions.welcome()) == (WELCOME_CHAIN, WELCOME.rjust(32, b"\0"))


def test_open__by_the_owner__has_the_id_known_before(hub: Hub) -> None:
    expected = session_id(REF, raw("owner"), 7)

    assert hub.sessions.session_id(account("owner"), 7) == expected
    assert hub.open(nonce=7, deposit=5 * DOLLAR) == expected
    [event] = events(hub.sessions, "Opened")
    assert (event.session_id, event.owner, event.router, event.deposit) == (
        expected,
        account("owner"),
        account("router"),
        5 * DOLLAR,
    )
    session = hub.sessions.session(expected)
    assert (session.owner, session.deposit, session.closed) == (account("owner"), 5 * DOLLAR, False)
    assert hub.dollar.balanceOf(hub.settlement.address) == 5 * DOLLAR
    assert hub.dollar.balanceOf(hub.sessions.address) == 0
    with reverts("Sessions", "SessionExists", expected):
        hub.open(nonce=7)


@pytest.mark.parametrize("managed", [False, True])
def test_open__any_terms__are_read_back_as_they_were(managed: bool) -> None:
    hub = make_hub(unsecured_limit=DOLLAR)
    terms = {
        "session_key": Address(b"\xf1" * 20),
        "managed": managed,
        "model_id": b"\xf2" * 32,
        "assurance": 3,
        "replicas": 8,
        "router_bps": 2_000,
        "max_prompt_price": 2**96 - 1,
        "max_output_price": 2**96 - 2,
        "max_per_day": 2**96 - 3,
        "exposure_cap": 2**96 - 4,
        "expiry": 2**63 - 1,
    }
    now = boa.env.timestamp

    session = hub.open(deposit=DOLLAR, **terms)

    record = hub.sessions.session(session)
    assert tuple(record.terms) == as_abi(hub.terms(**terms))
    assert (record.opened_at, record.closing_at, record.closed) == (now, 0, False)
    assert (record.replaced_key, record.replaced_until) == (ZERO, 0)
    assert hub.sessions.daily_limit(session) == 2**96 - 3
    assert tuple(hub.sessions.parties(session)) == (account("owner"), account("router"), managed)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"expiry": 1}, ("ExpiryOutOfRange", 1)),
        ({"expiry": 2**63}, ("ExpiryOutOfRange", 2**63)),
        ({"session_key": Address(bytes(20))}, ("ZeroAddress", ZERO, low("router"))),
        ({"router": Address(bytes(20))}, ("ZeroAddress", low("session key"), ZERO)),
        ({"router_bps": 2_001}, ("ShareTooHigh", 2_001, 2_000)),
        ({"replicas": 0}, ("ReplicasOutOfRange", 0, 8)),
        ({"replicas": 9}, ("ReplicasOutOfRange", 9, 8)),
        ({"assurance": 4}, ("AssuranceUnknown", 4)),
    ],
)
def test_open__terms_out_of_range__are_refused(hub: Hub, changes: dict[str, Any], error: tuple[Any, ...]) -> None:
    name, *values = error
    if name == "ExpiryOutOfRange":
        values.append(boa.env.timestamp)
    with reverts("Sessions", name, *values):
        hub.open(**changes)


def test_open__expiry_now__is_refused_and_a_second_later_is_not(hub: Hub) -> None:
    now = boa.env.timestamp

    with reverts("Sessions", "ExpiryOutOfRange", now, now):
        hub.open(expiry=now)
    hub.open(expiry=now + 1)


def test_open__stranger_or_nothing_deposited__is_refused(hub: Hub) -> None:
    hub.fund("stranger", DOLLAR)
    with reverts("Sessions", "NotRegistered", low("stranger")):
        hub.open(owner="stranger", deposit=1)
    hub.register("stranger", role=2)  # a miner is not a user
    with reverts("Sessions", "NotRegistered", low("stranger")):
        hub.open(owner="stranger", deposit=1)
    with reverts("Sessions", "ZeroAmount", 0):
        hub.open(deposit=0)


def test_open__managed_but_not_brought_by_the_router__is_refused() -> None:
    """Otherwise anyone could name a router beside a key of their own, fork their vouchers, and be paid its bond."""
    hub = make_hub(unsecured_limit=10 * DOLLAR)

    with reverts("Sessions", "NotRouter", low("owner"), low("router")):
        hub.sessions.open(1, DOLLAR, as_abi(hub.terms(managed=True)), sender=account("owner"))
    session = hub.open(deposit=DOLLAR, managed=True)
    assert hub.routers.router(account("router")).managed == DOLLAR
    assert hub.sessions.session(session).terms.managed


def test_open__deposit_beyond_95_bits__is_refused(hub: Hub) -> None:
    hub.fund("owner", 2**96)

    with reverts("Settlement", "DepositTooHigh", MAX_DEPOSIT + 1, MAX_DEPOSIT):
        hub.open(deposit=MAX_DEPOSIT + 1)
    session = hub.open(deposit=MAX_DEPOSIT)
    with reverts("Settlement", "DepositTooHigh", MAX_DEPOSIT + 1, MAX_DEPOSIT):
        hub.sessions.top_up(session, 1, sender=account("owner"))
    with reverts("Sessions", "DepositTooHigh", MAX_DEPOSIT, 2**96 - 1):
        hub.sessions.top_up(session, 2**96 - 1, sender=account("owner"))


def test_open__while_paused__is_refused_and_ways_out_are_not(hub: Hub) -> None:
    session = hub.open(deposit=DOLLAR)
    hub.charge(session, 1, {"miner": 5})
    hub.sessions.pause(True, sender=hub.operator)

    for enter in (lambda: hub.open(nonce=2), lambda: hub.sessions.top_up(session, 1, sender=account("owner"))):
        with reverts("Sessions", "ContractPaused", hub.sessions.address.lower()):
            enter()
    hub.sessions.replace_key(session, account("new key"), sender=account("owner"))
    hub.sessions.request_close(session, sender=account("owner"))
    hub.charge(session, 2, {"miner": 6})
    assert hub.claim_direct(session, 0) == 6
    boa.env.time_travel(GRACE)
    hub.sessions.close(session)


def test_top_up__by_anyone__raises_the_deposit(hub: Hub) -> None:
    session = hub.open(deposit=DOLLAR)
    hub.fund("friend", DOLLAR)

    hub.sessions.top_up(session, 7, sender=account("friend"))

    assert [(event.session_id, event.amount) for event in events(hub.sessions, "ToppedUp")] == [(session, 7)]
    assert hub.sessions.session(session).deposit == hub.settlement.escrow(session) == DOLLAR + 7
    with reverts("Sessions", "ZeroAmount", 0):
        hub.sessions.top_up(session, 0, sender=account("friend"))


def test_top_up__while_closing__does_not_put_off_the_close_and_comes_back(hub: Hub) -> None:
    session = hub.open(deposit=DOLLAR)
    hub.sessions.request_close(session, sender=account("owner"))
    closing_at = hub.sessions.session(session).closing_at
    boa.env.time_travel(GRACE - 1)
    hub.fund("router", 7)

    hub.sessions.top_up(session, 7, sender=account("router"))

    assert hub.sessions.session(session).closing_at == closing_at
    boa.env.time_travel(1)
    hub.sessions.close(session)
    assert hub.dollar.balanceOf(account("owner")) == 1_000 * DOLLAR + 7


def test_close__requested__refunds_after_the_grace_period(hub: Hub) -> None:
    session = hub.open(deposit=DOLLAR)
    hub.sessions.request_close(session, sender=account("owner"))
    closing_at = boa.env.timestamp + GRACE

    assert [event.closing_at for event in events(hub.sessions, "CloseRequested")] == [closing_at]
    boa.env.time_travel(GRACE - 1)
    with reverts("Sessions", "CloseTooEarly", session, closing_at, closing_at - 1):
        hub.sessions.close(session)
    with reverts("Sessions", "AlreadyClosing", session, closing_at):
        hub.sessions.request_close(session, sender=account("router"))
    boa.env.time_travel(1)
    hub.sessions.close(session, sender=account("anyone"))
    assert [(event.session_id, event.refund) for event in events(hub.sessions, "Closed")] == [(session, DOLLAR)]
    assert hub.dollar.balanceOf(account("owner")) == 1_000 * DOLLAR
    assert hub.sessions.is_closed(session)


def test_close__expired__needs_no_request_but_the_grace_period(hub: Hub) -> None:
    expiry = boa.env.timestamp + 10
    session = hub.open(expiry=expiry)

    boa.env.time_travel(10 + GRACE - 1)
    with reverts("Sessions", "CloseTooEarly", session, expiry + GRACE, expiry + GRACE - 1):
        hub.sessions.close(session)
    hub.sessions.request_close(session, sender=account("owner"))  # which does not put it off
    boa.env.time_travel(1)
    hub.sessions.close(session)


def test_close__last_voucher_within_the_grace_period__is_paid_before_the_refund(hub: Hub) -> None:
    session = hub.open(deposit=1_000)
    hub.charge(session, 1, {"miner": 100})
    hub.sessions.request_close(session, sender=account("owner"))

    boa.env.time_travel(GRACE - 1)
    hub.charge(session, 2, {"miner": 1_000})
    boa.env.time_travel(1)
    before = hub.dollar.balanceOf(account("owner"))
    hub.sessions.close(session)

    assert hub.dollar.balanceOf(account("owner")) == before
    assert hub.claim_direct(session, 0) == 1_000


@pytest.mark.parametrize(
    "call",
    [
        lambda hub, session: hub.sessions.close(session),
        lambda hub, session: hub.sessions.top_up(session, 1, sender=account("owner")),
        lambda hub, session: hub.sessions.request_close(session, sender=account("owner")),
        lambda hub, session: hub.sessions.replace_key(session, account("new"), sender=account("owner")),
    ],
)
def test_any_change__closed_session__is_refused(hub: Hub, call: Any) -> None:
    session = hub.open()
    hub.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(GRACE)
    hub.sessions.close(session)

    with reverts("Sessions", "SessionClosed", session):
        call(hub, session)


def test_any_change__unknown_session__is_refused(hub: Hub) -> None:
    unknown = b"\x99" * 32
    for call in (
        lambda: hub.sessions.close(unknown),
        lambda: hub.sessions.top_up(unknown, 1, sender=account("owner")),
        lambda: hub.sessions.request_close(unknown, sender=account("owner")),
    ):
        with reverts("Sessions", "SessionUnknown", unknown):
            call()
    with reverts("Sessions", "NotSessionOwner", unknown, low("owner")):
        hub.sessions.replace_key(unknown, account("new"), sender=account("owner"))
    assert hub.sessions.session(unknown).owner == ZERO


def test_request_close__by_a_stranger__is_refused(hub: Hub) -> None:
    session = hub.open()

    with reverts("Sessions", "NotParty", session, low("stranger")):
        hub.sessions.request_close(session, sender=account("stranger"))


def test_forfeit__by_anyone_but_settlement__is_refused(hub: Hub) -> None:
    session = hub.open()

    with reverts("Sessions", "NotSettlement", low("thief")):
        hub.sessions.forfeit(session, 1, sender=account("thief"))


def test_escrow_and_refund__by_anyone_but_sessions__are_refused(hub: Hub) -> None:
    session = hub.open()

    with reverts("Settlement", "NotSessions", low("thief")):
        hub.settlement.set_escrow(session, account("thief"), False, 1, sender=account("thief"))
    with reverts("Settlement", "NotSessions", low("thief")):
        hub.settlement.refund(session, account("thief"), sender=account("thief"))


def test_on_message__wrong_carrier_source_or_kind__is_refused(hub: Hub) -> None:
    sender = WELCOME.rjust(32, b"\0")
    payload = b"".join(part.rjust(32, b"\0") for part in (b"\1", raw("x"), b"\1"))

    with reverts("Sessions", "NotInbox", low("thief")):
        hub.sessions.on_message(WELCOME_CHAIN, sender, payload, sender=account("thief"))
    for chain, source in ((REF, sender), (WELCOME_CHAIN, b"\1" * 32)):
        with reverts("Sessions", "UnknownSource", chain, source):
            hub.sessions.on_message(chain, source, payload, sender=hub.operator)
    who = int.from_bytes(raw("x"), "big")
    for broken, values in (
        (payload[:31] + b"\2" + payload[32:], (2, who, 1)),
        (payload[:-1] + b"\3", (1, who, 3)),
        (payload[:32] + b"\1" + payload[33:], (1, who + 2**248, 1)),
    ):
        with reverts("Sessions", "MessageUnknown", *values):
            hub.sessions.on_message(WELCOME_CHAIN, sender, broken, sender=hub.operator)
    for length in (0, 95, 97):
        with reverts("Sessions", "WrongLength", length, 96):
            hub.sessions.on_message(WELCOME_CHAIN, sender, (payload + b"\0")[:length], sender=hub.operator)
    assert hub.sessions.registered(account("x")) == 0


def test_on_message__both_roles__add_up(hub: Hub) -> None:
    hub.register("x", role=2)
    assert hub.sessions.registered(account("x")) == 2
    hub.register("x", role=1)

    assert [(event.account, event.role) for event in events(hub.sessions, "Registered")] == [(account("x"), 1)]
    assert hub.sessions.registered(account("x")) == 3
