"""From a call's questions to their answers, all in one stream: what chats, completions and responses share."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from tristrata.protocol.answers import JSON, LOGPROBS, TOOLS, TaskKind
from tristrata.router.attempt import ContextExceeded, Question
from tristrata.router.callers import Caller
from tristrata.router.http import Refusal, refusal_of
from tristrata.router.matching import FeatureMissing, NoCapacity
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.openai.parameters import RequestInvalid
from tristrata.router.serving import Desk, Served

Answers = AsyncGenerator[tuple[int, Served], None]
"""What comes of each answer, with the number of its question."""

Start = Callable[[], AsyncGenerator[Served, None]]
"""Begins one answer."""

_WAITING = 64


class Names(msgspec.Struct, frozen=True):
    """What an endpoint calls the parameters that miners may refuse, for errors."""

    prompt: str
    json: str = "response_format"
    logprobs: str = "logprobs"
    tools: str = "tools"

    def of(self, feature: str) -> str:
        """The parameter that needs a feature."""
        return {JSON: self.json, LOGPROBS: self.logprobs, TOOLS: self.tools}.get(feature, feature)


def ask(desk: Desk, caller: Caller, model: ServedModel, questions: Sequence[Question], names: Names) -> Answers:
    """The answers to all questions, paid by the caller's session for the model; each has a receipt of its own.

    They run at the same time as far as miners are free, else one after another. The first that fails ends all; closing
    the iterator does, too. Raises what `Desk.serve` does, and `Refusal` where that names a parameter.
    """
    session = caller.session_for(model.model_id, model.name)
    key = caller.key
    starts = [functools.partial(desk.serve, session, model.model_id, each, key=key) for each in questions]
    return answers_of(starts, names)


async def answers_of(starts: Sequence[Start], names: Names) -> Answers:
    """The answers that ``starts`` begin, as `ask` gives them."""
    try:
        if len(starts) == 1:
            async with aclosing(starts[0]()) as answer:
                async for served in answer:
                    yield 0, served
        else:
            async with aclosing(_Crowd(starts).answers()) as answers:
                async for numbered in answers:
                    yield numbered
    except FeatureMissing as error:
        parameter = names.of(error.feature)
        message = f"Unsupported parameter: '{parameter}' is not supported with this model: {error.message}."
        raise Refusal(400, "unsupported_parameter", message, parameter) from error
    except ContextExceeded as error:
        refusal = refusal_of(error)
        refusal.body["error"]["param"] = names.prompt
        raise refusal from error


def make_questions(
    kind: TaskKind, request: dict[str, Any], *, seed: int | None, count: int, most: int, needs: frozenset[str]
) -> list[Question]:
    """``count`` questions alike but for their seeds, which are ``seed``, ``seed + 1``, … if there is one."""
    if seed is None:
        return [Question(kind, msgspec.json.encode(request), most, needs)] * count
    # Seeds are 63 bits at most; the last ones wrap around.
    seeds = [(seed + number + 2**63) % 2**64 - 2**63 for number in range(count)]
    return [Question(kind, msgspec.json.encode({**request, "seed": each}), most, needs) for each in seeds]


def most_tokens(model: ServedModel, asked: int | None, parameter: str, default: int | None = None) -> int:
    """The most tokens that an answer may have: what was asked for, else the default, else half of the context.

    Raises `RequestInvalid` for more than the model's context.
    """
    if asked is None:
        return min(default or model.context_length // 2, model.context_length)
    if asked > model.context_length:
        raise RequestInvalid(
            f"{parameter} is too large: {asked}. This model supports at most {model.context_length} completion tokens, "
            f"whereas you provided {asked}.",
            parameter,
        )
    return asked


def require_room(model: ServedModel, texts: Sequence[str], parameter: str) -> None:
    """Refuse a prompt that is too long whatever the tokenizer, before a miner sees it. Raises `RequestInvalid`.

    Tokenizers of the GPT, Llama, Qwen, Mistral and Gemma families merge no letters across white space: a word that has
    some is a token or more. Miners refuse what is too long in their tokenizers' count.
    """
    if sum(map(len, texts)) <= 2 * model.context_length:
        return
    least = sum(any(map(str.isalnum, word)) for each in texts for word in each.split())
    if least > model.context_length:
        raise RequestInvalid(
            f"This model's maximum context length is {model.context_length} tokens. However, your {parameter} resulted "
            f"in at least {least} tokens. Please reduce the length of the {parameter}.",
            parameter,
            "context_length_exceeded",
        )


class _Crowd:
    """Several answers at once."""

    def __init__(self, starts: Sequence[Start]) -> None:
        self._starts = starts
        self._coming: asyncio.Queue[tuple[int, Served] | Exception | None] = asyncio.Queue(_WAITING)
        self._active = 0
        self._freed = asyncio.Event()

    async def answers(self) -> Answers:
        """What comes of each."""
        tasks = [asyncio.create_task(self._relay(number)) for number in range(len(self._starts))]
        try:
            open_answers = len(tasks)
            while open_answers:
                numbered = await self._coming.get()
                if isinstance(numbered, Exception):
                    raise numbered
                if numbered is None:
                    open_answers -= 1
                else:
                    yield numbered
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, number: int) -> None:
        try:
            while not await self._served(number):
                await self._freed.wait()
        except Exception as error:
            await self._coming.put(error)
        else:
            await self._coming.put(None)

    async def _served(self, number: int) -> bool:
        """Serve one answer to its end; not so if no miner was free, and one of the others will free one."""
        self._active += 1
        try:
            async with aclosing(self._starts[number]()) as answer:
                async for served in answer:
                    await self._coming.put((number, served))
            self._freed.set()
            self._freed = asyncio.Event()
            return True
        except NoCapacity:
            if self._active == 1:
                raise
            return False
        finally:
            self._active -= 1
