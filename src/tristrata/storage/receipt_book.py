"""The receipt book: one durable append an answer, receipt and voucher together. The router is its only writer.

Appends that arrive while another is being written share the next transaction, so that a busy router pays one fsync for
many answers.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from functools import lru_cache

import msgspec
from asyncpg import InterfaceError, PostgresError
from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, UniqueConstraint, exists, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql import ColumnElement

from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Caip2, RequestId, SessionId, show
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.units import Milliseconds
from tristrata.protocol.voucher import SignedVoucher
from tristrata.storage.database import METADATA, Database
from tristrata.storage.ownership import Ownerships
from tristrata.storage.usage import count_usage, write_usage

_ENTRIES = Table(
    "receipt_book",
    METADATA,
    Column("request_id", LargeBinary(32), primary_key=True),
    Column("chain", String(41), nullable=False),
    Column("session", LargeBinary(32), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    Column("signature", LargeBinary(65), nullable=False),
    Column("voucher", LargeBinary, nullable=False),
    Column("prompt_salt", LargeBinary(32), nullable=False),
    Column("output_salt", LargeBinary(32), nullable=False),
    Column("appended_at", BigInteger, nullable=False),
    Column("key_id", String(40), nullable=False),
    UniqueConstraint("session", "position"),
)


_NAMES = [column.name for column in _ENTRIES.columns]
_MOST_ROWS = 256
PATIENCE_SECONDS = 20.0
_PAUSE_SECONDS = 0.2
# While PostgreSQL restarts, asyncpg raises the one or the other; a SQLite file may be locked for a while.
_INTERRUPTIONS = (OSError, DBAPIError, PostgresError, InterfaceError, sqlite3.OperationalError)


class EntryExists(TristrataError):
    """The request, or the position in the session, is in the book already; nothing was written."""


class BookUnavailable(TristrataError):
    """The receipt book cannot be written now; what was to be kept is not."""


class BookEntry(msgspec.Struct, frozen=True, gc=False):
    """One acknowledged answer: the miner's signed receipt, its place in the session, the voucher that pays for it.

    ``key_id`` is the API key that asked; empty where none did.
    """

    chain: Caip2
    position: int
    receipt: Receipt
    signature: bytes
    voucher: SignedVoucher
    prompt_salt: bytes
    output_salt: bytes
    appended_at: Milliseconds
    key_id: str = ""


class ReceiptBook:
    """The book over one database. `append` may be called from many tasks at once.

    Where several routers share the database, ``ownerships`` says which sessions this one may write for.
    """

    def __init__(self, database: Database, ownerships: Ownerships | None = None) -> None:
        self._database = database
        self._ownerships = ownerships
        self._waiting: list[tuple[BookEntry, asyncio.Future[BookEntry]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._broken: set[SessionId] = set()
        self._next: dict[SessionId, int] = {}

    def append(self, entry: BookEntry) -> "asyncio.Future[BookEntry]":
        """Keep an entry for ever; it is on disk when the future has it, even if that is cancelled meanwhile.

        A database that cannot be reached is tried again for 20 seconds. Raises `EntryExists`, `OwnershipLost`, or
        `BookUnavailable`; later entries of the same session are refused then, until it is `mend`-ed from what is here.
        """
        future: asyncio.Future[BookEntry] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return future

    def mend(self, session: SessionId, count: int) -> None:
        """Take a session's entries again, from position ``count`` on: what is in memory was read anew from here."""
        self._broken.discard(session)
        self._next[session] = count

    async def append_all(self, entries: Sequence[BookEntry]) -> None:
        """Keep these entries for ever, all of them or none; they are on disk when this returns. Raises as `append`."""
        await self._insert(entries)

    async def entry(self, request_id: RequestId) -> BookEntry | None:
        """The entry of one request."""
        found = await self._select(_ENTRIES.c.request_id == request_id)
        return found[0] if found else None

    async def entries(self, session: SessionId, first: int = 0) -> list[BookEntry]:
        """A session's entries from position ``first`` on, in order."""
        return await self._select((_ENTRIES.c.session == session) & (_ENTRIES.c.position >= first))

    async def newest(self, session: SessionId, limit: int, before: int | None = None) -> list[BookEntry]:
        """A session's last entries, the newest first, from the one before position ``before`` on."""
        mine = _ENTRIES.c.session == session
        condition = mine if before is None else mine & (_ENTRIES.c.position < before)
        query = select(_ENTRIES).where(condition).order_by(_ENTRIES.c.position.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_to_entry(row) for row in (await connection.execute(query)).mappings()]

    async def latest(self) -> list[BookEntry]:
        """The last entry of every session."""
        newest = (
            select(_ENTRIES.c.session, func.max(_ENTRIES.c.position).label("position"))
            .group_by(_ENTRIES.c.session)
            .subquery()
        )
        both = (_ENTRIES.c.session == newest.c.session) & (_ENTRIES.c.position == newest.c.position)
        async with self._database.read() as connection:
            rows = await connection.execute(select(_ENTRIES).join(newest, both))
            return [_to_entry(row) for row in rows.mappings()]

    async def _select(self, condition: object) -> list[BookEntry]:
        query = select(_ENTRIES).where(condition).order_by(_ENTRIES.c.position)  # type: ignore[arg-type]
        async with self._database.read() as connection:
            return [_to_entry(row) for row in (await connection.execute(query)).mappings()]

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._keep([entry for entry, _ in batch])
            except Exception:
                # One bad entry must not fail its neighbours: each is tried alone.
                for entry, future in batch:
                    try:
                        await self._keep([entry])
                    except Exception as error:  # handed to the task that appended it
                        self._broken.add(entry.receipt.session)
                        if not future.done():
                            future.set_exception(error)
                    else:
                        _settle(future, entry)
            else:
                for entry, future in batch:
                    _settle(future, entry)

    async def _keep(self, entries: Sequence[BookEntry]) -> None:
        """Insert, and again while the database cannot be reached."""
        after = self._require_next(entries)
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        was_interrupted = False
        while True:
            try:
                await self._insert(entries)
                break
            except EntryExists:
                # The connection may have broken after the commit: then what is there is this.
                if was_interrupted and await self._has(entries):
                    break
                raise
            except _INTERRUPTIONS as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise BookUnavailable(
                        "the receipt book cannot be written", remedy="see the database; nothing is charged meanwhile"
                    ) from error
                was_interrupted = True
                await asyncio.sleep(_PAUSE_SECONDS)
        self._next.update(after)

    def _require_next(self, entries: Sequence[BookEntry]) -> dict[SessionId, int]:
        """Each session's next position after these. An entry after one that could not be kept leaves no hole."""
        after: dict[SessionId, int] = {}
        for entry in entries:
            session = entry.receipt.session
            expected = after.get(session, self._next.get(session, entry.position))
            if session in self._broken or entry.position > expected:
                raise BookUnavailable(f"an entry of session {show(session)} before this one could not be kept")
            if entry.position < expected:
                raise EntryExists(f"position {entry.position} of session {show(session)} is in the receipt book")
            after[session] = expected + 1
        return after

    async def _has(self, entries: Sequence[BookEntry]) -> bool:
        return all([await self.entry(entry.receipt.request_id) == entry for entry in entries])

    async def _insert(self, entries: Sequence[BookEntry]) -> None:
        try:
            if self._database.writer is not None:
                await self._database.writer.run(lambda connection: _write_entries(connection, entries))
                return
            async with self._database.begin() as connection:
                if self._ownerships is not None:
                    await self._ownerships.require(connection, {entry.receipt.session for entry in entries})
                await connection.execute(insert(_ENTRIES), [_to_row(entry) for entry in entries])
                await count_usage(connection, entries)
        except (sqlite3.IntegrityError, IntegrityError) as error:
            known = ", ".join(f"{entry.receipt.request_id.hex()} at {entry.position}" for entry in entries)
            raise EntryExists(f"of these requests, one or its position is in the receipt book: {known}") from error


def _write_entries(connection: sqlite3.Connection, entries: Sequence[BookEntry]) -> None:
    # One statement for many rows: each step of SQLite's gives up Python's lock, and waits to get it back.
    for first in range(0, len(entries), _MOST_ROWS):
        rows = [_to_row(entry) for entry in entries[first : first + _MOST_ROWS]]
        connection.execute(_insert_rows(len(rows)), [row[name] for row in rows for name in _NAMES])
    write_usage(connection, entries)


@lru_cache
def _insert_rows(count: int) -> str:
    row = f"({', '.join('?' * len(_NAMES))})"
    return f"INSERT INTO receipt_book ({', '.join(_NAMES)}) VALUES {', '.join([row] * count)}"  # noqa: S608


def book_has(request_id: "ColumnElement[bytes]") -> "ColumnElement[bool]":
    """Whether a request is in the book, for a query over another table of the same database."""
    return exists().where(_ENTRIES.c.request_id == request_id)


def _settle(future: "asyncio.Future[BookEntry]", entry: BookEntry) -> None:
    if not future.done():  # else whoever waited was cancelled; the entry is in the book all the same
        future.set_result(entry)


def _to_row(entry: BookEntry) -> dict[str, object]:
    return {
        "request_id": entry.receipt.request_id,
        "chain": entry.chain,
        "session": entry.receipt.session,
        "position": entry.position,
        "receipt": codec.receipt_document(entry.receipt),
        "signature": entry.signature,
        "voucher": codec.voucher_document(entry.voucher),
        "prompt_salt": entry.prompt_salt,
        "output_salt": entry.output_salt,
        "appended_at": entry.appended_at,
        "key_id": entry.key_id,
    }


def _to_entry(row: object) -> BookEntry:
    values = dict(row)  # type: ignore[call-overload]
    return BookEntry(
        chain=Caip2(values["chain"]),
        position=values["position"],
        receipt=codec.receipt_from_json(codec.decode(values["receipt"])),
        signature=values["signature"],
        voucher=codec.voucher_from_json(codec.decode(values["voucher"])),
        prompt_salt=values["prompt_salt"],
        output_salt=values["output_salt"],
        appended_at=Milliseconds(values["appended_at"]),
        key_id=values["key_id"],
    )
