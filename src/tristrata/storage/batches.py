"""Batches: many calls in a file, answered when there is room. Each line's state is on disk, so that none is paid twice.

A line's answers are kept before they are paid (`keep`); one counts once its receipt is in the book. Whoever goes on
with a line after a crash first looks there.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import RequestId, SessionId
from tristrata.protocol.units import Timestamp
from tristrata.storage.database import METADATA, Database
from tristrata.storage.files import write_file
from tristrata.storage.ownership import Ownerships

_PAGE = 100
_BATCHES = Table(
    "batches",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("owner", LargeBinary(32), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("metadata", LargeBinary, nullable=False),
    Column("errors", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("cancelling_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("output_file", String(64), nullable=False),
    Column("error_file", String(64), nullable=False),
    Column("output_seconds", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
)
Index("batches_by_owner", _BATCHES.c.owner, _BATCHES.c.created_at)
Index("batches_by_status", _BATCHES.c.status)
_LINES = Table(
    "batch_lines",
    METADATA,
    Column("batch", String(64), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("custom_id", String(512), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("is_done", Boolean, nullable=False),
    Column("is_failed", Boolean, nullable=False),
    Column("result", LargeBinary, nullable=False),
)
_ANSWERS = Table(
    "batch_answers",
    METADATA,
    Column("batch", String(64), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("choice", Integer, primary_key=True, autoincrement=False),
    Column("session", LargeBinary(32), nullable=False),
    Column("request_id", LargeBinary(32), nullable=False),
    Column("transcript", LargeBinary, nullable=False),
)


class BatchUnknown(TristrataError):
    """The owner has no such batch."""


class Status(StrEnum):
    """A batch's states, in OpenAI's words."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN = (Status.VALIDATING, Status.IN_PROGRESS, Status.CANCELLING)
"""The states of a batch that is not over."""


class Batch(msgspec.Struct, frozen=True):
    """One batch. Times are Unix seconds, 0 where that has not happened; files are empty where there are none.

    ``key_id`` is the API key whose sessions and budget pay. ``output_seconds`` is how long its files are kept.
    ``total``, ``completed`` and ``failed`` count lines.
    """

    id: str
    owner: bytes
    key_id: str
    endpoint: str
    input_file: str
    status: Status
    metadata: dict[str, str]
    created_at: Timestamp
    expires_at: Timestamp
    output_seconds: int
    errors: list[dict[str, Any]] = []
    started_at: Timestamp = Timestamp(0)
    cancelling_at: Timestamp = Timestamp(0)
    ended_at: Timestamp = Timestamp(0)
    output_file: str = ""
    error_file: str = ""
    total: int = 0
    completed: int = 0
    failed: int = 0


class Line(msgspec.Struct, frozen=True):
    """One call of a batch; ``number`` counts from 0."""

    number: int
    custom_id: str
    body: bytes


class KeptAnswer(msgspec.Struct, frozen=True):
    """An answer to one choice of a line, kept before ``session`` paid for it."""

    choice: int
    session: SessionId
    request_id: RequestId
    transcript: bytes


class Batches:
    """The batches of one database. Where routers share it, ``ownerships`` fence what is written for a session."""

    def __init__(self, database: Database, ownerships: Ownerships | None = None) -> None:
        self._database = database
        self._ownerships = ownerships

    async def add(self, batch: Batch) -> None:
        """Take a batch in."""
        async with self._database.begin() as connection:
            await connection.execute(insert(_BATCHES), _to_row(batch))

    async def get(self, batch_id: str, owner: bytes | None = None) -> Batch:
        """A batch, of this owner if one is named. Raises `BatchUnknown`."""
        query = select(_BATCHES).where(_BATCHES.c.id == batch_id)
        if owner is not None:
            query = query.where(_BATCHES.c.owner == owner)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise BatchUnknown(f"no such batch: {batch_id[:64]}", remedy="list yours: GET /v1/batches")
            return await _counted(connection, _to_batch(row))

    async def of(self, owner: bytes) -> list[Batch]:
        """All of an owner's batches, the newest first."""
        query = select(_BATCHES).where(_BATCHES.c.owner == owner)
        query = query.order_by(_BATCHES.c.created_at.desc(), _BATCHES.c.id)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
            return [await _counted(connection, _to_batch(row)) for row in rows]

    async def count_open(self, owner: bytes) -> int:
        """How many of an owner's batches are not over."""
        query = select(func.count()).where(_BATCHES.c.owner == owner, _BATCHES.c.status.in_(OPEN))
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def open_ids(self) -> list[str]:
        """The batches that are not over, the oldest first."""
        query = select(_BATCHES.c.id).where(_BATCHES.c.status.in_(OPEN)).order_by(_BATCHES.c.created_at, _BATCHES.c.id)
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def start(self, batch: Batch, lines: Sequence[Line], now: Timestamp) -> None:
        """Take in the lines of a batch that is valid; once, whoever else does so at the same time."""
        async with self._database.begin() as connection:
            values = {"status": Status.IN_PROGRESS, "started_at": now, "total": len(lines)}
            if not await _change(connection, batch.id, (Status.VALIDATING,), values):
                return
            for first in range(0, len(lines), _PAGE):
                rows = [_line_row(batch.id, line) for line in lines[first : first + _PAGE]]
                await connection.execute(insert(_LINES), rows)

    async def fail(self, batch: Batch, errors: Sequence[dict[str, Any]], now: Timestamp) -> None:
        """End a batch whose file is none, saying why."""
        values = {"status": Status.FAILED, "ended_at": now, "errors": msgspec.json.encode(errors)}
        async with self._database.begin() as connection:
            await _change(connection, batch.id, (Status.VALIDATING,), values)

    async def cancel(self, batch: Batch, now: Timestamp) -> None:
        """Ask for the end of a batch; nothing where it is over."""
        values = {"status": Status.CANCELLING, "cancelling_at": now}
        async with self._database.begin() as connection:
            await _change(connection, batch.id, (Status.VALIDATING, Status.IN_PROGRESS), values)

    async def waiting(self, batch: Batch) -> list[int]:
        """The numbers of the lines that are not answered yet."""
        query = select(_LINES.c.line).where(_LINES.c.batch == batch.id, _LINES.c.is_done.is_(False))
        async with self._database.read() as connection:
            return list((await connection.execute(query.order_by(_LINES.c.line))).scalars())

    async def begun(self, batch: Batch) -> list[int]:
        """The numbers of the lines of which answers are kept."""
        query = select(_ANSWERS.c.line).distinct().where(_ANSWERS.c.batch == batch.id)
        async with self._database.read() as connection:
            return list((await connection.execute(query.order_by(_ANSWERS.c.line))).scalars())

    async def line(self, batch: Batch, number: int) -> Line:
        """One line."""
        query = select(_LINES.c.custom_id, _LINES.c.body).where(_LINES.c.batch == batch.id, _LINES.c.line == number)
        async with self._database.read() as connection:
            custom_id, body = (await connection.execute(query)).one()
        return Line(number, custom_id, body)

    async def keep(self, batch: Batch, line: int, answer: KeptAnswer) -> None:
        """Keep an answer that is to be paid next; on disk when this returns. Raises `OwnershipLost`."""
        row = {"batch": batch.id, "line": line, **msgspec.structs.asdict(answer)}
        async with self._database.begin() as connection:
            await self._require(connection, answer.session)
            await _drop(connection, batch, line, answer.choice)
            await connection.execute(insert(_ANSWERS), row)

    async def kept(self, batch: Batch, line: int) -> list[KeptAnswer]:
        """What is kept of a line, by choice. It was paid if its request is in the receipt book."""
        columns = (_ANSWERS.c.choice, _ANSWERS.c.session, _ANSWERS.c.request_id, _ANSWERS.c.transcript)
        query = select(*columns).where(_ANSWERS.c.batch == batch.id, _ANSWERS.c.line == line)
        async with self._database.read() as connection:
            return [KeptAnswer(*row) for row in await connection.execute(query.order_by(_ANSWERS.c.choice))]

    async def finish_line(self, batch: Batch, line: int, result: bytes, *, is_failed: bool) -> None:
        """Keep a line's result, as it will stand in the file; once, whoever else does so too."""
        mine = (_LINES.c.batch == batch.id, _LINES.c.line == line, _LINES.c.is_done.is_(False))
        async with self._database.begin() as connection:
            await connection.execute(
                update(_LINES).where(*mine).values(is_done=True, is_failed=is_failed, result=result, body=b"")
            )
            await connection.execute(delete(_ANSWERS).where(_ANSWERS.c.batch == batch.id, _ANSWERS.c.line == line))

    async def finish(self, batch: Batch, status: Status, unanswered: bytes, now: Timestamp) -> None:
        """End a batch: write its files, drop its lines. ``unanswered`` is the error (JSON) of lines without result."""
        async with self._database.begin() as connection:
            if not await _change(connection, batch.id, OPEN, {"status": status, "ended_at": now}):
                return
            counts = await _counted(connection, batch)
            files_expire_at = Timestamp(now + batch.output_seconds)
            values: dict[str, object] = {"completed": counts.completed, "failed": batch.total - counts.completed}
            for name, is_failed in (("output_file", False), ("error_file", True)):
                content = _results(connection, batch, is_failed, unanswered)
                title = f"{batch.id}_{name.removesuffix('_file')}.jsonl"
                file = await write_file(connection, batch.owner, title, "batch_output", content, now, files_expire_at)
                values[name] = file.id if file.size else ""
            await connection.execute(update(_BATCHES).where(_BATCHES.c.id == batch.id).values(**values))
            await connection.execute(delete(_LINES).where(_LINES.c.batch == batch.id))
            await connection.execute(delete(_ANSWERS).where(_ANSWERS.c.batch == batch.id))

    async def drop(self, batch: Batch, line: int, answer: KeptAnswer) -> None:
        """Forget an answer that was never paid."""
        async with self._database.begin() as connection:
            await _drop(connection, batch, line, answer.choice)

    async def drop_ended(self, before: Timestamp) -> None:
        """Forget batches that were over by then."""
        async with self._database.begin() as connection:
            await connection.execute(delete(_BATCHES).where(_BATCHES.c.ended_at > 0, _BATCHES.c.ended_at <= before))

    async def _require(self, connection: AsyncConnection, session: SessionId) -> None:
        if self._ownerships is not None:
            await self._ownerships.require(connection, [session])


def new_batch_id() -> str:
    """A name that nobody guesses."""
    return f"batch_{secrets.token_hex(16)}"


async def _change(
    connection: AsyncConnection, batch_id: str, statuses: Sequence[Status], values: dict[str, object]
) -> bool:
    query = update(_BATCHES).where(_BATCHES.c.id == batch_id, _BATCHES.c.status.in_(statuses))
    return (await connection.execute(query.values(**values))).rowcount == 1


async def _drop(connection: AsyncConnection, batch: Batch, line: int, choice: int) -> None:
    mine = (_ANSWERS.c.batch == batch.id, _ANSWERS.c.line == line, _ANSWERS.c.choice == choice)
    await connection.execute(delete(_ANSWERS).where(*mine))


async def _counted(connection: AsyncConnection, batch: Batch) -> Batch:
    """With the lines' counts as they are now."""
    if batch.status not in (Status.IN_PROGRESS, Status.CANCELLING):
        return batch
    query = select(_LINES.c.is_failed, func.count()).where(_LINES.c.batch == batch.id, _LINES.c.is_done.is_(True))
    counts = {bool(is_failed): count for is_failed, count in await connection.execute(query.group_by("is_failed"))}
    return msgspec.structs.replace(batch, completed=counts.get(False, 0), failed=counts.get(True, 0))


async def _results(
    connection: AsyncConnection, batch: Batch, is_failed: bool, unanswered: bytes
) -> AsyncIterator[bytes]:
    """The lines of a file, some at a time. The error of an unanswered one gets its ``custom_id``."""
    last = -1
    while True:
        query = select(_LINES).where(_LINES.c.batch == batch.id, _LINES.c.line > last)
        if is_failed:
            query = query.where(_LINES.c.is_failed.is_(True) | _LINES.c.is_done.is_(False))
        else:
            query = query.where(_LINES.c.is_failed.is_(False), _LINES.c.is_done.is_(True))
        rows = (await connection.execute(query.order_by(_LINES.c.line).limit(_PAGE))).mappings().all()
        if not rows:
            return
        last = rows[-1]["line"]
        results = [row["result"] if row["is_done"] else _error_line(row["custom_id"], unanswered) for row in rows]
        yield b"".join(result + b"\n" for result in results)


def _error_line(custom_id: str, error: bytes) -> bytes:
    return msgspec.json.encode(result_line(custom_id, None, msgspec.Raw(error)))


def result_line(custom_id: str, response: Any, error: Any) -> dict[str, Any]:
    """A line of an output or error file, as OpenAI writes it."""
    name = f"batch_req_{secrets.token_hex(16)}"
    return {"id": name, "custom_id": custom_id, "response": response, "error": error}


def _line_row(batch_id: str, line: Line) -> dict[str, object]:
    return {
        "batch": batch_id,
        "line": line.number,
        "custom_id": line.custom_id,
        "body": line.body,
        "is_done": False,
        "is_failed": False,
        "result": b"",
    }


def _to_row(batch: Batch) -> dict[str, object]:
    row = msgspec.structs.asdict(batch)
    return {**row, "metadata": msgspec.json.encode(batch.metadata), "errors": msgspec.json.encode(batch.errors)}


def _to_batch(row: Any) -> Batch:
    given = {"metadata": msgspec.json.decode(row["metadata"]), "errors": msgspec.json.decode(row["errors"])}
    return Batch(**{**row, **given, "status": Status(row["status"])})
