"""What every part of the HTTP API shares: OpenAI's error envelope, bounded bodies, clients that leave."""

import asyncio
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from tristrata.chains.evm import ChainUnreachable
from tristrata.chains.writer import TransactionReverted
from tristrata.config.network import Serving
from tristrata.protocol.errors import InvalidSignature, InvalidValue, TristrataError
from tristrata.protocol.sign_in import SignInRefused
from tristrata.protocol.voucher_book import BudgetExhausted, ExposureReached, SessionEnding
from tristrata.router.attempt import ContextExceeded, MinerLost, RequestUnanswerable
from tristrata.router.fleet import FleetUnavailable, OwnedElsewhere, OwnerLost
from tristrata.router.matching import FeatureMissing, NoCapacity
from tristrata.router.own_keys import VoucherConflict
from tristrata.router.sessions import SessionUnknown
from tristrata.storage.api_keys import KeyRefused, KeyUnknown
from tristrata.storage.batches import BatchUnknown
from tristrata.storage.files import FilesFull, FileUnknown
from tristrata.storage.ownership import OwnershipLost
from tristrata.storage.receipt_book import BookUnavailable

MORE_HEADERS = "tristrata.headers"
"""In the scope: a list of headers that whoever answers may add to; they go out with the status."""

LEAVING = "tristrata.leaving"
"""In the scope, where the server is ours: a list of functions to be called when the client leaves."""

REFUSED = "tristrata.refused"
"""In the scope: a list that gets the error's code where a request is refused."""

SERVING = "tristrata.serving"
"""In the scope: the router's `Serving` settings."""

_log = structlog.get_logger()
_STATUSES: dict[type[TristrataError], tuple[int, str | None]] = {
    InvalidValue: (400, None),
    ContextExceeded: (400, "context_length_exceeded"),
    RequestUnanswerable: (400, None),
    FeatureMissing: (400, "unsupported_parameter"),
    InvalidSignature: (401, "invalid_signature"),
    BudgetExhausted: (402, "insufficient_quota"),
    SessionEnding: (402, "session_ending"),
    SessionUnknown: (404, "session_not_found"),
    ExposureReached: (429, "exposure_reached"),
    NoCapacity: (503, "no_capacity"),
    ChainUnreachable: (503, "chain_unreachable"),
    MinerLost: (502, "miner_lost"),
    OwnershipLost: (503, "session_moved"),
    OwnedElsewhere: (503, "session_moved"),
    FleetUnavailable: (503, "database_unavailable"),
    BookUnavailable: (503, "database_unavailable"),
    OwnerLost: (502, "router_lost"),
    TransactionReverted: (409, "refused_by_contract"),
    SignInRefused: (401, "sign_in_refused"),
    VoucherConflict: (409, "voucher_conflict"),
    KeyRefused: (409, "key_refused"),
    KeyUnknown: (404, "key_not_found"),
    FileUnknown: (404, "file_not_found"),
    FilesFull: (400, "file_limit_exceeded"),
    BatchUnknown: (404, "batch_not_found"),
}


class Refusal(Exception):
    """An answer in OpenAI's error envelope."""

    def __init__(self, status: int, code: str | None, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = {"error": envelope(status, code, message, parameter)}


def refusal_of(error: TristrataError) -> Refusal:
    """How an error of ours is told over HTTP."""
    message = f"{error.message}. {error.remedy}" if error.remedy else error.message
    status, code = next(
        (found for kind, found in _STATUSES.items() if isinstance(error, kind)), (502, "answer_refused")
    )
    return Refusal(status, code, message)


def envelope(status: int, code: str | None, message: str, parameter: str | None) -> dict[str, Any]:
    """OpenAI's error object."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": message, "type": kind, "param": parameter, "code": code}


def code_of(body: dict[str, Any]) -> str:
    """An error's code, for counting; its type where it has none."""
    return str(body["error"]["code"] or body["error"]["type"])


def fault_body() -> dict[str, Any]:
    """What is told of a fault that nobody foresaw."""
    message = "the router failed on this request; its log says why"
    return {"error": envelope(500, "internal_error", message, None)}


def json_response(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


async def read_body(request: Request, limit: int | None = None) -> bytes:
    """The request's body; ``limit`` (bytes) is for where it may be longer than others.

    Raises `Refusal` (413) when it is too long, (408) when it is too slow.
    """
    serving: Serving = request.scope.get(SERVING) or Serving()
    limit = limit or serving.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    body, has_more = bytearray(), True
    try:
        async with asyncio.timeout(serving.body_seconds):
            while has_more and len(body) <= limit:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(499, "client_left", "the client closed the connection")
                body += message.get("body", b"")
                has_more = bool(message.get("more_body"))
    except TimeoutError as error:
        seconds = serving.body_seconds
        raise Refusal(408, "request_timeout", f"the body did not come within {seconds:g} seconds") from error
    if len(body) > limit:
        raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "request_too_large", f"the body is longer than {limit} bytes, the most that is taken")


async def on_refusal(request: Request, error: Exception) -> Response:
    """Starlette's handler of `Refusal`."""
    assert isinstance(error, Refusal)
    request.scope.get(REFUSED, []).append(code_of(error.body))
    response = json_response(error.body, status=error.status)
    response.raw_headers += error.headers
    if error.status in (429, 503) and not any(name == b"retry-after" for name, _ in error.headers):
        response.raw_headers.append((b"retry-after", b"1"))
    return response


async def on_error(request: Request, error: Exception) -> Response:
    """Starlette's handler of our own errors."""
    assert isinstance(error, TristrataError)
    return await on_refusal(request, refusal_of(error))


async def on_unknown_url(request: Request, _: Exception) -> Response:
    """Starlette's handler of 404 and 405."""
    message = f"{request.method} {request.url.path} does not exist here"
    request.scope.get(REFUSED, []).append("unknown_url")
    return json_response({"error": envelope(404, "unknown_url", message, None)}, status=404)


async def on_fault(request: Request, error: Exception) -> Response:
    """Starlette's handler of what nobody foresaw: logged in full, told in one sentence."""
    _log.error("request failed", path=request.url.path, exc_info=error)
    request.scope.get(REFUSED, []).append("internal_error")
    return json_response(fault_body(), status=500)
