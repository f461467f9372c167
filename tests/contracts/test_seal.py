"""Sealed epochs: what a quorum signed, with the messages and children so far, under one root."""

from typing import Any

import boa
import pytest

from tests.contracts.conftest import (
    CHAIN,
    KEPT_EPOCHS,
    MAX_VALIDITY,
    ONE,
    QUORUM,
    REF,
    THREE,
    Hub,
    account,
    as_abi,
    contract,
    domain_of,
    make_hub,
    raw,
    reverts,
    sign_all,
    validator_set,
)
from tests.contracts.money import events
from tests.contracts.test_outbox import CHILD, ROOT, ROOT_2, attest_child, leaf, message
from tests.contracts.test_settle import seal_digest
from tristrata.protocol.epoch import epoch_root
from tristrata.protocol.ids import eip155
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.signing import Domain


def seal(hub: Hub, domain: Domain | None = None, signers: tuple[str, ...] = QUORUM, **changes: Any) -> bytes:
    """Seal the next epoch; ``changes`` come after the signatures were made."""
    epoch = hub.next_epoch()
    signatures = sign_all(domain or hub.domain(hub.outbox), epoch, signers)
    fields = dict(zip(epoch.__struct_fields__, as_abi(epoch), strict=True))
    return bytes(hub.outbox.seal(tuple({**fields, **changes}.values()), signatures, sender=account("anyone")))


def ready(hub: Hub) -> Hub:
    hub.adopt()
    boa.env.time_travel(blocks=10, block_delta=1)
    return hub


def test_seal__what_a_quorum_signed__is_the_root_that_protocol_makes(hub: Hub) -> None:
    ready(hub)
    messages, children = IncrementalTree(), IndexedTree()
    hub.outbox.add_child(CHILD, sender=hub.operator)

    for number in range(1, 4):
        boa.env.time_travel(blocks=2, block_delta=1)
        hub.outbox.send(CHILD, ROOT, b"hello", sender=account("sender"))
        messages = messages.append(message(number - 1, CHILD, "sender", ROOT, b"hello"))
        attest_child(hub, number)
        children = children.update(0, leaf(CHILD, number, ROOT))
        epoch = hub.next_epoch(payouts_root=ROOT_2)
        expected = epoch_root(REF, number, messages.root, epoch.receipts_root, ROOT_2, children.root)

        signatures = sign_all(hub.domain(hub.outbox), epoch)
        assert hub.outbox.seal(as_abi(epoch), signatures, sender=account("anyone")) == expected

        [event] = events(hub.outbox, "Sealed")
        assert (event.epoch, event.root, event.messages_root, event.receipts_root, event.payouts_root) == (
            number,
            expected,
            messages.root,
            epoch.receipts_root,
            ROOT_2,
        )
        assert (event.children_root, event.block_number, event.content) == (
            children.root,
            epoch.block_number,
            epoch.content,
        )
        digest = seal_digest(number, expected, ROOT_2, epoch.struct_hash)
        assert tuple(hub.outbox.sealed(number)) == (digest, False, boa.env.timestamp)
        assert hub.outbox.payable_from(number, expected, ROOT_2, epoch.struct_hash) == boa.env.timestamp
        assert (hub.outbox.last_epoch(), hub.outbox.last_block()) == (number, epoch.block_number)
    for number in (0, 4, 2**64 - 1):
        with reverts("Outbox", "EpochNotKept", number, 3, KEPT_EPOCHS):
            hub.outbox.sealed(number)


def test_seal__a_second_time__is_refused(hub: Hub) -> None:
    ready(hub)
    epoch = hub.next_epoch()
    signatures = sign_all(hub.domain(hub.outbox), epoch)
    hub.outbox.seal(as_abi(epoch), signatures, sender=account("stranger"))

    with reverts("Outbox", "EpochOutOfOrder", 1, 2):
        hub.outbox.seal(as_abi(epoch), signatures, sender=account("anyone"))


def test_seal__epoch_or_block_out_of_order__is_refused(hub: Hub) -> None:
    ready(hub)
    now = boa.env.evm.patch.block_number

    for number in (0, 2):
        with reverts("Outbox", "EpochOutOfOrder", number, 1):
            seal(hub, epoch=number)
    with reverts("Outbox", "BlockOutOfOrder", 0, 0):
        seal(hub, block_number=0)
    seal(hub)
    with reverts("Outbox", "EpochOutOfOrder", 1, 2):
        seal(hub, epoch=1)
    with reverts("Outbox", "BlockOutOfOrder", now - 1, now - 1):
        seal(hub, block_number=now - 1)


@pytest.mark.parametrize(
    "changes", [{"receipts_root": ROOT}, {"payouts_root": ROOT}, {"content": ROOT}, {"block_number": 1}]
)
def test_seal__other_than_what_was_signed__is_refused(hub: Hub, changes: dict[str, Any]) -> None:
    ready(hub)

    with reverts("Outbox", "NotValidator"):
        seal(hub, signers=(ONE,), **changes)


def test_seal__signed_for_another_outbox_chain_or_contract__is_refused(hub: Hub) -> None:
    ready(hub)
    ours = hub.domain(hub.outbox)
    elsewhere = contract("messaging/Outbox.vy", REF, hub.operator, hub.settlement.address, MAX_VALIDITY, KEPT_EPOCHS)

    for domain in (
        domain_of(elsewhere),
        domain_of(hub.settlement),
        Domain(eip155(2), REF, ours.contract),
        Domain(CHAIN, CHILD, ours.contract),
    ):
        with reverts("Outbox", "NotValidator"):
            seal(hub, domain, (ONE,))
    boa.env.evm.patch.chain_id = 2  # after a fork the old chain's signatures are worth nothing
    with reverts("Outbox", "NotValidator"):
        seal(hub, signers=(ONE,))
    seal(hub, Domain(eip155(2), REF, ours.contract))


def test_seal__signed_for_another_hub_of_the_same_validators__is_refused(hub: Hub) -> None:
    ready(hub)
    other = make_hub()
    ready(other)
    epoch = hub.next_epoch()
    signatures = sign_all(other.domain(other.outbox), epoch)

    with reverts("Outbox", "NotValidator"):
        hub.outbox.seal(as_abi(epoch), signatures)
    other.outbox.seal(as_abi(epoch), signatures)


def test_seal__without_a_quorum__is_refused(hub: Hub) -> None:
    ready(hub)
    epoch = hub.next_epoch()
    first, second = sign_all(hub.domain(hub.outbox), epoch)
    low, high = sorted(QUORUM, key=raw)

    def attempt(*signatures: tuple[bytes, bytes]) -> None:
        hub.outbox.seal(as_abi(epoch), list(signatures))

    with reverts("Outbox", "NoQuorum", 65, 100):
        seal(hub, signers=(ONE, THREE))
    with reverts("Outbox", "NoQuorum", 0, 100):
        attempt()
    with reverts("Outbox", "SignersUnsorted", account(low).lower()):
        attempt(second, first)
    with reverts("Outbox", "SignersUnsorted", account(high).lower()):
        attempt(first, second, second)
    with reverts("Outbox", "SignatureInvalid", 1):
        attempt(first, (second[0], b"\x7f" + b"\xff" * 31))
    with reverts("Outbox", "NotValidator", account("stranger").lower()):
        seal(hub, signers=("stranger",))
    boa.env.time_travel(10**6)
    until = hub.outbox.current().valid_until
    with reverts("Outbox", "SetExpired", until, boa.env.timestamp):
        seal(hub)


def test_seal__by_an_older_set__is_refused(hub: Hub) -> None:
    ready(hub)
    hub.adopt(validator_set(2, {"heir": 1}))

    with reverts("Outbox", "NotValidator"):
        seal(hub, signers=(ONE,))
    seal(hub, signers=("heir",))


# records take turns


def test_sealed__the_newest_epochs__are_kept(hub: Hub) -> None:
    ready(hub)
    for _ in range(2 * KEPT_EPOCHS + 3):
        boa.env.time_travel(blocks=1, block_delta=1)
        seal(hub)
    last = 2 * KEPT_EPOCHS + 3

    for epoch in range(last - KEPT_EPOCHS + 1, last + 1):
        assert hub.outbox.sealed(epoch).timestamp == boa.env.timestamp - (last - epoch)
    for epoch in (0, last - 2 * KEPT_EPOCHS, last - KEPT_EPOCHS, last + 1):
        with reverts("Outbox", "EpochNotKept", epoch, last, KEPT_EPOCHS):
            hub.outbox.sealed(epoch)


def test_sealed__a_vetoed_epochs_record__is_clean_for_the_next(hub: Hub) -> None:
    ready(hub)
    seal(hub)
    hub.outbox.stop_payouts(1, sender=hub.settlement.address)
    assert hub.outbox.sealed(1).vetoed
    for _ in range(KEPT_EPOCHS):
        boa.env.time_travel(blocks=1, block_delta=1)
        seal(hub)

    assert not hub.outbox.sealed(1 + KEPT_EPOCHS).vetoed


@pytest.mark.parametrize("kept", [1, 2**64 - 1])
def test_sealed__one_or_all_kept__keeps_them(hub: Hub, kept: int) -> None:
    outbox = contract("messaging/Outbox.vy", REF, hub.operator, hub.settlement.address, MAX_VALIDITY, kept)
    hub.outbox = outbox
    ready(hub)
    for _ in range(3):
        boa.env.time_travel(blocks=1, block_delta=1)
        seal(hub)

    assert hub.outbox.sealed(3).timestamp == boa.env.timestamp
    if kept == 1:
        with reverts("Outbox", "EpochNotKept", 2, 3, 1):
            hub.outbox.sealed(2)
    else:
        assert hub.outbox.sealed(1).timestamp == boa.env.timestamp - 2
    with reverts("Outbox", "EpochNotKept", 4, 3, kept):
        hub.outbox.sealed(4)
