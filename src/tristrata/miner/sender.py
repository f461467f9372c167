"""Sending an answer to the router: few messages, and no waiting that anybody could notice."""

import asyncio

from nats.aio.msg import Msg

from tristrata.fabric.frames import Delta, Reply, encode_replies

GATHER_SECONDS = 0.005
"""Pieces that follow each other faster than this travel together; the first and the last of an answer never wait.

A model that gives 200 tokens a second or fewer sends each by itself. For faster ones, and for many at once, everybody
on the way has a fraction of the work (measured: docs/benchmarks.md, piece by piece).
"""


class AnswerSender:
    """Sends the frames of one answer: the first at once, and those that come soon after others together."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        self._loop = asyncio.get_running_loop()
        self._ready: list[Reply] = []
        self._sending: asyncio.Task[None] | None = None
        self._pause: asyncio.Future[None] | None = None
        self._is_last = False

    def send(self, frame: Reply) -> None:
        """Send a frame soon, with all others that come before that."""
        self._ready.append(frame)
        if self._sending is None:
            self._sending = self._loop.create_task(self._send())

    async def flush(self) -> None:
        """Send what there is: no more will come."""
        self._is_last = True
        if self._sending is not None:
            self._end_pause()
            await self._sending

    async def _send(self) -> None:
        while self._ready:
            frames, self._ready = self._ready, []
            await self._message.respond(encode_replies(frames))
            if isinstance(frames[-1], Delta) and not self._is_last:
                self._pause = self._loop.create_future()
                self._loop.call_later(GATHER_SECONDS, self._end_pause)
                await self._pause
        self._sending = None

    def _end_pause(self) -> None:
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)
