"""Sessions and keys as the API shows them: amounts are decimal text in base units, times Unix seconds, ids hex."""

from typing import Any

from tristrata.protocol.ids import checksum, show
from tristrata.protocol.sign_in import show_account
from tristrata.protocol.voucher import make_splits
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.sessions import ServedSession
from tristrata.storage.api_keys import ApiKey


def describe_session(desk: AccountDesk, served: ServedSession) -> dict[str, Any]:
    """A session's money, where its vouchers stand, and what its owner gets back when."""
    book = served.book
    return {
        "object": "session",
        "id": show(book.session),
        "chain": served.hub.chain,
        "owner": show_account(served.owner),
        "model": desk.model_name(book.terms.model_id),
        "custody": served.custody,
        "session_key": checksum(book.terms.session_key),
        "deposit": str(book.deposit),
        "cumulative": str(book.cumulative),
        "charged": str(book.charged),
        "in_flight": str(book.in_flight),
        "exposure": str(book.exposure),
        "exposure_cap": str(book.terms.exposure_cap),
        "available": str(book.available),
        "receipts": book.tree.count,
        "awaiting": len(served.awaiting),
        "count": book.tree.count,
        "head": show(book.tree.root),
        "splits": [{"payee": checksum(split.payee), "amount": str(split.amount)} for split in make_splits(book.earned)],
        "expiry": book.terms.expiry,
        "ending": book.ending,
        "refund": _refund(desk, served),
    }


def _refund(desk: AccountDesk, served: ServedSession) -> dict[str, Any]:
    life, book = served.life, served.book
    if life.refund is not None:
        state = "forfeited" if life.forfeited else "closed"
        return {"state": state, "amount": str(life.refund), "available_at": None}
    at = book.terms.expiry + desk.hub(served.hub.chain).grace
    if life.closing_at:
        at = min(at, life.closing_at)
    # What awaits vouchers is not owed yet, but the hub may learn of it until then.
    left = max(0, book.deposit - book.cumulative)
    return {"state": "closing" if life.closing_at else "open", "amount": str(left), "available_at": at}


def describe_key(key: ApiKey) -> dict[str, Any]:
    """A key, without its secret, which nobody here knows."""
    return {
        "object": "api_key",
        "id": key.id,
        "name": key.name,
        "owner": show_account(key.owner),
        "scopes": sorted(key.scopes),
        "budget": str(key.budget) if key.budget else None,
        "spent": str(key.spent),
        "created_at": key.created_at,
        "expires_at": key.expires_at or None,
        "revoked_at": key.revoked_at or None,
        "sessions": [show(session) for session in key.sessions],
    }
