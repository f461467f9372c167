"""An epoch on its way from the receipt book to a quorum: built, stored, proposed, signed.

Everything is on disk before it is needed, so a settler that is killed between any two steps goes on where it was: the
content is found by its digest, the proposal by its author, the signatures by the proposal.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from tristrata.bindings.history import HubHistory, SealedContents
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.epoch import (
    ChargedSession,
    EpochContent,
    EpochResult,
    EpochWrong,
    SessionProgress,
    SessionReceipts,
    SignedReceipt,
    build_epoch,
    check_receipts,
    content_of,
)
from tristrata.protocol.ids import Address, SessionId, show
from tristrata.protocol.signing import digest
from tristrata.settler.due import needs_epoch, unaccounted
from tristrata.storage.attestations import Attestations
from tristrata.storage.content_store import ContentStore
from tristrata.storage.receipt_book import ReceiptBook

_log = structlog.get_logger()


class _LeftOut(msgspec.Struct, frozen=True):
    """A charge that the book did not account for when it had the session's receipts up to position ``end``."""

    charge: ChargedSession
    end: int


class _Ground(msgspec.Struct, frozen=True):
    """What the next epoch stands on: the epoch before it, and the chain up to its block."""

    number: int
    block: int
    before: Mapping[SessionId, SessionProgress]
    charged: Mapping[SessionId, ChargedSession]
    keys: Mapping[Address, frozenset[Address]]


class Proposer:
    """Builds one hub's next epoch from the receipt book and puts it where validators look.

    It lists every session that the book accounts for. What a session's key signed without receipts is left out, and
    tried again when the session's charge or its receipts have grown.
    """

    def __init__(
        self, history: HubHistory, book: ReceiptBook, store: ContentStore, attestations: Attestations, author: Address
    ) -> None:
        self._history = history
        self._contents = SealedContents(history, store)
        self._book = book
        self._store = store
        self._attestations = attestations
        self._author = author
        self._ref = history.hub.ref
        self._left_out: dict[SessionId, _LeftOut] = {}

    def resume(self, number: int) -> Epoch | None:
        """The author's own proposal of epoch ``number``, if it made one before."""
        return self._attestations.proposal(self._ref, self._author, number)

    async def propose(self, number: int, block: int, *, has_new_children: bool) -> Epoch | None:
        """Store and propose epoch ``number`` over ``block``; `None` when it would say nothing new.

        Raises `ContentMissing` when the store does not hold the epochs before it.
        """
        ground = await self._ground(number, block)
        parts = await self._candidates(ground)
        if not needs_epoch(parts, has_new_children=has_new_children):
            return None
        try:
            result = await asyncio.to_thread(self._build_checked, ground, parts)
        except EpochWrong:
            parts = await self._accountable(ground, parts)
            if not needs_epoch(parts, has_new_children=has_new_children):
                return None
            result = await asyncio.to_thread(self._build, ground, parts)
        stored = await asyncio.to_thread(self._keep, ground, parts)
        epoch = Epoch(number, block, result.receipts_root, result.payouts_root, stored)
        self._attestations.propose(self._ref, self._author, epoch)
        return epoch

    def signatures(self, epoch: Epoch) -> dict[Address, bytes]:
        """The signatures of a proposal so far, by signer."""
        message = digest(self._history.hub.outbox_domain.separator, epoch.struct_hash)
        return self._attestations.signatures(self._ref, epoch.epoch, message)

    async def _ground(self, number: int, block: int) -> _Ground:
        history = self._history
        before = await self._contents.progress(number - 1)
        return _Ground(number, block, before, history.charged_at(block), history.keys_at(block))

    async def _candidates(self, ground: _Ground) -> list[SessionReceipts]:
        """The receipts of every session with a new charge, but for those that are known not to account for it."""
        found = unaccounted(ground.before, ground.charged)
        self._left_out = {session: self._left_out[session] for session in found if session in self._left_out}
        if self._left_out:
            ends = {entry.receipt.session: entry.position + 1 for entry in await self._book.latest()}
            found = [session for session in found if not self._is_known(session, ends.get(session, 0), ground)]
        return [await self._receipts(session, ground) for session in found]

    def _is_known(self, session: SessionId, end: int, ground: _Ground) -> bool:
        """Whether the session's charge was left out before, with all the receipts that the book has now."""
        charge = ground.charged[session]
        reached = max(_first(session, ground), min(end, charge.count))
        return self._left_out.get(session) == _LeftOut(charge, reached)

    async def _receipts(self, session: SessionId, ground: _Ground) -> SessionReceipts:
        first = _first(session, ground)
        entries = (await self._book.entries(session, first))[: ground.charged[session].count - first]
        return SessionReceipts(session, first, tuple(SignedReceipt(each.receipt, each.signature) for each in entries))

    async def _accountable(self, ground: _Ground, parts: Sequence[SessionReceipts]) -> list[SessionReceipts]:
        """Of these sessions those that account for their charges, each tried alone."""
        found = []
        for part in parts:
            session = part.session
            before = {session: ground.before[session]} if session in ground.before else {}
            alone = msgspec.structs.replace(ground, before=before)
            try:
                await asyncio.to_thread(self._build_checked, alone, [part])
            except EpochWrong as wrong:
                self._leave_out(ground.charged[session], part, wrong)
            else:
                found.append(part)
        return found

    def _leave_out(self, charge: ChargedSession, part: SessionReceipts, wrong: EpochWrong) -> None:
        known = self._left_out.get(charge.session)
        if known is None or known.charge != charge:
            _log.warning("session left out of epochs: its charge is not accounted for", **_words(charge, wrong))
        # The book only grows, so more receipts are all that can make this charge worth another try.
        self._left_out[charge.session] = _LeftOut(charge, part.first + len(part.receipts))

    def _build_checked(self, ground: _Ground, parts: Sequence[SessionReceipts]) -> EpochResult:
        """The epoch, once all its receipts are signed as validators want it.

        The router checked each signature by what it knew of the chain then. This checks them by the chain up to the
        epoch's block: a proposal that nobody signs would stand in the way of every other.
        """
        result = self._build(ground, parts)
        check_receipts(parts, ground.keys, self._history.hub.settlement_domain.separator)
        return result

    def _build(self, ground: _Ground, parts: Sequence[SessionReceipts]) -> EpochResult:
        caip2 = self._history.hub.caip2
        return build_epoch(caip2, ground.number, ground.block, ground.before, ground.charged, parts)

    def _keep(self, ground: _Ground, parts: Sequence[SessionReceipts]) -> bytes:
        content = EpochContent(self._history.hub.caip2, ground.number, ground.block, tuple(parts))
        return self._store.put(content_of(content))


def _first(session: SessionId, ground: _Ground) -> int:
    """The session's first position that no epoch accounts for."""
    return ground.before.get(session, SessionProgress()).tree.count


def _words(charge: ChargedSession, wrong: EpochWrong) -> dict[str, object]:
    return {
        "session": show(charge.session),
        "count": charge.count,
        "cumulative": charge.cumulative,
        "reason": wrong.what,
    }
