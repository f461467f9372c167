"""One chain of the embedded network: an anvil process that mines at an interval and keeps its state over restarts."""

import asyncio
from pathlib import Path

from tristrata.chains.evm import ChainUnreachable, EvmChain
from tristrata.config.network import ChainSettings, Stack
from tristrata.devnet.toolchain import anvil_path
from tristrata.process import LOOPBACK, end_with_parent, remembered_port
from tristrata.protocol.errors import TristrataError

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_KEPT_STATES = 256


class ChainFailed(TristrataError):
    """An anvil did not start, or ended by itself."""


class Anvil:
    """One chain. ``folder`` holds its port, its saved state and its log."""

    def __init__(self, name: str, settings: ChainSettings, folder: Path, log: Path) -> None:
        self.name = name
        self._settings = settings
        self._folder = folder
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> str:
        """Start, and give the RPC address once it answers. Raises `ChainFailed`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        port = remembered_port(self._folder / "port")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(anvil_path()),
                *self._options(port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends its children in order
                preexec_fn=end_with_parent,
            )
        url = f"http://{LOOPBACK}:{port}"
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        async with EvmChain(self.name, self._settings.caip2, url) as chain:
            while self.pid is not None and asyncio.get_running_loop().time() < deadline:
                try:
                    await chain.check()
                except ChainUnreachable:
                    await asyncio.sleep(0.02)
                    continue
                return url
        raise ChainFailed(f"chain {self.name} did not start on port {port}", remedy=f"see {self._log}")

    async def stop(self) -> None:
        """End it; it saves its state first."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _options(self, port: int) -> list[str]:
        settings = self._settings
        options = {
            "--host": LOOPBACK,
            "--port": str(port),
            "--chain-id": str(settings.chain_id),
            "--block-time": f"{settings.block_seconds:g}",
            "--accounts": "0",
            "--slots-in-an-epoch": "1",
            "--state": str(self._folder / "state.json"),
            "--cache-path": str(self._folder / "cache"),
            "--prune-history": str(_KEPT_STATES),
        }
        flags = [part for option in options.items() for part in option]
        return [*flags, "--network", "optimism"] if settings.stack is Stack.OP else flags
