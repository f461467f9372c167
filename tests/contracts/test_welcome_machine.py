"""The Welcome Center against the pure machine: random changes, the same states, events, refusals and tokens."""

from collections.abc import Callable
from typing import Any

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import asdict

from tests.contracts.conftest import account, raw
from tests.contracts.welcome_center import (
    HUB,
    NOWHERE,
    OTHER_HUB,
    SESSIONS,
    Center,
)
from tristrata.bindings.artifacts import decode_error, load
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ChainRef
from tristrata.protocol.terms import Credit, Registration, Role, Withdraw
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.welcome import (
    Carry,
    CreditChain,
    Credited,
    CreditReturned,
    DepositTokens,
    Pause,
    RaiseBudget,
    Register,
    ReturnCredit,
    SetDestination,
    SetSponsorship,
    Sponsor,
    Sponsored,
    Welcome,
    WelcomeChange,
    WelcomeRefused,
    WithdrawBalance,
    WithdrawBudget,
    apply,
)

NAMES = ("alice", "bob", "carol")
CHAINS = (HUB, OTHER_HUB)
names = st.sampled_from(NAMES)
chains = st.sampled_from((*CHAINS, NOWHERE))
amounts = st.integers(0, 40).map(Amount)
receivers = st.sampled_from((SESSIONS, b"\x32" * 32))


class AgainstThePureMachine(RuleBasedStateMachine):
    """Random changes through `protocol.welcome` and through the contract: same states, events, refusals and tokens."""

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.center = Center()
        self.pure = Welcome(self.center.domain.contract)
        self.tokens = dict.fromkeys(NAMES, 1_000)
        self.out = dict.fromkeys(CHAINS, 0)
        self.back = dict.fromkeys(CHAINS, 0)
        for name in NAMES:
            self.center.fund(account(name), 1_000)
        for ref in CHAINS:
            self.set_destination(ref, SESSIONS, Amount(50))

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def both(self, change: WelcomeChange, call: Callable[[], Any]) -> bool:
        try:
            state, events = apply(self.pure, change, Timestamp(boa.env.timestamp))
        except WelcomeRefused:
            with pytest.raises(boa.BoaError) as caught:
                call()
            assert decode_error(bytes(caught.value.call_trace.output), load("Welcome").errors) is not None
            return False
        call()
        self.pure = state
        assert self.logged() == [plain(event) for event in events]
        for event in events:
            if isinstance(event, Credited):
                self.out[event.destination] += event.amount
            elif isinstance(event, CreditReturned):
                self.back[event.source] += event.amount
        return True

    def logged(self) -> list[tuple[str, dict[str, Any]]]:
        """The Welcome Center's own events, as the pure machine has them."""
        ours = {"Registered", "CarrierPaid", "Deposited", "Withdrawn", "Credited", "CreditReturned"}
        ours |= {"DestinationSet", "SponsorshipSet", "BudgetRaised", "BudgetWithdrawn", "Paused"}
        logs = [log for log in self.center.contract.get_logs() if type(log).__name__ in ours]
        return [(type(log).__name__, fields_of(log)) for log in logs]

    @rule(seconds=st.sampled_from((1, 500, 40_000)))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(name=names, role=st.sampled_from(Role), late=st.booleans(), sponsored=st.none() | st.tuples(names, names))
    def register(self, name: str, role: Role, late: bool, sponsored: tuple[str, str] | None) -> None:
        signed = Registration(raw(name), role, Timestamp(boa.env.timestamp - late))
        arguments = (account(name), int(role), signed.deadline, self.center.sign(name, signed))
        if sponsored is None:
            self.both(
                Register(signed, raw("carrier")),
                lambda: self.center.contract.register(*arguments, sender=account("carrier")),
            )
            return
        sponsor, payee = sponsored
        self.both(
            Register(signed, raw("carrier"), Sponsored(raw(sponsor), raw(payee))),
            lambda: self.center.contract.register_sponsored(*arguments, account(sponsor), account(payee)),
        )

    @rule(name=names, payer=names, amount=amounts, way=st.sampled_from(("own", "other", "permit", "authorization")))
    def deposit(self, name: str, payer: str, amount: Amount, way: str) -> None:
        made, asset = self.center.contract, self.center.asset
        to = name if way == "other" else payer
        if way == "permit":
            permit = self.center.permit(payer, amount, asset.nonces(account(payer)))
        salt = keccak(repr((payer, boa.env.timestamp, asset.balanceOf(account(payer)))).encode())
        done = self.both(
            DepositTokens(raw(to), raw(payer), amount),
            {
                "own": lambda: made.deposit(amount, sender=account(payer)),
                "other": lambda: made.deposit_for(account(to), amount, sender=account(payer)),
                "permit": lambda: made.deposit_with_permit(account(payer), amount, *permit),
                "authorization": lambda: made.deposit_with_authorization(*self.center.authorize(payer, amount, salt)),
            }[way],
        )
        if way == "permit":
            asset.approve(made.address, 2**255, sender=account(payer))
        self.tokens[payer] -= amount * done

    @rule(name=names, amount=amounts, recipient=names)
    def withdraw(self, name: str, amount: Amount, recipient: str) -> None:
        done = self.both(
            WithdrawBalance(raw(name), amount, raw(recipient)),
            lambda: self.center.contract.withdraw(amount, account(recipient), sender=account(name)),
        )
        self.tokens[recipient] += amount * done

    @rule(name=names, amount=amounts, recipient=names, nonce=st.integers(0, 3), late=st.booleans())
    def withdraw_for(self, name: str, amount: Amount, recipient: str, nonce: int, late: bool) -> None:
        order = Withdraw(raw(name), amount, raw(recipient), nonce, Timestamp(boa.env.timestamp - late))
        done = self.both(Carry(order), lambda: self.center.carry(order, self.center.sign(name, order)))
        self.tokens[recipient] += amount * done

    @rule(name=names, ref=chains, amount=amounts)
    def credit(self, name: str, ref: ChainRef, amount: Amount) -> None:
        self.both(
            CreditChain(raw(name), ref, amount),
            lambda: self.center.contract.credit(ref, amount, sender=account(name)),
        )

    @rule(name=names, ref=chains, amount=amounts, nonce=st.integers(0, 3), late=st.booleans())
    def credit_for(self, name: str, ref: ChainRef, amount: Amount, nonce: int, late: bool) -> None:
        order = Credit(raw(name), ref, amount, nonce, Timestamp(boa.env.timestamp - late))
        self.both(Carry(order), lambda: self.center.carry(order, self.center.sign(name, order)))

    @rule(name=names, ref=chains, sender=receivers, amount=amounts)
    def return_credit(self, name: str, ref: ChainRef, sender: bytes, amount: Amount) -> None:
        self.both(
            ReturnCredit(ref, sender, raw(name), amount),
            lambda: self.center.send_back(name, amount, ref, sender),
        )

    @rule(ref=st.sampled_from(CHAINS), receiver=receivers, limit=st.integers(0, 80).map(Amount))
    def set_destination(self, ref: ChainRef, receiver: bytes, limit: Amount) -> None:
        self.center.announce(ref, receiver, limit)
        self.both(
            SetDestination(ref, receiver, limit),
            lambda: self.center.contract.set_destination(ref, receiver, limit, sender=self.center.operator),
        )

    @rule(name=names, reward=st.integers(0, 10).map(Amount), per_day=st.integers(0, 2), per_account=st.integers(0, 2))
    def set_sponsorship(self, name: str, reward: Amount, per_day: int, per_account: int) -> None:
        self.both(
            SetSponsorship(raw(name), reward, per_day, per_account),
            lambda: self.center.contract.set_sponsorship(reward, per_day, per_account, sender=account(name)),
        )

    @rule(name=names, amount=amounts)
    def raise_budget(self, name: str, amount: Amount) -> None:
        done = self.both(
            RaiseBudget(raw(name), amount),
            lambda: self.center.contract.sponsor_deposit(amount, sender=account(name)),
        )
        self.tokens[name] -= amount * done

    @rule(name=names, amount=amounts, recipient=names)
    def withdraw_budget(self, name: str, amount: Amount, recipient: str) -> None:
        done = self.both(
            WithdrawBudget(raw(name), amount, raw(recipient)),
            lambda: self.center.contract.sponsor_withdraw(amount, account(recipient), sender=account(name)),
        )
        self.tokens[recipient] += amount * done

    @rule(paused=st.sampled_from((True, False, False)))
    def pause(self, paused: bool) -> None:
        self.both(Pause(paused), lambda: self.center.contract.pause(paused, sender=self.center.operator))

    @invariant()
    def states_are_the_same_and_custody_is_exact(self) -> None:
        if not hasattr(self, "pure"):
            return
        made = self.center.contract
        for name in NAMES:
            who = account(name)
            assert made.roles(who) == self.pure.roles.get(raw(name), 0)
            assert made.balance_of(who) == self.pure.balances.get(raw(name), 0)
            assert Sponsor(*made.sponsor(who)) == self.pure.sponsors.get(raw(name), Sponsor())
            assert self.center.asset.balanceOf(who) == self.tokens[name]
        for ref in CHAINS:
            known = self.pure.destinations[ref]
            assert made.destination(ref) == (known.receiver, known.limit, known.credited)
            assert self.back[ref] + known.credited == self.out[ref]
        assert self.center.holds() == self.pure.custody


def plain(event: Any) -> tuple[str, dict[str, Any]]:
    return type(event).__name__, asdict(event)


def fields_of(log: Any) -> dict[str, Any]:
    values = {name: getattr(log, name) for name in log._fields if name not in ("address", "index")}
    return {
        name: bytes.fromhex(value[2:]) if isinstance(value, str) and len(value) == 42 else value
        for name, value in values.items()
    }


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(
    max_examples=settings().max_examples // 4, stateful_step_count=25, deadline=None
)
