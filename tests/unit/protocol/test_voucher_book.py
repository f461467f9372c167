"""The router's side of a session: whatever happens in whatever order, the money rules hold."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from tristrata.protocol.ids import Address
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.receipt import Assurance, Receipt
from tristrata.protocol.terms import Terms
from tristrata.protocol.units import Amount, share_of
from tristrata.protocol.voucher import SignedVoucher, Split, covers, splits_hash
from tristrata.protocol.voucher_book import (
    Acknowledge,
    BudgetExhausted,
    ChargeSeen,
    DepositSeen,
    EndingSeen,
    ExposureReached,
    ReceiptRefused,
    Release,
    Reserve,
    ServiceRefused,
    SessionEnding,
    VoucherBook,
    VoucherDue,
    apply,
)

SESSION = b"\x0a" * 32
ROUTER = Address(b"\xee" * 20)
MINERS = [Address(bytes([number]) * 20) for number in range(1, 4)]


def make_terms(exposure_cap: int = 1_000) -> Terms:
    return Terms(
        session_key=Address(b"\xaa" * 20),
        router=ROUTER,
        managed=False,
        model_id=b"\x02" * 32,
        assurance=Assurance.NONE,
        replicas=1,
        router_bps=500,
        max_prompt_price=10**6,
        max_output_price=10**6,
        max_per_day=0,
        exposure_cap=exposure_cap,
        expiry=2**40,
    )


def make_receipt(request_id: bytes, price: int, miner: Address = MINERS[0], session: bytes = SESSION) -> Receipt:
    return Receipt(
        session=session,
        request_id=request_id,
        miner=miner,
        model_id=b"\x02" * 32,
        prompt_hash=b"\x03" * 32,
        output_hash=b"\x04" * 32,
        prompt_tokens=1,
        output_tokens=1,
        price=Amount(price),
        started_at=1,
        finished_at=2,
        assurance=Assurance.NONE,
        evidence=bytes(32),
    )


def make_book(deposit: int = 5_000, exposure_cap: int = 1_000) -> VoucherBook:
    return VoucherBook(session=SESSION, terms=make_terms(exposure_cap), deposit=Amount(deposit))


def test_reserve__more_than_the_deposit__names_what_is_left() -> None:
    with pytest.raises(BudgetExhausted, match="may cost 51; of the deposit of 50, 50 is left"):
        apply(make_book(deposit=50), Reserve(b"r", Amount(51)))


def test_reserve__what_is_in_flight__counts_against_the_deposit() -> None:
    book, _ = apply(make_book(deposit=100), Reserve(b"a", Amount(60)))

    with pytest.raises(BudgetExhausted, match="40 is left"):
        apply(book, Reserve(b"b", Amount(41)))
    full, _ = apply(book, Reserve(b"b", Amount(40)))
    assert (full.available, full.exposure) == (0, 100)


def test_reserve__up_to_the_exposure_cap__is_just_allowed() -> None:
    book, _ = apply(make_book(exposure_cap=100), Reserve(b"a", Amount(100)))

    assert (book.exposure, book.available) == (100, 0)


def test_release__one_of_several__leaves_the_others() -> None:
    book = make_book()
    for request in (b"a", b"b", b"c"):
        book, _ = apply(book, Reserve(request, Amount(1)))

    book, _ = apply(book, Release(b"b"))

    assert set(book.reserved) == {b"a", b"c"}


def test_reserve__beyond_the_exposure_cap__is_refused_until_charged() -> None:
    book, _ = apply(make_book(exposure_cap=100), Reserve(b"a", Amount(80)))
    book, _ = apply(book, Acknowledge(make_receipt(b"a", 80)))

    with pytest.raises(ExposureReached, match="80 is open already"):
        apply(book, Reserve(b"b", Amount(30)))
    charged, _ = apply(book, ChargeSeen(Amount(80)))
    assert apply(charged, Reserve(b"b", Amount(30)))[0].exposure == 30


def test_reserve__session_ending__is_refused() -> None:
    book, _ = apply(make_book(), EndingSeen())

    with pytest.raises(SessionEnding):
        apply(book, Reserve(b"a", Amount(1)))


@pytest.mark.parametrize(
    ("receipt", "rule"),
    [
        (make_receipt(b"unknown", 1), "awaits a receipt"),
        (make_receipt(b"a", 1, session=b"\x0b" * 32), "awaits a receipt"),
        (make_receipt(b"a", 1, session=bytes(32)), "awaits a receipt"),
        (make_receipt(b"a", 1, session=b"\xff" * 32), "awaits a receipt"),
        (make_receipt(b"a", 11), "at most 10 was reserved"),
    ],
)
def test_acknowledge__receipt_that_does_not_fit__changes_nothing(receipt: Receipt, rule: str) -> None:
    book, _ = apply(make_book(), Reserve(b"a", Amount(10)))

    with pytest.raises(ReceiptRefused, match=rule):
        apply(book, Acknowledge(receipt))
    assert book.cumulative == 0


def test_acknowledge__same_receipt_twice__is_refused() -> None:
    book, _ = apply(make_book(), Reserve(b"a", Amount(10)))
    book, _ = apply(book, Acknowledge(make_receipt(b"a", 10)))

    with pytest.raises(ReceiptRefused):
        apply(book, Acknowledge(make_receipt(b"a", 10)))


def test_acknowledge__thirty_second_miner__has_no_room_in_the_voucher() -> None:
    book = make_book()
    newcomers = [Address(bytes([9, number]) * 10) for number in range(1, 33)]
    for number, miner in enumerate(newcomers[:31]):
        assert book.has_room
        book, _ = apply(book, Reserve(bytes([number]), Amount(1)))
        book, _ = apply(book, Acknowledge(make_receipt(bytes([number]), 1, miner)))

    assert not book.has_room
    book, _ = apply(book, Reserve(b"last", Amount(1)))
    with pytest.raises(ReceiptRefused, match="32 payees"):
        apply(book, Acknowledge(make_receipt(b"last", 1, newcomers[31])))


@given(st.integers(0, 10**9))
def test_acknowledge__any_price__is_split_without_a_cent_lost(price: int) -> None:
    book, _ = apply(make_book(deposit=10**10, exposure_cap=10**10), Reserve(b"a", Amount(price)))

    book, [due] = apply(book, Acknowledge(make_receipt(b"a", price)))

    share = share_of(Amount(price), book.terms.router_bps)
    expected = [Split(ROUTER, share), Split(MINERS[0], Amount(price - share))]
    assert sorted(due.splits) == sorted(split for split in expected if split.amount)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30))
def test_acknowledge__many_cheap_answers__the_router_has_its_share_of_the_whole(prices: list[int]) -> None:
    book = make_book(deposit=10**10, exposure_cap=10**10)

    for number, price in enumerate(prices):
        before = dict(book.earned)
        book, _ = apply(book, Reserve(bytes([number]), Amount(price)))
        book, _ = apply(book, Acknowledge(make_receipt(bytes([number]), price)))
        assert all(book.earned[payee] >= amount for payee, amount in before.items())

    assert book.earned[ROUTER] == share_of(Amount(sum(prices)), book.terms.router_bps)


@dataclass
class History:
    vouchers: list[VoucherDue] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)


class AnyOrder(RuleBasedStateMachine):
    """Requests, answers, charges and top-ups in any order, from many miners at once."""

    def __init__(self) -> None:
        super().__init__()
        self.book = make_book(deposit=3_000, exposure_cap=900)
        self.history = History()
        self.number = 0

    @rule(cost=st.integers(0, 1_200))
    def request(self, cost: int) -> None:
        self.number += 1
        before = self.book
        try:
            self.book, _ = apply(before, Reserve(self.number.to_bytes(32, "big"), Amount(cost)))
        except ServiceRefused:
            assert cost > before.available or before.ending
        else:
            assert cost <= before.available

    @precondition(lambda self: self.book.reserved)
    @rule(data=st.data(), miner=st.sampled_from(MINERS))
    def answer(self, data: st.DataObject, miner: Address) -> None:
        request_id, most = data.draw(st.sampled_from(sorted(self.book.reserved.items())))
        receipt = make_receipt(request_id, data.draw(st.integers(0, most)), miner)
        self.book, [due] = apply(self.book, Acknowledge(receipt))
        self.history.vouchers.append(due)
        self.history.receipts.append(receipt)

    @precondition(lambda self: self.book.reserved)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self.book, _ = apply(self.book, Release(data.draw(st.sampled_from(sorted(self.book.reserved)))))

    @precondition(lambda self: self.history.vouchers)
    @rule(data=st.data())
    def charge(self, data: st.DataObject) -> None:
        due = data.draw(st.sampled_from(self.history.vouchers))
        self.book, _ = apply(self.book, ChargeSeen(due.voucher.cumulative))

    @rule(extra=st.integers(0, 1_000))
    def top_up(self, extra: int) -> None:
        self.book, _ = apply(self.book, DepositSeen(Amount(self.book.deposit + extra)))

    @invariant()
    def money_rules_hold(self) -> None:
        book = self.book
        assert book.charged <= book.cumulative <= book.deposit  # P1, P2
        assert book.cumulative + book.in_flight <= book.deposit
        assert book.exposure <= book.terms.exposure_cap  # P4
        assert book.cumulative == sum(book.earned.values()) == sum(r.price for r in self.history.receipts)

    @invariant()
    def vouchers_only_grow(self) -> None:
        tree = IncrementalTree()
        previous: VoucherDue | None = None
        for receipt, due in zip(self.history.receipts, self.history.vouchers, strict=True):
            tree = tree.append(receipt.struct_hash)
            assert due.voucher.head == tree.root
            assert due.voucher.count == tree.count == due.position + 1
            assert due.voucher.splits == splits_hash(due.splits)
            assert sum(split.amount for split in due.splits) == due.voucher.cumulative
            assert previous is None or covers(due.splits, previous.splits)
            previous = due


TestAnyOrder = AnyOrder.TestCase


def test_book__replayed_from_its_receipts__is_the_same() -> None:
    book = make_book()
    for number in range(5):
        book, _ = apply(book, Reserve(bytes([number]), Amount(10)))
        book, [due] = apply(book, Acknowledge(make_receipt(bytes([number]), number, MINERS[number % 3])))

    fresh = make_book()
    for number in range(5):
        fresh, _ = apply(fresh, Reserve(bytes([number]), Amount(10)))
        fresh, [again] = apply(fresh, Acknowledge(make_receipt(bytes([number]), number, MINERS[number % 3])))

    assert fresh == book
    assert SignedVoucher(again.voucher, again.splits, b"") == SignedVoucher(due.voucher, due.splits, b"")
    assert replace(fresh, ending=True) != book
