"""Child processes of a benchmark: started by function, ended by id, their processor time counted."""

import asyncio
import multiprocessing
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
import structlog

from benchmarks.load import LOOPBACK
from benchmarks.stats import BenchmarkFailed
from tristrata.process import run_service

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def child(
    name: str, run: Callable[..., Coroutine[Any, Any, None]], *arguments: Any, port: int | None = None
) -> AsyncIterator[int]:
    """Run ``run(*arguments)`` in a process of its own, under uvloop as every actor; gives its id.

    With a ``port``, it has opened that port when this is entered. It also ends when this process is gone.
    """
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(run, arguments), name=name)
    process.start()
    assert process.pid is not None
    try:
        if port is not None:
            await _until(f"{name} opens port {port}", lambda: _is_open(port), process.is_alive)
        yield process.pid
    finally:
        process.terminate()
        await asyncio.to_thread(process.join, _STOP_SECONDS)
        if process.is_alive():
            process.kill()
            await asyncio.to_thread(process.join)


class Usage(msgspec.Struct, frozen=True):
    """Processor time, in seconds, that named processes have used so far, and everything else on the machine."""

    by_process: dict[str, float]
    machine: float

    def since(self, before: "Usage") -> "Usage":
        """What was used in between."""
        used = {name: seconds - before.by_process[name] for name, seconds in self.by_process.items()}
        return Usage(used, self.machine - before.machine)

    @property
    def others(self) -> float:
        """What processes that are not ours have used, and what the kernel did for nobody in particular."""
        return max(0.0, self.machine - sum(self.by_process.values()))


def usage(pids: dict[str, int]) -> Usage:
    """The processor time of the processes, and of this one as ``load``. Raises `BenchmarkFailed` if one has ended."""
    own = {"load": os.getpid(), **pids}
    try:
        times = {name: psutil.Process(pid).cpu_times() for name, pid in own.items()}
    except psutil.NoSuchProcess as error:
        raise BenchmarkFailed(f"a process has ended while it was measured: {error.msg}") from error
    whole = psutil.cpu_times()
    return Usage(
        {name: spent.user + spent.system for name, spent in times.items()}, sum(whole) - whole.idle - whole.iowait
    )


async def _until(what: str, is_so: Callable[[], Awaitable[bool]], alive: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while alive():
                if await is_so():
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass
    raise BenchmarkFailed(f"waited in vain until {what}", remedy="see its messages above")


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


def _main(run: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[Any, ...]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    parent = multiprocessing.parent_process()
    run_service(run(*arguments), parent_sentinel=parent.sentinel if parent else None)
