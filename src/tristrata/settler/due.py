"""What a settler has to do now. Pure: vouchers, charges and epochs in, decisions out."""

from collections.abc import Collection, Iterable, Mapping

from tristrata.bindings.hub import MAX_CHARGED_SPLITS, MAX_CHARGES
from tristrata.protocol.epoch import ChargedSession, SessionProgress, SessionReceipts
from tristrata.protocol.ids import SessionId
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.storage.receipt_book import BookEntry


def due(
    latest: Iterable[BookEntry], charged: Mapping[SessionId, Amount], now: Milliseconds, charge_after: Milliseconds
) -> list[BookEntry]:
    """The last entry of every session whose voucher is above what was charged, and ``charge_after`` old.

    Waiting lets one charge pay for many answers; a session that is asked without pause is charged at most
    ``charge_after`` after its answers pause, or when the router stops serving it at its exposure cap.
    """
    return [
        entry
        for entry in latest
        if entry.voucher.voucher.cumulative > charged.get(entry.receipt.session, 0)
        and now - entry.appended_at >= charge_after
    ]


def one_batch(waiting: Iterable[BookEntry]) -> list[BookEntry]:
    """The first of these that one transaction can charge."""
    batch: list[BookEntry] = []
    splits = 0
    for entry in waiting:
        splits += len(entry.voucher.splits)
        if len(batch) == MAX_CHARGES or splits > MAX_CHARGED_SPLITS:
            break
        batch.append(entry)
    return batch


def unaccounted(
    before: Mapping[SessionId, SessionProgress], charged: Mapping[SessionId, ChargedSession]
) -> list[SessionId]:
    """The sessions, by id, of which more is charged than epochs have accounted for so far."""
    none = SessionProgress()
    return sorted(session for session, charge in charged.items() if charge.cumulative > before.get(session, none).total)


def needs_epoch(accountable: Collection[SessionReceipts], *, has_new_children: bool) -> bool:
    """Whether a next epoch would say something new. A charge that nothing accounts for is nothing that it could say."""
    return has_new_children or bool(accountable)
