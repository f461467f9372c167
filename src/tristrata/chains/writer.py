"""The one writer of one key on one chain: it owns the nonce, and writes every transaction down before it sends it."""

import asyncio
from collections.abc import Callable

import msgspec
from coincurve import PrivateKey
from eth_account import Account

from tristrata.chains.evm import CallRefused, EvmChain, Refusal
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, checksum
from tristrata.protocol.signing import address_of
from tristrata.protocol.units import Gas
from tristrata.storage.intents import Intent, Intents

Explain = Callable[[bytes], Refusal]
_PRIORITY_FEE = 1_000_000
_GAS_MARGIN = 1.25
_INCLUSION_SECONDS = 120.0
_CHANGED = Refusal(
    "Reverted",
    (),
    "the transaction is in a block but reverted there: what it relied on had changed since it was planned",
)


class TransactionReverted(TristrataError):
    """A contract refused a transaction: ``name`` and ``values`` are its own error's, addresses raw bytes."""

    def __init__(self, purpose: str, refusal: Refusal) -> None:
        super().__init__(f"{purpose}: {refusal.text}")
        self.name = refusal.name
        self.values = refusal.values


class NotIncluded(TristrataError):
    """A transaction was sent but is in no block yet; sending it again by the same purpose waits for the same one."""


class Inclusion(msgspec.Struct, frozen=True):
    """A transaction that is in a block."""

    tx_hash: bytes
    block: int
    gas_used: Gas


class TransactionWriter:
    """Sends the transactions of one key on one chain. ``poll_seconds`` is how often it looks for an inclusion."""

    def __init__(self, chain: EvmChain, key: PrivateKey, intents: Intents, *, poll_seconds: float = 0.1) -> None:
        self.chain = chain
        self.address: Address = address_of(key.public_key)
        self._account = Account.from_key(key.secret)
        self._intents = intents
        self._poll_seconds = poll_seconds
        self._lock = asyncio.Lock()

    async def submit(self, purpose: str, to: Address | None, data: bytes, explain: Explain) -> Inclusion:
        """Send a transaction for ``purpose`` unless it was sent before, and wait until it is in a block.

        A purpose is one transaction for ever: after a crash, or when said twice, the same one is sent again and its
        outcome given. Raises `TransactionReverted` (before sending, where the chain can tell), or `NotIncluded`.
        """
        async with self._lock:
            intent = await self._intents.find(self.chain.caip2, self.address, purpose)
            if intent is None:
                intent = await self._plan(purpose, to, data, explain)
        if intent.block is None or intent.gas_used is None:
            intent = await self._carry_through(intent)
        if not intent.succeeded:
            raise TransactionReverted(purpose, _CHANGED)
        assert intent.block is not None and intent.gas_used is not None
        return Inclusion(intent.tx_hash, intent.block, Gas(intent.gas_used))

    async def _plan(self, purpose: str, to: Address | None, data: bytes, explain: Explain) -> Intent:
        try:
            gas = await self.chain.estimate(self.address, to, data)
        except CallRefused as refusal:
            if refusal.data is None:
                raise
            raise TransactionReverted(purpose, explain(refusal.data)) from refusal
        nonce = max(
            await self.chain.nonce(self.address), await self._intents.next_nonce(self.chain.caip2, self.address)
        )
        transaction = {
            "chainId": self.chain.chain_id,
            "nonce": nonce,
            "gas": int(gas * _GAS_MARGIN),
            "maxPriorityFeePerGas": _PRIORITY_FEE,
            "maxFeePerGas": 2 * await self.chain.base_fee() + _PRIORITY_FEE,
            "value": 0,
            "data": data,
        }
        if to is not None:
            transaction["to"] = checksum(to)
        signed = self._account.sign_transaction(transaction)
        intent = Intent(
            self.chain.caip2, self.address, purpose, nonce, bytes(signed.raw_transaction), bytes(signed.hash)
        )
        await self._intents.add(intent)
        return intent

    async def _carry_through(self, intent: Intent) -> Intent:
        deadline = asyncio.get_running_loop().time() + _INCLUSION_SECONDS
        await self.chain.send(intent.raw)
        while (receipt := await self.chain.receipt(intent.tx_hash)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise NotIncluded(
                    f"{intent.purpose}: transaction 0x{intent.tx_hash.hex()} is in no block of {self.chain.name} "
                    f"after {_INCLUSION_SECONDS:.0f} s"
                )
            await asyncio.sleep(self._poll_seconds)
        await self._intents.included(
            intent.tx_hash, block=receipt.block, gas_used=receipt.gas_used, succeeded=receipt.succeeded
        )
        return msgspec.structs.replace(
            intent, block=receipt.block, gas_used=receipt.gas_used, succeeded=receipt.succeeded
        )
