"""Routers' bonds: each refusal with its values, and random changes through `protocol.router_bond` and the contract."""

from typing import Any

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.contracts.conftest import CHANGE_DELAY, GRACE, account, contract, reverts
from tristrata.bindings.artifacts import decode_error, load
from tristrata.protocol.hashing import keccak
from tristrata.protocol.router_bond import (
    AddBond,
    BondChanged,
    BondRefused,
    ManagedChanged,
    Release,
    RequestWithdrawal,
    Reserve,
    RouterBond,
    RouterChange,
    RouterEvent,
    SetUnsecuredLimit,
    Slash,
    UnsecuredLimitChanged,
    Withdraw,
    WithdrawalRequested,
    apply,
)
from tristrata.protocol.units import Amount, Seconds, Timestamp

LIMIT = 50
FUNDS = 10_000
LIFETIME = 30 * 86_400
FEE, REFUSING, SILENT, REENTRANT = 2, 4, 8, 16  # modes of WeirdToken


class Registry:
    """A `RouterRegistry` with plain accounts for its owner, for `Sessions`, and for who gets what is slashed."""

    def __init__(self, token: str = "testing/TestDollar.vy") -> None:
        self.owner, self.sessions, self.receiver = account("operator"), account("sessions"), account("settlement")
        with boa.env.prank(self.owner):
            self.asset = contract(token)
            self.contract = contract(
                "orchestration/RouterRegistry.vy", self.asset.address, self.sessions, LIMIT, GRACE, CHANGE_DELAY
            )
        for name in ("router", "rival"):
            self.fund(name)

    def fund(self, name: str) -> None:
        self.asset.mint(account(name), FUNDS, sender=self.owner)
        self.asset.approve(self.contract.address, 2**256 - 1, sender=account(name))

    def add(self, amount: int, name: str = "router") -> None:
        self.contract.add_bond(account(name), amount, sender=account(name))

    def reserve(self, amount: int, name: str = "router") -> None:
        self.contract.reserve(account(name), amount, sender=self.sessions)

    def slash(self, amount: int, name: str = "router") -> int:
        return int(self.contract.slash(account(name), amount, self.receiver, sender=self.sessions))

    def announce(self, limit: int) -> bytes:
        change = keccak(self.contract.set_unsecured_limit.prepare_calldata(limit))
        self.contract.announce(change, sender=self.owner)
        return change

    def set_limit(self, limit: int) -> None:
        self.announce(limit)
        boa.env.time_travel(CHANGE_DELAY)
        self.contract.set_unsecured_limit(limit, sender=self.owner)

    def of(self, name: str = "router") -> tuple[int, int, int, int]:
        """Bond, leaving, leaves_at, managed."""
        return tuple(self.contract.router(account(name)))  # type: ignore[return-value]

    def balance(self, name: str) -> int:
        return int(self.asset.balanceOf(account(name)))

    def events(self) -> list[RouterEvent]:
        """What the last call logged, as the pure machine has it."""
        kinds = {
            kind.__name__: kind for kind in (BondChanged, WithdrawalRequested, ManagedChanged, UnsecuredLimitChanged)
        }
        found = []
        for log in self.contract.get_logs():
            if (kind := kinds.get(type(log).__name__)) is not None:
                found.append(kind(*(getattr(log, field) for field in kind.__struct_fields__)))
        return found


@pytest.fixture
def registry() -> Registry:
    return Registry()


def low(name: str) -> str:
    return account(name).lower()


def test_init__registry__names_its_parameters(registry: Registry) -> None:
    found = registry.contract

    assert (found.asset(), found.sessions()) == (registry.asset.address, registry.sessions)
    assert (found.exit_delay(), found.change_delay(), found.unsecured_limit()) == (GRACE, CHANGE_DELAY, LIMIT)
    assert (found.owner(), registry.of()) == (registry.owner, (0, 0, 0, 0))


def test_add_bond__by_anyone__is_the_routers(registry: Registry) -> None:
    registry.contract.add_bond(account("router"), 70, sender=account("rival"))

    assert registry.events() == [BondChanged(Amount(70))]
    assert (registry.of(), registry.of("rival")) == ((70, 0, 0, 0), (0, 0, 0, 0))
    assert registry.asset.balanceOf(registry.contract.address) == 70


def test_add_bond__nothing_or_for_nobody__is_refused(registry: Registry) -> None:
    zero = "0x" + 40 * "0"

    with reverts("RouterRegistry", "ZeroBond", low("router"), 0):
        registry.add(0)
    with reverts("RouterRegistry", "ZeroBond", zero, 1):
        registry.contract.add_bond(zero, 1, sender=account("router"))


def test_add_bond__while_paused__is_refused_and_the_way_out_is_not(registry: Registry) -> None:
    registry.add(70)
    registry.contract.pause(True, sender=registry.owner)

    with reverts("RouterRegistry", "ContractPaused", registry.contract.address.lower()):
        registry.add(1)
    registry.contract.request_withdrawal(70, sender=account("router"))
    boa.env.time_travel(GRACE)
    registry.contract.withdraw(sender=account("router"))
    assert registry.balance("router") == FUNDS


def test_reserve__up_to_bond_and_unsecured_limit__and_no_further(registry: Registry) -> None:
    registry.add(100)

    registry.reserve(150)

    assert registry.events() == [ManagedChanged(Amount(150))]
    with reverts("RouterRegistry", "AboveRouterBond", low("router"), 151, 150):
        registry.reserve(1)
    with reverts("RouterRegistry", "AboveRouterBond", low("rival"), 51, 50):
        registry.reserve(51, "rival")
    registry.contract.release(account("router"), 1, sender=registry.sessions)
    assert registry.events() == [ManagedChanged(Amount(149))]
    registry.reserve(1)


def test_request_withdrawal__of_what_secures_deposits__is_refused(registry: Registry) -> None:
    registry.add(100)
    registry.reserve(80)

    with reverts("RouterRegistry", "AboveRouterBond", low("router"), 80, 79):
        registry.contract.request_withdrawal(71, sender=account("router"))
    for amount in (0, 101):
        with reverts("RouterRegistry", "BondTooLow", amount, 100):
            registry.contract.request_withdrawal(amount, sender=account("router"))
    registry.contract.request_withdrawal(70, sender=account("router"))
    with reverts("RouterRegistry", "AboveRouterBond", low("router"), 81, 80):
        registry.reserve(1)


def test_withdraw__before_the_exit_delay__is_refused(registry: Registry) -> None:
    registry.add(100)
    with reverts("RouterRegistry", "ExitTooEarly", 0, 0, boa.env.timestamp):
        registry.contract.withdraw(sender=account("router"))
    leaves_at = boa.env.timestamp + GRACE
    registry.contract.request_withdrawal(60, sender=account("router"))
    assert registry.events() == [WithdrawalRequested(Amount(60), Timestamp(leaves_at))]

    boa.env.time_travel(GRACE - 1)
    with reverts("RouterRegistry", "ExitTooEarly", 60, leaves_at, leaves_at - 1):
        registry.contract.withdraw(sender=account("router"))
    boa.env.time_travel(1)
    registry.contract.withdraw(sender=account("router"))
    assert registry.events() == [BondChanged(Amount(40))]
    assert (registry.of(), registry.balance("router")) == ((40, 0, 0, 0), FUNDS - 40)
    with reverts("RouterRegistry", "ExitTooEarly", 0, 0, leaves_at):
        registry.contract.withdraw(sender=account("router"))


def test_request_withdrawal__again__replaces_amount_and_time(registry: Registry) -> None:
    registry.add(100)
    registry.contract.request_withdrawal(60, sender=account("router"))
    boa.env.time_travel(GRACE)

    registry.contract.request_withdrawal(100, sender=account("router"))

    leaves_at = boa.env.timestamp + GRACE
    assert registry.of() == (100, 100, leaves_at, 0)
    with reverts("RouterRegistry", "ExitTooEarly", 100, leaves_at, boa.env.timestamp):
        registry.contract.withdraw(sender=account("router"))


def test_slash__up_to_the_bond__pays_the_receiver(registry: Registry) -> None:
    registry.add(100)
    registry.add(30, "rival")

    assert registry.slash(40) == 40
    assert registry.events() == [BondChanged(Amount(60))]
    assert registry.slash(1_000) == 60
    assert registry.slash(1) == 0
    assert (registry.of(), registry.of("rival")) == ((0, 0, 0, 0), (30, 0, 0, 0))
    assert registry.balance("settlement") == 100
    assert registry.asset.balanceOf(registry.contract.address) == 30


def test_slash__while_a_part_is_leaving__takes_that_first_and_leaves_what_secures_others(registry: Registry) -> None:
    registry.add(100)
    registry.reserve(90)
    registry.contract.request_withdrawal(60, sender=account("router"))

    registry.slash(50)

    assert registry.of()[:2] == (50, 10)
    boa.env.time_travel(GRACE)
    registry.contract.withdraw(sender=account("router"))
    # 40 of the bond and 50 unsecured stand for 90, as before.
    assert registry.of() == (40, 0, 0, 90)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("reserve", (1,)), ("release", (0,)), ("slash", (1, account("thief")))],
)
def test_sessions_calls__by_anyone_else__are_refused(registry: Registry, name: str, arguments: tuple[Any, ...]) -> None:
    registry.add(100)

    for sender in (registry.owner, account("router"), account("thief")):
        with reverts("RouterRegistry", "NotSessions", sender.lower()):
            getattr(registry.contract, name)(account("router"), *arguments, sender=sender)


def test_set_unsecured_limit__announced_and_ripe__is_made_once(registry: Registry) -> None:
    change = registry.announce(70)
    ripe_at = boa.env.timestamp + CHANGE_DELAY

    for wait in (CHANGE_DELAY - 1, LIFETIME + 2):
        boa.env.time_travel(wait)
        with reverts("RouterRegistry", "ChangeNotRipe", ripe_at, ripe_at + LIFETIME, boa.env.timestamp):
            registry.contract.set_unsecured_limit(70, sender=registry.owner)
    registry.set_limit(70)
    assert registry.events() == [UnsecuredLimitChanged(Amount(70))]
    assert registry.contract.unsecured_limit() == 70
    with reverts("RouterRegistry", "ChangeNotAnnounced", change):
        registry.contract.set_unsecured_limit(70, sender=registry.owner)


def test_set_unsecured_limit__other_than_announced_or_by_a_stranger__is_refused(registry: Registry) -> None:
    registry.announce(70)
    boa.env.time_travel(CHANGE_DELAY)

    other = keccak(registry.contract.set_unsecured_limit.prepare_calldata(71))
    with reverts("RouterRegistry", "ChangeNotAnnounced", other):
        registry.contract.set_unsecured_limit(71, sender=registry.owner)
    with reverts("RouterRegistry", "NotOwner", low("thief")):
        registry.contract.set_unsecured_limit(70, sender=account("thief"))


def test_set_unsecured_limit__lower_than_what_is_managed__stops_only_new_deposits(registry: Registry) -> None:
    registry.add(10)
    registry.reserve(60)

    registry.set_limit(0)

    with reverts("RouterRegistry", "AboveRouterBond", low("router"), 61, 10):
        registry.reserve(1)
    registry.contract.release(account("router"), 60, sender=registry.sessions)


def test_add_bond__token_that_misbehaves__is_refused() -> None:
    registry = Registry("testing/WeirdToken.vy")
    token = registry.asset

    token.set_mode(FEE)
    with reverts("RouterRegistry", "WrongAmountReceived", 1_000, 990):
        registry.add(1_000)
    token.set_mode(REFUSING)
    with reverts("RouterRegistry", "TransferRefused", token.address.lower(), low("router"), 1_000):
        registry.add(1_000)
    token.set_mode(SILENT)
    registry.add(1_000)
    assert registry.of() == (1_000, 0, 0, 0)


def test_withdraw__token_reenters__finds_the_registry_locked() -> None:
    registry = Registry("testing/WeirdToken.vy")
    token = registry.asset
    registry.add(100)
    registry.contract.request_withdrawal(60, sender=account("router"))
    boa.env.time_travel(GRACE)
    token.mint(token.address, 5)
    token.approve_as_token(registry.contract.address, 5)
    call = registry.contract.add_bond.prepare_calldata(account("router"), 5)
    token.set_reentry(registry.contract.address, call)
    token.set_mode(REENTRANT)

    registry.contract.withdraw(sender=account("router"))

    assert (token.reentries(), token.reentry_succeeded()) == (1, False)
    assert (registry.of()[0], registry.balance("router")) == (40, FUNDS - 40)


class AgainstThePureMachine(RuleBasedStateMachine):
    """Random changes of two routers through the machine and the contract: same states, events, refusals and money."""

    names = st.sampled_from(["router", "rival"])
    amounts = st.one_of(st.integers(0, 120), st.sampled_from([FUNDS, 2**96 - 1]))

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.registry = Registry()
        for name in ("router", "rival"):  # so that only what is under test refuses
            self.registry.asset.mint(account(name), 2**97, sender=self.registry.owner)
        self.funds = 2**97 + FUNDS
        self.pure = {name: RouterBond(Seconds(GRACE), Amount(LIMIT)) for name in ("router", "rival")}
        self.slashed = 0
        self.spent = {"router": 0, "rival": 0}

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def both(self, name: str, change: RouterChange, call: Any) -> bool:
        now = Timestamp(boa.env.timestamp)
        try:
            state, events = apply(self.pure[name], change, now)
        except BondRefused:
            with pytest.raises(boa.BoaError) as caught:
                call()
            output = bytes(caught.value.call_trace.output)
            # What overflows 96 bits is stopped by the compiler's check, which has no name.
            assert decode_error(output, load("RouterRegistry").errors) or not output
            return False
        call()
        assert self.registry.events() == events
        self.pure[name] = state
        return True

    @rule(seconds=st.integers(1, 2 * GRACE))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(name=names, amount=amounts)
    def add_bond(self, name: str, amount: int) -> None:
        if self.both(name, AddBond(Amount(amount)), lambda: self.registry.add(amount, name)):
            self.spent[name] += amount

    @rule(name=names, amount=amounts)
    def request_withdrawal(self, name: str, amount: int) -> None:
        self.both(
            name,
            RequestWithdrawal(Amount(amount)),
            lambda: self.registry.contract.request_withdrawal(amount, sender=account(name)),
        )

    @rule(name=names)
    def withdraw(self, name: str) -> None:
        leaving = self.pure[name].leaving
        if self.both(name, Withdraw(), lambda: self.registry.contract.withdraw(sender=account(name))):
            self.spent[name] -= leaving

    @rule(name=names, amount=amounts)
    def reserve(self, name: str, amount: int) -> None:
        self.both(name, Reserve(Amount(amount)), lambda: self.registry.reserve(amount, name))

    @rule(name=names, amount=amounts)
    def release(self, name: str, amount: int) -> None:
        release = self.registry.contract.release
        self.both(name, Release(Amount(amount)), lambda: release(account(name), amount, sender=self.registry.sessions))

    @rule(name=names, amount=amounts)
    def slash(self, name: str, amount: int) -> None:
        before = self.pure[name].bond
        assert self.both(name, Slash(Amount(amount)), lambda: self.registry.slash(amount, name))
        self.slashed += before - self.pure[name].bond

    @rule(limit=st.integers(0, 200))
    def set_unsecured_limit(self, limit: int) -> None:
        for name in self.pure:
            self.both(name, SetUnsecuredLimit(Amount(limit)), lambda: self.registry.set_limit(limit))

    @invariant()
    def states_are_the_same_and_money_is_conserved(self) -> None:
        if not hasattr(self, "pure"):
            return
        for name, pure in self.pure.items():
            assert self.registry.of(name) == (pure.bond, pure.leaving, pure.leaves_at, pure.managed)
            assert pure.leaving <= pure.bond
            assert self.registry.balance(name) == self.funds - self.spent[name]
        bonds = sum(pure.bond for pure in self.pure.values())
        assert self.registry.asset.balanceOf(self.registry.contract.address) == bonds
        assert self.registry.balance("settlement") == self.slashed
        assert bonds + self.slashed == sum(self.spent.values())


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(
    max_examples=settings().max_examples // 5, stateful_step_count=25, deadline=None
)
