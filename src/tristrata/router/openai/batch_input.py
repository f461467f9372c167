"""A batch's input file: JSON lines, each with its own id, all for one endpoint. Checked whole before any is asked.

https://platform.openai.com/docs/api-reference/batch/request-input.
"""

from typing import Any

import msgspec

from tristrata.protocol.decoding import UNDECODABLE
from tristrata.router.openai.calls import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from tristrata.storage.batches import Line

MAX_LINES, MAX_CUSTOM_ID, MAX_ERRORS = 10_000, 512, 50
ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
"""Where a batch's lines may go."""


class BatchInvalid(Exception):
    """An input file that cannot be run; ``errors`` are OpenAI's objects, of its first bad lines."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


class _Call(msgspec.Struct, frozen=True):
    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


def parse_batch(content: bytes, endpoint: str) -> list[Line]:
    """The lines of an input file. Raises `BatchInvalid`."""
    decoder = msgspec.json.Decoder(_Call)
    errors: list[dict[str, Any]] = []
    lines: list[Line] = []
    seen: set[str] = set()
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        if len(lines) == MAX_LINES:
            errors.append(_error("too_many_tasks", f"The file has more than {MAX_LINES} lines.", None))
            break
        try:
            call = decoder.decode(text)
            problem = _problem(call, endpoint, seen)
        except UNDECODABLE as error:
            problem = ("invalid_json_line", f"This line is no call: {error}", None)
        if problem is None:
            seen.add(call.custom_id)
            lines.append(Line(len(lines), call.custom_id, bytes(call.body)))
        elif len(errors) < MAX_ERRORS:
            errors.append(_error(problem[0], problem[1], number, problem[2]))
    if not lines and not errors:
        errors.append(_error("empty_file", "The file has no lines.", None))
    if errors:
        raise BatchInvalid(errors)
    return lines


def _problem(call: _Call, endpoint: str, seen: set[str]) -> tuple[str, str, str | None] | None:
    """An error's code, message and parameter."""
    if not 0 < len(call.custom_id) <= MAX_CUSTOM_ID:
        return "invalid_custom_id", f"'custom_id' must have 1 to {MAX_CUSTOM_ID} characters.", "custom_id"
    if call.custom_id in seen:
        return "duplicate_custom_id", f"The 'custom_id' {call.custom_id[:64]!r} is used twice.", "custom_id"
    if call.method != "POST":
        return "invalid_method", f"'method' must be POST, but it is {call.method[:16]!r}.", "method"
    if call.url != endpoint:
        return "mismatched_endpoint", f"'url' is {call.url[:64]!r}, but the batch is for {endpoint!r}.", "url"
    return None


def _error(code: str, message: str, line: int | None, parameter: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": parameter, "line": line}
