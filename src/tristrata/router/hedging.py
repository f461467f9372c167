"""Asking a second miner when the first is slow to begin: whoever has the first piece answers, the other is not paid."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tristrata.fabric.frames import Delta
from tristrata.protocol.errors import TristrataError
from tristrata.router.attempt import Attempt, MinerLost

Begun = tuple[Attempt, Sequence[Delta] | None]
"""The attempt that answers, and its first pieces; `None` where it has ended already."""


async def first_to_begin(
    first: Attempt,
    seconds: float,
    ask_another: Callable[[], Awaitable[Attempt]],
    drop: Callable[[Attempt], Awaitable[None]],
) -> Begun:
    """Whichever of two attempts begins first; the second is made only if the first has not after so many seconds.

    ``drop`` ends an attempt that is not needed. Where no second miner can be had, the first is waited for. Raises
    `MinerLost` when neither answers, and then both are dropped.
    """
    waiting = {asyncio.create_task(first.advance()): first}
    try:
        await asyncio.wait(waiting, timeout=seconds)
        if not any(task.done() for task in waiting):
            try:
                second = await ask_another()
            except TristrataError:  # nobody else, or no money for two: the first may still answer
                pass
            else:
                waiting[asyncio.create_task(second.advance())] = second
        return await _fastest(waiting, drop)
    except BaseException:
        for task, attempt in waiting.items():
            task.cancel()
            if attempt is not first:
                await asyncio.shield(drop(attempt))
        raise


async def _fastest(
    waiting: "dict[asyncio.Task[Sequence[Delta] | None], Attempt]", drop: Callable[[Attempt], Awaitable[None]]
) -> Begun:
    lost: MinerLost | None = None
    while waiting:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            attempt = waiting.pop(task)
            try:
                pieces = task.result()
            except MinerLost as error:
                lost = error
                await drop(attempt)
                continue
            except BaseException:
                await drop(attempt)
                raise
            for other, slower in waiting.items():
                other.cancel()
                await drop(slower)
            return attempt, pieces
    assert lost is not None
    raise lost
