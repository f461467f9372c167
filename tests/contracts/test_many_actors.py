"""Many owners, routers, miners and strangers on one hub, and validators that lie now and then: the rules of money hold.

No machine says here what must happen; after every step it is asked only whether the money is where it should be.
"""

from collections.abc import Sequence
from typing import Any

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.contracts.conftest import (
    DELAY,
    GRACE,
    KEPT_EPOCHS,
    ONE,
    REF,
    account,
    as_abi,
    key,
    packed,
    raw,
)
from tests.contracts.crowd import (
    ACTS,
    DAILY_LIMIT,
    DAY,
    DONE,
    MAX_SESSIONS,
    MINERS,
    NOT_PAYABLE,
    OWNERS,
    PAYEES,
    ROUTERS,
    Crowd,
    Known,
    Statement,
    gather,
)
from tests.contracts.money import events
from tests.contracts.session_orders import authorize, order_fields, soon
from tristrata.protocol.ids import session_id
from tristrata.protocol.orders import ClaimTo, ReplaceKey, RequestClose, TopUp
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.terms import OpenSession
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import parse_splits

pytestmark = pytest.mark.timeout(3_600)  # for the long profile

sessions = st.integers(0, MAX_SESSIONS - 1)
growths = st.dictionaries(st.integers(0, 3), st.integers(1, 60), min_size=1)
lies = st.tuples(sessions, st.sampled_from(PAYEES), st.lists(st.sampled_from([1, 20, 150]), min_size=1, max_size=5))


class ManyActors(Crowd, RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        for owner, managed in ((0, False), (1, True)):
            self.open(owner, owner, managed, 300, limited=False, carried=False)
            self.charge(owner, {0: 5, 1: 40, 2: 20}, way="charge")

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    # sessions

    @precondition(lambda self: len(self.sessions) < MAX_SESSIONS)
    @rule(
        owner=st.integers(0, 4),
        router=st.integers(0, 2),
        managed=st.booleans(),
        deposit=st.sampled_from([30, 150, 300]),
        limited=st.booleans(),
        carried=st.booleans(),
    )
    def open(self, owner: int, router: int, managed: bool, deposit: int, limited: bool, carried: bool) -> None:
        """By the owner itself, or with one signature of its by somebody else; a managed one by its router."""
        nonce, act = len(self.sessions) + 1, "open managed" if managed else "open carried" if carried else "open"
        name, signs = OWNERS[owner], f"{ROUTERS[router]} signs" if managed else f"key {nonce}"
        terms = self.hub.terms(
            session_key=raw(signs),
            router=raw(ROUTERS[router]),
            managed=managed,
            max_per_day=Amount(DAILY_LIMIT if limited else 0),
            expiry=boa.env.timestamp + 5 * DAY,
        )
        if managed or carried:
            order = OpenSession(raw(name), nonce, Amount(deposit), soon(), terms)
            arguments = (*order_fields(order), *authorize(self.hub, order, name))
            carrier = account(ROUTERS[router] if managed else "stranger")
            call = lambda: self.hub.sessions.open_with_authorization(*arguments, sender=carrier)  # noqa: E731
        else:
            call = lambda: self.hub.sessions.open(nonce, deposit, as_abi(terms), sender=account(name))  # noqa: E731
        if self.attempt(act, call, "AboveRouterBond"):
            self.acted.add(name)
            miners = MINERS[nonce % 4 : nonce % 4 + 3]
            limit = DAILY_LIMIT if limited else 0
            opened = session_id(REF, raw(name), nonce)
            self.sessions.append(Known(opened, name, ROUTERS[router], managed, limit, miners, [signs], deposit))

    @rule(
        which=sessions, payer=st.sampled_from([*OWNERS, "stranger"]), amount=st.integers(1, 200), carried=st.booleans()
    )
    def top_up(self, which: int, payer: str, amount: int, carried: bool) -> None:
        known = self.pick(which)
        call = lambda: self.hub.sessions.top_up(known.id, amount, sender=account(payer))  # noqa: E731
        if carried:
            salt = boa.env.timestamp.to_bytes(31, "big") + bytes([known.deposited % 256])
            order = TopUp(known.id, raw(payer), Amount(amount), salt, soon())
            arguments = (*as_abi(order), *authorize(self.hub, order, payer))
            call = lambda: self.hub.sessions.top_up_with_authorization(*arguments, sender=account("thief"))  # noqa: E731
        if self.attempt(f"top_up {carried=}", call, "SessionClosed", "AboveRouterBond"):
            self.acted.add(payer)
            known.deposited += amount

    @rule(which=sessions, growth=growths, way=st.sampled_from(["charge", "settle", "later"]))
    def charge(self, which: int, growth: dict[int, int], way: str) -> None:
        """The key signs for more; a payee charges it, or keeps it for later."""
        known = self.pick(which)
        earned = self.charged_by(known)
        for place, amount in growth.items():
            earned[known.payees[place]] = earned.get(known.payees[place], 0) + amount
        known.signed = max(known.signed, sum(earned.values()))
        known.calls.append((len(known.calls) + 1, earned, known.keys[-1]))
        if way != "later":
            self.replay(which, len(known.calls) - 1, by_settle=way == "settle")

    @rule(which=sessions, index=st.integers(0, 9), by_settle=st.booleans())
    def replay(self, which: int, index: int, by_settle: bool) -> None:
        """Anyone brings a voucher that was signed before, charged already or not, of a key replaced since or not."""
        known = self.pick(which)
        if not known.calls:
            return
        call = self.hub.charge_call(known.id, *known.calls[index % len(known.calls)])
        refusals = (
            "AboveDeposit",
            "AboveDailyLimit",
            "SessionClosed",
            "ChargeNotUp",
            "SplitShrunk",
            "WrongSplitsBefore",
        )
        if by_settle:
            done = lambda: self.hub.settle(charges=[call], signers=())  # noqa: E731
        else:
            done = lambda: self.hub.settlement.charge(*call, sender=account("stranger"))  # noqa: E731
        if self.attempt(f"charge {by_settle=}", done, *refusals, "WrongSigner"):
            self.hub.remember(call)

    @rule(which=sessions, loser=st.integers(0, 2), winner=st.integers(0, 3), growth=st.sampled_from([1, 50, 1_000]))
    def forfeit(self, which: int, loser: int, winner: int, growth: int) -> None:
        """The key signs less for one payee and more for another: whoever has both vouchers ends the session."""
        known = self.pick(which)
        before = self.charged_by(known)
        if not before or known.is_forfeited:
            return
        less, more = sorted(before)[loser % len(before)], known.payees[winner]
        fork = {**before, less: before[less] - 1}
        fork[more] = fork.get(more, 0) + growth
        call, words, _ = self.hub.charge_call(known.id, 99, fork, known.keys[-1])
        count, splits = self.hub.last[known.id]
        assert count == call[3]
        deposit = self.hub.settlement.escrow(known.id)
        done = lambda: self.hub.settlement.forfeit(call, words, packed(splits), sender=account("stranger"))  # noqa: E731
        if not self.attempt(f"forfeit {known.managed=}", done, "SessionClosed", "VouchersAgree"):
            return
        [event] = events(self.hub.settlement, "Forfeited")
        known.is_forfeited = True
        known.from_bond += event.from_bond
        self.slashed += event.from_bond
        self.hub.last[known.id] = (event.count, parse_splits(event.splits))
        both = sum(max(before.get(name, 0), fork.get(name, 0)) for name in {*before, *fork})
        if known.managed:
            assert event.refund >= deposit - both
        else:
            assert event.from_bond == 0

    @rule(which=sessions, carried=st.booleans())
    def replace_key(self, which: int, carried: bool) -> None:
        known = self.pick(which)
        new = f"key {len(known.keys)} of {known.id.hex()}"
        call = lambda: self.hub.sessions.replace_key(known.id, account(new), sender=account(known.owner))  # noqa: E731
        if carried:
            order = ReplaceKey(known.id, raw(known.keys[-1]), raw(new), soon())
            arguments = known.id, account(new), order.deadline, self.hub.order(order, known.owner)
            call = lambda: self.hub.sessions.replace_key_for(*arguments, sender=account("thief"))  # noqa: E731
        if self.attempt("replace_key", call, "SessionClosed", "SessionManaged", "KeyChangeTooEarly"):
            known.keys.append(new)

    @rule(which=sessions, by=st.integers(0, 2), carried=st.booleans())
    def request_close(self, which: int, by: int, carried: bool) -> None:
        known = self.pick(which)
        sender = (known.owner, known.router, known.keys[-1])[by]
        call = lambda: self.hub.sessions.request_close(known.id, sender=account(sender))  # noqa: E731
        if carried:
            order = RequestClose(known.id, raw(sender), soon())
            arguments = (*as_abi(order), self.hub.order(order, sender))
            call = lambda: self.hub.sessions.request_close_for(*arguments, sender=account("thief"))  # noqa: E731
        self.attempt("request_close", call, "SessionClosed", "AlreadyClosing")

    @rule(which=sessions, later=st.sampled_from([0, GRACE]))
    def close(self, which: int, later: int) -> None:
        boa.env.time_travel(later)
        known = self.pick(which)
        call = lambda: self.hub.sessions.close(known.id, sender=account("stranger"))  # noqa: E731
        self.attempt("close", call, "SessionClosed", "CloseTooEarly")

    @rule(seconds=st.sampled_from([1, GRACE, DELAY, DAY]))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    # routers' bonds

    @rule(router=st.integers(0, 2), amount=st.integers(1, 300))
    def add_bond(self, router: int, amount: int) -> None:
        name = ROUTERS[router]
        if self.attempt("add_bond", lambda: self.hub.routers.add_bond(account(name), amount, sender=account(name))):
            self.acted.add(name)

    @rule(router=st.integers(0, 2), amount=st.sampled_from([1, 100, 300]))
    def request_withdrawal(self, router: int, amount: int) -> None:
        call = lambda: self.hub.routers.request_withdrawal(amount, sender=account(ROUTERS[router]))  # noqa: E731
        self.attempt("request_withdrawal", call, "BondTooLow", "AboveRouterBond")

    @rule(router=st.integers(0, 2))
    def withdraw_bond(self, router: int) -> None:
        call = lambda: self.hub.routers.withdraw(sender=account(ROUTERS[router]))  # noqa: E731
        self.attempt("withdraw_bond", call, "ExitTooEarly")

    # epochs

    @rule(lie=st.none() | lies, then=st.sampled_from(["claim", "claim", "refute", "veto", "wait"]))
    def seal(self, lie: tuple[int, str, list[int]] | None, then: str) -> None:
        """The validators sign what is true; or two thirds of them add to somebody's payout what was never charged."""
        entries, told = self.charged_entries(), None
        if lie is not None:
            which, name, amounts = lie
            told = name, self.pick(which).id
            entries[name] += [(told[1], amount) for amount in amounts]
        statement = Statement(entries, told)
        sealed: list[Any] = []
        call = lambda: sealed.append(self.hub.settle(statement.payouts.root))  # noqa: E731
        if self.attempt(f"seal true={lie is None}", call, "SetExpired"):
            self.sealed.append((*sealed, statement))
            if then == "veto":
                self.veto(0)
            elif then == "refute":
                self.refute(0)
            elif then == "claim":
                self.claim(0, 0, 4, DELAY)

    @precondition(lambda self: self.sealed)
    @rule(back=st.integers(0, 2))
    def veto(self, back: int) -> None:
        seal, statement = self.pick_epoch(back)
        call = lambda: self.hub.settlement.veto(seal, statement.payouts.root, sender=account(ONE))  # noqa: E731
        if self.attempt("veto", call, *NOT_PAYABLE, "VetoTooLate", "NotValidator"):
            self.acted.add(ONE)

    @rule(back=st.integers(0, KEPT_EPOCHS))
    def refute(self, back: int) -> None:
        lies = [(seal, statement) for seal, statement in self.sealed if statement.lie]
        if not lies:
            return
        seal, statement = lies[-1 - back % len(lies)]
        assert statement.lie is not None
        name, session = statement.lie
        count, splits = self.hub.last.get(session, (0, ()))
        payout = statement.payouts.payout(name), statement.payouts.proof(name)
        entries = statement.trees[name].open_all(session)[:4]
        call = lambda: self.hub.settlement.refute(seal, *payout, session, entries, count, packed(splits))  # noqa: E731
        self.attempt("refute", call, "EpochNotKept", "PayoutCovered")

    # claims

    @precondition(lambda self: self.sealed)
    @rule(
        back=st.sampled_from([0, 0, 1, 2, KEPT_EPOCHS]),
        first=st.integers(0, 9),
        count=st.integers(1, 4),
        later=st.sampled_from([0, DELAY, DELAY]),
    )
    def claim(self, back: int, first: int, count: int, later: int) -> None:
        boa.env.time_travel(later)
        seal, statement = self.pick_epoch(back)
        names = sorted(statement.trees)
        found = names[first % len(names) :][:count]
        before = self.hub.settlement.total_paid()
        call = lambda: self.hub.settlement.claim_many(seal, *statement.payouts.many(*found))  # noqa: E731
        if len(found) == 1:
            call = lambda: self.hub.claim(seal, statement.payouts, found[0])  # noqa: E731
        self.attempt("claim", call, *NOT_PAYABLE, "PayoutTooEarly", "AboveCharged")
        if self.hub.settlement.total_paid() != before:
            DONE[f"paid by an epoch that is true={statement.lie is None}"] += 1
            self.is_robbed |= statement.lie is not None

    @rule(which=sessions, place=st.integers(0, 3), elsewhere=st.booleans())
    def claim_direct(self, which: int, place: int, elsewhere: bool) -> None:
        known = self.pick(which)
        names = sorted(self.charged_by(known), key=raw)
        if not names:
            return
        index = place % len(names)
        if not elsewhere:
            self.attempt("claim_direct", lambda: self.hub.claim_direct(known.id, index))
            return
        payee, (count, splits) = names[index], self.hub.last[known.id]
        claimed = Amount(self.hub.settlement.claimed(account(payee)))
        order = ClaimTo(raw(payee), raw("cold wallet"), claimed, soon())
        signature = sign(key(payee), digest(self.hub.domain(self.hub.settlement).separator, order.struct_hash))
        arguments = account("cold wallet"), order.deadline, signature, known.id, count, packed(splits), index
        self.attempt("claim_to", lambda: self.hub.settlement.claim_to(*arguments, sender=account("thief")))

    @precondition(lambda self: len(self.sessions) > 2 and not self.has_left)
    @rule(order=st.permutations(range(MAX_SESSIONS)))
    def everybody_leaves(self, order: Sequence[int]) -> None:
        """Without router, validator or operator, all money goes to whom it belongs; afterwards all is as it was."""
        hub, self.has_left = self.hub, True  # once a sequence, because it takes long
        with boa.env.anchor():
            boa.env.time_travel(6 * DAY)
            for known in [self.sessions[which] for which in order if which < len(self.sessions)]:
                refund = hub.settlement.escrow(known.id) - hub.settlement.charged_amount(known.id)
                had = self.balance_at(account(known.owner))
                self.attempt("leave", lambda known=known: hub.sessions.close(known.id), "SessionClosed")
                assert self.balance_at(account(known.owner)) == had + refund
                for index in range(len(self.charged_by(known))):
                    hub.claim_direct(known.id, index)
            for name in ROUTERS:
                if bond := hub.routers.router(account(name)).bond:
                    hub.routers.request_withdrawal(bond, sender=account(name))
            boa.env.time_travel(GRACE)
            for name in ROUTERS:
                self.attempt(
                    "leave with bond", lambda name=name: hub.routers.withdraw(sender=account(name)), "ExitTooEarly"
                )
            assert self.balance_at(hub.settlement.address) == self.balance_at(hub.routers.address) == 0
            if not self.is_robbed:
                charged = {name: sum(amount for _, amount in found) for name, found in self.charged_entries().items()}
                assert {name: hub.settlement.claimed(account(name)) for name in PAYEES} == charged

    # after every step

    @invariant()
    def money_is_where_it_should_be(self) -> None:
        self.check()


@pytest.mark.hypothesis
def test_many_actors__any_acts_in_any_order__keep_all_money_where_it_should_be() -> None:
    hub = gather()
    examples = settings().max_examples // 4

    run_state_machine_as_test(
        lambda: ManyActors(hub), settings=settings(max_examples=examples, stateful_step_count=35, deadline=None)
    )


def test_many_actors__each_kind_of_act__can_be_done() -> None:
    """Otherwise the sequences would show less than they say."""
    DONE.clear()
    actors = ManyActors(gather())
    script = (
        lambda: actors.open(2, 2, managed=False, deposit=150, limited=True, carried=True),
        lambda: actors.top_up(0, "stranger", 10, carried=False),
        lambda: actors.top_up(1, OWNERS[4], 10, carried=True),
        lambda: actors.charge(2, {0: 1, 3: 40}, way="settle"),
        lambda: actors.replace_key(2, carried=True),
        lambda: actors.claim_direct(2, 0, elsewhere=False),
        lambda: actors.claim_direct(0, 1, elsewhere=True),
        lambda: actors.seal(None, then="claim"),
        lambda: actors.seal(None, then="veto"),
        lambda: actors.seal((0, "thief", [150, 1]), then="refute"),
        lambda: actors.charge(1, {1: 30}, way="charge"),
        lambda: actors.seal((1, "thief", [20]), then="wait"),
        lambda: actors.claim(0, first=len(actors.sealed[-1][1].trees) - 1, count=1, later=DELAY),
        lambda: actors.everybody_leaves(range(3)),
        lambda: actors.forfeit(0, 0, 2, growth=50),
        lambda: actors.forfeit(1, 0, 2, growth=1_000),
        lambda: actors.open(3, 2, managed=False, deposit=300, limited=True, carried=False),
        lambda: actors.charge(3, {1: 40}, way="charge"),
        lambda: actors.forfeit(3, 0, 2, growth=1_000),
        lambda: actors.request_close(2, 0, carried=True),
        lambda: actors.close(2, later=GRACE),
        lambda: actors.add_bond(0, 10),
        lambda: actors.request_withdrawal(0, 100),
        lambda: actors.wait(GRACE),
        lambda: actors.withdraw_bond(0),
    )

    try:
        actors.start()
        for act in script:
            act()
            actors.check()
    finally:
        actors.teardown()

    assert DONE.keys() == ACTS, DONE.keys() ^ ACTS
