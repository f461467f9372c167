"""Any records of the ledger, by either lane, through `protocol` and through the contract: always the same."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.contracts.conftest import (
    CHANGE_DELAY,
    ONE,
    QUORUM,
    REF,
    THREE,
    VALIDITY,
    WEIGHTS,
    Validators,
    domain_of,
    key,
    raw,
    validator_set,
)
from tests.contracts.test_checkpoint_ledger import HUB, OTHER, ROOT, ROOT_2, Ledger
from tristrata.protocol import checkpoint as pure
from tristrata.protocol.attestation import Checkpoint, QuorumRefused
from tristrata.protocol.epoch import Lane
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ChainRef
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.units import Timestamp

pytestmark = pytest.mark.timeout(3_600)  # for the long profile
CHAINS = st.sampled_from([HUB, HUB, OTHER, REF])
EPOCHS = st.sampled_from([0, 1, 1, 2, 2, 3])
ROOTS = st.sampled_from([ROOT, ROOT, ROOT_2, bytes(32)])


class AgainstThePureMachine(RuleBasedStateMachine):
    """Any records of two chains in any order, by either lane: the same trees, records, events and refusals."""

    base: ClassVar[tuple[Ledger, pure.Ledger]]

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.ledger, self.pure = self.base
        self.contract = self.ledger.contract

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def both(self, change: pure.LedgerChange, call: Callable[[], None]) -> None:
        try:
            after, events = pure.apply_to_ledger(self.pure, change, Timestamp(boa.env.timestamp))
        except (pure.CheckpointRefused, QuorumRefused):
            with pytest.raises(boa.BoaError):
                call()
        else:
            call()
            self.pure = after
            told = [type(log).__name__ for log in self.contract.get_logs()]
            kept = [name for name in told if name not in ("SuperRoot", "ChangeMade")]
            assert kept == [type(event).__name__ for event in events]

    @rule(seconds=st.sampled_from([1, 100, VALIDITY // 2]))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(chain=CHAINS, epoch=EPOCHS, root=ROOTS, signers=st.sampled_from([QUORUM, QUORUM, QUORUM, (ONE, THREE)]))
    def attest(self, chain: ChainRef, epoch: int, root: bytes, signers: tuple[str, ...]) -> None:
        checkpoint = Checkpoint(chain, epoch, root)
        message = digest(self.pure.separator, checkpoint.struct_hash)
        signatures = tuple(sign(key(name), message) for name in sorted(signers, key=raw))
        randomness = keccak(bytes([len(self.pure.super_roots)]))
        boa.env.evm.patch.prevrandao = randomness
        change = pure.Attest(checkpoint, signatures, randomness)
        self.both(change, lambda: self.ledger.attest(chain, epoch, root, signers))

    @rule(chain=CHAINS, epoch=EPOCHS, root=ROOTS)
    def finalize(self, chain: ChainRef, epoch: int, root: bytes) -> None:
        randomness = keccak(bytes([len(self.pure.super_roots)]))
        boa.env.evm.patch.prevrandao = randomness
        change = pure.Finalize(Checkpoint(chain, epoch, root), randomness)
        self.both(change, lambda: self.ledger.finalize(chain, epoch, root))

    @rule(chain=CHAINS)
    def unfreeze(self, chain: ChainRef) -> None:
        change = self.contract.unfreeze.prepare_calldata(chain)
        self.contract.announce(keccak(change), sender=self.ledger.owner)
        boa.env.time_travel(CHANGE_DELAY)
        self.both(pure.Unfreeze(chain), lambda: self.contract.unfreeze(chain, sender=self.ledger.owner))

    @invariant()
    def states_are_the_same(self) -> None:
        if not hasattr(self, "pure"):
            return
        assert self.contract.super_number() == len(self.pure.super_roots)
        for number, root in enumerate(self.pure.super_roots[-2:], max(1, len(self.pure.super_roots) - 1)):
            assert self.contract.super_root(number) == root
        for chain, known in self.pure.chains.items():
            assert tuple(self.contract.chain(chain)) == (known.index, known.latest, known.latest_final)
            assert self.contract.frozen(chain) == known.frozen
            for epoch in range(1, 4):
                record = self.pure.recorded.get((chain, epoch))
                expected = (record.root, record.lane, record.timestamp) if record else (bytes(32), Lane.NONE, 0)
                assert tuple(self.contract.checkpoint(chain, epoch)) == expected
                assert self.contract.convicted(chain, epoch) == self.pure.convicted.get((chain, epoch), bytes(32))


def make_base() -> tuple[Ledger, pure.Ledger]:
    validators = Validators()
    for name, stake in WEIGHTS.items():
        validators.register(name, stake)
    validators.activate()
    validators.publish(*WEIGHTS)
    ledger, state = Ledger(validators), pure.Ledger(domain_of(validators.ledger).separator)
    published = validator_set(1, WEIGHTS, validators.set.current().valid_until)
    for change in (pure.PublishSet(published), pure.AddChain(HUB, REF), pure.AddChain(OTHER, HUB)):
        state, _ = pure.apply_to_ledger(state, change, Timestamp(boa.env.timestamp))
    return ledger, state


@pytest.fixture(scope="module", autouse=True)
def _base(_search_paths: None) -> Iterator[None]:
    with boa.env.anchor():
        AgainstThePureMachine.base = make_base()
        yield


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(
    max_examples=settings.default.max_examples // 4, stateful_step_count=15, deadline=None
)
