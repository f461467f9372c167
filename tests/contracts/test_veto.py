"""The veto: one honest validator stops what all others signed, before the first payment."""

import boa
import pytest

from tests.contracts.conftest import (
    DELAY,
    KEPT_EPOCHS,
    ONE,
    THREE,
    TWO,
    VETO_FEE,
    Hub,
    Payouts,
    account,
    contract,
    reverts,
    validator_set,
)
from tests.contracts.money import EARNED, Seal, balance, charged_hub, direct, events, fund_validator, mature, session_of
from tristrata.protocol.ids import checksum

BURNT = checksum(bytes(18) + b"\xde\xad")  # type: ignore[arg-type]
FEE_MODE, REFUSING, REENTRANT = 2, 4, 16
PAYOUTS = Payouts(EARNED)


@pytest.fixture
def charged() -> Hub:
    return charged_hub()


def veto(hub: Hub, seal: Seal, name: str, root: bytes = PAYOUTS.root) -> None:
    hub.settlement.veto(seal, root, sender=account(name))


def test_veto__by_one_member__burns_the_fee_and_stops_the_payouts(charged: Hub) -> None:
    seal = charged.settle(PAYOUTS.root)
    fund_validator(charged, THREE)
    boa.env.time_travel(DELAY - 1)

    veto(charged, seal, THREE)

    [event] = events(charged.settlement, "Vetoed")
    assert (event.epoch, event.validator) == (1, account(THREE))
    assert charged.outbox.sealed(1).vetoed
    assert (balance(charged, THREE), charged.dollar.balanceOf(BURNT)) == (0, VETO_FEE)
    mature()
    with reverts("Outbox", "PayoutVetoed", 1):
        charged.claim(seal, PAYOUTS, "miner")
    with reverts("Outbox", "PayoutVetoed", 1):
        charged.settlement.claim_many(seal, *PAYOUTS.many("miner", "router"))
    assert direct(charged, session_of(charged), "miner") == 95
    later = charged.settle(PAYOUTS.root)
    mature()
    assert not charged.outbox.sealed(2).vetoed
    assert charged.claim(later, PAYOUTS, "router") == 5


def test_veto__by_no_member_of_the_current_valid_set__is_refused(charged: Hub) -> None:
    seal = charged.settle(PAYOUTS.root)
    for name in ("stranger", ONE, TWO):
        fund_validator(charged, name)

    with reverts("Settlement", "NotValidator", account("stranger").lower()):
        veto(charged, seal, "stranger")
    charged.adopt(validator_set(2, {TWO: 1}, boa.env.timestamp + 10))
    with reverts("Settlement", "NotValidator", account(ONE).lower()):
        veto(charged, seal, ONE)
    boa.env.time_travel(11)
    with reverts("Settlement", "NotValidator", account(TWO).lower()):
        veto(charged, seal, TWO)


def test_veto__unsealed_mature_or_vetoed_epoch__is_refused(charged: Hub) -> None:
    fund_validator(charged, ONE, 10 * VETO_FEE)

    with reverts("Outbox", "EpochNotKept", 1, 0, KEPT_EPOCHS):
        veto(charged, (1, bytes(32), bytes(32)), ONE)
    seal = charged.settle(PAYOUTS.root)
    veto(charged, seal, ONE)
    with reverts("Outbox", "PayoutVetoed", 1):
        veto(charged, seal, ONE)
    later = charged.settle(PAYOUTS.root)
    mature_at = boa.env.timestamp + DELAY
    mature()
    with reverts("Settlement", "VetoTooLate", mature_at, mature_at):
        veto(charged, later, ONE)
    assert charged.dollar.balanceOf(BURNT) == VETO_FEE


def test_veto__a_seal_that_is_not__stops_nothing(charged: Hub) -> None:
    fund_validator(charged, ONE, 10 * VETO_FEE)
    epoch, root, signed = charged.settle(PAYOUTS.root)

    for seal, payouts_root in (
        ((epoch, root, signed), bytes(32)),
        ((epoch, bytes(32), signed), PAYOUTS.root),
        ((epoch, root, bytes(32)), PAYOUTS.root),
    ):
        with reverts("Outbox", "WrongRoots", 1, seal[1], payouts_root):
            veto(charged, seal, ONE, payouts_root)
    # A number that shares the epoch's record would tell everyone of an epoch that was never vetoed.
    with reverts("Outbox", "EpochNotKept", epoch + KEPT_EPOCHS, 1, KEPT_EPOCHS):
        veto(charged, (epoch + KEPT_EPOCHS, root, signed), ONE)
    assert not charged.outbox.sealed(1).vetoed


def test_veto__of_an_old_epoch__does_not_stop_the_one_that_took_its_record(charged: Hub) -> None:
    fund_validator(charged, ONE, 10 * VETO_FEE)
    seal = charged.settle(PAYOUTS.root)
    veto(charged, seal, ONE)
    for _ in range(KEPT_EPOCHS):
        later = charged.settle(PAYOUTS.root)

    with reverts("Outbox", "EpochNotKept", 1, 1 + KEPT_EPOCHS, KEPT_EPOCHS):
        veto(charged, seal, ONE)
    mature()
    assert not charged.outbox.sealed(1 + KEPT_EPOCHS).vetoed
    assert charged.claim(later, PAYOUTS, "miner") == 95


def test_veto__without_the_fee__is_refused(charged: Hub) -> None:
    seal = charged.settle(PAYOUTS.root)
    fund_validator(charged, ONE, VETO_FEE - 1)

    with pytest.raises(boa.BoaError):
        veto(charged, seal, ONE)
    assert not charged.outbox.sealed(1).vetoed


def test_veto__a_token_that_takes_a_fee_or_says_no__is_refused() -> None:
    weird = charged_hub(contract("testing/WeirdToken.vy"))
    seal = weird.settle(PAYOUTS.root)
    fund_validator(weird, ONE)

    weird.dollar.set_mode(FEE_MODE)
    with reverts("Settlement", "WrongAmountReceived", VETO_FEE, VETO_FEE - VETO_FEE // 100):
        veto(weird, seal, ONE)
    weird.dollar.set_mode(REFUSING)
    with reverts("Settlement", "TransferRefused", weird.dollar.address.lower(), account(ONE).lower(), VETO_FEE):
        veto(weird, seal, ONE)
    assert not weird.outbox.sealed(1).vetoed


def test_veto__the_token_calls_back__is_refused_there() -> None:
    weird = charged_hub(contract("testing/WeirdToken.vy"))
    seal = weird.settle(PAYOUTS.root)
    fund_validator(weird, ONE)
    count, splits = weird.last[session_of(weird)]
    data = weird.settlement.claim_direct.prepare_calldata(
        session_of(weird), count, [split.packed for split in splits], 0
    )
    weird.dollar.set_reentry(weird.settlement.address, data)
    weird.dollar.set_mode(REENTRANT)

    veto(weird, seal, ONE)

    assert (weird.dollar.reentries(), weird.dollar.reentry_succeeded()) == (1, False)
    assert (weird.outbox.sealed(1).vetoed, weird.settlement.total_paid()) == (True, 0)


def test_stop_payouts__by_another_than_settlement__is_refused(charged: Hub) -> None:
    charged.settle(PAYOUTS.root)

    for name in (account("stranger"), account(ONE), charged.operator):
        with reverts("Outbox", "NotSettlement", name.lower()):
            charged.outbox.stop_payouts(1, sender=name)


# validators that lie


def test_false_root__signed_by_two_thirds__a_single_veto_stops_it(charged: Hub) -> None:
    theft = Payouts({"stranger": 120})
    seal = charged.settle(theft.root, signers=(ONE, TWO))
    fund_validator(charged, THREE)

    veto(charged, seal, THREE, theft.root)
    mature()

    with reverts("Outbox", "PayoutVetoed", 1):
        charged.claim(seal, theft, "stranger")
    assert {name: direct(charged, session_of(charged), name) for name in EARNED} == EARNED
