"""The outbox's messages and children, against the trees of `protocol`."""

import boa
from eth_abi.abi import encode

from tests.contracts.conftest import (
    KEPT_EPOCHS,
    MAX_VALIDITY,
    ONE,
    QUORUM,
    REF,
    TWO,
    Hub,
    account,
    contract,
    domain_of,
    raw,
    reverts,
    sign_all,
)
from tests.contracts.money import events
from tristrata.protocol.attestation import Checkpoint
from tristrata.protocol.epoch import Lane, child_leaf
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ChainRef, chain_ref, eip155
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import IndexedTree

CHILD, OTHER = chain_ref(eip155(70_001)), chain_ref(eip155(70_002))
ROOT, ROOT_2 = b"\x77" * 32, b"\x88" * 32
MESSAGE_TYPES = ["bytes32", "uint64", "bytes32", "bytes32", "bytes32", "bytes"]


def attest_child(
    hub: Hub, epoch: int, root: bytes = ROOT, chain: bytes = CHILD, signers: tuple[str, ...] = QUORUM
) -> None:
    signatures = sign_all(hub.domain(hub.outbox), Checkpoint(ChainRef(chain), epoch, root), signers)
    hub.outbox.attest_child(chain, epoch, root, signatures, sender=account("anyone"))


def leaf(chain: bytes, epoch: int, root: bytes) -> bytes:
    return child_leaf(ChainRef(chain), epoch, root, Lane.ATTESTED)


def message(index: int, destination: bytes, sender: str, receiver: bytes, payload: bytes) -> bytes:
    """A message's leaf in the tree of messages."""
    return keccak(encode(MESSAGE_TYPES, [REF, index, destination, raw(sender).rjust(32, b"\0"), receiver, payload]))


# messages


def test_send__messages__make_the_tree_that_protocol_makes(hub: Hub) -> None:
    tree = IncrementalTree()
    assert hub.outbox.messages_root() == tree.root

    for index in range(9):
        sender, payload = f"sender {index}", b"\x5a" * (index * 128)
        assert hub.outbox.send(CHILD, ROOT, payload, sender=account(sender)) == index
        [event] = events(hub.outbox, "Sent")
        assert (event.index, event.destination, event.sender) == (index, CHILD, account(sender))
        assert (event.receiver, event.payload) == (ROOT, payload)
        tree = tree.append(message(index, CHILD, sender, ROOT, payload))
        assert hub.outbox.messages_root() == tree.root
        assert hub.outbox.message_count() == tree.count


def test_send__into_a_full_tree__is_refused(hub: Hub) -> None:
    boa.env.evm.set_storage(hub.outbox._address, count_slot(hub), 2**32 - 2)

    assert hub.outbox.send(CHILD, ROOT, b"last") == 2**32 - 2
    with reverts("Outbox", "TreeFull", 2**32 - 1):
        hub.outbox.send(CHILD, ROOT, b"one too many")


def count_slot(hub: Hub) -> int:
    layout = hub.outbox.compiler_data.storage_layout["storage_layout"]
    return int(layout["message_tree"]["_count"]["slot"])


# children


def test_add_child__by_the_inbox__takes_the_next_index(hub: Hub) -> None:
    assert [hub.outbox.add_child(chain, sender=hub.operator) for chain in (CHILD, OTHER)] == [0, 1]

    assert tuple(hub.outbox.child(OTHER)) == (True, 1, 0, 0)
    assert tuple(hub.outbox.child(REF)) == (False, 0, 0, 0)
    assert hub.outbox.children_root() == IndexedTree().root
    with reverts("Outbox", "ChainExists", CHILD):
        hub.outbox.add_child(CHILD, sender=hub.operator)
    with reverts("Outbox", "NotInbox", account("stranger").lower()):
        hub.outbox.add_child(b"\x01" * 32, sender=account("stranger"))


def test_add_child__a_257th__is_refused(hub: Hub) -> None:
    hub.adopt()
    chains = [keccak(bytes([number])) for number in range(256)]
    for index, chain in enumerate(chains):
        assert hub.outbox.add_child(chain, sender=hub.operator) == index

    with reverts("Outbox", "TreeFull", 256):
        hub.outbox.add_child(CHILD, sender=hub.operator)
    attest_child(hub, 1, chain=chains[255])
    assert hub.outbox.children_root() == IndexedTree().update(255, leaf(chains[255], 1, ROOT)).root


def test_attest_child__epochs_one_by_one__are_each_sealed(hub: Hub) -> None:
    hub.adopt()
    for chain in (CHILD, OTHER):
        hub.outbox.add_child(chain, sender=hub.operator)
    tree = IndexedTree()

    for epoch in range(1, 4):
        for index, chain in enumerate((CHILD, OTHER)):
            root = keccak(chain + bytes([epoch]))
            attest_child(hub, epoch, root, chain)
            [event] = events(hub.outbox, "ChildAttested")
            assert (event.chain, event.epoch, event.root) == (chain, epoch, root)
            tree = tree.update(index, leaf(chain, epoch, root))
            assert hub.outbox.children_root() == tree.root
            assert tuple(hub.outbox.child(chain)) == (True, index, epoch, epoch - 1)
        hub.settle()


def test_attest_child__out_of_order__is_refused(hub: Hub) -> None:
    hub.adopt()
    hub.outbox.add_child(CHILD, sender=hub.operator)

    for epoch in (0, 2):
        with reverts("Outbox", "EpochOutOfOrder", epoch, 1):
            attest_child(hub, epoch)
    attest_child(hub, 1)
    hub.settle()
    for epoch in (1, 3):
        with reverts("Outbox", "EpochOutOfOrder", epoch, 2):
            attest_child(hub, epoch, ROOT_2)


def test_attest_child__before_the_last_is_sealed__is_refused(hub: Hub) -> None:
    hub.adopt()
    hub.outbox.add_child(CHILD, sender=hub.operator)
    hub.settle()
    hub.settle()
    attest_child(hub, 1)

    with reverts("Outbox", "ChildNotSealed", CHILD, 1):
        attest_child(hub, 2)
    hub.settle()
    attest_child(hub, 2)
    with reverts("Outbox", "ChildNotSealed", CHILD, 2):
        attest_child(hub, 3)


def test_attest_child__unknown_or_zero_root__is_refused(hub: Hub) -> None:
    hub.adopt()

    with reverts("Outbox", "ChainUnknown", CHILD):
        attest_child(hub, 1)
    hub.outbox.add_child(CHILD, sender=hub.operator)
    with reverts("Outbox", "NothingSealed", CHILD, 1, bytes(32)):
        attest_child(hub, 1, bytes(32))


def test_deploy__no_epochs_kept__is_refused(hub: Hub) -> None:
    with reverts("Outbox", "NoEpochsKept", 0):
        contract("messaging/Outbox.vy", REF, hub.operator, hub.settlement.address, MAX_VALIDITY, 0)


def test_attest_child__signed_for_something_else__is_refused(hub: Hub) -> None:
    hub.adopt()
    for chain in (CHILD, OTHER):
        hub.outbox.add_child(chain, sender=hub.operator)
    ours = hub.domain(hub.outbox)
    elsewhere = contract("messaging/Outbox.vy", REF, hub.operator, hub.settlement.address, MAX_VALIDITY, KEPT_EPOCHS)

    for domain, signed in (
        (domain_of(elsewhere), Checkpoint(CHILD, 1, ROOT)),
        (ours, Checkpoint(OTHER, 1, ROOT)),
        (ours, Checkpoint(CHILD, 2, ROOT)),
        (ours, Checkpoint(CHILD, 1, ROOT_2)),
    ):
        with reverts("Outbox", "NotValidator"):
            hub.outbox.attest_child(CHILD, 1, ROOT, sign_all(domain, signed, (ONE,)))
    with reverts("Outbox", "NoQuorum", 35, 100):
        attest_child(hub, 1, signers=(TWO,))
