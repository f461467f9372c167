"""Batches over HTTP: asked for, watched, cancelled (https://platform.openai.com/docs/api-reference/batch)."""

import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.fabric.work_queue import QueueUnavailable, WorkQueue
from tristrata.protocol.units import Timestamp
from tristrata.router.callers import Caller, Callers
from tristrata.router.http import Refusal, json_response, read_body
from tristrata.router.openai.batch_input import ENDPOINTS
from tristrata.router.openai.files_api import BATCH_INPUT, LEAST_SECONDS, MOST_SECONDS
from tristrata.router.openai.pages import page_of
from tristrata.router.openai.parameters import RequestInvalid, Table, integer, metadata, one_of, read, record, text
from tristrata.storage.api_keys import Scope
from tristrata.storage.batches import Batch, Batches, Status, new_batch_id
from tristrata.storage.files import Files, FileUnknown

MAX_OPEN = 10
"""How many batches of an owner may be open at a time."""

_WINDOW, _WINDOW_SECONDS = "24h", 86_400
_log = structlog.get_logger()


class BatchesApi:
    """The batches of all callers; each sees only its owner's."""

    def __init__(
        self,
        batches: Batches,
        files: Files,
        queue: WorkQueue,
        callers: Callers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._batches = batches
        self._files = files
        self._queue = queue
        self._callers = callers
        self._clock = clock

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/batches", self._list),
            Route("/v1/batches", self._create, methods=["POST"]),
            Route("/v1/batches/{id}", self._show),
            Route("/v1/batches/{id}/cancel", self._cancel, methods=["POST"]),
        ]

    async def _create(self, request: Request) -> Response:
        caller = self._caller(request)
        fields = read(await read_body(request), _TABLE, ("input_file_id", "endpoint", "completion_window"))
        now = self._now()
        try:
            file = await self._files.get(fields["input_file_id"], caller.owner, now)
        except FileUnknown as error:
            raise RequestInvalid(
                f"Invalid 'input_file_id': you have no file '{fields['input_file_id'][:64]}'.", "input_file_id"
            ) from error
        if file.purpose != BATCH_INPUT:
            raise RequestInvalid(
                f"Invalid 'input_file_id': the file's purpose is '{file.purpose}', not '{BATCH_INPUT}'.",
                "input_file_id",
            )
        if await self._batches.count_open(caller.owner) >= MAX_OPEN:
            raise Refusal(
                429, "batch_limit_exceeded", f"{MAX_OPEN} of your batches are not over: wait for one, or cancel one"
            )
        batch = Batch(
            id=new_batch_id(),
            owner=caller.owner,
            key_id=caller.key.id if caller.key else "",
            endpoint=fields["endpoint"],
            input_file=file.id,
            status=Status.VALIDATING,
            metadata=fields.get("metadata", {}),
            created_at=now,
            expires_at=Timestamp(now + _WINDOW_SECONDS),
            output_seconds=fields.get("output_expires_after", {}).get("seconds", MOST_SECONDS),
        )
        await self._batches.add(batch)
        try:
            await self._queue.put(batch.id)
        except QueueUnavailable as error:  # it is taken in: the next look through all that is open puts it there
            _log.warning("batch not queued yet", batch=batch.id, reason=error.message)
        return json_response(_describe(batch))

    async def _list(self, request: Request) -> Response:
        batches = await self._batches.of(self._caller(request).owner)
        return json_response(page_of(request, [_describe(batch) for batch in batches], most=100, default=20))

    async def _show(self, request: Request) -> Response:
        return json_response(_describe(await self._batch(request)))

    async def _cancel(self, request: Request) -> Response:
        batch = await self._batch(request)
        if batch.status not in (Status.VALIDATING, Status.IN_PROGRESS, Status.CANCELLING):
            raise Refusal(409, "batch_over", f"batch {batch.id} is {batch.status}: it cannot be cancelled any more")
        await self._batches.cancel(batch, self._now())
        return json_response(_describe(await self._batches.get(batch.id)))

    async def _batch(self, request: Request) -> Batch:
        return await self._batches.get(request.path_params["id"], self._caller(request).owner)

    def _caller(self, request: Request) -> Caller:
        caller = self._callers.authenticate(request)
        caller.require(Scope.INFERENCE)
        return caller

    def _now(self) -> Timestamp:
        return Timestamp(int(self._clock()))


def _describe(batch: Batch) -> dict[str, Any]:
    def ended_as(status: Status) -> int | None:
        return batch.ended_at if batch.status == status else None

    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": _WINDOW,
        "status": batch.status,
        "output_file_id": batch.output_file or None,
        "error_file_id": batch.error_file or None,
        "created_at": batch.created_at,
        "in_progress_at": batch.started_at or None,
        "expires_at": batch.expires_at,
        "finalizing_at": ended_as(Status.COMPLETED),
        "completed_at": ended_as(Status.COMPLETED),
        "failed_at": ended_as(Status.FAILED),
        "expired_at": ended_as(Status.EXPIRED),
        "cancelling_at": batch.cancelling_at or None,
        "cancelled_at": ended_as(Status.CANCELLED),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata or None,
    }


_TABLE: Table = {
    "input_file_id": text(64, 1),
    "endpoint": one_of(*ENDPOINTS),
    "completion_window": one_of(_WINDOW),
    "metadata": metadata,
    "output_expires_after": record(
        {"anchor": one_of("created_at"), "seconds": integer(LEAST_SECONDS, MOST_SECONDS)}, ("anchor", "seconds")
    ),
}
