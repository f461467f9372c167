"""L1's contracts together: the stake token, the validator set, the checkpoint ledger."""

from collections.abc import Mapping

import msgspec

from tristrata.bindings.contract import Contract, Event
from tristrata.bindings.hub import quorum_of
from tristrata.chains.evm import EvmChain
from tristrata.chains.pool import Chains
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.config.manifest import Manifest
from tristrata.config.network import Network
from tristrata.protocol.attestation import Checkpoint
from tristrata.protocol.ids import Address, Caip2, ChainRef
from tristrata.protocol.signing import Domain, compact


class CheckpointRecord(msgspec.Struct, frozen=True):
    """What the ledger holds of a chain's epoch; lane 0 when it holds nothing, 1 for attested."""

    root: bytes
    lane: int
    timestamp: int


class CurrentSet(msgspec.Struct, frozen=True):
    """The validator set that signs now."""

    number: int
    root: bytes
    total: int
    valid_until: int


class Security:
    """The security chain of a network."""

    def __init__(self, network: Network, manifest: Manifest, chains: Chains) -> None:
        self.name = network.roles.security
        self.chain: EvmChain = chains[self.name]
        self.caip2: Caip2 = network.chains[self.name].caip2
        self.ref: ChainRef = network.ref(self.name)

        def contract(kind: str) -> Contract:
            return Contract(kind, manifest.address(self.caip2, kind), self.chain)

        self.token = contract("StakeToken")
        self.validators = contract("ValidatorSet")
        self.ledger = contract("CheckpointLedger")
        self.ledger_domain = Domain(self.caip2, self.ref, self.ledger.address)
        self.first_block = min(found.block for found in manifest.chains[self.caip2].values())

    async def current_set(self, *, at: int) -> CurrentSet:
        """The current validator set at a block; number 0 before the first."""
        return CurrentSet(*await self.validators.read("current", at=at))

    async def checkpoint(self, chain: ChainRef, epoch: int, *, at: int) -> CheckpointRecord:
        """What the ledger holds of a chain's epoch at a block."""
        return CheckpointRecord(*await self.ledger.read("checkpoint", chain, epoch, at=at))

    async def attest(
        self, writer: TransactionWriter, checkpoint: Checkpoint, signatures: tuple[bytes, ...]
    ) -> Inclusion:
        """Write a checkpoint into the ledger."""
        purpose = f"attest epoch {checkpoint.epoch} of {checkpoint.chain.hex()}"
        words = [compact(signature) for signature in signatures]
        arguments = (checkpoint.chain, checkpoint.epoch, checkpoint.root, words)
        return await self.ledger.write(writer, purpose, "attest", *arguments)

    async def quorum_of(self, signatures: Mapping[Address, bytes], *, at: int) -> tuple[bytes, ...]:
        """Of these signatures by signer, those of current validators in order; empty without a quorum."""
        return await quorum_of(self.validators, signatures, at=at)

    async def events(self, first: int, last: int) -> list[Event]:
        """Everything that happened to validators and checkpoints in blocks ``first`` to ``last``, in order."""
        contracts = (self.validators, self.ledger)
        logs = await self.chain.logs([contract.address for contract in contracts], first, last)
        found = (contract.event(log) for log in logs for contract in contracts)
        return [event for event in found if event is not None]
