"""An EVM chain over JSON-RPC: every read names its block, every failure names the chain."""

import asyncio
from enum import StrEnum
from itertools import count
from typing import Any

import aiohttp
import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2, evm_chain_id, show
from tristrata.protocol.units import Gas, Timestamp

_TIMEOUT = aiohttp.ClientTimeout(total=20, connect=3)
_RETRIES = 3


class ChainUnreachable(TristrataError):
    """No endpoint of the chain answers."""


class WrongChain(TristrataError):
    """The endpoint serves another chain than the network file says."""


class CallRefused(TristrataError):
    """The chain refused a call or a transaction.

    ``data`` is what the contract reverted with; ``None`` when it was the chain that refused, and no contract.
    """

    def __init__(self, message: str, *, data: bytes | None) -> None:
        super().__init__(message)
        self.data = data


class Refusal(msgspec.Struct, frozen=True):
    """Why a contract refused: its error, and ``text``, one line that tells it in words and repeats it."""

    name: str
    values: tuple[Any, ...]
    text: str


class Level(StrEnum):
    """How settled a block is: service may run on soft blocks, money moves on finalized ones."""

    SOFT = "latest"
    SAFE = "safe"
    FINALIZED = "finalized"


class BlockRef(msgspec.Struct, frozen=True):
    """One block of one chain."""

    number: int
    hash: bytes
    timestamp: Timestamp


class Log(msgspec.Struct, frozen=True):
    """An event as the chain keeps it."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    tx_hash: bytes


class Receipt(msgspec.Struct, frozen=True):
    """A transaction that is in a block."""

    tx_hash: bytes
    block: int
    gas_used: Gas
    succeeded: bool
    contract: Address | None


class EvmChain:
    """One chain at one endpoint. Use as an async context manager, or call `close`."""

    def __init__(self, name: str, caip2: Caip2, url: str) -> None:
        self.name = name
        self.caip2 = caip2
        self.url = url
        self._ids = count(1)
        self._http: aiohttp.ClientSession | None = None

    @property
    def chain_id(self) -> int:
        """The EVM chain id."""
        return evm_chain_id(self.caip2)

    async def check(self) -> None:
        """Raise `WrongChain` unless the endpoint serves this chain."""
        served = int(await self.rpc("eth_chainId"), 16)
        if served != self.chain_id:
            raise WrongChain(
                f"{self.url} serves chain {served}; {self.name} is {self.chain_id}", remedy="correct the network file"
            )

    async def block(self, level: Level) -> BlockRef:
        """The newest block of a level."""
        found = await self.rpc("eth_getBlockByNumber", level.value, False)
        return BlockRef(
            int(found["number"], 16), bytes.fromhex(found["hash"][2:]), Timestamp(int(found["timestamp"], 16))
        )

    async def call(self, to: Address, data: bytes, at: int) -> bytes:
        """What a call of ``to`` gives at block ``at``. Raises `CallRefused`."""
        result = await self.rpc("eth_call", {"to": show(to), "data": show(data)}, hex(at))
        return bytes.fromhex(result[2:])

    async def estimate(self, sender: Address, to: Address | None, data: bytes) -> Gas:
        """The gas that a transaction would use now. Raises `CallRefused` if it would revert."""
        return Gas(int(await self.rpc("eth_estimateGas", _request(sender, to, data)), 16))

    async def code(self, address: Address, at: int) -> bytes:
        """The runtime code of a contract; empty for an account."""
        return bytes.fromhex((await self.rpc("eth_getCode", show(address), hex(at)))[2:])

    async def transactions(self, first: int, last: int) -> int:
        """How many transactions are in blocks ``first`` to ``last``."""
        counts = [
            await self.rpc("eth_getBlockTransactionCountByNumber", hex(number)) for number in range(first, last + 1)
        ]
        return sum(int(found, 16) for found in counts)

    async def nonce(self, address: Address) -> int:
        """How many transactions of ``address`` are in blocks or pending."""
        return int(await self.rpc("eth_getTransactionCount", show(address), "pending"), 16)

    async def base_fee(self) -> int:
        """The base fee of the newest block, in wei."""
        return int((await self.rpc("eth_getBlockByNumber", "latest", False))["baseFeePerGas"], 16)

    async def send(self, raw: bytes) -> bytes:
        """Hand in a signed transaction; the same one twice is the same as once. Gives its hash."""
        try:
            return bytes.fromhex((await self.rpc("eth_sendRawTransaction", show(raw)))[2:])
        except CallRefused as refusal:
            if "already" in refusal.message.lower() or "nonce too low" in refusal.message.lower():
                from tristrata.protocol.hashing import keccak

                return keccak(raw)
            raise

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        """The receipt of a transaction, once it is in a block."""
        found = await self.rpc("eth_getTransactionReceipt", show(tx_hash))
        if found is None or found.get("blockNumber") is None:
            return None
        contract = found.get("contractAddress")
        return Receipt(
            tx_hash=tx_hash,
            block=int(found["blockNumber"], 16),
            gas_used=Gas(int(found["gasUsed"], 16)),
            succeeded=found["status"] == "0x1",
            contract=Address(bytes.fromhex(contract[2:])) if contract else None,
        )

    async def logs(self, addresses: list[Address], first: int, last: int) -> list[Log]:
        """All events of ``addresses`` in blocks ``first`` to ``last``, in order."""
        query = {
            "address": [show(address) for address in addresses],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        return [
            Log(
                address=Address(bytes.fromhex(log["address"][2:])),
                topics=tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]),
                data=bytes.fromhex(log["data"][2:]),
                block=int(log["blockNumber"], 16),
                tx_hash=bytes.fromhex(log["transactionHash"][2:]),
            )
            for log in await self.rpc("eth_getLogs", query)
        ]

    async def rpc(self, method: str, *parameters: Any) -> Any:
        """One JSON-RPC call. Raises `ChainUnreachable`, or `CallRefused` for an error of the chain's."""
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=_TIMEOUT)
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        for attempt in range(_RETRIES):
            try:
                async with self._http.post(self.url, json=body) as response:
                    answer = msgspec.json.decode(await response.read())
                break
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                if attempt + 1 == _RETRIES:
                    raise ChainUnreachable(
                        f"{self.name} does not answer at {self.url}: {error!r}", remedy="see: tristrata status"
                    ) from error
                await asyncio.sleep(0.1 * 2**attempt)
        if "error" in answer:
            raise _refusal(self.name, method, answer["error"])
        return answer["result"]

    async def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def __aenter__(self) -> "EvmChain":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _request(sender: Address, to: Address | None, data: bytes) -> dict[str, str]:
    request = {"from": show(sender), "data": show(data)}
    return {**request, "to": show(to)} if to else request


def _refusal(name: str, method: str, error: dict[str, Any]) -> CallRefused:
    message, data = str(error.get("message")), error.get("data")
    raw = None
    if isinstance(data, str) and data.startswith("0x"):
        raw = bytes.fromhex(data[2:])
    elif "execution reverted" in message.lower():  # what Geth says of a revert without data
        raw = b""
    return CallRefused(f"{name} refused {method}: {message}", data=raw)
