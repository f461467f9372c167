"""A second miner is asked where the first is slow to begin; over a real NATS server with two miners."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.support.fleet import StubRuntime
from tests.support.world import MINER, QUESTION, SECOND_MINER, World, eventually, open_world
from tristrata.inference.runtime import Piece, Request
from tristrata.inference.weights import SMOLLM2
from tristrata.protocol.answers import TaskKind
from tristrata.router.attempt import MinerLost, Question
from tristrata.router.matching import NoCapacity
from tristrata.router.serving import Ended, Pieces

ASKED = Question(TaskKind.CHAT, msgspec.json.encode({"messages": QUESTION}), 20)


class Slow(StubRuntime):
    """A model that takes its time before its first piece. It counts what it was ``asked``, ``said`` and ``ended``.

    It is quick until it is `turn`ed: a miner asks its model some questions when it starts.
    """

    def __init__(self, seconds: float = 0, *, fails: bool = False) -> None:
        self.asked = self.ended = self.said = 0
        self._later = seconds, fails
        self._seconds, self._fails = 0.0, False

    def turn(self) -> None:
        self.asked = self.ended = self.said = 0
        self._seconds, self._fails = self._later

    async def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        self.asked += 1
        try:
            await asyncio.sleep(self._seconds)
            if self._fails:
                raise RuntimeError("out of memory")
            async for piece in super().stream(request, kind):
                self.said += 1
                yield piece
        finally:
            self.ended += 1


@asynccontextmanager
async def two(folder: Path, first: Slow, second: Slow | None, hedge_seconds: float) -> AsyncIterator[World]:
    async with open_world(folder, folder, first, second=second, hedge_seconds=hedge_seconds) as world:
        for model in (first, second):
            if model is not None:
                model.turn()
        yield world


async def answer(world: World) -> tuple[str, Ended]:
    text = ""
    async for served in world.desk.serve(world.rich, SMOLLM2.model_id, ASKED, key=None):
        if isinstance(served, Pieces):
            text += "".join(delta.text for delta in served.deltas)
    assert isinstance(served, Ended)
    return text, served


async def test_serve__first_miner_is_slow__second_answers_and_only_it_is_paid(tmp_path: Path) -> None:
    slow, fast = Slow(2), Slow()
    async with two(tmp_path, slow, fast, 0.2) as world:
        text, ended = await answer(world)

        assert text and ended.entry.receipt.miner == SECOND_MINER
        assert (slow.asked, fast.asked) == (1, 1)
        assert world.rich.book.cumulative == ended.entry.receipt.price
        assert world.rich.book.reserved == {}

        async def has_ended() -> bool:
            return slow.ended == 1

        await eventually(has_ended)
        assert slow.said <= 1  # a miner stops at its next token


async def test_serve__first_miner_begins_in_time__second_is_not_asked(tmp_path: Path) -> None:
    first, second = Slow(), Slow()
    async with two(tmp_path, first, second, 5) as world:
        _, ended = await answer(world)

    assert ended.entry.receipt.miner == MINER and second.asked == 0


async def test_serve__first_is_slow_and_nobody_else_is_there__first_answers(tmp_path: Path) -> None:
    async with two(tmp_path, Slow(0.6), None, 0.1) as world:
        _, ended = await answer(world)

    assert ended.entry.receipt.miner == MINER


async def test_serve__second_fails__first_answers(tmp_path: Path) -> None:
    async with two(tmp_path, Slow(0.6), Slow(fails=True), 0.1) as world:
        _, ended = await answer(world)
        assert world.rich.book.reserved == {}

    assert ended.entry.receipt.miner == MINER


async def test_serve__both_fail__nothing_is_owed_or_reserved(tmp_path: Path) -> None:
    first, second = Slow(0.4, fails=True), Slow(0.3, fails=True)
    async with two(tmp_path, first, second, 0.1) as world:
        before = world.rich.book
        with pytest.raises((MinerLost, NoCapacity)):
            await answer(world)
        assert world.rich.book == before


async def test_serve__client_leaves_while_two_are_asked__both_are_stopped(tmp_path: Path) -> None:
    first, second = Slow(1), Slow(1)
    async with two(tmp_path, first, second, 0.1) as world:
        asking = asyncio.create_task(answer(world))

        async def are_asked() -> bool:
            return bool(first.asked and second.asked)

        await eventually(are_asked)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        async def have_ended() -> bool:
            return (first.ended, second.ended) == (1, 1) and world.rich.book.reserved == {}

        await eventually(have_ended)
        await world.desk.drain()
        assert first.said <= 1 and second.said <= 1
