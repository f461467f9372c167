"""The embedded network's actors as processes of their own, forked from one server that has imported everything.

Eight plain processes take 13.7 s to import what they need on two cores, eight forked ones 3 s (measured). Each ends
when it is told to, and also when its parent is gone, however that died.
"""

import asyncio
import multiprocessing
import os
import sys
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

from tristrata.config.actor import read_actor
from tristrata.config.home import NetworkHome
from tristrata.process import log_to_stderr, run_service

ADMISSION, ROUTER, RELAYER, SETTLER = "admission", "router", "relayer", "settler"
_PRELOAD = [
    "tristrata.cli.main",
    "tristrata.devnet.admission",
    "tristrata.inference.embedded",
    "tristrata.inference.openai_backend",
    "tristrata.miner.actor",
    "tristrata.relayer.service",
    "tristrata.router.service",
    "tristrata.settler.service",
    "tristrata.validator.service",
]
_STOP_SECONDS = 25.0


def warm_up() -> None:
    """Start the fork server, which imports on while the caller does something else."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOAD)
    ensure_running()


class ActorProcess:
    """One actor, alive or not. ``name`` is a role of the network's, or a miner of its file."""

    def __init__(self, name: str, home: NetworkHome) -> None:
        self.name = name
        self.log = home.logs / f"{name}.log"
        self._home = home
        self._process: Any = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self.is_alive else None

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.is_alive()

    async def start(self) -> None:
        """Fork it. It has not done anything yet when this returns."""
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_main, args=(self.name, str(self._home.folder), str(self.log)), name=self.name
        )
        # The first start waits until the fork server has imported everything.
        await asyncio.to_thread(self._process.start)

    async def stop(self) -> None:
        """Tell it to stop, and wait until it has; past 25 s it is killed."""
        if not self.is_alive:
            return
        self._process.terminate()
        await asyncio.to_thread(self._process.join, _STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join)


def _main(name: str, folder: str, log: str) -> None:
    _write_to(Path(log))
    log_to_stderr()
    parent = multiprocessing.parent_process()
    settings = read_actor(NetworkHome(Path(folder)), name)
    run_service(_service(settings), parent_sentinel=parent.sentinel if parent else None)


async def _service(settings: Any) -> None:
    match settings.name:
        case "admission":
            from tristrata.devnet.admission import run
        case "router":
            from tristrata.router.service import run
        case "relayer":
            from tristrata.relayer.service import run
        case "settler":
            from tristrata.settler.service import run
        case validator if validator in settings.network.validators:
            from tristrata.validator.service import run
        case miner:
            from tristrata.miner.actor import run as run_miner

            return await run_miner(settings, settings.network.miners[miner])
    return await run(settings)


def _write_to(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)
