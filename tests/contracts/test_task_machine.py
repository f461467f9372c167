"""The queue of contracts' requests against the pure machine."""

from typing import Any

import boa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import astuple, replace

from tests.contracts.conftest import REF, account, raw, reverts
from tests.contracts.tasks import MINERS, NO, PARAMETERS, QUEUE, SALT, YES, Tasks
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, checksum
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.task import (
    Advance,
    Assign,
    Cancel,
    Commit,
    Credited,
    Deliver,
    Order,
    Reveal,
    SettleBond,
    Status,
    Task,
    TaskRefused,
    apply,
    request,
)
from tristrata.protocol.units import Amount, Gas, Seconds, Timestamp

REFUSALS = {
    "; it must be ": "WrongStatus",
    "did not request": "NotRequester",
    "the draw is decided": "DrawDecided",
    "this was possible before": "TooLate",
    "miners can answer": "TooFewMiners",
    "is not assigned": "NotAssigned",
    "has committed already": "AlreadyCommitted",
    "did not commit": "NotCommitted",
    "has revealed already": "AlreadyRevealed",
    "not what this miner committed to": "WrongReveal",
    "the task has ended": "NothingToAdvance",
    "can be advanced from": "TooEarly",
    "has not ended": "NotFinished",
    "is free already": "BondNotHeld",
    "no callback is due": "CallbackNotPending",
    "replicas at this assurance": "WrongReplicas",
    "the budget is": "BudgetOutOfBounds",
    "window is": "WindowOutOfBounds",
    "the callback wants": "TooMuchCallbackGas",
}
ASKERS = ("asker", "other asker")
MOST_TASKS = 5
# Which task a rule is about: of those there are.
TASKS = st.integers(0, MOST_TASKS - 1)
NAMES = st.sampled_from(MINERS)
ANSWERS = st.lists(st.sampled_from([YES, YES, YES, NO, None]), min_size=5, max_size=5)
# A bond of three budgets out of 100: two tasks at most, or one, or none.
BUDGETS = st.sampled_from([7, 10, 16, 33, 40])


def refusal(error: TaskRefused) -> str:
    """The contract's error for a refusal of the pure machine."""
    [name] = {name for words, name in REFUSALS.items() if words in error.message}
    return name


def plain(value: Any) -> Any:
    """A value of an event as both sides can have it."""
    if isinstance(value, str):
        return bytes.fromhex(value[2:])
    return tuple(plain(each) for each in value) if isinstance(value, list | tuple) else value


class AgainstThePureMachine(RuleBasedStateMachine):
    """Random changes of several tasks through both: the same states, events, refusals, money and reserved bonds."""

    @initialize(
        beginnings=st.lists(st.tuples(st.integers(1, 5), BUDGETS, st.integers(0, 5), ANSWERS), min_size=2, max_size=3)
    )
    def start(self, beginnings: list[tuple[int, int, int, list[bytes | None]]]) -> None:
        """Random changes alone seldom lead a task through: each begins some steps on its way."""
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.world = Tasks(parameters=replace(PARAMETERS, jail_seconds=Seconds(70)))
        self.parameters = replace(PARAMETERS, jail_seconds=Seconds(70))
        for asker in ASKERS:
            self.world.fund(asker)
        self.pure: list[Task] = []
        self.nonces = dict.fromkeys(ASKERS, 0)
        self.newest = 0
        self.proven: dict[int, bytes] = {}
        self.credits: dict[Address, int] = {}
        for index, (replicas, budget, steps, answers) in enumerate(beginnings):
            self.order("asker", replicas, budget, 60, 50_000)
            for _ in range(steps):
                self.go_on(index, answers)

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    @property
    def now(self) -> Timestamp:
        return Timestamp(boa.env.timestamp)

    def both(self, index: int, change: Any, call: Any, sender: str = "anyone") -> None:
        """The change of a task in the machine, and as a call of the contract."""
        index %= len(self.pure)
        try:
            state, events = apply(self.pure[index], change, self.now)
        except TaskRefused as refused:
            with reverts(QUEUE, refusal(refused)):
                call(self.pure[index].task_id, sender=account(sender))
            return
        call(self.pure[index].task_id, sender=account(sender))
        self.pure[index] = state
        self.compare_events(events)

    def compare_events(self, events: list[Any]) -> None:
        names = {type(event).__name__ for event in events}
        logs = [log for log in self.world.queue.get_logs() if hasattr(log, "task_id")]
        assert names == {type(log).__name__ for log in logs}
        found = [
            (type(log).__name__, *(plain(getattr(log, field)) for field in event.__struct_fields__))
            for log, event in zip(logs, events, strict=True)
        ]
        assert found == [(type(event).__name__, *astuple(event)) for event in events]
        for event in events:
            if isinstance(event, Credited):
                self.credits[event.account] = self.credits.get(event.account, 0) + event.amount

    @rule(seconds=st.sampled_from([1, 30, 59]))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @precondition(lambda self: len(self.pure) < MOST_TASKS)
    @rule(asker=st.sampled_from(ASKERS), replicas=st.integers(1, 5), budget=BUDGETS, gas=st.sampled_from([0, 50_000]))
    def request(self, asker: str, replicas: int, budget: int, gas: int) -> None:
        self.order(asker, replicas, budget, 60, gas)

    @rule(
        replicas=st.sampled_from([0, 3, 9]),
        budget=st.sampled_from([0, 10]),
        window=st.sampled_from([59, 60]),
        gas=st.just(5_000_001),
    )
    def request_wrongly(self, replicas: int, budget: int, window: int, gas: int) -> None:
        self.order("asker", replicas, budget, window, gas)

    def order(self, asker: str, replicas: int, budget: int, window: int, gas: int) -> None:
        assurance = Assurance.NONE if replicas == 1 else Assurance.QUORUM
        order = Order(raw(asker), assurance, replicas, Amount(budget), Seconds(window), Seconds(window), Gas(gas))
        options = {
            "assurance": assurance,
            "replicas": replicas,
            "budget": budget,
            "commit_seconds": window,
            "reveal_seconds": window,
            "callback_gas": gas,
        }
        world = self.world
        try:
            task, [event] = request(
                REF, world.raw_queue, order, self.nonces[asker], self.parameters, self.newest, self.now
            )
        except TaskRefused as refused:
            with reverts(QUEUE, refusal(refused)):
                world.request(asker, **options)
            return
        if world.miners.snapshot(world.model_id) == 0:
            with reverts(QUEUE, "NotOffered"):
                world.request(asker, **options)
            return
        before = world.dollar.balanceOf(account(asker))
        assert world.request(asker, **options) == task.task_id
        [log] = world.events("Requested")
        assert (log.deadline, log.super_number) == (task.deadline, task.super_number)
        assert before - world.dollar.balanceOf(account(asker)) == event.escrow
        self.nonces[asker] += 1
        self.pure.append(task)

    @rule(step=st.integers(1, 2))
    def bring_randomness(self, step: int) -> None:
        self.bring(self.newest + step)

    def bring(self, number: int) -> None:
        self.proven[number] = self.world.bring_randomness(number)
        self.newest = max(self.newest, number)

    @rule(index=TASKS)
    def bring_and_assign(self, index: int) -> None:
        self.bring(self.pure[index % len(self.pure)].super_number)
        self.assign(index)

    @rule(index=TASKS)
    def assign(self, index: int) -> None:
        task = self.pure[index % len(self.pure)]
        if task.status == Status.REQUESTED and self.now < task.deadline and task.super_number not in self.proven:
            with reverts(QUEUE, "RandomnessUnknown", task.super_number):
                self.world.queue.assign(task.task_id)
            return
        self.both(index, Assign(self.expected(task)), self.world.queue.assign)

    def expected(self, task: Task) -> tuple[Address, ...]:
        """Who must be drawn, by the rule of docs and the registry's own draws."""
        miners, seen, chosen = self.world.miners, set(), []
        snapshot = self.world.queue.task(task.task_id).snapshot
        for round_ in range(4):
            count = task.order.replicas if round_ == 0 else 8
            seed = keccak(self.proven.get(task.super_number, bytes(32)) + task.task_id + round_.to_bytes(32, "big"))
            candidates = miners.draw(snapshot, seed, count)
            for name in candidates:
                record = miners.miner(name)
                able = record.bond - record.reserved >= task.bond and record.jailed_until <= self.now
                if name not in seen and able and len(chosen) < task.order.replicas:
                    chosen.append(name)
                seen.add(name)
            if len(candidates) < count:
                break
        return tuple(Address(bytes.fromhex(name[2:])) for name in chosen)

    def names(self, index: int) -> list[str]:
        """The miners of a task."""
        return [self.world.names[checksum(work.miner)] for work in self.pure[index % len(self.pure)].work]

    @rule(index=TASKS, name=NAMES, answer=st.sampled_from([YES, YES, NO]))
    def commit(self, index: int, name: str, answer: bytes) -> None:
        bound = self.world.commitment(self.pure[index % len(self.pure)].task_id, name, answer)
        self.both(
            index,
            Commit(raw(name), bound),
            lambda task, sender: self.world.queue.commit(task, bound, sender=sender),
            name,
        )

    @rule(index=TASKS, name=NAMES, answer=st.sampled_from([YES, YES, NO]))
    def reveal(self, index: int, name: str, answer: bytes) -> None:
        self.both(
            index,
            Reveal(raw(name), answer, SALT),
            lambda task, sender: self.world.queue.reveal(task, answer, SALT, sender=sender),
            name,
        )

    @rule(index=TASKS, answers=ANSWERS)
    def many_commit(self, index: int, answers: list[bytes | None]) -> None:
        for name, answer in zip(self.names(index), answers, strict=False):
            if answer is not None:
                self.commit(index, name, answer)

    @rule(index=TASKS, silent=st.sampled_from([None, None, *MINERS]))
    def many_reveal(self, index: int, silent: str | None) -> None:
        task = self.pure[index % len(self.pure)]
        for name, work in zip(self.names(index), task.work, strict=True):
            if name != silent:
                told_yes = work.commitment == self.world.commitment(task.task_id, name, YES)
                self.reveal(index, name, YES if told_yes else NO)

    @rule(index=TASKS, answers=ANSWERS)
    def go_on(self, index: int, answers: list[bytes | None]) -> None:
        """What comes next for a task: its miners do what they should, or time goes by."""
        before = self.pure[index % len(self.pure)]
        if before.status == Status.REQUESTED:
            self.bring_and_assign(index)
        elif before.status == Status.ASSIGNED:
            self.many_commit(index, answers)
        elif before.status == Status.COMMITTED:
            self.many_reveal(index, MINERS[answers.count(None)] if None in answers else None)
        else:
            self.settle_bonds(index)
        if self.pure[index % len(self.pure)].status == before.status:
            self.wait_and_advance(index)

    @rule(index=TASKS)
    def wait_and_advance(self, index: int) -> None:
        boa.env.time_travel(max(0, self.pure[index % len(self.pure)].deadline - self.now))
        self.advance(index)

    @rule(index=TASKS)
    def settle_bonds(self, index: int) -> None:
        for name in self.names(index):
            self.settle_bond(index, name)

    @rule(index=TASKS)
    def advance(self, index: int) -> None:
        self.both(index, Advance(), self.world.queue.advance)

    @rule(index=TASKS, sender=st.sampled_from([*ASKERS, "stranger"]))
    def cancel(self, index: int, sender: str) -> None:
        self.both(index, Cancel(raw(sender), self.newest), self.world.queue.cancel, sender)

    @rule(index=TASKS, name=NAMES)
    def settle_bond(self, index: int, name: str) -> None:
        self.both(
            index,
            SettleBond(raw(name)),
            lambda task, sender: self.world.queue.settle_bond(task, account(name), sender=sender),
        )

    @rule(index=TASKS)
    def deliver(self, index: int) -> None:
        self.both(index, Deliver(True), self.world.queue.deliver)

    @rule(name=st.sampled_from([*ASKERS, *MINERS]))
    def withdraw(self, name: str) -> None:
        amount = self.credits.pop(raw(name), 0)
        before = self.world.dollar.balanceOf(account(name))
        if amount:
            assert self.world.queue.withdraw(account(name)) == amount
        else:
            with reverts(QUEUE, "NothingCredited"):
                self.world.queue.withdraw(account(name))
        assert self.world.dollar.balanceOf(account(name)) == before + amount

    @rule()
    def unjail(self) -> None:
        for name in MINERS:
            if 0 < self.world.miners.miner(account(name)).jailed_until <= self.now:
                self.world.miners.unjail(account(name))

    @invariant()
    def states_are_the_same_and_money_is_conserved(self) -> None:
        world = self.world
        for task in self.pure:
            found = world.queue.task(task.task_id)
            assert (found.status, found.callback, found.deadline) == (task.status, task.callback, task.deadline)
            assert (found.bond, found.penalty, found.super_number) == (task.bond, task.penalty, task.super_number)
            for bits, flags in (
                (found.committed, [work.commitment is not None for work in task.work]),
                (found.revealed, [work.answer_hash is not None for work in task.work]),
                (found.held, [work.held for work in task.work]),
            ):
                assert bits == sum(flag << place for place, flag in enumerate(flags))
            if task.status == Status.ANSWERED:
                assert world.queue.answer(task.task_id) == task.answer
        escrow = sum(task.escrow for task in self.pure if not task.ended)
        assert world.dollar.balanceOf(world.queue.address) == escrow + sum(self.credits.values())
        held: dict[Address, int] = {}
        for task in self.pure:
            for work in task.work:
                held[work.miner] = held.get(work.miner, 0) + task.bond * work.held
        for miner, amount in held.items():
            assert world.miners.miner(checksum(miner)).reserved == amount


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(
    max_examples=settings.default.max_examples // 10, stateful_step_count=15, deadline=None
)
