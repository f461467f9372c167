"""Several of a hub's calls in one transaction: all of them, in the caller's name, or nothing."""

import boa
import pytest
from eth.exceptions import Revert

from tests.contracts.conftest import ONE, VETO_FEE, Hub, Payouts, account, as_abi, reverts, settle_arguments, sign_all
from tests.contracts.money import EARNED, Seal, balance, charged_hub, fund_validator, mature, session_of


@pytest.fixture
def charged() -> Hub:
    return charged_hub()


@pytest.fixture
def payouts() -> Payouts:
    return Payouts(EARNED)


@pytest.fixture
def seal(charged: Hub, payouts: Payouts) -> Seal:
    """An epoch that pays by now."""
    sealed = charged.settle(payouts.root)
    mature()
    return sealed


def claim_call(hub: Hub, seal: Seal, payouts: Payouts) -> bytes:
    return bytes(hub.settlement.claim_many.prepare_calldata(seal, *payouts.many(*EARNED)))


def settle_call(hub: Hub, payouts: Payouts) -> bytes:
    """Charges of 8 sessions with 8 splits each, and the next epoch."""
    sessions = [hub.open(nonce=nonce) for nonce in range(2, 10)]
    many = {f"payee {number}": number + 1 for number in range(8)}
    calls = settle_arguments(hub.charge_call(session, 1, many) for session in sessions)
    boa.env.time_travel(blocks=2, block_delta=1)
    epoch = hub.next_epoch(payouts.root)
    signatures = sign_all(hub.domain(hub.outbox), epoch)
    return bytes(hub.settlement.settle.prepare_calldata(*calls, as_abi(epoch), signatures))


def test_multicall__seals_an_epoch_and_pays_another__in_one_transaction(
    charged: Hub, payouts: Payouts, seal: Seal
) -> None:
    hub = charged

    hub.settlement.multicall([settle_call(hub, payouts), claim_call(hub, seal, payouts)], sender=account("anyone"))

    assert hub.outbox.last_epoch() == 2
    assert hub.settlement.total_charged() == 120 + 8 * 36
    assert {name: balance(hub, name) for name in EARNED} == EARNED


def test_multicall__the_second_reverts__nothing_has_happened_and_its_error_is_told(
    charged: Hub, payouts: Payouts, seal: Seal
) -> None:
    claimed = claim_call(charged, seal, payouts)
    refused = charged.settlement.claim_many.prepare_calldata((1, bytes(32), seal[2]), *payouts.many(*EARNED))

    with reverts("Outbox", "WrongRoots", 1, bytes(32), payouts.root):
        charged.settlement.multicall([claimed, refused])
    assert (charged.settlement.total_paid(), balance(charged, "miner")) == (0, 0)


def test_multicall__the_same_claim_twice__pays_once(charged: Hub, payouts: Payouts, seal: Seal) -> None:
    charged.settlement.multicall([claim_call(charged, seal, payouts)] * 2)

    assert {name: balance(charged, name) for name in EARNED} == EARNED
    assert charged.settlement.total_paid() == 120


def test_multicall__within_a_multicall__is_no_more_than_its_calls(charged: Hub, payouts: Payouts, seal: Seal) -> None:
    claimed = claim_call(charged, seal, payouts)
    nested = charged.settlement.multicall.prepare_calldata([claimed, claimed])

    charged.settlement.multicall([nested, nested])

    assert {name: balance(charged, name) for name in EARNED} == EARNED
    assert charged.settlement.total_paid() == 120


def test_multicall__no_calls__does_nothing(charged: Hub) -> None:
    charged.settlement.multicall([])

    assert charged.settlement.total_paid() == 0


def test_multicall__in_the_callers_name__vetoes_and_is_refused_what_is_sessions_alone(charged: Hub) -> None:
    sealed, session = charged.settle(), session_of(charged)
    fund_validator(charged, ONE)
    vetoed = charged.settlement.veto.prepare_calldata(sealed, bytes(32))

    with reverts("Settlement", "NotValidator", account("stranger").lower()):
        charged.settlement.multicall([vetoed], sender=account("stranger"))
    charged.settlement.multicall([vetoed], sender=account(ONE))
    assert (charged.outbox.sealed(1).vetoed, balance(charged, ONE)) == (True, 0)
    for name, data in (
        ("stranger", charged.settlement.refund.prepare_calldata(session, account("stranger"))),
        (ONE, charged.settlement.set_escrow.prepare_calldata(session, account(ONE), False, VETO_FEE)),
    ):
        with reverts("Settlement", "NotSessions", account(name).lower()):
            charged.settlement.multicall([data], sender=account(name))


@pytest.mark.parametrize("what", ["transfer", "stop_payouts", "nothing", "short"])
def test_multicall__a_function_that_is_not_the_settlements__reverts(
    charged: Hub, payouts: Payouts, seal: Seal, what: str
) -> None:
    data = {
        "transfer": charged.dollar.transfer.prepare_calldata(account("stranger"), 1),
        "stop_payouts": charged.outbox.stop_payouts.prepare_calldata(1),
        "nothing": b"",
        "short": b"\x01\x02\x03",
    }[what]

    with pytest.raises(boa.BoaError):
        charged.settlement.multicall([claim_call(charged, seal, payouts), data])
    assert charged.settlement.total_paid() == 0
    assert not charged.outbox.sealed(1).vetoed
    charged.settlement.multicall([claim_call(charged, seal, payouts)])


def test_multicall__more_than_two_calls__revert(charged: Hub, payouts: Payouts, seal: Seal) -> None:
    data = charged.settlement.multicall.prepare_calldata([claim_call(charged, seal, payouts)] * 2)
    three = data[:4] + (32).to_bytes(32, "big") + (3).to_bytes(32, "big") + bytes(96 * 2)

    assert boa.env.raw_call(charged.settlement.address, data=data).is_success
    with pytest.raises(Revert):
        boa.env.raw_call(charged.settlement.address, data=three)
