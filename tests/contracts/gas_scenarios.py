"""What people pay for, each as the last call of a hub of its own; tests/contracts/test_gas.py measures it."""

from collections.abc import Callable
from typing import Any

import boa

from tests.contracts.conftest import (
    DOLLAR,
    ONE,
    REF,
    THREE,
    TWO,
    WEIGHTS,
    Hub,
    Payouts,
    Validators,
    account,
    domain_of,
    make_hub,
    packed,
    raw,
    sign_all,
    validator_set,
)
from tests.contracts.money import SumTreeOf, fund_validator, mature
from tests.contracts.session_orders import authorize, open_for, open_order, order_fields
from tests.contracts.tasks import Tasks
from tests.contracts.welcome_center import HUB, Center, soon
from tristrata.protocol.attestation import Checkpoint
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ChainRef
from tristrata.protocol.terms import Registration, Role

ALL = (ONE, TWO, THREE)
CHILD, ROOT = b"\x77" * 32, b"\x88" * 32
EARNED = {"router": 5, "miner": 95}
MORE = {"router": 10, "miner": 190}
FIVE = {f"miner {number}": 100 + number for number in range(5)}

Scenario = Callable[[], Any]
SCENARIOS: dict[str, Scenario] = {}


def costs(name: str) -> Callable[[Scenario], Scenario]:
    """A scenario; the last call of the contract that it gives is the one that is measured."""

    def register(scenario: Scenario) -> Scenario:
        assert name not in SCENARIOS
        SCENARIOS[name] = scenario
        return scenario

    return register


# sessions


@costs("Sessions.open")
def _() -> Any:
    hub = make_hub()
    hub.open()
    return hub.sessions


@costs("Sessions.open_for")
def _() -> Any:
    hub = make_hub()
    hub.sessions.open_for(*open_for(hub, open_order(hub)), sender=account("relayer"))
    return hub.sessions


@costs("Sessions.open_with_authorization")
def _() -> Any:
    hub = make_hub()
    order = open_order(hub)
    hub.sessions.open_with_authorization(*order_fields(order), *authorize(hub, order), sender=account("relayer"))
    return hub.sessions


@costs("Sessions.top_up")
def _() -> Any:
    hub = make_hub()
    hub.sessions.top_up(hub.open(), DOLLAR, sender=account("owner"))
    return hub.sessions


@costs("Sessions.replace_key")
def _() -> Any:
    hub = make_hub()
    hub.sessions.replace_key(hub.open(), account("new key"), sender=account("owner"))
    return hub.sessions


@costs("Sessions.request_close")
def _() -> Any:
    hub = make_hub()
    hub.sessions.request_close(hub.open(), sender=account("owner"))
    return hub.sessions


@costs("Sessions.close")
def _() -> Any:
    hub = make_hub()
    session = hub.open()
    hub.charge(session, 1, EARNED)
    hub.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(hub.sessions.grace())
    hub.sessions.close(session, sender=account("anyone"))
    return hub.sessions


# charges and payouts


def adopted() -> Hub:
    """A hub whose validators are there, all three of the same set."""
    hub = make_hub()
    hub.adopt()
    return hub


def charged(earned: dict[str, int]) -> tuple[Hub, bytes]:
    """A hub with a session that was charged once."""
    hub = adopted()
    session = hub.open()
    hub.charge(session, 1, earned)
    return hub, session


def settled(sessions: int) -> Any:
    """A second epoch, settled with charges of this many sessions that were charged before."""
    hub = adopted()
    opened = [hub.open(nonce=number) for number in range(1, sessions + 1)]
    hub.settle(signers=ALL, charges=[hub.charge_call(session, 1, EARNED) for session in opened])
    hub.settle(signers=ALL, charges=[hub.charge_call(session, 2, MORE) for session in opened])
    return hub.settlement


@costs("Settlement.charge (first)")
def _() -> Any:
    hub, _ = charged(EARNED)
    return hub.settlement


@costs("Settlement.charge (next)")
def _() -> Any:
    hub, session = charged(EARNED)
    hub.charge(session, 2, MORE)
    return hub.settlement


@costs("Settlement.settle (1 charge)")
def _() -> Any:
    return settled(1)


@costs("Settlement.settle (5 charges)")
def _() -> Any:
    return settled(5)


@costs("Settlement.claim")
def _() -> Any:
    hub, _ = charged(FIVE)
    payouts = Payouts(FIVE)
    seal = hub.settle(payouts.root, signers=ALL)
    mature()
    hub.claim(seal, payouts, "miner 0")
    return hub.settlement


@costs("Settlement.claim_many (5)")
def _() -> Any:
    hub, _ = charged(FIVE)
    payouts = Payouts(FIVE)
    seal = hub.settle(payouts.root, signers=ALL)
    mature()
    hub.settlement.claim_many(seal, *payouts.many(*FIVE), sender=account("anyone"))
    return hub.settlement


@costs("Settlement.claim_direct")
def _() -> Any:
    hub, session = charged(EARNED)
    hub.claim_direct(session, 0)
    return hub.settlement


@costs("Settlement.veto")
def _() -> Any:
    hub, _ = charged(EARNED)
    payouts = Payouts(EARNED)
    seal = hub.settle(payouts.root, signers=ALL)
    fund_validator(hub, ONE)
    hub.settlement.veto(seal, payouts.root, sender=account(ONE))
    return hub.settlement


@costs("Settlement.refute")
def _() -> Any:
    hub, session = charged(EARNED)
    false = SumTreeOf([(session, 96), (b"\x99" * 32, 4)])
    payouts = Payouts({"miner": 100, "router": 5}, {"miner": false.root})
    seal = hub.settle(payouts.root, signers=ALL)
    count, splits = hub.last[session]
    hub.settlement.refute(
        seal,
        payouts.payout("miner"),
        payouts.proof("miner"),
        session,
        false.open_all(session),
        count,
        packed(splits),
        sender=account("anyone"),
    )
    return hub.settlement


@costs("Settlement.forfeit")
def _() -> Any:
    hub, session = charged(EARNED)
    call, splits, _ = hub.charge_call(session, 1, {"router": 5, "other": 30})
    hub.settlement.forfeit(call, splits, packed(hub.last[session][1]), sender=account("anyone"))
    return hub.settlement


# messages and epochs


@costs("Outbox.send")
def _() -> Any:
    hub = make_hub()
    for _ in range(2):
        hub.outbox.send(CHILD, ROOT, bytes(range(96)), sender=account("sender"))
    return hub.outbox


@costs("Outbox.set_from_l1 (3 members)")
def _() -> Any:
    hub = adopted()
    hub.adopt(validator_set(2))
    return hub.outbox


@costs("Outbox.attest_child")
def _() -> Any:
    hub = adopted()
    hub.outbox.add_child(CHILD, sender=hub.operator)
    signatures = sign_all(hub.domain(hub.outbox), Checkpoint(ChainRef(CHILD), 1, ROOT), ALL)
    hub.outbox.attest_child(CHILD, 1, ROOT, signatures, sender=account("anyone"))
    return hub.outbox


# security


def staked() -> Validators:
    validators = Validators()
    for name, stake in WEIGHTS.items():
        validators.register(name, stake)
    validators.activate()
    return validators


@costs("ValidatorSet.register")
def _() -> Any:
    validators = Validators()
    validators.register(ONE, 40)
    return validators.set


@costs("ValidatorSet.publish (3)")
def _() -> Any:
    validators = staked()
    validators.publish(*ALL)
    return validators.set


@costs("CheckpointLedger.attest")
def _() -> Any:
    validators = staked()
    validators.publish(*ALL)
    validators.ledger.add_chain(CHILD, REF, bytes(32), bytes(32), sender=validators.owner)
    for epoch in (1, 2):
        signatures = sign_all(domain_of(validators.ledger), Checkpoint(ChainRef(CHILD), epoch, ROOT), ALL)
        validators.ledger.attest(CHILD, epoch, ROOT, signatures, sender=account("anyone"))
    return validators.ledger


# onboarding


def welcomed() -> Center:
    center = Center()
    center.set_destination()
    center.deposit("user")
    return center


@costs("Welcome.register")
def _() -> Any:
    center = Center()
    registration = Registration(raw("user"), Role.USER, soon())
    center.carry(registration, center.sign("user", registration))
    return center.contract


@costs("Welcome.deposit")
def _() -> Any:
    return welcomed().contract


@costs("Welcome.credit")
def _() -> Any:
    center = welcomed()
    center.contract.credit(HUB, DOLLAR, sender=account("user"))
    return center.contract


@costs("Welcome.withdraw")
def _() -> Any:
    center = welcomed()
    center.contract.withdraw(DOLLAR, account("payee"), sender=account("user"))
    return center.contract


# miners and tasks


@costs("MinerRegistry.register")
def _() -> Any:
    tasks = Tasks(miners=())
    tasks.fund("miner")
    tasks.miners.register(account("signs"), keccak(b"nats"), bytes(32), 4, 100, sender=account("miner"))
    return tasks.miners


@costs("MinerRegistry.offer")
def _() -> Any:
    return Tasks().miners


@costs("TaskQueue.request")
def _() -> Any:
    tasks = Tasks()
    tasks.request()
    return tasks.queue


@costs("TaskQueue.assign (3 of 5)")
def _() -> Any:
    tasks = Tasks()
    task = tasks.request()
    tasks.bring_randomness(tasks.queue.task(task).super_number)
    tasks.queue.assign(task, sender=account("anyone"))
    return tasks.queue


@costs("TaskQueue.commit")
def _() -> Any:
    tasks = Tasks()
    task = tasks.request()
    tasks.commit(task, {tasks.assign(task)[0]: b"yes"})
    return tasks.queue


@costs("TaskQueue.reveal (last of 3)")
def _() -> Any:
    tasks = Tasks()
    tasks.answer(tasks.request(), b"yes", b"yes", b"no")
    return tasks.queue


@costs("TaskQueue.advance (expired)")
def _() -> Any:
    tasks = Tasks()
    task = tasks.request()
    boa.env.time_travel(tasks.queue.task(task).deadline - boa.env.timestamp)
    tasks.queue.advance(task, sender=account("anyone"))
    return tasks.queue
