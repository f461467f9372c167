"""A hub's history as its events tell it, up to an explicit block: charges, sealed epochs, miners' keys.

Settler and validators follow the same history, each from its own endpoint, and ask it what held at which block.
`SealedContents` adds what only the content store knows: which sessions each sealed epoch accounted for.
"""

import asyncio
from bisect import bisect_right
from collections import Counter, defaultdict
from typing import Any

import msgspec

from tristrata.bindings.contract import Event
from tristrata.bindings.hub import Hub, LastCharge
from tristrata.chains.evm import Level
from tristrata.protocol.epoch import ChargedSession, EpochContent, SessionProgress, parse_content, progress_after
from tristrata.protocol.ids import Address, ChainRef, SessionId
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import parse_splits
from tristrata.storage.content_store import ContentStore

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
        charges = ((session, self.charge_at(session, block)) for session in self._charges)
        return {session: charge for session, charge in charges if charge is not None}

    def charge_at(self, session: SessionId, block: int) -> ChargedSession | None:
        """One session's last charge up to ``block``."""
        charges = self._charges.get(session, [])
        number = bisect_right(charges, block, key=lambda entry: entry[0])
        return charges[number - 1][1] if number else None

    def last_charge(self, session: SessionId) -> LastCharge:
        """Count and splits of the session's last charge, as the next one must name them."""
        charge = self.charge_at(session, self.head)
        return (charge.count, charge.splits) if charge else (0, ())

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

    def _charge(self, block: int, values: dict[str, Any], head: bytes) -> None:
        session, splits = SessionId(values["session_id"]), parse_splits(values["splits"])
        cumulative = Amount(sum(split.amount for split in splits))
        charge = ChargedSession(session, values["count"], cumulative, head, splits)
        self._charges[session].append((block, charge))

    def _take(self, event: Event) -> None:
        values, block = event.values, event.log.block
        match event.name:
            case "Charged":
                self._charge(block, values, values["head"])
            case "Forfeited":  # no receipts lead there: payees claim directly
                self._charge(block, values, bytes(32))
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


class SealedContents:
    """The sessions that a hub's sealed epochs accounted for, as far as ``history`` knows them.

    Every content is read once. One that is missing, or that does not account for the sessions that it lists, is an
    error for its epoch and those after it: `ContentMissing`, `InvalidValue`, `EpochWrong`.
    """

    def __init__(self, history: HubHistory, store: ContentStore) -> None:
        self._history = history
        self._store = store
        self._lock = asyncio.Lock()
        self._latest: dict[SessionId, SessionProgress] = {}
        self._progress: dict[SessionId, list[tuple[int, SessionProgress]]] = defaultdict(list)
        self._walked = 0
        self._positions: dict[bytes, dict[SessionId, range]] = {}
        self._miners: dict[bytes, Counter[Address]] = {}

    async def progress(self, epoch: int) -> dict[SessionId, SessionProgress]:
        """Each session's progress after sealed epoch ``epoch``; sessions that none has accounted for are left out."""
        async with self._lock:
            for record in self._history.sealed[self._walked : epoch]:
                charged = self._history.charged_at(record.block)
                content, after = await asyncio.to_thread(self._walk, record, charged)
                for part in content.sessions:
                    self._progress[part.session].append((record.epoch, after[part.session]))
                self._latest, self._walked = after, record.epoch
        if epoch >= self._walked:
            return dict(self._latest)
        found = {}
        for session, entries in self._progress.items():
            if number := bisect_right(entries, epoch, key=lambda entry: entry[0]):
                found[session] = entries[number - 1][1]
        return found

    async def epoch_with(self, session: SessionId, position: int) -> SealedEpoch | None:
        """The sealed epoch whose content lists the session's receipt at ``position``; `None` while none does."""
        for record in self._history.sealed:
            charge = self._history.charge_at(session, record.block)
            if charge is None or charge.count <= position:
                continue
            if position in (await self._positions_in(record)).get(session, ()):
                return record
        return None

    async def receipts_in(self, record: SealedEpoch) -> Counter[Address]:
        """How many receipts of each miner a sealed epoch lists."""
        if record.content not in self._miners:
            content = await asyncio.to_thread(self._read, record)
            self._miners[record.content] = Counter(
                signed.receipt.miner for part in content.sessions for signed in part.receipts
            )
        return self._miners[record.content]

    async def _positions_in(self, record: SealedEpoch) -> dict[SessionId, range]:
        if record.content not in self._positions:
            content = await asyncio.to_thread(self._read, record)
            self._positions[record.content] = {
                part.session: range(part.first, part.first + len(part.receipts)) for part in content.sessions
            }
        return self._positions[record.content]

    def _walk(
        self, record: SealedEpoch, charged: dict[SessionId, ChargedSession]
    ) -> tuple[EpochContent, dict[SessionId, SessionProgress]]:
        content = self._read(record)
        return content, progress_after(self._latest, charged, content.sessions)

    def _read(self, record: SealedEpoch) -> EpochContent:
        return parse_content(self._store.get(record.content))
