"""Server-sent events: from bytes in any pieces to whole events (https://html.spec.whatwg.org, section 9.2)."""

from collections.abc import AsyncIterable, AsyncIterator

import msgspec

from tristrata.protocol.errors import InvalidValue

MAX_EVENT_BYTES = 1_048_576


class Event(msgspec.Struct, frozen=True):
    """One event: its type (``message`` unless named) and its data."""

    name: str
    data: str


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[Event]:
    """The events in ``chunks``; comments and keep-alives are skipped. Raises `InvalidValue` past 1 MiB an event."""
    name, size = "message", 0
    data: list[str] = []
    async for line in _lines(chunks):
        size += len(line)
        if size > MAX_EVENT_BYTES:
            raise InvalidValue(f"a server-sent event is longer than {MAX_EVENT_BYTES} bytes")
        if not line:
            if data:
                yield Event(name, "\n".join(data))
            name, data, size = "message", [], 0
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode())
        elif line.startswith(b"event:"):
            name = line[6:].removeprefix(b" ").decode()


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        if len(rest) > MAX_EVENT_BYTES:
            raise InvalidValue(f"a server-sent event is longer than {MAX_EVENT_BYTES} bytes")
