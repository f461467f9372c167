"""Runs batches: takes them from the queue of all routers, asks their lines as far as there is room, writes their files.

A batch that its router loses is taken by another, which goes on where the database says. While two believe that they
run it, nothing is paid twice: see `batch_lines`.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from tristrata.fabric.work_queue import ACK_SECONDS, QueueUnavailable, Work, WorkQueue
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import SessionId
from tristrata.protocol.units import Timestamp
from tristrata.router.fleet import OwnedElsewhere
from tristrata.router.http import Refusal, fault_body, refusal_of
from tristrata.router.openai.batch_input import BatchInvalid, parse_batch
from tristrata.router.openai.batch_lines import LineDesk, SessionElsewhere, failed_line
from tristrata.storage.batches import Batch, Batches, BatchUnknown, Line, Status
from tristrata.storage.files import Files, FileUnknown
from tristrata.storage.ownership import OwnershipLost

AT_ONCE, LINES_AT_ONCE = 4, 8
"""How many batches a router runs at a time, and how many lines of each."""

FILE_SECONDS = 30 * 86_400
"""How long files are kept, and batches after their end."""

_TAKE_SECONDS, _CHECK_SECONDS, _SWEEP_SECONDS = 5.0, 1.0, 600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _ELSEWHERE_SECONDS = 0.2, 5.0, 3.0
_FAULTS = 3
_MAY_PASS = (429, 503)
_LOST = 502
_UNPAID = 402
_ENDS = {
    Status.EXPIRED: {
        "code": "batch_expired",
        "message": "This request could not be executed before the batch expired.",
    },
    Status.CANCELLED: {"code": "batch_cancelled", "message": "This request was not executed: the batch was cancelled."},
}
_log = structlog.get_logger()


class BatchRunner:
    """The batches of one router."""

    def __init__(
        self,
        queue: WorkQueue,
        batches: Batches,
        files: Files,
        lines: LineDesk,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._batches = batches
        self._files = files
        self._lines = lines
        self._clock = clock
        self._running: set[str] = set()
        self._left: dict[str, float] = {}

    async def run(self) -> None:
        """Run what comes, until cancelled; then what is under way is given back to the others."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep())
            room = asyncio.Semaphore(AT_ONCE)
            while True:
                await room.acquire()
                work = await self._take()
                task = group.create_task(self._do(work))
                task.add_done_callback(lambda _: room.release())

    async def _take(self) -> Work:
        while True:
            try:
                work = await self._queue.take(_TAKE_SECONDS)
            except QueueUnavailable as error:
                _log.warning("no batches", reason=error.message)
                await asyncio.sleep(_CHECK_SECONDS)
                continue
            if work is not None:
                return work

    async def _sweep(self) -> None:
        """Put into the queue what is open and may not be in it, and forget what is old."""
        while True:
            now = self._now()
            try:
                for batch_id in await self._batches.open_ids():
                    await self._queue.put(batch_id)
                await self._files.drop_expired(now)
                await self._batches.drop_ended(Timestamp(now - FILE_SECONDS))
            except (TristrataError, SQLAlchemyError, OSError) as error:
                _log.warning("batches not looked through", reason=str(error))
                await asyncio.sleep(_CHECK_SECONDS)
            else:
                await asyncio.sleep(_SWEEP_SECONDS)

    async def _do(self, work: Work) -> None:
        name = work.name
        if name in self._running or self._left.get(name, 0.0) > time.monotonic():
            await work.give_back(_CHECK_SECONDS)
            return
        self._running.add(name)
        beating = asyncio.create_task(_beat(work))
        try:
            if await self._run(await self._batches.get(name)):
                await work.finish()
            else:
                # Its sessions are other routers': they are to take it before this one does so again.
                self._left = {each: until for each, until in self._left.items() if until > time.monotonic()}
                self._left[name] = time.monotonic() + _ELSEWHERE_SECONDS
                await work.give_back(_CHECK_SECONDS)
        except BatchUnknown:
            await work.finish()
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work.give_back(0))
            raise
        except Exception as error:
            _log.error("batch not run", batch=name, exc_info=error)
            await work.give_back(_LONGEST_PAUSE_SECONDS)
        finally:
            beating.cancel()
            self._running.discard(name)

    async def _run(self, batch: Batch) -> bool:
        """Go on with a batch; whether it is over."""
        if batch.status == Status.VALIDATING:
            await self._validate(batch)
            batch = await self._batches.get(batch.id)
        if batch.status not in (Status.IN_PROGRESS, Status.CANCELLING):
            return True
        run = _Run(self._batches, self._lines, batch, self._clock)
        if not await run.to_end():
            return False
        unanswered = msgspec.json.encode(_ENDS.get(run.end, {}))
        await self._batches.finish(batch, run.end, unanswered, self._now())
        _log.info("batch over", batch=batch.id, status=run.end, lines=batch.total)
        return True

    async def _validate(self, batch: Batch) -> None:
        try:
            file = await self._files.get(batch.input_file, batch.owner, self._now())
            content = b"".join([chunk async for chunk in self._files.content(file)])
            lines = await asyncio.to_thread(parse_batch, content, batch.endpoint)
        except FileUnknown as error:
            problem = {"code": "file_not_found", "message": error.message, "param": "input_file_id", "line": None}
            await self._batches.fail(batch, [problem], self._now())
        except BatchInvalid as error:
            await self._batches.fail(batch, error.errors, self._now())
        else:
            await self._batches.start(batch, lines, self._now())

    def _now(self) -> Timestamp:
        return Timestamp(int(self._clock()))


class _Run:
    """The lines of one batch, until they are answered, or the batch is to end. ``end`` is how it does.

    What is being asked when it is to end, or was when a router was lost, is answered first: it may be paid.
    """

    def __init__(self, batches: Batches, lines: LineDesk, batch: Batch, clock: Callable[[], float]) -> None:
        self.end = Status.COMPLETED
        self._batches = batches
        self._lines = lines
        self._batch = batch
        self._clock = clock
        self._stopping = asyncio.Event()
        self._elsewhere: set[SessionId] = set()
        self._begun: frozenset[int] = frozenset()
        self._asking = 0
        if batch.status == Status.CANCELLING:
            self._stop(Status.CANCELLED)
        self._was_left = False

    async def to_end(self) -> bool:
        """Ask what is not answered; whether no lines are left that sessions of other routers pay for."""
        begun = await self._batches.begun(self._batch)
        waiting = iter([*begun, *(line for line in await self._batches.waiting(self._batch) if line not in begun)])
        self._begun = frozenset(begun)
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(LINES_AT_ONCE):
                    group.create_task(self._work(waiting))
        finally:
            watching.cancel()
        return self._stopping.is_set() or not self._was_left

    async def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                if (await self._batches.get(self._batch.id)).status == Status.CANCELLING:
                    self._stop(Status.CANCELLED)
            except (SQLAlchemyError, OSError) as error:
                _log.warning("batch not looked at", batch=self._batch.id, reason=str(error))
            if self._clock() >= self._batch.expires_at:
                self._stop(Status.EXPIRED)
            await asyncio.sleep(_CHECK_SECONDS)

    def _stop(self, end: Status) -> None:
        self.end = end
        self._stopping.set()

    async def _work(self, waiting: Iterator[int]) -> None:
        for number in waiting:
            if self._stopping.is_set() and number not in self._begun:
                return
            line = await self._batches.line(self._batch, number)
            try:
                await self._answer(line)
            except SessionElsewhere as error:
                self._elsewhere.add(error.session)
                self._was_left = True
            except (OwnedElsewhere, OwnershipLost):
                self._was_left = True

    async def _answer(self, line: Line) -> None:
        """Ask until there is an answer, or no hope of one."""
        pause, faults = _FIRST_PAUSE_SECONDS, 0
        while True:
            try:
                self._asking += 1
                try:
                    result = await self._lines.answer(self._batch, line, self._elsewhere)
                finally:
                    self._asking -= 1
            except (SessionElsewhere, OwnedElsewhere, OwnershipLost):
                raise
            except (Refusal, TristrataError) as error:
                refusal = error if isinstance(error, Refusal) else refusal_of(error)
                status, body = refusal.status, refusal.body
                faults += status == _LOST
                # What other lines may cost at most is set aside until they are answered.
                may_pass = status in _MAY_PASS or (status == _UNPAID and self._asking > 0)
                is_final = not may_pass and not 0 < faults < _FAULTS
            except Exception as error:
                _log.error("batch line failed", batch=self._batch.id, line=line.number, exc_info=error)
                status, body = 500, fault_body()
                faults += 1
                is_final = faults >= _FAULTS
            else:
                await self._batches.finish_line(self._batch, line.number, result, is_failed=False)
                return
            if is_final:
                result = failed_line(line, status, body)
                await self._batches.finish_line(self._batch, line.number, result, is_failed=True)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _beat(work: Work) -> None:
    while True:
        await asyncio.sleep(ACK_SECONDS / 3)
        await work.go_on()
