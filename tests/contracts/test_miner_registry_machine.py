"""Random changes of several miners through `protocol.bond` and through the contract `MinerRegistry`."""

from typing import Any

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import asdict, replace

from tests.contracts.conftest import account, domain_of, sign_all
from tests.contracts.test_miner_registry import (
    BURNT,
    EXIT_DELAY,
    FUNDS,
    MIN_BOND,
    MODEL,
    MODELS,
    NAMES,
    QUEUE,
    RANDOMNESS,
    make_registry,
    nats,
)
from tristrata.protocol.bond import (
    MAX_JAIL,
    AddBond,
    Bond,
    BondEvent,
    BondRefused,
    Exit,
    MakeOffer,
    Penalize,
    Register,
    Release,
    RemoveBond,
    RequestExit,
    Reserve,
    Rules,
    Unjail,
    WithdrawBond,
    WithdrawOffer,
    apply,
)
from tristrata.protocol.hashing import ZERO_WORD
from tristrata.protocol.ids import ModelId
from tristrata.protocol.sum_tree import MAX_DRAWN, draw
from tristrata.protocol.units import Amount, BasisPoints, Seconds, Timestamp

FIRST_MAX_PENALTY = 1_000
COMMON_FIELDS = (
    "active",
    "bond",
    "reserved",
    "withdrawing",
    "withdraw_at",
    "exit_at",
    "jailed_until",
    "weight",
)
EVENTS: dict[str, tuple[str, ...]] = {kind.__name__: kind.__struct_fields__ for kind in BondEvent.__args__}


class AgainstThePureMachine(RuleBasedStateMachine):
    """Random changes of several miners through `protocol.bond` and through the contract: same states, events, money."""

    names = st.sampled_from(NAMES)
    models = st.sampled_from(MODELS)
    amounts = st.integers(0, 300)

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.registry = make_registry()
        self.miners = self.registry.miners
        rules = Rules(Amount(MIN_BOND), Seconds(EXIT_DELAY), BasisPoints(FIRST_MAX_PENALTY))
        self.pure = {name: Bond(rules) for name in NAMES}
        self.wallet = dict.fromkeys(NAMES, FUNDS)
        self.burnt = dict.fromkeys(NAMES, 0)
        self.places: dict[ModelId, list[str]] = {model: [] for model in MODELS}
        # miners whose weight is still by another least bond: it follows with their next change
        self.outdated: set[str] = set()
        for name in NAMES:
            self.register(name, 400)
            self.offer(name, MODEL)

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def both(self, name: str, change: Any, method: str, *arguments: Any, sender: str = "") -> None:
        before = self.pure[name]

        def call() -> Any:
            return getattr(self.miners, method)(*arguments, sender=account(sender or name))

        try:
            after, events = apply(before, change, Timestamp(boa.env.timestamp))
        except BondRefused:
            with pytest.raises(boa.BoaError):
                call()
            return
        answer = call()
        assert sorted(self.logs(), key=repr) == sorted(map(as_log, events), key=repr)
        if isinstance(change, Reserve):
            assert answer == bool(events)
        self.pure[name] = after
        if events:
            self.outdated.discard(name)
        held = after.bond + after.withdrawing - before.bond - before.withdrawing
        burnt = sum(event["amount"] for kind, event in map(as_log, events) if kind == "Penalized")
        self.burnt[name] += burnt
        self.wallet[name] -= held + burnt

    def logs(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for log in self.miners.get_logs():
            kind = type(log).__name__
            if kind in EVENTS:
                found.append((kind, {field: getattr(log, field) for field in EVENTS[kind]}))
        return found

    @rule(seconds=st.one_of(st.integers(1, 100), st.integers(1, MAX_JAIL)))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(name=names, bond=st.integers(MIN_BOND - 1, 500))
    def register(self, name: str, bond: int) -> None:
        keys = (account(name + " signs"), nats(name), ZERO_WORD, 1)
        self.both(name, Register(Amount(bond)), "register", *keys, bond)

    @rule(name=names, model=models)
    def offer(self, name: str, model: ModelId) -> None:
        self.both(name, MakeOffer(model), "offer", model, 1, 1)
        if model in self.pure[name].offers and name not in self.places[model]:
            self.places[model].append(name)

    @rule(name=names, model=models)
    def withdraw_offer(self, name: str, model: ModelId) -> None:
        self.both(name, WithdrawOffer(model), "withdraw_offer", model)

    @rule(name=names, amount=amounts)
    def add_bond(self, name: str, amount: int) -> None:
        self.both(name, AddBond(Amount(amount)), "add_bond", amount)

    @rule(name=names, amount=amounts)
    def remove_bond(self, name: str, amount: int) -> None:
        self.both(name, RemoveBond(Amount(amount)), "remove_bond", amount)

    @rule(name=names)
    def withdraw_bond(self, name: str) -> None:
        self.both(name, WithdrawBond(), "withdraw_bond")

    @rule(name=names)
    def request_exit(self, name: str) -> None:
        self.both(name, RequestExit(), "request_exit")

    @rule(name=names, amount=amounts)
    def leave(self, name: str, amount: int) -> None:
        """All the steps in a row, which would seldom come together by chance."""
        self.release(name, self.pure[name].reserved)
        self.remove_bond(name, amount)
        self.request_exit(name)
        boa.env.time_travel(EXIT_DELAY)
        self.exit(name)

    @rule(name=names)
    def exit(self, name: str) -> None:
        self.both(name, Exit(), "exit")

    @rule(name=names, amount=amounts)
    def reserve(self, name: str, amount: int) -> None:
        self.both(name, Reserve(Amount(amount)), "reserve", account(name), amount, sender=QUEUE)

    @rule(name=names, amount=amounts)
    def release(self, name: str, amount: int) -> None:
        self.both(name, Release(Amount(amount)), "release", account(name), amount, sender=QUEUE)

    @rule(name=names, amount=st.integers(0, 600), seconds=st.sampled_from([0, 0, 30, 3 * MAX_JAIL]))
    def penalize(self, name: str, amount: int, seconds: int) -> None:
        change = Penalize(Amount(amount), Seconds(seconds))
        self.both(name, change, "penalize", account(name), amount, seconds, sender=QUEUE)

    @rule(
        name=names,
        seconds=st.sampled_from([0, 1, 40, MAX_JAIL, MAX_JAIL + 1]),
        penalty=amounts,
        evidence=st.integers(0, 5),
    )
    def jail(self, name: str, seconds: int, penalty: int, evidence: int) -> None:
        order = self.registry.jailing(seconds, penalty, bytes([evidence]) * 32, name)
        arguments = (order.until, penalty, order.evidence, sign_all(domain_of(self.miners), order))
        self.both(name, order, "jail", account(name), *arguments, sender="anyone")

    @rule(name=names)
    def unjail(self, name: str) -> None:
        self.both(name, Unjail(), "unjail", account(name), sender="anyone")

    @rule(min_bond=st.integers(1, 300), max_penalty=st.integers(0, 5_000))
    def change_rules(self, min_bond: int, max_penalty: int) -> None:
        self.registry.change("set_min_bond", "uint96", min_bond)
        self.registry.change("set_max_penalty_bps", "uint16", max_penalty)
        rules = Rules(Amount(min_bond), Seconds(EXIT_DELAY), BasisPoints(max_penalty))
        self.pure = {name: replace(bond, rules=rules) for name, bond in self.pure.items()}
        self.outdated = set(NAMES)

    @invariant()
    def records_are_the_same(self) -> None:
        for name in NAMES if hasattr(self, "pure") else ():
            record, pure = self.registry.record(name), self.pure[name]
            for field in COMMON_FIELDS:
                assert getattr(record, field) == getattr(pure, field), field
            assert set(self.miners.offers_of(account(name))) == pure.offers

    @invariant()
    def money_is_conserved_and_what_is_reserved_stays(self) -> None:
        if not hasattr(self, "pure"):
            return
        held = self.registry.asset.balanceOf(self.miners.address)
        assert held == sum(pure.bond + pure.withdrawing for pure in self.pure.values())
        assert self.registry.asset.balanceOf(BURNT) == sum(self.burnt.values())
        for name, pure in self.pure.items():
            assert self.registry.asset.balanceOf(account(name)) == self.wallet[name]
            assert pure.reserved <= pure.bond + self.burnt[name]

    @invariant()
    def trees_hold_the_free_bonds_of_those_who_offer_and_may_work(self) -> None:
        now = Timestamp(boa.env.timestamp if hasattr(self, "pure") else 0)
        for model in MODELS if hasattr(self, "pure") else ():
            weights = []
            for name in self.places[model]:
                pure = self.pure[name]
                awaits_unjail = pure.weight == 0 and 0 < pure.jailed_until <= now
                free = pure.free if pure.may_work(now) and not awaits_unjail else 0
                if name in self.outdated:
                    free = pure.weight
                weights.append(free if model in pure.offers else 0)
            snapshot = self.miners.snapshot(model)
            assert self.miners.weight_of(snapshot) == sum(weights)
            drawn = [account(self.places[model][place]) for place in draw(weights, RANDOMNESS, MAX_DRAWN)]
            assert self.miners.draw(snapshot, RANDOMNESS, MAX_DRAWN) == drawn


def as_log(event: Any) -> tuple[str, dict[str, Any]]:
    return type(event).__name__, asdict(event)


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(
    max_examples=settings.default.max_examples // 8, stateful_step_count=25, deadline=None
)
