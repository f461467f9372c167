"""Vouchers that contradict each other: what becomes of the deposit, as pure sums and as a session's end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.protocol.test_session import KEY, NOW, OTHER_KEY, OWNER, charge, forfeit, make_session
from tests.unit.protocol.test_voucher_book import MINERS, ROUTER
from tristrata.protocol.forfeit import add_bonus, contradict, cut, merge
from tristrata.protocol.ids import Address
from tristrata.protocol.session import Close, Forfeited, ReplaceKey, Session, SessionRefused, apply
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher import Split, covers, make_splits

PAYEES = [ROUTER, *MINERS]
ONE, TWO, THREE = MINERS
earned = st.dictionaries(st.sampled_from(PAYEES), st.integers(0, 2**96 - 1).map(Amount))
splits = earned.map(make_splits)


def split(**amounts: int) -> tuple[Split, ...]:
    names = {"router": ROUTER, "one": ONE, "two": TWO, "three": THREE}
    return make_splits({names[name]: Amount(amount) for name, amount in amounts.items()})


def amounts(of: tuple[Split, ...]) -> dict[Address, int]:
    return {each.payee: each.amount for each in of}


@given(splits, splits)
def test_contradict__any_two__is_symmetric_and_means_that_neither_covers(
    one: tuple[Split, ...], other: tuple[Split, ...]
) -> None:
    assert contradict(one, other) == contradict(other, one)
    assert contradict(one, other) == (not covers(one, other) and not covers(other, one))


def test_contradict__least_amounts_of_different_payees__do() -> None:
    assert contradict(split(one=1), split(two=1))


@given(splits, splits)
def test_merge__any_two__gives_each_payee_the_higher_amount_in_order(
    charged: tuple[Split, ...], other: tuple[Split, ...]
) -> None:
    merged = merge(charged, other)

    assert [each.payee for each in merged] == sorted(amounts(charged).keys() | amounts(other).keys())
    for each in merged:
        mine, theirs = amounts(charged).get(each.payee, 0), amounts(other).get(each.payee, 0)
        assert (each.amount, each.charged) == (max(mine, theirs), mine)


@given(splits, splits, st.integers(0, 2**95 - 1))
def test_cut__any__pays_at_most_what_there_is_and_takes_back_nothing(
    charged: tuple[Split, ...], other: tuple[Split, ...], more: int
) -> None:
    merged = merge(charged, other)
    spendable = Amount(sum(each.charged for each in merged) + more)

    final = cut(merged, spendable)

    total = sum(each.amount for each in final)
    wanted = sum(each.amount for each in merged)
    assert total <= min(spendable, wanted)
    assert total > min(spendable, wanted) - max(1, len(merged))  # rounding loses less than one unit a payee
    assert all(was.charged <= now.amount <= was.amount for was, now in zip(merged, final, strict=True))


@given(splits, st.integers(0, 2**95 - 1).map(Amount))
def test_add_bonus__any__is_all_for_others_than_the_router(before: tuple[Split, ...], bonus: Amount) -> None:
    after = add_bonus(before, bonus, ROUTER)

    miners = [each for each in before if each.payee != ROUTER]
    grown = sum(each.amount for each in after) - sum(each.amount for each in before)
    assert grown == (bonus if miners else 0)
    assert amounts(after).get(ROUTER) == amounts(before).get(ROUTER)
    assert [each.payee for each in after] == [each.payee for each in before]
    whole = sum(each.amount for each in miners)
    for each in miners:
        assert amounts(after)[each.payee] - each.amount >= bonus * each.amount // whole


def charged_session(deposit: int = 1_000, max_per_day: int = 0, managed: bool = False) -> Session:
    session = make_session(deposit, max_per_day, managed)
    return apply(session, charge(1, {ROUTER: 10, ONE: 90}), NOW)[0]


def ended(session: Session, *arguments: object, **named: object) -> tuple[Session, Forfeited]:
    state, [event] = apply(session, forfeit(*arguments, **named), NOW)  # type: ignore[arg-type]
    assert isinstance(event, Forfeited)
    assert state.closed
    return state, event


def test_forfeit__own_keys__what_is_left_goes_to_the_miners_and_nothing_to_the_router() -> None:
    state, event = ended(charged_session(), 2, {ROUTER: 10, TWO: 30})

    assert event == Forfeited(2, split(router=10, one=90 + 652, two=30 + 218), Amount(0), Amount(0))
    assert (state.charge.splits, state.deposit, state.remaining) == (event.splits, 1_000, 0)


def test_forfeit__managed__owner_has_back_what_is_left_and_the_bond_pays_the_miners_instead() -> None:
    state, event = ended(charged_session(managed=True), 2, {ROUTER: 10, TWO: 30}, bond=10_000)

    assert event == Forfeited(2, split(router=10, one=90 + 652, two=30 + 218), Amount(870), Amount(870))
    assert state.deposit == 1_000


def test_forfeit__managed_but_the_bond_is_small__pays_what_there_is() -> None:
    _, event = ended(charged_session(managed=True), 2, {ROUTER: 10, TWO: 30}, bond=40)

    assert event == Forfeited(2, split(router=10, one=90 + 30, two=30 + 10), Amount(870), Amount(40))


def test_forfeit__managed__never_goes_above_the_daily_limit() -> None:
    session = charged_session(managed=True, max_per_day=150)

    _, event = ended(session, 2, {TWO: 10_000}, bond=0)

    assert event == Forfeited(2, split(router=10, one=90, two=50), Amount(850), Amount(0))
    tomorrow = Timestamp(NOW + 86_400)
    _, [event] = apply(session, forfeit(2, {TWO: 10_000}), tomorrow)
    assert event == Forfeited(2, split(router=10, one=90, two=150), Amount(750), Amount(0))


def test_forfeit__own_keys_and_a_daily_limit__takes_no_more_than_the_key_could_charge_today() -> None:
    _, event = ended(charged_session(max_per_day=150), 2, {TWO: 10_000})

    assert (event.refund, event.splits) == (850, split(router=10, one=90, two=50))


@pytest.mark.parametrize("router", [Address(b"\x01" * 20), Address(b"\xfe" * 20)])
def test_forfeit__wherever_the_router_stands_among_the_payees__it_gets_nothing_of_what_is_left(router: Address) -> None:
    session = make_session()
    session = replace(session, terms=replace(session.terms, router=router))
    session, _ = apply(session, charge(1, {router: 10, TWO: 90}), NOW)

    _, event = ended(session, 2, {router: 11})

    assert amounts(event.splits) == {router: 11, TWO: 989}


def test_forfeit__more_than_the_deposit__cuts_only_what_was_not_charged() -> None:
    _, event = ended(charged_session(), 2, {ONE: 50, TWO: 10**9, THREE: 10**9})

    assert event.splits == split(router=10, one=90, two=450, three=450)


def test_forfeit__nothing_is_left_for_any_miner__the_owner_has_the_rest_and_the_bond_is_spared() -> None:
    session, _ = apply(make_session(managed=True, max_per_day=10), charge(1, {ROUTER: 10}), NOW)

    _, event = ended(session, 0, {ONE: 5}, bond=10**6)

    assert event == Forfeited(1, (Split(ONE, Amount(0)), Split(ROUTER, Amount(10))), Amount(990), Amount(0))


@pytest.mark.parametrize("earned", [{ROUTER: 10, ONE: 90}, {ONE: 90}, {ROUTER: 11, ONE: 90, TWO: 5}, {}])
def test_forfeit__one_covers_the_other__is_refused(earned: dict[Address, int]) -> None:
    with pytest.raises(SessionRefused, match="do not contradict"):
        apply(charged_session(), forfeit(2, earned), NOW)


def test_forfeit__before_any_charge__is_refused() -> None:
    with pytest.raises(SessionRefused, match="do not contradict"):
        apply(make_session(), forfeit(1, {ONE: 10}), NOW)


@pytest.mark.parametrize("signer", [OWNER, ROUTER, OTHER_KEY, Address(bytes(20))])
def test_forfeit__not_signed_by_a_key_of_the_session__is_refused(signer: Address) -> None:
    with pytest.raises(SessionRefused, match="not the session's key"):
        apply(charged_session(), forfeit(2, {TWO: 5}, signer), NOW)


def test_forfeit__signed_by_the_replaced_key__counts_within_the_grace_period_only() -> None:
    session, _ = apply(charged_session(), ReplaceKey(OWNER, OTHER_KEY), NOW)

    late = Timestamp(session.replaced_until + 1)
    for change in (charge(2, {ROUTER: 10, ONE: 95}, signer=KEY), forfeit(2, {TWO: 5}, KEY)):
        with pytest.raises(SessionRefused, match="not any more"):
            apply(session, change, late)
    state, _ = apply(session, forfeit(2, {TWO: 5}, KEY), session.replaced_until)
    assert state.closed


def test_forfeit__count_that_no_charge_could_have__is_refused() -> None:
    with pytest.raises(SessionRefused, match="at most 2"):
        apply(charged_session(), forfeit(2**40, {TWO: 5}), NOW)


def test_forfeit__closed_or_forfeited__is_refused() -> None:
    session = charged_session()
    closed, _ = apply(session, Close(), Timestamp(session.closable_at))
    forfeited, _ = ended(session, 2, {TWO: 5})

    for state in (closed, forfeited):
        with pytest.raises(SessionRefused, match="closed"):
            apply(state, forfeit(2, {TWO: 5}), NOW)
