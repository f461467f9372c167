"""The stub model server: any request is answered with 20 chunks at once, by a bare socket protocol."""

import asyncio
import re

from benchmarks.answer import events
from benchmarks.load import LOOPBACK

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ANSWER = _HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events()) + b"0\r\n\r\n"


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
            assert self._transport is not None
            self._transport.write(_ANSWER)
