"""Compiled contracts, keyed by what they were compiled from: compiled once, then read from the cache.

A contract's errors are not in its ABI, for Vyper 0.4.3 has no declaration for them: they are the signatures inside
``method_id("…")`` in its sources, and are kept beside the ABI so that a revert can be told in words.
"""

import hashlib
import re
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from tristrata.config.paths import cache_home, repository_root
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.hashing import keccak

CONTRACTS = {
    "TestDollar": "testing/TestDollar.vy",
    "Welcome": "onboarding/Welcome.vy",
    "StakeToken": "security/StakeToken.vy",
    "ValidatorSet": "security/ValidatorSet.vy",
    "CheckpointLedger": "security/CheckpointLedger.vy",
    "Outbox": "messaging/Outbox.vy",
    "ModelRegistry": "orchestration/ModelRegistry.vy",
    "MinerRegistry": "orchestration/MinerRegistry.vy",
    "Sessions": "orchestration/Sessions.vy",
    "RouterRegistry": "orchestration/RouterRegistry.vy",
    "Settlement": "orchestration/Settlement.vy",
    "TaskQueue": "orchestration/TaskQueue.vy",
    "TaskConsumer": "testing/TaskConsumer.vy",
    "Inbox": "messaging/Inbox.vy",
}
_ERROR = re.compile(r'method_id\("(\w+)\(([\w,\[\]]*)\)"\)')


class ContractUnknown(TristrataError):
    """There is no contract of this name."""


class Artifact(msgspec.Struct, frozen=True):
    """One compiled contract: its ABI, its creation code, and the signatures of its errors."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    errors: tuple[str, ...]
    source_hash: str


def source_hash(name: str) -> str:
    """What the contract is compiled from, hashed: its source, the shared modules, compiler and library versions."""
    folder = _contracts_folder()
    digest = hashlib.sha256(f"vyper {version('vyper')} snekmate {version('snekmate')}".encode())
    for path in (folder / _relative_path(name), *sorted((folder / "shared").glob("*.vy"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


@lru_cache
def load(name: str) -> Artifact:
    """The compiled contract, compiled now if the cache does not have it. Raises `ContractUnknown`."""
    path = cached_path(name)
    if not path.exists():
        compile_contract(name)
    return msgspec.json.decode(path.read_bytes(), type=Artifact)


def cached_path(name: str) -> Path:
    """Where the compiled contract is or will be."""
    return cache_home() / "contracts" / f"{name}-{source_hash(name)}.json"


def compile_contract(name: str) -> None:
    """Compile into the cache; the file appears whole or not at all. Raises Vyper's own errors for a broken source."""
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FileInput, FilesystemInputBundle

    folder = _contracts_folder()
    bundle = FilesystemInputBundle([folder, _snekmate_parent()])
    source = bundle.load_file(folder / _relative_path(name))
    if not isinstance(source, FileInput):
        raise TypeError(f"{name} is not a Vyper source")
    compiled = compile_from_file_input(source, input_bundle=bundle, output_formats=["abi", "bytecode"])
    artifact = Artifact(
        name=name,
        abi=compiled["abi"],
        bytecode=bytes.fromhex(compiled["bytecode"].removeprefix("0x")),
        errors=_error_signatures(name),
        source_hash=source_hash(name),
    )
    path = cached_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(artifact))
    temporary.replace(path)


def decode_error(data: bytes, errors: tuple[str, ...]) -> tuple[str, tuple[Any, ...]] | None:
    """The name and values of the contract error in revert ``data``; ``None`` when it is none of ``errors``."""
    for signature in errors:
        if selector(signature) == data[:4]:
            name, types = parse_signature(signature)
            try:
                return name, tuple(decode(types, data[4:]))
            except DecodingError:
                return None
    return None


def parse_signature(signature: str) -> tuple[str, list[str]]:
    """An error's name, and the types of its values."""
    name, _, arguments = signature.rstrip(")").partition("(")
    return name, arguments.split(",") if arguments else []


def selector(signature: str) -> bytes:
    """The four bytes that an error's data begins with."""
    return keccak(signature.encode())[:4]


def _error_signatures(name: str) -> tuple[str, ...]:
    folder = _contracts_folder()
    sources = (folder / _relative_path(name), *sorted((folder / "shared").glob("*.vy")))
    found = {f"{error}({types})" for path in sources for error, types in _ERROR.findall(path.read_text())}
    return tuple(sorted(signature for signature in found if signature[0].isupper()))


def _relative_path(name: str) -> str:
    try:
        return CONTRACTS[name]
    except KeyError as error:
        raise ContractUnknown(f"there is no contract {name!r}; there are {', '.join(CONTRACTS)}") from error


def _contracts_folder() -> Path:
    return repository_root() / "contracts"


def _snekmate_parent() -> Path:
    spec = find_spec("snekmate")
    if spec is None or not spec.submodule_search_locations:
        raise TristrataError("snekmate is not installed", remedy="make setup")
    return Path(next(iter(spec.submodule_search_locations))).parent
