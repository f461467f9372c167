"""The contracts of the network `local`, deployed on real anvils of their own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from coincurve import PrivateKey

from tests.support.anvil import anvil, fund
from tristrata.bindings.contract import Contract
from tristrata.chains.evm import EvmChain
from tristrata.chains.writer import TransactionWriter
from tristrata.config.manifest import Manifest
from tristrata.config.network import Network, read_network, shipped_network
from tristrata.deployment.apply import apply
from tristrata.deployment.plan import plan
from tristrata.protocol.hashing import keccak
from tristrata.protocol.signing import Domain, address_of
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

OPERATOR = PrivateKey(keccak(b"operator"))


@dataclass
class Deployed:
    network: Network
    chains: dict[str, EvmChain]
    writers: dict[str, TransactionWriter]
    manifest: Manifest
    manifest_file: Path

    def contract(self, chain: str, name: str) -> Contract:
        return Contract(name, self.manifest.address(self.network.chains[chain].caip2, name), self.chains[chain])

    def domain(self, chain: str, name: str) -> Domain:
        caip2 = self.network.chains[chain].caip2
        return Domain(caip2, self.network.ref(chain), self.manifest.address(caip2, name))


@asynccontextmanager
async def deployed_network(folder: Path) -> AsyncIterator[Deployed]:
    """The whole network; its operator is the relayer too."""
    network = read_network(shipped_network("local"))
    async with AsyncExitStack() as stack:
        chains = {
            name: await stack.enter_async_context(anvil(name, chain.chain_id, "--block-time", "0.1"))
            for name, chain in network.chains.items()
        }
        database = await Database.open(folder / "operator.sqlite")
        stack.push_async_callback(database.close)
        writers = {name: TransactionWriter(chain, OPERATOR, Intents(database)) for name, chain in chains.items()}
        operator = address_of(OPERATOR.public_key)
        for chain in chains.values():
            await fund(chain, operator)
        manifest_file = folder / "manifest.json"
        manifest = await apply(plan(network, operator, operator), network, writers, manifest_file)
        yield Deployed(network, chains, writers, manifest, manifest_file)
