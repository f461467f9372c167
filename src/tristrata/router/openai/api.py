"""OpenAI's endpoints over a desk. Everything they need is in memory."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tristrata.router.callers import Caller, Callers
from tristrata.router.endpoint import Endpoint, EventStream
from tristrata.router.http import json_response
from tristrata.router.openai.asking import ask
from tristrata.router.openai.calls import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Call, Calls
from tristrata.router.openai.catalogue import Catalogue
from tristrata.router.openai.parameters import RequestInvalid
from tristrata.router.openai.response_store import ResponseStore, StoredResponse
from tristrata.router.serving import Desk
from tristrata.storage.api_keys import Scope

Sell = Callable[[Request, bytes, Callable[[bytes], Call]], Awaitable[ASGIApp]]
"""Answers a request without an API key; gets what makes its body the call of an owner."""


class OpenAiApi:
    """Models and what they can be asked; with ``sell`` also by whoever has no API key."""

    def __init__(self, desk: Desk, callers: Callers, catalogue: Catalogue, sell: Sell | None = None) -> None:
        self._desk = desk
        self._callers = callers
        self.catalogue = catalogue
        self._responses = ResponseStore()
        self._sell = sell
        self.calls = Calls(catalogue, self._responses)

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/models", self._list_models),
            Route("/v1/models/{name:path}", self._model),
            *map(self._endpoint, (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)),
            Route("/v1/responses/{id}", self._stored_response),
            Route("/v1/responses/{id}", self._delete_response, methods=["DELETE"]),
            Route("/v1/responses/{id}/input_items", self._input_items),
        ]

    async def _list_models(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response(self.catalogue.listing)

    async def _model(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response(self.catalogue.find(request.path_params["name"]).description)

    def _endpoint(self, path: str) -> Route:
        async def answer(caller: Caller, body: bytes) -> ASGIApp:
            call = self.calls.check(path, caller.owner, body)
            answers = ask(self._desk, caller, call.model, call.questions, call.names)
            if call.events is None:
                return await call.whole(answers)
            headers: dict[str, str] = {}
            return EventStream(call.events(answers, headers), headers)

        async def sell(request: Request, body: bytes) -> ASGIApp:
            assert self._sell is not None
            return await self._sell(request, body, lambda owner: self.calls.check(path, owner, body))

        walk_in = sell if self._sell else None
        return Route(path, Endpoint(self._callers, Scope.INFERENCE, answer, walk_in), methods=["POST"])

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
