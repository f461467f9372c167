"""Proposals over a real receipt book and content store: what they list and leave out, and what a validator says."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from coincurve import PrivateKey
from msgspec.structs import replace
from structlog.testing import capture_logs

from tests.integration.storage.test_receipt_book import make_entry
from tests.unit.protocol.test_epoch import KEY, MINER, NONSENSE, charge_of
from tests.unit.protocol.test_voucher_book import make_receipt
from tristrata.bindings.contract import Event
from tristrata.bindings.history import HubHistory, SealedContents
from tristrata.bindings.hub import Hub
from tristrata.chains.evm import EvmChain, Log
from tristrata.config.manifest import DeployedContract, Manifest
from tristrata.config.network import read_network, shipped_network
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.epoch import (
    ChargedSession,
    EpochWrong,
    SessionReceipts,
    SignedReceipt,
    content_of,
    parse_content,
)
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.settler.proposals import Proposer
from tristrata.storage.attestations import Attestations
from tristrata.storage.bulletin import Bulletin
from tristrata.storage.content_store import ContentMissing, ContentStore
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook
from tristrata.validator.audit import HubAudit

A, B = SessionId(b"\x0a" * 32), SessionId(b"\x0b" * 32)
CONTRACTS = ("TestDollar", "ModelRegistry", "MinerRegistry", "RouterRegistry", "Sessions", "Settlement", "Outbox")
AUTHOR = Address(b"\xaa" * 20)


@dataclass
class Ledger:
    """One hub's history as a test writes it, and everything that a settler keeps on disk."""

    folder: Path
    history: HubHistory
    book: ReceiptBook

    @property
    def store(self) -> ContentStore:
        return ContentStore(self.folder / "content")

    def proposer(self) -> Proposer:
        """A settler's, that was just started."""
        return Proposer(self.history, self.book, self.store, Attestations(Bulletin(self.folder / "bulletin")), AUTHOR)

    async def answer(self, session: SessionId, first: int, prices: list[int], key: PrivateKey = KEY) -> SessionReceipts:
        """Answers that are in the book."""
        receipts = []
        for position, price in enumerate(prices, first):
            receipt = make_receipt(keccak(session + bytes([position])), price, MINER, session)
            separator = self.history.hub.settlement_domain.separator
            signed = SignedReceipt(receipt, sign(key, digest(separator, receipt.struct_hash)))
            entry = make_entry(position, session)
            await self.book.append(replace(entry, receipt=receipt, signature=signed.signature))
            receipts.append(signed)
        return SessionReceipts(session, first, tuple(receipts))

    def charge(self, block: int, charge: ChargedSession) -> None:
        words = [split.packed for split in charge.splits]
        self._happens(
            "Charged",
            block,
            session_id=charge.session,
            count=charge.count,
            cumulative=charge.cumulative,
            head=charge.head,
            splits=words,
        )

    def seal(self, epoch: Epoch) -> None:
        self._happens(
            "Sealed",
            epoch.block_number + 1,
            epoch=epoch.epoch,
            block_number=epoch.block_number,
            root=bytes(32),
            messages_root=bytes(32),
            receipts_root=epoch.receipts_root,
            payouts_root=epoch.payouts_root,
            children_root=bytes(32),
            content=epoch.content,
        )

    def register(self, key: PrivateKey = KEY, block: int = 1) -> None:
        self._happens("MinerRegistered", block, miner=MINER, signing_key=address_of(key.public_key))

    def listed_in(self, epoch: Epoch) -> dict[SessionId, int]:
        """The sessions that the epoch accounts for, each with its first position."""
        return {part.session: part.first for part in parse_content(self.store.get(epoch.content)).sessions}

    def _happens(self, name: str, block: int, **values: object) -> None:
        self.history._take(Event(name, values, Log(bytes(20), (), b"", block, bytes(32))))
        self.history.head = block


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    network = read_network(shipped_network("local"))
    caip2 = network.chains["arbitrum"].caip2
    deployed = {name: DeployedContract(f"0x{number:040x}", "0x", 1) for number, name in enumerate(CONTRACTS, 1)}
    hub = Hub(network, Manifest({caip2: deployed}), "arbitrum", EvmChain("arbitrum", caip2, "http://127.0.0.1:1"))
    database = await Database.open(tmp_path / "book.sqlite")
    found = Ledger(tmp_path, HubHistory(hub), ReceiptBook(database))
    found.register()
    yield found
    await database.close()


async def test_propose__charge_without_receipts__is_left_out_and_warned_about_once(ledger: Ledger) -> None:
    part = await ledger.answer(A, 0, [10, 20])
    ledger.charge(2, charge_of(part))
    ledger.charge(3, NONSENSE)
    proposer = ledger.proposer()

    with capture_logs() as logs:
        epoch = await proposer.propose(1, 4, has_new_children=False)
        assert epoch is not None
        ledger.history.head = 4
        assert HubAudit(ledger.history, ledger.store).is_right(epoch)
        assert ledger.listed_in(epoch) == {A: 0}
        ledger.seal(epoch)
        for block in (6, 7):
            assert await proposer.propose(2, block, has_new_children=False) is None
        with_child = await proposer.propose(2, 8, has_new_children=True)
        ledger.charge(9, replace(NONSENSE, count=8, cumulative=60))
        assert await proposer.propose(2, 9, has_new_children=False) is None

    assert with_child is not None and ledger.listed_in(with_child) == {}
    assert with_child.payouts_root == epoch.payouts_root
    assert [(log["count"], log["reason"]) for log in logs] == [
        (7, "receipts are missing from here to 6, all charged"),
        (8, "receipts are missing from here to 7, all charged"),
    ]


async def test_propose__receipts_come_after_the_charge__are_accounted_for_then(ledger: Ledger) -> None:
    early = await ledger.answer(A, 0, [10])
    elsewhere = Ledger(ledger.folder, ledger.history, ReceiptBook(await Database.open(ledger.folder / "other.sqlite")))
    late = await elsewhere.answer(A, 1, [5, 5])
    await elsewhere.book._database.close()
    ledger.charge(2, charge_of(early))
    proposer, audit = ledger.proposer(), HubAudit(ledger.history, ledger.store)
    first = await proposer.propose(1, 3, has_new_children=False)
    assert first is not None
    ledger.seal(first)
    ledger.charge(5, charge_of(early, late))
    assert await proposer.propose(2, 6, has_new_children=False) is None
    await ledger.answer(A, 1, [5])
    assert await proposer.propose(2, 7, has_new_children=False) is None
    await ledger.answer(A, 2, [5])

    for each in (proposer, ledger.proposer()):  # also after a restart
        second = await each.propose(2, 8, has_new_children=False)
        assert second is not None and ledger.listed_in(second) == {A: 1}
    ledger.seal(second)
    assert audit.check_sealed() is not None
    assert audit.check_sealed() is not None


async def test_propose__more_receipts_than_charged_with_another_head__is_tried_once(ledger: Ledger) -> None:
    part = await ledger.answer(A, 0, [10, 10, 10])
    two = charge_of(replace(part, receipts=part.receipts[:2]))
    ledger.charge(2, replace(two, head=b"\x66" * 32))
    proposer = ledger.proposer()
    assert await proposer.propose(1, 3, has_new_children=False) is None

    ground = await proposer._ground(1, 4)
    assert await proposer._candidates(ground) == []
    ledger.charge(5, charge_of(part))
    epoch = await proposer.propose(1, 6, has_new_children=False)
    assert epoch is not None and ledger.listed_in(epoch) == {A: 0}


async def test_propose__receipts_by_a_key_of_nobody_or_of_later__delay_their_session_alone(ledger: Ledger) -> None:
    new_key = PrivateKey(b"\x23" * 32)
    ledger.charge(2, charge_of(await ledger.answer(A, 0, [10, 20])))
    ledger.charge(2, charge_of(await ledger.answer(B, 0, [7], new_key)))
    proposer = ledger.proposer()

    with capture_logs() as logs:
        first = await proposer.propose(1, 4, has_new_children=False)
    assert first is not None and ledger.listed_in(first) == {A: 0}
    assert [log["reason"] for log in logs] == [
        f"the receipt's signature is wrong: it is by 0x{address_of(new_key.public_key).hex()}, "
        f"never a key of miner 0x{MINER.hex()}"
    ]
    ledger.history.head = 4
    assert HubAudit(ledger.history, ledger.store).is_right(first)

    ledger.seal(first)
    ledger.register(new_key, 6)
    restarted = ledger.proposer()
    assert await restarted.propose(2, 5, has_new_children=False) is None
    second = await ledger.proposer().propose(2, 6, has_new_children=False)
    assert second is not None and ledger.listed_in(second) == {B: 0}


async def test_audit__proposal_with_a_wrongly_signed_receipt__is_not_right(ledger: Ledger) -> None:
    part = await ledger.answer(A, 0, [10, 20])
    ledger.charge(2, charge_of(part))
    epoch = await ledger.proposer().propose(1, 3, has_new_children=False)
    assert epoch is not None
    ledger.history.head = 3
    audit = HubAudit(ledger.history, ledger.store)
    assert audit.is_right(epoch)

    forged = replace(part, receipts=(part.receipts[0], replace(part.receipts[1], signature=part.receipts[0].signature)))
    content = parse_content(ledger.store.get(epoch.content))
    stored = ledger.store.put(content_of(replace(content, sessions=(forged,))))
    with pytest.raises(EpochWrong, match="position 1: the receipt's signature is wrong"):
        audit.is_right(replace(epoch, content=stored))


async def test_contents__of_sealed_epochs__say_what_is_accounted_for_and_where(ledger: Ledger) -> None:
    one, proposer = await ledger.answer(A, 0, [10, 20]), ledger.proposer()
    ledger.charge(2, replace(charge_of(one), count=2, head=bytes(32)))
    other = await ledger.answer(B, 0, [7])
    ledger.charge(2, charge_of(other))
    epochs = [await proposer.propose(1, 3, has_new_children=False)]
    assert epochs[0] is not None
    ledger.seal(epochs[0])
    two = await ledger.answer(A, 2, [30])
    ledger.charge(5, charge_of(one, two))
    epochs.append(await proposer.propose(2, 6, has_new_children=False))
    assert epochs[1] is not None
    ledger.seal(epochs[1])

    contents = SealedContents(ledger.history, ledger.store)
    assert set(await contents.progress(2)) == {A, B}
    assert set(await contents.progress(1)) == {B}
    assert await contents.progress(0) == {}
    found = [await contents.epoch_with(A, position) for position in (0, 2, 3)]
    assert [record and record.epoch for record in found] == [2, 2, None]
    first = await contents.epoch_with(B, 0)
    assert first is not None and first.epoch == 1

    content = epochs[1].content.hex()
    (ledger.folder / "content" / content[:2] / content).unlink()
    restarted = SealedContents(ledger.history, ledger.store)
    assert set(await restarted.progress(1)) == {B}
    for call in (
        restarted.progress(2),
        restarted.epoch_with(A, 0),
        ledger.proposer().propose(3, 9, has_new_children=1),
    ):
        with pytest.raises(ContentMissing, match=content):
            await call
