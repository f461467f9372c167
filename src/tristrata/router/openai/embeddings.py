"""Embeddings: texts to vectors (https://platform.openai.com/docs/api-reference/embeddings)."""

import base64
import binascii
import math
from array import array
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from tristrata.protocol.errors import TristrataError
from tristrata.router.http import json_response
from tristrata.router.openai.asking import Answers
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.openai.events import REQUEST_ID_HEADER
from tristrata.router.openai.parameters import RequestInvalid, Table, one_of, read, text, unsupported, wrong_type
from tristrata.router.openai.receipts import receipt_header
from tristrata.router.serving import Ended, Pieces

MAX_INPUTS = 2_048
MOST_VECTOR_CHARACTERS = 65_536
"""The longest that a vector can be in base64: 12,288 numbers."""

_FLOAT, _BASE64 = "float", "base64"
_NORM_TOLERANCE = 0.01


class VectorsInvalid(TristrataError):
    """A miner's answer that is no embeddings."""


class EmbeddingsCall(msgspec.Struct, frozen=True):
    """A checked request."""

    model: str
    inputs: list[str]
    encoding: str


def parse_embeddings(body: bytes) -> EmbeddingsCall:
    """The request in ``body``. Raises `RequestInvalid`."""
    fields = read(body, _TABLE, ("model", "input"))
    return EmbeddingsCall(fields["model"], fields["input"], fields.get("encoding_format", _FLOAT))


def require_vectors(count: int, texts: Sequence[str]) -> None:
    """Refuse a miner's answer that is not ``count`` vectors of one size and of length 1. Raises `VectorsInvalid`."""
    if len(texts) != count:
        raise VectorsInvalid(f"the miner gave {len(texts)} vectors for {count} inputs; nothing is owed for them")
    sizes = set()
    for each in texts:
        vector = _decode(each)
        norm = math.hypot(*vector)
        if not abs(norm - 1) <= _NORM_TOLERANCE:
            raise VectorsInvalid(f"the miner gave a vector of length {norm:.3f}, not 1; nothing is owed for it")
        sizes.add(len(vector))
    if len(sizes) != 1:
        raise VectorsInvalid(f"the miner gave vectors of {sorted(sizes)} dimensions; nothing is owed for them")


async def complete_embeddings(answers: Answers, call: EmbeddingsCall, model: ServedModel) -> Response:
    """All vectors, of an answer that `require_vectors` has seen."""
    vectors: list[str] = []
    ended: Ended | None = None
    async with aclosing(answers):
        async for _, served in answers:
            if isinstance(served, Pieces):
                vectors += [delta.text for delta in served.deltas]
            elif isinstance(served, Ended):
                ended = served
    assert ended is not None  # an answer that does not raise ends in a receipt
    embeddings = vectors if call.encoding == _BASE64 else [_decode(each).tolist() for each in vectors]
    data = [{"object": "embedding", "index": number, "embedding": each} for number, each in enumerate(embeddings)]
    receipt = ended.entry.receipt
    usage = {"prompt_tokens": receipt.prompt_tokens, "total_tokens": receipt.prompt_tokens}
    body = {"object": "list", "data": data, "model": model.name, "usage": usage}
    headers = {**receipt_header([ended.entry]), REQUEST_ID_HEADER: receipt.request_id.hex()}
    return json_response(body, headers=headers)


def _decode(encoded: str) -> "array[float]":
    try:
        return array("f", base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        raise VectorsInvalid("the miner gave a vector that is not float32 in base64; nothing is owed for it") from error


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
