"""What a desk does with an answer that is none, over a real NATS server."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.support.fleet import StubRuntime
from tests.support.world import QUESTION, World, open_world
from tristrata.inference.runtime import Done, Piece, Request, TextPiece
from tristrata.inference.weights import SMOLLM2
from tristrata.protocol.answers import TaskKind
from tristrata.protocol.errors import TristrataError
from tristrata.router.attempt import CHARACTERS_A_TOKEN, MinerLost, Question
from tristrata.router.serving import Ended, Pieces


class Useless(TristrataError):
    """An answer that nobody can use."""


async def _serve(world: World, question: Question) -> Ended:
    async for served in world.desk.serve(world.rich, SMOLLM2.model_id, question, key=None):
        last = served
    assert isinstance(last, Ended)
    return last


async def test_serve__answer_fails_its_check__nothing_is_paid_and_nothing_stays_reserved(tmp_path: Path) -> None:
    seen: list[str] = []

    def refuse(texts: Sequence[str]) -> None:
        seen.extend(texts)
        raise Useless("this answer is none")

    question = Question(TaskKind.CHAT, msgspec.json.encode({"messages": QUESTION}), 8)
    async with open_world(tmp_path, tmp_path, StubRuntime()) as world:
        before = world.rich.book
        with pytest.raises(Useless):
            await _serve(world, msgspec.structs.replace(question, check=refuse))
        assert world.rich.book == before
        paid = await _serve(world, msgspec.structs.replace(question, check=lambda texts: None))
        assert world.rich.book.cumulative == paid.entry.receipt.price > 0
    assert "".join(seen)


class Endless(StubRuntime):
    """A model that begins well, and then says more in a token than any token is."""

    async def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        yield TextPiece("Well", 1)
        for _ in range(1_000):
            await asyncio.sleep(0.01)
            yield TextPiece("x" * 1_000, 1)
        yield Done("length", 5, 8)


async def test_serve__miner_says_more_than_its_tokens_can_be__is_broken_off_and_nothing_is_owed(tmp_path: Path) -> None:
    question = Question(TaskKind.CHAT, msgspec.json.encode({"messages": QUESTION}), 8)
    async with open_world(tmp_path, tmp_path, Endless()) as world:
        before, said = world.rich.book, 0
        with pytest.raises(MinerLost, match="more than 8 tokens can be"):
            async for served in world.desk.serve(world.rich, SMOLLM2.model_id, question, key=None):
                if isinstance(served, Pieces):
                    said += sum(len(delta.text) for delta in served.deltas)
        assert 0 < said < 8 * CHARACTERS_A_TOKEN + 1_025
        assert world.rich.book == before
