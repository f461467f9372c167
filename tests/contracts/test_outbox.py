"""The outbox: its validator set, messages, children, and sealed epochs, against the trees of `protocol`."""

from typing import Any

import boa
import pytest
from coincurve.utils import GROUP_ORDER_INT
from eth_abi.abi import encode

from tests.contracts.conftest import (
    CHAIN,
    ONE,
    QUORUM,
    REF,
    THREE,
    TWO,
    WEIGHTS,
    Hub,
    account,
    as_abi,
    contract,
    domain_of,
    raw,
    reverts,
    sign_all,
    validator_set,
)
from tristrata.protocol.attestation import Checkpoint, ValidatorSet
from tristrata.protocol.epoch import Lane, child_leaf, epoch_root
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ChainRef, chain_ref, eip155
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.signing import Domain

CHILD, OTHER = chain_ref(eip155(70_001)), chain_ref(eip155(70_002))
ROOT, ROOT_2 = b"\x77" * 32, b"\x88" * 32
HEIRS = {"heir one": 50, "heir two": 50}


def events(hub: Hub, name: str) -> list[Any]:
    return [log for log in hub.outbox.get_logs() if type(log).__name__ == name]


def advance(hub: Hub, following: ValidatorSet, signers: tuple[str, ...] = QUORUM, **changes: Any) -> None:
    signatures = sign_all(hub.domain(hub.outbox), following.succession, signers)
    fields = {"number": following.number, "valid_until": following.valid_until, "members": list(following.packed)}
    hub.outbox.advance(*{**fields, **changes}.values(), signatures, sender=account("anyone"))


def attest_child(
    hub: Hub, epoch: int, root: bytes = ROOT, chain: bytes = CHILD, signers: tuple[str, ...] = QUORUM
) -> None:
    signatures = sign_all(hub.domain(hub.outbox), Checkpoint(ChainRef(chain), epoch, root), signers)
    hub.outbox.attest_child(chain, epoch, root, signatures, sender=account("anyone"))


def leaf(chain: bytes, epoch: int, root: bytes) -> bytes:
    return child_leaf(ChainRef(chain), epoch, root, Lane.ATTESTED)


# the set


def test_set_from_l1__by_the_inbox__is_the_current_set(hub: Hub) -> None:
    assert tuple(hub.outbox.current()) == (0, bytes(32), 0, 0)

    adopted = hub.adopt(validator_set(7))

    [event] = events(hub, "SetAdopted")
    assert tuple(hub.outbox.current()) == (7, adopted.root, 100, adopted.valid_until)
    assert (event.number, event.root, event.total, event.valid_until) == (7, adopted.root, 100, adopted.valid_until)
    assert tuple(event.members) == adopted.packed
    assert {name: hub.outbox.member_weight(7, account(name)) for name in WEIGHTS} == WEIGHTS
    assert hub.outbox.member_weight(6, account(ONE)) == 0


def test_set_from_l1__by_another_or_not_newer__is_refused(hub: Hub) -> None:
    members = list(validator_set().packed)

    with reverts("Outbox", "NotInbox", account("stranger").lower()):
        hub.outbox.set_from_l1(1, 2**63, members, sender=account("stranger"))
    hub.adopt(validator_set(7))
    for number in (7, 6, 0):
        with reverts("Outbox", "SetNotNewer", number, 7):
            hub.outbox.set_from_l1(number, 2**63, members, sender=hub.operator)


def test_set_from_l1__malformed_or_expired__is_refused(hub: Hub) -> None:
    members, now = list(validator_set().packed), boa.env.timestamp
    first = members[0] >> 96

    def deliver(words: list[int], until: int = now) -> None:
        hub.outbox.set_from_l1(1, until, words, sender=hub.operator)

    with reverts("Outbox", "SetExpired", now - 1, now):
        deliver(members, now - 1)
    with reverts("Outbox", "SetEmpty", 1):
        deliver([])
    with reverts("Outbox", "MembersUnsorted", f"0x{members[1] >> 96:040x}"):
        deliver([members[0], members[2], members[1]])
    with reverts("Outbox", "MembersUnsorted", f"0x{first:040x}"):
        deliver([members[0], members[0]])
    with reverts("Outbox", "MembersUnsorted", f"0x{first:040x}"):
        deliver([first << 96 | 1, first << 96 | 2])  # ascending words, but one signer
    with reverts("Outbox", "MembersUnsorted", "0x" + "00" * 20):
        deliver([5])
    with reverts("Outbox", "ZeroWeight", f"0x{first:040x}"):
        deliver([first << 96])
    deliver(members)


def test_advance__signed_by_the_outgoing_set__hands_over(hub: Hub) -> None:
    hub.adopt()
    following = validator_set(2, HEIRS)

    advance(hub, following)

    assert tuple(hub.outbox.current()) == (2, following.root, 100, following.valid_until)
    assert hub.outbox.is_validator(account("heir one"))
    assert not hub.outbox.is_validator(account(ONE))
    with reverts("Outbox", "NotValidator"):
        advance(hub, validator_set(3), QUORUM)
    advance(hub, validator_set(9), tuple(HEIRS))


def test_advance__not_what_was_signed__is_refused(hub: Hub) -> None:
    hub.adopt()
    following = validator_set(2, HEIRS)
    changes: list[dict[str, Any]] = [
        {"number": 3},
        {"valid_until": following.valid_until + 1},
        {"members": list(validator_set(2, {"heir one": 50, "heir two": 51}).packed)},
        {"members": list(validator_set(2, {"heir one": 50, "heir three": 50}).packed)},
    ]

    for change in changes:
        with reverts("Outbox", "NotValidator"):
            advance(hub, following, (ONE,), **change)
    with reverts("Outbox", "NoQuorum", 65, 100):
        advance(hub, following, (ONE, THREE))
    with reverts("Outbox", "SetNotNewer", 1, 1):
        advance(hub, validator_set(1, HEIRS))


def test_advance__without_a_valid_set__waits_for_the_inbox(hub: Hub) -> None:
    now = boa.env.timestamp
    with reverts("Outbox", "SetExpired", 0, now):
        advance(hub, validator_set(1, HEIRS))
    hub.adopt(validator_set(1, valid_until=now + 10))
    boa.env.time_travel(11)
    with reverts("Outbox", "SetExpired", now + 10, now + 11):
        advance(hub, validator_set(2, HEIRS))
    assert not hub.outbox.is_validator(account(ONE))
    hub.adopt(validator_set(2))
    assert hub.outbox.is_validator(account(ONE))


# messages


def test_send__messages__make_the_tree_that_protocol_makes(hub: Hub) -> None:
    tree = IncrementalTree()
    assert hub.outbox.messages_root() == tree.root

    for index in range(9):
        sender, payload = f"sender {index}", b"\x5a" * (index * 128)
        assert hub.outbox.send(CHILD, ROOT, payload, sender=account(sender)) == index
        [event] = events(hub, "Sent")
        assert (event.index, event.destination, event.sender) == (index, CHILD, account(sender))
        assert (event.receiver, event.payload) == (ROOT, payload)
        types = ["bytes32", "uint64", "bytes32", "bytes32", "bytes32", "bytes"]
        tree = tree.append(keccak(encode(types, [REF, index, CHILD, raw(sender).rjust(32, b"\0"), ROOT, payload])))
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
            [event] = events(hub, "ChildAttested")
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


def test_attest_child__signed_for_something_else__is_refused(hub: Hub) -> None:
    hub.adopt()
    for chain in (CHILD, OTHER):
        hub.outbox.add_child(chain, sender=hub.operator)
    ours = hub.domain(hub.outbox)
    ledger = contract("security/CheckpointLedger.vy", REF, hub.outbox.address)

    for domain, signed in (
        (domain_of(ledger), Checkpoint(CHILD, 1, ROOT)),
        (ours, Checkpoint(OTHER, 1, ROOT)),
        (ours, Checkpoint(CHILD, 2, ROOT)),
        (ours, Checkpoint(CHILD, 1, ROOT_2)),
    ):
        with reverts("Outbox", "NotValidator"):
            hub.outbox.attest_child(CHILD, 1, ROOT, sign_all(domain, signed, (ONE,)))
    with reverts("Outbox", "NoQuorum", 35, 100):
        attest_child(hub, 1, signers=(TWO,))


# sealing


def seal(hub: Hub, domain: Domain | None = None, signers: tuple[str, ...] = QUORUM, **changes: Any) -> bytes:
    """Seal as `Settlement` would; ``changes`` come after the signatures were made."""
    epoch = hub.next_epoch()
    signatures = sign_all(domain or hub.domain(hub.outbox), epoch, signers)
    fields = dict(zip(epoch.__struct_fields__, as_abi(epoch), strict=True))
    return bytes(hub.outbox.seal(*{**fields, **changes}.values(), signatures, sender=hub.settlement.address))


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
        sender = raw("sender").rjust(32, b"\0")
        types = ["bytes32", "uint64", "bytes32", "bytes32", "bytes32", "bytes"]
        messages = messages.append(keccak(encode(types, [REF, number - 1, CHILD, sender, ROOT, b"hello"])))
        attest_child(hub, number)
        children = children.update(0, leaf(CHILD, number, ROOT))
        epoch = hub.next_epoch(payouts_root=ROOT_2)
        expected = epoch_root(REF, number, messages.root, epoch.receipts_root, ROOT_2, children.root)

        signatures = sign_all(hub.domain(hub.outbox), epoch)
        assert hub.outbox.seal(*as_abi(epoch), signatures, sender=hub.settlement.address) == expected

        [event] = events(hub, "Sealed")
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
        assert tuple(hub.outbox.sealed(number)) == (expected, ROOT_2, boa.env.timestamp)
        assert (hub.outbox.last_epoch(), hub.outbox.last_block()) == (number, epoch.block_number)
    assert tuple(hub.outbox.sealed(4)) == (bytes(32), bytes(32), 0)


def test_seal__by_another_than_settlement__is_refused(hub: Hub) -> None:
    ready(hub)
    epoch = hub.next_epoch()
    signatures = sign_all(hub.domain(hub.outbox), epoch)

    for name in (account("stranger"), hub.operator):
        with reverts("Outbox", "NotSettlement", name.lower()):
            hub.outbox.seal(*as_abi(epoch), signatures, sender=name)


def test_seal__epoch_or_block_out_of_order__is_refused(hub: Hub) -> None:
    ready(hub)
    now = boa.env.evm.patch.block_number

    for number in (0, 2):
        with reverts("Outbox", "EpochOutOfOrder", number, 1):
            seal(hub, epoch=number)
    for block in (0, now, now + 1):
        with reverts("Outbox", "BlockOutOfRange", block, 0, now):
            seal(hub, block_number=block)
    seal(hub)
    with reverts("Outbox", "EpochOutOfOrder", 1, 2):
        seal(hub, epoch=1)
    with reverts("Outbox", "BlockOutOfRange", now - 1, now - 1, now):
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
    elsewhere = contract("messaging/Outbox.vy", REF, hub.operator, hub.settlement.address)

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


def test_seal__without_a_quorum__is_refused(hub: Hub) -> None:
    ready(hub)
    epoch = hub.next_epoch()
    domain = hub.domain(hub.outbox)
    first, second = sign_all(domain, epoch)
    s = int.from_bytes(second[32:64], "big")
    high_s = second[:32] + (GROUP_ORDER_INT - s).to_bytes(32, "big") + bytes([27 + 28 - second[64]])

    def attempt(*signatures: bytes) -> None:
        hub.outbox.seal(*as_abi(epoch), list(signatures), sender=hub.settlement.address)

    low, high = sorted(QUORUM, key=raw)
    with reverts("Outbox", "NoQuorum", 65, 100):
        seal(hub, signers=(ONE, THREE))
    with reverts("Outbox", "NoQuorum", 0, 100):
        attempt()
    with reverts("Outbox", "SignersUnsorted", account(low).lower()):
        attempt(second, first)
    with reverts("Outbox", "SignersUnsorted", account(high).lower()):
        attempt(first, second, second)
    with reverts("Outbox", "SignatureInvalid", 1):
        attempt(first, high_s)
    with reverts("Outbox", "NotValidator", account("stranger").lower()):
        seal(hub, signers=("stranger",))
    boa.env.time_travel(10**6)
    until = hub.outbox.current().valid_until
    with reverts("Outbox", "SetExpired", until, boa.env.timestamp):
        seal(hub)
