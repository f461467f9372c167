"""A deployed contract: its calls as bytes, its answers and events as values."""

from functools import cached_property
from typing import Any

import msgspec
from eth_abi.abi import decode, encode

from tristrata.bindings.artifacts import Artifact, load
from tristrata.bindings.sentences import explain
from tristrata.chains.evm import CallRefused, EvmChain, Log
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, parse_address


class Event(msgspec.Struct, frozen=True):
    """One event of a contract, with its values by name; addresses are 20 raw bytes."""

    name: str
    values: dict[str, Any]
    log: Log


class Contract:
    """The contract ``name`` at ``address`` on ``chain``."""

    def __init__(self, name: str, address: Address, chain: EvmChain) -> None:
        self.name = name
        self.address = address
        self.chain = chain
        self._artifact: Artifact = load(name)

    async def read(self, function: str, *arguments: Any, at: int) -> Any:
        """What a view function gives at block ``at``: one value, or a tuple. Raises `CallRefused` in words."""
        entry = self._functions[function]
        try:
            output = await self.chain.call(self.address, self.calldata(function, *arguments), at)
        except CallRefused as refusal:
            if refusal.data is None:
                raise
            told = f"{self.name}.{function} on {self.chain.name}: {explain(refusal.data).text}"
            raise CallRefused(told, data=refusal.data) from refusal
        types = [_type(parameter) for parameter in entry["outputs"]]
        values = tuple(_raw(kind, value) for kind, value in zip(types, decode(types, output), strict=True))
        return values[0] if len(values) == 1 else values

    async def write(self, writer: TransactionWriter, purpose: str, function: str, *arguments: Any) -> Inclusion:
        """Call a function by a transaction of ``writer``'s. Raises `TransactionReverted` in words."""
        return await writer.submit(purpose, self.address, self.calldata(function, *arguments), explain)

    def calldata(self, function: str, *arguments: Any) -> bytes:
        """The call as bytes."""
        types = [_type(parameter) for parameter in self._functions[function]["inputs"]]
        return keccak(f"{function}({','.join(types)})".encode())[:4] + encode(types, arguments)

    def event(self, log: Log) -> Event | None:
        """The event in a log; `None` if it is not one of this contract's."""
        if log.address != self.address or log.topics[0] not in self._events:
            return None
        entry = self._events[log.topics[0]]
        indexed = [parameter for parameter in entry["inputs"] if parameter["indexed"]]
        plain = [parameter for parameter in entry["inputs"] if not parameter["indexed"]]
        values: dict[str, Any] = {}
        for parameter, topic in zip(indexed, log.topics[1:], strict=True):
            values[parameter["name"]] = _raw(parameter["type"], decode([_type(parameter)], topic)[0])
        types = [_type(parameter) for parameter in plain]
        for parameter, value in zip(plain, decode(types, log.data), strict=True):
            values[parameter["name"]] = _raw(parameter["type"], value)
        return Event(entry["name"], values, log)

    @cached_property
    def _functions(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self._artifact.abi if entry["type"] == "function"}

    @cached_property
    def _events(self) -> dict[bytes, dict[str, Any]]:
        found = {}
        for entry in self._artifact.abi:
            if entry["type"] == "event":
                types = ",".join(_type(parameter) for parameter in entry["inputs"])
                found[keccak(f"{entry['name']}({types})".encode())] = entry
        return found


def constructor_data(name: str, *arguments: Any) -> bytes:
    """The creation code of a contract with its constructor's arguments."""
    artifact = load(name)
    inputs: list[dict[str, Any]] = next(
        (entry["inputs"] for entry in artifact.abi if entry["type"] == "constructor"), []
    )
    return artifact.bytecode + encode([_type(parameter) for parameter in inputs], arguments)


def _type(parameter: dict[str, Any]) -> str:
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_type(component) for component in parameter["components"])
    return f"({inner}){kind.removeprefix('tuple')}"


def _raw(kind: str, value: Any) -> Any:
    """Addresses come as text from `eth_abi`; here they are bytes, also inside structs."""
    if kind == "address":
        return parse_address(value)
    if isinstance(value, tuple):
        return tuple(
            parse_address(part)
            if isinstance(part, str) and len(part) == 42 and part.startswith("0x")
            else _raw("", part)
            for part in value
        )
    return value
