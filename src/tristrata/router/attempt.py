"""One request at one miner: what was reserved for it, and what has come back so far."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tristrata.fabric.connection import ReplyInbox
from tristrata.fabric.frames import CONTEXT_EXCEEDED, REQUEST_REJECTED, Delta, Failure, Finish, Reply, Task
from tristrata.protocol.answers import DetailInvalid, TaskKind, ToolCalls, decode_detail, output_of
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import RequestId, show
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher_book import Release, apply
from tristrata.router.matching import Match
from tristrata.router.presence import Presence
from tristrata.router.sessions import ServedSession
from tristrata.storage.api_keys import ApiKey
from tristrata.storage.awaiting import AwaitingReceipt
from tristrata.storage.receipt_book import BookEntry

ACCEPT_SECONDS, FIRST_PIECE_SECONDS, NEXT_PIECE_SECONDS = 5, 600, 60
"""How long a miner that is there may take to say that it has begun, to its first piece, and from one to the next."""

CHARACTERS_A_TOKEN, DETAIL_BYTES_A_TOKEN = 128, 16_384
"""The longest that a token of an answer, and what is told of it (log probabilities, calls), can be on average."""

Acknowledging = asyncio.Future[BookEntry] | asyncio.Future[BookEntry | AwaitingReceipt]
"""What will be there when an answer's receipt is: acknowledged, or with own keys awaiting its owner's voucher."""

_CHECK_SECONDS = 1.0
_MORE_CHARACTERS, _MORE_DETAIL_BYTES = 1_024, 65_536


class Question(msgspec.Struct, frozen=True):
    """A checked request as a miner gets it: ``body`` is its JSON, ``needs`` are the features that it asks for.

    ``most_characters`` is how long the answer can be, where that is not for its tokens to say.
    ``check`` gets all texts of the answer before it is paid, and raises a `TristrataError` where they are none.
    ``keep`` gets all its pieces, and why it ended, before it is paid: what it keeps is there whatever happens after,
    and an answer that is broken off is not paid.
    """

    kind: TaskKind
    body: bytes
    max_output_tokens: int
    needs: frozenset[str] = frozenset()
    most_characters: int | None = None
    check: Callable[[Sequence[str]], None] | None = None
    keep: Callable[[RequestId, Sequence[Delta], str], Awaitable[None]] | None = None


class MinerLost(TristrataError):
    """The miner that was answering is gone, or broke off; nothing is owed for the answer."""


class RequestUnanswerable(TristrataError):
    """The model cannot answer this request, whichever miner runs it: a schema that it does not understand."""


class ContextExceeded(RequestUnanswerable):
    """The prompt is longer than the model's context."""


class Attempt:
    """One request at one miner: ``task`` is what it gets of ``question``.

    ``held`` is the most that it may cost, of the session's budget and the key's.

    `open` it before the task is sent, and `close` it in the end.
    """

    def __init__(
        self,
        session: ServedSession,
        found: Match,
        task: Task,
        key: ApiKey | None,
        held: Amount,
        question: Question,
    ) -> None:
        self.session = session
        self.miner = found.miner
        self.task = task
        self.key = key
        self.question = question
        self.text: list[str] = []
        self.pieces: list[Delta] = []
        self.calls = ToolCalls()
        self.finish: Finish | None = None
        self.acknowledging: Acknowledging | None = None
        self.is_open = False
        self._run = found.run
        self._held = held
        tokens = question.max_output_tokens
        self._characters_left = question.most_characters or tokens * CHARACTERS_A_TOKEN + _MORE_CHARACTERS
        self._detail_bytes_left = tokens * DETAIL_BYTES_A_TOKEN + _MORE_DETAIL_BYTES
        self._failure: Failure | None = None

    def open(self, inbox: ReplyInbox, presence: Presence) -> None:
        """Listen, and watch over the miner."""
        self.is_open = True
        self._inbox = inbox
        self._presence = presence
        self._loop = asyncio.get_running_loop()
        self._replies = inbox.open(self.miner, self.task.request_id)
        self._watch = self._loop.call_later(_CHECK_SECONDS, self._check)
        presence.market.hold(self.miner)

    def close(self) -> None:
        """Release what was reserved, and hear no more."""
        if self.is_open:
            self.is_open = False
            if self.task.request_id not in self.session.awaiting:  # what awaits its voucher stays reserved
                self.session.book, _ = apply(self.session.book, Release(RequestId(self.task.request_id)))
            if self.key is not None:
                self.key.release(self._held)
            self._watch.cancel()
            self._inbox.close(self.miner, self.task.request_id)
            self._presence.market.release(self.miner)

    async def advance(self) -> Sequence[Delta] | None:
        """The pieces that are there, at least one; `None` at the end. Raises `MinerLost` or `RequestUnanswerable`."""
        while self.finish is None:
            if self._failure is not None:
                raise self._failed(self._failure)
            pieces = self._take(await self._replies.get())
            if pieces:
                texts = [piece.text for piece in pieces]
                self._count(sum(map(len, texts)), pieces)
                self.text += texts
                if self.question.keep is not None:
                    self.pieces += pieces
                self._take_in([piece.detail for piece in pieces if piece.detail])
                return pieces
        return None

    @property
    def output(self) -> str:
        """What the receipt's ``output_hash`` must cover of the answer, as far as it has come."""
        return output_of("".join(self.text), self.calls.all)

    def _count(self, characters: int, pieces: Sequence[Delta]) -> None:
        """Break off what is longer than any answer to the question can be: only tokens are billed, but all is kept."""
        self._characters_left -= characters
        self._detail_bytes_left -= sum([len(piece.detail) for piece in pieces])
        if self._characters_left < 0 or self._detail_bytes_left < 0:
            raise MinerLost(
                f"miner {show(self.miner)} sent more than {self.question.max_output_tokens} tokens can be; "
                "nothing is owed for this answer"
            )

    def _take_in(self, details: list[bytes]) -> None:
        try:
            for detail in details:
                self.calls.add(decode_detail(detail).tool_calls)
        except DetailInvalid as error:
            raise MinerLost(f"miner {show(self.miner)} broke off: {error.message}; nothing is owed") from error

    def _take(self, frames: list[Reply]) -> list[Delta]:
        if not frames:
            raise MinerLost(f"miner {show(self.miner)} is gone; nothing is owed for this answer")
        pieces = []
        for frame in frames:
            if isinstance(frame, Delta):
                pieces.append(frame)
            elif isinstance(frame, Finish):
                self.finish = frame
                break
            elif isinstance(frame, Failure):
                self._failure = frame
                break
        return pieces

    def _check(self) -> None:
        """Once a second: is the miner there, and does it still answer?"""
        patience = NEXT_PIECE_SECONDS if self.text else FIRST_PIECE_SECONDS
        if not self._replies.was_heard:
            patience = ACCEPT_SECONDS
        if self._presence.is_there(self.miner, self._run) and self._loop.time() < self._replies.heard_at + patience:
            self._watch = self._loop.call_later(_CHECK_SECONDS, self._check)
        else:
            self._replies.end()

    def _failed(self, failure: Failure) -> TristrataError:
        if failure.code == CONTEXT_EXCEEDED:
            return ContextExceeded(failure.message, remedy="shorten the prompt, or ask another model")
        if failure.code == REQUEST_REJECTED:
            return RequestUnanswerable(failure.message, remedy="change the request, or ask another model")
        return MinerLost(f"miner {show(self.miner)} gave up ({failure.code}: {failure.message}); nothing is owed")
