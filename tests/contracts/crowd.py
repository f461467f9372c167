"""Everybody who has money at one hub, what they know of it, and where it must be whatever they do."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import boa

from tests.contracts.conftest import (
    MAX_VALIDITY,
    ONE,
    VETO_FEE,
    Hub,
    Payouts,
    account,
    make_hub,
    raw,
    validator_set,
)
from tests.contracts.money import SumTreeOf, fund_validator
from tristrata.bindings.artifacts import decode_error, load
from tristrata.protocol.ids import SessionId

OWNERS = tuple(f"owner {number}" for number in range(5))
ROUTERS = tuple(f"router {number}" for number in range(3))
MINERS = tuple(f"miner {number}" for number in range(6))
STRANGERS = ("stranger", "thief", "cold wallet")
PAYEES = (*ROUTERS, *MINERS, "thief")
EVERYBODY = (*OWNERS, *ROUTERS, *MINERS, *STRANGERS, ONE)
BURNT = "0x000000000000000000000000000000000000dEaD"
FUNDS, UNSECURED, DAILY_LIMIT, MAX_SESSIONS = 10_000, 100, 80, 6
DAY = 86_400
ERRORS = tuple(
    {error for name in ("Settlement", "Outbox", "Sessions", "RouterRegistry") for error in load(name).errors}
)
NOT_PAYABLE = ("EpochNotKept", "PayoutVetoed")
# Kinds of acts, and how often each was done; what was refused is not counted.
ACTS = {
    *("open", "open carried", "open managed"),
    *(f"{act}={value}" for act in ("top_up carried", "charge by_settle", "seal true") for value in (False, True)),
    *(f"forfeit known.managed={value}" for value in (False, True)),
    *(f"paid by an epoch that is true={value}" for value in (False, True)),
    *("replace_key", "request_close", "close", "add_bond", "request_withdrawal", "withdraw_bond"),
    *("veto", "refute", "claim", "claim_direct", "claim_to", "leave", "leave with bond"),
}
DONE: Counter[str] = Counter()

Entries = dict[str, list[tuple[SessionId, int]]]


@dataclass
class Known:
    """What its parties know of a session beside what the chain says."""

    id: SessionId
    owner: str
    router: str
    managed: bool
    limit: int
    miners: tuple[str, ...]
    keys: list[str]
    deposited: int
    calls: list[tuple[int, dict[str, int], str]] = field(default_factory=list)
    signed: int = 0  # by any of its keys, at most
    from_bond: int = 0
    is_forfeited: bool = False
    on_day: dict[int, int] = field(default_factory=dict)
    charged: int = 0

    @property
    def payees(self) -> tuple[str, ...]:
        return (self.router, *self.miners)


class Statement:
    """What an epoch says, rightly or not."""

    def __init__(self, entries: Entries, lie: tuple[str, SessionId] | None = None) -> None:
        self.lie = lie
        self.trees = {name: SumTreeOf(found) for name, found in entries.items() if found}
        sums = {name: tree.root for name, tree in self.trees.items()}
        self.payouts = Payouts({name: tree.total for name, tree in self.trees.items()}, sums)


def gather() -> Hub:
    """A hub to which everybody has come with money, and the routers with their bonds."""
    hub = make_hub(unsecured_limit=UNSECURED)
    hub.adopt(validator_set(valid_until=boa.env.timestamp + MAX_VALIDITY))
    for name in (*OWNERS, *STRANGERS):
        hub.fund(name, FUNDS)
        hub.register(name)
    for name in ROUTERS:
        hub.dollar.mint(account(name), FUNDS, sender=hub.operator)
        hub.dollar.approve(hub.routers.address, FUNDS, sender=account(name))
        hub.routers.add_bond(account(name), 300, sender=account(name))
    fund_validator(hub, ONE, 1_000 * VETO_FEE)
    return hub


class Crowd:
    """What everybody knows, for a state machine that has them act; ``acted`` are those who paid by their own act."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self.hub = replace(hub, last={})
        self.sessions: list[Known] = []
        self.sealed: list[tuple[Any, Statement]] = []
        self.slashed = 0
        self.is_robbed = self.has_left = False
        self.is_checked = True
        self.acted: set[str] = set()
        self.minted = hub.dollar.totalSupply() - self.balance_at(account("owner"))
        self.had = self.balances()

    def attempt(self, act: str, call: Callable[[], object], *allowed: str) -> bool:
        """Whether it was done; if not, it was refused with one of these errors."""
        try:
            call()
        except boa.BoaError as error:
            found = decode_error(bytes(error.call_trace.output), ERRORS)
            assert found is not None and found[0] in allowed, f"{act}: {error}"
            return False
        DONE[act] += 1
        self.is_checked = False
        return True

    def pick(self, which: int) -> Known:
        return self.sessions[which % len(self.sessions)]

    def balance_at(self, address: str) -> int:
        return int(self.hub.dollar.balanceOf(address))

    def balances(self) -> dict[str, int]:
        return {name: self.balance_at(account(name)) for name in EVERYBODY}

    def charged_by(self, known: Known) -> dict[str, int]:
        """What is charged to a session, by payee."""
        names = {raw(name): name for name in known.payees}
        _, splits = self.hub.last.get(known.id, (0, ()))
        return {names[split.payee]: int(split.amount) for split in splits}

    def charged_entries(self) -> Entries:
        found: Entries = {name: [] for name in PAYEES}
        for known in self.sessions:
            for name, amount in self.charged_by(known).items():
                found[name].append((known.id, amount))
        return found

    def pick_epoch(self, back: int) -> tuple[Any, Statement]:
        return self.sealed[-1 - back % len(self.sealed)]

    def check(self) -> None:
        """The money is where it should be; asked only after something was done, for what is refused changes nothing."""
        if self.is_checked:
            return
        self.is_checked = True
        self.nobody_loses_without_its_act()
        self.all_money_is_somewhere()
        self.what_is_held_is_owed()

    def nobody_loses_without_its_act(self) -> None:
        has = self.balances()
        for name, amount in has.items():
            assert amount >= self.had[name] or name in self.acted, f"{name} lost {self.had[name] - amount}"
        self.had, self.acted = has, set()

    def all_money_is_somewhere(self) -> None:
        hub = self.hub
        places = (hub.settlement.address, hub.routers.address, BURNT)
        assert sum(self.had.values()) + sum(self.balance_at(place) for place in places) == self.minted
        assert self.balance_at(hub.sessions.address) == 0
        assert self.balance_at(hub.routers.address) == sum(hub.routers.router(account(name)).bond for name in ROUTERS)

    def what_is_held_is_owed(self) -> None:
        """P1: paid <= charged <= deposited and slashed; here is what is not charged, or is charged and not paid."""
        settlement = self.hub.settlement
        escrow = {known.id: settlement.escrow(known.id) for known in self.sessions}
        charged = {known.id: settlement.charged_amount(known.id) for known in self.sessions}
        total, paid = settlement.total_charged(), settlement.total_paid()
        deposited = sum(known.deposited for known in self.sessions)
        assert paid <= total <= deposited + self.slashed
        assert total == sum(charged.values())
        assert paid == sum(settlement.claimed(account(name)) for name in PAYEES)
        assert self.balance_at(settlement.address) == sum(escrow.values()) - sum(charged.values()) + total - paid
        managed: Counter[str] = Counter()
        for known in self.sessions:
            if self.hub.sessions.is_closed(known.id):
                assert escrow[known.id] == charged[known.id] <= known.deposited + known.from_bond
            else:
                assert escrow[known.id] == known.deposited >= charged[known.id]
                managed[known.router] += known.deposited * known.managed
            self.check_charged(known, charged[known.id])
        for name in ROUTERS:
            assert self.hub.routers.router(account(name)).managed == managed[name]

    def check_charged(self, known: Known, charged: int) -> None:
        """P2: never less, never above what a key signed nor above the daily limit; only a forfeit gives payees more."""
        growth = charged - known.charged
        assert growth >= 0
        today = boa.env.timestamp // DAY
        known.on_day[today] = known.on_day.get(today, 0) + growth
        known.charged = charged
        if not known.is_forfeited:
            assert charged <= known.signed
        if known.limit:
            assert known.on_day[today] - known.from_bond <= known.limit
