"""What a settler has to do now. Pure: vouchers, charges and epochs in, decisions out."""

from collections.abc import Iterable, Mapping

from tristrata.protocol.epoch import ChargedSession
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


def needs_epoch(
    before: Mapping[SessionId, ChargedSession], now: Mapping[SessionId, ChargedSession], *, has_new_children: bool
) -> bool:
    """Whether an epoch over the charges ``now`` says something that the last one, over ``before``, did not."""
    return has_new_children or before != now
