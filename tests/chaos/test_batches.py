"""Batches of a fleet whose routers, NATS servers and PostgreSQL are killed: every line is answered and paid once."""

import asyncio
import json
import os
import signal
from collections import Counter
from contextlib import suppress

import openai
import pytest
from openai.types import Batch

from tests.chaos.test_fleet import Fleet, check_money, fleet  # noqa: F401
from tests.support.fleet import MODEL, answer_to, api_key, session_id
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook

SESSIONS, LINES = 3, 400
_FAILURES = (openai.APIError, OSError)


def prompt_of(session: int, line: int) -> str:
    return f"batch of {session}, line {line}"


async def patiently(fleet: Fleet, session: int, what: str, **asked: object) -> Batch:  # noqa: F811
    """Ask any router until one answers."""
    async with asyncio.timeout(60):
        while True:
            for address in fleet.addresses:
                async with openai.AsyncOpenAI(
                    base_url=f"{address}/v1", api_key=api_key(session), max_retries=0
                ) as client:
                    with suppress(*_FAILURES):
                        return await getattr(client.batches, what)(**asked)  # type: ignore[no-any-return]
            await asyncio.sleep(0.2)


async def start(fleet: Fleet, session: int) -> Batch:  # noqa: F811
    lines = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": [{"role": "user", "content": prompt_of(session, number)}]},
        }
        for number in range(LINES)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    async with openai.AsyncOpenAI(base_url=f"{fleet.addresses[0]}/v1", api_key=api_key(session)) as client:
        file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
        return await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )


async def answers(fleet: Fleet, session: int, batch: Batch) -> dict[str, str]:  # noqa: F811
    """The text of each line's answer."""
    assert batch.output_file_id is not None
    async with openai.AsyncOpenAI(base_url=f"{fleet.addresses[-1]}/v1", api_key=api_key(session)) as client:
        text = (await client.files.content(batch.output_file_id)).text
    found = [json.loads(line) for line in text.splitlines()]
    return {each["custom_id"]: each["response"]["body"]["choices"][0]["message"]["content"] for each in found}


async def entries_of(fleet: Fleet, session: int) -> list[object]:  # noqa: F811
    database = await Database.open(fleet.database)
    entries = await ReceiptBook(database).entries(session_id(session))
    await database.close()
    check_money(entries)
    return list(entries)


@pytest.mark.timeout(240)
async def test_batches__each_part_is_killed_meanwhile__every_line_is_answered_and_paid_once(
    fleet: Fleet,  # noqa: F811
) -> None:
    before = [len(await entries_of(fleet, session)) for session in range(SESSIONS)]
    batches = [await start(fleet, session) for session in range(SESSIONS)]
    progress: list[str] = []

    async def phase(what: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        found = [await patiently(fleet, number, "retrieve", batch_id=batch.id) for number, batch in enumerate(batches)]
        counts = [each.request_counts.completed for each in found if each.request_counts]
        progress.append(f"{what}: {counts} of {LINES} lines answered")

    await phase("all run", 1)
    for name in ("r0", "r1", "r2"):
        fleet.kill(name)
        await phase(f"router {name} is killed", 3)
        fleet.start(name)
    server = fleet.servers[0]
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await phase("a NATS server is killed", 2)
    await server.start()
    await asyncio.to_thread(fleet.postgres.crash_and_restart)
    await phase("PostgreSQL has crashed and is back", 1)
    async with asyncio.timeout(150):
        while not all(batch.status == "completed" for batch in batches):
            await asyncio.sleep(0.5)
            batches = [
                await patiently(fleet, number, "retrieve", batch_id=batch.id) for number, batch in enumerate(batches)
            ]
    print(*progress, sep="\n")

    for number, batch in enumerate(batches):
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.failed) == (LINES, 0)
        expected = {f"line-{line}": "".join(answer_to(prompt_of(number, line))) for line in range(LINES)}
        assert await answers(fleet, number, batch) == expected
        paid = len(await entries_of(fleet, number)) - before[number]
        assert paid == LINES, f"session {number}: {paid} receipts for {LINES} lines"
    assert Counter(batch.status for batch in batches) == {"completed": SESSIONS}
