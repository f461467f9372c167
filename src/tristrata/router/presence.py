"""Which miners are there: every miner says so once a second, and silence means that it is gone."""

import time
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from tristrata.fabric import subjects
from tristrata.fabric.connection import settle
from tristrata.fabric.frames import FrameInvalid, Status, decode
from tristrata.protocol.ids import Address

SILENCE_SECONDS = 3.5


class Presence:
    """The statuses of all miners that were heard lately."""

    def __init__(self, connection: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._heard: dict[Address, tuple[float, Status]] = {}

    async def start(self) -> None:
        """Listen, and ask who is there."""
        await self._connection.subscribe(subjects.ALL_STATUS, cb=self._hear)
        await settle(self._connection)
        await self._connection.publish(subjects.HELLO, b"")

    def statuses(self) -> list[Status]:
        """Every miner that is there now."""
        oldest = self._clock() - SILENCE_SECONDS
        return [status for heard, status in self._heard.values() if heard >= oldest]

    def is_there(self, miner: Address, run: bytes) -> bool:
        """Whether this run of the miner's process was heard lately."""
        heard, status = self._heard.get(miner, (float("-inf"), None))
        return status is not None and status.run == run and heard >= self._clock() - SILENCE_SECONDS

    async def _hear(self, message: Msg) -> None:
        try:
            status = decode(message.data, Status)
        except FrameInvalid:
            return
        # The subject is what the server lets this miner use; the frame must not name another.
        if message.subject == subjects.status(Address(status.miner)) and status.slots > 0:
            self._heard[Address(status.miner)] = (self._clock(), status)
