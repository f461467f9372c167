"""Charges and a seal in one transaction."""

from collections.abc import Iterable
from typing import Any

import boa
import pytest

from tests.contracts.conftest import (
    DELAY,
    KEPT_EPOCHS,
    ONE,
    QUORUM,
    REF,
    SECURITY_CHAIN,
    THREE,
    VALIDATORS,
    VETO_FEE,
    Hub,
    account,
    as_abi,
    ordered,
    packed,
    reverts,
    settle_arguments,
    sign_all,
)
from tests.contracts.money import direct, events
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.epoch import epoch_root
from tristrata.protocol.hashing import keccak
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import IndexedTree

FIRST, SECOND = {"router": 5, "miner": 95}, {"router": 10, "miner": 190}


def charged(hub: Hub, session: bytes) -> int:
    return int(hub.settlement.charged_amount(session))


def settle(hub: Hub, calls: Iterable[Any], epoch: Epoch, signers: Iterable[str] = QUORUM) -> None:
    signatures = sign_all(hub.domain(hub.outbox), epoch, signers)
    hub.settlement.settle(*settle_arguments(calls), as_abi(epoch), signatures, sender=account("anyone"))


def test_init__settlement__names_its_outbox_and_its_parameters(hub: Hub) -> None:
    settlement = hub.settlement
    assert (settlement.outbox(), settlement.sessions()) == (hub.outbox.address, hub.sessions.address)
    assert (hub.outbox.settlement(), hub.outbox.inbox()) == (settlement.address, hub.operator)
    assert (settlement.asset(), settlement.chain_ref()) == (hub.dollar.address, REF)
    assert (settlement.payout_delay(), settlement.veto_fee()) == (DELAY, VETO_FEE)
    assert (settlement.security_chain(), settlement.validators()) == (SECURITY_CHAIN, VALIDATORS.rjust(32, b"\0"))
    assert hub.outbox.kept_epochs() == KEPT_EPOCHS


def test_settle__charges_and_a_quorum__charges_each_and_seals(hub: Hub) -> None:
    hub.adopt()
    sessions = [hub.open(nonce=nonce) for nonce in range(3)]

    epoch, root, signed = hub.settle(charges=[hub.charge_call(session, 1, FIRST) for session in sessions])

    logs = hub.settlement.get_logs()
    sealed = logs[-1]
    assert [type(log).__name__ for log in logs] == ["Charged"] * 3 + ["Sealed"]
    assert [log.session_id for log in logs[:3]] == sessions
    assert all((log.count, log.splits) == (1, packed(ordered(FIRST))) for log in logs[:3])
    assert [charged(hub, session) for session in sessions] == [100] * 3
    assert hub.settlement.total_charged() == 300
    roots = (IncrementalTree().root, sealed.receipts_root, sealed.payouts_root, IndexedTree().root)
    assert sealed.root == root == epoch_root(REF, 1, *roots)
    assert hub.outbox.sealed(1).digest == seal_digest(epoch, root, sealed.payouts_root, signed)


def seal_digest(epoch: int, root: bytes, payouts_root: bytes, signed: bytes) -> int:
    return int.from_bytes(keccak(epoch.to_bytes(32, "big") + root + payouts_root + signed)[:24], "big")


def test_settle__16_charges_with_128_splits__fit(hub: Hub) -> None:
    hub.adopt()
    sessions = [hub.open(nonce=nonce) for nonce in range(16)]
    many = {f"payee {number}": number + 1 for number in range(8)}

    hub.settle(charges=[hub.charge_call(session, 1, many) for session in sessions])
    more = {name: amount + 1 for name, amount in many.items()}
    hub.settle(charges=[hub.charge_call(session, 2, more) for session in sessions])

    assert hub.settlement.total_charged() == 16 * sum(more.values())


def test_settle__4_charges_with_32_splits_each__fit(hub: Hub) -> None:
    hub.adopt()
    sessions = [hub.open(nonce=nonce) for nonce in range(4)]
    many = {f"payee {number}": number + 1 for number in range(32)}

    hub.settle(charges=[hub.charge_call(session, 1, many) for session in sessions])

    assert hub.settlement.total_charged() == 4 * sum(many.values())


def test_settle__nothing_to_charge__seals(hub: Hub) -> None:
    hub.adopt()

    hub.settle()
    hub.settle()

    assert events(hub.settlement, "Charged") == []
    assert hub.outbox.last_epoch() == 2


def test_settle__the_same_session_twice__charges_both_in_turn(hub: Hub) -> None:
    hub.adopt()
    session = hub.open()

    hub.settle(charges=[hub.charge_call(session, 1, FIRST), hub.charge_call(session, 2, SECOND, after=(1, FIRST))])

    assert charged(hub, session) == hub.settlement.total_charged() == 200
    assert direct(hub, session, "miner") == 190


def test_settle__one_charge_is_wrong__changes_nothing(hub: Hub) -> None:
    hub.adopt()
    session, other = hub.open(nonce=1), hub.open(nonce=2)
    hub.charge(other, 1, FIRST)

    with reverts("Settlement", "ChargeNotUp", 100, 1, 100, 1):
        hub.settle(charges=[hub.charge_call(session, 1, FIRST), hub.charge_call(other, 1, FIRST)])
    assert charged(hub, session) == 0
    assert hub.settlement.total_charged() == 100
    assert hub.outbox.last_epoch() == 0


def test_settle__splits_that_do_not_belong_to_the_charges__are_refused(hub: Hub) -> None:
    hub.adopt()
    one, two = hub.open(nonce=1), hub.open(nonce=2)
    boa.env.time_travel(blocks=5)
    epoch = hub.next_epoch()
    signatures = sign_all(hub.domain(hub.outbox), epoch)
    charges, splits, before = settle_arguments([hub.charge_call(one, 1, FIRST), hub.charge_call(two, 1, FIRST)])

    def attempt(charges: list[Any], splits: list[int], before: list[int]) -> None:
        hub.settlement.settle(charges, splits, before, as_abi(epoch), signatures)

    def with_count(count: int) -> list[Any]:
        return [(*charge[:4], count, *charge[5:]) for charge in charges]

    with reverts("Settlement", "LengthsDiffer", 4, 3):
        attempt(charges, splits, before[:3])
    with reverts("Settlement", "SplitsMissing", 2, 1):
        attempt(charges, splits[:3], before[:3])
    with reverts("Settlement", "SplitsMissing", 4, 5):
        attempt(charges, [*splits, splits[0]], [*before, 0])
    with reverts("Settlement", "SplitsMissing", 2, 4):
        attempt(charges[:1], splits, before)
    with reverts("Settlement", "SplitsMissing", 33, 4):
        attempt(with_count(33), splits, before)
    with reverts("Settlement", "SplitsMissing", 2**256 - 1, 4):
        attempt(with_count(2**256 - 1), splits, before)
    with reverts("Settlement", "WrongSigner"):
        attempt(with_count(1), splits, before)
    attempt(charges, splits, before)
    assert hub.settlement.total_charged() == 200


# without a seal


def test_settle__without_a_quorum__changes_nothing(hub: Hub) -> None:
    hub.adopt()
    session = hub.open()

    with reverts("Outbox", "NoQuorum", 65, 100):
        hub.settle(charges=[hub.charge_call(session, 1, FIRST)], signers=(ONE, THREE))
    assert charged(hub, session) == 0


def test_settle__without_signatures__charges(hub: Hub) -> None:
    session = hub.open()

    hub.settle(charges=[hub.charge_call(session, 1, FIRST)], signers=())

    assert (charged(hub, session), hub.outbox.last_epoch()) == (100, 0)


def test_settle__somebody_sealed_the_epoch_before__charges_all_the_same(hub: Hub) -> None:
    hub.adopt()
    session = hub.open()
    boa.env.time_travel(blocks=5)
    epoch = hub.next_epoch()
    hub.outbox.seal(as_abi(epoch), sign_all(hub.domain(hub.outbox), epoch), sender=account("front runner"))

    settle(hub, [hub.charge_call(session, 1, FIRST)], epoch)

    assert (charged(hub, session), hub.outbox.last_epoch()) == (100, 1)
    assert events(hub.settlement, "Sealed") == []


def test_settle__with_no_valid_set__is_refused_but_charge_claim_direct_and_close_work(hub: Hub) -> None:
    session = hub.open(deposit=1_000)

    with reverts("Outbox", "SetExpired", 0, boa.env.timestamp + 2):
        hub.settle(charges=[hub.charge_call(session, 1, FIRST)])
    hub.charge(session, 1, FIRST)
    assert [direct(hub, session, name) for name in FIRST] == [5, 95]
    boa.env.time_travel(20_000)
    hub.sessions.close(session)
    assert hub.dollar.balanceOf(hub.settlement.address) == 0


@pytest.mark.parametrize("epoch", [2, 2**64 - 1])
def test_settle__a_later_epoch_than_the_next__is_refused(hub: Hub, epoch: int) -> None:
    hub.adopt()
    session = hub.open()
    boa.env.time_travel(blocks=5)

    with reverts("Outbox", "EpochOutOfOrder", epoch, 1):
        settle(hub, [hub.charge_call(session, 1, FIRST)], hub.next_epoch(epoch=epoch))
    assert charged(hub, session) == 0


def test_settle__epoch_0__seals_nothing(hub: Hub) -> None:
    hub.adopt()
    boa.env.time_travel(blocks=5)

    settle(hub, [], hub.next_epoch(epoch=0))

    assert hub.outbox.last_epoch() == 0


def test_charge__alone__counts_into_total_charged(hub: Hub) -> None:
    session, other = hub.open(nonce=1), hub.open(nonce=2)

    hub.charge(session, 1, FIRST)
    hub.charge(session, 2, SECOND)
    hub.charge(other, 1, FIRST)

    assert hub.settlement.total_charged() == 300
    assert hub.settlement.total_paid() == 0
