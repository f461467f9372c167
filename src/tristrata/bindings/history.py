"""A hub's history as its events tell it, up to an explicit block: charges, sealed epochs, miners' keys.

Settler and validators follow the same history, each from its own endpoint, and ask it what held at which block.
"""

import asyncio
from bisect import bisect_right
from collections import defaultdict

import msgspec

from tristrata.bindings.contract import Event
from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.protocol.epoch import ChargedSession
from tristrata.protocol.ids import Address, ChainRef, SessionId
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import parse_splits

_BLOCKS_AT_ONCE = 5_000


class SealedEpoch(msgspec.Struct, frozen=True):
    """An epoch that the hub sealed in ``sealed_in``, over what was charged up to ``block``."""

    epoch: int
    block: int
    root: bytes
    messages_root: bytes
    receipts_root: bytes
    payouts_root: bytes
    children_root: bytes
    content: bytes
    sealed_in: int
    tx_hash: bytes


class ChildAttested(msgspec.Struct, frozen=True):
    """A child's epoch that arrived in this hub's outbox in block ``block``."""

    chain: ChainRef
    epoch: int
    root: bytes
    block: int
    tx_hash: bytes


class HubHistory:
    """One hub's history up to ``head``."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._lock = asyncio.Lock()
        self.head = hub.first_block - 1
        self.sealed: list[SealedEpoch] = []
        self.children: list[ChildAttested] = []
        self.child_indices: dict[ChainRef, int] = {}
        self._charges: dict[SessionId, list[tuple[int, ChargedSession]]] = defaultdict(list)
        self._owned: dict[Address, list[SessionId]] = defaultdict(list)
        self._keys: dict[Address, list[tuple[int, Address]]] = defaultdict(list)

    async def catch_up(self, level: Level) -> int:
        """Take in everything up to the newest block of ``level``, and give its number."""
        async with self._lock:
            head = (await self.hub.chain.block(level)).number
            while self.head < head:
                last = min(head, self.head + _BLOCKS_AT_ONCE)
                for event in await self.hub.events(self.head + 1, last):
                    self._take(event)
                self.head = last
            return self.head

    def charged_at(self, block: int) -> dict[SessionId, ChargedSession]:
        """Each session's last charge up to ``block``."""
        found = {}
        for session, charges in self._charges.items():
            if number := bisect_right(charges, block, key=lambda entry: entry[0]):
                found[session] = charges[number - 1][1]
        return found

    def keys_at(self, block: int) -> dict[Address, frozenset[Address]]:
        """Every signing key that each miner has registered up to ``block``."""
        return {miner: frozenset(key for number, key in keys if number <= block) for miner, keys in self._keys.items()}

    def owned_by(self, account: Address) -> list[SessionId]:
        """Every session that the account ever opened."""
        return self._owned[account]

    @property
    def last_sealed(self) -> SealedEpoch | None:
        """The newest sealed epoch."""
        return self.sealed[-1] if self.sealed else None

    def _take(self, event: Event) -> None:
        values, block = event.values, event.log.block
        match event.name:
            case "Charged":
                session = SessionId(values["session_id"])
                charge = ChargedSession(
                    session=session,
                    count=values["count"],
                    cumulative=Amount(values["cumulative"]),
                    head=values["head"],
                    splits=parse_splits(values["splits"]),
                )
                self._charges[session].append((block, charge))
            case "Opened":
                self._owned[values["owner"]].append(SessionId(values["session_id"]))
            case "MinerRegistered":
                self._keys[values["miner"]].append((block, values["signing_key"]))
            case "Sealed":
                self.sealed.append(
                    SealedEpoch(
                        epoch=values["epoch"],
                        block=values["block_number"],
                        root=values["root"],
                        messages_root=values["messages_root"],
                        receipts_root=values["receipts_root"],
                        payouts_root=values["payouts_root"],
                        children_root=values["children_root"],
                        content=values["content"],
                        sealed_in=block,
                        tx_hash=event.log.tx_hash,
                    )
                )
            case "ChildAdded":
                self.child_indices[ChainRef(values["chain"])] = values["index"]
            case "ChildAttested":
                self.children.append(
                    ChildAttested(ChainRef(values["chain"]), values["epoch"], values["root"], block, event.log.tx_hash)
                )
