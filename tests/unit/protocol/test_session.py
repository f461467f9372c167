"""The session as its hub keeps it."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import MINERS, ROUTER, SESSION, make_terms
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address
from tristrata.protocol.session import (
    MAX_COUNT,
    MAX_DEPOSIT,
    SECONDS_PER_DAY,
    Charged,
    ChargeVoucher,
    Close,
    Closed,
    CloseRequested,
    Forfeit,
    Forfeited,
    KeyReplaced,
    ReplaceKey,
    RequestClose,
    Session,
    SessionChange,
    SessionRefused,
    ToppedUp,
    TopUp,
    apply,
    open_session,
)
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import Split, Voucher, make_splits, splits_hash

OWNER = Address(b"\x77" * 20)
KEY = make_terms().session_key
OTHER_KEY, THIRD_KEY = Address(b"\xab" * 20), Address(b"\xac" * 20)
NOW = Timestamp(1_800_000_000)


def make_session(deposit: int = 1_000, max_per_day: int = 0, managed: bool = False) -> Session:
    terms = replace(make_terms(), managed=managed, max_per_day=Amount(max_per_day), expiry=Timestamp(NOW + 1_000))
    return open_session(SESSION, OWNER, terms, Amount(deposit), Seconds(60), sender=ROUTER)


def charge(count: int, earned: dict[Address, int], session: bytes = SESSION, signer: Address = KEY) -> ChargeVoucher:
    splits = make_splits({payee: Amount(value) for payee, value in earned.items()})
    total = Amount(sum(earned.values()))
    return ChargeVoucher(Voucher(session, count, total, b"\x05" * 32, splits_hash(splits)), splits, signer)


def forfeit(count: int, earned: dict[Address, int], signer: Address = KEY, bond: int = 0) -> Forfeit:
    voucher = charge(count, earned)
    return Forfeit(voucher.voucher, voucher.splits, signer, Amount(bond))


@pytest.mark.parametrize("deposit", [0, 2**95])
def test_open__deposit_out_of_range__is_refused(deposit: int) -> None:
    with pytest.raises(SessionRefused, match="must lie between"):
        make_session(deposit)
    assert make_session(2**95 - 1).deposit == 2**95 - 1


@pytest.mark.parametrize("sender", [OWNER, Address(b"\xff" * 20)])
def test_open__managed_but_not_brought_by_the_router__is_refused(sender: Address) -> None:
    terms = replace(make_terms(), managed=True)

    with pytest.raises(SessionRefused, match="a managed session needs"):
        open_session(SESSION, OWNER, terms, Amount(1), Seconds(60), sender=sender)
    assert open_session(SESSION, OWNER, terms, Amount(1), Seconds(60), sender=ROUTER).key == KEY


def test_charge__the_whole_deposit_and_the_highest_count__are_just_allowed() -> None:
    state, _ = apply(make_session(), charge(2**40 - 1, {ROUTER: 50, MINERS[0]: 950}), NOW)

    assert (state.remaining, state.charge.count) == (0, 2**40 - 1)
    with pytest.raises(SessionRefused):
        apply(make_session(), charge(2**40, {ROUTER: 5}), NOW)


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
        (charge(MAX_COUNT + 1, {ROUTER: 5, MINERS[0]: 96}), "at most 2"),
        (charge(3, {ROUTER: 5, MINERS[0]: 96}, signer=OWNER), "not the session's key"),
        (charge(3, {ROUTER: 5, MINERS[0]: 96}, signer=Address(bytes(20))), "not the session's key"),
    ],
)
def test_charge__breaks_a_rule__is_refused(change: ChargeVoucher, rule: str) -> None:
    state, _ = apply(make_session(), charge(2, {ROUTER: 5, MINERS[0]: 95}), NOW)

    with pytest.raises(SessionRefused, match=rule):
        apply(state, change, NOW)


def test_charge__splits_of_another_voucher__are_refused() -> None:
    mine, other = charge(1, {ROUTER: 5, MINERS[0]: 95}), charge(1, {ROUTER: 6, MINERS[0]: 94})

    with pytest.raises(SessionRefused, match="commits to"):
        apply(make_session(), ChargeVoucher(mine.voucher, other.splits, KEY), NOW)
    with pytest.raises(InvalidValue, match="sum to"):
        apply(make_session(), ChargeVoucher(mine.voucher, (Split(ROUTER, Amount(1)),), KEY), NOW)


@pytest.mark.parametrize("committed", [bytes(32), b"\xff" * 32])
def test_charge__splits_that_the_voucher_does_not_commit_to__are_refused(committed: bytes) -> None:
    change = charge(1, {ROUTER: 5})
    change = replace(change, voucher=replace(change.voucher, splits=committed))

    with pytest.raises(SessionRefused, match="not those that the voucher commits to"):
        apply(make_session(), change, NOW)


def test_charge__daily_limit__a_day_has_86_400_seconds() -> None:
    midnight = 20_000 * 86_400
    session = replace(make_session(max_per_day=100), terms=replace(make_terms(), max_per_day=Amount(100)))
    state, _ = apply(session, charge(1, {ROUTER: 100}), Timestamp(midnight - 86_400))

    with pytest.raises(SessionRefused, match="101 would be charged today"):
        apply(state, charge(2, {ROUTER: 101}), Timestamp(midnight - 1))
    assert apply(state, charge(2, {ROUTER: 101}), Timestamp(midnight))[0].charge.on_day == 1


def test_charge__daily_limit__counts_anew_each_utc_day() -> None:
    state, _ = apply(make_session(max_per_day=100), charge(1, {ROUTER: 100}), NOW)

    with pytest.raises(SessionRefused, match="101 would be charged today"):
        apply(state, charge(2, {ROUTER: 101}), NOW)
    tomorrow = Timestamp((NOW // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY)
    assert apply(state, charge(2, {ROUTER: 200}), tomorrow)[0].charge.on_day == 100


def test_replace_key__old_vouchers__are_good_for_the_grace_period_and_no_longer() -> None:
    state, events = apply(make_session(), ReplaceKey(OWNER, OTHER_KEY), NOW)

    until = Timestamp(NOW + 60)
    assert events == [KeyReplaced(KEY, OTHER_KEY, until)]
    late = charge(1, {MINERS[0]: 10}, signer=KEY)
    assert apply(state, late, until)[0].charge.cumulative == 10
    with pytest.raises(SessionRefused, match="not any more"):
        apply(state, late, Timestamp(until + 1))
    assert apply(state, charge(1, {MINERS[0]: 10}, signer=OTHER_KEY), Timestamp(until + 1))[0].charge.count == 1


@pytest.mark.parametrize(
    ("change", "managed", "rule"),
    [
        (ReplaceKey(ROUTER, OTHER_KEY), False, "not the session's owner"),
        (ReplaceKey(KEY, OTHER_KEY), False, "not the session's owner"),
        (ReplaceKey(OWNER, KEY), False, "must be another"),
        (ReplaceKey(OWNER, Address(bytes(20))), False, "not zero"),
        (ReplaceKey(OWNER, OTHER_KEY), True, "bond answers for the key"),
    ],
)
def test_replace_key__breaks_a_rule__is_refused(change: ReplaceKey, managed: bool, rule: str) -> None:
    with pytest.raises(SessionRefused, match=rule):
        apply(make_session(managed=managed), change, NOW)


def test_replace_key__again_within_the_grace_period__is_refused() -> None:
    state, _ = apply(make_session(), ReplaceKey(OWNER, OTHER_KEY), NOW)

    with pytest.raises(SessionRefused, match="replace the key after that"):
        apply(state, ReplaceKey(OWNER, THIRD_KEY), Timestamp(NOW + 59))
    again, _ = apply(state, ReplaceKey(OWNER, THIRD_KEY), Timestamp(NOW + 60))
    assert (again.key, again.replaced_key) == (THIRD_KEY, OTHER_KEY)


def test_request_close__key_that_was_replaced__is_not_a_party_any_more() -> None:
    state, _ = apply(make_session(), ReplaceKey(OWNER, OTHER_KEY), NOW)

    with pytest.raises(SessionRefused, match="neither"):
        apply(state, RequestClose(KEY), NOW)
    assert apply(state, RequestClose(OTHER_KEY), NOW)[0].closing_at == NOW + 60


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
    with pytest.raises(SessionRefused, match=r"at most 2\*\*95"):
        apply(state, TopUp(MAX_DEPOSIT), NOW)


class AnySequence(RuleBasedStateMachine):
    """Any changes at any time: what is paid out never exceeds what came in (P1), nothing is charged twice (P2)."""

    @initialize(managed=st.booleans(), limit=st.sampled_from([0, 300]))
    def start(self, managed: bool, limit: int) -> None:
        self.session = make_session(deposit=500, max_per_day=limit, managed=managed)
        self.now = NOW
        self.refunded = 0
        self.put_in = 500
        self.from_bond = 0

    def attempt(self, change: SessionChange) -> None:
        before = self.session
        try:
            self.session, events = apply(before, change, self.now)
        except (SessionRefused, InvalidValue):
            assert self.session == before
            return
        assert not before.closed
        self.put_in += sum(event.amount for event in events if isinstance(event, ToppedUp))
        self.refunded += sum(event.refund for event in events if isinstance(event, Closed | Forfeited))
        self.from_bond += sum(event.from_bond for event in events if isinstance(event, Forfeited))
        earned = {split.payee: split.amount for split in self.session.charge.splits}
        assert all(earned.get(split.payee, 0) >= split.amount for split in before.charge.splits)

    @rule(seconds=st.integers(0, 100_000))
    def wait(self, seconds: int) -> None:
        self.now = Timestamp(self.now + seconds)

    @rule(amount=st.integers(0, 200))
    def top_up(self, amount: int) -> None:
        self.attempt(TopUp(Amount(amount)))

    @rule(
        router=st.integers(0, 300),
        miner=st.integers(0, 600),
        count=st.integers(0, 9),
        signer=st.sampled_from([KEY, OTHER_KEY, OWNER]),
    )
    def charge(self, router: int, miner: int, count: int, signer: Address) -> None:
        self.attempt(charge(count, {ROUTER: router, MINERS[0]: miner}, signer=signer))

    @rule(key=st.sampled_from([KEY, OTHER_KEY]))
    def replace_key(self, key: Address) -> None:
        self.attempt(ReplaceKey(OWNER, key))

    @rule(
        router=st.integers(0, 300),
        one=st.integers(0, 600),
        other=st.integers(0, 600),
        signer=st.sampled_from([KEY, OTHER_KEY, OWNER]),
        bond=st.integers(0, 1_000),
    )
    def forfeit(self, router: int, one: int, other: int, signer: Address, bond: int) -> None:
        self.attempt(forfeit(1, {ROUTER: router, MINERS[0]: one, MINERS[1]: other}, signer, bond))

    @rule(sender=st.sampled_from([OWNER, ROUTER, MINERS[0]]))
    def request_close(self, sender: Address) -> None:
        self.attempt(RequestClose(sender))

    @rule()
    def close(self) -> None:
        self.attempt(Close())

    @invariant()
    def money_is_conserved(self) -> None:
        session = self.session
        assert sum(split.amount for split in session.charge.splits) == session.charge.cumulative <= session.deposit
        if session.closed:
            assert session.deposit == session.charge.cumulative
            assert session.charge.cumulative + self.refunded == self.put_in + self.from_bond
        else:
            assert session.deposit == self.put_in
            assert self.refunded == self.from_bond == 0
        assert not self.from_bond or session.terms.managed
        assert session.charge.on_day <= (session.terms.max_per_day or MAX_DEPOSIT)


TestAnySequence = AnySequence.TestCase
