"""The outbox that seals and the ledger that keeps: whatever is attested in whatever order, the rules hold."""

from collections.abc import Sequence

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from tests.unit.protocol import strategies
from tests.unit.protocol.test_attestation import KEYS, NOW, a_set
from tristrata.protocol.attestation import (
    Checkpoint,
    Epoch,
    NoQuorum,
    NotValidator,
    QuorumRefused,
    SetExpired,
    ValidatorSet,
    order_signatures,
)
from tristrata.protocol.checkpoint import (
    RANDOMNESS_INDEX,
    SET_INDEX,
    AddChain,
    AddChild,
    AdoptSet,
    AdvanceSet,
    AlreadyFinal,
    Attest,
    AttestChild,
    Attested,
    ChainFrozen,
    CheckpointRefused,
    ChildAttested,
    Convicted,
    Finalize,
    Finalized,
    Frozen,
    Ledger,
    LedgerChange,
    LedgerEvent,
    Outbox,
    OutboxChange,
    OutboxEvent,
    PublishSet,
    Seal,
    Sealed,
    Send,
    SetAdopted,
    Unfreeze,
    apply_to_ledger,
    apply_to_outbox,
    message_leaf,
)
from tristrata.protocol.epoch import Lane, child_leaf, epoch_root
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ChainRef
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import IndexedTree, root_from_proof
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.units import Timestamp

LEDGER_SEPARATOR, OUTBOX_SEPARATOR = b"\x1e" * 32, b"\x0b" * 32
L1, HUB, OTHER, L3 = (ChainRef(keccak(name)) for name in (b"l1", b"hub", b"other", b"l3"))
SET = a_set(1, 1, 1)


def root_of(chain: ChainRef, epoch: int) -> bytes:
    return keccak(chain + bytes([epoch]))


def quorum(separator: bytes, struct_hash: bytes, signers: Sequence[int] = (0, 1)) -> tuple[bytes, ...]:
    message = digest(separator, struct_hash)
    return order_signatures(message, (sign(KEYS[index], message) for index in signers))


def attest(chain: ChainRef, epoch: int, root: bytes | None = None, signers: Sequence[int] = (0, 1)) -> Attest:
    checkpoint = Checkpoint(chain, epoch, root if root is not None else root_of(chain, epoch))
    return Attest(checkpoint, quorum(LEDGER_SEPARATOR, checkpoint.struct_hash, signers), bytes([epoch]) * 32)


def finalize(chain: ChainRef, epoch: int, root: bytes | None = None) -> Finalize:
    checkpoint = Checkpoint(chain, epoch, root if root is not None else root_of(chain, epoch))
    return Finalize(checkpoint, bytes([epoch]) * 32)


def after(*changes: LedgerChange) -> tuple[Ledger, list[LedgerEvent]]:
    state, events = make_ledger(), list[LedgerEvent]()
    for change in changes:
        state, events = apply_to_ledger(state, change, NOW)
    return state, events


def attest_child(epoch: int, chain: ChainRef = L3, separator: bytes = OUTBOX_SEPARATOR) -> AttestChild:
    checkpoint = Checkpoint(chain, epoch, root_of(chain, epoch))
    return AttestChild(checkpoint, quorum(separator, checkpoint.struct_hash))


def seal(epoch: int, block: int, signers: Sequence[int] = (0, 1)) -> Seal:
    statement = Epoch(epoch, block, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
    return Seal(statement, quorum(OUTBOX_SEPARATOR, statement.struct_hash, signers))


def advance(validators: ValidatorSet, signers: Sequence[int] = (0, 1)) -> AdvanceSet:
    return AdvanceSet(validators, quorum(OUTBOX_SEPARATOR, validators.succession.struct_hash, signers))


def make_ledger() -> Ledger:
    state = Ledger(LEDGER_SEPARATOR)
    for change in (PublishSet(SET), AddChain(HUB, L1), AddChain(OTHER, L1)):
        state, _ = apply_to_ledger(state, change, NOW)
    return state


def make_outbox(*changes: OutboxChange) -> tuple[Outbox, list[OutboxEvent]]:
    state, events = Outbox(HUB, OUTBOX_SEPARATOR), []
    for change in (AdoptSet(SET), AddChild(L3), *changes):
        state, events = apply_to_outbox(state, change, NOW)
    return state, events


def test_attest__an_epoch__is_kept_and_in_the_super_root() -> None:
    state, events = apply_to_ledger(make_ledger(), attest(HUB, 4), NOW)

    assert state.recorded[HUB, 4].root == root_of(HUB, 4)
    assert (state.recorded[HUB, 4].lane, state.recorded[HUB, 4].timestamp) == (Lane.ATTESTED, NOW)
    assert events == [Attested(Checkpoint(HUB, 4, root_of(HUB, 4)), 1, state.super_roots[0])]
    leaf = child_leaf(HUB, 4, root_of(HUB, 4), Lane.ATTESTED)
    assert root_from_proof(leaf, 2, state.tree.prove(2)) == state.super_roots[0]
    assert state.tree.leaf(SET_INDEX) == SET.succession.leaf
    assert state.tree.leaf(RANDOMNESS_INDEX) == b"\4" * 32
    assert state.tree.leaf(3) == bytes(32)


def test_attest__an_older_epoch_late__is_kept_but_replaces_nothing() -> None:
    state, _ = apply_to_ledger(make_ledger(), attest(HUB, 4), NOW)
    later, events = apply_to_ledger(state, attest(HUB, 2), Timestamp(NOW))

    assert later.recorded[HUB, 2].root == root_of(HUB, 2)
    assert later.tree.leaf(2) == state.tree.leaf(2)
    assert later.chains[HUB].latest == 4
    assert isinstance(events[0], Attested)
    assert events[0].super_number == 2
    assert later.super_roots[0] == state.super_roots[0]


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        (attest(HUB, 4), CheckpointRefused, "already, for ever"),
        (attest(HUB, 4, b"\x77" * 32), CheckpointRefused, "already, for ever"),
        (attest(L3, 1), CheckpointRefused, "does not know"),
        (attest(HUB, 0), CheckpointRefused, "nothing was sealed"),
        (attest(HUB, 5, bytes(32)), CheckpointRefused, "nothing was sealed"),
        (attest(HUB, 5, signers=[0]), NoQuorum, "two thirds"),
        (attest(HUB, 5, signers=[0, 1, 3]), NotValidator, "not a member"),
        (replace(attest(HUB, 5), checkpoint=Checkpoint(HUB, 6, root_of(HUB, 5))), NotValidator, "not a member"),
        (AddChain(HUB, L1), CheckpointRefused, "there already"),
        (PublishSet(SET), CheckpointRefused, "newer"),
        (finalize(L3, 1), CheckpointRefused, "does not know"),
        (finalize(HUB, 0), CheckpointRefused, "nothing was sealed"),
        (finalize(HUB, 5, bytes(32)), CheckpointRefused, "nothing was sealed"),
        (finalize(HUB, 2), AlreadyFinal, "for ever"),
        (finalize(HUB, 2, b"\x77" * 32), AlreadyFinal, "for ever"),
        (attest(HUB, 2), CheckpointRefused, "already, for ever"),
        (attest(OTHER, 2), ChainFrozen, "frozen"),
        (Unfreeze(HUB), CheckpointRefused, "not frozen"),
        (Unfreeze(L3), CheckpointRefused, "not frozen"),
    ],
)
def test_ledger__breaks_a_rule__is_refused(change: LedgerChange, error: type[Exception], rule: str) -> None:
    false_root = attest(OTHER, 1, b"\x66" * 32)
    state, _ = after(attest(HUB, 4), finalize(HUB, 2), false_root, finalize(OTHER, 1))

    with pytest.raises(error, match=rule):
        apply_to_ledger(state, change, NOW)


def test_ledger__set_missing_or_expired__signs_nothing() -> None:
    no_set, _ = apply_to_ledger(Ledger(LEDGER_SEPARATOR), AddChain(HUB, L1), NOW)

    with pytest.raises(SetExpired):
        apply_to_ledger(no_set, attest(HUB, 1), NOW)
    with pytest.raises(SetExpired):
        apply_to_ledger(make_ledger(), attest(HUB, 1), Timestamp(NOW + 1))


def test_ledger__its_tree_full__takes_no_more_chains() -> None:
    state = make_ledger()
    for number in range(252):
        state, _ = apply_to_ledger(state, AddChain(ChainRef(keccak(bytes([number]))), L1), NOW)

    assert max(chain.index for chain in state.chains.values()) == 255
    with pytest.raises(CheckpointRefused, match="256 places"):
        apply_to_ledger(state, AddChain(L3, HUB), NOW)


def test_finalize__attested_and_the_same__changes_the_lane() -> None:
    state, events = after(attest(HUB, 4), finalize(HUB, 4))

    assert state.recorded[HUB, 4].lane is Lane.FINAL
    assert state.tree.leaf(2) == child_leaf(HUB, 4, root_of(HUB, 4), Lane.FINAL)
    assert events == [Finalized(Checkpoint(HUB, 4, root_of(HUB, 4)), 2, state.tree.root)]
    assert (state.convicted, state.chains[HUB].frozen) == ({}, False)


def test_finalize__an_older_epoch__leaves_the_leaf() -> None:
    state, _ = after(attest(HUB, 4), finalize(HUB, 3))

    assert (state.chains[HUB].latest, state.chains[HUB].latest_final) == (4, 3)
    assert state.tree.leaf(2) == child_leaf(HUB, 4, root_of(HUB, 4), Lane.ATTESTED)


def test_finalize__contradicts_the_attested__convicts_freezes_and_falls_back() -> None:
    false_root = b"\x66" * 32

    state, events = after(finalize(HUB, 2), attest(HUB, 3, false_root), attest(HUB, 4), finalize(HUB, 3))

    final = Checkpoint(HUB, 3, root_of(HUB, 3))
    assert events == [Convicted(final, false_root), Frozen(HUB, True), Finalized(final, 4, state.tree.root)]
    assert (state.recorded[HUB, 3].root, state.convicted) == (final.root, {(HUB, 3): false_root})
    assert state.tree.leaf(2) == child_leaf(HUB, 3, final.root, Lane.FINAL)
    assert (state.chains[HUB].latest, state.chains[HUB].frozen) == (3, True)


def test_unfreeze__a_frozen_chain__is_attested_again() -> None:
    frozen = (attest(HUB, 3, b"\x66" * 32), finalize(HUB, 3))

    state, events = after(*frozen, Unfreeze(HUB))

    assert events == [Frozen(HUB, False)]
    state, _ = apply_to_ledger(state, attest(HUB, 4), NOW)
    assert state.chains[HUB].latest == 4


def test_finalize__before_any_set__needs_none() -> None:
    state, _ = apply_to_ledger(Ledger(LEDGER_SEPARATOR), AddChain(HUB, L1), NOW)
    state, _ = apply_to_ledger(state, finalize(HUB, 1), NOW)

    assert state.tree.leaf(SET_INDEX) == bytes(32)


class AnyRecords(RuleBasedStateMachine):
    """Any records of any chains in any order (P7): what is written stays, but for what a final root convicts."""

    def __init__(self) -> None:
        super().__init__()
        self.state = make_ledger()
        self.attested: dict[tuple[ChainRef, int], bytes] = {}
        self.final: dict[tuple[ChainRef, int], bytes] = {}

    def change(self, change: LedgerChange) -> bool:
        before = self.state
        try:
            self.state, _ = apply_to_ledger(before, change, NOW)
        except (CheckpointRefused, QuorumRefused):
            assert self.state is before
            return False
        assert self.state.super_roots[: len(before.super_roots)] == before.super_roots
        return True

    @rule(
        chain=st.sampled_from([HUB, OTHER, L3]),
        epoch=st.integers(0, 5),
        other_root=st.booleans(),
        signers=st.sets(st.integers(0, 3)),
    )
    def attest(self, chain: ChainRef, epoch: int, other_root: bool, signers: set[int]) -> None:
        frozen = chain in self.state.chains and self.state.chains[chain].frozen
        change = attest(chain, epoch, b"\x66" * 32 if other_root else None, sorted(signers))
        if self.change(change):
            assert len(signers) >= 2
            assert not frozen
            assert (chain, epoch) not in self.attested
            assert (chain, epoch) not in self.final
            self.attested[chain, epoch] = change.checkpoint.root

    @rule(chain=st.sampled_from([HUB, OTHER, L3]), epoch=st.integers(0, 5), other_root=st.booleans())
    def finalize(self, chain: ChainRef, epoch: int, other_root: bool) -> None:
        change = finalize(chain, epoch, b"\x66" * 32 if other_root else None)
        if self.change(change):
            assert (chain, epoch) not in self.final
            self.final[chain, epoch] = change.checkpoint.root

    @rule(chain=st.sampled_from([HUB, OTHER, L3]))
    def unfreeze(self, chain: ChainRef) -> None:
        self.change(Unfreeze(chain))

    @invariant()
    def holds_what_was_written(self) -> None:
        state = self.state
        assert {key: entry.root for key, entry in state.recorded.items()} == self.attested | self.final
        assert {key for key, entry in state.recorded.items() if entry.lane is Lane.FINAL} == set(self.final)
        contradicted = {key: root for key, root in self.attested.items() if self.final.get(key, root) != root}
        assert state.convicted == contradicted
        for chain, known in state.chains.items():
            finals = [epoch for written, epoch in self.final if written == chain]
            assert known.latest_final == max(finals, default=0)
            shown = state.recorded.get((chain, known.latest))
            assert state.tree.leaf(known.index) == (
                child_leaf(chain, known.latest, shown.root, shown.lane) if shown else bytes(32)
            )
            assert not known.frozen or known.latest == known.latest_final
            if not any(convicted == chain for convicted, _ in contradicted):
                attested = [epoch for written, epoch in self.attested if written == chain]
                assert known.latest == max(finals + attested, default=0)
        assert not state.recorded or state.super_roots[-1] == state.tree.root


TestAnyRecords = AnyRecords.TestCase


def test_seal__an_epoch__has_the_root_of_all_its_parts() -> None:
    message = message_leaf(HUB, 0, OTHER, b"\1" * 32, b"\2" * 32, b"hello")
    state, events = make_outbox(Send(message), attest_child(1), seal(1, 10))

    messages_root = IncrementalTree().append(message).root
    children_root = IndexedTree().update(0, child_leaf(L3, 1, root_of(L3, 1), Lane.ATTESTED)).root
    root = epoch_root(HUB, 1, messages_root, b"\x01" * 32, b"\x02" * 32, children_root)
    assert events == [Sealed(seal(1, 10).statement, messages_root, children_root, root)]
    assert (state.epoch, state.block, state.roots) == (1, 10, (root,))


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        (seal(1, 20), CheckpointRefused, "2 comes next"),
        (seal(3, 20), CheckpointRefused, "2 comes next"),
        (seal(2, 10), CheckpointRefused, "after the last epoch's, 10"),
        (seal(2, 20, signers=[1]), NoQuorum, "two thirds"),
        (attest_child(1), CheckpointRefused, "2 comes next"),
        (attest_child(3), CheckpointRefused, "2 comes next"),
        (attest_child(1, OTHER), CheckpointRefused, "no child"),
        (attest_child(2, separator=LEDGER_SEPARATOR), NotValidator, "not a member"),
        (AddChild(L3), CheckpointRefused, "there already"),
        (AdoptSet(SET), CheckpointRefused, "newer"),
        (AdoptSet(a_set(1, number=2, valid_until=NOW - 1)), SetExpired, "valid until"),
        (advance(SET), CheckpointRefused, "newer"),
        (advance(a_set(9, number=2), signers=[0]), NoQuorum, "two thirds"),
    ],
)
def test_outbox__breaks_a_rule__is_refused(change: OutboxChange, error: type[Exception], rule: str) -> None:
    state, _ = make_outbox(attest_child(1), seal(1, 10))

    with pytest.raises(error, match=rule):
        apply_to_outbox(state, change, NOW)


def test_attest_child__before_the_last_one_was_sealed__is_refused_and_after_accepted() -> None:
    state, events = make_outbox(attest_child(1))
    assert events == [ChildAttested(Checkpoint(L3, 1, root_of(L3, 1)))]

    with pytest.raises(CheckpointRefused, match="would be lost"):
        apply_to_outbox(state, attest_child(2), NOW)
    state, _ = apply_to_outbox(state, seal(1, 10), NOW)
    state, _ = apply_to_outbox(state, attest_child(2), NOW)
    with pytest.raises(CheckpointRefused, match="would be lost"):
        apply_to_outbox(state, attest_child(3), NOW)


def test_advance__by_the_outgoing_set__hands_over() -> None:
    following = a_set(0 + 5, number=2)
    state, events = make_outbox(advance(following))

    assert events == [SetAdopted(following)]
    statement = seal(1, 10, signers=[0])  # alone it is the whole new set
    assert apply_to_outbox(state, statement, NOW)[0].epoch == 1


def test_outbox__without_a_set__seals_nothing() -> None:
    with pytest.raises(SetExpired):
        apply_to_outbox(Outbox(HUB, OUTBOX_SEPARATOR), seal(1, 10), NOW)


@given(st.lists(st.sampled_from(["seal", "child"]), max_size=12))
def test_outbox__any_order_of_seals_and_children__seals_every_child_epoch(steps: list[str]) -> None:
    state, _ = make_outbox()
    sealed_children: set[bytes] = set()
    for step in steps:
        change = (
            seal(state.epoch + 1, state.block + 1) if step == "seal" else attest_child(state.children[L3].epoch + 1)
        )
        try:
            state, _ = apply_to_outbox(state, change, NOW)
        except CheckpointRefused:
            continue
        if step == "seal":
            sealed_children.add(state.tree.leaf(0))
    latest = state.children[L3].epoch
    for epoch in range(1, latest):
        assert child_leaf(L3, epoch, root_of(L3, epoch), Lane.ATTESTED) in sealed_children


@given(
    strategies.words,
    strategies.uint64,
    strategies.words,
    strategies.words,
    strategies.words,
    st.binary(max_size=100),
)
def test_message_leaf__any__is_the_hash_of_its_abi_encoding(
    source: bytes, index: int, destination: bytes, sender: bytes, receiver: bytes, payload: bytes
) -> None:
    types = ["bytes32", "uint64", "bytes32", "bytes32", "bytes32", "bytes"]
    values = (source, index, destination, sender, receiver, payload)

    leaf = message_leaf(ChainRef(source), index, ChainRef(destination), sender, receiver, payload)

    assert leaf == keccak(encode(types, values))
