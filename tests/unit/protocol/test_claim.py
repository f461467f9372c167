"""The money side of a hub: whatever is claimed in whatever order, and whatever a quorum signs."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tristrata.protocol.claim import (
    Accounts,
    Charge,
    Claim,
    ClaimChange,
    ClaimDirect,
    Claimed,
    ClaimEvent,
    ClaimRefused,
    Close,
    Refute,
    Refuted,
    Seal,
    StatedPayout,
    Veto,
    Vetoed,
    apply,
)
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.payouts import Payouts
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import Split, make_splits

A, B = SessionId(b"\x0a" * 32), SessionId(b"\x0b" * 32)
ROUTER, MINER, STRANGER = (Address(bytes([number]) * 20) for number in (0x11, 0x22, 0x33))
PAYEES = (ROUTER, MINER, STRANGER)
DELAY = Seconds(100)
KEPT = 3
NOW = Timestamp(1_800_000_000)
LATER = Timestamp(NOW + DELAY)


def charge(session: SessionId, **earned: int) -> Charge:
    names = {"router": ROUTER, "miner": MINER}
    return Charge(session, make_splits({names[name]: Amount(amount) for name, amount in earned.items()}))


def stated(splits: dict[SessionId, tuple[Split, ...]]) -> dict[Address, StatedPayout]:
    """What an honest epoch says of these splits."""
    payouts = Payouts(splits)
    entries = {payee: [] for payee in payouts.cumulative}
    for session in sorted(splits):
        for split in splits[session]:
            if split.amount:
                entries[split.payee].append((session, split.amount))
    return {payee: StatedPayout(total, tuple(entries[payee])) for payee, total in payouts.cumulative.items()}


def after(state: Accounts, *changes: ClaimChange, now: Timestamp = NOW) -> tuple[Accounts, list[ClaimEvent]]:
    found: list[ClaimEvent] = []
    for change in changes:
        state, events = apply(state, change, now)
        found += events
    return state, found


CHARGED = after(Accounts(DELAY, KEPT), charge(A, router=5, miner=95), charge(B, miner=20))[0]
SEALED = after(CHARGED, Seal(1, stated(CHARGED.splits)))[0]
FALSE = after(CHARGED, Seal(1, {STRANGER: StatedPayout(Amount(60), ((A, Amount(60)),))}))[0]


def test_claim__of_a_mature_epoch__pays_once() -> None:
    state, events = after(SEALED, Claim(MINER, Amount(115), 1), now=LATER)

    assert events == [Claimed(MINER, Amount(115))]
    assert after(state, Claim(MINER, Amount(115), 1), ClaimDirect(A, MINER), ClaimDirect(B, MINER), now=LATER)[1] == []
    assert (state.total_charged, state.total_paid) == (120, 115)


def test_claim__directly_first__is_paid_the_rest_by_the_epoch() -> None:
    _, events = after(SEALED, ClaimDirect(B, MINER), Claim(MINER, Amount(115), 1), now=LATER)

    assert events == [Claimed(MINER, Amount(20)), Claimed(MINER, Amount(95))]


def test_claim__an_older_epoch_after_a_newer__pays_nothing() -> None:
    state, _ = after(SEALED, charge(A, router=9, miner=99))
    state, _ = after(state, Seal(2, stated(state.splits)))
    _, events = after(state, Claim(ROUTER, Amount(9), 2), Claim(ROUTER, Amount(5), 1), now=LATER)

    assert events == [Claimed(ROUTER, Amount(9))]


@pytest.mark.parametrize(
    ("change", "now", "rule"),
    [
        (Claim(MINER, Amount(115), 1), LATER - 1, "pays 100 s later"),
        (Claim(MINER, Amount(114), 1), LATER, "does not pay 114"),
        (Claim(STRANGER, Amount(1), 1), LATER, "does not pay 1"),
        (Claim(MINER, Amount(115), 2), LATER, "epoch 2 is not sealed"),
        (Claim(MINER, Amount(115), 0), LATER, "epoch 0 is not sealed"),
        (ClaimDirect(B, ROUTER), NOW, "was charged nothing for"),
        (ClaimDirect(SessionId(bytes(32)), MINER), NOW, "was charged nothing for"),
        (Seal(1, {}), NOW, "2 is the next"),
        (Seal(3, {}), NOW, "2 is the next"),
        (Veto(1), LATER, "too late"),
        (Veto(2), NOW, "epoch 2 is not sealed"),
        (charge(A, router=5, miner=95), NOW, "must go up"),
        (charge(A, router=4, miner=99), NOW, "must go up"),
        (Refute(1, MINER, A, (Amount(95),)), NOW, "counts 95 from session .* 95 is charged"),
        (Refute(1, MINER, A, (Amount(96),)), NOW, "no such entries"),
        (Refute(1, MINER, A, (Amount(95), Amount(95))), NOW, "no such entries"),
        (Refute(1, MINER, A, ()), NOW, "no such entries"),
        (Refute(1, STRANGER, A, (Amount(1),)), NOW, "no such entries"),
        (Refute(2, MINER, A, (Amount(95),)), NOW, "epoch 2 is not sealed"),
    ],
)
def test_apply__breaks_a_rule__is_refused(change: ClaimChange, now: int, rule: str) -> None:
    with pytest.raises(ClaimRefused, match=rule):
        apply(SEALED, change, Timestamp(now))


def test_close__of_a_session__ends_charges_but_not_claims() -> None:
    state, _ = after(SEALED, Close(A))

    for change in (charge(A, router=9, miner=99), Close(A)):
        with pytest.raises(ClaimRefused, match="closed"):
            apply(state, change, NOW)
    assert after(state, ClaimDirect(A, MINER), Claim(ROUTER, Amount(5), 1), now=LATER)[1] == [
        Claimed(MINER, Amount(95)),
        Claimed(ROUTER, Amount(5)),
    ]


@pytest.mark.parametrize("change", [Claim(MINER, Amount(115), 1), Veto(1), Refute(1, MINER, A, (Amount(95),))])
def test_apply__epoch_that_is_not_kept_any_more__is_refused(change: ClaimChange) -> None:
    state, _ = after(SEALED, *(Seal(epoch, stated(CHARGED.splits)) for epoch in (2, 3)))
    assert after(state, Claim(MINER, Amount(115), 1), now=LATER)[1] == [Claimed(MINER, Amount(115))]
    state, _ = after(state, Seal(4, stated(CHARGED.splits)))

    with pytest.raises(ClaimRefused, match="not kept any more, only the 3 newest"):
        apply(state, change, NOW)
    assert after(state, Claim(MINER, Amount(115), 2), now=LATER)[1] == [Claimed(MINER, Amount(115))]


@pytest.mark.parametrize("change", [Claim(STRANGER, Amount(60), 1), Veto(1)])
def test_veto__before_the_epoch_is_mature__stops_it_for_ever(change: ClaimChange) -> None:
    state, events = after(FALSE, Veto(1), now=Timestamp(LATER - 1))

    assert events == [Vetoed(1)]
    with pytest.raises(ClaimRefused, match="pays nothing"):
        apply(state, change, LATER)
    assert after(state, ClaimDirect(A, MINER), now=LATER)[1] == [Claimed(MINER, Amount(95))]


def test_refute__vetoed_before__still_says_who_lied() -> None:
    state, _ = after(FALSE, Veto(1), now=Timestamp(LATER - 1))

    refuted, events = after(state, Refute(1, STRANGER, A, (Amount(60),)), now=LATER)

    assert [type(event) for event in events] == [Refuted]
    assert refuted == state


def test_refute__more_than_charged__stops_the_epoch() -> None:
    state, events = after(FALSE, Refute(1, STRANGER, A, (Amount(60),)), now=Timestamp(LATER - 1))

    assert events == [Refuted(1, STRANGER, A, Amount(60), Amount(0))]
    with pytest.raises(ClaimRefused, match="pays nothing"):
        apply(state, Claim(STRANGER, Amount(60), 1), LATER)


@pytest.mark.parametrize("amount", [4, 5])
def test_refute__no_more_than_what_was_charged__is_no_evidence(amount: int) -> None:
    state, _ = after(CHARGED, Seal(1, {ROUTER: StatedPayout(Amount(amount), ((A, Amount(amount)),))}))

    with pytest.raises(ClaimRefused, match="5 is charged"):
        apply(state, Refute(1, ROUTER, A, (Amount(amount),)), NOW)


@pytest.mark.parametrize(("stated", "named"), [(A, B), (B, A)])
def test_refute__entry_of_another_session__is_no_evidence(stated: SessionId, named: SessionId) -> None:
    state, _ = after(CHARGED, Seal(1, {STRANGER: StatedPayout(Amount(60), ((stated, Amount(60)),))}))

    with pytest.raises(ClaimRefused, match="no such entries"):
        apply(state, Refute(1, STRANGER, named, (Amount(60),)), NOW)


def test_refute__one_session_in_many_entries__counts_their_sum() -> None:
    twice = {ROUTER: StatedPayout(Amount(10), ((A, Amount(5)), (A, Amount(5))))}
    state, _ = after(CHARGED, Seal(1, twice))

    with pytest.raises(ClaimRefused, match="counts 5"):
        apply(state, Refute(1, ROUTER, A, (Amount(5),)), NOW)
    [event] = apply(state, Refute(1, ROUTER, A, (Amount(5), Amount(5))), NOW)[1]
    assert event == Refuted(1, ROUTER, A, Amount(10), Amount(5))


def test_refute__after_the_epoch_is_mature__names_the_liars_and_stops_nothing() -> None:
    state, events = after(FALSE, Refute(1, STRANGER, A, (Amount(60),)), now=LATER)

    assert (state, len(events)) == (FALSE, 1)


def test_seal__entries_above_the_cumulative_amount__are_no_sum_tree() -> None:
    with pytest.raises(InvalidValue, match="sum to 9 at most"):
        apply(CHARGED, Seal(1, {ROUTER: StatedPayout(Amount(9), ((A, Amount(5)), (B, Amount(5))))}), NOW)


def test_claim__more_than_is_left_of_all_charges__is_refused_and_direct_gets_the_rest() -> None:
    state, _ = after(CHARGED, Seal(1, {STRANGER: StatedPayout(Amount(110)), ROUTER: StatedPayout(Amount(30))}))
    state, _ = after(state, Claim(STRANGER, Amount(110), 1), now=LATER)

    with pytest.raises(ClaimRefused, match="30 would be paid; .* 10 is left"):
        apply(state, Claim(ROUTER, Amount(30), 1), LATER)
    state, events = after(state, ClaimDirect(A, MINER), now=LATER)
    assert events == [Claimed(MINER, Amount(10))]
    # What was stolen is missing until more is charged.
    state, events = after(state, charge(B, miner=70), ClaimDirect(A, MINER), ClaimDirect(B, MINER), now=LATER)
    assert events == [Claimed(MINER, Amount(50))]
    assert state.total_paid == state.total_charged == 170


amounts = st.integers(0, 60)
entries = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 90).map(Amount)), max_size=3)
lies = st.dictionaries(
    st.sampled_from(PAYEES),
    st.builds(
        lambda found, hidden: StatedPayout(Amount(sum(amount for _, amount in found) + hidden), tuple(found)),
        entries,
        st.sampled_from([0, 0, 50]),
    ),
    min_size=1,
)


class AnySequence(RuleBasedStateMachine):
    """Any changes in any order, some by validators that lie. Each hub's rules in full: see the invariants."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Accounts(DELAY, KEPT)
        self.now = NOW
        self.paid = dict.fromkeys(PAYEES, 0)
        self.false: set[int] = set()
        self.has_false_one_paid = False

    def attempt(self, change: ClaimChange) -> bool:
        before = self.state
        try:
            self.state, events = apply(before, change, self.now)
        except ClaimRefused:
            return False
        for event in events:
            if isinstance(event, Claimed):
                assert event.amount > 0
                self.paid[event.payee] += event.amount
            if isinstance(event, Refuted):
                assert event.epoch in self.false
        return True

    @rule(seconds=st.sampled_from([1, DELAY // 2, DELAY]))
    def wait(self, seconds: int) -> None:
        self.now = Timestamp(self.now + seconds)

    @rule(session=st.sampled_from([A, B]), router=amounts, miner=amounts)
    def charge(self, session: SessionId, router: int, miner: int) -> None:
        earned = {split.payee: split.amount for split in self.state.splits.get(session, ())}
        for payee, more in ((ROUTER, router), (MINER, miner)):
            earned[payee] = Amount(earned.get(payee, 0) + more)
        self.attempt(Charge(session, make_splits({payee: found for payee, found in earned.items() if found})))

    @rule(session=st.sampled_from([A, B]))
    def close(self, session: SessionId) -> None:
        self.attempt(Close(session))

    @rule(sessions=st.sampled_from([(A,), (B,), (A, B)]))
    def seal(self, sessions: tuple[SessionId, ...]) -> None:
        """An honest epoch; some sessions are left out, as those that nothing accounts for are."""
        splits = {session: found for session, found in self.state.splits.items() if session in sessions}
        assert self.attempt(Seal(len(self.state.epochs) + 1, stated(splits)))

    @rule(payouts=lies)
    def lie(self, payouts: dict[Address, StatedPayout]) -> None:
        self.false.add(len(self.state.epochs) + 1)
        assert self.attempt(Seal(len(self.state.epochs) + 1, payouts))

    @rule(back=st.integers(0, 3))
    def veto(self, back: int) -> None:
        self.attempt(Veto(len(self.state.epochs) - back))

    @rule(back=st.integers(0, 3), payee=st.sampled_from(PAYEES), session=st.sampled_from([A, B]))
    def refute(self, back: int, payee: Address, session: SessionId) -> None:
        """With all that can be opened: of an honest epoch this is never evidence (see `attempt`)."""
        epoch = len(self.state.epochs) - back
        if epoch >= 1 and payee in (sealed := self.state.epochs[epoch - 1]).payouts:
            opened = tuple(amount for found, amount in sealed.payouts[payee].entries if found == session)
            is_evidence = sum(opened) > self.state.charged_for(payee, session) and back < KEPT
            assert self.attempt(Refute(epoch, payee, session, opened)) == is_evidence

    @rule(back=st.integers(0, 3), payee=st.sampled_from(PAYEES))
    def claim(self, back: int, payee: Address) -> None:
        epoch = len(self.state.epochs) - back
        if epoch >= 1 and payee in (sealed := self.state.epochs[epoch - 1]).payouts:
            before = dict(self.paid)
            done = self.attempt(Claim(payee, sealed.payouts[payee].cumulative, epoch))
            assert not (done and (sealed.stopped or back >= KEPT or self.now < sealed.sealed_at + DELAY))
            self.has_false_one_paid |= epoch in self.false and self.paid != before

    @rule(session=st.sampled_from([A, B]), payee=st.sampled_from(PAYEES))
    def claim_direct(self, session: SessionId, payee: Address) -> None:
        is_split = any(split.payee == payee for split in self.state.splits.get(session, ()))
        assert self.attempt(ClaimDirect(session, payee)) == is_split

    @rule()
    def claim_everything_directly(self) -> None:
        for session, splits in self.state.splits.items():
            for split in splits:
                assert self.attempt(ClaimDirect(session, split.payee))
        if not self.has_false_one_paid:
            assert self.paid == self.charged()

    def charged(self) -> dict[Address, int]:
        return {payee: sum(self.state.charged_for(payee, session) for session in (A, B)) for payee in PAYEES}

    @invariant()
    def never_more_is_paid_than_charged(self) -> None:
        assert sum(self.paid.values()) == self.state.total_paid <= self.state.total_charged
        assert self.paid == {payee: self.state.claimed.get(payee, 0) for payee in PAYEES}

    @invariant()
    def nobody_has_what_is_anothers(self) -> None:
        if not self.has_false_one_paid:
            assert all(self.paid[payee] <= charged for payee, charged in self.charged().items())

    @invariant()
    def what_was_opened_was_charged(self) -> None:
        assert all(self.state.opened_for(payee) <= charged for payee, charged in self.charged().items())


TestAnySequence = AnySequence.TestCase
