"""Files over HTTP: what batches read and write (https://platform.openai.com/docs/api-reference/files)."""

import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tristrata.protocol.units import Timestamp
from tristrata.router.callers import Caller, Callers
from tristrata.router.http import Refusal, json_response, read_body
from tristrata.router.openai.pages import page_of
from tristrata.router.openai.parameters import RequestInvalid, integer, one_of, text
from tristrata.storage.api_keys import Scope
from tristrata.storage.files import Files, StoredFile

MAX_FILE_BYTES = 16 * 1_048_576
"""How long one file may be."""

BATCH_INPUT = "batch"
LEAST_SECONDS, MOST_SECONDS = 3_600, 30 * 86_400
"""How long a file may be kept; the most is what happens without a word."""

_MULTIPART_BYTES = 65_536
_MAX_FIELDS = 8
_UPLOADS_AT_ONCE = 8
_MAX_NAME = 256


class FilesApi:
    """The files of all callers; each sees only its owner's."""

    def __init__(self, files: Files, callers: Callers, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._callers = callers
        self._clock = clock
        self._uploads = 0

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/files", self._list),
            Route("/v1/files", self._upload, methods=["POST"]),
            Route("/v1/files/{id}", self._show),
            Route("/v1/files/{id}", self._delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self._content),
        ]

    async def _upload(self, request: Request) -> Response:
        caller = self._caller(request)
        if self._uploads >= _UPLOADS_AT_ONCE:
            raise Refusal(503, "too_many_uploads", f"{_UPLOADS_AT_ONCE} files are being uploaded: try again")
        self._uploads += 1
        try:
            form = await _read_form(request)
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise RequestInvalid("Missing required parameter: 'file'.", "file", "missing_required_parameter")
            purpose = one_of(BATCH_INPUT)(_field(form, "purpose"), "purpose")
            name = text(_MAX_NAME, 1)(upload.filename or "", "file")
            seconds = _seconds(form)
            content = await upload.read()
            if len(content) > MAX_FILE_BYTES:
                raise _too_large()
            now = self._now()
            file = await self._files.add(caller.owner, name, purpose, content, now, Timestamp(now + seconds))
        finally:
            self._uploads -= 1
        return json_response(_describe(file))

    async def _list(self, request: Request) -> Response:
        files = await self._files.of(self._caller(request).owner, self._now())
        purpose = request.query_params.get("purpose")
        if purpose is not None:
            files = [file for file in files if file.purpose == purpose]
        if one_of("asc", "desc")(request.query_params.get("order", "desc"), "order") == "asc":
            files.reverse()
        return json_response(page_of(request, [_describe(file) for file in files], most=10_000, default=10_000))

    async def _show(self, request: Request) -> Response:
        return json_response(_describe(await self._file(request)))

    async def _delete(self, request: Request) -> Response:
        file = await self._file(request)
        await self._files.delete(file)
        return json_response({"id": file.id, "object": "file", "deleted": True})

    async def _content(self, request: Request) -> Response:
        file = await self._file(request)
        headers = {"content-length": str(file.size)}
        return StreamingResponse(self._files.content(file), headers=headers, media_type="application/octet-stream")

    async def _file(self, request: Request) -> StoredFile:
        return await self._files.get(request.path_params["id"], self._caller(request).owner, self._now())

    def _caller(self, request: Request) -> Caller:
        caller = self._callers.authenticate(request)
        caller.require(Scope.INFERENCE)
        return caller

    def _now(self) -> Timestamp:
        return Timestamp(int(self._clock()))


async def _read_form(request: Request) -> FormData:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestInvalid("The body of your request must be multipart/form-data.")
    body = await read_body(request, MAX_FILE_BYTES + _MULTIPART_BYTES)

    async def all_of_it() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers, all_of_it(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MULTIPART_BYTES
    )
    # What is uploaded goes to the database: not to a temporary file before.
    parser.spool_max_size = len(body)
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise RequestInvalid(f"We could not parse the multipart body of your request: {error.message}") from error
    except KeyError as error:
        raise RequestInvalid("The content-type of your request names no boundary.") from error


def _field(form: FormData, name: str) -> str:
    value = form.get(name)
    if not isinstance(value, str):
        raise RequestInvalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    return value


def _seconds(form: FormData) -> int:
    """How long it is to be kept: ``expires_after[anchor]`` and ``expires_after[seconds]``."""
    if "expires_after[anchor]" not in form and "expires_after[seconds]" not in form:
        return MOST_SECONDS
    one_of("created_at")(_field(form, "expires_after[anchor]"), "expires_after.anchor")
    given = _field(form, "expires_after[seconds]")
    seconds: Any = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else given
    return int(integer(LEAST_SECONDS, MOST_SECONDS)(seconds, "expires_after.seconds"))


def _too_large() -> Refusal:
    return Refusal(413, "request_too_large", f"the file is longer than {MAX_FILE_BYTES} bytes, the most of one")


def _describe(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
