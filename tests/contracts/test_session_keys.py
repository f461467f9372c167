"""Who may replace a session's key or ask to close it, by transaction or by signature, and what old keys still can."""

from typing import Any

import boa
import pytest

from tests.contracts.conftest import CHAIN, DOLLAR, GRACE, Hub, account, contract, key, make_hub, raw, reverts
from tests.contracts.session_orders import address_of, soon
from tristrata.protocol.ids import Address, SessionId, chain_ref, checksum, eip155
from tristrata.protocol.orders import ReplaceKey, RequestClose
from tristrata.protocol.signing import Domain, digest, sign
from tristrata.protocol.units import Timestamp

ZERO = "0x" + 40 * "0"


def low(name: str) -> str:
    return account(name).lower()


@pytest.fixture
def session(hub: Hub) -> SessionId:
    return hub.open(deposit=1_000)


def replace(hub: Hub, session: bytes, name: str = "new key") -> None:
    hub.sessions.replace_key(session, account(name), sender=account("owner"))


def escrow_key(hub: Hub, session: bytes, name: str) -> None:
    """Check that vouchers of this key are charged."""
    count, splits = hub.last.get(session, (0, ()))
    hub.charge(session, count + 1, {"miner": sum(split.amount for split in splits) + 1}, name)


def test_replace_key__by_the_owner__the_new_key_signs(hub: Hub, session: SessionId) -> None:
    until = boa.env.timestamp + GRACE

    replace(hub, session)

    [event] = [log for log in hub.sessions.get_logs() if type(log).__name__ == "KeyReplaced"]
    assert (event.session_id, event.old_key, event.new_key, event.old_key_until) == (
        session,
        account("session key"),
        account("new key"),
        until,
    )
    record = hub.sessions.session(session)
    assert record.terms.session_key == hub.sessions.key_of(session) == account("new key")
    assert (record.replaced_key, record.replaced_until) == (account("session key"), until)
    assert tuple(hub.sessions.replaced_key(session)) == (account("session key"), until)
    assert (record.deposit, hub.settlement.escrow(session)) == (1_000, 1_000)
    escrow_key(hub, session, "new key")


def test_replace_key__session_with_a_daily_limit__keeps_it(hub: Hub) -> None:
    session = hub.open(deposit=1_000, max_per_day=10)
    replace(hub, session)

    with reverts("Settlement", "AboveDailyLimit", 11, 10):
        hub.charge(session, 1, {"miner": 11}, "new key")


def test_replace_key__after_service__old_vouchers_are_good_within_the_grace_period_and_worthless_after(
    hub: Hub, session: SessionId
) -> None:
    hub.charge(session, 1, {"miner": 10})
    replace(hub, session)

    boa.env.time_travel(GRACE)
    hub.charge(session, 2, {"miner": 20}, "session key")
    boa.env.time_travel(1)
    with reverts("Settlement", "WrongSigner", low("new key"), low("session key")):
        hub.charge(session, 3, {"miner": 30}, "session key")
    hub.charge(session, 3, {"miner": 30}, "new key")
    assert hub.claim_direct(session, 0) == 30


def test_replace_key__twice__only_the_last_replaced_key_is_still_good(hub: Hub, session: SessionId) -> None:
    replace(hub, session, "second key")
    until = boa.env.timestamp + GRACE
    boa.env.time_travel(GRACE - 1)
    with reverts("Sessions", "KeyChangeTooEarly", until, until - 1):
        replace(hub, session, "third key")
    boa.env.time_travel(1)
    replace(hub, session, "third key")

    with reverts("Settlement", "WrongSigner", low("third key"), low("session key")):
        hub.charge(session, 1, {"miner": 10}, "session key")
    for name in ("second key", "third key"):
        escrow_key(hub, session, name)


@pytest.mark.parametrize("sender", ["session key", "router", "stranger"])
def test_replace_key__by_anyone_but_the_owner__is_refused(hub: Hub, session: SessionId, sender: str) -> None:
    with reverts("Sessions", "NotSessionOwner", session, low(sender)):
        hub.sessions.replace_key(session, account(sender), sender=account(sender))


@pytest.mark.parametrize("new_key", [ZERO, account("session key")])
def test_replace_key__zero_or_the_same__is_refused(hub: Hub, session: SessionId, new_key: str) -> None:
    with reverts("Sessions", "NotAnotherKey", low("session key"), new_key.lower()):
        hub.sessions.replace_key(session, new_key, sender=account("owner"))


def test_replace_key__managed_session__is_refused() -> None:
    """Else its owner could fork the vouchers with a key of its own, and have the router's bond paid to itself."""
    hub = make_hub(unsecured_limit=DOLLAR)
    session = hub.open(deposit=1_000, managed=True)

    with reverts("Sessions", "SessionManaged", session):
        replace(hub, session)
    order = ReplaceKey(session, raw("session key"), raw("new key"), soon())
    with reverts("Sessions", "SessionManaged", session):
        carry(hub, order, hub.order(order, "owner"))


def carry(hub: Hub, order: ReplaceKey | RequestClose, signature: bytes) -> None:
    """Have somebody carry an order about a session."""
    if isinstance(order, ReplaceKey):
        arguments: tuple[Any, ...] = (order.session, checksum(order.new_key), order.deadline, signature)
        hub.sessions.replace_key_for(*arguments, sender=account("carrier"))
    else:
        arguments = (order.session, checksum(order.sender), order.deadline, signature)
        hub.sessions.request_close_for(*arguments, sender=account("carrier"))


def orders(session: SessionId, signer: str = "owner") -> list[ReplaceKey | RequestClose]:
    return [
        ReplaceKey(session, raw("session key"), raw("new key"), soon()),
        RequestClose(session, raw(signer), soon()),
    ]


def test_replace_key_for__signed_by_the_owner__the_new_key_signs(hub: Hub, session: SessionId) -> None:
    order, _ = orders(session)

    carry(hub, order, hub.order(order, "owner"))

    escrow_key(hub, session, "new key")


@pytest.mark.parametrize("name", ["owner", "session key", "router"])
def test_request_close_for__signed_by_a_party__starts_the_grace_period(hub: Hub, session: SessionId, name: str) -> None:
    _, order = orders(session, name)

    carry(hub, order, hub.order(order, name))

    closing_at = boa.env.timestamp + GRACE
    assert hub.sessions.session(session).closing_at == closing_at
    with reverts("Sessions", "AlreadyClosing", session, closing_at):
        carry(hub, order, hub.order(order, name))


def test_request_close_for__signed_by_a_stranger__is_refused(hub: Hub, session: SessionId) -> None:
    _, order = orders(session, "stranger")

    with reverts("Sessions", "NotParty", session, low("stranger")):
        carry(hub, order, hub.order(order, "stranger"))


def test_request_close_for__key_that_was_replaced__is_not_a_party(hub: Hub, session: SessionId) -> None:
    replace(hub, session)

    with reverts("Sessions", "NotParty", session, low("session key")):
        hub.sessions.request_close(session, sender=account("session key"))
    hub.sessions.request_close(session, sender=account("new key"))


@pytest.mark.parametrize("number", [0, 1])
def test_order__signed_by_another__is_refused(hub: Hub, session: SessionId, number: int) -> None:
    order = orders(session)[number]

    for name in ("session key", "router", "thief"):
        with reverts("Sessions", "NotSignedBy", low("owner")):
            carry(hub, order, hub.order(order, name))


@pytest.mark.parametrize("number", [0, 1])
def test_order__after_the_deadline__is_refused(hub: Hub, session: SessionId, number: int) -> None:
    order = orders(session)[number]
    boa.env.time_travel(101)

    with reverts("Sessions", "SignatureExpired", order.deadline, order.deadline + 1):
        carry(hub, order, hub.order(order, "owner"))
    boa.env.time_travel(-1)
    carry(hub, order, hub.order(order, "owner"))  # at the deadline itself it counts


@pytest.mark.parametrize("number", [0, 1])
def test_order__replayed_on_another_session_or_with_other_words__is_refused(
    hub: Hub, session: SessionId, number: int
) -> None:
    order = orders(session)[number]
    signature = hub.order(order, "owner")
    other = orders(hub.open(nonce=2))[number]
    changed: list[ReplaceKey | RequestClose]
    if isinstance(order, ReplaceKey):
        changed = [ReplaceKey(session, order.old_key, raw("thief"), order.deadline)]
    else:
        changed = [RequestClose(session, order.sender, Timestamp(order.deadline + 1))]

    for each in (other, *changed):
        with reverts("Sessions", "NotSignedBy", low("owner")):
            carry(hub, each, signature)


@pytest.mark.parametrize("number", [0, 1])
def test_order__signed_for_another_hub__is_refused(hub: Hub, session: SessionId, number: int) -> None:
    order = orders(session)[number]
    ours = hub.domain(hub.sessions)
    for domain in (
        Domain(eip155(2), ours.ref, ours.contract),
        Domain(CHAIN, chain_ref(eip155(2)), ours.contract),
        hub.domain(hub.settlement),
        hub.domain(make_hub().sessions),
    ):
        signature = sign(key("owner"), digest(domain.separator, order.struct_hash))
        with reverts("Sessions", "NotSignedBy", low("owner")):
            carry(hub, order, signature)


def test_replace_key_for__carried_again_when_the_old_key_is_back__is_refused(hub: Hub, session: SessionId) -> None:
    there = ReplaceKey(session, raw("session key"), raw("new key"), Timestamp(soon() + 1_000))
    back = ReplaceKey(session, raw("new key"), raw("session key"), there.deadline)
    signature = hub.order(there, "owner")
    carry(hub, there, signature)
    with reverts("Sessions", "NotSignedBy", low("owner")):  # it names the key that it replaces
        carry(hub, there, signature)
    boa.env.time_travel(GRACE)
    carry(hub, back, hub.order(back, "owner"))
    boa.env.time_travel(GRACE)

    with reverts("Sessions", "SignatureUsed", digest(hub.domain(hub.sessions).separator, there.struct_hash)):
        carry(hub, there, signature)
    assert hub.sessions.key_of(session) == account("session key")


@pytest.mark.parametrize("number", [0, 1])
def test_order__unknown_session__is_refused(hub: Hub, number: int) -> None:
    order = orders(SessionId(b"\x99" * 32))[number]

    if isinstance(order, ReplaceKey):
        with reverts("Sessions", "NotSignedBy", ZERO):
            carry(hub, order, hub.order(order, "owner"))
    else:
        with reverts("Sessions", "SessionUnknown", order.session):
            carry(hub, order, hub.order(order, "owner"))


def test_request_close_for__party_is_nobody__is_refused(hub: Hub, session: SessionId) -> None:
    order = RequestClose(session, Address(bytes(20)), soon())

    with reverts("Sessions", "NotSignedBy", ZERO):
        carry(hub, order, bytes(65))


def test_order__router_is_a_contract_wallet__signs_by_erc_1271(hub: Hub) -> None:
    wallet = contract("testing/ContractWallet.vy", [account("one"), account("two")])
    session = hub.open(router=address_of(wallet))
    order = RequestClose(session, address_of(wallet), soon())
    one, two = (hub.order(order, name) for name in ("one", "two"))

    for wrong in (one, two + one, one + one, b""):
        with reverts("Sessions", "NotSignedBy", wallet.address.lower()):
            carry(hub, order, wrong)
    carry(hub, order, one + two)
    assert hub.sessions.session(session).closing_at != 0


def test_order__party_is_a_contract_without_erc_1271__is_refused(hub: Hub) -> None:
    session = hub.open(router=address_of(hub.dollar))
    order = RequestClose(session, address_of(hub.dollar), soon())

    with reverts("Sessions", "NotSignedBy", hub.dollar.address.lower()):
        carry(hub, order, hub.order(order, "owner"))
