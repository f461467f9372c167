"""Opening, closing and messages; the signatures are those that the client makes."""

from typing import Any

import boa
import pytest
from msgspec.structs import replace

from tests.contracts.conftest import (
    DOLLAR,
    GRACE,
    REF,
    WELCOME,
    WELCOME_CHAIN,
    Hub,
    account,
    as_abi,
    key,
    raw,
    reverts,
)
from tristrata.client.orders import Asset, sign_order, sign_permit
from tristrata.protocol.ids import Address, session_id
from tristrata.protocol.terms import OpenSession
from tristrata.protocol.units import Amount, Timestamp


def test_open__by_the_owner__has_the_id_known_before(hub: Hub) -> None:
    expected = session_id(REF, raw("owner"), 7)

    assert hub.sessions.session_id(account("owner"), 7) == expected
    assert hub.open(nonce=7, deposit=5 * DOLLAR) == expected
    session = hub.sessions.session(expected)
    assert (session.owner, session.deposit, session.closed) == (account("owner"), 5 * DOLLAR, False)
    assert hub.dollar.balanceOf(hub.sessions.address) == 5 * DOLLAR
    with reverts("Sessions", "SessionExists", expected):
        hub.open(nonce=7)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"expiry": 1}, "ExpiryOutOfRange"),
        ({"expiry": 2**63}, "ExpiryOutOfRange"),
        ({"session_key": Address(bytes(20))}, "ZeroAddress"),
        ({"router": Address(bytes(20))}, "ZeroAddress"),
        ({"router_bps": 2_001}, "ShareTooHigh"),
        ({"replicas": 0}, "ReplicasOutOfRange"),
        ({"replicas": 9}, "ReplicasOutOfRange"),
        ({"assurance": 4}, "AssuranceUnknown"),
    ],
)
def test_open__terms_out_of_range__are_refused(hub: Hub, changes: dict[str, Any], error: str) -> None:
    with reverts("Sessions", error):
        hub.open(**changes)


def test_open__stranger_or_nothing_deposited__is_refused(hub: Hub) -> None:
    hub.fund("stranger", DOLLAR)
    with reverts("Sessions", "NotRegistered", account("stranger").lower()):
        hub.open(owner="stranger", deposit=1)
    with reverts("Sessions", "ZeroAmount", 0):
        hub.open(deposit=0)


def signed_order(hub: Hub, **changes: Any) -> tuple[Any, ...]:
    deadline = Timestamp(boa.env.timestamp + 100)
    order = OpenSession(raw("owner"), 1, Amount(DOLLAR), deadline, hub.terms())
    signature = sign_order(key("owner"), hub.domain(hub.sessions), order)
    asset = Asset(1, Address(bytes.fromhex(hub.dollar.address[2:])), "Test Dollar", "1")
    spender = Address(bytes.fromhex(hub.sessions.address[2:]))
    nonce = hub.dollar.nonces(account("owner"))
    permit = sign_permit(key("owner"), asset, raw("owner"), spender, DOLLAR, nonce, deadline)
    carried = replace(order, **changes)
    return (
        account("owner"),
        carried.nonce,
        carried.deposit,
        carried.deadline,
        as_abi(carried.terms),
        signature,
        permit.deadline,
        permit.signature[64],
        permit.signature[:32],
        permit.signature[32:64],
    )


def test_open_for__order_and_permit__needs_no_gas_of_the_owner(hub: Hub) -> None:
    hub.dollar.approve(hub.sessions.address, 0, sender=account("owner"))

    session = hub.sessions.open_for(*signed_order(hub), sender=account("relayer"))

    assert hub.sessions.session(session).deposit == DOLLAR
    assert hub.dollar.allowance(account("owner"), hub.sessions.address) == 0


def test_open_for__permit_used_by_somebody_else_first__still_opens(hub: Hub) -> None:
    hub.dollar.approve(hub.sessions.address, 0, sender=account("owner"))
    order = signed_order(hub)
    hub.dollar.permit(account("owner"), hub.sessions.address, DOLLAR, *order[6:], sender=account("front runner"))

    hub.sessions.open_for(*order, sender=account("relayer"))


@pytest.mark.parametrize("changes", [{"nonce": 2}, {"deposit": Amount(2)}, {"deadline": Timestamp(2**40)}])
def test_open_for__other_than_signed__is_refused(hub: Hub, changes: dict[str, Any]) -> None:
    with reverts("Sessions", "NotSignedBy"):
        hub.sessions.open_for(*signed_order(hub, **changes))


def test_open_for__changed_terms_or_late__is_refused(hub: Hub) -> None:
    order = signed_order(hub)
    with reverts("Sessions", "NotSignedBy"):
        hub.sessions.open_for(*signed_order(hub, terms=hub.terms(router_bps=501)))
    boa.env.time_travel(101)
    with reverts("Sessions", "SignatureExpired"):
        hub.sessions.open_for(*order)


def test_close__requested__refunds_after_the_grace_period(hub: Hub) -> None:
    session = hub.open(deposit=DOLLAR)
    hub.sessions.request_close(session, sender=account("owner"))

    with reverts("Sessions", "CloseTooEarly"):
        hub.sessions.close(session)
    with reverts("Sessions", "AlreadyClosing"):
        hub.sessions.request_close(session, sender=account("router"))
    boa.env.time_travel(GRACE)
    hub.sessions.close(session, sender=account("anyone"))
    assert hub.dollar.balanceOf(account("owner")) == 1_000 * DOLLAR
    for call in (hub.sessions.close, lambda s: hub.sessions.top_up(s, 1)):
        with reverts("Sessions", "SessionClosed"):
            call(session)


def test_request_close__by_a_stranger__is_refused(hub: Hub) -> None:
    session = hub.open()

    with reverts("Sessions", "NotParty"):
        hub.sessions.request_close(session, sender=account("stranger"))


def test_pay__by_anyone_but_settlement__is_refused(hub: Hub) -> None:
    hub.open()

    with reverts("Sessions", "NotSettlement"):
        hub.sessions.pay(account("thief"), 1, sender=account("thief"))


def test_on_message__wrong_carrier_source_or_kind__is_refused(hub: Hub) -> None:
    sender = WELCOME.rjust(32, b"\0")
    payload = b"".join(part.rjust(32, b"\0") for part in (b"\1", raw("x"), b"\1"))

    with reverts("Sessions", "NotInbox"):
        hub.sessions.on_message(WELCOME_CHAIN, sender, payload, sender=account("thief"))
    for chain, source in ((REF, sender), (WELCOME_CHAIN, b"\1" * 32)):
        with reverts("Sessions", "UnknownSource"):
            hub.sessions.on_message(chain, source, payload, sender=hub.operator)
    for broken in (payload[:31] + b"\2" + payload[32:], payload[:-1] + b"\3"):
        with reverts("Sessions", "MessageUnknown"):
            hub.sessions.on_message(WELCOME_CHAIN, sender, broken, sender=hub.operator)
    assert hub.sessions.registered(account("x")) == 0


GREEDY_TOKEN = """
# pragma version 0.4.3
balanceOf: public(HashMap[address, uint256])

@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount

@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount - amount // 100
    return True
"""


def test_open__token_that_keeps_a_fee__is_refused() -> None:
    from tests.contracts.conftest import contract

    token = boa.loads(GREEDY_TOKEN)
    operator = boa.env.generate_address()
    sessions = contract(
        "orchestration/Sessions.vy", REF, token.address, operator, operator, WELCOME_CHAIN, bytes(32), GRACE
    )
    hub = Hub(token, sessions, None, operator)
    payload = b"".join(part.rjust(32, b"\0") for part in (b"\1", raw("owner"), b"\1"))
    sessions.on_message(WELCOME_CHAIN, bytes(32), payload, sender=operator)
    token.mint(account("owner"), 1_000)

    with reverts("Sessions", "WrongAmountReceived", 100, 99):
        hub.open(deposit=100)
