"""What every actor starts from: the network as it runs, where its contracts are, and its own corner of the home."""

from dataclasses import dataclass
from pathlib import Path

from tristrata.config.home import NetworkHome
from tristrata.config.manifest import Manifest, read_manifest
from tristrata.config.network import Network, NetworkFileInvalid, read_network


@dataclass(frozen=True)
class ActorSettings:
    """One actor of one network. Keys are in the home's keystores, named after its role.

    ``database_url`` replaces its own file, ``listen`` the network file's router address.
    """

    name: str
    home: NetworkHome
    network: Network
    manifest: Manifest
    database_url: str | None = None
    listen: str | None = None

    @property
    def database(self) -> Path | str:
        """The actor's own database: a file in its corner of the home, or what its URL names."""
        return self.database_url or self.home.actor(self.name) / f"{self.name}.sqlite"

    @property
    def fabric(self) -> str:
        """The NATS server's address. Raises `NetworkFileInvalid` when the network file has none."""
        if self.network.fabric is None:
            raise NetworkFileInvalid(
                f"network {self.network.name} has no fabric address", remedy="start it: tristrata up"
            )
        return self.network.fabric

    @property
    def router(self) -> str:
        """The router's address. Raises `NetworkFileInvalid` when the network file has none."""
        if self.listen is not None:
            return self.listen
        if self.network.router is None:
            raise NetworkFileInvalid(
                f"network {self.network.name} has no router address", remedy="start it: tristrata up"
            )
        return self.network.router


def read_actor(home: NetworkHome, name: str) -> ActorSettings:
    """The settings of the actor ``name``. Raises `NetworkFileInvalid` or `ManifestInvalid`."""
    return ActorSettings(name, home, read_network(home.network_file), read_manifest(home.manifest_file))
