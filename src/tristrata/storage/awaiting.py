"""Receipts that await a voucher, in sessions whose key is their owner's. On disk before the answer is complete.

What is in the receipt book awaits nothing any more, so that a crash between the book's append and `drop` loses nothing.
"""

from collections.abc import Collection

import msgspec
from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, Table, delete, insert, select

from tristrata.protocol import codec
from tristrata.protocol.ids import Caip2, RequestId, SessionId
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.units import Milliseconds
from tristrata.protocol.voucher import SignedVoucher
from tristrata.storage.database import METADATA, Database
from tristrata.storage.ownership import Ownerships
from tristrata.storage.receipt_book import BookEntry, book_has

_AWAITING = Table(
    "awaiting_receipts",
    METADATA,
    Column("request_id", LargeBinary(32), primary_key=True),
    Column("chain", String(41), nullable=False),
    Column("session", LargeBinary(32), nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    Column("signature", LargeBinary(65), nullable=False),
    Column("prompt_salt", LargeBinary(32), nullable=False),
    Column("output_salt", LargeBinary(32), nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("key_id", String(40), nullable=False),
)
Index("awaiting_receipts_by_session", _AWAITING.c.session)


class AwaitingReceipt(msgspec.Struct, frozen=True):
    """One answer that is not paid for yet: what a `BookEntry` has, less position and voucher."""

    chain: Caip2
    receipt: Receipt
    signature: bytes
    prompt_salt: bytes
    output_salt: bytes
    ended_at: Milliseconds
    key_id: str = ""

    def entry(self, position: int, voucher: SignedVoucher, now: Milliseconds) -> BookEntry:
        """The book's entry once a voucher acknowledges it at ``position``."""
        return BookEntry(
            chain=self.chain,
            position=position,
            receipt=self.receipt,
            signature=self.signature,
            voucher=voucher,
            prompt_salt=self.prompt_salt,
            output_salt=self.output_salt,
            appended_at=now,
            key_id=self.key_id,
        )


class AwaitingReceipts:
    """The awaiting receipts of one database; ``ownerships`` as for the receipt book."""

    def __init__(self, database: Database, ownerships: Ownerships | None = None) -> None:
        self._database = database
        self._ownerships = ownerships

    async def add(self, awaiting: AwaitingReceipt) -> None:
        """Keep a receipt; on disk when this returns. Raises `OwnershipLost`."""
        async with self._database.begin() as connection:
            if self._ownerships is not None:
                await self._ownerships.require(connection, [awaiting.receipt.session])
            await connection.execute(insert(_AWAITING), _to_row(awaiting))

    async def of(self, session: SessionId) -> list[AwaitingReceipt]:
        """A session's receipts that await a voucher, in the order they ended."""
        query = (
            select(_AWAITING)
            .where(_AWAITING.c.session == session, ~book_has(_AWAITING.c.request_id))
            .order_by(_AWAITING.c.ended_at, _AWAITING.c.request_id)
        )
        async with self._database.read() as connection:
            return [_to_awaiting(dict(row)) for row in (await connection.execute(query)).mappings()]

    async def drop(self, request_ids: Collection[RequestId]) -> None:
        """Forget receipts that are in the book now."""
        async with self._database.begin() as connection:
            await connection.execute(delete(_AWAITING).where(_AWAITING.c.request_id.in_(list(request_ids))))


def _to_row(awaiting: AwaitingReceipt) -> dict[str, object]:
    receipt = awaiting.receipt
    return {
        **{name: getattr(awaiting, name) for name in awaiting.__struct_fields__},
        "request_id": receipt.request_id,
        "session": receipt.session,
        "receipt": codec.encode(codec.receipt_to_json(receipt)),
    }


def _to_awaiting(row: dict[str, object]) -> AwaitingReceipt:
    document = row.pop("receipt")
    del row["request_id"], row["session"]
    assert isinstance(document, bytes)
    receipt = codec.receipt_from_json(codec.decode(document))
    return AwaitingReceipt(receipt=receipt, **row)  # type: ignore[arg-type]
