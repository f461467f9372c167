import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tristrata.router import endpoint
from tristrata.router.attempt import MinerLost
from tristrata.router.endpoint import EventStream

COMMENT = b": keep-alive\n\n"


async def serve(events: AsyncGenerator[tuple[bytes, bool], None]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    headers = {"x-request-id": "r"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("the stream reads nothing")

    await EventStream(events, headers)({"type": "http", "path": "/"}, receive, send)
    return sent


async def test_event_stream__nothing_comes_for_long__says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "KEEP_ALIVE_SECONDS", 0.01)

    async def events() -> AsyncGenerator[tuple[bytes, bool], None]:
        await asyncio.sleep(0.1)
        yield b"data: 1\n\n", False
        await asyncio.sleep(0.1)
        yield b"data: 2\n\n", True

    start, *sent = await serve(events())
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    bodies = [message["body"] for message in sent]
    first, second = bodies.index(b"data: 1\n\n"), bodies.index(b"data: 2\n\n")
    assert bodies[:first] == [COMMENT] * first
    assert bodies[first + 1 : second] == [COMMENT] * (second - first - 1)
    assert min(first, second - first - 1) >= 1
    assert [message["more_body"] for message in sent] == [True] * second + [False]


async def test_event_stream__events_in_time__has_them_only() -> None:
    async def events() -> AsyncGenerator[tuple[bytes, bool], None]:
        yield b"data: 1\n\n", False
        yield b"data: 2\n\n", True

    start, *sent = await serve(events())
    assert (b"x-request-id", b"r") in start["headers"]
    assert [message["body"] for message in sent] == [b"data: 1\n\n", b"data: 2\n\n"]


async def test_event_stream__fails_before_the_first_event__raises_so_that_there_is_a_status() -> None:
    async def events() -> AsyncGenerator[tuple[bytes, bool], None]:
        raise MinerLost("gone")
        yield

    with pytest.raises(MinerLost):
        await serve(events())


@pytest.mark.parametrize(
    ("error", "words"), [(MinerLost("gone"), b"gone"), (ValueError("secret"), b"its log says why")]
)
async def test_event_stream__fails_later__says_so_as_the_last_event(error: Exception, words: bytes) -> None:
    async def events() -> AsyncGenerator[tuple[bytes, bool], None]:
        yield b"data: 1\n\n", False
        raise error

    *_, last = await serve(events())
    assert words in last["body"]
    assert b"secret" not in last["body"]
    assert not last["more_body"]


async def test_event_stream__fails_after_a_comment__says_so_as_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "KEEP_ALIVE_SECONDS", 0.01)

    async def events() -> AsyncGenerator[tuple[bytes, bool], None]:
        await asyncio.sleep(0.1)
        raise MinerLost("gone")
        yield

    start, *sent = await serve(events())
    assert start["status"] == 200
    assert sent[0]["body"] == COMMENT
    assert b'"code":"miner_lost"' in sent[-1]["body"]


async def test_event_stream__a_client_reads_no_more__is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "KEEP_ALIVE_SECONDS", 0.01)
    monkeypatch.setattr(endpoint, "WRITE_SECONDS", 0.1)
    closed: list[bool] = []

    async def events() -> AsyncGenerator[tuple[bytes, bool], None]:
        try:
            yield b"data: 1\n\n", False
            yield b"data: 2\n\n", True
        finally:
            closed.append(True)

    async def send(message: dict[str, Any]) -> None:
        if message.get("body") == b"data: 2\n\n":
            await asyncio.Event().wait()
        assert message.get("body") != COMMENT, "nothing is said to who does not read"

    async def receive() -> dict[str, Any]:
        raise AssertionError("the stream reads nothing")

    stream = asyncio.create_task(EventStream(events(), {})({"type": "http", "path": "/"}, receive, send))
    await asyncio.wait([stream], timeout=5)
    assert stream.cancelled()
    assert closed == [True]
