"""Inference for contracts: a task from request to money, every refusal, and the contract against the pure machine."""

import hashlib
from collections.abc import Iterator
from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import astuple, replace

from tests.contracts.conftest import REF, account, contract, raw, reverts
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, checksum
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.task import (
    MAX_BUDGET,
    Advance,
    Assign,
    Callback,
    Cancel,
    Commit,
    Credited,
    Deliver,
    Order,
    Parameters,
    Reveal,
    SettleBond,
    Status,
    Task,
    TaskRefused,
    apply,
    check_parameters,
    commitment,
    request,
    task_id,
)
from tristrata.protocol.units import Amount, BasisPoints, Gas, Seconds, Timestamp

QUEUE = "TaskQueue"
CHANGE_DELAY, EXIT_DELAY = 1_000, 5_000
BOND, BUDGET = 100, 10
PARAMETERS = Parameters(
    assign_seconds=Seconds(600),
    min_seconds=Seconds(60),
    max_seconds=Seconds(3_600),
    bond_bps=BasisPoints(30_000),
    penalty_bps=BasisPoints(10_000),
    jail_seconds=Seconds(1_000),
    lead=2,
)
BURNT = "0x000000000000000000000000000000000000dEaD"
PROMPT = b"Is the sky blue? One word."
MINERS = ("miner one", "miner two", "miner three", "miner four", "miner five")
YES, NO, SALT = b"yes", b"no", b"\x5a" * 32


class Tasks:
    """The queue between a real registry of miners, a real registry of models and a real inbox."""

    def __init__(
        self, dollar: Any = None, miners: tuple[str, ...] = MINERS, parameters: Parameters = PARAMETERS
    ) -> None:
        self.operator = boa.env.generate_address("operator")
        address = boa.env.generate_address()  # the registry of miners names the queue, and the queue it
        with boa.env.prank(self.operator):
            self.dollar = dollar or contract("testing/TestDollar.vy")
            self.models = contract("orchestration/ModelRegistry.vy")
            self.inbox = contract("messaging/Inbox.vy", REF, self.operator, CHANGE_DELAY)
            self.miners = contract(
                "orchestration/MinerRegistry.vy",
                REF,
                self.dollar.address,
                1,
                EXIT_DELAY,
                self.operator,
                address,
                CHANGE_DELAY,
            )
            self.queue = self.deploy(parameters, at=address)
        self.models.register("a model", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
        self.model_id = keccak(
            encode(["string", "bytes32", "bytes32", "bytes32"], ["a model", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32])
        )
        self.names: dict[str, str] = {}
        for name in miners:
            self.add_miner(name)
        self.fund("asker")

    def deploy(self, parameters: Parameters = PARAMETERS, at: str | None = None) -> Any:
        return contract(
            "orchestration/TaskQueue.vy",
            REF,
            self.dollar.address,
            self.miners.address,
            self.models.address,
            self.inbox.address,
            astuple(parameters),
            CHANGE_DELAY,
            at=at,
        )

    @property
    def raw_queue(self) -> Address:
        return Address(bytes.fromhex(self.queue.address[2:]))

    def fund(self, holder: str, amount: int = 10**12) -> None:
        address = holder if holder.startswith("0x") else account(holder)
        self.dollar.mint(address, amount, sender=self.operator)
        for spender in (self.queue, self.miners):
            self.dollar.approve(spender.address, 2**256 - 1, sender=address)

    def add_miner(self, name: str, bond: int = BOND) -> None:
        self.fund(name)
        self.names[account(name)] = name
        self.miners.register(account(f"key of {name}"), keccak(name.encode()), bytes(32), 4, bond, sender=account(name))
        self.miners.offer(self.model_id, 1, 1, sender=account(name))

    def request(self, asker: str = "asker", **changes: Any) -> bytes:
        arguments = {
            "model_id": self.model_id,
            "prompt": hashlib.sha256(PROMPT).digest(),
            "payload": PROMPT,
            "assurance": Assurance.QUORUM,
            "replicas": 3,
            "budget": BUDGET,
            "commit_seconds": 100,
            "reveal_seconds": 200,
            "callback_gas": 0,
            **changes,
        }
        return bytes(self.queue.request(*arguments.values(), sender=account(asker)))

    def bring_randomness(self, number: int, seed: bytes = b"") -> bytes:
        """Push a super root and prove its random word."""
        word = keccak(seed + number.to_bytes(8, "big"))
        tree = IndexedTree().update(1, word)
        self.inbox.push(number, tree.root, sender=self.operator)
        self.inbox.prove_randomness(number, word, list(tree.prove(1)))
        return word

    def assign(self, task: bytes) -> list[str]:
        """Bring the randomness and draw the miners, in the order in which they were drawn."""
        self.bring_randomness(self.queue.task(task).super_number)
        self.queue.assign(task, sender=account("anyone"))
        return self.drawn(task)

    def drawn(self, task: bytes) -> list[str]:
        return [self.names[miner] for miner in self.queue.assigned(task)]

    def commitment(self, task: bytes, miner: str, answer: bytes, salt: bytes = SALT) -> bytes:
        return commitment(REF, self.raw_queue, task, raw(miner), keccak(answer), salt)

    def commit(self, task: bytes, answers: dict[str, bytes]) -> None:
        for miner, answer in answers.items():
            self.queue.commit(task, self.commitment(task, miner, answer), sender=account(miner))

    def reveal(self, task: bytes, answers: dict[str, bytes]) -> None:
        for miner, answer in answers.items():
            self.queue.reveal(task, answer, SALT, sender=account(miner))

    def answer(self, task: bytes, *answers: bytes) -> dict[str, bytes]:
        """All miners of a fresh request commit to these answers, in the order in which they were drawn, and reveal."""
        given = dict(zip(self.assign(task), answers, strict=True))
        self.commit(task, given)
        self.reveal(task, given)
        return given

    def credit(self, name: str) -> int:
        return int(self.queue.credits(account(name)))

    def reserved(self, name: str) -> int:
        return int(self.miners.miner(account(name)).reserved)

    def events(self, name: str) -> list[Any]:
        return [log for log in self.queue.get_logs() if type(log).__name__ == name]


@pytest.fixture(scope="module")
def tasks() -> Iterator[Tasks]:
    """Set up once: what a test does to it is undone with the test."""
    with boa.env.anchor():
        yield Tasks()


def lower(name: str) -> str:
    """An address as `decode_error` returns it."""
    return account(name).lower()


# request


def test_request__with_a_budget__takes_exactly_that_and_names_the_randomness(tasks: Tasks) -> None:
    tasks.bring_randomness(7)

    task = tasks.request()

    [event] = tasks.events("Requested")
    record = tasks.queue.task(task)
    deadline = boa.env.timestamp + 600
    assert task == task_id(REF, tasks.raw_queue, raw("asker"), 0)
    assert (event.task_id, event.requester, event.model_id) == (task, account("asker"), tasks.model_id)
    assert (event.prompt, event.payload) == (hashlib.sha256(PROMPT).digest(), PROMPT)
    assert (event.assurance, event.replicas, event.budget, event.callback_gas) == (Assurance.QUORUM, 3, BUDGET, 0)
    assert (event.commit_seconds, event.reveal_seconds, event.deadline) == (100, 200, deadline)
    assert event.super_number == record.super_number == 9
    assert event.snapshot == record.snapshot == tasks.miners.snapshot(tasks.model_id)
    assert (record.requester, record.budget, record.replicas) == (account("asker"), BUDGET, 3)
    assert (record.bond, record.penalty, record.status) == (3 * BUDGET, BUDGET, Status.REQUESTED)
    assert (record.commit_seconds, record.reveal_seconds, record.deadline) == (100, 200, deadline)
    assert tasks.dollar.balanceOf(tasks.queue.address) == 3 * BUDGET
    assert tasks.request() == task_id(REF, tasks.raw_queue, raw("asker"), 1)


@pytest.mark.parametrize(
    ("changes", "error", "values"),
    [
        ({"prompt": bytes(32)}, "NoPrompt", (bytes(32),)),
        ({"prompt": b"\x01" * 32}, "WrongPayload", (b"\x01" * 32, hashlib.sha256(PROMPT).digest())),
        ({"assurance": 1}, "AssuranceNotOffered", (1,)),
        ({"assurance": 3}, "AssuranceNotOffered", (3,)),
        ({"replicas": 0}, "WrongReplicas", (2, 0)),
        ({"replicas": 1}, "WrongReplicas", (2, 1)),
        ({"replicas": 9}, "WrongReplicas", (2, 9)),
        ({"assurance": 0, "replicas": 2}, "WrongReplicas", (0, 2)),
        ({"assurance": 0, "replicas": 0}, "WrongReplicas", (0, 0)),
        ({"budget": 0}, "BudgetOutOfBounds", (0, MAX_BUDGET)),
        ({"budget": 2**80 + 1}, "BudgetOutOfBounds", (2**80 + 1, MAX_BUDGET)),
        ({"callback_gas": 5_000_001}, "TooMuchCallbackGas", (5_000_001, 5_000_000)),
        ({"commit_seconds": 59}, "WindowOutOfBounds", (59, 60, 3_600)),
        ({"reveal_seconds": 3_601}, "WindowOutOfBounds", (3_601, 60, 3_600)),
        ({"model_id": b"\x07" * 32}, "ModelUnknown", (b"\x07" * 32,)),
    ],
)
def test_request__breaks_a_rule__is_refused(
    tasks: Tasks, changes: dict[str, Any], error: str, values: tuple[Any, ...]
) -> None:
    with reverts(QUEUE, error, *values):
        tasks.request(**changes)
    assert tasks.dollar.balanceOf(tasks.queue.address) == 0


def test_request__prompt_in_the_content_store__needs_no_payload(tasks: Tasks) -> None:
    tasks.request(prompt=b"\x01" * 32, payload=b"")

    assert tasks.events("Requested")[0].payload == b""


def test_request__model_that_nobody_offers__is_refused() -> None:
    tasks = Tasks(miners=())

    with reverts(QUEUE, "NotOffered", tasks.model_id):
        tasks.request()


def test_request__while_paused__is_refused_and_everything_else_goes_on(tasks: Tasks) -> None:
    done, waiting = tasks.request(), tasks.request()
    tasks.queue.pause(True, sender=tasks.operator)

    with reverts(QUEUE, "ContractPaused", tasks.queue.address.lower()):
        tasks.request()
    tasks.queue.cancel(waiting, sender=account("asker"))
    tasks.answer(done, YES, YES, YES)
    assert tasks.queue.withdraw(account("asker")) == 3 * BUDGET
    assert tasks.queue.answer(done) == YES


# cancel, assign


def test_cancel__before_the_draw__credits_everything(tasks: Tasks) -> None:
    task = tasks.request(callback_gas=1_000)

    with reverts(QUEUE, "NotRequester", task, lower("stranger")):
        tasks.queue.cancel(task, sender=account("stranger"))
    tasks.queue.cancel(task, sender=account("asker"))

    [finished] = tasks.events("Finished")
    assert (finished.status, finished.answer_hash) == (Status.CANCELLED, bytes(32))
    assert tasks.credit("asker") == 3 * BUDGET
    assert tasks.queue.task(task).callback == Callback.NONE
    with reverts(QUEUE, "WrongStatus", task, Status.CANCELLED, Status.REQUESTED):
        tasks.queue.cancel(task, sender=account("asker"))


def test_cancel__once_the_draw_is_decided__is_refused(tasks: Tasks) -> None:
    task = tasks.request()
    tasks.inbox.push(2, b"\x01" * 32, sender=tasks.operator)  # not proven, but who reads L1 knows it

    with reverts(QUEUE, "DrawDecided", task, 2):
        tasks.queue.cancel(task, sender=account("asker"))


def test_assign__randomness_not_proven__is_refused(tasks: Tasks) -> None:
    task = tasks.request()
    tasks.bring_randomness(1)  # proven, but another than the one that decides
    tasks.bring_randomness(3)

    with reverts(QUEUE, "RandomnessUnknown", 2):
        tasks.queue.assign(task)


def test_assign__randomness_proven__draws_by_the_snapshot_and_reserves(tasks: Tasks) -> None:
    task = tasks.request()
    snapshot = tasks.miners.snapshot(tasks.model_id)
    tasks.add_miner("latecomer", bond=10**9)  # would surely be drawn, had it been there

    word = tasks.bring_randomness(2)
    tasks.queue.assign(task, sender=account("anyone"))

    [event] = tasks.events("Assigned")
    drawn = tasks.drawn(task)
    seed = keccak(word + task + bytes(32))
    assert event.miners == tasks.miners.draw(snapshot, seed, 3) == [account(name) for name in drawn]
    assert len(set(drawn)) == 3
    assert event.deadline == tasks.queue.task(task).deadline == boa.env.timestamp + 100
    for name in MINERS:
        assert tasks.reserved(name) == (3 * BUDGET if name in drawn else 0)
    with reverts(QUEUE, "WrongStatus", task, Status.ASSIGNED, Status.REQUESTED):
        tasks.queue.assign(task)


def test_assign__same_randomness__draws_differently_for_each_task() -> None:
    tasks = Tasks(parameters=replace(PARAMETERS, bond_bps=BasisPoints(0), penalty_bps=BasisPoints(0)))
    requested = [tasks.request() for _ in range(12)]

    assert len({tuple(tasks.assign(task)) for task in requested}) > 6


def test_assign__miners_without_free_bond__are_passed_over() -> None:
    tasks = Tasks(miners=())
    for name in MINERS[:3]:
        tasks.add_miner(name, bond=10**6)
    tasks.add_miner("rich once", bond=10**9)
    task = tasks.request()
    tasks.miners.remove_bond(10**9 - 1, sender=account("rich once"))

    assert set(tasks.assign(task)) == set(MINERS[:3])


def test_assign__only_the_last_drawn_is_able__draws_until_it_comes() -> None:
    names = [*(f"leaving {number}" for number in range(7)), "able"]
    tasks = Tasks(miners=tuple(names))
    task = tasks.request(assurance=0, replicas=1)
    for name in names[:-1]:
        tasks.miners.request_exit(sender=account(name))

    assert tasks.assign(task) == ["able"]  # one draw of one, and then all eight


def test_assign__drawn_again_in_a_later_round__is_assigned_once() -> None:
    tasks = Tasks(miners=())
    for name in ("able", "also able", "leaving"):
        tasks.add_miner(name, bond=10**6)
    requested = [tasks.request(replicas=2) for _ in range(8)]
    tasks.miners.request_exit(sender=account("leaving"))

    for task in requested:
        assert sorted(tasks.assign(task)) == ["able", "also able"]


def test_assign__too_few_miners__is_refused_until_the_deadline_and_holds_nothing(tasks: Tasks) -> None:
    task = tasks.request(replicas=6)
    tasks.bring_randomness(2)

    with reverts(QUEUE, "TooFewMiners", task, 5, 6):
        tasks.queue.assign(task)
    assert all(tasks.reserved(name) == 0 for name in MINERS)
    boa.env.time_travel(600)
    tasks.queue.advance(task)
    assert tasks.credit("asker") == 6 * BUDGET


def test_assign__after_its_deadline__is_too_late_and_the_money_goes_back(tasks: Tasks) -> None:
    task = tasks.request(callback_gas=1_000)
    deadline = boa.env.timestamp + 600
    tasks.bring_randomness(2)
    boa.env.time_travel(599)
    with reverts(QUEUE, "TooEarly", deadline, deadline - 1):
        tasks.queue.advance(task)
    boa.env.time_travel(1)

    with reverts(QUEUE, "TooLate", deadline, deadline):
        tasks.queue.assign(task)
    tasks.queue.advance(task, sender=account("anyone"))

    record = tasks.queue.task(task)
    assert (record.status, record.callback) == (Status.EXPIRED, Callback.PENDING)
    assert tasks.credit("asker") == 3 * BUDGET
    with reverts(QUEUE, "NothingToAdvance", task, Status.EXPIRED):
        tasks.queue.advance(task)


# commit, reveal, advance


def test_commit__by_all__opens_the_reveals(tasks: Tasks) -> None:
    task = tasks.request()
    one, two, three = tasks.assign(task)
    tasks.commit(task, {one: YES, two: YES})
    assert tasks.queue.task(task).status == Status.ASSIGNED

    tasks.commit(task, {three: YES})

    [committed], [opened] = tasks.events("Committed"), tasks.events("RevealsOpened")
    assert (committed.miner, committed.commitment) == (account(three), tasks.commitment(task, three, YES))
    assert (opened.task_id, opened.deadline) == (task, boa.env.timestamp + 200)
    assert tasks.queue.task(task).status == Status.COMMITTED


def test_commit__twice_late_or_by_another__is_refused(tasks: Tasks) -> None:
    task = tasks.request()
    with reverts(QUEUE, "WrongStatus", task, Status.REQUESTED, Status.ASSIGNED):
        tasks.queue.commit(task, bytes(32), sender=account(MINERS[0]))
    drawn = tasks.assign(task)
    [other, *_] = set(MINERS) - set(drawn)
    with reverts(QUEUE, "NotAssigned", task, lower(other)):
        tasks.commit(task, {other: YES})
    tasks.commit(task, {drawn[0]: YES})
    with reverts(QUEUE, "AlreadyCommitted", task, lower(drawn[0])):
        tasks.commit(task, {drawn[0]: NO})
    deadline = boa.env.timestamp + 100
    boa.env.time_travel(100)
    with reverts(QUEUE, "TooLate", deadline, deadline):
        tasks.commit(task, {drawn[1]: YES})


def test_reveal__too_early_twice_late_or_by_another__is_refused(tasks: Tasks) -> None:
    task = tasks.request(replicas=4)
    one, two, three, four = tasks.assign(task)
    [other] = set(MINERS) - {one, two, three, four}
    tasks.commit(task, {one: YES, two: YES, three: YES})
    with reverts(QUEUE, "WrongStatus", task, Status.ASSIGNED, Status.COMMITTED):
        tasks.reveal(task, {one: YES})
    boa.env.time_travel(100)
    tasks.queue.advance(task)
    for name, error in ((other, "NotAssigned"), (four, "NotCommitted")):
        with reverts(QUEUE, error, task, lower(name)):
            tasks.reveal(task, {name: YES})
    tasks.reveal(task, {one: YES})
    with reverts(QUEUE, "AlreadyRevealed", task, lower(one)):
        tasks.reveal(task, {one: YES})
    with reverts(QUEUE, "WrongReveal"):
        tasks.reveal(task, {two: NO})
    with reverts(QUEUE, "WrongReveal"):
        tasks.queue.reveal(task, YES, b"\x01" * 32, sender=account(two))
    deadline = boa.env.timestamp + 200
    boa.env.time_travel(200)
    with reverts(QUEUE, "TooLate", deadline, deadline):
        tasks.reveal(task, {two: YES})


def test_reveal__most_say_the_same__pays_them_and_nobody_else(tasks: Tasks) -> None:
    task = tasks.request()

    drawn = list(tasks.answer(task, YES, NO, YES))

    [finished] = tasks.events("Finished")
    assert (finished.status, finished.answer_hash) == (Status.ANSWERED, keccak(YES))
    assert [tasks.credit(name) for name in drawn] == [BUDGET, 0, BUDGET]
    assert tasks.credit("asker") == BUDGET
    assert tasks.queue.answer(task) == YES
    assert all(tasks.reserved(name) == 0 for name in drawn)
    assert all(tasks.miners.miner(account(name)).bond == BOND for name in drawn)


@pytest.mark.parametrize("answers", [(YES, NO), (YES, YES, NO, NO), (YES, NO, b"perhaps")])
def test_reveal__no_majority__refunds_the_requester(tasks: Tasks, answers: tuple[bytes, ...]) -> None:
    task = tasks.request(replicas=len(answers))

    drawn = tasks.answer(task, *answers)

    assert tasks.queue.task(task).status == Status.DISAGREED
    assert tasks.credit("asker") == len(answers) * BUDGET
    assert all(tasks.credit(name) == tasks.reserved(name) == 0 for name in drawn)
    with reverts(QUEUE, "NotAnswered", task, Status.DISAGREED):
        tasks.queue.answer(task)


@pytest.mark.parametrize("text", [b"", b"x" * 1_024])
def test_reveal__one_miner_without_quorum__decides_alone(tasks: Tasks, text: bytes) -> None:
    task = tasks.request(assurance=Assurance.NONE, replicas=1)

    [name] = tasks.answer(task, text)

    assert tasks.queue.answer(task) == text
    assert (tasks.credit(name), tasks.credit("asker")) == (BUDGET, 0)


def test_advance__one_stays_silent_after_committing__the_others_decide_and_it_is_penalized(tasks: Tasks) -> None:
    task = tasks.request()
    one, two, three = tasks.assign(task)
    tasks.commit(task, {one: YES, two: YES, three: NO})
    tasks.reveal(task, {one: YES, two: YES})
    with reverts(QUEUE, "NotFinished", task, Status.COMMITTED):
        tasks.queue.settle_bond(task, account(three))
    boa.env.time_travel(200)

    tasks.queue.advance(task)
    assert tasks.queue.answer(task) == YES
    tasks.queue.settle_bond(task, account(three), sender=account("anyone"))

    [event] = tasks.events("BondSettled")
    assert (event.miner, event.penalty) == (account(three), BUDGET)
    record = tasks.miners.miner(account(three))
    assert (record.bond, record.reserved) == (BOND - BUDGET, 0)
    assert record.jailed_until == boa.env.timestamp + 1_000
    assert tasks.dollar.balanceOf(BURNT) == BUDGET
    for name in (one, two, three):
        with reverts(QUEUE, "BondNotHeld", task, lower(name)):
            tasks.queue.settle_bond(task, account(name))


def test_advance__too_few_commit__ends_the_task_and_those_who_did_lose_nothing(tasks: Tasks) -> None:
    task = tasks.request()
    one, two, three = tasks.assign(task)
    tasks.commit(task, {one: YES})
    boa.env.time_travel(100)

    tasks.queue.advance(task)

    assert tasks.queue.task(task).status == Status.DISAGREED
    assert tasks.credit("asker") == 3 * BUDGET
    for name in (one, two, three):
        tasks.queue.settle_bond(task, account(name))
    bonds = [tasks.miners.miner(account(name)).bond for name in (one, two, three)]
    assert bonds == [BOND, BOND - BUDGET, BOND - BUDGET]
    assert all(tasks.reserved(name) == 0 for name in (one, two, three))


def test_every_call__unknown_task__is_refused(tasks: Tasks) -> None:
    unknown = b"\x09" * 32

    for call in (tasks.queue.cancel, tasks.queue.assign):
        with reverts(QUEUE, "WrongStatus", unknown, 0, Status.REQUESTED):
            call(unknown)
    with reverts(QUEUE, "NothingToAdvance", unknown, 0):
        tasks.queue.advance(unknown)
    with reverts(QUEUE, "NotFinished", unknown, 0):
        tasks.queue.settle_bond(unknown, account(MINERS[0]))
    with reverts(QUEUE, "CallbackNotPending", unknown, 0):
        tasks.queue.deliver(unknown)
    with reverts(QUEUE, "NotAnswered", unknown, 0):
        tasks.queue.answer(unknown)


def test_withdraw__by_anyone__pays_the_account_once(tasks: Tasks) -> None:
    task = tasks.request()
    [name, *_] = tasks.answer(task, YES, YES, YES)
    before = tasks.dollar.balanceOf(account(name))

    assert tasks.queue.withdraw(account(name), sender=account("anyone")) == BUDGET

    [event] = tasks.events("Withdrawn")
    assert (event.account, event.amount) == (account(name), BUDGET)
    assert tasks.dollar.balanceOf(account(name)) == before + BUDGET
    with reverts(QUEUE, "NothingCredited", lower(name)):
        tasks.queue.withdraw(account(name))


# parameters


def parameters_call(parameters: Parameters) -> bytes:
    values = astuple(parameters)
    types = "uint32," * len(values)
    return keccak(f"set_parameters(({types[:-1]}))".encode())[:4] + encode(["uint32"] * len(values), values)


def test_set_parameters__announced__counts_for_later_tasks_only(tasks: Tasks) -> None:
    old = tasks.request()
    changed = replace(PARAMETERS, bond_bps=BasisPoints(50_000), jail_seconds=Seconds(0), assign_seconds=Seconds(9_999))
    call = keccak(parameters_call(changed))
    with reverts(QUEUE, "ChangeNotAnnounced", call):
        tasks.queue.set_parameters(astuple(changed), sender=tasks.operator)
    tasks.queue.announce(call, sender=tasks.operator)
    boa.env.time_travel(CHANGE_DELAY)
    with reverts(QUEUE, "NotOwner", lower("stranger")):
        tasks.queue.set_parameters(astuple(changed), sender=account("stranger"))

    tasks.queue.set_parameters(astuple(changed), sender=tasks.operator)

    [event] = tasks.events("ParametersChanged")
    assert tuple(event.parameters) == tuple(tasks.queue.parameters()) == astuple(changed)
    record, later = tasks.queue.task(old), tasks.queue.task(tasks.request())
    assert (record.bond, record.jail_seconds) == (3 * BUDGET, 1_000)
    assert (later.bond, later.jail_seconds, later.deadline) == (5 * BUDGET, 0, boa.env.timestamp + 9_999)


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({"assign_seconds": 0}, (0, 1, 2_592_000)),
        ({"assign_seconds": 2_592_001}, (2_592_001, 1, 2_592_000)),
        ({"max_seconds": 2_592_001}, (2_592_001, 0, 2_592_000)),
        ({"min_seconds": 0}, (0, 1, 3_600)),
        ({"min_seconds": 3_601}, (3_601, 1, 3_600)),
        ({"bond_bps": 1_000_001}, (1_000_001, 0, 1_000_000)),
        ({"penalty_bps": 30_001}, (30_001, 0, 30_000)),
        ({"jail_seconds": 2_592_001}, (2_592_001, 0, 2_592_000)),
        ({"lead": 1}, (1, 2, 2**32 - 1)),
    ],
)
def test_init__parameter_out_of_bounds__is_refused_like_the_pure_machine_does(
    tasks: Tasks, changes: dict[str, int], values: tuple[int, ...]
) -> None:
    wrong = replace(PARAMETERS, **changes)

    with pytest.raises(TaskRefused, match=f"is {values[0]}; it must lie between {values[1]} and {values[2]}"):
        check_parameters(wrong)
    with reverts(QUEUE, "ParameterOutOfBounds", *values):
        tasks.deploy(wrong)
    check_parameters(PARAMETERS)


# the pure machine


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
