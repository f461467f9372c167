"""Several answers to one call, from answers that are made up here."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest

from tristrata.fabric.frames import Delta
from tristrata.protocol.answers import TaskKind
from tristrata.router.attempt import Question
from tristrata.router.callers import Caller
from tristrata.router.http import Refusal
from tristrata.router.matching import FeatureMissing, NoCapacity
from tristrata.router.openai.asking import Names, ask, make_questions, most_tokens, require_room
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.openai.parameters import RequestInvalid
from tristrata.router.serving import Desk, Pieces, Served

MODEL = ServedModel("m", b"\x01" * 32, 100)


class StubDesk:
    """A miner with ``slots``: an answer is three pieces of its question's body."""

    def __init__(self, slots: int, fails: bytes = b"") -> None:
        self.free = slots
        self.most = 0
        self.slots = slots
        self.fails = fails
        self.closed = 0

    async def serve(self, session: Any, model: Any, question: Question, *, key: Any) -> AsyncGenerator[Served, None]:
        if not self.free:
            raise NoCapacity("no_capacity: busy 1")
        self.free -= 1
        self.most = max(self.most, self.slots - self.free)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
                if question.body == self.fails:
                    raise NoCapacity("no_capacity: leaving 1")
                yield Pieces([Delta(question.body.decode(), 1)])
        finally:
            self.free += 1
            self.closed += 1


class StubCaller:
    key = None

    def session_for(self, model: Any, name: str) -> None:
        return None


def answers(desk: StubDesk, *bodies: bytes) -> AsyncGenerator[tuple[int, Served], None]:
    questions = [Question(TaskKind.CHAT, body, 1) for body in bodies]
    return ask(cast(Desk, desk), cast(Caller, StubCaller()), MODEL, questions, Names("messages"))


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
async def test_ask__several__all_are_answered_as_far_at_once_as_there_are_slots(slots: int) -> None:
    desk, texts = StubDesk(slots), ["", "", "", ""]
    async for number, served in answers(desk, b"a", b"b", b"c", b"d"):
        assert isinstance(served, Pieces)
        texts[number] += served.deltas[0].text
    assert texts == ["aaa", "bbb", "ccc", "ddd"]
    assert desk.most == min(slots, 4)


@pytest.mark.parametrize("bodies", [(b"a",), (b"a", b"b")])
async def test_ask__nobody_is_free__is_no_capacity(bodies: tuple[bytes, ...]) -> None:
    with pytest.raises(NoCapacity):
        await anext(answers(StubDesk(0), *bodies))


async def test_ask__closed_early__every_answer_is_closed() -> None:
    desk = StubDesk(3)
    async with aclosing(answers(desk, b"a", b"b", b"c")) as coming:
        await anext(coming)
    assert (desk.free, desk.closed) == (3, 3)


async def test_ask__one_fails_alone__ends_all() -> None:
    desk = StubDesk(1, fails=b"b")
    with pytest.raises(NoCapacity, match="leaving"):
        async for _ in answers(desk, b"a", b"b", b"c"):
            pass
    assert desk.free == 1


async def test_ask__no_miner_has_the_feature__names_the_parameter() -> None:
    class Unable(StubDesk):
        async def serve(self, *_: Any, **__: Any) -> AsyncGenerator[Served, None]:
            raise FeatureMissing("json")
            yield

    with pytest.raises(Refusal) as caught:
        await anext(answers(Unable(1), b"a"))
    error = caught.value.body["error"]
    assert (caught.value.status, error["param"], error["code"]) == (400, "response_format", "unsupported_parameter")


def test_make_questions__with_a_seed__each_has_its_own_of_63_bits() -> None:
    questions = make_questions(TaskKind.CHAT, {}, seed=2**63 - 2, count=3, most=1, needs=frozenset())
    assert [question.body for question in questions] == [
        b'{"seed":9223372036854775806}',
        b'{"seed":9223372036854775807}',
        b'{"seed":-9223372036854775808}',
    ]


@pytest.mark.parametrize(("asked", "default", "most"), [(None, None, 50), (None, 16, 16), (None, 500, 100), (7, 16, 7)])
def test_most_tokens__asked_or_not__is_bounded_by_the_context(
    asked: int | None, default: int | None, most: int
) -> None:
    assert most_tokens(MODEL, asked, "max_tokens", default) == most


def test_most_tokens__more_than_the_context__is_refused() -> None:
    with pytest.raises(RequestInvalid, match="at most 100 completion tokens"):
        most_tokens(MODEL, 101, "max_tokens")


def test_require_room__more_words_than_tokens__is_refused_and_fewer_are_not() -> None:
    require_room(MODEL, ["a " * 100], "messages")
    require_room(MODEL, ["a" * 10_000, "- " * 10_000], "messages")
    with pytest.raises(RequestInvalid, match="at least 101 tokens") as caught:
        require_room(MODEL, ["a " * 50, "b " * 51], "messages")
    assert caught.value.body["error"]["code"] == "context_length_exceeded"
