"""OpenAI's endpoints over a desk. Everything they need is in memory."""

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tristrata.protocol.answers import TaskKind
from tristrata.router.callers import Caller, Callers
from tristrata.router.endpoint import Endpoint, EventStream
from tristrata.router.http import json_response
from tristrata.router.openai.asking import Names, ask, make_questions, most_tokens, require_room
from tristrata.router.openai.catalogue import Catalogue
from tristrata.router.openai.chat import chat_events, complete_chat
from tristrata.router.openai.chat_request import parse_chat
from tristrata.router.openai.completions import DEFAULT_TOKENS, complete, completion_events, parse_completion
from tristrata.router.openai.embeddings import complete_embeddings, parse_embeddings, require_vectors
from tristrata.router.openai.parameters import RequestInvalid
from tristrata.router.openai.response_request import parse_response
from tristrata.router.openai.response_store import ResponseStore, StoredResponse
from tristrata.router.openai.responses import Conversation, complete_response, response_events
from tristrata.router.serving import Desk, Question
from tristrata.storage.api_keys import Scope

_RESPONSE_NAMES = Names("input", json="text.format", logprobs="top_logprobs")


class OpenAiApi:
    """Models and what they can be asked."""

    def __init__(self, desk: Desk, callers: Callers, catalogue: Catalogue) -> None:
        self._desk = desk
        self._callers = callers
        self._catalogue = catalogue
        self._responses = ResponseStore()

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/models", self._list_models),
            Route("/v1/models/{name:path}", self._model),
            Route("/v1/chat/completions", Endpoint(self._callers, Scope.INFERENCE, self._chat), methods=["POST"]),
            Route("/v1/completions", Endpoint(self._callers, Scope.INFERENCE, self._completion), methods=["POST"]),
            Route("/v1/embeddings", Endpoint(self._callers, Scope.INFERENCE, self._embed), methods=["POST"]),
            Route("/v1/responses", Endpoint(self._callers, Scope.INFERENCE, self._respond), methods=["POST"]),
            Route("/v1/responses/{id}", self._stored_response),
            Route("/v1/responses/{id}", self._delete_response, methods=["DELETE"]),
            Route("/v1/responses/{id}/input_items", self._input_items),
        ]

    async def _list_models(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response(self._catalogue.listing)

    async def _model(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response(self._catalogue.find(request.path_params["name"]).description)

    async def _chat(self, caller: Caller, body: bytes) -> ASGIApp:
        call = parse_chat(body)
        model = self._catalogue.find_for(call.model, embeds=False)
        most = most_tokens(model, call.max_tokens, call.max_tokens_name)
        require_room(model, [message["content"] or "" for message in call.request["messages"]], "messages")
        questions = make_questions(
            TaskKind.CHAT, call.request, seed=call.seed, count=call.choices, most=most, needs=call.needs
        )
        answers = ask(self._desk, caller, model, questions, Names("messages"))
        if not call.stream:
            return await complete_chat(answers, call, model)
        headers: dict[str, str] = {}
        return EventStream(chat_events(answers, call, model, headers), headers)

    async def _completion(self, caller: Caller, body: bytes) -> ASGIApp:
        call = parse_completion(body)
        model = self._catalogue.find_for(call.model, embeds=False)
        most = most_tokens(model, call.max_tokens, "max_tokens", DEFAULT_TOKENS)
        questions = []
        for prompt in call.prompts:
            require_room(model, [prompt], "prompt")
            request = {"prompt": prompt, **call.request}
            kind, count = TaskKind.COMPLETION, call.choices
            questions += make_questions(kind, request, seed=call.seed, count=count, most=most, needs=call.needs)
        answers = ask(self._desk, caller, model, questions, Names("prompt"))
        if not call.stream:
            return await complete(answers, call, model)
        headers: dict[str, str] = {}
        return EventStream(completion_events(answers, call, model, headers), headers)

    async def _embed(self, caller: Caller, body: bytes) -> ASGIApp:
        call = parse_embeddings(body)
        model = self._catalogue.find_for(call.model, embeds=True)
        check = partial(require_vectors, len(call.inputs))
        question = Question(TaskKind.EMBEDDING, msgspec.json.encode({"input": call.inputs}), 0, check=check)
        return await complete_embeddings(ask(self._desk, caller, model, [question], Names("input")), call, model)

    async def _respond(self, caller: Caller, body: bytes) -> ASGIApp:
        call = parse_response(body)
        model = self._catalogue.find_for(call.model, embeds=False)
        most = most_tokens(model, call.max_tokens, "max_output_tokens")
        before = []
        if call.previous is not None:
            before = self._responses.get(call.previous, caller.owner, "previous_response_id").messages
        chat = call.chat(before)
        require_room(model, [message["content"] or "" for message in chat["messages"]], "input")
        questions = make_questions(TaskKind.CHAT, chat, seed=None, count=1, most=most, needs=call.needs)
        answers = ask(self._desk, caller, model, questions, _RESPONSE_NAMES)
        conversation = Conversation(caller.owner, before, self._responses)
        if not call.stream:
            return await complete_response(answers, call, model, conversation)
        headers: dict[str, str] = {}
        return EventStream(response_events(answers, call, model, conversation, headers), headers)

    async def _stored_response(self, request: Request) -> Response:
        if request.query_params.get("stream", "false") != "false":
            raise RequestInvalid("A stored response cannot be streamed again.", "stream", "unsupported_value")
        return json_response(self._stored(request).body)

    async def _delete_response(self, request: Request) -> Response:
        stored = self._stored(request)
        name = stored.body["id"]
        self._responses.delete(name, stored.owner)
        return json_response({"id": name, "object": "response", "deleted": True})

    async def _input_items(self, request: Request) -> Response:
        stored = self._stored(request)
        name = stored.body["id"].removeprefix("resp_")
        items = [{"id": f"item_{name}_{number}", **item} for number, item in enumerate(stored.items)]
        if request.query_params.get("order", "desc") == "desc":
            items.reverse()
        ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]}
        return json_response({"object": "list", "data": items, "has_more": False, **ends})

    def _stored(self, request: Request) -> StoredResponse:
        caller = self._callers.authenticate(request)
        caller.require(Scope.INFERENCE)
        return self._responses.get(request.path_params["id"], caller.owner)
