"""The OpenAPI document of a router: what each endpoint takes and gives, for people and for tools that test or generate.

Requests of OpenAI's endpoints are described by what they must have; their many options are in docs/api/openai.md.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.routing import Route

from tristrata import __version__
from tristrata.protocol.errors import TristrataError

Schema = dict[str, Any]


class Undocumented(TristrataError):
    """An endpoint that the document does not describe."""


class Operation(msgspec.Struct, frozen=True):
    """One endpoint. ``body`` and ``answer`` are JSON schemas; ``query`` names its parameters with theirs.

    ``takes`` and ``gives`` are the media types of both. ``is_public`` needs no API key, ``is_signed`` a key or the
    owner's signature in the body.
    """

    name: str
    summary: str
    answer: Schema
    body: Schema | None = None
    query: dict[str, Schema] = {}
    is_public: bool = False
    is_signed: bool = False
    streams: bool = False
    takes: str = "application/json"
    gives: str = "application/json"


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_AMOUNT: Schema = {"type": "string", "pattern": "^[0-9]+$", "description": "base units, as decimal text"}
_HEX32: Schema = {"type": "string", "pattern": "^(0x)?[0-9a-fA-F]{64}$"}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": 1_000}
_PAGE = {"limit": _LIMIT, "after": _TEXT}


def _object(*required: str, **fields: Schema) -> Schema:
    known = {name: fields.get(name, {}) for name in (*required, *fields)}
    return {"type": "object", "required": list(required), "properties": known}


def _list_of(*required: str) -> Schema:
    return _object("object", "data", data={"type": "array", "items": _object(*required)})


_ASKING = _object("model", model=_TEXT, stream={"type": "boolean"}, max_tokens={"type": "integer", "minimum": 1})
_MESSAGES: Schema = {"type": "array", "minItems": 1, "items": _object("role", role=_TEXT)}
_SESSION = _object("id", "custody", "deposit", "cumulative", "charged", "available", "count", "head", deposit=_AMOUNT)
_RECEIPT = _object("id", "chain", "receipt", "signature", "stage", stage=_TEXT)
_KEY = _object("object", "id", "name", "scopes", "spent")
_GRANT = _object(hub=_TEXT, session=_HEX32, key_hash=_HEX32, deadline=_COUNT, signature=_TEXT, name=_TEXT)
_SIGNED = {"signature": {"type": "string", "description": "hexadecimal, 65 bytes"}, "deadline": _COUNT}
_TX = _object("tx", "block", "gas")
_AGENT = _object("type", "name", "description", "services", "registrations", "supportedTrust")
_ORDER: Schema = {"enum": ["asc", "desc"]}
_FILE = _object("id", "object", "bytes", "filename", "purpose", "created_at", "expires_at")
_BATCH = _object("id", "object", "status", "endpoint", "input_file_id", "request_counts", "expires_at")

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/v1/models"): Operation("listModels", "The models.", _list_of("id", "object")),
    ("GET", "/v1/models/{name}"): Operation("getModel", "One model.", _object("id", "object")),
    ("POST", "/v1/chat/completions"): Operation(
        "chat",
        "Answer a chat.",
        _object("id", "object", "choices", "usage"),
        _object("model", "messages", model=_TEXT, messages=_MESSAGES, stream={"type": "boolean"}),
        streams=True,
    ),
    ("POST", "/v1/completions"): Operation(
        "complete", "Go on from a raw prompt.", _object("id", "object", "choices", "usage"), _ASKING, streams=True
    ),
    ("POST", "/v1/responses"): Operation(
        "respond", "Answer, with typed events.", _object("id", "object", "output", "status"), _ASKING, streams=True
    ),
    ("GET", "/v1/responses/{id}"): Operation("getResponse", "A kept response.", _object("id", "object")),
    ("DELETE", "/v1/responses/{id}"): Operation("deleteResponse", "Forget a response.", _object("id", "deleted")),
    ("GET", "/v1/responses/{id}/input_items"): Operation("listInputItems", "What was asked.", _list_of("id")),
    ("POST", "/v1/embeddings"): Operation(
        "embed",
        "Make vectors of texts.",
        _object("object", "data", "usage"),
        _object("model", "input", model=_TEXT, input={"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}),
    ),
    ("GET", "/v1/files"): Operation(
        "listFiles", "The caller's files.", _list_of("id"), query={**_PAGE, "purpose": _TEXT, "order": _ORDER}
    ),
    ("POST", "/v1/files"): Operation(
        "uploadFile",
        "Keep a batch's input.",
        _FILE,
        _object("file", "purpose", file={"type": "string", "format": "binary"}, purpose={"enum": ["batch"]}),
        takes="multipart/form-data",
    ),
    ("GET", "/v1/files/{id}"): Operation("getFile", "What is known of a file.", _FILE),
    ("DELETE", "/v1/files/{id}"): Operation("deleteFile", "Forget a file.", _object("id", "deleted")),
    ("GET", "/v1/files/{id}/content"): Operation(
        "getFileContent", "What is in a file.", _TEXT, gives="application/octet-stream"
    ),
    ("GET", "/v1/batches"): Operation("listBatches", "The caller's batches.", _list_of("id", "status"), query=_PAGE),
    ("POST", "/v1/batches"): Operation(
        "makeBatch",
        "Ask the calls of a file, within a day.",
        _BATCH,
        _object(
            "input_file_id",
            "endpoint",
            "completion_window",
            input_file_id=_TEXT,
            endpoint=_TEXT,
            completion_window={"enum": ["24h"]},
        ),
    ),
    ("GET", "/v1/batches/{id}"): Operation("getBatch", "A batch, and how far it has come.", _BATCH),
    ("POST", "/v1/batches/{id}/cancel"): Operation("cancelBatch", "Ask no more of a batch's calls.", _BATCH),
    ("GET", "/v1/receipts"): Operation(
        "listReceipts", "The caller's receipts.", _list_of("id", "stage"), query={**_PAGE, "session": _HEX32}
    ),
    ("GET", "/v1/receipts/{request_id}"): Operation("getReceipt", "A receipt, and how far it has come.", _RECEIPT),
    ("GET", "/v1/receipts/{request_id}/proof"): Operation(
        "getProof", "The receipt file, which anybody can check.", _object("receipt", "signature", "path")
    ),
    ("GET", "/v1/usage"): Operation(
        "getUsage", "What was used, by day, session and key.", _object("object", "data"), query={"limit": _LIMIT}
    ),
    ("GET", "/v1/router"): Operation(
        "getRouter", "Whom one deals with.", _object("address", "router_bps", "hubs", "models"), is_public=True
    ),
    ("GET", "/v1/miners"): Operation(
        "listMiners", "The miners that are here now.", _list_of("id", "offers"), query={"limit": _LIMIT}, is_public=True
    ),
    ("GET", "/v1/miners/{miner}/registration"): Operation(
        "getMinerRegistration", "A miner's ERC-8004 registration file.", _AGENT, is_public=True
    ),
    ("GET", "/v1/miners/{miner}/validations"): Operation(
        "listValidations",
        "What validators found of a miner's receipts, as ERC-8004 validation records.",
        _list_of("validatorAddress", "requestHash", "response", "tag"),
        query={"limit": _LIMIT},
        is_public=True,
    ),
    ("GET", "/.well-known/agent-registration.json"): Operation(
        "getRegistrationFile", "The router's ERC-8004 registration file.", _AGENT, is_public=True
    ),
    ("GET", "/.well-known/agent-card.json"): Operation(
        "getAgentCard", "The router's A2A card.", _object("name", "supportedInterfaces", "skills"), is_public=True
    ),
    ("POST", "/a2a"): Operation(
        "sendMessage",
        "Answer an A2A message (JSON-RPC).",
        _object("jsonrpc", "id"),
        _object("jsonrpc", "method", "id", jsonrpc={"const": "2.0"}, method=_TEXT, params={"type": "object"}),
    ),
    ("POST", "/v1/registrations"): Operation(
        "register",
        "Carry a signed registration to the Welcome Center.",
        _TX,
        _object("account", "role", "deadline", "signature", account=_TEXT, role=_TEXT, **_SIGNED),
        is_public=True,
    ),
    ("GET", "/v1/registrations/{account}"): Operation(
        "getRegistration", "Where an account is registered.", _object("account", "hubs"), is_public=True
    ),
    ("POST", "/v1/session-keys"): Operation(
        "getSessionKey",
        "The key with which the router would serve a managed session.",
        _object("session", "session_key"),
        _object("hub", "owner", "nonce", hub=_TEXT, owner=_TEXT, nonce=_TEXT),
        is_public=True,
    ),
    ("GET", "/v1/sessions"): Operation("listSessions", "The caller's sessions.", _list_of("id"), query=_PAGE),
    ("POST", "/v1/sessions"): Operation(
        "openSession",
        "Carry a signed order to the hub.",
        _object("session", "tx"),
        _object("hub", "order", "signature", "permit", hub=_TEXT, order={"type": "object"}, signature=_TEXT),
        is_public=True,
    ),
    ("GET", "/v1/sessions/{session}"): Operation("getSession", "A session's money.", _SESSION),
    ("POST", "/v1/sessions/{session}/top-up"): Operation(
        "topUp",
        "Carry a payer's top-up.",
        _SESSION,
        _object(
            "payer", "amount", "salt", "deadline", "signature", payer=_TEXT, amount=_AMOUNT, salt=_HEX32, **_SIGNED
        ),
    ),
    ("POST", "/v1/sessions/{session}/close"): Operation(
        "closeSession",
        "Carry a signed request to close.",
        _SESSION,
        _object("sender", "deadline", "signature", sender=_TEXT, **_SIGNED),
        is_public=True,
    ),
    ("POST", "/v1/sessions/{session}/refund"): Operation("refundSession", "Close what may be closed.", _SESSION),
    ("GET", "/v1/sessions/{session}/awaiting"): Operation(
        "listAwaiting", "Receipts that await the owner's vouchers.", _list_of("id", "receipt"), query={"limit": _LIMIT}
    ),
    ("POST", "/v1/sessions/{session}/vouchers"): Operation(
        "sendVouchers",
        "Acknowledge receipts with the owner's signatures.",
        _object("acknowledged", "session"),
        _object("vouchers", vouchers={"type": "array", "items": _object("request_id", "signature")}),
    ),
    ("POST", "/v1/signin/nonce"): Operation(
        "getNonce", "A nonce to sign in with.", _object("nonce", "domain"), is_public=True
    ),
    ("POST", "/v1/signin"): Operation(
        "signIn",
        "A token for a signed message (EIP-4361, or Solana's).",
        _object("token"),
        _object("message", "signature", message=_TEXT, signature=_TEXT),
        is_public=True,
    ),
    ("GET", "/v1/api-keys"): Operation("listKeys", "The owner's API keys.", _list_of("id"), query=_PAGE),
    ("POST", "/v1/api-keys"): Operation(
        "makeKey",
        "A new API key; or, signed by the owner, one more session for a key.",
        {"type": "object"},
        _GRANT,
        is_signed=True,
    ),
    ("GET", "/v1/api-keys/{key}"): Operation("getKey", "An API key.", _KEY),
    ("POST", "/v1/api-keys/{key}"): Operation(
        "changeKey", "Another name, budget or expiry.", _KEY, _object(name=_TEXT, budget=_AMOUNT, expires_at=_COUNT)
    ),
    ("DELETE", "/v1/api-keys/{key}"): Operation("revokeKey", "End a key at once.", {"type": "object"}),
    ("POST", "/v1/api-keys/{key}/rotate"): Operation(
        "rotateKey", "The next secret.", _object("secret"), _object(grace_seconds=_COUNT)
    ),
    ("POST", "/v1/api-keys/{key}/sessions"): Operation(
        "linkSession", "Let a key use one more session.", {"type": "object"}, _object("session", session=_HEX32)
    ),
}

_ERROR = _object("error", error=_object("message", "type", "param", "code", message=_TEXT))


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The document of an app with these routes. Raises `Undocumented` for one under ``/v1`` that it does not know."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            operation = OPERATIONS.get((method, path))
            if operation is not None:
                paths.setdefault(path, {})[method.lower()] = _written(operation, path)
            elif path.startswith("/v1/"):
                raise Undocumented(f"{method} {path} is not described", remedy="add it to router/openapi.py")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tristrata router", "version": __version__, "license": {"name": "Apache-2.0"}},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }


def _written(operation: Operation, path: str) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()]
    content: dict[str, Any] = {operation.gives: {"schema": operation.answer}}
    if operation.streams:
        content["text/event-stream"] = {"schema": _TEXT}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    written: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": operation.summary, "content": content},
            "default": {"description": "An error, in OpenAI's envelope.", "content": error},
        },
    }
    if operation.is_public:
        written["security"] = []
    if operation.is_signed:
        written["security"] = [{"key": []}, {}]
    if operation.body is not None:
        written["requestBody"] = {"required": True, "content": {operation.takes: {"schema": operation.body}}}
    return written
