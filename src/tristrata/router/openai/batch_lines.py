"""One line of a batch: asked, answered and paid once, whatever ends in between.

Each answer is kept before it is paid, and paid by its receipt's place in the book. Whoever goes on with a line that
another process had begun replays what is paid, forgets what is not, and asks for the rest. Only the owner of a session
pays from it, so it is owned before either is looked at.
"""

import secrets
from collections.abc import AsyncGenerator, Collection, Sequence
from functools import partial
from typing import Any

import msgspec

from tristrata.fabric.frames import Delta
from tristrata.protocol.ids import RequestId, SessionId, show
from tristrata.router.attempt import Question
from tristrata.router.callers import Caller, Callers
from tristrata.router.fleet import OwnedElsewhere
from tristrata.router.http import Refusal
from tristrata.router.openai.asking import Start, answers_of
from tristrata.router.openai.calls import Call, Calls
from tristrata.router.openai.events import REQUEST_ID_HEADER
from tristrata.router.openai.parameters import RequestInvalid
from tristrata.router.openai.receipts import RECEIPT_HEADER
from tristrata.router.serving import Began, Desk, Ended, Pieces, Served
from tristrata.router.sessions import ServedSession
from tristrata.storage.api_keys import Scope
from tristrata.storage.batches import Batch, Batches, KeptAnswer, Line, result_line
from tristrata.storage.receipt_book import BookEntry, ReceiptBook


class _Transcript(msgspec.Struct, frozen=True, array_like=True):
    """What came of a miner."""

    pieces: Sequence[Delta]
    finish_reason: str


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Transcript).decode


class LineDesk:
    """Answers lines, through the desk that serves everybody."""

    def __init__(self, desk: Desk, calls: Calls, callers: Callers, book: ReceiptBook, batches: Batches) -> None:
        self._desk = desk
        self._calls = calls
        self._callers = callers
        self._book = book
        self._batches = batches

    async def answer(self, batch: Batch, line: Line, elsewhere: Collection[SessionId] = ()) -> bytes:
        """The line's result, as it stands in the output file. ``elsewhere`` are sessions that other routers own.

        Raises `SessionElsewhere` for those, and what `ask` does.
        """
        call = self._calls.check(batch.endpoint, batch.owner, line.body)
        if call.events is not None:
            raise RequestInvalid("'stream' is not supported in a batch: leave it out.", "stream", "unsupported_value")
        starts = await self._paid(batch, line, elsewhere)
        missing = [choice for choice in range(len(call.questions)) if choice not in starts]
        if missing:
            caller = self._callers.later(batch.owner, batch.key_id)
            caller.require(Scope.INFERENCE)
            session = caller.session_for(call.model.model_id, call.model.name)
            _require_managed(session)
            await self._own(session, elsewhere)
            starts |= {choice: self._start(batch, line, caller, session, call, choice) for choice in missing}
        response = await call.whole(answers_of([starts[choice] for choice in sorted(starts)], call.names))
        headers = response.headers
        given = {
            "status_code": response.status_code,
            "request_id": headers.get(REQUEST_ID_HEADER, ""),
            "headers": {name: headers[name] for name in (RECEIPT_HEADER,) if name in headers},
            "body": msgspec.Raw(bytes(response.body)),
        }
        return msgspec.json.encode(result_line(line.custom_id, given, None))

    def _start(
        self, batch: Batch, line: Line, caller: Caller, session: ServedSession, call: Call, choice: int
    ) -> Start:
        keep = partial(self._keep, batch, line.number, choice, session.book.session)
        question: Question = msgspec.structs.replace(call.questions[choice], keep=keep)
        return partial(self._desk.serve, session, call.model.model_id, question, key=caller.key, waits=False)

    async def _keep(
        self,
        batch: Batch,
        line: int,
        choice: int,
        session: SessionId,
        request_id: RequestId,
        pieces: Sequence[Delta],
        finish_reason: str,
    ) -> None:
        transcript = _encode(_Transcript(pieces, finish_reason))
        await self._batches.keep(batch, line, KeptAnswer(choice, session, request_id, transcript))

    async def _paid(self, batch: Batch, line: Line, elsewhere: Collection[SessionId]) -> dict[int, Start]:
        """By choice, what an earlier process has answered and paid. What it has not paid is forgotten."""
        owner = self._callers.later(batch.owner, "")
        paid: dict[int, Start] = {}
        for kept in await self._batches.kept(batch, line.number):
            await self._own(owner.session(kept.session), elsewhere)
            entry = await self._book.entry(kept.request_id)
            if entry is not None:
                paid[kept.choice] = partial(_replay, entry, _decode(kept.transcript))
            else:
                await self._batches.drop(batch, line.number, kept)
        return paid

    async def _own(self, session: ServedSession, elsewhere: Collection[SessionId]) -> None:
        session_id = session.book.session
        if session_id in elsewhere:
            raise SessionElsewhere(session_id)
        try:
            await self._desk.own(session)
        except OwnedElsewhere as error:
            raise SessionElsewhere(session_id) from error


class SessionElsewhere(Exception):
    """Another router owns the session that pays for a line."""

    def __init__(self, session: SessionId) -> None:
        super().__init__(show(session))
        self.session = session


def failed_line(line: Line, status: int, body: Any) -> bytes:
    """The result of a line that was refused with ``status`` and an error's ``body``."""
    given = {"status_code": status, "request_id": f"req_{secrets.token_hex(16)}", "body": body}
    return msgspec.json.encode(result_line(line.custom_id, given, None))


def _require_managed(session: ServedSession) -> None:
    if session.key is None:
        raise Refusal(
            400,
            "own_key_session",
            f"session {show(session.book.session)} is paid with its owner's own signatures, which a batch cannot wait "
            "for: open a managed session, or ask without a batch",
        )


async def _replay(entry: BookEntry, transcript: _Transcript) -> AsyncGenerator[Served, None]:
    yield Began(entry.receipt.request_id)
    yield Pieces(transcript.pieces)
    yield Ended(transcript.finish_reason, entry)
