"""Embeddings: texts to vectors (https://platform.openai.com/docs/api-reference/embeddings)."""

import base64
import binascii
import math
from array import array
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from tristrata.router.http import Refusal, json_response
from tristrata.router.openai.asking import Answers
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.openai.events import REQUEST_ID_HEADER
from tristrata.router.openai.parameters import RequestInvalid, Table, one_of, read, text, unsupported, wrong_type
from tristrata.router.openai.receipts import receipt_header
from tristrata.router.serving import Ended, Pieces

MAX_INPUTS = 2_048
_FLOAT, _BASE64 = "float", "base64"
_NORM_TOLERANCE = 0.01


class EmbeddingsCall(msgspec.Struct, frozen=True):
    """A checked request."""

    model: str
    inputs: list[str]
    encoding: str


def parse_embeddings(body: bytes) -> EmbeddingsCall:
    """The request in ``body``. Raises `RequestInvalid`."""
    fields = read(body, _TABLE, ("model", "input"))
    return EmbeddingsCall(fields["model"], fields["input"], fields.get("encoding_format", _FLOAT))


async def complete_embeddings(answers: Answers, call: EmbeddingsCall, model: ServedModel) -> Response:
    """All vectors. Raises `Refusal` (502) where the miner's are none."""
    vectors: list[str] = []
    ended: Ended | None = None
    async with aclosing(answers):
        async for _, served in answers:
            if isinstance(served, Pieces):
                vectors += [delta.text for delta in served.deltas]
            elif isinstance(served, Ended):
                ended = served
    assert ended is not None  # an answer that does not raise ends in a receipt
    if len(vectors) != len(call.inputs):
        raise _wrong(f"{len(vectors)} vectors came for {len(call.inputs)} inputs")
    data = [
        {"object": "embedding", "index": number, "embedding": _vector(each, call.encoding)}
        for number, each in enumerate(vectors)
    ]
    receipt = ended.entry.receipt
    usage = {"prompt_tokens": receipt.prompt_tokens, "total_tokens": receipt.prompt_tokens}
    body = {"object": "list", "data": data, "model": model.name, "usage": usage}
    headers = {**receipt_header([ended.entry]), REQUEST_ID_HEADER: receipt.request_id.hex()}
    return json_response(body, headers=headers)


def _vector(encoded: str, encoding: str) -> str | list[float]:
    try:
        vector = array("f", base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        raise _wrong("a vector is not float32 in base64") from error
    norm = math.hypot(*vector)
    if not math.isfinite(norm) or abs(norm - 1) > _NORM_TOLERANCE:
        raise _wrong(f"a vector has length {norm:.3f}; it must have 1")
    return encoded if encoding == _BASE64 else vector.tolist()


def _wrong(what: str) -> Refusal:
    return Refusal(502, "answer_refused", f"the miner's answer is none: {what}; its receipt says who it was")


def _inputs(value: Any, where: str) -> list[str]:
    one = text(least=1)
    if isinstance(value, str):
        return [one(value, where)]
    if not isinstance(value, list):
        raise wrong_type(where, "a string or an array of strings", value)
    if not 0 < len(value) <= MAX_INPUTS:
        raise RequestInvalid(
            f"Invalid '{where}': expected an array of 1 to {MAX_INPUTS} strings, but got {len(value)}.", where
        )
    if all(isinstance(each, int | list) for each in value):
        raise RequestInvalid(
            f"Unsupported value: '{where}' does not support tokens with this model; send text.",
            where,
            "unsupported_value",
        )
    return [one(each, f"{where}[{number}]") for number, each in enumerate(value)]


_TABLE: Table = {
    "model": text(least=1),
    "input": _inputs,
    "encoding_format": one_of(_FLOAT, _BASE64),
    "dimensions": unsupported,
    "user": text(),
}
