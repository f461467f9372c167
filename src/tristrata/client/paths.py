"""From a receipt to its path to Ethereum, built from what the chains say and what the content store holds.

Nothing is believed on the way: a path is only worth what `tristrata.protocol.proof.verify` makes of it.
"""

import asyncio
from collections.abc import Mapping

import msgspec

from tristrata.bindings.history import ChildAttested, HubHistory, SealedContents
from tristrata.bindings.history import SealedEpoch as SealedRecord
from tristrata.bindings.hub import Hub
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.config.network import Network
from tristrata.protocol.epoch import EpochWrong, Lane, child_leaf, parse_content
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, Caip2, ChainRef, SessionId
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.proof import EpochParts, ParentHop, ReceiptPath, ReceiptProof, SealedEpoch, make_path
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.signing import digest, recover
from tristrata.protocol.standard_tree import StandardTree, receipt_leaf
from tristrata.storage.content_store import ContentMissing, ContentStore

_BLOCKS_AT_ONCE = 5_000


class Climb(msgspec.Struct, frozen=True):
    """How far a receipt has come: the epoch of its hub that sealed it, and by which lane Ethereum has that on record.

    ``ledger_epoch`` is the epoch on Ethereum's ledger: the hub's own, or its parent's where the hub settles on another.
    """

    epoch: int | None = None
    ledger_epoch: int | None = None
    lane: Lane = Lane.NONE


_NOT_SEALED = Climb()
_LEDGER_LANES = {"Attested": Lane.ATTESTED, "Finalized": Lane.FINAL}


class PathFinder:
    """Finds paths on one network. Keeps each hub's history, so that the second path is found faster."""

    def __init__(self, network: Network, hubs: Mapping[Caip2, Hub], security: Security, store: ContentStore) -> None:
        self._network = network
        self._security = security
        self._store = store
        self._histories = {hub.name: HubHistory(hub) for hub in hubs.values()}
        self._contents = {name: SealedContents(history, store) for name, history in self._histories.items()}
        self._ledger: dict[tuple[ChainRef, int], tuple[bytes, Lane]] = {}
        self._ledger_block = security.first_block
        self._ledger_lock = asyncio.Lock()

    async def catch_up(self) -> None:
        """Take in what the hubs and Ethereum's ledger say now; `climb` answers from it."""
        await asyncio.gather(*(history.catch_up(Level.SOFT) for history in self._histories.values()))
        async with self._ledger_lock:
            head = (await self._security.chain.block(Level.SOFT)).number
            while self._ledger_block <= head:
                last = min(head, self._ledger_block + _BLOCKS_AT_ONCE - 1)
                for event in await self._security.events(self._ledger_block, last):
                    if lane := _LEDGER_LANES.get(event.name):
                        values = event.values
                        self._ledger[ChainRef(values["chain"]), values["epoch"]] = (values["root"], lane)
                self._ledger_block = last + 1

    async def climb(self, hub: Hub, session: SessionId, position: int) -> Climb:
        """How far the receipt at ``position`` of the session had come at the last `catch_up`; asks no chain.

        Raises `ContentMissing` when the store does not hold an epoch that may list it.
        """
        record = await self._contents[hub.name].epoch_with(session, position)
        if record is None:
            return _NOT_SEALED
        parent = self._histories.get(self._network.chains[hub.name].parent or "")
        if parent is None:
            return self._on_ledger(record.epoch, hub.ref, record.epoch, record.root)
        hop = _parent_hop(hub, record, parent)
        if hop is None:
            return Climb(record.epoch)
        found = self._on_ledger(record.epoch, parent.hub.ref, hop.sealed.epoch, hop.sealed.root)
        return msgspec.structs.replace(found, lane=min(found.lane, hop.lane))  # as strong as its weakest

    def _on_ledger(self, epoch: int, chain: ChainRef, ledger_epoch: int, root: bytes) -> Climb:
        on_record, lane = self._ledger.get((chain, ledger_epoch), (b"", Lane.NONE))
        return Climb(epoch, ledger_epoch, lane) if on_record == root else Climb(epoch)

    async def prove(self, hub: Hub, receipt: Receipt, signature: bytes, position: int) -> ReceiptProof:
        """The receipt with its path as far as it has come; without one while no epoch has sealed it.

        Raises `ContentMissing` when the store does not hold an epoch that may list it.
        """
        domain = hub.settlement_domain
        signer = recover(digest(domain.separator, receipt.struct_hash), signature)
        path = await self._path(hub, receipt.session, position)
        return ReceiptProof(receipt, signature, Address(signer), domain, path)

    async def epoch_of(self, hub: Hub, session: SessionId, position: int) -> SealedRecord | None:
        """The epoch of the hub that sealed the receipt at ``position`` of the session; `None` while none has.

        Raises `ContentMissing` when the store does not hold an epoch that may list it.
        """
        await self._histories[hub.name].catch_up(Level.SOFT)
        return await self._contents[hub.name].epoch_with(session, position)

    async def audited(self, hub: Hub, miner: Address, epochs: int) -> list[tuple[SealedRecord, int]]:
        """The last ``epochs`` sealed epochs of a hub that list receipts of a miner, and how many, the newest first.

        As of the last `catch_up`. An epoch whose content is missing is left out.
        """
        found = []
        for record in reversed(self._histories[hub.name].sealed[-epochs:]):
            try:
                receipts = (await self._contents[hub.name].receipts_in(record)).get(miner, 0)
            except (ContentMissing, EpochWrong, InvalidValue):
                continue
            if receipts:
                found.append((record, receipts))
        return found

    async def _path(self, hub: Hub, session: SessionId, position: int) -> ReceiptPath | None:
        record = await self.epoch_of(hub, session, position)
        if record is None:
            return None
        sealed = _sealed(hub, record)
        parent_name = self._network.chains[hub.name].parent
        parent = self._histories.get(parent_name or "")
        hop = None
        if parent is not None:
            await parent.catch_up(Level.SOFT)
            if (hop := _parent_hop(hub, record, parent)) is None:
                return None
        siblings = self._siblings(record, session, position)
        ledger = self._security.ledger.address
        return make_path(position, siblings, sealed, hop, self._security.caip2, ledger)

    def _siblings(self, record: SealedRecord, session: SessionId, position: int) -> tuple[bytes, ...]:
        content = parse_content(self._store.get(record.content))
        leaves: list[bytes] = []
        index = 0
        for part in content.sessions:
            for number, signed in enumerate(part.receipts, part.first):
                if (part.session, number) == (session, position):
                    index = len(leaves)
                leaves.append(receipt_leaf(part.session, number, signed.receipt.struct_hash))
        return StandardTree(leaves).prove(index)


def _parent_hop(hub: Hub, record: SealedRecord, parent: HubHistory) -> ParentHop | None:
    """How the hub's epoch is in its parent's: in the first one that was sealed with it among the children."""
    arrived = next((child for child in parent.children if (child.chain, child.epoch) == (hub.ref, record.epoch)), None)
    if arrived is None:
        return None
    index = parent.child_indices[hub.ref]
    for sealed in parent.sealed:
        if sealed.sealed_in < arrived.block:
            continue
        tree = _children_tree(parent, sealed.children_root, sealed.sealed_in, arrived)
        if tree is not None:
            return ParentHop(index, Lane.ATTESTED, tree.prove(index), _sealed(parent.hub, sealed))
    return None


def _children_tree(
    parent: HubHistory, children_root: bytes, sealed_in: int, arrived: ChildAttested
) -> IndexedTree | None:
    """The children as the epoch with this root had them; `None` if ``arrived`` was not among them yet."""
    tree, has_it = IndexedTree(), False
    for child in parent.children:
        if child.block > sealed_in:
            break
        leaf = child_leaf(child.chain, child.epoch, child.root, Lane.ATTESTED)
        tree = tree.update(parent.child_indices[child.chain], leaf)
        has_it = has_it or child == arrived
        if has_it and tree.root == children_root:
            return tree
    return None


def _sealed(hub: Hub, record: SealedRecord) -> SealedEpoch:
    parts = EpochParts(record.messages_root, record.receipts_root, record.payouts_root, record.children_root)
    return SealedEpoch(hub.ref, record.epoch, parts, record.root)
