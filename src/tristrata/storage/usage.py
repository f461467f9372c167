"""What was used, by session, key and day: counted in the transaction that appends to the receipt book, never apart."""

import sqlite3
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tristrata.protocol.ids import SessionId
from tristrata.protocol.units import Amount
from tristrata.storage.database import METADATA, Database

if TYPE_CHECKING:
    from tristrata.storage.receipt_book import BookEntry

MILLISECONDS_PER_DAY = 86_400_000

_USAGE = Table(
    "usage",
    METADATA,
    Column("session", LargeBinary(32), primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
)
Index("usage_by_key", _USAGE.c.key_id)
# The same words on SQLite and PostgreSQL, which SQLAlchemy's own upserts are not.
_INTO = "INSERT INTO usage (session, key_id, day, requests, prompt_tokens, output_tokens, cost) VALUES "
_ON_CONFLICT = (
    " ON CONFLICT (session, key_id, day) DO UPDATE SET requests = usage.requests + excluded.requests, "
    "prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens, "
    "output_tokens = usage.output_tokens + excluded.output_tokens, cost = usage.cost + excluded.cost"
)


class Usage(msgspec.Struct, frozen=True):
    """What one key used of one session on one UTC day (days since 1970). ``key_id`` is empty where no key was used."""

    session: SessionId
    key_id: str
    day: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    cost: Amount


def tally(entries: "Iterable[BookEntry]") -> list[Usage]:
    """What these entries add to the usage."""
    sums: dict[tuple[SessionId, str, int], list[int]] = {}
    for entry in entries:
        receipt = entry.receipt
        place = (receipt.session, entry.key_id, entry.appended_at // MILLISECONDS_PER_DAY)
        row = sums.setdefault(place, [0, 0, 0, 0])
        for index, value in enumerate((1, receipt.prompt_tokens, receipt.output_tokens, receipt.price)):
            row[index] += value
    return [Usage(*place, row[0], row[1], row[2], Amount(row[3])) for place, row in sorted(sums.items())]


async def count_usage(connection: AsyncConnection, entries: "Iterable[BookEntry]") -> None:
    """Count entries in the transaction that appends them."""
    row = "(:session, :key_id, :day, :requests, :prompt_tokens, :output_tokens, :cost)"
    await connection.execute(
        text(_INTO + row + _ON_CONFLICT), [msgspec.structs.asdict(usage) for usage in tally(entries)]
    )


def write_usage(connection: sqlite3.Connection, entries: "Iterable[BookEntry]") -> None:
    """The same over a plain connection, in one statement."""
    rows = [msgspec.structs.astuple(usage) for usage in tally(entries)]
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(rows))
    connection.execute(_INTO + places + _ON_CONFLICT, [value for row in rows for value in row])


async def spent_by_key(connection: AsyncConnection, key_ids: Collection[str]) -> dict[str, Amount]:
    """What each of these keys has spent in all; none that has spent nothing."""
    query = (
        select(_USAGE.c.key_id, func.sum(_USAGE.c.cost))
        .where(_USAGE.c.key_id.in_(list(key_ids)))
        .group_by(_USAGE.c.key_id)
    )
    return {key_id: Amount(int(cost)) for key_id, cost in await connection.execute(query)}


async def used(
    database: Database, sessions: Collection[SessionId], first_day: int, last_day: int, limit: int, offset: int = 0
) -> list[Usage]:
    """The usage of some sessions from ``first_day`` to ``last_day``, newest day first, ``limit`` rows at most."""
    query = (
        select(_USAGE)
        .where(_USAGE.c.session.in_(list(sessions)), _USAGE.c.day >= first_day, _USAGE.c.day <= last_day)
        .order_by(_USAGE.c.day.desc(), _USAGE.c.session, _USAGE.c.key_id)
        .limit(limit)
        .offset(offset)
    )
    async with database.read() as connection:
        return [Usage(**row) for row in (await connection.execute(query)).mappings()]
