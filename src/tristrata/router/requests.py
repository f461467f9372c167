"""Chat requests as they come from outside: checked once, against OpenAI's rules and ours."""

from typing import Any

import msgspec

from tristrata.protocol.errors import TristrataError

MAX_MESSAGES = 1_000
_UNSUPPORTED = ("tools", "functions", "response_format", "logprobs", "top_logprobs", "audio", "modalities")
_ROLES = ("system", "developer", "user", "assistant")
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_PASSED_ON = (*_RANGES, "seed", "stop")


class RequestInvalid(TristrataError):
    """A request that breaks a rule; ``parameter`` names the field."""

    def __init__(self, message: str, parameter: str | None) -> None:
        super().__init__(message)
        self.parameter = parameter


class ChatCall(msgspec.Struct, frozen=True):
    """A checked chat request. ``request`` is what the miner gets; ``max_tokens`` is `None` where nothing was asked."""

    model: str
    request: dict[str, Any]
    max_tokens: int | None
    stream: bool
    include_usage: bool


def parse_chat(body: bytes) -> ChatCall:
    """The chat request in ``body``. Raises `RequestInvalid` that names the field and the rule."""
    try:
        fields = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise RequestInvalid(f"the body is not JSON: {error}", None) from error
    if not isinstance(fields, dict):
        raise RequestInvalid("the body must be a JSON object", None)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise RequestInvalid("model must be the name of a model; see /v1/models", "model")
    for name in _UNSUPPORTED:
        if fields.get(name):
            raise RequestInvalid(f"{name} is not supported by any miner yet", name)
    if fields.get("n", 1) != 1:
        raise RequestInvalid("n must be 1: ask several times for several answers", "n")
    messages = _messages(fields.get("messages"))
    for name, (low, high) in _RANGES.items():
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise RequestInvalid(f"{name} must be a number", name)
        if value is not None and not low <= value <= high:
            raise RequestInvalid(f"{name} is {value}; it must lie between {low} and {high}", name)
    _check_seed(fields.get("seed"))
    _check_stop(fields.get("stop"))
    options = fields.get("stream_options") or {}
    if not isinstance(options, dict):
        raise RequestInvalid("stream_options must be an object", "stream_options")
    passed_on = {name: fields[name] for name in _PASSED_ON if fields.get(name) is not None}
    return ChatCall(
        model=model,
        request={"messages": messages, **passed_on},
        max_tokens=_max_tokens(fields),
        stream=bool(fields.get("stream")),
        include_usage=bool(options.get("include_usage")),
    )


def _messages(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise RequestInvalid("messages must be a list of at least one message", "messages")
    if len(value) > MAX_MESSAGES:
        raise RequestInvalid(f"messages has {len(value)} entries; at most {MAX_MESSAGES} are taken", "messages")
    return [_message(message, f"messages.{number}") for number, message in enumerate(value)]


def _message(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or value.get("role") not in _ROLES:
        raise RequestInvalid(f"{where}.role must be one of {', '.join(_ROLES)}", f"{where}.role")
    content = value.get("content")
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    ):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise RequestInvalid(f"{where}.content must be text, or a list of text parts", f"{where}.content")
    role = "system" if value["role"] == "developer" else value["role"]
    return {"role": role, "content": content}


def _max_tokens(fields: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = fields.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise RequestInvalid(f"{name} is {value!r}; it must be a whole number of at least 1", name)
            return value
    return None


def _check_seed(value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63):
        raise RequestInvalid("seed must be a whole number of at most 63 bits", "seed")


def _check_stop(value: Any) -> None:
    stops = [value] if isinstance(value, str) else value
    if stops is not None and (
        not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(stop, str) and stop for stop in stops)
    ):
        raise RequestInvalid("stop must be text, or a list of at most 4 texts", "stop")
