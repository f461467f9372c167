"""A client and a router that keep one session between them, in whatever order things happen: both say the same.

The router's side is the real one over a real SQLite file; the client keeps its own voucher book and its own log.
"""

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from coincurve import PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import MINERS, SESSION, make_receipt, make_terms
from tristrata.protocol.ids import Caip2, RequestId
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.protocol.voucher import SignedVoucher, covers
from tristrata.protocol.voucher_book import (
    Acknowledge,
    ChargeSeen,
    ExposureReached,
    Release,
    Reserve,
    ServiceRefused,
    VoucherBook,
    apply,
)
from tristrata.router.own_keys import MAX_VOUCHERS, OwnKeyDesk, PostedVoucher, VoucherConflict
from tristrata.router.sessions import HubFacts, ServedSession, replay, with_awaiting
from tristrata.storage.awaiting import AwaitingReceipt, AwaitingReceipts
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook

HUB = HubFacts(Caip2("eip155:31339"), b"\x05" * 32, {})
KEY, STRANGER = PrivateKey(), PrivateKey()
CAP, LIMIT, DEPOSIT = 1_000, 600, 20_000
TERMS = replace(make_terms(CAP), session_key=address_of(KEY.public_key))
EMPTY = VoucherBook(session=SESSION, terms=TERMS, deposit=Amount(DEPOSIT))


class RouterSide:
    """One run of a router's process, over a database that outlives it."""

    def __init__(self, database: Database) -> None:
        self.book, self.store = ReceiptBook(database), AwaitingReceipts(database)
        self.published: list[SignedVoucher] = []
        self.desk = OwnKeyDesk(self.book, self.store, self._tell, Amount(LIMIT))

    def _tell(self, session: ServedSession, signed: SignedVoucher) -> None:
        self.published.append(signed)

    async def open(self) -> ServedSession:
        awaiting = await self.store.of(SESSION)
        book = with_awaiting(await replay(EMPTY, self.book), awaiting)
        by_request = {each.receipt.request_id: each for each in awaiting}
        return ServedSession(HUB, b"\x77" * 20, book, None, awaiting=by_request)

    async def answer(self, session: ServedSession, receipt: Receipt, most: int) -> None:
        """As the desk does it: reserve the most that it may cost, then take in the receipt."""
        self.desk.require_vouchers(session, Amount(most))
        session.book, _ = apply(session.book, Reserve(receipt.request_id, Amount(most)))
        ended = Milliseconds(receipt.request_id[0] * 256 + receipt.request_id[1])
        await self.desk.add(session, AwaitingReceipt(HUB.chain, receipt, bytes(65), bytes(32), bytes(32), ended))


class Client:
    """The owner's side: what it signed is written down before it is sent."""

    def __init__(self) -> None:
        self.log: list[tuple[Receipt, SignedVoucher]] = []
        self.sent = 0

    def sign(self, receipt: Receipt) -> None:
        book = EMPTY
        for known in (*(entry for entry, _ in self.log), receipt):  # from its log alone, as after a restart
            big = replace(book, deposit=Amount(2**90), terms=replace(TERMS, exposure_cap=Amount(2**90)))
            reserved, _ = apply(big, Reserve(known.request_id, known.price))
            book, [due] = apply(reserved, Acknowledge(known))
        signature = sign(KEY, digest(HUB.separator, due.voucher.struct_hash))
        self.log.append((receipt, SignedVoucher(due.voucher, due.splits, signature)))

    def unsent(self) -> list[PostedVoucher]:
        rest = self.log[self.sent : self.sent + MAX_VOUCHERS]
        return [PostedVoucher(receipt.request_id, signed.signature) for receipt, signed in rest]


class OwnKeys(RuleBasedStateMachine):
    """Whatever is lost or restarted, both books agree, nothing is paid twice, and exposure stays below the caps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="accounts-own-keys-"))
        self.loop = asyncio.new_event_loop()
        self.database = self.run(Database.open(self.folder / "router.sqlite"))
        self.client = Client()
        self.answered: dict[RequestId, Receipt] = {}
        self.restart_router()

    def run(self, work):
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.database.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    @rule()
    def restart_router(self) -> None:
        charged = self.session.book.charged if hasattr(self, "session") else Amount(0)
        self.router = RouterSide(self.database)
        self.session = self.run(self.router.open())
        self.session.book, _ = apply(self.session.book, ChargeSeen(charged))

    @rule(price=st.integers(1, 300), slack=st.integers(0, 200), miner=st.sampled_from(MINERS))
    def answer(self, price: int, slack: int, miner: bytes) -> None:
        request_id = RequestId(len(self.answered).to_bytes(2, "big") + bytes(30))
        receipt = make_receipt(request_id, price, miner=miner)
        before = self.session.book
        try:
            self.run(self.router.answer(self.session, receipt, price + slack))
        except ServiceRefused:
            assert before.exposure + price + slack > CAP or before.in_flight + price + slack > LIMIT
            assert self.session.book == before
        else:
            self.answered[request_id] = receipt

    @rule()
    def answer_is_lost(self) -> None:
        try:
            self.router.desk.require_vouchers(self.session, Amount(50))
            reserved, _ = apply(self.session.book, Reserve(b"\xff" * 32, Amount(50)))
        except ServiceRefused:
            return
        self.session.book, _ = apply(reserved, Release(b"\xff" * 32))

    @rule(data=st.data())
    def client_signs(self, data: st.DataObject) -> None:
        signed = {receipt.request_id for receipt, _ in self.client.log}
        open_ones = [request_id for request_id in self.answered if request_id not in signed]
        for request_id in data.draw(st.permutations(open_ones)):
            self.client.sign(self.answered[request_id])

    @rule(answer_arrives=st.booleans(), times=st.integers(1, 2))
    def client_posts(self, answer_arrives: bool, times: int) -> None:
        posted = self.client.unsent()

        async def post() -> list[int]:
            return await asyncio.gather(*(self.router.desk.take(self.session, posted) for _ in range(times)))

        before = self.session.book.tree.count
        taken = self.run(post())
        assert sum(taken) == self.session.book.tree.count - before
        if answer_arrives:
            self.client.sent += len(posted)

    @rule()
    def somebody_forges(self) -> None:
        before, awaiting = self.session.book, dict(self.session.awaiting)
        book = before
        posted = []
        for request_id, each in awaiting.items():
            book, [due] = apply(book, Acknowledge(each.receipt))
            key = KEY if posted else STRANGER
            posted.append(PostedVoucher(request_id, sign(key, digest(HUB.separator, due.voucher.struct_hash))))
        for forged in (posted, posted[1:], [PostedVoucher(b"\xee" * 32, bytes(65))]):
            if forged:
                with pytest.raises(VoucherConflict):
                    self.run(self.router.desk.take(self.session, forged))
        assert (self.session.book, self.session.awaiting) == (before, awaiting)

    @rule()
    def hub_charges(self) -> None:
        self.session.book, _ = apply(self.session.book, ChargeSeen(self.session.book.cumulative))

    @invariant()
    def books_agree(self) -> None:
        entries = self.run(self.router.book.entries(SESSION))
        assert [(e.receipt, e.voucher) for e in entries] == self.client.log[: len(entries)]
        assert len(entries) >= self.client.sent
        book = self.session.book
        assert (book.tree.count, book.cumulative) == (len(entries), sum(e.receipt.price for e in entries))
        assert all(covers(new.voucher.splits, old.voucher.splits) for old, new in itertools.pairwise(entries))

    @invariant()
    def nothing_is_lost_or_paid_twice(self) -> None:
        entries = self.run(self.router.book.entries(SESSION))
        paid = [entry.receipt.request_id for entry in entries]
        assert len(set(paid)) == len(paid)
        assert set(paid) | set(self.session.awaiting) == set(self.answered)
        assert not set(paid) & set(self.session.awaiting)
        assert [each.receipt.request_id for each in self.run(self.router.store.of(SESSION))] == list(
            self.session.awaiting
        )
        if self.router.published:
            assert self.router.published[-1] == entries[-1].voucher

    @invariant()
    def exposure_is_below_the_caps(self) -> None:
        book = self.session.book
        assert book.exposure <= CAP
        assert book.in_flight == sum(each.receipt.price for each in self.session.awaiting.values()) <= LIMIT


TestOwnKeys = OwnKeys.TestCase
TestOwnKeys.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


async def test_require_vouchers__at_a_cap__says_whose_and_what_to_do(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "router.sqlite")
    router = RouterSide(database)
    session = await router.open()
    with pytest.raises(ExposureReached, match="more than the 600 that this router takes"):
        await router.answer(session, make_receipt(b"\x01" * 32, 601), 601)
    await router.answer(session, make_receipt(b"\x01" * 32, 500), 500)
    with pytest.raises(ExposureReached, match="1 receipts await your vouchers") as refused:
        await router.answer(session, make_receipt(b"\x02" * 32, 101), 101)
    assert "/awaiting" in refused.value.remedy
    await database.close()


async def test_take__one_list_twice_at_once_or_again__acknowledges_it_once(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "router.sqlite")
    router, client = RouterSide(database), Client()
    session = await router.open()
    for number in range(3):
        receipt = make_receipt(bytes([number]) * 32, 10)
        await router.answer(session, receipt, 10)
        client.sign(receipt)
    posted = client.unsent()

    taken = await asyncio.gather(*(router.desk.take(session, posted) for _ in range(3)))
    assert sorted(taken) == [0, 0, 3]
    assert await router.desk.take(session, posted) == 0
    for conflicting in (
        [replace(posted[0], signature=posted[1].signature)],  # acknowledged, by another signature
        [replace(posted[0], request_id=b"\x09" * 32), posted[1]],
    ):
        with pytest.raises(VoucherConflict):
            await router.desk.take(session, conflicting)
    assert session.book.tree.count == 3
    await database.close()
