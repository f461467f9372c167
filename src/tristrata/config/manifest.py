"""The deployment manifest: where each contract of a network is, and how to know that it is the right one."""

from pathlib import Path

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2, parse_address


class ManifestInvalid(TristrataError):
    """A manifest that cannot be read, or that lacks a contract."""


class DeployedContract(msgspec.Struct, frozen=True):
    """A contract at ``address`` (hex) since ``block``, whose runtime code hashes (Keccak-256, hex) to ``code_hash``."""

    address: str
    code_hash: str
    block: int


class Manifest(msgspec.Struct, frozen=True):
    """All contracts of a network: ``CAIP-2 → contract name → where``."""

    chains: dict[str, dict[str, DeployedContract]] = {}

    def address(self, chain: Caip2, contract: str) -> Address:
        """Where ``contract`` is on ``chain``. Raises `ManifestInvalid` when it is not deployed there."""
        try:
            return parse_address(self.chains[chain][contract].address)
        except KeyError as error:
            raise ManifestInvalid(
                f"the manifest has no {contract} on {chain}", remedy="deploy the network: tristrata up"
            ) from error

    def with_contracts(self, chain: Caip2, contracts: dict[str, DeployedContract]) -> "Manifest":
        """The manifest with more contracts on ``chain``."""
        return Manifest({**self.chains, chain: {**self.chains.get(chain, {}), **contracts}})


def read_manifest(path: Path) -> Manifest:
    """The manifest in ``path``; an empty one when there is none yet. Raises `ManifestInvalid` for a broken file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except msgspec.MsgspecError as error:
        raise ManifestInvalid(f"manifest {path} is broken: {error}", remedy="remove it and deploy again") from error


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest, replacing the file at once or not at all."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    temporary.replace(path)
