"""The metadata of a GGUF file, as raw bytes: enough to say what a model's tokenizer and chat template are.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3). By hand, because the `gguf` package pulls
in numpy and maps the whole file to read thirty entries.
"""

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

from tristrata.protocol.errors import InvalidValue

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MAX_ENTRIES = 10_000
CHAT_TEMPLATE = "tokenizer.chat_template"


def read_metadata(path: Path) -> dict[str, bytes]:
    """Every metadata entry of the file: key to the encoded value without its type. Raises `InvalidValue`."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF" or _integer(file, 4) != 3:
            raise InvalidValue(f"{path} is not a GGUF file of version 3")
        _integer(file, 8)  # how many tensors
        entries = _integer(file, 8)
        if entries > _MAX_ENTRIES:
            raise InvalidValue(f"{path} has {entries} metadata entries; at most {_MAX_ENTRIES} are read")
        metadata = {}
        for _ in range(entries):
            key = file.read(_integer(file, 8)).decode()
            kind = _integer(file, 4)
            start = file.tell()
            _skip(file, kind)
            end = file.tell()
            file.seek(start)
            metadata[key] = file.read(end - start)
        return metadata


def tokenizer_digest(metadata: dict[str, bytes]) -> bytes:
    """SHA-256 over the tokenizer's entries (all ``tokenizer.ggml.*``), sorted by key, each as key, zero, value."""
    digest = hashlib.sha256()
    for key in sorted(key for key in metadata if key.startswith("tokenizer.ggml.")):
        digest.update(key.encode() + b"\0" + metadata[key])
    return digest.digest()


def template_digest(metadata: dict[str, bytes]) -> bytes:
    """SHA-256 of the chat template's text."""
    return hashlib.sha256(metadata[CHAT_TEMPLATE][8:]).digest()


def _integer(file: BinaryIO, size: int) -> int:
    data = file.read(size)
    if len(data) != size:
        raise InvalidValue("a GGUF file ends in the middle of its metadata")
    return int(struct.unpack("<I" if size == 4 else "<Q", data)[0])


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        file.seek(_integer(file, 8), 1)
    elif kind == _ARRAY:
        element, count = _integer(file, 4), _integer(file, 8)
        if element in _SIZES:
            file.seek(_SIZES[element] * count, 1)
        else:
            for _ in range(count):
                _skip(file, element)
    elif kind in _SIZES:
        file.seek(_SIZES[kind], 1)
    else:
        raise InvalidValue(f"a GGUF file has a metadata value of the unknown type {kind}")
