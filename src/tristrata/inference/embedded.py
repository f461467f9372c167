"""The embedded runtime: llama.cpp inside this process, through `xllamacpp`."""

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tristrata.inference.runtime import (
    BackendUnavailable,
    ContextExceeded,
    Done,
    Piece,
    Request,
    RequestRejected,
    TextPiece,
    UnsupportedCpu,
    require_text,
)
from tristrata.protocol.answers import Detail, TaskKind

_SEEN_BY_TEMPLATES: tuple[str, ...] = ("messages", "tools", "tool_choice")
_CPUINFO = Path("/proc/cpuinfo")


def check_cpu(cpuinfo: Path = _CPUINFO) -> None:
    """Raise `UnsupportedCpu` unless the processor has AVX2, without which llama.cpp's wheel dies on its first step."""
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    if "avx2" not in flags.split():
        raise UnsupportedCpu(
            "this processor has no AVX2 instructions, which the embedded model needs",
            remedy="run miners with --backend openai --url URL, or on another machine",
        )


class EmbeddedRuntime:
    """One GGUF model with ``slots`` answers at once, each with ``context_length`` tokens of context."""

    def __init__(self, weights: Path, *, slots: int, context_length: int = 2_048, threads: int | None = None) -> None:
        self._weights = weights
        self._slots = slots
        self._context_length = context_length
        self._threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self._pool = ThreadPoolExecutor(slots + 1, thread_name_prefix="llama")
        self._server: Any = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Load the model in a thread. Raises `UnsupportedCpu`, or `BackendUnavailable` when it cannot be loaded.

        One token is generated at once: the first touch of the weights takes 0.3 s that no user should wait for.
        """
        check_cpu()
        self._server = await asyncio.get_running_loop().run_in_executor(self._pool, self._load)
        self._http = aiohttp.ClientSession()
        async for _ in self.stream({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}):
            pass

    async def close(self) -> None:
        """Free the model."""
        if self._http is not None:
            await self._http.close()
        self._server = None
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def render(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> str:
        """The prompt after the model's chat template; of a completion, the prompt itself."""
        require_text(kind)
        if kind is TaskKind.COMPLETION:
            return str(request["prompt"])
        request = _for_llama(request)
        asked = {name: request[name] for name in _SEEN_BY_TEMPLATES if name in request}
        return str((await self._ask_server("/apply-template", asked))["prompt"])

    async def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` is, special tokens such as ``<|im_start|>`` counted as one."""
        return len((await self._ask_server("/tokenize", {"content": text, "parse_special": True}))["tokens"])

    async def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        """The answer, piece by piece. llama.cpp answers even to no messages at all, so those are refused here."""
        if kind is TaskKind.CHAT and not request.get("messages"):
            raise RequestRejected("messages is empty; a chat needs at least one message")
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        stopped = False

        def take(chunk: dict[str, Any]) -> bool:
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            return stopped

        body = {**_for_llama(request), "stream": True, "stream_options": {"include_usage": True}}
        is_chat = kind is TaskKind.CHAT
        handle = self._server.handle_chat_completions if is_chat else self._server.handle_completions
        running = loop.run_in_executor(self._pool, handle, body, take)
        running.add_done_callback(lambda _: chunks.put_nowait(None))
        finish_reason, usage = "stop", None
        try:
            while (chunk := await chunks.get()) is not None:
                if "error" in chunk:
                    raise _refusal(chunk["error"])
                for choice in chunk.get("choices", ()):
                    finish_reason = choice.get("finish_reason") or finish_reason
                    text = choice["delta"].get("content") if is_chat else choice.get("text")
                    detail = _detail(choice)
                    if text or detail:
                        yield TextPiece(text or "", 1, detail)
                usage = chunk.get("usage") or usage
            try:
                await running
            except Exception as error:  # llama.cpp raises ValueError and RuntimeError for what it cannot do
                raise RequestRejected(f"the model refuses the request: {error}") from error
            if usage:
                yield Done(finish_reason, usage["prompt_tokens"], usage["completion_tokens"])
        finally:
            stopped = True

    async def _ask_server(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._http is None:
            raise BackendUnavailable("the embedded model is not loaded")
        async with self._http.post(self._server.listening_address + path, json=body) as response:
            answer: dict[str, Any] = await response.json()
            if response.status != 200:
                raise RequestRejected(f"the model refuses the request: {answer}")
            return answer

    def _load(self) -> Any:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._weights)
        parameters.n_parallel = self._slots
        parameters.n_ctx = self._context_length * self._slots  # llama.cpp divides it among the slots
        parameters.cpuparams.n_threads = self._threads
        parameters.cpuparams_batch.n_threads = self._threads
        try:
            return xllamacpp.Server(parameters)
        except Exception as error:  # xllamacpp raises RuntimeError and ValueError alike
            raise BackendUnavailable(f"the model {self._weights} cannot be loaded: {error}") from error


def _for_llama(request: Request) -> Request:
    """llama.cpp knows no choice of one function by its name; that one as the only tool, required, means the same."""
    choice = request.get("tool_choice")
    if not isinstance(choice, dict):
        return request
    name = choice["function"]["name"]
    tools = [tool for tool in request.get("tools", ()) if tool["function"]["name"] == name]
    return {**request, "tools": tools, "tool_choice": "required"}


def _detail(choice: dict[str, Any]) -> Detail | None:
    tool_calls = choice.get("delta", {}).get("tool_calls") or ()
    logprobs = (choice.get("logprobs") or {}).get("content") or ()
    return msgspec.convert({"tool_calls": tool_calls, "logprobs": logprobs}, Detail) if tool_calls or logprobs else None


def _refusal(error: Any) -> RequestRejected | BackendUnavailable:
    message = error.get("message", str(error)) if isinstance(error, dict) else str(error)
    if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
        return ContextExceeded(f"the model refuses the request: {message}")
    if isinstance(error, dict) and error.get("code") == 400:
        return RequestRejected(f"the model refuses the request: {message}")
    return BackendUnavailable(f"the model broke off: {message}")
