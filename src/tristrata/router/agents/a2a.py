"""The Agent2Agent protocol, version 1.0 (https://a2a-protocol.org/latest/specification/): a card, and messages.

A message is answered at once by a message, by the model that its metadata names; there are no tasks and no memory.
"""

import secrets
from typing import Any

import msgspec
from starlette.responses import Response

from tristrata import __version__
from tristrata.protocol.decoding import UNDECODABLE
from tristrata.protocol.errors import TristrataError
from tristrata.router.agents.registrations import A2A_VERSION
from tristrata.router.callers import Caller
from tristrata.router.fleet import OwnedElsewhere
from tristrata.router.http import Refusal, json_response, refusal_of
from tristrata.router.openai.asking import ask
from tristrata.router.openai.calls import CHAT, Calls
from tristrata.router.openai.catalogue import Catalogue
from tristrata.router.openai.events import REQUEST_ID_HEADER
from tristrata.router.openai.receipts import RECEIPT_HEADER
from tristrata.router.serving import Desk

PATH = "/a2a"
_PARSE_ERROR, _INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS, _INTERNAL = -32700, -32600, -32601, -32602, -32603
_TASK_NOT_FOUND, _PUSH_NOT_SUPPORTED, _UNSUPPORTED, _CONTENT_TYPE = -32001, -32003, -32004, -32005
_OPTIONS = ("model", "max_tokens", "temperature", "seed")
_NO_TASKS = frozenset(("GetTask", "CancelTask", "SubscribeToTask"))
_NOT_HERE = frozenset(("SendStreamingMessage", "ListTasks", "GetExtendedAgentCard"))
_PUSH = "TaskPushNotificationConfig"


class A2aInvalid(Exception):
    """A call that is refused with one of the protocol's codes."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Rpc(msgspec.Struct, frozen=True):
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | int | None = None
    jsonrpc: str = ""


class _Part(msgspec.Struct, frozen=True):
    text: str | None = None


class _Message(msgspec.Struct, frozen=True, rename="camel"):
    message_id: str
    role: str
    parts: list[_Part]
    context_id: str = ""
    task_id: str = ""
    metadata: dict[str, Any] = {}


class _Params(msgspec.Struct, frozen=True):
    message: _Message


def agent_card(url: str, name: str, description: str, models: list[str]) -> dict[str, Any]:
    """The card of the router at ``url``: one skill a model."""
    skill = {"tags": ["chat", "inference"], "inputModes": ["text/plain"], "outputModes": ["text/plain"]}
    return {
        "name": name,
        "description": description,
        "version": __version__,
        "supportedInterfaces": [{"url": url + PATH, "protocolBinding": "JSONRPC", "protocolVersion": A2A_VERSION}],
        "capabilities": {"streaming": False, "pushNotifications": False, "extendedAgentCard": False},
        "securitySchemes": {
            "key": {"httpAuthSecurityScheme": {"scheme": "bearer", "description": "A router's API key"}}
        },
        "securityRequirements": [{"schemes": {"key": {"list": []}}}],
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [
            {"id": model, "name": f"Ask {model}", "description": f"Answers with {model}, with a receipt.", **skill}
            for model in models
        ],
    }


class Messages:
    """Answers messages by the desk that answers chats."""

    def __init__(self, desk: Desk, calls: Calls, catalogue: Catalogue) -> None:
        self._desk = desk
        self._calls = calls
        self._catalogue = catalogue

    async def answer(self, caller: Caller, body: bytes) -> Response:
        """The answer to a JSON-RPC call, also where it is an error. Raises `OwnedElsewhere`, as chats do."""
        call_id: str | int | None = None
        try:
            call = _decode(body, _Rpc, _INVALID_REQUEST)
            call_id = call.id
            _require_known(call)
            message = _decode(call.params, _Params, _INVALID_PARAMS).message
            result = {"message": await self._reply(caller, message)}
        except A2aInvalid as error:
            return _error(call_id, error.code, str(error))
        except Refusal as refusal:
            return _refused(call_id, refusal)
        return json_response({"jsonrpc": "2.0", "id": call_id, "result": result})

    async def _reply(self, caller: Caller, message: _Message) -> dict[str, Any]:
        chat = _chat_of(message, self._catalogue.first_chat)
        call = self._calls.check(CHAT, caller.owner, msgspec.json.encode(chat))
        try:
            response = await call.whole(ask(self._desk, caller, call.model, call.questions, call.names))
        except OwnedElsewhere:
            raise
        except TristrataError as error:
            raise refusal_of(error) from error
        choice = msgspec.json.decode(response.body)["choices"][0]
        return {
            "messageId": f"msg-{secrets.token_hex(16)}",
            "contextId": message.context_id or f"ctx-{secrets.token_hex(16)}",
            "role": "ROLE_AGENT",
            "parts": [{"text": choice["message"]["content"] or ""}],
            "metadata": {
                "model": call.model.name,
                "finish_reason": choice["finish_reason"],
                "request_id": response.headers[REQUEST_ID_HEADER],
                "receipt": response.headers[RECEIPT_HEADER],
            },
        }


def _require_known(call: _Rpc) -> None:
    method = call.method
    if call.jsonrpc != "2.0":
        raise A2aInvalid(_INVALID_REQUEST, "jsonrpc must be '2.0'")
    if method == "SendMessage":
        return
    if method in _NO_TASKS:
        raise A2aInvalid(_TASK_NOT_FOUND, "there are no tasks here: messages are answered at once")
    if method.endswith((_PUSH, _PUSH + "s")):
        raise A2aInvalid(_PUSH_NOT_SUPPORTED, "push notifications are not supported")
    if method in _NOT_HERE:
        raise A2aInvalid(_UNSUPPORTED, f"{method} is not supported: see the agent card")
    raise A2aInvalid(_METHOD_NOT_FOUND, f"there is no method {method[:64]!r}")


def _chat_of(message: _Message, model: str) -> dict[str, Any]:
    if message.task_id:
        raise A2aInvalid(_TASK_NOT_FOUND, "there are no tasks here: send the message without taskId")
    if message.role != "ROLE_USER":
        raise A2aInvalid(_INVALID_PARAMS, f"role {message.role[:32]!r} must be ROLE_USER")
    texts = [part.text for part in message.parts if part.text is not None]
    if not texts or len(texts) != len(message.parts):
        raise A2aInvalid(_CONTENT_TYPE, "parts must be text, at least one")
    if unknown := set(message.metadata) - set(_OPTIONS):
        raise A2aInvalid(_INVALID_PARAMS, f"metadata has {sorted(unknown)[0][:64]!r}; known are {', '.join(_OPTIONS)}")
    # Numbers in protocol buffers' structs are floating point.
    options = {
        name: int(each) if isinstance(each, float) and each.is_integer() else each
        for name, each in message.metadata.items()
    }
    return {"model": model, **options, "messages": [{"role": "user", "content": "\n".join(texts)}]}


def _decode(data: Any, kind: type[Any], code: int) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise A2aInvalid(code, f"the call is not what is expected here: {error}") from error
    except UNDECODABLE as error:
        raise A2aInvalid(_PARSE_ERROR, f"the body is no JSON: {error}") from error


def _refused(call_id: str | int | None, refusal: Refusal) -> Response:
    error = refusal.body["error"]
    data = {"status": refusal.status, **{name: error[name] for name in ("type", "param", "code") if error[name]}}
    code = _INVALID_PARAMS if refusal.status in (400, 404) else _INTERNAL
    return _error(call_id, code, error["message"], data)


def _error(call_id: str | int | None, code: int, message: str, data: dict[str, Any] | None = None) -> Response:
    error: dict[str, Any] = {"code": code, "message": message}
    # The protocol has structured details in ``data``, a list.
    if data is not None:
        error["data"] = [data]
    return json_response({"jsonrpc": "2.0", "id": call_id, "error": error})
