"""The embedded NATS server: one process on loopback, whose users are routers; miners are admitted by callout."""

import asyncio
import json
import sysconfig
from pathlib import Path

import msgspec
import nkeys

from tristrata.fabric.keys import public_text
from tristrata.process import LOOPBACK, end_with_parent, remembered_port
from tristrata.protocol.errors import TristrataError

MAX_PAYLOAD_BYTES = 8 * 1_048_576
NETWORK_ACCOUNT = "NET"
ADMISSION_ACCOUNT = "AUTH"
_START_SECONDS = 10.0


class FabricFailed(TristrataError):
    """The NATS server did not start."""


def issuer_text(seed: bytes) -> bytes:
    """The seed of the account that signs admissions, as nkeys takes it (``SA…``)."""
    return bytes(nkeys.encode_seed(seed, nkeys.PREFIX_BYTE_ACCOUNT))


class Cluster(msgspec.Struct, frozen=True):
    """A server's place among others: its ``name``, the ``port`` for their routes, and all their ports."""

    name: str
    port: int
    ports: tuple[int, ...]


class FabricServer:
    """One nats-server. ``router_seed`` and ``admission_seed`` are user seeds, ``issuer_seed`` signs admissions.

    With ``cluster`` it is one of several: whoever is connected to one of them reaches everybody.
    """

    def __init__(
        self,
        folder: Path,
        *,
        router_seed: bytes,
        admission_seed: bytes,
        issuer_seed: bytes,
        cluster: Cluster | None = None,
    ) -> None:
        self._folder = folder
        self._cluster = cluster
        self._router = public_text(router_seed)
        self._admission = public_text(admission_seed)
        self._issuer = nkeys.from_seed(issuer_text(issuer_seed)).public_key.decode()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> str:
        """Start, on the port of the last time if it is free, and give the server's URL. Raises `FabricFailed`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        port = remembered_port(self._folder / "port")
        configuration = self._folder / "nats.conf"
        configuration.write_text(json.dumps(self._configuration(port), indent=2))
        configuration.chmod(0o600)
        log = self._folder / "nats.log"
        binary = Path(sysconfig.get_path("scripts")) / "nats-server"
        with log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(binary),
                "-c",
                str(configuration),
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if self._process.returncode is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return f"nats://127.0.0.1:{port}"
        raise FabricFailed(f"nats-server did not open port {port}", remedy=f"see {log}")

    async def stop(self) -> None:
        """End the server."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def _configuration(self, port: int) -> dict[str, object]:
        return {
            **self._cluster_configuration(),
            "listen": f"127.0.0.1:{port}",
            "max_payload": MAX_PAYLOAD_BYTES,
            "max_connections": 10_000,
            "ping_interval": "10s",
            "jetstream": {"store_dir": str(self._folder / "jetstream"), "max_memory_store": 0},
            "accounts": {
                NETWORK_ACCOUNT: {"users": [{"nkey": self._router}], "jetstream": "enabled"},
                ADMISSION_ACCOUNT: {"users": [{"nkey": self._admission}]},
            },
            "authorization": {
                "auth_callout": {
                    "issuer": self._issuer,
                    "account": ADMISSION_ACCOUNT,
                    "auth_users": [self._admission, self._router],
                }
            },
        }

    def _cluster_configuration(self) -> dict[str, object]:
        if self._cluster is None:
            return {}
        own = self._cluster.port
        routes = [f"nats-route://{LOOPBACK}:{port}" for port in self._cluster.ports if port != own]
        return {
            "server_name": self._cluster.name,
            # Clients know all servers by their settings; admission stays with the one that it stands beside.
            "cluster": {"name": "tristrata", "listen": f"{LOOPBACK}:{own}", "routes": routes, "no_advertise": True},
        }
