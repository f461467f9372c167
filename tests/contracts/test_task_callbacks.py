"""What requesters, miners and tokens may try against the queue, and that it harms nobody but themselves."""

from collections.abc import Iterator
from typing import Any

import boa
import pytest

from tests.contracts.conftest import account, contract, reverts
from tests.contracts.tasks import (
    BUDGET,
    MINERS,
    NO,
    PARAMETERS,
    QUEUE,
    SALT,
    YES,
    Tasks,
    lower,
)
from tristrata.protocol.bond import MAX_OFFERS
from tristrata.protocol.hashing import keccak
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.task import Callback, Status, commitment

QUIET, REVERTING, BURNING, BOMBING, FLOODING, REENTRANT = (1 << bit for bit in range(6))
FEE, REFUSING, BLOCKING, REENTERING_TOKEN = 2, 4, 32, 16
LIMIT = 500_000
RESERVE = 50_000
# The memory of the 6,000 words of a bomb: 3 gas a word, and the square of their number by 512.
BOMB_MEMORY_GAS = 3 * 6_000 + 6_000**2 // 512


class Hostile:
    """A requester that is a contract, and misbehaves when it is called back."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.contract = contract("testing/HostileConsumer.vy")
        tasks.dollar.mint(self.contract.address, 10**6, sender=tasks.operator)
        self.execute(tasks.dollar, "approve", tasks.queue.address, 2**256 - 1)

    def execute(self, target: Any, method: str, *arguments: Any) -> bytes:
        return bytes(self.contract.execute(target.address, getattr(target, method).prepare_calldata(*arguments)))

    def request_call(self, replicas: int = 3, callback_gas: int = LIMIT) -> bytes:
        assurance = Assurance.NONE if replicas == 1 else Assurance.QUORUM
        model, prompt = self.tasks.model_id, keccak(b"prompt")
        return bytes(
            self.tasks.queue.request.prepare_calldata(
                model, prompt, b"", assurance, replicas, BUDGET, 100, 200, callback_gas
            )
        )

    def request(self, replicas: int = 3, callback_gas: int = LIMIT) -> bytes:
        return bytes(self.contract.execute(self.tasks.queue.address, self.request_call(replicas, callback_gas)))

    def answered(self, mode: int = QUIET, answers: tuple[bytes, ...] = (YES, NO, YES)) -> bytes:
        """A task that has its answer, and waits to be delivered."""
        task = self.request(replicas=len(answers))
        self.tasks.answer(task, *answers)
        self.contract.set_mode(mode)
        return task

    def callback_gas(self, task: bytes) -> int:
        """What the callback uses by itself."""
        data = self.contract.on_answer.prepare_calldata(task, Status.ANSWERED, YES)
        with boa.env.anchor():
            return int(boa.env.execute_code(self.contract.address, data=data).get_gas_used())


@pytest.fixture(scope="module")
def tasks() -> Iterator[Tasks]:
    """Set up once: what a test does to it is undone with the test."""
    with boa.env.anchor():
        yield Tasks()


@pytest.fixture
def hostile(tasks: Tasks) -> Hostile:
    return Hostile(tasks)


def gas_of(deployed: Any) -> int:
    """What the last call used."""
    return int(deployed._computation.get_gas_used())


def deliver_gas(tasks: Tasks, task: bytes) -> int:
    """What delivering would use."""
    with boa.env.anchor():
        tasks.queue.deliver(task)
    return gas_of(tasks.queue)


# callbacks


def test_deliver__callback_that_works__happens_once(tasks: Tasks, hostile: Hostile) -> None:
    task = hostile.answered()

    assert tasks.queue.deliver(task, sender=account("anyone"))

    [event] = tasks.events("Delivered")
    assert (event.task_id, event.succeeded) == (task, True)
    assert tasks.queue.task(task).callback == Callback.DELIVERED
    with reverts(QUEUE, "CallbackNotPending", task, Callback.DELIVERED):
        tasks.queue.deliver(task)
    assert hostile.contract.callbacks() == 1


@pytest.mark.parametrize("mode", [REVERTING, BURNING, BOMBING])
def test_deliver__callback_that_fails__is_on_record_and_everyone_has_its_money(
    tasks: Tasks, hostile: Hostile, mode: int
) -> None:
    task = hostile.answered(mode)
    one, two, three = tasks.drawn(task)

    assert not tasks.queue.deliver(task, sender=account("anyone"))

    assert not tasks.events("Delivered")[0].succeeded
    assert tasks.queue.task(task).callback == Callback.FAILED
    assert tasks.queue.answer(task) == YES
    for name, amount in ((one, BUDGET), (two, 0), (three, BUDGET)):
        assert tasks.credit(name) == amount
    assert tasks.queue.withdraw(hostile.contract.address) == BUDGET
    with reverts(QUEUE, "CallbackNotPending", task, Callback.FAILED):
        tasks.queue.deliver(task)


@pytest.mark.parametrize("mode", [FLOODING, BOMBING])
def test_deliver__very_many_bytes_come_back__are_not_copied(tasks: Tasks, hostile: Hostile, mode: int) -> None:
    task = hostile.answered(QUIET)
    overhead = deliver_gas(tasks, task) - hostile.callback_gas(task)
    hostile.contract.set_mode(mode)
    alone = hostile.callback_gas(task)

    assert BOMB_MEMORY_GAS < alone < LIMIT
    assert deliver_gas(tasks, task) < alone + overhead + BOMB_MEMORY_GAS // 10


def test_deliver__too_little_gas__changes_nothing_and_can_be_done_again(tasks: Tasks, hostile: Hostile) -> None:
    task = hostile.answered(QUIET)
    enough = (LIMIT + RESERVE) * 64 // 63
    for gas in (100_000, LIMIT, LIMIT + RESERVE, enough):  # what comes before the check needs some too
        with reverts(QUEUE, "NotEnoughGas"):
            tasks.queue.deliver(task, gas=gas, sender=account("anyone"))
        assert tasks.queue.task(task).callback == Callback.PENDING
        assert hostile.contract.callbacks() == 0

    assert tasks.queue.deliver(task, gas=enough + 40_000)


@pytest.mark.parametrize("mode", [BURNING, BOMBING, FLOODING])
def test_deliver__just_enough_gas_for_a_callback_that_takes_all__still_records_it(
    tasks: Tasks, hostile: Hostile, mode: int
) -> None:
    task = hostile.answered(mode)
    gas = (LIMIT + RESERVE) * 64 // 63
    for _ in range(40):  # the least that passes the check, to a thousand
        with boa.env.anchor():
            try:
                tasks.queue.deliver(task, gas=gas)
            except boa.BoaError:
                gas += 1_000
            else:
                break

    succeeded = tasks.queue.deliver(task, gas=gas)

    assert tasks.queue.task(task).callback == (Callback.DELIVERED if succeeded else Callback.FAILED)
    assert succeeded == (mode == FLOODING)


def test_deliver__callback_at_its_limit__gets_all_that_was_named(tasks: Tasks, hostile: Hostile) -> None:
    """A caller cannot starve it: with the least gas that passes, the callback has what it needs."""
    needed = hostile.callback_gas(hostile.answered(FLOODING))
    hostile.contract.set_mode(QUIET)
    task = hostile.request(callback_gas=needed)
    tasks.answer(task, YES, YES, YES)
    hostile.contract.set_mode(FLOODING)
    for gas in range(needed, needed + 200_000, 5_000):
        try:
            assert tasks.queue.deliver(task, gas=gas)
        except boa.BoaError:
            assert tasks.queue.task(task).callback == Callback.PENDING
        else:
            break

    assert tasks.queue.task(task).callback == Callback.DELIVERED


def test_deliver__callback_that_calls_the_queue__finds_nothing_to_take(tasks: Tasks, hostile: Hostile) -> None:
    task, other = hostile.answered(), hostile.request()
    queue = tasks.queue
    plan = [
        queue.deliver.prepare_calldata(task),
        queue.advance.prepare_calldata(task),
        queue.cancel.prepare_calldata(task),
        queue.settle_bond.prepare_calldata(task, account(tasks.drawn(task)[0])),
        queue.withdraw.prepare_calldata(hostile.contract.address),  # its own credit: it may have it
        queue.withdraw.prepare_calldata(hostile.contract.address),  # but once
        queue.cancel.prepare_calldata(other),  # its own other request, too
    ]
    hostile.contract.plan(queue.address, plan)
    hostile.contract.set_mode(REENTRANT)
    before = tasks.dollar.balanceOf(hostile.contract.address)

    assert tasks.queue.deliver(task)

    outcomes = [hostile.contract.outcomes(index) for index in range(len(plan))]
    assert outcomes == [False, False, False, False, True, False, True]
    assert tasks.queue.task(task).callback == Callback.DELIVERED
    assert tasks.dollar.balanceOf(hostile.contract.address) == before + BUDGET
    assert tasks.queue.credits(hostile.contract.address) == 3 * BUDGET
    drawn = tasks.drawn(task)
    assert sum(tasks.credit(name) for name in drawn) == 2 * BUDGET
    assert tasks.dollar.balanceOf(tasks.queue.address) == 5 * BUDGET


def test_deliver__callback_that_asks_the_next_question__may(tasks: Tasks, hostile: Hostile) -> None:
    task = hostile.answered()
    hostile.contract.plan(tasks.queue.address, [hostile.request_call()])
    hostile.contract.set_mode(REENTRANT)

    tasks.queue.deliver(task)

    assert hostile.contract.outcomes(0)
    assert tasks.queue.nonces(hostile.contract.address) == 2


def test_deliver__without_an_answer__tells_the_status(tasks: Tasks, hostile: Hostile) -> None:
    consumer = contract("testing/TaskConsumer.vy", tasks.queue.address, tasks.model_id, BUDGET)
    tasks.dollar.mint(consumer.address, 6 * BUDGET, sender=tasks.operator)
    disagreed, expired = consumer.ask(b"one"), consumer.ask(b"two")
    tasks.answer(disagreed, YES, NO, b"perhaps")
    boa.env.time_travel(600)
    tasks.queue.advance(expired)

    for task, status in ((disagreed, Status.DISAGREED), (expired, Status.EXPIRED)):
        assert tasks.queue.deliver(task)
        assert (consumer.statuses(task), consumer.answers(task)) == (status, b"")
        with reverts(QUEUE, "NotAnswered", task, status):
            consumer.collect(task)


def test_deliver__no_callback_asked_for__is_refused(tasks: Tasks) -> None:
    task = tasks.request()
    tasks.answer(task, YES, YES, YES)

    with reverts(QUEUE, "CallbackNotPending", task, Callback.NONE):
        tasks.queue.deliver(task)


# the sample consumer


@pytest.fixture
def consumer(tasks: Tasks) -> Any:
    with boa.env.prank(account("owner")):
        deployed = contract("testing/TaskConsumer.vy", tasks.queue.address, tasks.model_id, BUDGET)
    tasks.dollar.mint(deployed.address, 10 * BUDGET, sender=tasks.operator)
    return deployed


@pytest.mark.parametrize("answer", [YES, b"x" * 1_024])
def test_ask__answered_and_delivered__has_the_answer(tasks: Tasks, consumer: Any, answer: bytes) -> None:
    task = consumer.ask(b"Is the sky blue? One word.", sender=account("owner"))
    assert consumer.asked(task)
    tasks.answer(task, answer, answer, NO)

    assert tasks.queue.deliver(task, sender=account("anyone"))

    assert (consumer.statuses(task), consumer.answers(task)) == (Status.ANSWERED, answer)
    consumer.withdraw(8 * BUDGET, sender=account("owner"))  # the seven that it kept, and the one that came back
    assert tasks.dollar.balanceOf(account("owner")) == 8 * BUDGET


def test_collect__nobody_delivered__fetches_the_answer(tasks: Tasks, consumer: Any) -> None:
    task = consumer.ask(b"Is the sky blue? One word.", sender=account("owner"))
    with reverts(QUEUE, "NotAnswered", task, Status.REQUESTED):
        consumer.collect(task)
    tasks.answer(task, YES, YES, YES)

    consumer.collect(task, sender=account("anyone"))

    assert (consumer.statuses(task), consumer.answers(task)) == (Status.ANSWERED, YES)


def test_consumer__called_by_another__refuses(tasks: Tasks, consumer: Any) -> None:
    with reverts("TaskConsumer", "WrongCaller", lower("stranger"), tasks.queue.address.lower()):
        consumer.on_answer(bytes(32), Status.ANSWERED, YES, sender=account("stranger"))
    for method, value in (("ask", b"?"), ("withdraw", 1)):
        with reverts("TaskConsumer", "WrongCaller", lower("stranger"), lower("owner")):
            getattr(consumer, method)(value, sender=account("stranger"))
    with reverts("TaskConsumer", "NotAsked", bytes(32)):
        consumer.collect(bytes(32))


# commitments


def test_reveal__commitment_copied_from_another_miner__fails(tasks: Tasks) -> None:
    task = tasks.request()
    one, thief, three = tasks.assign(task)
    copied = tasks.commitment(task, one, YES)
    tasks.commit(task, {one: YES, three: YES})
    tasks.queue.commit(task, copied, sender=account(thief))
    tasks.reveal(task, {one: YES})

    with reverts(QUEUE, "WrongReveal", copied, tasks.commitment(task, thief, YES)):
        tasks.reveal(task, {thief: YES})
    tasks.reveal(task, {three: YES})
    boa.env.time_travel(200)
    tasks.queue.advance(task)
    tasks.queue.settle_bond(task, account(thief))
    assert [tasks.credit(name) for name in (one, thief, three)] == [BUDGET, 0, BUDGET]
    assert tasks.miners.miner(account(thief)).bond < tasks.miners.miner(account(one)).bond


@pytest.mark.parametrize("where", ["task", "queue", "chain"])
def test_reveal__commitment_for_another_task_queue_or_chain__fails(tasks: Tasks, where: str) -> None:
    task, other = tasks.request(assurance=0, replicas=1), tasks.request(assurance=0, replicas=1)
    [name] = tasks.assign(task)
    miner = bytes.fromhex(account(name)[2:])
    chain, queue = tasks.queue.chain_ref(), tasks.raw_queue
    moved = {
        "task": commitment(chain, queue, other, miner, keccak(YES), SALT),
        "queue": commitment(chain, b"\x07" * 20, task, miner, keccak(YES), SALT),
        "chain": commitment(b"\x07" * 32, queue, task, miner, keccak(YES), SALT),
    }[where]
    tasks.queue.commit(task, moved, sender=account(name))

    with reverts(QUEUE, "WrongReveal", moved, tasks.commitment(task, name, YES)):
        tasks.reveal(task, {name: YES})


# registries and tokens


def test_settle_bond__miner_with_costly_offers__holds_up_nobody_else(tasks: Tasks) -> None:
    task = tasks.request()
    one, two, three = tasks.assign(task)
    for number in range(MAX_OFFERS - 1):
        tasks.miners.offer(keccak(bytes([number])), 1, 1, sender=account(three))
    tasks.commit(task, {one: YES, two: YES})
    boa.env.time_travel(100)
    tasks.queue.advance(task)
    tasks.reveal(task, {one: YES, two: YES})

    assert gas_of(tasks.queue) < 400_000  # the end of the task does not touch the third
    assert tasks.queue.answer(task) == YES
    tasks.queue.settle_bond(task, account(three))
    assert tasks.reserved(three) == 0


@pytest.fixture
def weird() -> Tasks:
    return Tasks(dollar=contract("testing/WeirdToken.vy"))


def test_request__token_that_keeps_a_fee__is_refused(weird: Tasks) -> None:
    weird.dollar.set_mode(FEE)

    with reverts(QUEUE, "WrongAmountReceived", 300, 297):
        weird.request(budget=100)


def test_request__token_that_refuses__is_refused(weird: Tasks) -> None:
    weird.dollar.set_mode(REFUSING)

    with reverts(QUEUE, "TransferRefused", weird.dollar.address.lower(), lower("asker"), 3 * BUDGET):
        weird.request()
    assert weird.queue.nonces(account("asker")) == 0


def test_withdraw__blocked_account__keeps_its_credit_and_stops_nobody(weird: Tasks) -> None:
    task = weird.request()
    [one, two, _] = weird.answer(task, YES, YES, YES)
    weird.dollar.set_mode(BLOCKING)
    weird.dollar.set_blocked(account(one), True)

    with pytest.raises(boa.BoaError):
        weird.queue.withdraw(account(one))
    assert weird.queue.withdraw(account(two)) == BUDGET
    weird.dollar.set_blocked(account(one), False)
    assert weird.queue.withdraw(account(one)) == BUDGET


def test_withdraw__token_that_refuses__keeps_the_credit(weird: Tasks) -> None:
    task = weird.request()
    [one, *_] = weird.answer(task, YES, YES, YES)
    weird.dollar.set_mode(REFUSING)

    with reverts(QUEUE, "TransferRefused", weird.dollar.address.lower(), lower(one), BUDGET):
        weird.queue.withdraw(account(one))
    assert weird.credit(one) == BUDGET


@pytest.mark.parametrize("method", ["withdraw", "request"])
def test_withdraw__token_that_calls_back__pays_once(weird: Tasks, method: str) -> None:
    task = weird.request()
    [one, *_] = weird.answer(task, YES, YES, YES)
    arguments = {
        "withdraw": (account(one),),
        "request": (weird.model_id, keccak(b"prompt"), b"", 2, 3, BUDGET, 100, 200, 0),
    }[method]
    weird.dollar.mint(weird.dollar.address, 100 * BUDGET)
    weird.dollar.approve_as_token(weird.queue.address, 2**256 - 1)
    weird.dollar.set_reentry(weird.queue.address, getattr(weird.queue, method).prepare_calldata(*arguments))
    weird.dollar.set_mode(REENTERING_TOKEN)
    before = weird.dollar.balanceOf(account(one))

    assert weird.queue.withdraw(account(one)) == BUDGET

    assert (weird.dollar.reentries(), weird.dollar.reentry_succeeded()) == (1, False)
    assert weird.dollar.balanceOf(account(one)) == before + BUDGET


def test_everyone_gone__one_stranger_brings_every_task_to_its_end(tasks: Tasks) -> None:
    waiting, assigned, committed = (tasks.request() for _ in range(3))
    tasks.assign(assigned)
    drawn = tasks.assign(committed)
    tasks.commit(committed, dict.fromkeys(drawn, YES))
    for _ in range(2):
        boa.env.time_travel(PARAMETERS.assign_seconds)
        for task in (waiting, assigned, committed):
            if tasks.queue.task(task).status < Status.ANSWERED:
                tasks.queue.advance(task, sender=account("stranger"))
    for task in (assigned, committed):
        for name in tasks.drawn(task):
            tasks.queue.settle_bond(task, account(name), sender=account("stranger"))

    assert tasks.queue.withdraw(account("asker"), sender=account("stranger")) == 9 * BUDGET
    assert tasks.dollar.balanceOf(tasks.queue.address) == 0
    assert all(tasks.reserved(name) == 0 for name in MINERS)
