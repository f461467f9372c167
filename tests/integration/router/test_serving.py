"""What a desk does with an answer that is none, over a real NATS server."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tests.support.fleet import StubRuntime
from tests.support.world import QUESTION, World, open_world
from tristrata.inference.weights import SMOLLM2
from tristrata.protocol.answers import TaskKind
from tristrata.protocol.errors import TristrataError
from tristrata.router.attempt import Question
from tristrata.router.serving import Ended


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
