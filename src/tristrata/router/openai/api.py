"""OpenAI's endpoints over a desk. Everything they need is in memory."""

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
from tristrata.router.serving import Desk
from tristrata.storage.api_keys import Scope


class OpenAiApi:
    """Models and what they can be asked."""

    def __init__(self, desk: Desk, callers: Callers, catalogue: Catalogue) -> None:
        self._desk = desk
        self._callers = callers
        self._catalogue = catalogue

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/models", self._list_models),
            Route("/v1/models/{name:path}", self._model),
            Route("/v1/chat/completions", Endpoint(self._callers, Scope.INFERENCE, self._chat), methods=["POST"]),
            Route("/v1/completions", Endpoint(self._callers, Scope.INFERENCE, self._completion), methods=["POST"]),
        ]

    async def _list_models(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response(self._catalogue.listing)

    async def _model(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response(self._catalogue.find(request.path_params["name"]).description)

    async def _chat(self, caller: Caller, body: bytes) -> ASGIApp:
        call = parse_chat(body)
        model = self._catalogue.find(call.model)
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
        model = self._catalogue.find(call.model)
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
