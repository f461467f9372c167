"""Messages, children and seals at random: whatever was computed when, each sealed root is that of the plain trees."""

from typing import Any

import boa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contracts.conftest import KEPT_EPOCHS, REF, account, as_abi, make_hub, reverts, sign_all
from tests.contracts.money import events
from tests.contracts.test_outbox import attest_child, leaf, message
from tests.contracts.test_settle import seal_digest
from tristrata.protocol.epoch import epoch_root
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import IndexedTree

EMPTY = keccak(b"no receipts")


def chain_of(index: int) -> bytes:
    return keccak(word(index))


class OutboxTrees(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.hub = make_hub()
        self.hub.adopt()
        self.messages, self.children = IncrementalTree(), IndexedTree()
        self.attested: list[int] = []  # each child's latest epoch
        self.attested_at: list[int] = []  # our last epoch when that came
        self.digests: list[tuple[int, int]] = []

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    @rule(size=st.integers(0, 1024), count=st.integers(1, 4), destination=st.integers(0, 3))
    def send(self, size: int, count: int, destination: int) -> None:
        for _ in range(count):
            index, sender = self.messages.count, f"sender {destination}"
            chain, receiver, payload = chain_of(destination), word(destination), bytes(size)
            assert self.hub.outbox.send(chain, receiver, payload, sender=account(sender)) == index
            self.messages = self.messages.append(message(index, chain, sender, receiver, payload))

    @precondition(lambda self: len(self.attested) < 256)
    @rule(count=st.sampled_from([1, 1, 2, 7]))
    def add_children(self, count: int) -> None:
        for _ in range(count):
            index = len(self.attested)
            assert self.hub.outbox.add_child(chain_of(index), sender=self.hub.operator) == index
            self.attested.append(0)
            self.attested_at.append(0)

    @precondition(lambda self: self.attested)
    @rule(which=st.integers(0, 2**16), root=st.binary(min_size=32, max_size=32))
    def attest(self, which: int, root: bytes) -> None:
        index = which % len(self.attested)
        chain, epoch, sealed = chain_of(index), self.attested[index] + 1, len(self.digests)
        if not any(root):
            with reverts("Outbox", "NothingSealed", chain, epoch, root):
                attest_child(self.hub, epoch, root, chain)
        elif epoch > 1 and self.attested_at[index] == sealed:
            with reverts("Outbox", "ChildNotSealed", chain, epoch - 1):
                attest_child(self.hub, epoch, root, chain)
        else:
            attest_child(self.hub, epoch, root, chain)
            self.children = self.children.update(index, leaf(chain, epoch, root))
            self.attested[index], self.attested_at[index] = epoch, sealed

    @rule(payouts=st.integers(0, 2), blocks=st.integers(2, 9))
    def seal(self, payouts: int, blocks: int) -> None:
        boa.env.time_travel(blocks=blocks, block_delta=1)
        epoch = self.hub.next_epoch(word(payouts), receipts_root=EMPTY)
        signatures = sign_all(self.hub.domain(self.hub.outbox), epoch)
        root = self.hub.outbox.seal(as_abi(epoch), signatures, sender=account("anyone"))
        [event] = events(self.hub.outbox, "Sealed")

        number = len(self.digests) + 1
        roots = self.messages.root, EMPTY, word(payouts), self.children.root
        assert root == event.root == epoch_root(REF, number, *roots)
        assert (event.epoch, event.block_number) == (number, epoch.block_number)
        assert (event.messages_root, event.receipts_root, event.payouts_root, event.children_root) == roots
        self.digests.append((seal_digest(number, root, word(payouts), epoch.struct_hash), boa.env.timestamp))

    @invariant()
    def trees_and_records_are_the_plain_ones(self) -> None:
        if not hasattr(self, "digests"):
            return
        outbox: Any = self.hub.outbox
        assert (outbox.messages_root(), outbox.children_root()) == (self.messages.root, self.children.root)
        assert (outbox.message_count(), outbox.last_epoch()) == (self.messages.count, len(self.digests))
        for epoch in range(max(1, len(self.digests) - KEPT_EPOCHS + 1), len(self.digests) + 1):
            digest, sealed_at = self.digests[epoch - 1]
            assert tuple(outbox.sealed(epoch)) == (digest, False, sealed_at)


TestOutboxTrees = OutboxTrees.TestCase
TestOutboxTrees.settings = settings(max_examples=settings().max_examples // 10, stateful_step_count=25, deadline=None)
