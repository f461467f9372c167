"""Many payees at once: one common proof, and no way to be paid by it twice, or for somebody else's leaf."""

from typing import Any

import boa
import pytest

from tests.contracts.conftest import Hub, Payouts, account, contract, raw, reverts
from tests.contracts.money import EARNED, Seal, balance, charged_hub, events, mature, paid, session_of
from tristrata.bindings.artifacts import decode_error, load
from tristrata.protocol.hashing import keccak
from tristrata.protocol.standard_tree import StandardTree, payout_leaf
from tristrata.protocol.units import Amount

PLAIN, REFUSING, SILENT, REENTRANT, BLOCKING = 1, 4, 8, 16, 32
SUMS = b"\x66" * 32


@pytest.fixture
def charged() -> Hub:
    return charged_hub()


@pytest.fixture
def weird() -> Hub:
    """The same hub with a token that misbehaves on demand."""
    return charged_hub(contract("testing/WeirdToken.vy"))


def sealed(hub: Hub, payouts: Payouts) -> Seal:
    seal = hub.settle(payouts.root)
    mature()
    return seal


def test_claim_many__of_several_payees__pays_each_once(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    seal = sealed(charged, payouts)

    charged.settlement.claim_many(seal, *payouts.many("miner", "router"), sender=account("anyone"))
    assert len(events(charged.settlement, "Claimed")) == 1
    assert sorted(paid(charged)) == sorted([(raw("miner"), 95), (raw("router"), 5)])
    charged.settlement.claim_many(seal, *payouts.many(*EARNED))
    assert paid(charged) == [(raw("other"), 20)]
    charged.settlement.claim_many(seal, *payouts.many(*EARNED))
    assert paid(charged) == []
    assert {name: balance(charged, name) for name in EARNED} == EARNED
    assert {name: charged.settlement.claimed(account(name)) for name in EARNED} == EARNED
    assert charged.settlement.total_paid() == 120


def test_claim_many__of_a_later_epoch__pays_the_differences(charged: Hub) -> None:
    first, more = Payouts(EARNED), {"router": 6, "miner": 100, "other": 20}
    seal = charged.settle(first.root)
    charged.charge(session_of(charged), 2, more)
    second = Payouts(more)
    later = sealed(charged, second)

    charged.settlement.claim_many(seal, *first.many("miner", "other"))
    charged.settlement.claim_many(later, *second.many(*more))
    assert sorted(paid(charged)) == sorted([(raw("miner"), 5), (raw("router"), 6)])
    charged.settlement.claim_many(seal, *first.many(*EARNED))
    assert {name: balance(charged, name) for name in more} == more


@pytest.mark.parametrize("count", [1, 32])
def test_claim_many__32_at_once__fit(hub: Hub, count: int) -> None:
    hub.adopt()
    earned = {f"payee {number}": number + 1 for number in range(count)}
    hub.charge(hub.open(), 1, earned)
    payouts = Payouts(earned)
    seal = sealed(hub, payouts)

    hub.settlement.claim_many(seal, *payouts.many(*earned))

    assert {name: balance(hub, name) for name in earned} == earned
    assert hub.settlement.total_paid() == sum(earned.values())


def test_claim_many__32_far_apart_in_a_large_tree__fit(hub: Hub) -> None:
    hub.adopt()
    earned = {f"payee {number}": 1 for number in range(256)}
    hub.charge(hub.open(), 1, {"payee 0": 256})
    payouts = Payouts(earned)
    by_leaf = sorted(earned, key=lambda name: keccak(keccak(payout_leaf(raw(name), Amount(1), SUMS))))
    seal = sealed(hub, payouts)
    chosen = payouts.many(*by_leaf[::8])

    assert (len(chosen[0]), len(chosen[1])) == (32, 96)
    hub.settlement.claim_many(seal, *chosen)
    assert hub.settlement.total_paid() == 32


# proofs that are not


def test_claim_many__one_leaf_is_wrong__pays_nobody(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    seal = sealed(charged, payouts)
    chosen, proof, flags = payouts.many("miner", "router")

    for place in range(2):
        for changed in ((chosen[place][0] + 1, SUMS), (chosen[place][0], bytes(32))):
            leaves = [*chosen[:place], changed, *chosen[place + 1 :]]
            with reverts("Outbox", "WrongRoots"):
                charged.settlement.claim_many(seal, leaves, proof, flags)
    assert charged.settlement.total_paid() == 0


def test_claim_many__a_changed_proof__is_refused(charged: Hub) -> None:
    payouts = Payouts({f"payee {number}": 1 for number in range(9)})
    seal = sealed(charged, payouts)
    chosen, proof, flags = payouts.many("payee 1", "payee 4", "payee 7")
    pairs = len(chosen) + len(proof) - 1

    for leaves, path, bits in (
        (chosen[::-1], proof, flags),
        ([chosen[1], chosen[0], chosen[2]], proof, flags),
        ([chosen[0], chosen[0], chosen[2]], proof, flags),
        ([*chosen, chosen[2]], proof, flags),
        (chosen[:2], proof, flags),
        (chosen, proof[::-1], flags),
        (chosen, proof[:-1], flags),
        (chosen, [*proof, bytes(32)], flags),
        (chosen, [bytes(32), *proof[1:]], flags),
        *((chosen, proof, flags ^ 1 << one ^ 1 << two) for one in range(pairs) for two in range(one)),
        *((chosen, proof, flags ^ 1 << one) for one in range(pairs)),
        (chosen, proof, 0),
        (chosen, proof, 2**256 - 1),
        ([], [payouts.root], 0),
        ([], [], 0),
    ):
        assert refusal(charged, seal, leaves, path, bits) in ("WrongRoots", "WrongProofLength")
    assert charged.settlement.total_paid() == 0
    charged.settlement.claim_many(seal, chosen, proof, flags)
    assert charged.settlement.total_paid() == 3


def refusal(hub: Hub, seal: Seal, leaves: list[Any], path: list[bytes], flags: int) -> str:
    """The name of the error that refuses this claim."""
    with pytest.raises(boa.BoaError) as caught:
        hub.settlement.claim_many(seal, leaves, path, flags)
    found = decode_error(bytes(caught.value.call_trace.output), load("Settlement").errors + load("Outbox").errors)
    assert found is not None
    return found[0]


def test_claim_many__one_leaf_twice__proves_nothing(charged: Hub) -> None:
    payouts = Payouts({"miner": 60})
    seal = sealed(charged, payouts)
    leaf = payouts.payout("miner")

    for leaves, path, bits in (([leaf, leaf], [], 1), ([leaf, leaf], [payouts.root], 0b10)):
        with reverts("Outbox", "WrongRoots"):
            charged.settlement.claim_many(seal, leaves, path, bits)
    assert charged.settlement.total_paid() == 0


@pytest.mark.parametrize("amounts", [(60, 60), (60, 95), (95, 60)])
def test_claim_many__a_payee_twice_in_a_false_tree__is_paid_the_higher_amount_once(
    charged: Hub, amounts: tuple[int, int]
) -> None:
    tree = StandardTree(payout_leaf(raw("miner"), Amount(amount), SUMS) for amount in amounts)
    seal = charged.settle(tree.root)
    mature()
    payouts = [(int.from_bytes(raw("miner"), "big") << 96 | amount, SUMS) for amount in amounts]

    charged.settlement.claim_many(seal, payouts, [], 1)

    assert sum(amount for _, amount in paid(charged)) == max(amounts)
    assert balance(charged, "miner") == charged.settlement.total_paid() == max(amounts)


def test_claim_many__more_than_is_left__pays_nobody(charged: Hub) -> None:
    theft = Payouts({"stranger": 100, "accomplice": 21})
    seal = sealed(charged, theft)
    chosen = theft.many(*theft.amounts)
    last = chosen[0][1][0] & 2**96 - 1

    with reverts("Settlement", "AboveCharged", last, 120 - (121 - last)):
        charged.settlement.claim_many(seal, *chosen)
    assert balance(charged, "stranger") == balance(charged, "accomplice") == charged.settlement.total_paid() == 0


# tokens that misbehave


def test_claim_many__one_payee_is_blocked__the_others_are_paid(weird: Hub) -> None:
    payouts = Payouts(EARNED)
    seal = sealed(weird, payouts)
    weird.dollar.set_mode(BLOCKING)
    weird.dollar.set_blocked(account("miner"), True)

    weird.settlement.claim_many(seal, *payouts.many(*EARNED))
    assert sorted(paid(weird)) == sorted([(raw("router"), 5), (raw("other"), 20)])
    assert (weird.settlement.total_paid(), weird.settlement.claimed(account("miner"))) == (25, 0)
    with reverts("Settlement", "PaymentRefused", account("miner").lower(), account("miner").lower(), 95):
        weird.claim(seal, payouts, "miner")
    weird.dollar.set_blocked(account("miner"), False)
    assert weird.claim(seal, payouts, "miner") == 95
    assert weird.settlement.total_paid() == 120


def test_claim_many__the_token_says_no__nobody_is_paid_and_all_can_claim_again(weird: Hub) -> None:
    payouts = Payouts(EARNED)
    seal = sealed(weird, payouts)
    weird.dollar.set_mode(REFUSING)

    weird.settlement.claim_many(seal, *payouts.many(*EARNED))
    assert (paid(weird), weird.settlement.total_paid()) == ([], 0)
    assert {weird.settlement.claimed(account(name)) for name in EARNED} == {0}
    weird.dollar.set_mode(SILENT)
    weird.settlement.claim_many(seal, *payouts.many(*EARNED))
    assert {name: balance(weird, name) for name in EARNED} == EARNED


def reentries(hub: Hub, seal: Seal, payouts: Payouts) -> dict[str, bytes]:
    """Calls that a token could make while it pays, each of which would be paid if it stood alone."""
    many, session = payouts.many(*EARNED), session_of(hub)
    claim = hub.settlement.claim.prepare_calldata(seal, payouts.payout("miner"), payouts.proof("miner"))
    count, splits = hub.last[session]
    return {
        "claim": claim,
        "claim_many": hub.settlement.claim_many.prepare_calldata(seal, *many),
        "claim_direct": hub.settlement.claim_direct.prepare_calldata(
            session, count, [split.packed for split in splits], 0
        ),
        "multicall": hub.settlement.multicall.prepare_calldata([claim]),
    }


@pytest.mark.parametrize("name", ["claim", "claim_many", "claim_direct", "multicall"])
def test_claim_many__the_token_calls_back__is_paid_nothing_more(weird: Hub, name: str) -> None:
    payouts = Payouts(EARNED)
    seal = sealed(weird, payouts)
    data = reentries(weird, seal, payouts)[name]
    with boa.env.anchor():
        boa.env.raw_call(weird.settlement.address, data=data)
        assert weird.settlement.total_paid() > 0
    weird.dollar.set_reentry(weird.settlement.address, data)
    weird.dollar.set_mode(REENTRANT)

    weird.settlement.claim_many(seal, *payouts.many(*EARNED))

    assert (weird.dollar.reentries(), weird.dollar.reentry_succeeded()) == (3, False)
    assert {name: balance(weird, name) for name in EARNED} == EARNED
    assert weird.settlement.total_paid() == 120
    assert weird.dollar.balanceOf(weird.settlement.address) == 10_000_000 - 120
