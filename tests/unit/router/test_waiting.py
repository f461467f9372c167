import asyncio

import pytest

from tristrata.router.matching import NoCapacity
from tristrata.router.waiting import WaitingRoom


def nobody(*, may_wait: bool = True) -> NoCapacity:
    error = NoCapacity("no_capacity: busy 1")
    error.may_wait = may_wait
    return error


class Miner:
    """Takes one request at a time."""

    def __init__(self) -> None:
        self.free = 0
        self.served: list[str] = []

    def take(self, name: str) -> str:
        if not self.free:
            raise nobody()
        self.free -= 1
        self.served.append(name)
        return name


async def test_until_free__miner_becomes_free__serves_in_order_of_arrival() -> None:
    miner, room = Miner(), WaitingRoom(10, 30)
    waiting = [asyncio.create_task(room.until_free(lambda name=name: miner.take(name))) for name in "abc"]
    await asyncio.sleep(0)
    assert len(room) == 3
    for _ in range(3):
        miner.free += 1
        room.wake()
        await asyncio.sleep(0.01)

    assert await asyncio.gather(*waiting) == ["a", "b", "c"]
    assert miner.served == ["a", "b", "c"]


async def test_until_free__room_is_full_or_time_is_over__raises() -> None:
    miner, room = Miner(), WaitingRoom(1, 0.05)
    first = asyncio.create_task(room.until_free(lambda: miner.take("a")))
    await asyncio.sleep(0)

    with pytest.raises(NoCapacity):
        await room.until_free(lambda: miner.take("b"))
    with pytest.raises(NoCapacity):
        await first
    assert len(room) == 0


async def test_until_free__waiting_would_not_help__raises_at_once() -> None:
    def attempt() -> None:
        raise nobody(may_wait=False)

    with pytest.raises(NoCapacity):
        await asyncio.wait_for(WaitingRoom(10, 30).until_free(attempt), 1)


async def test_until_free__whoever_waits_is_cancelled__its_place_is_free() -> None:
    miner, room = Miner(), WaitingRoom(1, 30)
    waiting = asyncio.create_task(room.until_free(lambda: miner.take("a")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert len(room) == 0
