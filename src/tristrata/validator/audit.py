"""One hub as one validator sees it: epochs recomputed from chain and content, and what may be signed of them."""

import os

from tristrata.bindings.history import HubHistory, SealedEpoch
from tristrata.protocol.attestation import Checkpoint, Epoch
from tristrata.protocol.epoch import EpochResult, SessionProgress, build_epoch, check_receipts, parse_content
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import SessionId, show
from tristrata.storage.content_store import ContentStore


class EpochRefused(TristrataError):
    """An epoch, proposed or sealed, that does not follow from the chain and its content."""


class HubAudit:
    """Follows one hub's finalized history; knows nothing but the chain and the content store."""

    def __init__(self, history: HubHistory, store: ContentStore) -> None:
        self._history = history
        self._store = store
        self._progress: dict[SessionId, SessionProgress] = {}
        self._checked = 0

    @property
    def checked(self) -> int:
        """The last sealed epoch that was recomputed and found right; 0 before the first."""
        return self._checked

    def is_right(self, epoch: Epoch) -> bool:
        """True for a proposed epoch that may be signed. Raises `EpochRefused`, `EpochWrong` or `ContentMissing`."""
        last = self._history.last_sealed
        last_block = last.block if last else 0
        if epoch.epoch != self._checked + 1:
            raise EpochRefused(f"epoch {epoch.epoch} is proposed; {self._checked + 1} is the next to sign")
        if not last_block < epoch.block_number <= self._history.head:
            raise EpochRefused(
                f"epoch {epoch.epoch} is over block {epoch.block_number}; it must lie above {last_block} and not above "
                f"{self._history.head}, the last finalized"
            )
        self._compare(epoch)
        return True

    def check_sealed(self) -> Checkpoint | None:
        """Recompute the next sealed epoch; the checkpoint to sign, or `None` when all are done.

        Raises `EpochRefused` or `ContentMissing`; then nothing after it is signed either.
        """
        sealed = next((found for found in self._history.sealed if found.epoch == self._checked + 1), None)
        if sealed is None:
            return None
        result = self._compare(_as_epoch(sealed))
        self._progress, self._checked = result.after, sealed.epoch
        return Checkpoint(self._history.hub.ref, sealed.epoch, sealed.root)

    def _compare(self, epoch: Epoch) -> EpochResult:
        result = self._recompute(epoch)
        if (result.receipts_root, result.payouts_root) != (epoch.receipts_root, epoch.payouts_root):
            raise EpochRefused(
                f"epoch {epoch.epoch} of {self._history.hub.name} has receipts root {show(epoch.receipts_root)} and "
                f"payouts root {show(epoch.payouts_root)}; recomputed they are {show(result.receipts_root)} and "
                f"{show(result.payouts_root)}"
            )
        return result

    def _recompute(self, epoch: Epoch) -> EpochResult:
        hub = self._history.hub
        content = parse_content(self._store.get(epoch.content))
        if (content.chain, content.epoch, content.block) != (hub.caip2, epoch.epoch, epoch.block_number):
            raise EpochRefused(
                f"content {show(epoch.content)} is of epoch {content.epoch} of {content.chain}, block {content.block}"
            )
        result = build_epoch(
            hub.caip2,
            epoch.epoch,
            epoch.block_number,
            self._progress,
            self._history.charged_at(epoch.block_number),
            content.sessions,
        )
        keys = self._history.keys_at(epoch.block_number)
        check_receipts(content.sessions, keys, hub.settlement_domain.separator, threads=os.cpu_count() or 1)
        return result


def _as_epoch(sealed: SealedEpoch) -> Epoch:
    return Epoch(sealed.epoch, sealed.block, sealed.receipts_root, sealed.payouts_root, sealed.content)
