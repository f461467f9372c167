"""The companion as a process: one session, one router, one endpoint on loopback."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import uvicorn
from coincurve import PrivateKey

from tristrata.bindings.hub import open_hubs
from tristrata.chains.pool import Chains
from tristrata.client.api import RouterApi
from tristrata.client.own_session import OwnSession
from tristrata.companion.payer import ManagedPayer, OwnKeyPayer, Tell
from tristrata.companion.proxy import Proxy
from tristrata.config.actor import ActorSettings
from tristrata.custody.limits import SigningLimits
from tristrata.process import LOOPBACK
from tristrata.protocol.ids import SessionId

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=120)


class Connection:
    """What the companion serves: a session on a hub, by an API key; ``session_key`` is `None` in managed custody."""

    def __init__(self, hub: str, session: SessionId, api_key: str, session_key: PrivateKey | None, log: Path) -> None:
        self.hub = hub
        self.session = session
        self.api_key = api_key
        self.session_key = session_key
        self.log = log


async def run(
    settings: ActorSettings,
    connection: Connection,
    limits: SigningLimits,
    *,
    local_key: str,
    port: int,
    pay_unseen: bool,
    tell: Tell,
    ready: Callable[[], None],
) -> None:
    """Serve until cancelled; then pay what is not paid."""
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(settings.network))
        hubs = open_hubs(settings.network, settings.manifest, chains)
        hub = next(hub for hub in hubs.values() if hub.name == connection.hub)
        api = await stack.enter_async_context(RouterApi(settings.router, connection.api_key))
        payer: OwnKeyPayer | ManagedPayer
        if connection.session_key is None:
            payer = ManagedPayer(hub, api, limits, tell)
        else:
            session = await OwnSession.open(hub, connection.session, connection.session_key, limits, connection.log)
            payer = OwnKeyPayer(session, api, limits, tell)
            await payer.catch_up(pay_unseen=pay_unseen)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False))
        proxy = Proxy(settings.router, connection.api_key, local_key, payer, http)
        config = uvicorn.Config(
            proxy.app, host=LOOPBACK, port=port, log_config=None, lifespan="off", server_header=False, ws="none"
        )
        server = _Server(config, ready)
        serving = asyncio.create_task(server.serve())
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await serving
            await proxy.drain()


class _Server(uvicorn.Server):
    """Says when it listens. Signals are the process's business (`tristrata.process`)."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
