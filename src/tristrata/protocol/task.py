"""A task of the queue: inference that a contract requested, from the request to the answer and the money.

``(state, change) -> (state, events)``. This is the specification of the contract ``TaskQueue``, which is tested against
it. What the machine cannot know (balances, offers, randomness) the contract checks before.
"""

from enum import IntEnum
from functools import singledispatch

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.hashing import ZERO_WORD, address_word, keccak, word
from tristrata.protocol.ids import Address, ChainRef
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.units import WHOLE_IN_BASIS_POINTS, Amount, BasisPoints, Gas, Seconds, Timestamp

MAX_REPLICAS = 8
MAX_ANSWER_BYTES = 1_024
MAX_BUDGET = Amount(2**80)
MAX_CALLBACK_GAS = Gas(5_000_000)
MAX_SECONDS = Seconds(30 * 86_400)
MAX_BOND_BPS = BasisPoints(1_000_000)
MIN_LEAD = 2


class TaskRefused(TristrataError):
    """A change that the task's rules do not allow; the state stays as it was."""


class Status(IntEnum):
    """Where a task stands. From ``ANSWERED`` on it has ended; ``COMMITTED`` means that answers are being revealed."""

    REQUESTED = 1
    ASSIGNED = 2
    COMMITTED = 3
    ANSWERED = 4
    DISAGREED = 5
    EXPIRED = 6
    CANCELLED = 7


class Callback(IntEnum):
    """Whether the requester was called back. ``NONE``: not due yet, or never asked for."""

    NONE = 0
    PENDING = 1
    DELIVERED = 2
    FAILED = 3


class Parameters(msgspec.Struct, frozen=True):
    """The queue's parameters. A task keeps those of its request.

    ``bond_bps`` and ``penalty_bps`` are parts of the budget: what a miner has reserved for a task, and what of that is
    burnt when it stays silent, whereupon it is jailed for ``jail_seconds``. ``lead`` counts super roots: the randomness
    comes from the one so many after the newest that the hub knew at the request.
    """

    assign_seconds: Seconds
    min_seconds: Seconds
    max_seconds: Seconds
    bond_bps: BasisPoints
    penalty_bps: BasisPoints
    jail_seconds: Seconds
    lead: int


class Order(msgspec.Struct, frozen=True):
    """What is asked for. Each miner that gives the answer is paid ``budget``; ``callback_gas`` is 0 for no callback."""

    requester: Address
    assurance: int
    replicas: int
    budget: Amount
    commit_seconds: Seconds
    reveal_seconds: Seconds
    callback_gas: Gas = Gas(0)


class Work(msgspec.Struct, frozen=True):
    """One miner's part. ``answer_hash`` is set once it has revealed; ``held`` says that its bond is still reserved."""

    miner: Address
    commitment: bytes | None = None
    answer_hash: bytes | None = None
    held: bool = True


class Task(msgspec.Struct, frozen=True):
    """One task on one queue. ``deadline`` is the present phase's, 0 once the task has ended."""

    chain: ChainRef
    queue: Address
    task_id: bytes
    order: Order
    bond: Amount
    penalty: Amount
    super_number: int
    status: Status
    deadline: Timestamp
    work: tuple[Work, ...] = ()
    answer: bytes | None = None
    callback: Callback = Callback.NONE

    @property
    def escrow(self) -> Amount:
        """What the requester put down, in base units."""
        return Amount(self.order.budget * self.order.replicas)

    @property
    def ended(self) -> bool:
        """Whether all of the money is credited."""
        return self.status >= Status.ANSWERED

    @property
    def reveals_opened(self) -> bool:
        """Whether enough miners committed for a majority, so that they were asked to reveal."""
        return 2 * sum(work.commitment is not None for work in self.work) > self.order.replicas


class Cancel(msgspec.Struct, frozen=True):
    """The requester takes the request back. ``newest`` is the highest super root number that the hub knows."""

    sender: Address
    newest: int


class Assign(msgspec.Struct, frozen=True):
    """Miners were drawn, and their bonds reserved. Open to anyone."""

    miners: tuple[Address, ...]


class Commit(msgspec.Struct, frozen=True):
    """A miner binds itself to an answer that nobody can read yet."""

    miner: Address
    commitment: bytes


class Reveal(msgspec.Struct, frozen=True):
    """A miner shows what it bound itself to."""

    miner: Address
    answer: bytes
    salt: bytes


class Advance(msgspec.Struct, frozen=True):
    """Go on after a deadline. Open to anyone."""


class SettleBond(msgspec.Struct, frozen=True):
    """Free the bond of a miner that did not reveal, once the task has ended. Open to anyone."""

    miner: Address


class Deliver(msgspec.Struct, frozen=True):
    """The requester is called back; ``succeeded`` is how that went. Open to anyone."""

    succeeded: bool


class Requested(msgspec.Struct, frozen=True):
    """``escrow`` was taken from the requester."""

    escrow: Amount
    deadline: Timestamp


class Assigned(msgspec.Struct, frozen=True):
    """These miners answer, and commit before ``deadline``."""

    miners: tuple[Address, ...]
    deadline: Timestamp


class Committed(msgspec.Struct, frozen=True):
    """A miner bound itself."""

    miner: Address
    commitment: bytes


class RevealsOpened(msgspec.Struct, frozen=True):
    """Nobody can commit any more; those who did reveal before ``deadline``."""

    deadline: Timestamp


class Revealed(msgspec.Struct, frozen=True):
    """A miner revealed, and its bond is free."""

    miner: Address
    answer: bytes


class Finished(msgspec.Struct, frozen=True):
    """The task has ended; ``answer_hash`` is 32 zero bytes without an answer."""

    status: Status
    answer_hash: bytes


class Credited(msgspec.Struct, frozen=True):
    """``account`` can withdraw ``amount`` more."""

    account: Address
    amount: Amount


class BondSettled(msgspec.Struct, frozen=True):
    """A miner's bond is free, after ``penalty`` was taken from it."""

    miner: Address
    penalty: Amount


class Delivered(msgspec.Struct, frozen=True):
    """The requester was called back."""

    succeeded: bool


TaskChange = Cancel | Assign | Commit | Reveal | Advance | SettleBond | Deliver
TaskEvent = Requested | Assigned | Committed | RevealsOpened | Revealed | Finished | Credited | BondSettled | Delivered
_Result = tuple[Task, list[TaskEvent]]


def task_id(chain: ChainRef, queue: Address, requester: Address, nonce: int) -> bytes:
    """The id of the task that ``requester`` asks for after ``nonce`` others; known before the transaction lands."""
    return keccak(chain + address_word(queue) + address_word(requester) + word(nonce))


def commitment(
    chain: ChainRef, queue: Address, task_id: bytes, miner: Address, answer_hash: bytes, salt: bytes
) -> bytes:
    """What a miner commits to: worth nothing on another chain, queue or task, or from another miner.

    ``answer_hash`` is the Keccak-256 of the answer; ``salt`` must be 32 random bytes, or short answers can be guessed.
    """
    return keccak(chain + address_word(queue) + task_id + address_word(miner) + answer_hash + salt)


def check_parameters(parameters: Parameters) -> None:
    """Raise `TaskRefused`, which names the field and its bounds, for the first parameter outside of them."""
    bounds = {
        "assign_seconds": (1, MAX_SECONDS),
        "max_seconds": (0, MAX_SECONDS),
        "min_seconds": (1, parameters.max_seconds),
        "bond_bps": (0, MAX_BOND_BPS),
        "penalty_bps": (0, parameters.bond_bps),
        "jail_seconds": (0, MAX_SECONDS),
        "lead": (MIN_LEAD, 2**32 - 1),
    }
    for name, (least, most) in bounds.items():
        found = getattr(parameters, name)
        if not least <= found <= most:
            raise TaskRefused(f"{name} is {found}; it must lie between {least} and {most}")


def request(
    chain: ChainRef, queue: Address, order: Order, nonce: int, parameters: Parameters, newest: int, now: Timestamp
) -> _Result:
    """A new task. ``nonce`` counts the requester's earlier ones, ``newest`` is the highest super root number known.

    Raises `TaskRefused` for an order that the queue does not take.
    """
    if order.assurance not in (Assurance.NONE, Assurance.QUORUM):
        raise TaskRefused(f"assurance {order.assurance} is not offered by a queue; there are 0 (none) and 2 (quorum)")
    fewest, most = (1, 1) if order.assurance == Assurance.NONE else (2, MAX_REPLICAS)
    if not fewest <= order.replicas <= most:
        raise TaskRefused(f"{order.replicas} replicas at this assurance; there must be {fewest} to {most}")
    if not 0 < order.budget <= MAX_BUDGET:
        raise TaskRefused(f"the budget is {order.budget}; it must lie between 1 and 2**80 base units")
    if order.callback_gas > MAX_CALLBACK_GAS:
        raise TaskRefused(f"the callback wants {order.callback_gas} gas; it gets at most {MAX_CALLBACK_GAS}")
    for name, seconds in (("commit", order.commit_seconds), ("reveal", order.reveal_seconds)):
        if not parameters.min_seconds <= seconds <= parameters.max_seconds:
            raise TaskRefused(
                f"the {name} window is {seconds} s; "
                f"it must lie between {parameters.min_seconds} and {parameters.max_seconds} s"
            )
    task = Task(
        chain=chain,
        queue=queue,
        task_id=task_id(chain, queue, order.requester, nonce),
        order=order,
        bond=Amount(order.budget * parameters.bond_bps // WHOLE_IN_BASIS_POINTS),
        penalty=Amount(order.budget * parameters.penalty_bps // WHOLE_IN_BASIS_POINTS),
        super_number=newest + parameters.lead,
        status=Status.REQUESTED,
        deadline=Timestamp(now + parameters.assign_seconds),
    )
    return task, [Requested(task.escrow, task.deadline)]


def apply(state: Task, change: TaskChange, now: Timestamp) -> _Result:
    """The task after ``change`` at ``now``. Raises `TaskRefused`."""
    return _apply(change, state, now)


@singledispatch
def _apply(change: TaskChange, state: Task, now: Timestamp) -> _Result:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: Cancel, state: Task, now: Timestamp) -> _Result:
    _require_status(state, Status.REQUESTED)
    if change.sender != state.order.requester:
        raise TaskRefused(f"0x{change.sender.hex()} did not request this task")
    if change.newest >= state.super_number:
        raise TaskRefused(
            f"super root {state.super_number} is here, so the draw is decided",
            remedy="wait for the answer, or for the deadline",
        )
    return _finish(state, Status.CANCELLED)


@_apply.register
def _(change: Assign, state: Task, now: Timestamp) -> _Result:
    _require_status(state, Status.REQUESTED)
    _require_before(state, now)
    if len(change.miners) != state.order.replicas or len(set(change.miners)) != len(change.miners):
        raise TaskRefused(f"{len(set(change.miners))} miners can answer; the task needs {state.order.replicas}")
    deadline = Timestamp(now + state.order.commit_seconds)
    work = tuple(Work(miner) for miner in change.miners)
    assigned = msgspec.structs.replace(state, status=Status.ASSIGNED, deadline=deadline, work=work)
    return assigned, [Assigned(change.miners, deadline)]


@_apply.register
def _(change: Commit, state: Task, now: Timestamp) -> _Result:
    _require_status(state, Status.ASSIGNED)
    _require_before(state, now)
    place = _place(state, change.miner)
    if state.work[place].commitment is not None:
        raise TaskRefused(f"0x{change.miner.hex()} has committed already")
    committed = _with_work(state, place, msgspec.structs.replace(state.work[place], commitment=change.commitment))
    events: list[TaskEvent] = [Committed(change.miner, change.commitment)]
    if any(work.commitment is None for work in committed.work):
        return committed, events
    opened, more = _open_reveals(committed, now)
    return opened, events + more


@_apply.register
def _(change: Reveal, state: Task, now: Timestamp) -> _Result:
    _require_status(state, Status.COMMITTED)
    _require_before(state, now)
    place = _place(state, change.miner)
    before = state.work[place]
    if before.commitment is None:
        raise TaskRefused(f"0x{change.miner.hex()} did not commit")
    if before.answer_hash is not None:
        raise TaskRefused(f"0x{change.miner.hex()} has revealed already")
    answer_hash = keccak(change.answer)
    if before.commitment != commitment(state.chain, state.queue, state.task_id, change.miner, answer_hash, change.salt):
        raise TaskRefused("the answer and salt are not what this miner committed to")
    after = msgspec.structs.replace(before, answer_hash=answer_hash, held=False)
    revealed = _with_work(state, place, after)
    if 2 * _votes(revealed, answer_hash) > state.order.replicas:
        revealed = msgspec.structs.replace(revealed, answer=change.answer)
    events: list[TaskEvent] = [Revealed(change.miner, change.answer)]
    if any(work.commitment is not None and work.answer_hash is None for work in revealed.work):
        return revealed, events
    settled, more = _settle(revealed)
    return settled, events + more


@_apply.register
def _(change: Advance, state: Task, now: Timestamp) -> _Result:
    if state.ended:
        raise TaskRefused(f"the task has ended: {state.status.name.lower()}")
    if now < state.deadline:
        raise TaskRefused(f"it is {now}; the task can be advanced from {state.deadline} on")
    if state.status == Status.REQUESTED:
        return _finish(state, Status.EXPIRED)
    if state.status == Status.ASSIGNED and state.reveals_opened:
        return _open_reveals(state, now)
    return _settle(state)


@_apply.register
def _(change: SettleBond, state: Task, now: Timestamp) -> _Result:
    if not state.ended:
        raise TaskRefused("the task has not ended, so its bonds stay reserved")
    place = _place(state, change.miner)
    work = state.work[place]
    if not work.held:
        raise TaskRefused(f"the bond of 0x{change.miner.hex()} is free already")
    silent = work.commitment is None or state.reveals_opened
    settled = _with_work(state, place, msgspec.structs.replace(work, held=False))
    return settled, [BondSettled(change.miner, state.penalty if silent else Amount(0))]


@_apply.register
def _(change: Deliver, state: Task, now: Timestamp) -> _Result:
    if state.callback != Callback.PENDING:
        raise TaskRefused(f"no callback is due: {state.callback.name.lower()}")
    callback = Callback.DELIVERED if change.succeeded else Callback.FAILED
    return msgspec.structs.replace(state, callback=callback), [Delivered(change.succeeded)]


def _open_reveals(state: Task, now: Timestamp) -> _Result:
    deadline = Timestamp(now + state.order.reveal_seconds)
    opened = msgspec.structs.replace(state, status=Status.COMMITTED, deadline=deadline)
    return opened, [RevealsOpened(deadline)]


def _settle(state: Task) -> _Result:
    # Two answers cannot both have a strict majority.
    for work in state.work:
        if work.answer_hash is not None and 2 * _votes(state, work.answer_hash) > state.order.replicas:
            agreeing = tuple(each.miner for each in state.work if each.answer_hash == work.answer_hash)
            return _finish(state, Status.ANSWERED, work.answer_hash, agreeing)
    return _finish(state, Status.DISAGREED)


def _finish(state: Task, status: Status, answer_hash: bytes = ZERO_WORD, agreeing: tuple[Address, ...] = ()) -> _Result:
    """Credit each agreeing miner its budget, and the requester the rest."""
    wants_callback = state.order.callback_gas != 0 and status != Status.CANCELLED
    callback = Callback.PENDING if wants_callback else Callback.NONE
    ended = msgspec.structs.replace(state, status=status, deadline=Timestamp(0), callback=callback)
    events: list[TaskEvent] = [Finished(status, answer_hash)]
    events += [Credited(miner, state.order.budget) for miner in agreeing]
    rest = Amount(state.escrow - state.order.budget * len(agreeing))
    return ended, events + ([Credited(state.order.requester, rest)] if rest else [])


def _votes(state: Task, answer_hash: bytes) -> int:
    return sum(work.answer_hash == answer_hash for work in state.work)


def _with_work(state: Task, place: int, work: Work) -> Task:
    return msgspec.structs.replace(state, work=(*state.work[:place], work, *state.work[place + 1 :]))


def _place(state: Task, miner: Address) -> int:
    for place, work in enumerate(state.work):
        if work.miner == miner:
            return place
    raise TaskRefused(f"0x{miner.hex()} is not assigned to this task")


def _require_status(state: Task, status: Status) -> None:
    if state.status != status:
        raise TaskRefused(f"the task is {state.status.name.lower()}; it must be {status.name.lower()}")


def _require_before(state: Task, now: Timestamp) -> None:
    if now >= state.deadline:
        raise TaskRefused(f"it is {now}; this was possible before {state.deadline}")
