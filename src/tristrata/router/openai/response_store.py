"""Responses that can be looked up and continued: in this router's memory, for an hour, within bounds.

OpenAI keeps them for 30 days. Here nothing of a prompt or an answer is written to a disk: after a restart, an hour, or
many newer ones, a response is gone, and a conversation goes on by sending its items again.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from tristrata.router.http import Refusal

KEPT_SECONDS, MAX_BYTES, MAX_PER_OWNER = 3_600.0, 64 * 1_048_576, 256


class StoredResponse(msgspec.Struct, frozen=True):
    """A response of ``owner``, the items that were its input, and the whole conversation as a chat."""

    owner: bytes
    body: dict[str, Any]
    items: list[dict[str, Any]]
    messages: list[dict[str, Any]]


class ResponseStore:
    """The responses of all callers; each sees only its owner's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stored: OrderedDict[str, tuple[float, int, StoredResponse]] = OrderedDict()
        self._owned: dict[bytes, OrderedDict[str, None]] = {}
        self._bytes = 0

    def put(self, response: StoredResponse) -> None:
        """Keep a response; the oldest go where there is no room."""
        name = response.body["id"]
        size = len(msgspec.json.encode(response))
        self._stored[name] = (self._clock(), size, response)
        self._bytes += size
        mine = self._owned.setdefault(response.owner, OrderedDict())
        mine[name] = None
        if len(mine) > MAX_PER_OWNER:
            self._remove(next(iter(mine)))
        while self._bytes > MAX_BYTES or self._is_over(next(iter(self._stored), None)):
            self._remove(next(iter(self._stored)))

    def get(self, name: str, owner: bytes, parameter: str | None = None) -> StoredResponse:
        """One of an owner's responses. Raises `Refusal`: 404, or 400 naming the ``parameter`` that gave its id."""
        found = None if self._is_over(name) else self._stored.get(name)
        if found is None or found[2].owner != owner:
            if parameter is None:
                raise Refusal(404, None, f"Response with id '{name[:128]}' not found.")
            message = f"Previous response with id '{name[:128]}' not found."
            raise Refusal(400, "previous_response_not_found", message, parameter)
        return found[2]

    def delete(self, name: str, owner: bytes) -> None:
        """Forget a response. Raises `Refusal` (404)."""
        self.get(name, owner)
        self._remove(name)

    def _is_over(self, name: str | None) -> bool:
        found = self._stored.get(name) if name is not None else None
        return found is not None and self._clock() > found[0] + KEPT_SECONDS

    def _remove(self, name: str) -> None:
        _, size, response = self._stored.pop(name)
        self._bytes -= size
        mine = self._owned[response.owner]
        del mine[name]
        if not mine:
            del self._owned[response.owner]
