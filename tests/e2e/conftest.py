"""One running network for all tests of this folder that only use it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from coincurve import PrivateKey
from msgspec.structs import replace

from tests.support.network import CliNetwork
from tests.support.world import World, open_world
from tristrata.bindings.hub import Hub, open_hubs
from tristrata.bindings.welcome import Welcome
from tristrata.chains.pool import Chains
from tristrata.client.account import Account, Budget, NewSession
from tristrata.client.api import RouterApi
from tristrata.config.actor import ActorSettings
from tristrata.devnet.treasury import give_dollars, give_ether
from tristrata.devnet.user import BUDGET
from tristrata.protocol.units import Amount

MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[CliNetwork]:
    """A network that is up; tests may use it up but not stop it."""
    network = CliNetwork(tmp_path_factory.mktemp("home"))
    network.up()
    yield network
    network.down()


@pytest.fixture
async def world(tmp_path: Path, smollm2: Path) -> AsyncIterator[World]:
    """A router and a miner in this process, without chains."""
    async with open_world(tmp_path, smollm2) as world:
        yield world


@dataclass
class Customer:
    """A freshly registered user of the running network."""

    settings: ActorSettings
    chains: Chains
    hub: Hub
    account: Account
    key: PrivateKey
    clients: AsyncExitStack
    router: RouterApi
    welcome: Welcome

    async def open(self, budget: Budget = BUDGET, **changes: object) -> NewSession:
        """A session of its own on the orchestration hub."""
        budget = replace(budget, **changes)
        await give_dollars(self.settings, self.chains, [(self.hub.name, self.account.address, Amount(budget.deposit))])
        return await self.account.open_session(self.hub, MODEL, budget)

    def client(self, session: NewSession) -> openai.AsyncOpenAI:
        """The official client with the session's key; closed when the test ends."""
        return self.client_with(session.api_key)

    def client_with(self, api_key: str) -> openai.AsyncOpenAI:
        """The official client with any key; closed when the test ends."""
        client = openai.AsyncOpenAI(base_url=f"{self.settings.router}/v1", api_key=api_key, max_retries=0)
        self.clients.push_async_callback(client.close)
        return client


@pytest.fixture
async def customer(network: CliNetwork) -> AsyncIterator[Customer]:
    settings = network.settings()
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(settings.network))
        router = await stack.enter_async_context(RouterApi(settings.router))
        hubs = open_hubs(settings.network, settings.manifest, chains)
        hub = next(hub for hub in hubs.values() if hub.name == "arbitrum")
        welcome = Welcome(settings.network, settings.manifest, "base", chains["base"])
        key = PrivateKey()
        account = Account(key, router, welcome, hubs)
        await give_ether(chains, ["arbitrum"], account.address)
        await account.register()
        await account.wait_until_known(hub)
        yield Customer(settings, chains, hub, account, key, stack, router, welcome)
