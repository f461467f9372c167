"""From the body of a call to what is asked of miners, and how its answers are written: the same for a batch's lines."""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from starlette.responses import Response

from tristrata.protocol.answers import TaskKind
from tristrata.router.attempt import Question
from tristrata.router.endpoint import Events
from tristrata.router.openai.asking import Answers, Names, make_questions, most_tokens, require_room
from tristrata.router.openai.catalogue import Catalogue, ServedModel
from tristrata.router.openai.chat import chat_events, complete_chat
from tristrata.router.openai.chat_request import parse_chat
from tristrata.router.openai.completions import DEFAULT_TOKENS, complete, completion_events, parse_completion
from tristrata.router.openai.embeddings import (
    MOST_VECTOR_CHARACTERS,
    complete_embeddings,
    parse_embeddings,
    require_vectors,
)
from tristrata.router.openai.response_request import parse_response
from tristrata.router.openai.response_store import ResponseStore
from tristrata.router.openai.responses import Conversation, complete_response, response_events

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
)
_RESPONSE_NAMES = Names("input", json="text.format", logprobs="top_logprobs")


class Call(msgspec.Struct, frozen=True):
    """A checked call: its questions to miners, and how their answers are written.

    ``whole`` makes one answer of them, ``events`` (where the client wants a stream) encoded events; the latter puts
    headers into its dictionary before the first of them.
    """

    model: ServedModel
    questions: list[Question]
    names: Names
    whole: Callable[[Answers], Awaitable[Response]]
    events: Callable[[Answers, dict[str, str]], Events] | None = None


class Calls:
    """Checks calls of every endpoint that asks miners."""

    def __init__(self, catalogue: Catalogue, responses: ResponseStore) -> None:
        self._catalogue = catalogue
        self._responses = responses
        self._checks = {CHAT: _chat, COMPLETIONS: _completion, EMBEDDINGS: _embeddings}

    def check(self, path: str, owner: bytes, body: bytes) -> Call:
        """The call in ``body`` to the endpoint at ``path``. Raises `Refusal`."""
        if path == RESPONSES:
            return self._response(owner, body)
        return self._checks[path](self._catalogue, body)

    def _response(self, owner: bytes, body: bytes) -> Call:
        call = parse_response(body)
        model = self._catalogue.find_for(call.model, embeds=False)
        most = most_tokens(model, call.max_tokens, "max_output_tokens")
        before = []
        if call.previous is not None:
            before = self._responses.get(call.previous, owner, "previous_response_id").messages
        chat = call.chat(before)
        require_room(model, [message["content"] or "" for message in chat["messages"]], "input")
        questions = make_questions(TaskKind.CHAT, chat, seed=None, count=1, most=most, needs=call.needs)
        kept = Conversation(owner, before, self._responses)

        async def whole(answers: Answers) -> Response:
            return await complete_response(answers, call, model, kept)

        def events(answers: Answers, headers: dict[str, str]) -> Events:
            return response_events(answers, call, model, kept, headers)

        return Call(model, questions, _RESPONSE_NAMES, whole, events if call.stream else None)


def _chat(catalogue: Catalogue, body: bytes) -> Call:
    call = parse_chat(body)
    model = catalogue.find_for(call.model, embeds=False)
    most = most_tokens(model, call.max_tokens, call.max_tokens_name)
    require_room(model, [message["content"] or "" for message in call.request["messages"]], "messages")
    questions = make_questions(
        TaskKind.CHAT, call.request, seed=call.seed, count=call.choices, most=most, needs=call.needs
    )

    async def whole(answers: Answers) -> Response:
        return await complete_chat(answers, call, model)

    def events(answers: Answers, headers: dict[str, str]) -> Events:
        return chat_events(answers, call, model, headers)

    return Call(model, questions, Names("messages"), whole, events if call.stream else None)


def _completion(catalogue: Catalogue, body: bytes) -> Call:
    call = parse_completion(body)
    model = catalogue.find_for(call.model, embeds=False)
    most = most_tokens(model, call.max_tokens, "max_tokens", DEFAULT_TOKENS)
    questions: list[Question] = []
    for prompt in call.prompts:
        require_room(model, [prompt], "prompt")
        request = {"prompt": prompt, **call.request}
        kind, count = TaskKind.COMPLETION, call.choices
        questions += make_questions(kind, request, seed=call.seed, count=count, most=most, needs=call.needs)

    async def whole(answers: Answers) -> Response:
        return await complete(answers, call, model)

    def events(answers: Answers, headers: dict[str, str]) -> Events:
        return completion_events(answers, call, model, headers)

    return Call(model, questions, Names("prompt"), whole, events if call.stream else None)


def _embeddings(catalogue: Catalogue, body: bytes) -> Call:
    call = parse_embeddings(body)
    model = catalogue.find_for(call.model, embeds=True)
    check = partial(require_vectors, len(call.inputs))
    body, most = msgspec.json.encode({"input": call.inputs}), len(call.inputs) * MOST_VECTOR_CHARACTERS
    question = Question(TaskKind.EMBEDDING, body, 0, most_characters=most, check=check)

    async def whole(answers: Answers) -> Response:
        return await complete_embeddings(answers, call, model)

    return Call(model, [question], Names("input"), whole)
