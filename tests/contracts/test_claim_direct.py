"""What a payee gets by itself from charged splits, to its own account or another: each cent once, for ever."""

from typing import Any

import boa
from msgspec.structs import replace

from tests.contracts.conftest import CHAIN, Hub, account, contract, key, make_hub, ordered, packed, raw, reverts
from tests.contracts.session_orders import address_of, soon
from tristrata.protocol.ids import Address, chain_ref, checksum, eip155
from tristrata.protocol.orders import ClaimTo
from tristrata.protocol.signing import Domain, digest, sign
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher import Split

FIRST = {"router": 5, "miner": 95}


def low(name: str) -> str:
    return account(name).lower()


def claim(hub: Hub, session: bytes, name: str) -> int:
    index = [split.payee for split in hub.last[session][1]].index(raw(name))
    return int(hub.claim_direct(session, index))


def test_claim_direct__from_many_sessions__pays_each_cent_once(hub: Hub) -> None:
    one, two = hub.open(nonce=1), hub.open(nonce=2)
    hub.charge(one, 1, FIRST)
    hub.charge(two, 1, {"miner": 50, "router": 1})

    assert claim(hub, one, "miner") == 95
    [event] = [log for log in hub.settlement.get_logs() if type(log).__name__ == "Claimed"]
    assert event.payments == [Split(raw("miner"), Amount(95)).packed]
    assert claim(hub, one, "miner") == 0
    assert claim(hub, two, "miner") == 50
    hub.charge(one, 2, {"router": 6, "miner": 100})
    assert claim(hub, one, "miner") == 5
    assert hub.dollar.balanceOf(account("miner")) == hub.settlement.claimed(account("miner")) == 150
    assert hub.settlement.opened(account("miner")) == hub.settlement.total_paid() == 150


def test_claim_direct__after_the_session_is_closed__still_pays(hub: Hub) -> None:
    session = hub.open(deposit=1_000)
    hub.charge(session, 1, FIRST)
    boa.env.time_travel(20_000)
    before = hub.dollar.balanceOf(account("owner"))
    hub.sessions.close(session)

    assert hub.dollar.balanceOf(account("owner")) - before == 900
    assert sorted(hub.claim_direct(session, index) for index in range(2)) == [5, 95]
    assert hub.dollar.balanceOf(hub.settlement.address) == 0


def test_claim_direct__splits_that_were_not_charged__are_refused(hub: Hub) -> None:
    session = hub.open()
    splits = packed(ordered(FIRST))
    claim_direct = hub.settlement.claim_direct

    with reverts("Settlement", "WrongSplits", session, 0):
        claim_direct(session, 0, splits, 0)
    with reverts("Settlement", "NoSuchSplit", 0, 0):
        claim_direct(session, 0, [], 0)
    hub.charge(session, 1, FIRST)
    for count, wrong in ((1, packed(ordered({"miner": 100}))), (2, splits), (0, splits), (0, []), (1, splits[::-1])):
        with reverts("Settlement", "WrongSplits", session, count):
            claim_direct(session, count, wrong, 0)
    with reverts("Settlement", "NoSuchSplit", 2, 2):
        claim_direct(session, 1, splits, 2)


def claim_order(hub: Hub, **changes: Any) -> ClaimTo:
    claimed = hub.settlement.claimed(account("miner"))
    return replace(ClaimTo(raw("miner"), raw("cold"), Amount(claimed), soon()), **changes)


def claim_to(hub: Hub, session: bytes, order: ClaimTo, signature: bytes) -> int:
    count, splits = hub.last[session]
    index = [split.payee for split in splits].index(order.payee)
    arguments = (checksum(order.recipient), order.deadline, signature, session, count, packed(splits), index)
    return int(hub.settlement.claim_to(*arguments, sender=account("carrier")))


def test_claim_to__signed_by_the_payee__pays_another_account_once(hub: Hub) -> None:
    session, other = hub.open(nonce=1), hub.open(nonce=2)
    hub.charge(session, 1, FIRST)
    hub.charge(other, 1, {"miner": 7})
    order = claim_order(hub)
    signature = hub.order(order, "miner", hub.settlement)

    assert claim_to(hub, session, order, signature) == 95
    [event] = [log for log in hub.settlement.get_logs() if type(log).__name__ == "Claimed"]
    assert event.payments == [Split(raw("miner"), Amount(95)).packed]
    assert hub.dollar.balanceOf(account("cold")) == hub.settlement.claimed(account("miner")) == 95
    for again in (session, other):  # what was claimed is not what was signed any more
        with reverts("Settlement", "NotSignedBy", low("miner")):
            claim_to(hub, again, order, signature)
    assert claim(hub, other, "miner") == 7


def test_claim_to__other_than_signed_or_by_another__is_refused(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 1, FIRST)
    order = claim_order(hub)
    signature = hub.order(order, "miner", hub.settlement)

    for changes in ({"recipient": raw("thief")}, {"deadline": Timestamp(soon() + 1)}):
        with reverts("Settlement", "NotSignedBy", low("miner")):
            claim_to(hub, session, replace(order, **changes), signature)
    with reverts("Settlement", "NotSignedBy", low("router")):
        claim_to(hub, session, replace(order, payee=raw("router")), signature)
    for wrong in (hub.order(order, "thief", hub.settlement), bytes(65), b"", signature[:64]):
        with reverts("Settlement", "NotSignedBy", low("miner")):
            claim_to(hub, session, order, wrong)
    assert claim_to(hub, session, order, signature) == 95


def test_claim_to__signed_for_another_hub__is_refused(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 1, FIRST)
    order = claim_order(hub)
    ours = hub.domain(hub.settlement)
    for domain in (
        Domain(eip155(2), ours.ref, ours.contract),
        Domain(CHAIN, chain_ref(eip155(2)), ours.contract),
        hub.domain(hub.sessions),
        hub.domain(make_hub().settlement),
    ):
        signature = sign(key("miner"), digest(domain.separator, order.struct_hash))
        with reverts("Settlement", "NotSignedBy", low("miner")):
            claim_to(hub, session, order, signature)


def test_claim_to__after_the_deadline__is_refused(hub: Hub) -> None:
    session = hub.open()
    hub.charge(session, 1, FIRST)
    order = claim_order(hub)
    signature = hub.order(order, "miner", hub.settlement)
    boa.env.time_travel(101)

    with reverts("Settlement", "SignatureExpired", order.deadline, order.deadline + 1):
        claim_to(hub, session, order, signature)
    boa.env.time_travel(-1)
    assert claim_to(hub, session, order, signature) == 95


def test_claim_to__splits_that_were_not_charged__are_refused(hub: Hub) -> None:
    session = hub.open()
    order = claim_order(hub)
    arguments = (account("cold"), order.deadline, hub.order(order, "miner", hub.settlement), session)

    with reverts("Settlement", "WrongSplits", session, 1):
        hub.settlement.claim_to(*arguments, 1, packed(ordered(FIRST)), 0)
    hub.charge(session, 1, FIRST)
    with reverts("Settlement", "NoSuchSplit", 9, 2):
        hub.settlement.claim_to(*arguments, 1, packed(ordered(FIRST)), 9)


def test_claim_to__payee_is_a_contract_wallet__signs_by_erc_1271(hub: Hub) -> None:
    wallet = contract("testing/ContractWallet.vy", [account("one")])
    payee = address_of(wallet)
    session = hub.open()
    splits = (Split(Address(payee), Amount(9)),)
    call = hub.call_of(hub.voucher(session, 1, splits), splits)
    hub.settlement.charge(*call)
    hub.remember(call)
    order = ClaimTo(payee, raw("cold"), Amount(0), soon())

    with reverts("Settlement", "NotSignedBy", wallet.address.lower()):
        claim_to(hub, session, order, hub.order(order, "two", hub.settlement))
    assert claim_to(hub, session, order, hub.order(order, "one", hub.settlement)) == 9
    assert hub.dollar.balanceOf(account("cold")) == 9
