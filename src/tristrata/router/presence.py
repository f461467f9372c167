"""Which miners are there: every miner says so once a second, and silence means that it is gone."""

import time
from collections import OrderedDict
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from tristrata.fabric import subjects
from tristrata.fabric.connection import settle
from tristrata.fabric.frames import FrameInvalid, Status, decode
from tristrata.protocol.ids import Address
from tristrata.router.matching import Market

SILENCE_SECONDS = 3.5


class Presence:
    """The miners that were heard lately, and the market of what they offer."""

    def __init__(self, connection: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._heard: OrderedDict[Address, float] = OrderedDict()
        self._market = Market()

    async def start(self) -> None:
        """Listen, and ask who is there."""
        await self._connection.subscribe(subjects.ALL_STATUS, cb=self._hear)
        await settle(self._connection)
        await self._connection.publish(subjects.HELLO, b"")

    @property
    def market(self) -> Market:
        """What the miners that are there now offer."""
        oldest = self._clock() - SILENCE_SECONDS
        while self._heard:
            miner, heard = next(iter(self._heard.items()))
            if heard >= oldest:
                break
            del self._heard[miner]
            self._market.remove(miner)
        return self._market

    def is_there(self, miner: Address, run: bytes) -> bool:
        """Whether this run of the miner's process was heard lately."""
        status = self.market.status(miner)
        return status is not None and status.run == run

    async def _hear(self, message: Msg) -> None:
        try:
            status = decode(message.data, Status)
        except FrameInvalid:
            return
        # The subject is what the server lets this miner use; the frame must not name another.
        miner = Address(status.miner)
        if message.subject == subjects.status(miner) and status.is_sane:
            self._heard[miner] = self._clock()
            self._heard.move_to_end(miner)
            self._market.put(status)
