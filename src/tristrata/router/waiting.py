"""Requests that wait until a miner is free: in order, so many at most, and not for long."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from tristrata.router.matching import NoCapacity

Result = TypeVar("Result")


class WaitingRoom:
    """``length`` requests may wait, each for ``seconds`` at most. `wake` is to be called when a miner becomes free."""

    def __init__(self, length: int, seconds: float) -> None:
        self._length = length
        self._seconds = seconds
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def wake(self) -> None:
        """Have everybody try again, whoever came first first."""
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    async def until_free(self, attempt: Callable[[], Result]) -> Result:
        """What ``attempt`` gives, now or once a miner is free. Raises its `NoCapacity` where waiting did not help."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        while True:
            try:
                return attempt()
            except NoCapacity as nobody:
                if not nobody.may_wait or len(self._waiting) >= self._length or loop.time() >= deadline:
                    raise
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append(turn)
            expiry = loop.call_at(deadline, _end, turn)
            try:
                await turn
            finally:
                expiry.cancel()
                if turn in self._waiting:
                    self._waiting.remove(turn)


def _end(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
