"""The load generator: keep-alive connections over raw sockets, each of which asks again once it is answered."""

import asyncio
import re
import time

import msgspec

from benchmarks.answer import CONTENT_MARK, DONE_MARK, PIECES, RECEIPT_MARK, request_body
from benchmarks.stats import BenchmarkFailed, percentile

LOOPBACK = "127.0.0.1"
_END = b"\r\n0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PATIENCE_SECONDS = 15.0


class Target(msgspec.Struct, frozen=True):
    """Where to ask. ``keys`` are the API keys of the connections, in turn.

    ``receipts``: each answer must have one. ``seed`` is one of those that ask the stub model to take its time.
    """

    name: str
    port: int
    keys: tuple[str, ...] = ("none",)
    receipts: bool = False
    seed: int | None = None
    stream: bool = True


class Load(msgspec.Struct, frozen=True):
    """One round of asking. All times are seconds; the samples are in no order."""

    to_first_token: list[float]
    to_end: list[float]
    seconds: float

    @property
    def answers(self) -> int:
        """How many complete answers came."""
        return len(self.to_end)

    @property
    def answers_per_second(self) -> float:
        """Complete answers a second."""
        return self.answers / self.seconds

    def first_token_ms(self, percent: float) -> float:
        """A percentile of the time to the first token, milliseconds."""
        return percentile(self.to_first_token, percent) * 1_000

    def end_ms(self, percent: float) -> float:
        """A percentile of the time to the end of the answer, milliseconds."""
        return percentile(self.to_end, percent) * 1_000


async def ask(target: Target, *, concurrency: int, seconds: float) -> Load:
    """Ask ``concurrency`` at once for ``seconds``, streaming. Raises `BenchmarkFailed` on any wrong answer or none."""
    loop = asyncio.get_running_loop()
    load = Load([], [], 0.0)
    started = time.perf_counter()
    askers = [_Asker(target, number, load, started + seconds) for number in range(concurrency)]
    try:
        async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
            await asyncio.gather(*(loop.create_connection(asker.itself, LOOPBACK, target.port) for asker in askers))
            await asyncio.gather(*(asker.finished for asker in askers))
    except (TimeoutError, OSError) as error:
        raise BenchmarkFailed(f"{target.name} does not answer: {error!r}") from error
    finally:
        for asker in askers:
            asker.close()
    return msgspec.structs.replace(load, seconds=time.perf_counter() - started)


class _Asker(asyncio.Protocol):
    def __init__(self, target: Target, number: int, load: Load, deadline: float) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._target = target
        self._request = _request(target, target.keys[number % len(target.keys)])
        self._load = load
        self._deadline = deadline
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._asked_at = 0.0
        self._first_at = 0.0

    def itself(self) -> "_Asker":
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._ask()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._received += data
        if not self._first_at and CONTENT_MARK in self._received:
            self._first_at = now
        if not self._target.stream:
            if self._is_whole():
                self._answered_at_once(now)
            return
        if self._received.endswith(_END):
            self._answered(now)
        elif b"\r\ncontent-length:" in self._received[:512]:  # a stream has none: this is an error
            self._fail()

    def connection_lost(self, _: Exception | None) -> None:
        self._fail()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _ask(self) -> None:
        assert self._transport is not None
        self._received.clear()
        self._first_at = 0.0
        self._asked_at = time.perf_counter()
        self._transport.write(self._request)

    def _answered(self, now: float) -> None:
        answer = self._received
        whole = answer.count(CONTENT_MARK) == len(PIECES) and DONE_MARK in answer
        if not whole or (self._target.receipts and RECEIPT_MARK not in answer):
            self._fail()
            return
        self._count(now)

    def _is_whole(self) -> bool:
        head, _, body = bytes(self._received).partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return length is not None and len(body) >= int(length[1])

    def _answered_at_once(self, now: float) -> None:
        if b" 200 " not in self._received[:16] or b"".join(piece.encode() for piece in PIECES) not in self._received:
            self._fail()
            return
        self._count(now)

    def _count(self, now: float) -> None:
        self._load.to_first_token.append(self._first_at - self._asked_at)
        self._load.to_end.append(now - self._asked_at)
        if now < self._deadline:
            self._ask()
        elif not self.finished.done():
            self.finished.set_result(None)

    def _fail(self) -> None:
        if not self.finished.done():
            text = bytes(self._received[-400:]).decode(errors="replace")
            self.finished.set_exception(BenchmarkFailed(f"{self._target.name} gave no whole answer, but: {text!r}"))


def _request(target: Target, key: str) -> bytes:
    body = request_body(seed=target.seed, stream=target.stream)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"host: {LOOPBACK}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
