"""A running network's folder: one place for its keys, its state and its logs."""

from pathlib import Path

from tristrata.config.paths import network_folder


class NetworkHome:
    """Where everything of one network lives on this machine. Paths only: nothing is read or created here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def named(cls, name: str) -> "NetworkHome":
        """The home of the network ``name`` under the user's data folder."""
        return cls(network_folder(name))

    @property
    def network_file(self) -> Path:
        """The network with all addresses, as its processes read it."""
        return self.folder / "network.json"

    @property
    def manifest_file(self) -> Path:
        """Where the contracts are."""
        return self.folder / "manifest.json"

    @property
    def running_file(self) -> Path:
        """The supervisor's process id and its children's; present only while the network runs."""
        return self.folder / "running.json"

    @property
    def lock_file(self) -> Path:
        """Held (``flock``) by the supervisor as long as it lives."""
        return self.folder / "lock"

    @property
    def keys(self) -> Path:
        """Keystores (version 3), one an account: operator, router, settler, user, each miner."""
        return self.folder / "keys"

    def keystore(self, name: str) -> Path:
        """The keystore of one account."""
        return self.keys / f"{name}.json"

    @property
    def password_file(self) -> Path:
        """The password of this network's keystores; readable by its owner only."""
        return self.keys / "password"

    @property
    def api_keys_file(self) -> Path:
        """The user's API keys, one a hub; readable by its owner only."""
        return self.keys / "api-keys.json"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.folder / "logs"

    @property
    def fabric(self) -> Path:
        """The NATS server's configuration and port."""
        return self.folder / "fabric"

    @property
    def content(self) -> Path:
        """The content store: epochs' receipts by their digest."""
        return self.folder / "content"

    @property
    def bulletin(self) -> Path:
        """Proposed epochs and validators' signatures."""
        return self.folder / "bulletin"

    def chain(self, name: str) -> Path:
        """A chain's saved state."""
        return self.folder / "chains" / name

    def actor(self, name: str) -> Path:
        """An actor's own folder: its database."""
        return self.folder / "actors" / name
