"""Sessions opened and topped up by whoever carries the owner's signature: exactly as signed, once, here, in time."""

from typing import Any

import boa
import pytest
from msgspec.structs import replace

from tests.contracts.conftest import CHAIN, DOLLAR, REF, Hub, account, contract, key, make_hub, raw, reverts
from tests.contracts.session_orders import (
    address_of,
    asset_of,
    authorize,
    open_for,
    open_order,
    order_fields,
    soon,
    vrs,
)
from tristrata.protocol.authorization import Authorization
from tristrata.protocol.ids import Address, chain_ref, eip155, session_id
from tristrata.protocol.orders import TopUp
from tristrata.protocol.signing import Domain, digest, sign
from tristrata.protocol.units import Amount, Timestamp

SALT = b"\x05" * 32


def low(name: str) -> str:
    return account(name).lower()


@pytest.fixture
def unapproved(hub: Hub) -> Hub:
    """A hub whose owner has approved nothing."""
    hub.dollar.approve(hub.sessions.address, 0, sender=account("owner"))
    return hub


def test_open_for__order_and_permit__needs_no_gas_of_the_owner(unapproved: Hub) -> None:
    session = unapproved.sessions.open_for(*open_for(unapproved, open_order(unapproved)), sender=account("relayer"))

    assert session == session_id(REF, raw("owner"), 1)
    assert unapproved.sessions.session(session).deposit == DOLLAR
    assert unapproved.dollar.balanceOf(unapproved.settlement.address) == DOLLAR
    assert unapproved.dollar.allowance(account("owner"), unapproved.sessions.address) == 0


def test_open_for__permit_used_by_somebody_else_first__still_opens(unapproved: Hub) -> None:
    hub = unapproved
    arguments = open_for(hub, open_order(hub))
    hub.dollar.permit(account("owner"), hub.sessions.address, DOLLAR, *arguments[6:], sender=account("front runner"))

    hub.sessions.open_for(*arguments, sender=account("relayer"))


def test_open_for__no_permit_and_no_allowance__is_refused(unapproved: Hub) -> None:
    arguments = open_for(unapproved, open_order(unapproved))

    with pytest.raises(boa.BoaError, match="erc20: insufficient allowance"):
        unapproved.sessions.open_for(*arguments[:-2], bytes(32), bytes(32))


CHANGES: list[dict[str, Any]] = [
    {"nonce": 2},
    {"deposit": Amount(2)},
    {"deadline": Timestamp(2**40)},
    {"owner": raw("other owner")},
    {"terms": {"router_bps": 501}},
    {"terms": {"session_key": raw("thief")}},
    {"terms": {"max_per_day": 1}},
    {"terms": {"managed": True, "router": raw("carrier")}},
]


def changed(hub: Hub, changes: dict[str, Any]) -> Any:
    terms = hub.terms(**changes["terms"]) if "terms" in changes else hub.terms()
    return replace(open_order(hub), **{**changes, "terms": terms})


@pytest.mark.parametrize("changes", CHANGES)
def test_open_for__other_than_signed__is_refused(changes: dict[str, Any]) -> None:
    hub = make_hub(unsecured_limit=DOLLAR)
    hub.register("other owner")
    signed = open_for(hub, open_order(hub))
    order = changed(hub, changes)

    owner = "other owner" if "owner" in changes else "owner"
    with reverts("Sessions", "NotSignedBy", low(owner)):
        hub.sessions.open_for(*order_fields(order), *signed[5:], sender=account("carrier"))


@pytest.mark.parametrize("changes", CHANGES)
def test_open_with_authorization__other_than_signed__is_refused(changes: dict[str, Any]) -> None:
    hub = make_hub(unsecured_limit=DOLLAR)
    hub.register("other owner")
    hub.fund("other owner", DOLLAR)
    signature = authorize(hub, open_order(hub))

    with reverts("TestDollar", "WrongSigner"):
        hub.sessions.open_with_authorization(
            *order_fields(changed(hub, changes)), *signature, sender=account("carrier")
        )


def test_open_with_authorization__one_signature__opens_and_pays_once(unapproved: Hub) -> None:
    order = open_order(unapproved)
    arguments = (*order_fields(order), *authorize(unapproved, order))

    session = unapproved.sessions.open_with_authorization(*arguments, sender=account("relayer"))

    assert unapproved.sessions.session(session).deposit == DOLLAR
    assert unapproved.dollar.balanceOf(unapproved.settlement.address) == DOLLAR
    assert unapproved.dollar.balanceOf(unapproved.sessions.address) == 0
    with reverts("Sessions", "SessionExists", session):
        unapproved.sessions.open_with_authorization(*arguments, sender=account("relayer"))


def test_open_with_authorization__carried_past_sessions__takes_no_money(unapproved: Hub) -> None:
    hub, order = unapproved, open_order(unapproved)
    nonce = digest(hub.domain(hub.sessions).separator, order.struct_hash)
    arguments = (account("owner"), hub.sessions.address, DOLLAR, 0, order.deadline, nonce, *authorize(hub, order))

    with reverts("TestDollar", "NotPayee", low("thief"), hub.sessions.address.lower()):
        hub.dollar.receiveWithAuthorization(*arguments, sender=account("thief"))


def test_open_with_authorization__nonce_is_not_the_order__is_refused(unapproved: Hub) -> None:
    """A payment that the owner authorized for something else opens nothing."""
    hub, order = unapproved, open_order(unapproved)
    signed = Authorization(
        raw("owner"), address_of(hub.sessions), order.deposit, Timestamp(0), order.deadline, b"\x09" * 32
    )
    signature = vrs(sign(key("owner"), digest(asset_of(hub).separator, signed.receive_hash)))

    with reverts("TestDollar", "WrongSigner"):
        hub.sessions.open_with_authorization(*order_fields(order), *signature)


def test_open_with_authorization__token_without_it__is_refused() -> None:
    """Tokens such as WETH answer any call with success."""
    hub = make_hub(contract("testing/WeirdToken.vy"))

    with reverts("Sessions", "WrongAmountReceived", DOLLAR, 0):
        hub.sessions.open_with_authorization(*order_fields(open_order(hub)), 27, bytes(32), bytes(32))


def test_open_with_authorization__managed__only_its_router_may_carry_it() -> None:
    hub = make_hub(unsecured_limit=DOLLAR)
    order = replace(open_order(hub), terms=hub.terms(managed=True))
    arguments = (*order_fields(order), *authorize(hub, order))

    with reverts("Sessions", "NotRouter", low("carrier"), low("router")):
        hub.sessions.open_with_authorization(*arguments, sender=account("carrier"))
    hub.sessions.open_with_authorization(*arguments, sender=account("router"))
    assert hub.routers.router(account("router")).managed == DOLLAR


def test_open_for__managed__only_its_router_may_carry_it() -> None:
    hub = make_hub(unsecured_limit=DOLLAR)
    arguments = open_for(hub, replace(open_order(hub), terms=hub.terms(managed=True)))

    with reverts("Sessions", "NotRouter", low("carrier"), low("router")):
        hub.sessions.open_for(*arguments, sender=account("carrier"))
    hub.sessions.open_for(*arguments, sender=account("router"))


@pytest.mark.parametrize("late", [0, 1])
def test_open_for__after_the_deadline__is_refused(hub: Hub, late: int) -> None:
    order = open_order(hub)
    arguments = open_for(hub, order)
    boa.env.time_travel(100 + late)

    if late:
        with reverts("Sessions", "SignatureExpired", order.deadline, boa.env.timestamp):
            hub.sessions.open_for(*arguments)
    else:
        hub.sessions.open_for(*arguments)


def test_open_with_authorization__at_the_deadline__is_refused(hub: Hub) -> None:
    order = open_order(hub)
    arguments = (*order_fields(order), *authorize(hub, order))
    boa.env.time_travel(100)

    with reverts("TestDollar", "AuthorizationExpired", order.deadline, order.deadline):
        hub.sessions.open_with_authorization(*arguments)


def test_open_for__twice__opens_once(hub: Hub) -> None:
    arguments = open_for(hub, open_order(hub))
    session = hub.sessions.open_for(*arguments)
    hub.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(60)
    hub.sessions.close(session)

    with reverts("Sessions", "SessionExists", session):
        hub.sessions.open_for(*arguments)


def elsewhere(hub: Hub) -> list[Domain]:
    """Domains that are not this hub's `Sessions`: another chain, another reference, another contract."""
    ours = hub.domain(hub.sessions)
    return [
        Domain(eip155(2), ours.ref, ours.contract),
        Domain(CHAIN, chain_ref(eip155(2)), ours.contract),
        Domain(CHAIN, ours.ref, address_of(hub.settlement)),
        Domain(CHAIN, ours.ref, Address(b"\x12" * 20)),
    ]


def test_open_for__signed_for_another_hub__is_refused(hub: Hub) -> None:
    order = open_order(hub)
    arguments = open_for(hub, order)
    for domain in elsewhere(hub):
        signature = sign(key("owner"), digest(domain.separator, order.struct_hash))
        with reverts("Sessions", "NotSignedBy", low("owner")):
            hub.sessions.open_for(*arguments[:5], signature, *arguments[6:])


def test_open_with_authorization__signed_for_another_hub__is_refused(hub: Hub) -> None:
    order = open_order(hub)
    for domain in elsewhere(hub):
        nonce = digest(domain.separator, order.struct_hash)
        signed = Authorization(
            raw("owner"), address_of(hub.sessions), order.deposit, Timestamp(0), order.deadline, nonce
        )
        signature = vrs(sign(key("owner"), digest(asset_of(hub).separator, signed.receive_hash)))
        with reverts("TestDollar", "WrongSigner"):
            hub.sessions.open_with_authorization(*order_fields(order), *signature)


def test_open_for__another_hub_on_the_same_chain__does_not_take_the_signature(hub: Hub) -> None:
    arguments = open_for(hub, open_order(hub))
    other = make_hub()

    with reverts("Sessions", "NotSignedBy", low("owner")):
        other.sessions.open_for(*arguments)


def test_open_for__malformed_signature__is_refused(hub: Hub) -> None:
    arguments = open_for(hub, open_order(hub))
    good = arguments[5]
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = order - int.from_bytes(good[32:64], "big")
    malleable = good[:32] + high_s.to_bytes(32, "big") + bytes([55 - good[64]])

    for signature in (b"", good[:64], good + b"\0", bytes(65), malleable):
        with reverts("Sessions", "NotSignedBy", low("owner")):
            hub.sessions.open_for(*arguments[:5], signature, *arguments[6:])


def test_open_for__owner_is_nobody__is_refused(hub: Hub) -> None:
    order = replace(open_order(hub), owner=Address(bytes(20)))

    with reverts("Sessions", "NotSignedBy", "0x" + 40 * "0"):
        hub.sessions.open_for(*order_fields(order), bytes(65), 0, 27, bytes(32), bytes(32))


@pytest.mark.parametrize("owners", [("one",), ("one", "two", "three")])
def test_open_for__owner_is_a_contract_wallet__signs_by_erc_1271(hub: Hub, owners: tuple[str, ...]) -> None:
    wallet = contract("testing/ContractWallet.vy", [account(name) for name in owners])
    registration = b"".join(part.rjust(32, b"\0") for part in (b"\1", address_of(wallet), b"\1"))
    hub.sessions.on_message(hub.sessions.welcome_chain(), hub.sessions.welcome(), registration, sender=hub.operator)
    hub.dollar.mint(wallet.address, DOLLAR, sender=hub.operator)
    approve = hub.dollar.approve.prepare_calldata(hub.sessions.address, DOLLAR)
    wallet.execute(hub.dollar.address, approve, sender=account("one"))
    order = replace(open_order(hub), owner=address_of(wallet))
    no_permit = (0, 27, bytes(32), bytes(32))

    some, all_of_them = (b"".join(hub.order(order, name) for name in names) for names in (owners[:-1], owners))
    with reverts("Sessions", "NotSignedBy", wallet.address.lower()):
        hub.sessions.open_for(*order_fields(order), some, *no_permit)
    session = hub.sessions.open_for(*order_fields(order), all_of_them, *no_permit)
    assert hub.sessions.session(session).owner == wallet.address


def top_up(hub: Hub, order: TopUp, signature: tuple[int, bytes, bytes]) -> None:
    arguments = (order.session, account("payer"), order.amount, order.salt, order.deadline)
    hub.sessions.top_up_with_authorization(*arguments, *signature, sender=account("relayer"))


@pytest.fixture
def top_ups(hub: Hub) -> tuple[Hub, TopUp]:
    session = hub.open(deposit=DOLLAR)
    hub.dollar.mint(account("payer"), 10 * DOLLAR, sender=hub.operator)
    return hub, TopUp(session, raw("payer"), Amount(7), SALT, soon())


def test_top_up_with_authorization__one_signature__pays_once(top_ups: tuple[Hub, TopUp]) -> None:
    hub, order = top_ups
    signature = authorize(hub, order, "payer")

    top_up(hub, order, signature)

    assert hub.sessions.session(order.session).deposit == DOLLAR + 7
    assert hub.dollar.balanceOf(hub.settlement.address) == DOLLAR + 7
    nonce = digest(hub.domain(hub.sessions).separator, order.struct_hash)
    with reverts("TestDollar", "AuthorizationSpent", low("payer"), nonce):
        top_up(hub, order, signature)


def test_top_up_with_authorization__other_than_signed__is_refused(top_ups: tuple[Hub, TopUp]) -> None:
    hub, order = top_ups
    other = hub.open(nonce=2)
    signature = authorize(hub, order, "payer")

    for changes in ({"session": other}, {"amount": Amount(8)}, {"salt": bytes(32)}, {"deadline": soon() + 1}):
        with reverts("TestDollar", "WrongSigner"):
            top_up(hub, replace(order, **changes), signature)
    with reverts("TestDollar", "WrongSigner"):
        top_up(hub, order, authorize(hub, order, "thief"))
    with reverts("TestDollar", "WrongSigner"):
        top_up(hub, order, authorize(hub, order, "payer", contract=hub.settlement))


def test_top_up_with_authorization__late_closed_or_nothing__is_refused(top_ups: tuple[Hub, TopUp]) -> None:
    hub, order = top_ups
    with reverts("Sessions", "ZeroAmount", 0):
        nothing = replace(order, amount=Amount(0))
        top_up(hub, nothing, authorize(hub, nothing, "payer"))
    boa.env.time_travel(100)
    with reverts("TestDollar", "AuthorizationExpired", order.deadline, order.deadline):
        top_up(hub, order, authorize(hub, order, "payer"))
    boa.env.time_travel(20_000)
    hub.sessions.close(order.session)
    with reverts("Sessions", "SessionClosed", order.session):
        top_up(hub, order, authorize(hub, order, "payer"))
