"""Charges and a seal in one transaction."""

from typing import Any

import boa
import pytest

from tests.contracts.conftest import (
    DELAY,
    ONE,
    THREE,
    VETO_FEE,
    Hub,
    account,
    as_abi,
    ordered,
    reverts,
    sign_all,
)
from tristrata.protocol.epoch import epoch_root
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.voucher import splits_hash

FIRST, SECOND = {"router": 5, "miner": 95}, {"router": 10, "miner": 190}


def events(contract: Any, name: str) -> list[Any]:
    return [log for log in contract.get_logs() if type(log).__name__ == name]


def test_init__settlement__names_its_outbox_and_its_parameters(hub: Hub) -> None:
    assert hub.settlement.outbox() == hub.outbox.address
    assert hub.outbox.settlement() == hub.settlement.address
    assert hub.outbox.inbox() == hub.operator
    assert hub.settlement.payout_delay() == DELAY
    assert hub.settlement.veto_fee() == VETO_FEE


def test_settle__charges_and_a_quorum__charges_each_and_seals(hub: Hub) -> None:
    hub.adopt()
    sessions = [hub.open(nonce=nonce) for nonce in range(3)]

    epoch = hub.settle(charges=[hub.charge_call(session, 1, FIRST) for session in sessions])

    logs = hub.settlement.get_logs()
    assert [type(log).__name__ for log in logs] == ["Charged"] * 3 + ["Sealed"]
    assert [log.session_id for log in logs[:3]] == sessions
    for session in sessions:
        charged = hub.settlement.charged(session)
        assert (charged.cumulative, charged.count, charged.splits) == (100, 1, splits_hash(ordered(FIRST)))
    assert hub.settlement.total_charged() == 300
    roots = (IncrementalTree().root, epoch.receipts_root, epoch.payouts_root, IndexedTree().root)
    assert hub.outbox.sealed(1).root == logs[3].root == epoch_root(hub.sessions.chain_ref(), 1, *roots)


def test_settle__16_charges__fit(hub: Hub) -> None:
    hub.adopt()
    sessions = [hub.open(nonce=nonce) for nonce in range(16)]
    many = {f"payee {number}": number + 1 for number in range(32)}

    hub.settle(charges=[hub.charge_call(session, 1, many) for session in sessions])
    more = {name: amount + 1 for name, amount in many.items()}
    hub.settle(charges=[hub.charge_call(session, 2, more, many) for session in sessions])

    assert hub.settlement.total_charged() == 16 * sum(more.values())


def test_settle__nothing_to_charge__seals(hub: Hub) -> None:
    hub.adopt()

    hub.settle()
    hub.settle()

    assert hub.outbox.last_epoch() == 2
    assert events(hub.settlement, "Charged") == []


def test_settle__the_same_session_twice__charges_both_in_turn(hub: Hub) -> None:
    hub.adopt()
    session = hub.open()

    hub.settle(charges=[hub.charge_call(session, 1, FIRST), hub.charge_call(session, 2, SECOND, FIRST)])

    assert hub.settlement.charged(session).cumulative == hub.settlement.total_charged() == 200


def test_settle__one_charge_is_wrong__changes_nothing(hub: Hub) -> None:
    hub.adopt()
    session, other = hub.open(nonce=1), hub.open(nonce=2)
    hub.charge(other, 1, FIRST)

    with reverts("Settlement", "ChargeNotUp", 100, 1, 100, 1):
        hub.settle(charges=[hub.charge_call(session, 1, FIRST), hub.charge_call(other, 1, FIRST, FIRST)])
    assert hub.settlement.charged(session).cumulative == 0
    assert hub.settlement.total_charged() == 100
    assert hub.outbox.last_epoch() == 0


def test_settle__without_a_quorum__changes_nothing(hub: Hub) -> None:
    hub.adopt()
    session = hub.open()

    with reverts("Outbox", "NoQuorum", 65, 100):
        hub.settle(charges=[hub.charge_call(session, 1, FIRST)], signers=(ONE, THREE))
    assert hub.settlement.charged(session).cumulative == 0


def test_settle__with_no_valid_set__is_refused_but_charge_claim_direct_and_close_work(hub: Hub) -> None:
    session = hub.open(deposit=1_000)

    with reverts("Outbox", "SetExpired", 0, boa.env.timestamp + 2):
        hub.settle(charges=[hub.charge_call(session, 1, FIRST)])
    hub.charge(session, 1, FIRST)
    splits = [split.packed for split in ordered(FIRST)]
    assert sum(hub.settlement.claim_direct(session, splits, index) for index in range(2)) == 100
    boa.env.time_travel(20_000)
    hub.sessions.close(session)
    assert hub.dollar.balanceOf(hub.sessions.address) == 0


@pytest.mark.parametrize("epoch", [0, 2])
def test_settle__another_epoch_than_the_next__is_refused(hub: Hub, epoch: int) -> None:
    hub.adopt()
    boa.env.time_travel(blocks=5)
    wrong = hub.next_epoch(epoch=epoch)

    with reverts("Outbox", "EpochOutOfOrder", epoch, 1):
        hub.settlement.settle([], *as_abi(wrong), sign_all(hub.domain(hub.outbox), wrong), sender=account("anyone"))


def test_charge__alone__counts_into_total_charged(hub: Hub) -> None:
    session, other = hub.open(nonce=1), hub.open(nonce=2)

    hub.charge(session, 1, FIRST)
    hub.charge(session, 2, SECOND, FIRST)
    hub.charge(other, 1, FIRST)

    assert hub.settlement.total_charged() == 300
    assert hub.settlement.total_paid() == 0
