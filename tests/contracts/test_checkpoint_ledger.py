"""The ledger of epochs, and its super roots, against the trees of `protocol`."""

from functools import cache
from typing import Any

import boa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.conftest import (
    CHAIN,
    ONE,
    QUORUM,
    REF,
    THREE,
    TWO,
    Validators,
    account,
    contract,
    domain_of,
    key,
    reverts,
    sign_all,
)
from tristrata.protocol.attestation import Checkpoint, NextSet
from tristrata.protocol.epoch import Lane, child_leaf
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ChainRef, chain_ref, eip155
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.signing import Domain, compact, digest, sign

HUB, OTHER = chain_ref(eip155(8453)), chain_ref(eip155(42161))
ROOT, ROOT_2 = b"\x77" * 32, b"\x88" * 32
OUTBOX, SETTLEMENT = b"\x0b" * 32, b"\x05" * 32


class Ledger:
    """The ledger with two chains, and the super tree as `protocol` has it."""

    def __init__(self, validators: Validators) -> None:
        self.validators = validators
        self.owner, self.bridge = validators.owner, validators.bridge
        self.contract = validators.ledger
        with boa.env.prank(self.owner):
            assert self.contract.add_chain(HUB, REF, OUTBOX, SETTLEMENT) == 2
            assert self.contract.add_chain(OTHER, HUB, bytes(32), bytes(32)) == 3
        validators.change(self.contract, "set_hub", self.bridge)
        self.tree = IndexedTree()

    def attest(self, chain: bytes, epoch: int, root: bytes = ROOT, signers: tuple[str, ...] = QUORUM) -> None:
        signatures = sign_all(domain_of(self.contract), Checkpoint(ChainRef(chain), epoch, root), signers)
        self.contract.attest(chain, epoch, root, signatures, sender=account("anyone"))

    def add(self, chain: bytes) -> int:
        return int(self.contract.add_chain(chain, REF, bytes(32), bytes(32), sender=self.owner))

    def finalize(self, chain: bytes, epoch: int, root: bytes = ROOT) -> None:
        self.contract.finalize(chain, epoch, root, sender=self.bridge)

    def expect(self, *leaves: tuple[int, bytes]) -> bytes:
        """The super root, once these leaves and those of set and randomness are put in."""
        number, root, total, until = self.validators.set.current()
        own = [(0, NextSet(number, root, total, until).leaf), (1, bytes(boa.env.evm.patch.prevrandao))]
        for index, leaf in (*own, *leaves):
            self.tree = self.tree.update(index, leaf)
        return self.tree.root

    def shows(self, *leaves: tuple[int, bytes]) -> bool:
        """Whether the newest super root is over these leaves, and those before."""
        newest: bytes = self.contract.super_root(self.contract.super_number())
        return newest == self.expect(*leaves)


@pytest.fixture
def ledger(published: Validators) -> Ledger:
    return Ledger(published)


def leaf(chain: bytes, epoch: int, root: bytes, lane: Lane = Lane.ATTESTED) -> bytes:
    return child_leaf(ChainRef(chain), epoch, root, lane)


def test_add_chain__by_the_owner__takes_the_next_index(ledger: Ledger) -> None:
    assert tuple(ledger.contract.chain(HUB)) == (2, 0, 0)
    assert tuple(ledger.contract.chain(OTHER)) == (3, 0, 0)
    assert tuple(ledger.contract.chain(REF)) == (0, 0, 0)
    assert ledger.contract.parent_of(OTHER) == HUB
    assert (ledger.contract.outbox_separator_of(HUB), ledger.contract.settlement_of(HUB)) == (OUTBOX, SETTLEMENT)


def test_add_chain__twice_or_by_a_stranger__is_refused(ledger: Ledger) -> None:
    with reverts("CheckpointLedger", "ChainExists", HUB):
        ledger.contract.add_chain(HUB, REF, OUTBOX, SETTLEMENT, sender=ledger.owner)
    with reverts("CheckpointLedger", "NotOwner", account("stranger").lower()):
        ledger.contract.add_chain(b"\x01" * 32, REF, OUTBOX, SETTLEMENT, sender=account("stranger"))


def test_add_chain__a_255th__is_refused(ledger: Ledger) -> None:
    for number in range(252):
        assert ledger.add(keccak(bytes([number]))) == 4 + number

    with reverts("CheckpointLedger", "TreeFull", 256):
        ledger.add(b"\x01" * 32)
    last = keccak(bytes([251]))
    ledger.attest(last, 1)
    assert ledger.contract.super_root(1) == ledger.expect((255, leaf(last, 1, ROOT)))


def test_checkpoint_digest__three_levels__is_the_ledgers_or_the_parents_outboxs(ledger: Ledger) -> None:
    below = keccak(b"chain below one without outbox")
    ledger.contract.add_chain(below, OTHER, bytes(32), bytes(32), sender=ledger.owner)
    own = domain_of(ledger.contract).separator

    for chain, separator in ((HUB, own), (OTHER, OUTBOX)):
        hashed = Checkpoint(ChainRef(chain), 1, ROOT).struct_hash
        assert ledger.contract.checkpoint_digest(chain, 1, ROOT) == digest(separator, hashed)
        assert ledger.contract.attestation_digest(chain, 1, ROOT) == digest(own, hashed)
    with reverts("CheckpointLedger", "NoOutbox", OTHER):
        ledger.contract.checkpoint_digest(below, 1, ROOT)
    with reverts("CheckpointLedger", "ChainUnknown", REF):
        ledger.contract.checkpoint_digest(REF, 1, ROOT)


def test_attest__grandchild__is_signed_for_the_ledger_and_not_for_its_parent(ledger: Ledger) -> None:
    parents = [compact(sign(key(name), digest(OUTBOX, Checkpoint(OTHER, 1, ROOT).struct_hash))) for name in QUORUM]

    with reverts("CheckpointLedger", "NotValidator"):
        ledger.contract.attest(OTHER, 1, ROOT, parents)
    ledger.attest(OTHER, 1)
    assert ledger.contract.checkpoint(OTHER, 1).root == ROOT


def test_ownership__handed_on__takes_two_steps(ledger: Ledger) -> None:
    ledger.contract.transfer_ownership(account("next owner"), sender=ledger.owner)

    assert ledger.contract.owner() == ledger.owner
    assert ledger.contract.pending_owner() == account("next owner")
    ledger.contract.accept_ownership(sender=account("next owner"))
    assert ledger.contract.owner() == account("next owner")


def test_attest__signed_by_a_quorum__is_on_record_and_in_a_new_super_root(ledger: Ledger) -> None:
    boa.env.evm.patch.prevrandao = b"\x99" * 32

    ledger.attest(HUB, 1)

    attested, super_root = ledger.contract.get_logs()
    assert tuple(ledger.contract.checkpoint(HUB, 1)) == (ROOT, Lane.ATTESTED, boa.env.timestamp)
    assert tuple(ledger.contract.checkpoint(HUB, 2)) == (bytes(32), Lane.NONE, 0)
    assert tuple(ledger.contract.chain(HUB)) == (2, 1, 0)
    expected = ledger.expect((2, leaf(HUB, 1, ROOT)))
    assert ledger.contract.super_number() == 1
    assert ledger.contract.super_root(1) == expected
    assert (attested.chain, attested.epoch, attested.root, attested.super_number) == (HUB, 1, ROOT, 1)
    assert (super_root.number, super_root.root) == (1, expected)


def test_attest__again__keeps_every_old_super_root(ledger: Ledger) -> None:
    expected = []
    for epoch in range(1, 4):
        for chain, index in ((HUB, 2), (OTHER, 3)):
            boa.env.evm.patch.prevrandao = keccak(bytes([epoch]))
            ledger.attest(chain, epoch, keccak(chain))
            expected.append(ledger.expect((index, leaf(chain, epoch, keccak(chain)))))

    assert len(set(expected)) == 6
    assert [ledger.contract.super_root(number) for number in range(1, 7)] == expected
    assert ledger.contract.super_root(7) == bytes(32)


def test_attest__an_older_epoch_late__is_on_record_but_not_in_the_leaf(ledger: Ledger) -> None:
    ledger.attest(HUB, 5)
    boa.env.time_travel(10)
    ledger.attest(HUB, 3, ROOT_2)

    assert tuple(ledger.contract.checkpoint(HUB, 3)) == (ROOT_2, Lane.ATTESTED, boa.env.timestamp)
    assert tuple(ledger.contract.chain(HUB)) == (2, 5, 0)
    assert ledger.contract.super_number() == 2
    assert ledger.contract.super_root(2) == ledger.expect((2, leaf(HUB, 5, ROOT)))


def test_attest__after_a_new_set__has_it_in_the_super_root(ledger: Ledger) -> None:
    ledger.attest(HUB, 1)
    ledger.validators.register("validator four", 100)
    ledger.validators.activate()
    ledger.validators.publish(ONE, TWO, THREE, "validator four")

    with reverts("ValidatorSet", "NoQuorum", 100, 200):
        ledger.attest(HUB, 2, signers=(ONE, TWO, THREE))
    ledger.attest(HUB, 2, signers=(ONE, "validator four"))
    assert ledger.validators.set.current().number == 2
    assert ledger.contract.super_root(2) == ledger.expect((2, leaf(HUB, 2, ROOT)))


def test_attest__an_epoch_on_record__is_refused_whatever_its_root(ledger: Ledger) -> None:
    ledger.attest(HUB, 1)

    for root in (ROOT, ROOT_2):
        with reverts("CheckpointLedger", "AlreadyAttested", HUB, 1):
            ledger.attest(HUB, 1, root, (ONE, TWO, THREE))
    assert ledger.contract.checkpoint(HUB, 1).root == ROOT


def test_attest__unknown_chain_zero_root_or_epoch__is_refused(ledger: Ledger) -> None:
    with reverts("CheckpointLedger", "ChainUnknown", REF):
        ledger.attest(REF, 1)
    with reverts("CheckpointLedger", "NothingSealed", HUB, 1, bytes(32)):
        ledger.attest(HUB, 1, bytes(32))
    with reverts("CheckpointLedger", "NothingSealed", HUB, 0, ROOT):
        ledger.attest(HUB, 0)


def test_attest__paused__is_refused_and_finalize_goes_on(ledger: Ledger) -> None:
    ledger.contract.pause(True, sender=ledger.owner)

    with reverts("CheckpointLedger", "ContractPaused", ledger.contract.address.lower()):
        ledger.attest(HUB, 1)
    ledger.finalize(HUB, 1)
    ledger.contract.pause(False, sender=ledger.owner)
    ledger.attest(HUB, 2)


def test_finalize__nothing_known__is_final_and_in_a_new_super_root(ledger: Ledger) -> None:
    boa.env.evm.patch.prevrandao = b"\x99" * 32

    ledger.finalize(HUB, 4)

    finalized, super_root = ledger.contract.get_logs()
    assert tuple(ledger.contract.checkpoint(HUB, 4)) == (ROOT, Lane.FINAL, boa.env.timestamp)
    assert tuple(ledger.contract.chain(HUB)) == (2, 4, 4)
    expected = ledger.expect((2, leaf(HUB, 4, ROOT, Lane.FINAL)))
    assert (finalized.chain, finalized.epoch, finalized.root, finalized.super_number) == (HUB, 4, ROOT, 1)
    assert (super_root.number, super_root.root) == (1, expected)
    assert ledger.contract.super_root(1) == expected


def test_finalize__before_any_set__needs_none(validators: Validators) -> None:
    ledger = Ledger(validators)

    ledger.finalize(HUB, 1)

    tree = IndexedTree().update(1, bytes(boa.env.evm.patch.prevrandao))
    assert ledger.contract.super_root(1) == tree.update(2, leaf(HUB, 1, ROOT, Lane.FINAL)).root


def test_finalize__attested_and_the_same__changes_lane_time_and_leaf(ledger: Ledger) -> None:
    ledger.attest(HUB, 4)
    boa.env.time_travel(10)

    ledger.finalize(HUB, 4)

    assert tuple(ledger.contract.checkpoint(HUB, 4)) == (ROOT, Lane.FINAL, boa.env.timestamp)
    assert ledger.shows((2, leaf(HUB, 4, ROOT, Lane.FINAL)))
    assert not ledger.contract.frozen(HUB)
    assert ledger.contract.convicted(HUB, 4) == bytes(32)


def test_finalize__an_older_epoch__leaves_the_leaf(ledger: Ledger) -> None:
    ledger.attest(HUB, 4)
    ledger.attest(HUB, 3)

    ledger.finalize(HUB, 3)
    assert tuple(ledger.contract.chain(HUB)) == (2, 4, 3)
    assert ledger.shows((2, leaf(HUB, 4, ROOT)))
    ledger.finalize(HUB, 4)
    ledger.finalize(HUB, 2, ROOT_2)
    assert tuple(ledger.contract.chain(HUB)) == (2, 4, 4)
    assert ledger.shows((2, leaf(HUB, 4, ROOT, Lane.FINAL)))


def test_finalize__contradicts_the_attested__supersedes_convicts_and_freezes(ledger: Ledger) -> None:
    ledger.attest(HUB, 4)

    ledger.finalize(HUB, 4, ROOT_2)

    convicted, frozen, finalized, _ = ledger.contract.get_logs()
    assert (convicted.chain, convicted.epoch, convicted.attested_root, convicted.final_root) == (HUB, 4, ROOT, ROOT_2)
    assert (frozen.chain, frozen.frozen, finalized.root) == (HUB, True, ROOT_2)
    assert tuple(ledger.contract.checkpoint(HUB, 4)) == (ROOT_2, Lane.FINAL, boa.env.timestamp)
    assert (ledger.contract.convicted(HUB, 4), ledger.contract.frozen(HUB)) == (ROOT, True)
    assert ledger.shows((2, leaf(HUB, 4, ROOT_2, Lane.FINAL)))
    with reverts("CheckpointLedger", "ChainFrozen", HUB):
        ledger.attest(HUB, 5)
    ledger.attest(OTHER, 1)
    ledger.finalize(HUB, 5)
    assert ledger.shows((2, leaf(HUB, 5, ROOT, Lane.FINAL)), (3, leaf(OTHER, 1, ROOT)))


def test_finalize__contradicts_an_older_one__the_leaf_falls_back_to_what_is_final(ledger: Ledger) -> None:
    for epoch in (3, 4, 5, 6):
        ledger.attest(HUB, epoch)
    ledger.finalize(HUB, 5)
    assert ledger.shows((2, leaf(HUB, 6, ROOT)))

    ledger.finalize(HUB, 4, ROOT_2)

    assert ledger.shows((2, leaf(HUB, 5, ROOT, Lane.FINAL)))
    assert tuple(ledger.contract.chain(HUB)) == (2, 5, 5)
    ledger.finalize(HUB, 3, ROOT_2)
    assert [type(log).__name__ for log in ledger.contract.get_logs()] == ["Convicted", "Finalized", "SuperRoot"]
    assert ledger.contract.checkpoint(HUB, 6).root == ROOT
    ledger.finalize(HUB, 6)
    assert ledger.shows((2, leaf(HUB, 6, ROOT, Lane.FINAL)))


def test_finalize__again_or_otherwise__never_changes_it(ledger: Ledger) -> None:
    ledger.attest(HUB, 4)
    ledger.finalize(HUB, 4)

    for root in (ROOT, ROOT_2):
        with reverts("CheckpointLedger", "AlreadyFinal", HUB, 4):
            ledger.finalize(HUB, 4, root)
        with reverts("CheckpointLedger", "AlreadyAttested", HUB, 4):
            ledger.attest(HUB, 4, root)
    assert ledger.contract.checkpoint(HUB, 4).root == ROOT


def test_finalize__unknown_chain_zero_root_or_another_sender__is_refused(ledger: Ledger) -> None:
    with reverts("CheckpointLedger", "NotHub", ledger.owner.lower()):
        ledger.contract.finalize(HUB, 1, ROOT, sender=ledger.owner)
    with reverts("CheckpointLedger", "ChainUnknown", REF):
        ledger.finalize(REF, 1)
    with reverts("CheckpointLedger", "NothingSealed", HUB, 1, bytes(32)):
        ledger.finalize(HUB, 1, bytes(32))
    with reverts("CheckpointLedger", "NothingSealed", HUB, 0, ROOT):
        ledger.finalize(HUB, 0)


def test_set_hub__announced__changes_after_the_delay(ledger: Ledger) -> None:
    with reverts("CheckpointLedger", "ChangeNotAnnounced"):
        ledger.contract.set_hub(account("other"), sender=ledger.owner)
    with reverts("CheckpointLedger", "NotOwner", account("stranger").lower()):
        ledger.contract.set_hub(account("stranger"), sender=account("stranger"))
    ledger.validators.change(ledger.contract, "set_hub", account("other"))
    assert ledger.contract.hub() == account("other")
    with reverts("CheckpointLedger", "NotHub", ledger.bridge.lower()):
        ledger.finalize(HUB, 1)


def test_unfreeze__announced__lets_the_chain_be_attested_again(ledger: Ledger) -> None:
    ledger.attest(HUB, 4)
    ledger.finalize(HUB, 4, ROOT_2)
    with reverts("CheckpointLedger", "ChangeNotAnnounced"):
        ledger.contract.unfreeze(HUB, sender=ledger.owner)

    ledger.validators.change(ledger.contract, "unfreeze", HUB)

    [made, thawed] = ledger.contract.get_logs()
    assert (type(made).__name__, thawed.chain, thawed.frozen) == ("ChangeMade", HUB, False)
    ledger.attest(HUB, 5)
    assert ledger.shows((2, leaf(HUB, 5, ROOT)))
    with reverts("CheckpointLedger", "ChainNotFrozen", HUB):
        ledger.validators.change(ledger.contract, "unfreeze", HUB)
    ledger.finalize(HUB, 5, ROOT_2)
    assert ledger.contract.frozen(HUB)


def test_attest__without_a_quorum_of_the_current_set__is_refused(ledger: Ledger) -> None:
    until = ledger.validators.set.current().valid_until

    with reverts("ValidatorSet", "NoQuorum", 65, 100):
        ledger.attest(HUB, 1, signers=(ONE, THREE))
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        ledger.attest(HUB, 1, signers=("stranger",))
    boa.env.time_travel(until + 1 - boa.env.timestamp)
    with reverts("ValidatorSet", "SetExpired", until, until + 1):
        ledger.attest(HUB, 1)
    ledger.validators.publish(ONE, TWO, THREE)
    ledger.attest(HUB, 1)


def test_attest__signed_for_another_ledger_chain_epoch_or_root__is_refused(ledger: Ledger) -> None:
    ours = domain_of(ledger.contract)
    elsewhere = contract("security/CheckpointLedger.vy", REF, ledger.validators.set.address, 0)
    meant = Checkpoint(HUB, 1, ROOT)
    attempts: list[tuple[Domain, Any]] = [
        (domain_of(elsewhere), meant),
        (domain_of(ledger.validators.set), meant),
        (Domain(eip155(2), REF, ours.contract), meant),
        (Domain(CHAIN, HUB, ours.contract), meant),
        (ours, Checkpoint(OTHER, 1, ROOT)),
        (ours, Checkpoint(HUB, 2, ROOT)),
        (ours, Checkpoint(HUB, 1, ROOT_2)),
        (ours, NextSet(1, ROOT, 1, 1)),
    ]

    for domain, signed in attempts:
        with reverts("ValidatorSet", "NotValidator"):
            ledger.contract.attest(HUB, 1, ROOT, sign_all(domain, signed, (ONE,)))
    ledger.attest(HUB, 1)


TREE_ALONE = """
from shared import indexed_tree

initializes: indexed_tree

@external
def take() -> uint256:
    return indexed_tree._take()

@external
def update(index: uint256, leaf: bytes32):
    indexed_tree._update(index, leaf)

@external
@view
def root() -> bytes32:
    return indexed_tree._root()
"""


@cache
def tree_alone() -> Any:
    return boa.loads_partial(TREE_ALONE)


def test_indexed_tree__untaken_place__cannot_be_written() -> None:
    tree = tree_alone().deploy()

    assert tree.root() == IndexedTree().root
    with pytest.raises(boa.BoaError):
        tree.update(0, ROOT)
    tree.take()
    tree.update(0, ROOT)
    with pytest.raises(boa.BoaError):
        tree.update(1, ROOT)


@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 255), st.binary(min_size=32, max_size=32))), max_size=40))
def test_indexed_tree__any_places_and_updates__has_the_root_that_protocol_has(
    steps: list[tuple[int, bytes] | None],
) -> None:
    with boa.env.anchor():
        tree, expected, taken = tree_alone().deploy(), IndexedTree(), 0
        for step in steps:
            if step is None or not taken:
                assert tree.take() == taken
                taken += 1
            else:
                index, value = step[0] % taken, step[1]
                tree.update(index, value)
                expected = expected.update(index, value)
            assert tree.root() == expected.root
