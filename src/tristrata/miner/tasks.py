"""One task, from its frame to its signed receipt."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import msgspec
from coincurve import PrivateKey

from tristrata.fabric.frames import CONTEXT_EXCEEDED, REQUEST_REJECTED, Accepted, Delta, Failure, Finish, Reply, Task
from tristrata.inference.runtime import ContextExceeded, Done, InferenceError, Request, RequestRejected, Runtime
from tristrata.protocol import codec
from tristrata.protocol.answers import ToolCalls, encode_detail, output_of
from tristrata.protocol.ids import Address, ModelId, RequestId, SessionId
from tristrata.protocol.receipt import Assurance, Receipt, most_output_tokens, salted_hash
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.units import Milliseconds, cost_of

CANCELLED = "cancelled"
_NO_EVIDENCE = bytes(32)


def now() -> Milliseconds:
    """Unix milliseconds by this machine's clock."""
    return Milliseconds(time.time_ns() // 1_000_000)


class Worker:
    """Answers tasks with one runtime, in the name of one miner. ``separators`` are the hubs' receipt domains."""

    def __init__(
        self,
        runtime: Runtime,
        miner: Address,
        key: PrivateKey,
        separators: dict[str, bytes],
        clock: Callable[[], Milliseconds] = now,
    ) -> None:
        self._runtime = runtime
        self._miner = miner
        self._key = key
        self._separators = separators
        self._clock = clock
        self._cancelled: set[bytes] = set()

    def cancel(self, request_id: bytes) -> None:
        """Stop an answer at its next token; what was streamed is on its receipt."""
        self._cancelled.add(request_id)

    async def answer(self, task: Task) -> AsyncIterator[Reply]:
        """The frames of the answer: `Accepted`, deltas, and `Finish` with the receipt, or `Failure`."""
        started_at = self._clock()
        try:
            request: Request = {**msgspec.json.decode(task.body), "max_tokens": task.max_output_tokens}
            rendered = await self._runtime.render(request, task.kind)
            yield Accepted()
            text: list[str] = []
            calls = ToolCalls()
            tokens, done = 0, None
            async with aclosing(self._runtime.stream(request, task.kind)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Done):
                        done = piece
                        break
                    text.append(piece.text)
                    tokens += piece.tokens
                    if piece.detail is None:
                        yield Delta(piece.text, piece.tokens)
                    else:
                        calls.add(piece.detail.tool_calls)
                        yield Delta(piece.text, piece.tokens, encode_detail(piece.detail))
                    if task.request_id in self._cancelled or self._clock() > task.deadline:
                        break
        except InferenceError as error:
            yield Failure(_code(error), error.message)
            return
        finally:
            self._cancelled.discard(task.request_id)
        if done is None:
            done = Done(CANCELLED, await self._runtime.count_tokens(rendered), tokens)
        receipt = self._receipt(task, rendered, output_of("".join(text), calls.all), done, started_at)
        signature = sign(self._key, digest(self._separators[task.chain], receipt.struct_hash))
        yield Finish(done.finish_reason, codec.encode(codec.receipt_to_json(receipt)), signature)

    def _receipt(self, task: Task, rendered: str, output: str, done: Done, started_at: Milliseconds) -> Receipt:
        # Some backends count tokens that nobody sees; no session pays for those.
        output_tokens = min(done.output_tokens, most_output_tokens(output))
        return Receipt(
            session=SessionId(task.session),
            request_id=RequestId(task.request_id),
            miner=self._miner,
            model_id=ModelId(task.model_id),
            prompt_hash=salted_hash(task.prompt_salt, rendered),
            output_hash=salted_hash(task.output_salt, output),
            prompt_tokens=done.prompt_tokens,
            output_tokens=output_tokens,
            price=cost_of(done.prompt_tokens, output_tokens, task.prompt_price, task.output_price),
            started_at=started_at,
            finished_at=self._clock(),
            assurance=Assurance(task.assurance),
            evidence=_NO_EVIDENCE,
        )


def _code(error: InferenceError) -> str:
    if isinstance(error, ContextExceeded):
        return CONTEXT_EXCEEDED
    return REQUEST_REJECTED if isinstance(error, RequestRejected) else "backend"
