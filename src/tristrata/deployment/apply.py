"""Carry out a plan, and check what stands: both may be run again at any time."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tristrata.bindings.contract import constructor_data
from tristrata.bindings.sentences import explain
from tristrata.chains.evm import EvmChain, Level
from tristrata.chains.writer import TransactionWriter
from tristrata.config.manifest import DeployedContract, Manifest, read_manifest, write_manifest
from tristrata.config.network import Network
from tristrata.deployment.plan import PlannedContract
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import checksum, parse_address, show


class DeploymentBroken(TristrataError):
    """What stands on a chain is not what the manifest says."""


async def apply(
    plan: list[PlannedContract], network: Network, writers: Mapping[str, TransactionWriter], manifest_file: Path
) -> Manifest:
    """Deploy what is missing and write the manifest. Transactions of one chain go out together, by nonce."""
    done = await asyncio.gather(*(_deploy(contract, writers[contract.chain]) for contract in plan))
    manifest = read_manifest(manifest_file)
    for contract, deployed in zip(plan, done, strict=True):
        manifest = manifest.with_contracts(network.chains[contract.chain].caip2, {contract.name: deployed})
    write_manifest(manifest, manifest_file)
    return manifest


async def check(manifest: Manifest, network: Network, chains: Mapping[str, EvmChain]) -> None:
    """Raise `DeploymentBroken` unless the code at every address of the manifest hashes to what it says."""
    for caip2, contracts in manifest.chains.items():
        chain = chains[network.chain_named(caip2)]
        block = await chain.block(Level.SOFT)
        for name, deployed in contracts.items():
            code = await chain.code(parse_address(deployed.address), block.number)
            if show(keccak(code)) != deployed.code_hash:
                found = "no contract" if not code else "another contract"
                raise DeploymentBroken(
                    f"{name} should be at {deployed.address} on {chain.name}; there is {found}",
                    remedy="the chain was reset, or the manifest is another network's: deploy anew",
                )


async def _deploy(contract: PlannedContract, writer: TransactionWriter) -> DeployedContract:
    chain = writer.chain
    data = constructor_data(contract.name, *contract.arguments)
    purpose = f"deploy {contract.nonce} {contract.name}"
    included = await writer.submit(purpose, None, data, explain)
    code = await chain.code(contract.address, included.block)
    if not code:
        raise DeploymentBroken(
            f"{contract.name} did not land at {checksum(contract.address)} on {chain.name}: the operator's account was "
            "used there before its deployments",
            remedy="deploy with a fresh operator account",
        )
    return DeployedContract(checksum(contract.address), show(keccak(code)), included.block)
