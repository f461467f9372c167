"""Content by its SHA-256: what was put in comes out the same, or not at all. A folder; other stores come later."""

import hashlib
import os
from pathlib import Path

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import show


class ContentMissing(TristrataError):
    """The store does not hold the content, or holds something else under its name."""


class ContentStore:
    """One folder of objects. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> bytes:
        """Keep ``data``; it is on disk when this returns. Gives its SHA-256, 32 bytes. Twice is the same as once."""
        content = hashlib.sha256(data).digest()
        path = self._path(content)
        if not path.exists():
            write_whole(path, data)
        return content

    def get(self, content: bytes) -> bytes:
        """The object with this SHA-256. Raises `ContentMissing`."""
        path = self._path(content)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ContentMissing(
                f"content {show(content)} is not in the store", remedy="ask whoever sealed the epoch to put it back"
            ) from error
        if hashlib.sha256(data).digest() != content:
            raise ContentMissing(f"content {show(content)} is damaged in the store: its digest is another")
        return data

    def _path(self, content: bytes) -> Path:
        return self._folder / content.hex()[:2] / content.hex()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, and is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
