"""Random changes of some sessions through `protocol.session` and through the contracts: the same in every respect."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contracts.conftest import GRACE, account, as_abi, make_hub, ordered, packed, raw
from tests.contracts.session_orders import soon
from tristrata.bindings.artifacts import decode_error, load
from tristrata.protocol import orders, router_bond
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address
from tristrata.protocol.router_bond import BondRefused, RouterBond
from tristrata.protocol.session import (
    ChargeVoucher,
    Close,
    Forfeit,
    Forfeited,
    ReplaceKey,
    RequestClose,
    Session,
    SessionChange,
    SessionEvent,
    SessionRefused,
    TopUp,
    apply,
    open_session,
)
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import charge_tail, parse_splits

DEPOSIT, LIMIT, UNSECURED, FUNDS = 1_000, 400, 1_500, 100_000
LIFE = 900_000
PAYEES = ("router", "miner", "other")
NAMES = {raw(name): name for name in PAYEES}
PARTIES = ("owner", "router", "session key", "second key", "stranger")
DAY = 86_400

MOST = 4
# Among the live sessions, or now and then any.
sessions = st.integers(0, 9)
# The key that a session has, the one that it had, or somebody.
signers = st.integers(0, 9).map(lambda drawn: {9: "owner", 8: "stranger", 7: "replaced key"}.get(drawn, "key"))
earnings = st.fixed_dictionaries({name: st.integers(0, 150) for name in PAYEES})
growths = st.one_of(
    st.fixed_dictionaries({"miner": st.integers(1, 60)}, optional={"router": st.just(7), "other": st.just(40)}),
    st.just({"miner": LIMIT}),
)


class AgainstThePureMachine(RuleBasedStateMachine):
    """Same refusals, states, events and money; and in the end everybody gets out what is theirs."""

    @initialize(bond=st.sampled_from([2_000, 100, 0]))
    def start(self, bond: int) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.hub = make_hub(unsecured_limit=UNSECURED)
        for name in ("owner", "router"):
            self.hub.fund(name, FUNDS)
        self.hub.dollar.approve(self.hub.routers.address, FUNDS, sender=account("router"))
        self.owned = self.hub.dollar.balanceOf(account("owner"))
        self.bond = RouterBond(Seconds(GRACE), Amount(UNSECURED))
        self.put_in, self.refunded, self.from_bond, self.withdrawn, self.bonded = 0, 0, 0, 0, 0
        self.paid: dict[tuple[int, str], int] = {}
        self.pure: list[Session] = []
        self.touched: set[int] = set()
        if bond:
            self.add_bond(bond)
        self.open(True, 0)
        self.open(False, LIMIT)

    @precondition(lambda self: len(self.pure) < MOST and any(session.closed for session in self.pure))
    @rule(managed=st.booleans(), limit=st.sampled_from([0, LIMIT]))
    def open(self, managed: bool, limit: int) -> None:
        number, expiry = len(self.pure), boa.env.timestamp + LIFE
        terms = self.hub.terms(managed=managed, max_per_day=limit, expiry=expiry)
        bond = self.bond
        try:
            if managed:
                bond, _ = router_bond.apply(bond, router_bond.Reserve(Amount(DEPOSIT)), self.now)
        except BondRefused:
            with refused():
                self.hub.open(DEPOSIT, number, managed=managed, max_per_day=limit, expiry=expiry)
            return
        session = self.hub.open(DEPOSIT, number, managed=managed, max_per_day=limit, expiry=expiry)
        sender = raw("router") if managed else raw("owner")
        self.pure.append(open_session(session, raw("owner"), terms, Amount(DEPOSIT), Seconds(GRACE), sender))
        self.bond = bond
        self.put_in += DEPOSIT
        self.touched.add(number)

    def pick(self, drawn: int, charged: bool = False) -> int:
        """The number of a live session, one that is charged if that matters, or now and then of any."""
        live = [
            number
            for number, session in enumerate(self.pure)
            if not session.closed and (session.charge.splits or not charged)
        ]
        return live[drawn % len(live)] if live and drawn < 9 else drawn % len(self.pure)

    def teardown(self) -> None:
        if not hasattr(self, "anchor"):
            return
        try:
            if getattr(self, "pure", None):
                self.everybody_leaves()
        finally:
            self.anchor.__exit__(None, None, None)

    @property
    def now(self) -> Timestamp:
        return Timestamp(boa.env.timestamp)

    def both(self, number: int, change: SessionChange, call: Callable[[], Any]) -> bool:
        """The change through machine and contract; whether it was made."""
        self.touched.add(number)
        before = self.pure[number]
        bond = self.bond
        try:
            state, events = apply(before, change, self.now)
            if before.terms.managed and isinstance(change, TopUp):
                bond, _ = router_bond.apply(bond, router_bond.Reserve(change.amount), self.now)
            if before.terms.managed and state.closed:
                bond, _ = router_bond.apply(bond, router_bond.Release(before.deposit), self.now)
        except (SessionRefused, BondRefused, InvalidValue):
            with refused():
                call()
            return False
        call()
        assert self.logged(number) == events
        for event in events:
            self.refunded += getattr(event, "refund", 0)
            if isinstance(event, Forfeited) and event.from_bond:
                self.from_bond += event.from_bond
                bond, _ = router_bond.apply(bond, router_bond.Slash(event.from_bond), self.now)
        if isinstance(change, ChargeVoucher | Forfeit):
            self.hub.last[before.session_id] = (state.charge.count, state.charge.splits)
        self.pure[number], self.bond = state, bond
        return True

    def logged(self, number: int) -> list[SessionEvent]:
        """What the last call logged of a session, as the pure machine has it."""
        kinds = {kind.__name__: kind for kind in get_args(SessionEvent)}
        found: list[SessionEvent] = []
        for emitter in (self.hub.sessions, self.hub.settlement):
            for log in emitter.get_logs():
                kind = kinds.get(type(log).__name__)
                if kind is None or log.address != emitter.address:
                    continue
                assert log.session_id == self.pure[number].session_id
                fields = {name: getattr(log, name, None) for name in kind.__struct_fields__}
                for name, value in fields.items():
                    if isinstance(value, str):
                        fields[name] = Address(bytes.fromhex(value[2:]))
                if "splits" in fields:
                    fields["splits"] = parse_splits(fields["splits"])
                if "cumulative" in fields:
                    fields["cumulative"] = Amount(sum(split.amount for split in fields["splits"]))
                found.append(kind(**fields))
        return found

    @rule(seconds=st.one_of(st.integers(1, 2 * GRACE), st.just(DAY)))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(amount=st.integers(0, 400))
    def add_bond(self, amount: int) -> None:
        call = self.hub.routers.add_bond
        self.bonds(
            router_bond.AddBond(Amount(amount)), lambda: call(account("router"), amount, sender=account("router"))
        )

    @rule(amount=st.integers(0, 400))
    def request_withdrawal(self, amount: int) -> None:
        call = self.hub.routers.request_withdrawal
        self.bonds(router_bond.RequestWithdrawal(Amount(amount)), lambda: call(amount, sender=account("router")))

    @rule()
    def withdraw(self) -> None:
        self.bonds(router_bond.Withdraw(), lambda: self.hub.routers.withdraw(sender=account("router")))

    def bonds(self, change: router_bond.RouterChange, call: Callable[[], Any]) -> None:
        try:
            state, _ = router_bond.apply(self.bond, change, self.now)
        except BondRefused:
            with refused():
                call()
            return
        call()
        if isinstance(change, router_bond.AddBond):
            self.bonded += change.amount
        if isinstance(change, router_bond.Withdraw):
            self.withdrawn += self.bond.bond - state.bond
        self.bond = state

    @rule(drawn=sessions, amount=st.integers(0, 400))
    def top_up(self, drawn: int, amount: int) -> None:
        number = self.pick(drawn)
        session = self.pure[number].session_id
        call = self.hub.sessions.top_up
        if self.both(number, TopUp(Amount(amount)), lambda: call(session, amount, sender=account("owner"))):
            self.put_in += amount

    def signer(self, number: int, who: str) -> str:
        """The name of an account, or of the key that a session has or had."""
        keys = {raw(name): name for name in ("session key", "second key")}
        session = self.pure[number]
        return {"key": keys[session.key], "replaced key": keys.get(session.replaced_key, "stranger")}.get(who, who)

    def had(self, number: int) -> dict[str, int]:
        return {NAMES[split.payee]: split.amount for split in self.pure[number].charge.splits}

    @rule(drawn=sessions, growths=st.lists(growths, min_size=1, max_size=4), who=signers, count=st.integers(-1, 2))
    def charge_more(self, drawn: int, growths: list[dict[str, int]], who: str, count: int) -> None:
        number = self.pick(drawn)
        for more in growths:
            earned = {name: self.had(number).get(name, 0) + more.get(name, 0) for name in PAYEES}
            self.charge(number, max(0, self.pure[number].charge.count + count), earned, who)

    @rule(drawn=sessions, earned=earnings, who=signers, count=st.integers(0, 2))
    def charge_anything(self, drawn: int, count: int, earned: dict[str, int], who: str) -> None:
        self.charge(self.pick(drawn), count, earned, who)

    def charge(self, number: int, count: int, earned: dict[str, int], who: str) -> None:
        signer, splits = self.signer(number, who), ordered(earned)
        voucher = self.hub.voucher(self.pure[number].session_id, count, splits)
        call = self.hub.call_of(voucher, splits, signer)
        self.both(number, ChargeVoucher(voucher, splits, raw(signer)), lambda: self.hub.settlement.charge(*call))

    @precondition(lambda self: any(session.charge.splits and not session.closed for session in self.pure))
    @rule(
        drawn=sessions,
        left_out=st.integers(0, 2),
        gainer=st.integers(0, 1),
        gain=st.sampled_from([3 * DEPOSIT, 40, 1, 0]),
        who=signers,
        count=st.integers(0, 9),
    )
    def forfeit(self, drawn: int, left_out: int, gainer: int, gain: int, who: str, count: int) -> None:
        """A voucher that leaves somebody out, and may give another more."""
        number = self.pick(drawn, charged=True)
        signer, state, had = self.signer(number, who), self.pure[number], self.had(number)
        out = (sorted(had) or PAYEES)[left_out % (len(had) or len(PAYEES))]
        earned = {name: had.get(name, 0) for name in PAYEES if name != out}
        earned[sorted(earned)[gainer]] += gain
        splits = ordered(earned)
        voucher = self.hub.voucher(state.session_id, count, splits)
        call, words, _ = self.hub.call_of(voucher, splits, signer)
        change = Forfeit(voucher, splits, raw(signer), self.bond.bond)
        charged = packed(state.charge.splits)
        self.both(number, change, lambda: self.hub.settlement.forfeit(call, words, charged))

    @precondition(lambda self: any(not (session.closed or session.terms.managed) for session in self.pure))
    @rule(
        drawn=sessions,
        sender=st.sampled_from(["owner", "owner", "router"]),
        key=st.sampled_from(["session key", "second key"]),
        carried=st.booleans(),
    )
    def replace_key(self, drawn: int, sender: str, key: str, carried: bool) -> None:
        number = self.pick(drawn)
        session, contract = self.pure[number], self.hub.sessions
        order = orders.ReplaceKey(session.session_id, session.key, raw(key), soon())
        signature = self.hub.order(order, sender)

        def call() -> None:
            if carried:
                contract.replace_key_for(session.session_id, account(key), order.deadline, signature)
            else:
                contract.replace_key(session.session_id, account(key), sender=account(sender))

        self.both(number, ReplaceKey(raw(sender), raw(key)), call)

    @precondition(lambda self: any(not (session.closed or session.closing_at) for session in self.pure))
    @rule(drawn=sessions, sender=st.sampled_from(PARTIES), carried=st.booleans())
    def request_close(self, drawn: int, sender: str, carried: bool) -> None:
        number = self.pick(drawn)
        session = self.pure[number].session_id
        order = orders.RequestClose(session, raw(sender), soon())
        signature = self.hub.order(order, sender)

        def call() -> None:
            if carried:
                self.hub.sessions.request_close_for(session, account(sender), order.deadline, signature)
            else:
                self.hub.sessions.request_close(session, sender=account(sender))

        self.both(number, RequestClose(raw(sender)), call)

    @precondition(lambda self: any(session.closing_at for session in self.pure))
    @rule(drawn=sessions)
    def close(self, drawn: int) -> None:
        number = self.pick(drawn)
        self.both(number, Close(), lambda: self.hub.sessions.close(self.pure[number].session_id))

    @rule(drawn=sessions, index=st.integers(0, 2))
    def claim(self, drawn: int, index: int) -> None:
        self.claim_entry(self.pick(drawn), index)

    def claim_entry(self, number: int, index: int) -> None:
        session = self.pure[number]
        if index >= len(session.charge.splits):
            self.hub.last.setdefault(session.session_id, (0, ()))
            with refused():
                self.hub.claim_direct(session.session_id, index)
            return
        split = session.charge.splits[index]
        entry = number, NAMES[split.payee]
        assert self.hub.claim_direct(session.session_id, index) == split.amount - self.paid.get(entry, 0)
        self.paid[entry] = split.amount

    @invariant()
    def states_are_the_same(self) -> None:
        for number in getattr(self, "touched", ()):
            pure = self.pure[number]
            session, charge = pure.session_id, pure.charge
            record, settlement = self.hub.sessions.session(session), self.hub.settlement
            terms = as_abi(pure.terms)
            assert tuple(record.terms) == (as_text(pure.key), *terms[1:])
            assert (as_text(pure.owner), pure.deposit, pure.closing_at, pure.closed) == (
                record.owner,
                record.deposit,
                record.closing_at,
                record.closed,
            )
            assert (as_text(pure.replaced_key), pure.replaced_until) == (record.replaced_key, record.replaced_until)
            assert settlement.charged_amount(session) == charge.cumulative
            assert settlement.charged_tail(session) == (
                charge_tail(charge.count, charge.splits) if charge.cumulative else 0
            )
            today = self.now // DAY
            assert settlement.charged_on_day(session, today) == (charge.on_day if charge.day == today else 0)
            assert charge.on_day <= (pure.terms.max_per_day or charge.on_day)
        self.touched = set()

    @invariant()
    def money_is_conserved(self) -> None:
        if not hasattr(self, "pure"):
            return
        balance, settlement = self.hub.dollar.balanceOf, self.hub.settlement
        charged, paid = sum(pure.charge.cumulative for pure in self.pure), sum(self.paid.values())
        assert (settlement.total_charged(), settlement.total_paid()) == (charged, paid)
        # P1
        assert paid <= charged <= self.put_in + self.from_bond
        for number, pure in enumerate(self.pure):
            own = sum(amount for (where, _), amount in self.paid.items() if where == number)
            assert own <= pure.charge.cumulative <= pure.deposit
        assert balance(settlement.address) == self.put_in + self.from_bond - self.refunded - paid
        assert balance(account("owner")) == self.owned - self.put_in + self.refunded
        for name in PAYEES:
            spent = FUNDS - self.bonded + self.withdrawn if name == "router" else 0
            assert balance(account(name)) == spent + self.got(name)
        assert balance(self.hub.sessions.address) == 0
        router = self.hub.routers.router(account("router"))
        assert tuple(router) == (self.bond.bond, self.bond.leaving, self.bond.leaves_at, self.bond.managed)
        assert balance(self.hub.routers.address) == self.bond.bond
        assert self.bond.managed == sum(pure.deposit for pure in self.pure if pure.terms.managed and not pure.closed)

    def got(self, name: str) -> int:
        return sum(amount for (_, payee), amount in self.paid.items() if payee == name)

    def everybody_leaves(self) -> None:
        """Anyone closes what is open, in time; every payee claims; nothing stays behind (P3, P8)."""
        boa.env.time_travel(LIFE + GRACE)
        for number, pure in enumerate(self.pure):
            if not pure.closed:
                assert self.both(number, Close(), lambda pure=pure: self.hub.sessions.close(pure.session_id))
            for index in range(len(pure.charge.splits)):
                self.claim_entry(number, index)
        self.touched = set(range(len(self.pure)))
        self.states_are_the_same()
        assert self.hub.dollar.balanceOf(self.hub.settlement.address) == 0
        assert self.hub.settlement.total_paid() == self.hub.settlement.total_charged()
        self.money_is_conserved()


def as_text(address: Address) -> str:
    return str(as_abi(RequestClose(address))[0])


@contextmanager
def refused() -> Iterator[None]:
    """The call within must revert with one of the hub's named errors."""
    with pytest.raises(boa.BoaError) as caught:
        yield
    output = bytes(caught.value.call_trace.output)
    assert any(decode_error(output, load(name).errors) for name in ("Settlement", "Sessions", "RouterRegistry"))


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(
    max_examples=settings().max_examples // 6, stateful_step_count=50, deadline=None
)
