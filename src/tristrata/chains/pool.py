"""The chains of a network, each opened when it is first asked for."""

from tristrata.chains.evm import EvmChain
from tristrata.config.network import Network, NetworkFileInvalid


class Chains:
    """Use as an async context manager; leaving it closes every connection."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._open: dict[str, EvmChain] = {}

    def __getitem__(self, name: str) -> EvmChain:
        """The chain of this name. Raises `NetworkFileInvalid` when the network file has no endpoint for it."""
        if name not in self._open:
            settings = self._network.chains[name]
            if not settings.rpc:
                raise NetworkFileInvalid(
                    f"chain {name} of network {self._network.name} has no rpc endpoint", remedy="start it: tristrata up"
                )
            self._open[name] = EvmChain(name, settings.caip2, settings.rpc[0])
        return self._open[name]

    async def close(self) -> None:
        """Close every connection."""
        for chain in self._open.values():
            await chain.close()
        self._open.clear()

    async def __aenter__(self) -> "Chains":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
