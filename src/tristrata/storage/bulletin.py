"""The bulletin beside the content store: who proposes which epoch, and who signed what. Anyone may post; readers check.

A topic is an epoch of a chain; a post has the name of its author and is small. Nothing here is believed: a proposal is
recomputed, a signature recovered.
"""

import re
from pathlib import Path

from tristrata.protocol.errors import InvalidValue
from tristrata.storage.content_store import write_whole

MAX_POST_BYTES = 4_096
MAX_POSTS = 256
_NAME = re.compile(r"[0-9a-z-]{1,80}")


class Bulletin:
    """One folder of topics."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def post(self, topic: str, name: str, data: bytes) -> None:
        """Put up a post, in place of the author's last one on this topic. Raises `InvalidValue` past 4,096 bytes."""
        if len(data) > MAX_POST_BYTES:
            raise InvalidValue(f"a post of {len(data)} bytes is longer than {MAX_POST_BYTES}")
        write_whole(self._topic(topic) / _checked(name), data)

    def read(self, topic: str) -> dict[str, bytes]:
        """All posts of a topic by name, 256 at most; what is too long is left out."""
        try:
            paths = sorted(self._topic(topic).iterdir())[:MAX_POSTS]
        except FileNotFoundError:
            return {}
        return {
            path.name: path.read_bytes()
            for path in paths
            if _NAME.fullmatch(path.name) and path.stat().st_size <= MAX_POST_BYTES
        }

    def _topic(self, topic: str) -> Path:
        return self._folder.joinpath(*(_checked(part) for part in topic.split("/")))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidValue(f"bulletin name {name!r} must be 1 to 80 of 0-9, a-z and '-'")
    return name
