"""Inference for contracts: a task from request to money, and every refusal."""

import hashlib
from collections.abc import Iterator
from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from msgspec.structs import astuple, replace

from tests.contracts.conftest import REF, account, raw, reverts
from tests.contracts.tasks import (
    BOND,
    BUDGET,
    BURNT,
    CHANGE_DELAY,
    MINERS,
    NO,
    PARAMETERS,
    PROMPT,
    QUEUE,
    YES,
    Tasks,
    lower,
)
from tristrata.protocol.hashing import keccak
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.task import (
    MAX_BUDGET,
    Callback,
    Parameters,
    Status,
    TaskRefused,
    check_parameters,
    task_id,
)
from tristrata.protocol.units import BasisPoints, Seconds


@pytest.fixture(scope="module")
def tasks() -> Iterator[Tasks]:
    """Set up once: what a test does to it is undone with the test."""
    with boa.env.anchor():
        yield Tasks()


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
