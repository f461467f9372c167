"""An epoch on its way from the receipt book to a quorum: built, stored, proposed, signed.

Everything is on disk before it is needed, so a settler that is killed between any two steps goes on where it was: the
content is found by its digest, the proposal by its author, the signatures by the proposal.
"""

import asyncio

from tristrata.bindings.history import HubHistory
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.epoch import (
    EpochContent,
    EpochResult,
    SessionProgress,
    SessionReceipts,
    SignedReceipt,
    build_epoch,
    content_of,
)
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.signing import digest
from tristrata.protocol.units import Amount
from tristrata.storage.attestations import Attestations
from tristrata.storage.content_store import ContentStore
from tristrata.storage.receipt_book import ReceiptBook


class Proposer:
    """Builds one hub's next epoch from the receipt book and puts it where validators look."""

    def __init__(
        self, history: HubHistory, book: ReceiptBook, store: ContentStore, attestations: Attestations, author: Address
    ) -> None:
        self._history = history
        self._book = book
        self._store = store
        self._attestations = attestations
        self._author = author
        self._ref = history.hub.ref

    def resume(self, number: int) -> Epoch | None:
        """The author's own proposal of epoch ``number``, if it made one before."""
        return self._attestations.proposal(self._ref, self._author, number)

    async def propose(self, number: int, block: int) -> Epoch:
        """Store and propose epoch ``number`` over ``block``.

        Raises `EpochWrong` when the book does not account for what was charged.
        """
        result, content = await self._build(number, block)
        stored = await asyncio.to_thread(self._store.put, content)
        epoch = Epoch(number, block, result.receipts_root, result.payouts_root, stored)
        self._attestations.propose(self._ref, self._author, epoch)
        return epoch

    def signatures(self, epoch: Epoch) -> dict[Address, bytes]:
        """The signatures of a proposal so far, by signer."""
        message = digest(self._history.hub.outbox_domain.separator, epoch.struct_hash)
        return self._attestations.signatures(self._ref, epoch.epoch, message)

    async def _build(self, number: int, block: int) -> tuple[EpochResult, bytes]:
        history = self._history
        last = history.last_sealed
        before = await self._progress_at(last.block if last else 0)
        charged = history.charged_at(block)
        receipts = []
        for session in sorted(charged):
            first = before[session].tree.count if session in before else 0
            if charged[session].count > first:
                receipts.append(await self._receipts(session, first, charged[session].count))
        hub = history.hub
        result = build_epoch(
            hub.caip2,
            number,
            block,
            before,
            charged,
            receipts,
            history.keys_at(block),
            hub.settlement_domain.separator,
        )
        return result, content_of(EpochContent(hub.caip2, number, block, tuple(receipts)))

    async def _receipts(self, session: SessionId, first: int, end: int) -> SessionReceipts:
        entries = (await self._book.entries(session, first))[: end - first]
        return SessionReceipts(session, first, tuple(SignedReceipt(each.receipt, each.signature) for each in entries))

    async def _progress_at(self, block: int) -> dict[SessionId, SessionProgress]:
        progress = {}
        for session, charge in self._history.charged_at(block).items():
            tree, total = SessionProgress().tree, 0
            for signed in (await self._receipts(session, 0, charge.count)).receipts:
                tree = tree.append(signed.receipt.struct_hash)
                total += signed.receipt.price
            progress[session] = SessionProgress(tree, Amount(total))
        return progress
