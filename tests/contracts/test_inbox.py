"""What L1 says to a chain: super roots by number, and the random words in them."""

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.conftest import REF, account, contract, reverts
from tristrata.protocol.epoch import Lane, child_leaf
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import chain_ref, eip155
from tristrata.protocol.indexed_tree import IndexedTree

CHANGE_DELAY = 1_000
ROOT, ROOT_2 = b"\x77" * 32, b"\x88" * 32
WORD = b"\x99" * 32
# Stands where the validator set is, so that this test needs no stake: it finds every attestation well signed.
CONTENT_VALIDATORS = """
# pragma version 0.4.3
from shared import quorum

@external
@view
def require_quorum(digest: bytes32, signatures: DynArray[quorum.Signature, 32]) -> quorum.Set:
    return quorum.Set(number=1, root=empty(bytes32), total=2, valid_until=3)
"""
SET_LEAF = keccak(encode(["uint64", "bytes32", "uint256", "uint64"], [1, bytes(32), 2, 3]))


@pytest.fixture
def inbox() -> Any:
    with boa.env.prank(account("owner")):
        return contract("messaging/Inbox.vy", REF, account("portal"), CHANGE_DELAY)


def tree_with(word: bytes, *others: tuple[int, bytes]) -> IndexedTree:
    tree = IndexedTree().update(1, word)
    for index, leaf in others:
        tree = tree.update(index, leaf)
    return tree


def push(inbox: Any, number: int, root: bytes) -> None:
    inbox.push(number, root, sender=account("portal"))


def test_init__names_portal_and_chain(inbox: Any) -> None:
    assert (inbox.chain_ref(), inbox.portal(), inbox.owner()) == (REF, account("portal"), account("owner"))
    assert (inbox.newest(), inbox.change_delay()) == (0, CHANGE_DELAY)


@given(st.permutations([1, 2, 3, 9]))
def test_push__in_any_order__keeps_all(order: list[int]) -> None:
    with boa.env.anchor():
        inbox = contract("messaging/Inbox.vy", REF, account("portal"), CHANGE_DELAY)
        for done, number in enumerate(order, 1):
            push(inbox, number, keccak(bytes([number])))
            [event] = inbox.get_logs()
            assert (event.number, event.super_root) == (number, keccak(bytes([number])))
            assert inbox.newest() == max(order[:done])

        assert [inbox.super_root(number) for number in order] == [keccak(bytes([number])) for number in order]
        assert inbox.super_root(4) == bytes(32)


def test_push__same_number_twice__only_with_the_same_root(inbox: Any) -> None:
    push(inbox, 3, ROOT)

    push(inbox, 3, ROOT)
    assert inbox.get_logs() == []
    with reverts("Inbox", "SuperRootTaken", 3, ROOT, ROOT_2):
        push(inbox, 3, ROOT_2)
    assert inbox.super_root(3) == ROOT


def test_push__nothing__is_refused(inbox: Any) -> None:
    with reverts("Inbox", "NoSuperRoot", 0, ROOT):
        push(inbox, 0, ROOT)
    with reverts("Inbox", "NoSuperRoot", 1, bytes(32)):
        push(inbox, 1, bytes(32))


@pytest.mark.parametrize("name", ["owner", "stranger"])
def test_push__by_another__is_refused(inbox: Any, name: str) -> None:
    with reverts("Inbox", "NotPortal", account(name).lower()):
        inbox.push(1, ROOT, sender=account(name))


def test_push__while_paused__is_refused_and_what_is_there_can_be_proven(inbox: Any) -> None:
    tree = tree_with(WORD)
    push(inbox, 1, tree.root)
    inbox.pause(True, sender=account("owner"))

    with reverts("Inbox", "ContractPaused"):
        push(inbox, 2, ROOT)
    inbox.prove_randomness(1, WORD, list(tree.prove(1)))
    assert inbox.randomness(1) == WORD


def test_set_portal__announced__goes_over_after_the_delay(inbox: Any) -> None:
    call = keccak(b"set_portal(address)")[:4] + encode(["address"], [account("bridge")])
    with reverts("Inbox", "ChangeNotAnnounced", keccak(call)):
        inbox.set_portal(account("bridge"), sender=account("owner"))
    inbox.announce(keccak(call), sender=account("owner"))
    boa.env.time_travel(CHANGE_DELAY)

    with reverts("Inbox", "NotOwner", account("stranger").lower()):
        inbox.set_portal(account("bridge"), sender=account("stranger"))
    inbox.set_portal(account("bridge"), sender=account("owner"))

    assert inbox.get_logs()[-1].portal == inbox.portal() == account("bridge")
    with reverts("Inbox", "NotPortal", account("portal").lower()):
        push(inbox, 1, ROOT)
    inbox.push(1, ROOT, sender=account("bridge"))


@given(word=st.binary(min_size=32, max_size=32).filter(any), place=st.integers(2, 255), other=st.integers(0, 255))
def test_prove_randomness__any_tree__takes_only_place_one(word: bytes, place: int, other: int) -> None:
    with boa.env.anchor():
        inbox = contract("messaging/Inbox.vy", REF, account("portal"), CHANGE_DELAY)
        tree = tree_with(word, (0, ROOT), (place, ROOT_2))
        push(inbox, 5, tree.root)
        if other != 1 and any(tree.leaf(other)):
            with reverts("Inbox", "WrongProof"):
                inbox.prove_randomness(5, tree.leaf(other), list(tree.prove(other)))
        with reverts("Inbox", "WrongProof"):
            inbox.prove_randomness(5, keccak(word), list(tree.prove(1)))
        assert inbox.randomness(5) == bytes(32)

        inbox.prove_randomness(5, word, list(tree.prove(1)), sender=account("anyone"))

        [event] = inbox.get_logs()
        assert (event.number, event.randomness, inbox.randomness(5)) == (5, word, word)


def test_prove_randomness__twice__changes_nothing(inbox: Any) -> None:
    tree = tree_with(WORD)
    push(inbox, 1, tree.root)
    inbox.prove_randomness(1, WORD, list(tree.prove(1)))

    inbox.prove_randomness(1, WORD, list(tree.prove(1)))

    assert inbox.get_logs() == []
    assert inbox.randomness(1) == WORD


def test_prove_randomness__unknown_super_root__is_refused(inbox: Any) -> None:
    with reverts("Inbox", "SuperRootUnknown", 1):
        inbox.prove_randomness(1, WORD, list(tree_with(WORD).prove(1)))


def test_prove_randomness__root_without_a_random_word__is_refused(inbox: Any) -> None:
    tree = IndexedTree().update(0, ROOT)
    push(inbox, 1, tree.root)

    with reverts("Inbox", "NoRandomness", 1):
        inbox.prove_randomness(1, bytes(32), list(tree.prove(1)))


def test_prove_randomness__of_the_real_ledger__is_the_prevrandao_of_its_block(inbox: Any) -> None:
    validators = boa.loads(CONTENT_VALIDATORS)
    ledger = contract("security/CheckpointLedger.vy", REF, validators.address, 0)
    chain = chain_ref(eip155(8453))
    ledger.add_chain(chain, REF, bytes(32), bytes(32))
    boa.env.evm.patch.prevrandao = WORD
    ledger.attest(chain, 1, ROOT, [])
    tree = tree_with(WORD, (0, SET_LEAF), (2, child_leaf(chain, 1, ROOT, Lane.ATTESTED)))
    push(inbox, 1, ledger.super_root(1))

    inbox.prove_randomness(1, WORD, list(tree.prove(1)))

    assert inbox.randomness(1) == WORD
