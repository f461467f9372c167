"""The SDK: ask a router, look at receipts, check them against Ethereum; asynchronous, and the same for plain code."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from tristrata.client.api import AnswerDone, ReceiptArrived, RouterApi, RouterRefused, TextDelta
from tristrata.client.verifying import verify_document

Result = TypeVar("Result")
Messages = str | Sequence[dict[str, Any]]
"""A question, or OpenAI's list of messages."""


class Answer(msgspec.Struct, frozen=True):
    """An answer, and what proves it. ``price`` is in base units of the session's asset; ``request_id`` is hex."""

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    request_id: str
    price: int
    receipt: dict[str, Any]


class Verdict(msgspec.Struct, frozen=True):
    """Whether a receipt holds: ``status`` is proven, broken, awaiting or unchecked; ``found`` says the rest."""

    status: str
    found: dict[str, Any]

    @property
    def is_proven(self) -> bool:
        """Whether Ethereum has it on record."""
        return self.status == "proven"


class AsyncClient:
    """One router, by an API key. Use as an async context manager.

    >>> async with tristrata.AsyncClient(url, api_key=key) as client:
    ...     answer = await client.chat("List five fruits.")
    ...     verdict = await client.verify(answer)

    Raises `RouterRefused` and `RouterUnreachable`, both of them `TristrataError`.
    """

    def __init__(self, router: str, *, api_key: str, model: str = "") -> None:
        self.model = model
        self._api = RouterApi(router.removesuffix("/").removesuffix("/v1"), api_key)

    async def __aenter__(self) -> Self:
        await self._api.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.__aexit__(kind, error, trace)

    async def models(self) -> list[str]:
        """The names of the models that the router serves."""
        return list((await self._api.terms()).models)

    async def chat(self, messages: Messages, **options: Any) -> Answer:
        """Ask, and give the whole answer. ``options`` are OpenAI's: ``model``, ``max_tokens``, ``seed``, …"""
        text: list[str] = []
        done: AnswerDone | None = None
        document: dict[str, Any] | None = None
        async for event in self._events(messages, options):
            if isinstance(event, TextDelta):
                text.append(event.text)
            elif isinstance(event, AnswerDone):
                done = event
            else:
                document = event.document
        if done is None or document is None:
            raise RouterRefused("the answer came without a receipt; nothing was billed", status=502, code="no_receipt")
        signed = document["receipt"]
        return Answer(
            "".join(text),
            done.finish_reason,
            done.prompt_tokens,
            done.output_tokens,
            signed["request_id"],
            int(signed["price"]),
            document,
        )

    async def stream(self, messages: Messages, **options: Any) -> AsyncIterator[str]:
        """Ask, and give the answer piece by piece."""
        async for event in self._events(messages, options):
            if isinstance(event, TextDelta):
                yield event.text

    async def receipt(self, answer: Answer | str) -> dict[str, Any]:
        """A receipt with its voucher, and how far it has come (``stage``)."""
        return await self._api.receipt(_request_id(answer))

    async def proof(self, answer: Answer | str) -> dict[str, Any]:
        """The receipt file, which anybody can check: the receipt with its way to Ethereum, as far as it has come."""
        return await self._api.proof(_request_id(answer))

    async def verify(self, answer: Answer | str, *, rpc: str = "", checkpoint: str = "", ledger: str = "") -> Verdict:
        """Check a receipt against Ethereum, believing the router nothing.

        ``rpc`` is an address of L1, or ``checkpoint`` the root that its ledger holds; without them, the network that
        runs on this machine is asked.
        """
        data = json.dumps(await self.proof(answer)).encode()
        return await asyncio.to_thread(_verdict, data, rpc, checkpoint, ledger)

    async def balance(self) -> int:
        """What the key's sessions can still pay, in base units."""
        sessions = (await self._api.sessions())["data"]
        return sum(int(session["available"]) for session in sessions if not session["ending"])

    async def sessions(self) -> list[dict[str, Any]]:
        """The key's sessions, the newest first."""
        found: list[dict[str, Any]] = (await self._api.sessions())["data"]
        return found

    async def usage(self, **query: Any) -> dict[str, Any]:
        """What was used, by day, session and key."""
        return await self._api.usage(**query)

    async def _events(
        self, messages: Messages, options: dict[str, Any]
    ) -> AsyncIterator[TextDelta | AnswerDone | ReceiptArrived]:
        listed = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        model = options.pop("model", "") or self.model or (await self.models())[0]
        async for event in self._api.stream_chat({"model": model, "messages": listed, **options}):
            yield event


class Client:
    """The same for code without an event loop; it runs one in a thread of its own.

    >>> with tristrata.Client(url, api_key=key) as client:
    ...     answer = client.chat("List five fruits.")
    ...     print(answer.text, answer.price, client.verify(answer).status)
    """

    def __init__(self, router: str, *, api_key: str, model: str = "") -> None:
        self._client = AsyncClient(router, api_key=api_key, model=model)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tristrata", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._client.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def models(self) -> list[str]:
        """As `AsyncClient.models`."""
        return self._run(self._client.models())

    def chat(self, messages: Messages, **options: Any) -> Answer:
        """As `AsyncClient.chat`."""
        return self._run(self._client.chat(messages, **options))

    def stream(self, messages: Messages, **options: Any) -> Iterator[str]:
        """As `AsyncClient.stream`."""
        pieces = self._client.stream(messages, **options)
        while True:
            try:
                yield self._run(anext(pieces))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def receipt(self, answer: Answer | str) -> dict[str, Any]:
        """As `AsyncClient.receipt`."""
        return self._run(self._client.receipt(answer))

    def proof(self, answer: Answer | str) -> dict[str, Any]:
        """As `AsyncClient.proof`."""
        return self._run(self._client.proof(answer))

    def verify(self, answer: Answer | str, *, rpc: str = "", checkpoint: str = "", ledger: str = "") -> Verdict:
        """As `AsyncClient.verify`."""
        return self._run(self._client.verify(answer, rpc=rpc, checkpoint=checkpoint, ledger=ledger))

    def balance(self) -> int:
        """As `AsyncClient.balance`."""
        return self._run(self._client.balance())

    def sessions(self) -> list[dict[str, Any]]:
        """As `AsyncClient.sessions`."""
        return self._run(self._client.sessions())

    def usage(self, **query: Any) -> dict[str, Any]:
        """As `AsyncClient.usage`."""
        return self._run(self._client.usage(**query))

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _request_id(answer: Answer | str) -> str:
    return answer.request_id if isinstance(answer, Answer) else answer.removeprefix("chatcmpl-")


def _verdict(data: bytes, rpc: str, checkpoint: str, ledger: str) -> Verdict:
    _, found = verify_document(data, rpc=rpc, checkpoint=checkpoint, ledger=ledger)
    return Verdict(found["status"], found)
