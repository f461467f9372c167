"""Batches in SQLite and PostgreSQL: what counts once counts once, whoever says it again."""

from pathlib import Path

import msgspec
import pytest

from tests.support.postgres import Postgres
from tristrata.protocol.ids import RequestId, SessionId
from tristrata.protocol.units import Timestamp
from tristrata.storage.batches import Batch, Batches, BatchUnknown, KeptAnswer, Line, Status, new_batch_id, result_line
from tristrata.storage.database import Database
from tristrata.storage.files import Files
from tristrata.storage.ownership import OwnershipLost, Ownerships

OWNER, OTHER = b"\x07" * 20, b"\x08" * 20
SESSION = SessionId(b"\x0a" * 32)
NOW, EXPIRY = Timestamp(1_800_000_000), Timestamp(1_800_086_400)
LINES = [Line(number, f"line-{number}", b'{"model":"m"}') for number in range(205)]


def make_batch(created_at: int = NOW, owner: bytes = OWNER) -> Batch:
    return Batch(
        new_batch_id(),
        owner,
        "key_1",
        "/v1/chat/completions",
        "file-1",
        Status.VALIDATING,
        {"of": "test"},
        Timestamp(created_at),
        EXPIRY,
        3_600,
    )


def answer(choice: int, request: bytes = b"\x01") -> KeptAnswer:
    return KeptAnswer(choice, SESSION, RequestId(request * 32), b"transcript")


def result(line: Line) -> bytes:
    return msgspec.json.encode(result_line(line.custom_id, {"status_code": 200}, None))


async def started(database: Database) -> tuple[Batches, Batch]:
    batches, batch = Batches(database), make_batch()
    await batches.add(batch)
    await batches.start(batch, LINES, NOW)
    return batches, await batches.get(batch.id)


async def test_of__batches_of_several__are_the_owners_newest_first(location: Path | str) -> None:
    database = await Database.open(location)
    batches = Batches(database)
    old, new, others = make_batch(NOW - 10), make_batch(), make_batch(owner=OTHER)
    for batch in (old, new, others):
        await batches.add(batch)

    assert await batches.of(OWNER) == [new, old]
    assert await batches.count_open(OWNER) == 2
    assert await batches.get(old.id, OWNER) == old
    assert set(await batches.open_ids()) == {old.id, new.id, others.id}
    with pytest.raises(BatchUnknown):
        await batches.get(others.id, OWNER)
    await database.close()


async def test_start__said_twice_or_after_the_end__has_its_lines_once(location: Path | str) -> None:
    database = await Database.open(location)
    batches, batch = await started(database)

    await batches.start(batch, LINES, Timestamp(NOW + 5))

    assert await batches.waiting(batch) == list(range(205))
    found = await batches.get(batch.id)
    assert (found.status, found.total, found.started_at) == (Status.IN_PROGRESS, 205, NOW)
    assert await batches.line(batch, 7) == LINES[7]
    failed = make_batch()
    await batches.add(failed)
    await batches.fail(failed, [{"code": "empty_file"}], NOW)
    await batches.start(failed, LINES, NOW)
    await batches.cancel(failed, NOW)
    found = await batches.get(failed.id)
    assert (found.status, found.errors, found.ended_at) == (Status.FAILED, [{"code": "empty_file"}], NOW)
    assert await batches.waiting(failed) == []
    await database.close()


async def test_finish__some_lines_answered__writes_both_files_and_forgets_the_lines(location: Path | str) -> None:
    database = await Database.open(location)
    batches, batch = await started(database)
    for line in LINES[:150]:
        await batches.finish_line(batch, line.number, result(line), is_failed=line.number % 10 == 0)
    await batches.finish_line(batch, 1, b"again", is_failed=True)
    counted = await batches.get(batch.id)
    assert (counted.completed, counted.failed) == (135, 15)

    await batches.finish(counted, Status.EXPIRED, b'{"code":"batch_expired"}', NOW)
    await batches.finish(counted, Status.COMPLETED, b"", NOW)

    found, files = await batches.get(batch.id), Files(database)
    assert (found.status, found.completed, found.failed) == (Status.EXPIRED, 135, 70)
    output = await files.get(found.output_file, OWNER, NOW)
    assert output.expires_at == NOW + 3_600
    lines = b"".join([chunk async for chunk in files.content(output)]).splitlines()
    assert [msgspec.json.decode(line)["custom_id"] for line in lines] == [
        line.custom_id for line in LINES[:150] if line.number % 10
    ]
    errors = await files.get(found.error_file, OWNER, NOW)
    failed = [
        msgspec.json.decode(line) for chunk in [c async for c in files.content(errors)] for line in chunk.splitlines()
    ]
    assert [line["custom_id"] for line in failed] == [
        line.custom_id for line in LINES if line.number >= 150 or line.number % 10 == 0
    ]
    assert failed[-1]["error"] == {"code": "batch_expired"} and failed[-1]["response"] is None
    assert len(await files.of(OWNER, NOW)) == 2
    assert await batches.waiting(batch) == []
    assert await batches.open_ids() == []
    await database.close()


async def test_finish__all_lines_answered__writes_no_error_file(location: Path | str) -> None:
    database = await Database.open(location)
    batches, batch = await started(database)
    for line in LINES:
        await batches.finish_line(batch, line.number, result(line), is_failed=False)

    await batches.finish(batch, Status.COMPLETED, b"", NOW)

    found = await batches.get(batch.id)
    assert (found.completed, found.failed, found.error_file) == (205, 0, "")
    await database.close()


async def test_keep__answers_of_a_line__are_there_until_it_is_finished(location: Path | str) -> None:
    database = await Database.open(location)
    batches, batch = await started(database)

    await batches.keep(batch, 3, answer(1))
    await batches.keep(batch, 3, answer(0, b"\x02"))
    await batches.keep(batch, 3, answer(0, b"\x03"))

    assert await batches.kept(batch, 3) == [answer(0, b"\x03"), answer(1)]
    assert await batches.begun(batch) == [3]
    await batches.drop(batch, 3, answer(1))
    assert await batches.kept(batch, 3) == [answer(0, b"\x03")]
    await batches.finish_line(batch, 3, result(LINES[3]), is_failed=False)
    assert await batches.kept(batch, 3) == []
    assert 3 not in await batches.waiting(batch)
    await database.close()


async def test_keep__session_that_another_router_owns__is_refused(postgres: Postgres) -> None:
    database = await Database.open(postgres.database())
    owner, other = Ownerships(database, "r1", ""), Ownerships(database, "r2", "")
    await owner.start()
    await other.start()
    await owner.claim(SESSION)
    _, batch = await started(database)

    with pytest.raises(OwnershipLost):
        await Batches(database, other).keep(batch, 0, answer(0))

    assert await Batches(database).kept(batch, 0) == []
    await Batches(database, owner).keep(batch, 0, answer(0))
    assert await Batches(database).kept(batch, 0) == [answer(0)]
    await database.close()


async def test_drop_ended__old_batch__is_forgotten(location: Path | str) -> None:
    database = await Database.open(location)
    batches, batch = await started(database)
    await batches.finish(batch, Status.COMPLETED, b"{}", NOW)

    await batches.drop_ended(Timestamp(NOW - 1))
    assert (await batches.get(batch.id)).status == Status.COMPLETED
    await batches.drop_ended(NOW)

    with pytest.raises(BatchUnknown):
        await batches.get(batch.id)
    await database.close()
