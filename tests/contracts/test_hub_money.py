"""Charges, epochs true and false, vetoes, evidence and claims in any order: the contracts against `protocol.claim`."""

from collections.abc import Callable, Sequence
from typing import Any

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contracts.conftest import DELAY, GRACE, KEPT_EPOCHS, ONE, VETO_FEE, Payouts, account, make_hub, ordered, raw
from tests.contracts.money import SumTreeOf, balance, events, fund_validator, paid
from tristrata.bindings.artifacts import decode_error, load
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
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import parse_splits

NAMES = ("router", "miner", "other")
EVERYBODY = (*NAMES, "stranger")
DEPOSIT = 500
ERRORS = load("Settlement").errors + load("Outbox").errors + load("Sessions").errors

WAITS = st.sampled_from([DELAY, DELAY // 2, DELAY, 0])

Entries = list[tuple[SessionId, int]]


class Statement:
    """What an epoch says, rightly or not. Without openings, what it says of the sums is noise that nobody can open."""

    def __init__(
        self, entries: dict[str, Entries], lie: tuple[str, SessionId] | None = None, can_be_opened: bool = True
    ) -> None:
        self.lie = lie
        self.trees = {name: SumTreeOf(found) for name, found in entries.items() if found}
        sums = {name: tree.root for name, tree in self.trees.items()} if can_be_opened else {}
        self.payouts = Payouts({name: tree.total for name, tree in self.trees.items()}, sums)
        self.stated = {
            raw(name): StatedPayout(
                Amount(tree.total),
                tuple((SessionId(session), Amount(amount)) for session, amount in tree.entries)
                if can_be_opened
                else (),
            )
            for name, tree in self.trees.items()
        }


class HubMoney(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.hub = make_hub()
        self.hub.adopt()
        fund_validator(self.hub, ONE, 1_000 * VETO_FEE)
        self.sessions = [self.hub.open(deposit=DEPOSIT, nonce=nonce) for nonce in (1, 2, 3)]
        self.owner_had = balance(self.hub, "owner")
        self.pure = Accounts(Seconds(DELAY), KEPT_EPOCHS)
        self.sealed: list[tuple[Any, Statement]] = []
        for which in range(3):
            self.charge(which, (5, 60, 20), by_settle=False)

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def both(self, call: Callable[[], object], *changes: ClaimChange) -> bool:
        """The contracts do what the pure machine does, with the same events, or both refuse; gives whether they did."""
        state, expected = self.pure, []
        try:
            for change in changes:
                state, found = apply(state, change, Timestamp(boa.env.timestamp))
                expected += found
        except ClaimRefused:
            self.refused(call)
            return False
        call()
        assert self.told() == sorted(expected, key=repr)
        self.pure = state
        for change in changes:
            if isinstance(change, Veto | Refute):
                assert self.hub.outbox.sealed(change.epoch).vetoed == state.epochs[change.epoch - 1].stopped
        return True

    def refused(self, call: Callable[[], object]) -> str:
        with pytest.raises(boa.BoaError) as caught:
            call()
        found = decode_error(bytes(caught.value.call_trace.output), ERRORS)
        assert found is not None
        return found[0]

    def told(self) -> list[ClaimEvent]:
        """The events of the last call, as the pure machine names them."""
        found: list[ClaimEvent] = [Claimed(Address(payee), Amount(amount)) for payee, amount in paid(self.hub)]
        for log in self.hub.settlement.get_logs():
            if type(log).__name__ == "Vetoed":
                found.append(Vetoed(log.epoch))
            if type(log).__name__ == "Refuted":
                payee = Address(bytes.fromhex(log.payee[2:]))
                amounts = Amount(log.amount), Amount(log.charged)
                found.append(Refuted(log.epoch, payee, SessionId(log.session_id), *amounts))
        return sorted(found, key=repr)

    # sessions

    def earned(self, session: SessionId) -> dict[str, int]:
        return {name: self.pure.charged_for(raw(name), session) for name in NAMES}

    @rule(which=st.integers(0, 2), more=st.tuples(*[st.integers(0, 60)] * 3), by_settle=st.booleans())
    def charge(self, which: int, more: tuple[int, int, int], by_settle: bool) -> None:
        session = self.sessions[which]
        after = {name: had + more[place] for place, (name, had) in enumerate(self.earned(session).items())}
        call = self.hub.charge_call(session, 1, after)

        def charge() -> None:
            if by_settle:
                self.hub.settle(charges=[call], signers=())
            else:
                self.hub.settlement.charge(*call)

        if sum(after.values()) > DEPOSIT and session not in self.pure.closed:
            assert self.refused(charge) == "AboveDeposit"
        elif self.both(charge, Charge(session, ordered(after))):
            self.hub.remember(call)

    @rule(what=st.sampled_from(["close", "forfeit", "veto", "veto"]), growth=st.integers(1, 600))
    def end(self, what: str, growth: int) -> None:
        """One rule for all, for whatever ends is of no more use to the others."""
        if what == "close":
            self.close()
        elif what == "forfeit":
            self.forfeit(growth)
        elif self.sealed:
            self.veto(growth % 4)

    def close(self) -> None:
        session = self.sessions[2]
        if session not in self.pure.closed:
            self.hub.sessions.request_close(session, sender=account("owner"))
            boa.env.time_travel(GRACE)
        self.both(lambda: self.hub.sessions.close(session), Close(session))

    def forfeit(self, growth: int) -> None:
        """The key signs less for one payee, and more for another."""
        session = self.sessions[1]
        before = self.pure.splits[session]
        if session in self.pure.closed:
            return
        earned = self.earned(session)
        loser = next(name for name in NAMES if earned[name])
        winner = next(name for name in NAMES if name != loser)
        splits = ordered({**earned, loser: earned[loser] - 1, winner: earned[winner] + growth})
        charge, words, _ = self.hub.call_of(self.hub.voucher(session, 9, splits), splits)
        self.hub.settlement.forfeit(charge, words, [split.packed for split in before])
        [event] = events(self.hub.settlement, "Forfeited")
        final = parse_splits(event.splits)
        self.hub.last[session] = (event.count, final)
        changes = [Charge(session, final)] if final != before else []
        for change in (*changes, Close(session)):
            self.pure, _ = apply(self.pure, change, Timestamp(boa.env.timestamp))

    # epochs

    def charged_entries(self) -> dict[str, Entries]:
        found: dict[str, Entries] = {name: [] for name in EVERYBODY}
        for session in self.sessions:
            for name, amount in self.earned(session).items():
                if amount:
                    found[name].append((session, amount))
        return found

    def seal(self, statement: Statement) -> None:
        seal = self.hub.settle(statement.payouts.root)
        self.sealed.append((seal, statement))
        change = Seal(len(self.sealed), statement.stated)
        self.pure, _ = apply(self.pure, change, Timestamp(boa.env.timestamp))

    @rule()
    def seal_what_is_true(self) -> None:
        self.seal(Statement(self.charged_entries()))

    @rule(
        name=st.sampled_from(EVERYBODY),
        which=st.integers(0, 2),
        amounts=st.lists(st.sampled_from([30, 200, 1]), min_size=1, max_size=5),
        can_be_opened=st.sampled_from([True, True, False]),
        others_too=st.booleans(),
    )
    def seal_what_is_false(
        self, name: str, which: int, amounts: list[int], can_be_opened: bool, others_too: bool
    ) -> None:
        """Two thirds of the validators add entries of a session to somebody's payout, with all others or without."""
        entries = self.charged_entries() if others_too else {name: self.charged_entries()[name]}
        session = self.sessions[which]
        entries[name] = [*entries[name], *((session, amount) for amount in amounts)]
        self.seal(Statement(entries, (name, session), can_be_opened))

    def pick(self, back: int) -> tuple[int, Any, Statement]:
        """An epoch, the newest first; the oldest are not kept any more."""
        epoch = max(1, len(self.sealed) - back)
        return (epoch, *self.sealed[epoch - 1])

    def veto(self, back: int) -> None:
        epoch, seal, statement = self.pick(back)
        self.both(lambda: self.hub.settlement.veto(seal, statement.payouts.root, sender=account(ONE)), Veto(epoch))

    @precondition(lambda self: self.sealed)
    @rule(back=st.integers(0, 3), data=st.data(), leave_out=st.sampled_from([0, 0, 0, 1, 3, 15]))
    def refute(self, back: int, data: st.DataObject, leave_out: int) -> None:
        epoch, seal, statement = self.pick(back)
        name, session = statement.lie or (data.draw(st.sampled_from(sorted(statement.trees))), self.sessions[back % 3])
        opened = statement.trees[name].open_all(session)[:4]
        entries = [entry for place, entry in enumerate(opened) if not leave_out >> place & 1]
        count, splits = self.hub.last[session]
        self.both(
            lambda: self.hub.settlement.refute(
                seal,
                statement.payouts.payout(name),
                statement.payouts.proof(name),
                session,
                entries,
                count,
                [split.packed for split in splits],
            ),
            Refute(epoch, raw(name), session, tuple(Amount(amount) for amount, _, _ in entries)),
        )

    # claims

    @precondition(lambda self: self.sealed)
    @rule(
        back=st.sampled_from([0, 1, 2, 3, KEPT_EPOCHS]), data=st.data(), later=WAITS, more=st.sampled_from([0, 0, 0, 1])
    )
    def claim(self, back: int, data: st.DataObject, later: int, more: int) -> None:
        boa.env.time_travel(later)
        epoch, seal, statement = self.pick(back)
        name = data.draw(st.sampled_from(sorted(statement.trees)))
        word, sums = statement.payouts.payout(name)
        change = Claim(raw(name), Amount((word & 2**96 - 1) + more), epoch)
        proof = statement.payouts.proof(name)
        self.both(lambda: self.hub.settlement.claim(seal, (word + more, sums), proof), change)

    @precondition(lambda self: self.sealed)
    @rule(back=st.integers(0, 3), data=st.data(), later=WAITS)
    def claim_many(self, back: int, data: st.DataObject, later: int) -> None:
        boa.env.time_travel(later)
        epoch, seal, statement = self.pick(back)
        names = data.draw(st.sets(st.sampled_from(sorted(statement.trees)), min_size=1))
        payouts, proof, flags = statement.payouts.many(*sorted(names))
        changes = [
            Claim(Address((word >> 96).to_bytes(20, "big")), Amount(word & 2**96 - 1), epoch) for word, _ in payouts
        ]
        self.both(lambda: self.hub.settlement.claim_many(seal, payouts, proof, flags), *changes)

    @rule(which=st.integers(0, 2), name=st.sampled_from(EVERYBODY))
    def claim_direct(self, which: int, name: str) -> None:
        session = self.sessions[which]
        self.both(self.direct(session, name), ClaimDirect(session, raw(name)))

    def direct(self, session: SessionId, name: str) -> Callable[[], object]:
        count, splits = self.hub.last[session]
        payees = [split.payee for split in splits]
        index = payees.index(raw(name)) if raw(name) in payees else len(payees)
        words = [split.packed for split in splits]
        return lambda: self.hub.settlement.claim_direct(session, count, words, index)

    @property
    def a_false_root_pays(self) -> bool:
        return any(
            statement.lie and not epoch.stopped and boa.env.timestamp >= epoch.sealed_at + DELAY
            for epoch, (_, statement) in zip(self.pure.epochs, self.sealed, strict=True)
        )

    @precondition(lambda self: not self.a_false_root_pays)
    @rule(order=st.permutations(range(3 * len(NAMES))))
    def everybody_gets_exactly_what_was_charged(self, order: Sequence[int]) -> None:
        """In whatever order; the hub stands afterwards where it stood before."""
        with boa.env.anchor():
            for number in order:
                session, name = self.sessions[number // 3], NAMES[number % 3]
                if self.pure.charged_for(raw(name), session):
                    self.direct(session, name)()
            charged = {name: sum(self.earned(session)[name] for session in self.sessions) for name in NAMES}
            assert {name: balance(self.hub, name) for name in NAMES} == charged
            assert self.hub.settlement.total_paid() == self.hub.settlement.total_charged()

    @invariant()
    def every_cent_is_where_the_pure_machine_has_it(self) -> None:
        if not hasattr(self, "sealed"):
            return
        settlement = self.hub.settlement
        charged, spent = settlement.total_charged(), settlement.total_paid()
        assert (charged, spent) == (self.pure.total_charged, self.pure.total_paid)
        assert spent <= charged <= 3 * DEPOSIT
        for name in EVERYBODY:
            claimed = self.pure.claimed.get(raw(name), 0)
            assert settlement.claimed(account(name)) == balance(self.hub, name) == claimed
            assert settlement.opened(account(name)) == self.pure.opened_for(raw(name))
        refunds = balance(self.hub, "owner") - self.owner_had
        assert self.hub.dollar.balanceOf(settlement.address) == 3 * DEPOSIT - refunds - spent
        closed = sum(
            DEPOSIT - sum(self.earned(session).values()) for session in self.sessions if session in self.pure.closed
        )
        assert refunds == closed


TestHubMoney = HubMoney.TestCase
TestHubMoney.settings = settings(max_examples=settings().max_examples // 5, stateful_step_count=30, deadline=None)
