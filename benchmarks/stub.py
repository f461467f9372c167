"""The stub model server, a bare socket protocol: 20 chunks at once, or one by one, or one JSON document."""

import asyncio
import re

from benchmarks.answer import PAUSES, PIECES, events, whole
from benchmarks.load import LOOPBACK

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAMS = re.compile(rb'"stream": *true')
_SEED = re.compile(rb'"seed": *(\d+)')
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNKS = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
_CHUNKS[0] = _HEAD + _CHUNKS[0]
_CHUNKS[-1] += b"0\r\n\r\n"
_ANSWER = b"".join(_CHUNKS)
_PARTS = (*_CHUNKS[: len(PIECES) - 1], b"".join(_CHUNKS[len(PIECES) - 1 :]))
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(whole()), whole())


async def run(port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(_Stub, LOOPBACK, port)
    await server.serve_forever()


class _Stub(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length and len(body) >= int(length[1]):
            self._received = b""
            if not _STREAMS.search(body):
                self._write(_WHOLE)
            elif (seed := _SEED.search(body)) and int(seed[1]) in PAUSES:
                self._write_part(0, PAUSES[int(seed[1])])
            else:
                self._write(_ANSWER)

    def _write_part(self, number: int, pause: float) -> None:
        self._write(_PARTS[number])
        if number + 1 < len(_PARTS):
            asyncio.get_running_loop().call_later(pause, self._write_part, number + 1, pause)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)
