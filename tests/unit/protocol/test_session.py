"""The session as its hub keeps it."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import MINERS, ROUTER, SESSION, make_terms
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address
from tristrata.protocol.session import (
    SECONDS_PER_DAY,
    Charged,
    ChargeVoucher,
    Close,
    Closed,
    CloseRequested,
    RequestClose,
    Session,
    SessionRefused,
    ToppedUp,
    TopUp,
    apply,
)
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import Split, Voucher, make_splits, splits_hash

OWNER = Address(b"\x77" * 20)
NOW = Timestamp(1_800_000_000)


def make_session(deposit: int = 1_000, max_per_day: int = 0) -> Session:
    terms = replace(make_terms(), max_per_day=Amount(max_per_day), expiry=Timestamp(NOW + 1_000))
    return Session(SESSION, OWNER, terms, Amount(deposit), grace=Seconds(60))


def charge(count: int, earned: dict[Address, int], session: bytes = SESSION) -> ChargeVoucher:
    splits = make_splits({payee: Amount(value) for payee, value in earned.items()})
    total = Amount(sum(earned.values()))
    return ChargeVoucher(Voucher(session, count, total, b"\x05" * 32, splits_hash(splits)), splits)


def test_charge__first_voucher__records_it() -> None:
    state, events = apply(make_session(), charge(2, {ROUTER: 5, MINERS[0]: 95}), NOW)

    assert (state.charge.cumulative, state.remaining) == (100, 900)
    assert isinstance(events[0], Charged)
    assert events[0].count == 2


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (charge(3, {ROUTER: 5, MINERS[0]: 95}), "charges only go up"),
        (charge(1, {ROUTER: 6, MINERS[0]: 95}), "charges only go up"),
        (charge(3, {ROUTER: 500, MINERS[0]: 501}), "the deposit is 1000"),
        (charge(3, {ROUTER: 4, MINERS[0]: 200}), "less than was charged"),
        (charge(3, {MINERS[0]: 200}), "less than was charged"),
        (charge(3, {ROUTER: 5, MINERS[0]: 96}, session=b"\x0b" * 32), "not for this one"),
    ],
)
def test_charge__breaks_a_rule__is_refused(change: ChargeVoucher, rule: str) -> None:
    state, _ = apply(make_session(), charge(2, {ROUTER: 5, MINERS[0]: 95}), NOW)

    with pytest.raises(SessionRefused, match=rule):
        apply(state, change, NOW)


def test_charge__splits_of_another_voucher__are_refused() -> None:
    mine, other = charge(1, {ROUTER: 5, MINERS[0]: 95}), charge(1, {ROUTER: 6, MINERS[0]: 94})

    with pytest.raises(SessionRefused, match="commits to"):
        apply(make_session(), ChargeVoucher(mine.voucher, other.splits), NOW)
    with pytest.raises(InvalidValue, match="sum to"):
        apply(make_session(), ChargeVoucher(mine.voucher, (Split(ROUTER, Amount(1)),)), NOW)


def test_charge__daily_limit__counts_anew_each_utc_day() -> None:
    state, _ = apply(make_session(max_per_day=100), charge(1, {ROUTER: 100}), NOW)

    with pytest.raises(SessionRefused, match="101 would be charged today"):
        apply(state, charge(2, {ROUTER: 101}), NOW)
    tomorrow = Timestamp((NOW // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY)
    assert apply(state, charge(2, {ROUTER: 200}), tomorrow)[0].charge.on_day == 100


@pytest.mark.parametrize("who", ["owner", "session_key", "router"])
def test_request_close__by_either_side__starts_the_grace_period(who: str) -> None:
    session = make_session()
    sender = OWNER if who == "owner" else getattr(session.terms, who)

    state, events = apply(session, RequestClose(sender), NOW)

    assert events == [CloseRequested(Timestamp(NOW + 60))]
    with pytest.raises(SessionRefused, match="can be closed from"):
        apply(state, Close(), Timestamp(NOW + 59))
    assert apply(state, Close(), Timestamp(NOW + 60))[1] == [Closed(Amount(1_000))]
    with pytest.raises(SessionRefused, match="already"):
        apply(state, RequestClose(sender), NOW)


def test_request_close__by_a_stranger__is_refused() -> None:
    with pytest.raises(SessionRefused, match="neither"):
        apply(make_session(), RequestClose(MINERS[0]), NOW)


def test_close__after_expiry_and_grace__needs_no_request() -> None:
    session = make_session()

    with pytest.raises(SessionRefused):
        apply(session, Close(), Timestamp(session.terms.expiry + 59))
    state, _ = apply(session, Close(), Timestamp(session.terms.expiry + 60))
    with pytest.raises(SessionRefused, match="closed"):
        apply(state, TopUp(Amount(1)), NOW)


def test_top_up__adds_to_the_deposit__and_zero_is_refused() -> None:
    state, events = apply(make_session(), TopUp(Amount(5)), NOW)

    assert (state.deposit, events) == (1_005, [ToppedUp(Amount(5))])
    with pytest.raises(SessionRefused, match="more than zero"):
        apply(state, TopUp(Amount(0)), NOW)


class AnySequence(RuleBasedStateMachine):
    """Any changes at any time: what is paid out never exceeds what came in (P1), nothing is charged twice (P2)."""

    def __init__(self) -> None:
        super().__init__()
        self.session = make_session(deposit=500, max_per_day=300)
        self.now = NOW
        self.refunded = 0
        self.put_in = 500

    def attempt(self, change: TopUp | ChargeVoucher | RequestClose | Close) -> None:
        before = self.session
        try:
            self.session, events = apply(before, change, self.now)
        except (SessionRefused, InvalidValue):
            assert self.session == before
            return
        self.put_in += sum(event.amount for event in events if isinstance(event, ToppedUp))
        self.refunded += sum(event.refund for event in events if isinstance(event, Closed))
        assert self.session.charge.cumulative >= before.charge.cumulative

    @rule(seconds=st.integers(0, 100_000))
    def wait(self, seconds: int) -> None:
        self.now = Timestamp(self.now + seconds)

    @rule(amount=st.integers(0, 200))
    def top_up(self, amount: int) -> None:
        self.attempt(TopUp(Amount(amount)))

    @rule(router=st.integers(0, 300), miner=st.integers(0, 600), count=st.integers(0, 9))
    def charge(self, router: int, miner: int, count: int) -> None:
        self.attempt(charge(count, {ROUTER: router, MINERS[0]: miner}))

    @rule(sender=st.sampled_from([OWNER, ROUTER, MINERS[0]]))
    def request_close(self, sender: Address) -> None:
        self.attempt(RequestClose(sender))

    @rule()
    def close(self) -> None:
        self.attempt(Close())

    @invariant()
    def money_is_conserved(self) -> None:
        assert self.session.charge.cumulative + self.refunded <= self.put_in == self.session.deposit
        if self.session.closed:
            assert self.session.charge.cumulative + self.refunded == self.put_in
        assert self.session.charge.on_day <= 300


TestAnySequence = AnySequence.TestCase
