"""Sealed epochs, up: from a hub to its parent's outbox, or to the ledger on L1, with the validators' signatures."""

import structlog

from tristrata.bindings.history import HubHistory, SealedEpoch
from tristrata.bindings.hub import Hub
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionReverted, TransactionWriter
from tristrata.protocol.attestation import Checkpoint
from tristrata.protocol.signing import compact, digest
from tristrata.storage.attestations import Attestations

_NOT_YET = ("ChildNotSealed", "EpochOutOfOrder")
_log = structlog.get_logger()


class ToEthereum:
    """The epochs of a hub directly under L1 go into the ledger, in any order."""

    def __init__(self, hub: Hub, security: Security, writer: TransactionWriter, attestations: Attestations) -> None:
        self._history = HubHistory(hub)
        self._security = security
        self._writer = writer
        self._attestations = attestations
        self._done: set[int] = set()

    async def carry(self) -> None:
        """Attest every finalized epoch that has its quorum and is not on the ledger."""
        await self._history.catch_up(Level.FINALIZED)
        waiting = [sealed for sealed in self._history.sealed if sealed.epoch not in self._done]
        if waiting:
            head = (await self._security.chain.block(Level.SOFT)).number
            for sealed in waiting:
                await self._carry(sealed, head)

    async def _carry(self, sealed: SealedEpoch, head: int) -> None:
        hub = self._history.hub
        if (await self._security.checkpoint(hub.ref, sealed.epoch, at=head)).lane:
            self._done.add(sealed.epoch)
            return
        checkpoint = Checkpoint(hub.ref, sealed.epoch, sealed.root)
        found = digest(self._security.ledger_domain.separator, checkpoint.struct_hash)
        posted = self._attestations.signatures(hub.ref, sealed.epoch, found)
        signatures = await self._security.quorum_of(posted, at=head)
        if signatures:
            done = await self._security.attest(self._writer, checkpoint, signatures)
            self._done.add(sealed.epoch)
            _log.info("epoch attested on L1", hub=hub.name, epoch=sealed.epoch, gas=done.gas_used)


class ToParent:
    """The epochs of a hub under another hub go into its outbox, one by one, each sealed there before the next."""

    def __init__(self, hub: Hub, parent: Hub, writer: TransactionWriter, attestations: Attestations) -> None:
        self._history = HubHistory(hub)
        self._parent = parent
        self._writer = writer
        self._attestations = attestations

    async def carry(self) -> None:
        """Attest the next finalized epoch, if it has its quorum and the parent takes it already."""
        await self._history.catch_up(Level.FINALIZED)
        hub, parent = self._history.hub, self._parent
        head = (await parent.chain.block(Level.SOFT)).number
        _, _, latest, seals_before = await parent.outbox.read("child", hub.ref, at=head)
        if latest and seals_before == await parent.outbox.read("last_epoch", at=head):
            return  # the one before is in no epoch of the parent's yet
        sealed = next((found for found in self._history.sealed if found.epoch == latest + 1), None)
        if sealed is None:
            return
        checkpoint = Checkpoint(hub.ref, sealed.epoch, sealed.root)
        found = digest(parent.outbox_domain.separator, checkpoint.struct_hash)
        posted = self._attestations.signatures(hub.ref, sealed.epoch, found)
        if signatures := await parent.quorum_of(posted, at=head):
            purpose = f"attest epoch {sealed.epoch} of {hub.ref.hex()}"
            arguments = (hub.ref, sealed.epoch, sealed.root, [compact(signature) for signature in signatures])
            try:
                done = await parent.outbox.write(self._writer, purpose, "attest_child", *arguments)
            except TransactionReverted as error:
                if error.name not in _NOT_YET:
                    raise
                return
            _log.info("epoch attested", hub=hub.name, on=parent.name, epoch=sealed.epoch, gas=done.gas_used)
