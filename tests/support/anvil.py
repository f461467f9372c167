"""Real anvils for tests."""

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tristrata.chains.evm import EvmChain
from tristrata.config.paths import repository_root
from tristrata.protocol.ids import Address, eip155, show

ANVIL = repository_root() / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"


@asynccontextmanager
async def anvil(name: str, chain_id: int, *options: str) -> AsyncIterator[EvmChain]:
    """One anvil on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(ANVIL), "--port", "0", "--chain-id", str(chain_id), "--accounts", "0", "--cache-path", folder]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            address = ""
            while not address.startswith("Listening on "):
                address = await asyncio.to_thread(process.stdout.readline)
            chain = EvmChain(name, eip155(chain_id), "http://" + address.removeprefix("Listening on ").strip())
            yield chain
            await chain.close()
        finally:
            process.terminate()
            process.stdout.close()
            process.wait()


async def fund(chain: EvmChain, account: Address) -> None:
    """Test ether."""
    await chain.rpc("anvil_setBalance", show(account), hex(10**20))
