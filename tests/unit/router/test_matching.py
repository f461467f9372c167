from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import MINERS, make_book
from tristrata.fabric.frames import Offer, Status
from tristrata.protocol.ids import Address, eip155
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher_book import VoucherBook
from tristrata.router.matching import FeatureMissing, Market, NoCapacity

HUB = eip155(31_339)
MODEL = b"\x02" * 32
CHEAP = Status(MINERS[0], b"run", (Offer(HUB, MODEL, 10, 20),), 2, 0, "", 0.0, False)
DEAR = Status(MINERS[1], b"run", (Offer(HUB, MODEL, 100, 200),), 2, 0, "", 0.0, False)
ALL_FEATURES = ("json", "logprobs", "tools")


def miner_of(statuses: list[Status], book: VoucherBook, **options: Any) -> Address:
    return Market(statuses).match(HUB, MODEL, book, **options).miner


def test_match__two_fit__the_cheaper_answers() -> None:
    assert miner_of([DEAR, CHEAP], make_book()) == MINERS[0]


def test_match__much_faster_at_a_higher_price__answers() -> None:
    fast, slow = replace(DEAR, speed=1_000.0), replace(CHEAP, speed=1.0)

    assert miner_of([slow, fast], make_book()) == MINERS[1]


def test_match__session_is_bound__its_miner_answers_while_it_fits() -> None:
    book = make_book()

    assert miner_of([CHEAP, DEAR], book, bound=MINERS[1]) == MINERS[1]
    full = replace(DEAR, busy=2)
    assert miner_of([CHEAP, full], book, bound=MINERS[1]) == MINERS[0]


def test_match__this_router_fills_the_slots__others_answer_until_one_is_free() -> None:
    market, book = Market([CHEAP, DEAR]), make_book()
    for _ in range(2):
        market.hold(MINERS[0])

    assert market.match(HUB, MODEL, book).miner == MINERS[1]
    assert market.match(HUB, MODEL, book, bound=MINERS[0]).miner == MINERS[1]
    market.put(CHEAP)  # the miner itself says that it is idle: it has not seen them yet
    assert market.match(HUB, MODEL, book).miner == MINERS[1]
    market.release(MINERS[0])
    assert market.match(HUB, MODEL, book).miner == MINERS[0]


def test_match__none_fits__counts_why() -> None:
    book = make_book()
    book = replace(book, terms=replace(book.terms, max_output_price=150))
    ids = [bytes([7, number]) * 10 for number in range(4)]
    statuses = [
        replace(CHEAP, miner=ids[0], offers=(Offer(HUB, b"\x09" * 32, 1, 1),)),
        replace(CHEAP, miner=ids[1], offers=(Offer(eip155(1), MODEL, 1, 1),)),
        replace(CHEAP, miner=ids[2], busy=2),
        replace(CHEAP, miner=ids[3], draining=True),
        DEAR,
    ]

    with pytest.raises(NoCapacity, match="no_capacity: model 2, busy 1, leaving 1, price 1"):
        miner_of(statuses, book)
    with pytest.raises(NoCapacity, match="no miner is connected"):
        miner_of([], book)
    with pytest.raises(NoCapacity, match="leaving 1"):
        miner_of([CHEAP], book, excluded=frozenset({MINERS[0]}))


def test_match__voucher_is_full__only_known_payees_fit() -> None:
    payees = [Address(bytes([9, number]) * 10) for number in range(1, 32)]
    book = replace(make_book(), earned=dict.fromkeys(payees, Amount(1)))

    with pytest.raises(NoCapacity, match="payees 1"):
        miner_of([CHEAP], book)
    known = replace(CHEAP, miner=payees[0])
    assert miner_of([CHEAP, known], book) == payees[0]


def test_match__feature_is_needed__only_miners_that_have_it_answer() -> None:
    able = replace(DEAR, offers=(Offer(HUB, MODEL, 100, 200, ("json", "logprobs")),))

    assert miner_of([CHEAP, able], make_book(), needs=frozenset({"json"})) == MINERS[1]
    assert miner_of([CHEAP, able], make_book(), bound=MINERS[0], needs=frozenset({"json"})) == MINERS[1]
    with pytest.raises(FeatureMissing, match="tools"):
        miner_of([CHEAP, able], make_book(), needs=frozenset({"json", "tools"}))
    with pytest.raises(NoCapacity, match="busy 1"):
        miner_of([CHEAP, replace(able, busy=2)], make_book(), needs=frozenset({"json"}))


def test_match__the_best_300_are_too_dear__a_cheap_slow_one_is_found() -> None:
    dear = [
        Status(bytes([number // 256, number % 256]) * 10, b"", (Offer(HUB, MODEL, 900, 900),), 1, 0, "", 1e6, False)
        for number in range(300)
    ]
    slow = replace(CHEAP, speed=0.001)
    book = make_book()
    book = replace(book, terms=replace(book.terms, max_prompt_price=500))

    assert miner_of([*dear, slow], book) == MINERS[0]


statuses = st.builds(
    Status,
    miner=st.integers(0, 12).map(lambda number: bytes([number]) * 20),
    run=st.just(b""),
    offers=st.lists(
        st.builds(
            Offer,
            chain=st.sampled_from([HUB, eip155(1)]),
            model_id=st.sampled_from([MODEL, b"\x03" * 32]),
            prompt_price=st.integers(0, 5),
            output_price=st.integers(0, 5),
            features=st.sampled_from([(), ("json",), ALL_FEATURES, ("unheard of",)]),
        ),
        max_size=3,
        unique_by=lambda offer: (offer.chain, offer.model_id),
    ).map(tuple),
    slots=st.integers(1, 3),
    busy=st.integers(0, 3),
    region=st.just(""),
    speed=st.sampled_from([0.0, 1.0, 20.0, 35.5]),
    draining=st.booleans(),
)
changes = st.lists(
    st.one_of(
        statuses,
        st.tuples(st.sampled_from(["remove", "hold", "release"]), st.integers(0, 12).map(lambda n: bytes([n]) * 20)),
    ),
    max_size=40,
)


@given(changes, st.integers(0, 5), st.integers(0, 5), st.sampled_from([(), ("json",), ("tools", "logprobs")]))
def test_match__after_any_changes__is_what_looking_at_all_gives(
    changes: list[Any], prompt_ceiling: int, output_ceiling: int, needs: tuple[str, ...]
) -> None:
    market, known, held = Market(), dict[bytes, Status](), dict[bytes, int]()
    for change in changes:
        if isinstance(change, Status):
            market.put(change)
            known[change.miner] = change
            continue
        what, miner = change
        if what == "remove":
            market.remove(miner)
            known.pop(miner, None)
        elif what == "hold":
            market.hold(miner)
            held[miner] = held.get(miner, 0) + 1
        elif held.get(miner):
            market.release(miner)
            held[miner] -= 1
    book = make_book()
    terms = replace(book.terms, max_prompt_price=prompt_ceiling, max_output_price=output_ceiling)
    book = replace(book, terms=terms)

    fitting = []
    for status in known.values():
        load = max(status.busy, held.get(status.miner, 0)) / status.slots
        for offer in status.offers:
            asked = (offer.chain, offer.model_id) == (HUB, MODEL) and set(needs) <= set(offer.features)
            affordable = offer.prompt_price <= prompt_ceiling and offer.output_price <= output_ceiling
            if asked and affordable and not status.draining and load < 1:
                base = (offer.prompt_price + offer.output_price) / (status.speed or 20.0)
                fitting.append(((1 + load) * base, status.miner))
    if fitting:
        assert market.match(HUB, MODEL, book, needs=frozenset(needs)).miner == min(fitting)[1]
    else:
        with pytest.raises((NoCapacity, FeatureMissing)):
            market.match(HUB, MODEL, book, needs=frozenset(needs))
