"""A task of the queue, from the request to the answer and the money."""

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ChainRef
from tristrata.protocol.task import (
    MAX_BUDGET,
    Advance,
    Assign,
    Assigned,
    BondSettled,
    Callback,
    Cancel,
    Commit,
    Credited,
    Deliver,
    Delivered,
    Finished,
    Order,
    Parameters,
    Requested,
    Reveal,
    RevealsOpened,
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

CHAIN, QUEUE = ChainRef(b"\x01" * 32), Address(b"\x02" * 20)
ASKER, STRANGER = Address(b"\x03" * 20), Address(b"\x04" * 20)
MINERS = tuple(Address(bytes([0x10 + number]) * 20) for number in range(8))
NOW = Timestamp(1_800_000_000)
SALT = b"\x5a" * 32
YES, NO = b"yes", b"no"
PARAMETERS = Parameters(
    assign_seconds=Seconds(600),
    min_seconds=Seconds(60),
    max_seconds=Seconds(3_600),
    bond_bps=BasisPoints(30_000),
    penalty_bps=BasisPoints(5_000),
    jail_seconds=Seconds(0),
    lead=2,
)
ORDER = Order(ASKER, 2, 3, Amount(11), Seconds(100), Seconds(200), Gas(5_000))


def make_task(**changes: Any) -> Task:
    return request(CHAIN, QUEUE, replace(ORDER, **changes), 7, PARAMETERS, 40, NOW)[0]


def bound(task: Task, miner: Address, answer: bytes) -> bytes:
    return commitment(CHAIN, QUEUE, task.task_id, miner, keccak(answer), SALT)


def assigned(**changes: Any) -> Task:
    task = make_task(**changes)
    return apply(task, Assign(MINERS[: task.order.replicas]), NOW)[0]


def committed(*answers: bytes) -> Task:
    task = assigned(replicas=len(answers))
    for miner, answer in zip(MINERS, answers, strict=False):
        task, _ = apply(task, Commit(miner, bound(task, miner, answer)), NOW)
    return task


def test_task_id_and_commitment__are_hashes_of_their_abi_encoding() -> None:
    asker, queue, miner = ("0x" + address.hex() for address in (ASKER, QUEUE, MINERS[0]))

    assert task_id(CHAIN, QUEUE, ASKER, 7) == keccak(
        encode(["bytes32", "address", "address", "uint256"], [CHAIN, queue, asker, 7])
    )
    task = make_task()
    types = ["bytes32", "address", "bytes32", "address", "bytes32", "bytes32"]
    assert bound(task, MINERS[0], YES) == keccak(encode(types, [CHAIN, queue, task.task_id, miner, keccak(YES), SALT]))


def test_request__takes_the_escrow_and_names_a_later_super_root() -> None:
    task, events = request(CHAIN, QUEUE, ORDER, 7, PARAMETERS, 40, NOW)

    assert events == [Requested(Amount(33), Timestamp(NOW + 600))]
    assert (task.bond, task.penalty, task.super_number) == (33, 5, 42)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"assurance": 1}, "assurance 1 is not offered"),
        ({"replicas": 1}, "1 replicas at this assurance; there must be 2 to 8"),
        ({"replicas": 9}, "9 replicas"),
        ({"assurance": 0}, "3 replicas at this assurance; there must be 1 to 1"),
        ({"budget": Amount(0)}, "the budget is 0"),
        ({"budget": Amount(MAX_BUDGET + 1)}, "the budget is"),
        ({"callback_gas": Gas(5_000_001)}, "at most 5000000"),
        ({"commit_seconds": Seconds(59)}, "the commit window is 59 s; it must lie between 60 and 3600 s"),
        ({"reveal_seconds": Seconds(3_601)}, "the reveal window is 3601 s"),
    ],
)
def test_request__breaks_a_rule__is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskRefused, match=words):
        make_task(**changes)


def test_check_parameters__penalty_above_the_bond__is_refused() -> None:
    check_parameters(PARAMETERS)

    with pytest.raises(TaskRefused, match="penalty_bps is 30001; it must lie between 0 and 30000"):
        check_parameters(replace(PARAMETERS, penalty_bps=BasisPoints(30_001)))


def test_cancel__before_the_draw_is_decided__refunds_without_a_callback() -> None:
    for change, words in ((Cancel(STRANGER, 40), "did not request"), (Cancel(ASKER, 42), "draw is decided")):
        with pytest.raises(TaskRefused, match=words):
            apply(make_task(), change, NOW)

    task, events = apply(make_task(), Cancel(ASKER, 41), NOW)

    assert events == [Finished(Status.CANCELLED, bytes(32)), Credited(ASKER, Amount(33))]
    assert (task.callback, task.deadline) == (Callback.NONE, 0)


def test_assign__right_number_of_miners__starts_the_commit_window() -> None:
    task, events = apply(make_task(), Assign(MINERS[:3]), Timestamp(NOW + 599))

    assert events == [Assigned(MINERS[:3], Timestamp(NOW + 699))]
    assert task.status == Status.ASSIGNED


@pytest.mark.parametrize("miners", [MINERS[:2], MINERS[:4], (*MINERS[:2], MINERS[0])])
def test_assign__another_number_of_miners__is_refused(miners: tuple[Address, ...]) -> None:
    with pytest.raises(TaskRefused, match="the task needs 3"):
        apply(make_task(), Assign(miners), NOW)


def test_assign__late__is_refused_and_the_request_expires() -> None:
    late = Timestamp(NOW + 600)
    with pytest.raises(TaskRefused, match="can be advanced from"):
        apply(make_task(), Advance(), Timestamp(late - 1))
    with pytest.raises(TaskRefused, match="this was possible before"):
        apply(make_task(), Assign(MINERS[:3]), late)

    task, events = apply(make_task(), Advance(), late)

    assert events == [Finished(Status.EXPIRED, bytes(32)), Credited(ASKER, Amount(33))]
    assert task.callback == Callback.PENDING


def test_commit__last_one__opens_the_reveals() -> None:
    task = committed(YES, YES)

    assert task.status == Status.COMMITTED
    assert task.deadline == NOW + 200


def test_commit__again_late_or_by_another__is_refused() -> None:
    task, _ = apply(assigned(), Commit(MINERS[0], b""), NOW)

    for miner, now, words in (
        (MINERS[0], NOW, "has committed already"),
        (MINERS[3], NOW, "is not assigned"),
        (MINERS[1], NOW + 100, "this was possible before"),
    ):
        with pytest.raises(TaskRefused, match=words):
            apply(task, Commit(miner, b""), Timestamp(now))


@pytest.mark.parametrize(
    ("answers", "status", "paid"),
    [
        ((YES, YES, NO), Status.ANSWERED, 2),
        ((YES, YES, YES), Status.ANSWERED, 3),
        ((NO, YES, YES, YES, NO), Status.ANSWERED, 3),
        ((YES, NO), Status.DISAGREED, 0),
        ((YES, YES, NO, NO), Status.DISAGREED, 0),
        ((YES, NO, b"perhaps"), Status.DISAGREED, 0),
    ],
)
def test_reveal__by_all__pays_a_strict_majority_or_nobody(
    answers: tuple[bytes, ...], status: Status, paid: int
) -> None:
    task = committed(*answers)
    for miner, answer in zip(MINERS, answers, strict=False):
        task, events = apply(task, Reveal(miner, answer, SALT), NOW)

    assert task.status == status
    assert (task.answer == YES) == (status == Status.ANSWERED)
    credited = [event for event in events if isinstance(event, Credited)]
    expected = [Credited(miner, Amount(11)) for miner, answer in zip(MINERS, answers, strict=False) if answer == YES]
    refund = Amount(11 * (len(answers) - paid))
    assert credited == (expected if paid else []) + ([Credited(ASKER, refund)] if refund else [])
    assert not any(work.held for work in task.work)


@given(answer=st.binary(max_size=20), salt=st.binary(min_size=32, max_size=32))
def test_reveal__not_what_was_committed__is_refused(answer: bytes, salt: bytes) -> None:
    if (answer, salt) != (YES, SALT):
        with pytest.raises(TaskRefused, match="not what this miner committed to"):
            apply(committed(YES, YES), Reveal(MINERS[0], answer, salt), NOW)


def test_reveal__another_miners_commitment_or_anothers_task__is_refused() -> None:
    task, other = assigned(), request(CHAIN, QUEUE, ORDER, 8, PARAMETERS, 40, NOW)[0]
    copied, moved = bound(task, MINERS[0], YES), bound(other, MINERS[1], YES)
    for miner, value in zip(MINERS[:3], (copied, moved, copied), strict=True):
        task, _ = apply(task, Commit(miner, value), NOW)

    apply(task, Reveal(MINERS[0], YES, SALT), NOW)
    for miner in MINERS[1:3]:
        with pytest.raises(TaskRefused, match="not what this miner committed to"):
            apply(task, Reveal(miner, YES, SALT), NOW)


def test_advance__silent_miners__are_left_behind_and_penalized() -> None:
    task = assigned()
    for miner in MINERS[:2]:
        task, _ = apply(task, Commit(miner, bound(task, miner, YES)), NOW)
    task, events = apply(task, Advance(), Timestamp(NOW + 100))
    assert events == [RevealsOpened(Timestamp(NOW + 300))]
    task, _ = apply(task, Reveal(MINERS[0], YES, SALT), Timestamp(NOW + 299))
    with pytest.raises(TaskRefused, match="did not commit"):
        apply(task, Reveal(MINERS[2], YES, SALT), Timestamp(NOW + 299))
    with pytest.raises(TaskRefused, match="has revealed already"):
        apply(task, Reveal(MINERS[0], YES, SALT), Timestamp(NOW + 299))

    task, _ = apply(task, Advance(), Timestamp(NOW + 300))

    assert task.status == Status.DISAGREED
    for miner in MINERS[1:3]:
        task, events = apply(task, SettleBond(miner), Timestamp(NOW + 300))
        assert events == [BondSettled(miner, Amount(5))]
    for miner in MINERS[:3]:
        with pytest.raises(TaskRefused, match="is free already"):
            apply(task, SettleBond(miner), NOW)


def test_advance__too_few_commitments__penalizes_only_those_who_made_none() -> None:
    task, _ = apply(assigned(), Commit(MINERS[0], b"\x01" * 32), NOW)
    with pytest.raises(TaskRefused, match="has not ended"):
        apply(task, SettleBond(MINERS[0]), NOW)

    task, events = apply(task, Advance(), Timestamp(NOW + 100))

    assert events == [Finished(Status.DISAGREED, bytes(32)), Credited(ASKER, Amount(33))]
    assert apply(task, SettleBond(MINERS[0]), NOW)[1] == [BondSettled(MINERS[0], Amount(0))]
    assert apply(task, SettleBond(MINERS[1]), NOW)[1] == [BondSettled(MINERS[1], Amount(5))]


@pytest.mark.parametrize(("succeeded", "callback"), [(True, Callback.DELIVERED), (False, Callback.FAILED)])
def test_deliver__after_the_end__happens_once(succeeded: bool, callback: Callback) -> None:
    with pytest.raises(TaskRefused, match="no callback is due"):
        apply(make_task(), Deliver(succeeded), NOW)
    task, _ = apply(make_task(), Advance(), Timestamp(NOW + 600))

    task, events = apply(task, Deliver(succeeded), NOW)

    assert (task.callback, events) == (callback, [Delivered(succeeded)])
    with pytest.raises(TaskRefused, match="no callback is due"):
        apply(task, Deliver(True), NOW)


class AnySequence(RuleBasedStateMachine):
    """Whatever happens: the money is all there, nobody is paid twice, and the task can always be brought to its end."""

    @initialize(replicas=st.integers(1, 8), budget=st.integers(1, 100))
    def start(self, replicas: int, budget: int) -> None:
        self.now = NOW
        self.task = make_task(assurance=0 if replicas == 1 else 2, replicas=replicas, budget=Amount(budget))
        self.credited: dict[Address, int] = {}
        self.settled: list[Address] = []

    def change(self, change: Any) -> None:
        try:
            self.task, events = apply(self.task, change, self.now)
        except TaskRefused:
            return
        for event in events:
            if isinstance(event, Credited):
                assert event.account not in self.credited
                self.credited[event.account] = event.amount
            if isinstance(event, BondSettled):
                self.settled.append(event.miner)

    @rule(seconds=st.sampled_from([1, 99, 100, 600]))
    def wait(self, seconds: int) -> None:
        self.now = Timestamp(self.now + seconds)

    @rule()
    def assign(self) -> None:
        self.change(Assign(MINERS[: self.task.order.replicas]))

    @rule(miner=st.sampled_from(MINERS), answer=st.sampled_from([YES, YES, NO]))
    def commit(self, miner: Address, answer: bytes) -> None:
        self.change(Commit(miner, bound(self.task, miner, answer)))

    @rule(answers=st.lists(st.sampled_from([YES, YES, YES, NO]), min_size=8, max_size=8))
    def all_commit(self, answers: list[bytes]) -> None:
        for miner, answer in zip(MINERS, answers, strict=True):
            self.commit(miner, answer)

    @rule(miner=st.sampled_from(MINERS), answer=st.sampled_from([YES, YES, NO]))
    def reveal(self, miner: Address, answer: bytes) -> None:
        self.change(Reveal(miner, answer, SALT))

    @rule(change=st.sampled_from([Advance(), Cancel(ASKER, 41), Cancel(STRANGER, 41), Deliver(True), Deliver(False)]))
    def other(self, change: Any) -> None:
        self.change(change)

    @rule(miner=st.sampled_from(MINERS))
    def settle_bond(self, miner: Address) -> None:
        self.change(SettleBond(miner))

    @invariant()
    def the_money_is_all_there(self) -> None:
        if hasattr(self, "task"):
            assert sum(self.credited.values()) == (self.task.escrow if self.task.ended else 0)
            assert (self.task.status == Status.ANSWERED) == (set(self.credited) & set(MINERS) != set())
            assert len(self.settled) == len(set(self.settled))

    @invariant()
    def there_is_a_way_out(self) -> None:
        if hasattr(self, "task"):
            task, now, steps = self.task, self.now, 0
            while not task.ended:
                now = max(now, task.deadline)
                task, _ = apply(task, Advance(), now)
                steps += 1
            assert steps <= 2
            for work in task.work:
                if work.held:
                    task, _ = apply(task, SettleBond(work.miner), now)
            assert not any(work.held for work in task.work)


TestAnySequence = AnySequence.TestCase
