"""The embedded network as one unit: chains, fabric and actors, started in order, watched, and ended in order."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import structlog

from tristrata.config.home import NetworkHome
from tristrata.config.network import Network, read_network, shipped_network, write_network
from tristrata.devnet.actors import ADMISSION, RELAYER, ROUTER, SETTLER, ActorProcess, warm_up
from tristrata.devnet.admission import ADMISSION_NATS, ISSUER
from tristrata.devnet.anvil import Anvil, ChainFailed
from tristrata.devnet.deploy import create_keys, deploy
from tristrata.devnet.running import write_running
from tristrata.fabric.server import FabricServer
from tristrata.process import LOOPBACK, remembered_port
from tristrata.protocol.errors import TristrataError
from tristrata.router.service import ROUTER_NATS

_READY_SECONDS = 60.0
_WATCH_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_RUN_SECONDS = 60.0
_LOG_LINES = 12
_log = structlog.get_logger()
Report = Callable[[str], None]
"""Told each step as it begins, in a few words."""


class ActorFailed(TristrataError):
    """An actor ended before the network was ready."""


class _Pause:
    """How long an actor that ended is left alone: longer each time, but for one that had run for a minute."""

    def __init__(self) -> None:
        self._seconds = _FIRST_PAUSE_SECONDS
        self._until: float | None = None
        self._restarted = 0.0

    def is_over(self, now: float) -> bool:
        """Asked again and again from the actor's end on; true once, when it is to be started again."""
        if self._until is None:
            if now - self._restarted > _RUN_SECONDS:
                self._seconds = _FIRST_PAUSE_SECONDS
            self._until = now + self._seconds
            self._seconds = min(2 * self._seconds, _LONGEST_PAUSE_SECONDS)
        if now < self._until:
            return False
        self._until, self._restarted = None, now
        return True


class EmbeddedNetwork:
    """One network on this machine. The caller holds its lock (`tristrata.devnet.running.supervising`)."""

    def __init__(self, home: NetworkHome, report: Report = lambda _: None) -> None:
        self.home = home
        self.was_deployed_now = False
        self._report = report
        self._is_ready = False
        self._chains: list[Anvil] = []
        self._fabric: FabricServer | None = None
        self._actors: dict[str, ActorProcess] = {}

    async def start(self) -> Network:
        """Start everything, and give the network with all its addresses once it answers.

        Raises `ChainFailed`, `FabricFailed`, `ActorFailed` or `DeploymentBroken`; nothing is left running then.
        """
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    def announce(self) -> None:
        """Say that the network is ready for users, to whoever waits for it."""
        self._is_ready = True
        self._write_running()

    async def watch(self) -> None:
        """Restart actors and the fabric when they end by themselves. Raises `ChainFailed` when a chain does."""
        pauses = {name: _Pause() for name in self._actors}
        while True:
            for chain in self._chains:
                if chain.pid is None:
                    raise ChainFailed(f"chain {chain.name} ended by itself", remedy="see its log, then: tristrata up")
            if self._fabric is not None and self._fabric.pid is None:
                _log.warning("fabric ended; starting it again")
                await self._fabric.start()
                self._write_running()
            for actor in self._actors.values():
                if not actor.is_alive and pauses[actor.name].is_over(time.monotonic()):
                    _log.warning("actor ended; starting it again", actor=actor.name)
                    await actor.start()
                    self._write_running()
            await asyncio.sleep(_WATCH_SECONDS)

    async def stop(self) -> None:
        """End actors first, then fabric, then chains, which save their state. May be called again."""
        await asyncio.gather(*(actor.stop() for actor in self._actors.values()))
        if self._fabric is not None:
            await self._fabric.stop()
        await asyncio.gather(*(chain.stop() for chain in self._chains))

    def pid(self, name: str) -> int | None:
        """The process id of a child: an actor, a chain, or ``fabric``."""
        return self._children().get(name)

    async def _start(self) -> Network:
        home = self.home
        for folder in (home.logs, home.keys):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        template = read_network(shipped_network("local")).model_copy(update={"name": home.folder.name})
        warm_up()

        self._report("starting the chains and the fabric")
        self._chains = [
            Anvil(name, settings, home.chain(name), home.logs / f"{name}.log")
            for name, settings in template.chains.items()
        ]
        keys, urls = await asyncio.gather(
            asyncio.to_thread(create_keys, home, template), asyncio.gather(*(chain.start() for chain in self._chains))
        )
        self._fabric = FabricServer(
            home.fabric,
            router_seed=keys[ROUTER_NATS],
            admission_seed=keys[ADMISSION_NATS],
            issuer_seed=keys[ISSUER],
        )
        fabric = await self._fabric.start()
        router = f"http://{LOOPBACK}:{remembered_port(home.folder / 'router-port')}"
        rpc = {chain.name: url for chain, url in zip(self._chains, urls, strict=True)}
        operations = f"{LOOPBACK}:{remembered_port(home.folder / 'operations-port')}"
        network = template.with_addresses(rpc=rpc, fabric=fabric, router=router, operations=operations)
        write_network(network, home.network_file)

        self._report("deploying and checking the contracts")
        self.was_deployed_now = await deploy(home, network, keys)

        self._report("starting the actors")
        names = [ADMISSION, ROUTER, RELAYER, *network.miners, SETTLER, *network.validators]
        self._actors = {name: ActorProcess(name, home) for name in names}
        for actor in self._actors.values():
            await actor.start()
        self._write_running()
        await self._wait_until_ready(network)
        return network

    async def _wait_until_ready(self, network: Network) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            while time.monotonic() < deadline:
                for actor in self._actors.values():
                    if not actor.is_alive:
                        raise ActorFailed(
                            f"{actor.name} ended while starting:\n{_tail(actor.log)}", remedy=f"see {actor.log}"
                        )
                try:
                    async with http.get(f"{network.router}/health") as response:
                        if (await response.json())["miners"] >= len(network.miners):
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.05)
        raise ActorFailed(
            f"not every miner was there after {_READY_SECONDS:.0f} s", remedy=f"see the logs in {self.home.logs}"
        )

    def _children(self) -> dict[str, int]:
        children = {chain.name: chain.pid for chain in self._chains}
        children["fabric"] = self._fabric.pid if self._fabric else None
        children |= {actor.name: actor.pid for actor in self._actors.values()}
        return {name: pid for name, pid in children.items() if pid is not None}

    def _write_running(self) -> None:
        write_running(self.home, is_ready=self._is_ready, children=self._children())


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-_LOG_LINES:])
