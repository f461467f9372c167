import pytest
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import MINERS, make_book
from tristrata.fabric.frames import Offer, Status
from tristrata.protocol.ids import Address, eip155
from tristrata.protocol.units import Amount
from tristrata.router.matching import NoCapacity, match

HUB = eip155(31_339)
MODEL = b"\x02" * 32
CHEAP = Status(MINERS[0], b"run", (Offer(HUB, MODEL, 10, 20),), 2, 0, "", 0.0, False)
DEAR = Status(MINERS[1], b"run", (Offer(HUB, MODEL, 100, 200),), 2, 0, "", 0.0, False)


def test_match__two_fit__the_cheaper_answers() -> None:
    assert match(HUB, MODEL, make_book(), [DEAR, CHEAP]).miner == MINERS[0]


def test_match__much_faster_at_a_higher_price__answers() -> None:
    fast, slow = replace(DEAR, speed=1_000.0), replace(CHEAP, speed=1.0)

    assert match(HUB, MODEL, make_book(), [slow, fast]).miner == MINERS[1]


def test_match__session_is_bound__its_miner_answers_while_it_fits() -> None:
    book = make_book()

    assert match(HUB, MODEL, book, [CHEAP, DEAR], bound=MINERS[1]).miner == MINERS[1]
    full = replace(DEAR, busy=2)
    assert match(HUB, MODEL, book, [CHEAP, full], bound=MINERS[1]).miner == MINERS[0]


def test_match__none_fits__counts_why() -> None:
    book = make_book()
    book = replace(book, terms=replace(book.terms, max_output_price=150))
    statuses = [
        replace(CHEAP, offers=(Offer(HUB, b"\x09" * 32, 1, 1),)),
        replace(CHEAP, offers=(Offer(eip155(1), MODEL, 1, 1),)),
        replace(CHEAP, busy=2),
        replace(CHEAP, draining=True),
        DEAR,
    ]

    with pytest.raises(NoCapacity, match="no_capacity: model 2, busy 1, leaving 1, price 1"):
        match(HUB, MODEL, book, statuses)
    with pytest.raises(NoCapacity, match="no miner is connected"):
        match(HUB, MODEL, book, [])
    with pytest.raises(NoCapacity, match="leaving 1"):
        match(HUB, MODEL, book, [CHEAP], excluded=frozenset({MINERS[0]}))


def test_match__voucher_is_full__only_known_payees_fit() -> None:
    payees = [Address(bytes([9, number]) * 10) for number in range(1, 32)]
    book = replace(make_book(), earned=dict.fromkeys(payees, Amount(1)))

    with pytest.raises(NoCapacity, match="payees 1"):
        match(HUB, MODEL, book, [CHEAP])
    known = replace(CHEAP, miner=payees[0])
    assert match(HUB, MODEL, book, [CHEAP, known]).miner == payees[0]
