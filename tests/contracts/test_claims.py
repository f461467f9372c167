"""Payouts by root and directly: each cent once, and never more than was charged, whatever the roots say."""

from typing import Any

import boa
import pytest
from eth_abi.abi import encode

from tests.contracts.conftest import DELAY, KEPT_EPOCHS, Hub, Payouts, account, raw, reverts
from tests.contracts.money import EARNED, balance, charged_hub, direct, mature, paid, session_of
from tristrata.protocol.hashing import keccak
from tristrata.protocol.standard_tree import leaf_hash, payout_leaf, root_from_proof

SUMS = b"\x66" * 32


@pytest.fixture
def charged() -> Hub:
    return charged_hub()


def test_claim__after_the_delay__pays_what_is_due(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    seal = charged.settle(payouts.root)
    mature()

    for name, amount in EARNED.items():
        arguments = seal, payouts.payout(name), payouts.proof(name)
        assert charged.settlement.claim(*arguments, sender=account("anyone")) == amount
        assert paid(charged) == [(raw(name), amount)]
        assert charged.claim(seal, payouts, name) == 0
        assert paid(charged) == []
        assert balance(charged, name) == charged.settlement.claimed(account(name)) == amount
    assert charged.settlement.total_paid() == charged.settlement.total_charged() == 120


def test_claim__a_later_epoch__pays_the_difference_and_an_older_one_nothing(charged: Hub) -> None:
    first, more = Payouts(EARNED), {"router": 6, "miner": 100, "other": 20}
    seal = charged.settle(first.root)
    charged.charge(session_of(charged), 2, more)
    second = Payouts(more)
    later = charged.settle(second.root)
    mature()

    assert charged.claim(seal, first, "miner") == 95
    assert charged.claim(later, second, "miner") == 5
    assert charged.claim(later, second, "router") == 6
    assert charged.claim(seal, first, "router") == 0
    assert charged.settlement.total_paid() == 106


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33])
def test_claim__trees_of_any_size__are_standard_merkle_trees(hub: Hub, count: int) -> None:
    hub.adopt()
    earned = {f"payee {number}": number + 1 for number in range(count)}
    hub.charge(hub.open(), 1, {"payee 0": sum(earned.values())})
    types = ["address", "uint256", "bytes32"]
    root, proofs = plain_standard_tree([encode(types, [account(name), due, SUMS]) for name, due in earned.items()])
    payouts = Payouts(earned)
    assert root == payouts.root
    seal = hub.settle(root)
    mature()

    for (name, amount), proof in zip(earned.items(), proofs, strict=True):
        assert hub.settlement.claim(seal, payouts.payout(name), proof) == amount


def plain_standard_tree(values: list[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The definition of https://github.com/OpenZeppelin/merkle-tree: an array of nodes, the root first."""
    hashed = [keccak(keccak(value)) for value in values]
    leaves = sorted(hashed)
    tree = [b""] * (len(leaves) - 1) + leaves[::-1]
    for node in reversed(range(len(leaves) - 1)):
        tree[node] = keccak(b"".join(sorted(tree[2 * node + 1 : 2 * node + 3])))
    proofs = []
    for leaf in hashed:
        node, proof = tree.index(leaf), []
        while node:
            proof.append(tree[node + 1 if node % 2 else node - 1])
            node = (node - 1) // 2
        proofs.append(proof)
    return tree[0], proofs


def test_claim__too_early__is_refused_with_the_time(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    seal = charged.settle(payouts.root)
    mature_at = boa.env.timestamp + DELAY
    boa.env.time_travel(DELAY - 1)

    with reverts("Settlement", "PayoutTooEarly", mature_at, mature_at - 1):
        charged.claim(seal, payouts, "miner")
    with reverts("Settlement", "PayoutTooEarly", mature_at, mature_at - 1):
        charged.settlement.claim_many(seal, *payouts.many("miner", "other"))
    boa.env.time_travel(1)
    assert charged.claim(seal, payouts, "miner") == 95


def test_claim__not_in_the_root__is_refused(charged: Hub) -> None:
    payouts = Payouts({**EARNED, "fourth": 1})  # so that every proof has two elements
    seal = charged.settle(payouts.root)
    mature()
    (word, sums), proof = payouts.payout("miner"), payouts.proof("miner")
    stranger = int.from_bytes(raw("stranger"), "big") << 96

    for payout, path in (
        ((word + 1, sums), proof),
        ((stranger | 95, sums), proof),
        ((word, bytes(32)), proof),
        ((word, sums), []),
        ((word, sums), proof[:-1]),
        ((word, sums), [*proof, bytes(32)]),
        ((word, sums), proof[::-1]),
        (payouts.payout("other"), proof),
    ):
        payee, amount = (payout[0] >> 96).to_bytes(20, "big"), payout[0] & 2**96 - 1
        led_to = root_from_proof(leaf_hash(payout_leaf(payee, amount, payout[1])), path)  # type: ignore[arg-type]
        with reverts("Outbox", "WrongRoots", 1, seal[1], led_to):
            charged.settlement.claim(seal, payout, path)
    assert charged.settlement.total_paid() == 0


def test_claim__without_payouts__nothing_leads_to_the_empty_root(charged: Hub) -> None:
    seal = charged.settle()  # an epoch without payouts
    mature()

    for payout in ((0, bytes(32)), (int.from_bytes(raw("miner"), "big") << 96 | 95, SUMS)):
        with reverts("Outbox", "WrongRoots"):
            charged.settlement.claim(seal, payout, [])


# seals


def test_claim__an_epoch_that_is_not_sealed__is_refused(charged: Hub) -> None:
    payouts = Payouts(EARNED)

    for epoch in (0, 1, KEPT_EPOCHS, 2**64 - 1):
        with reverts("Outbox", "EpochNotKept", epoch, 0, KEPT_EPOCHS):
            charged.claim((epoch, b"\x01" * 32, b"\x02" * 32), payouts, "miner")


def test_claim__with_another_seal_than_was_sealed__is_refused(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    epoch, root, signed = charged.settle(payouts.root)
    second = charged.settle(payouts.root)
    mature()

    for seal in ((epoch, b"\x01" * 32, signed), (epoch, root, b"\x01" * 32), (2, root, signed), (1, *second[1:])):
        with reverts("Outbox", "WrongRoots", seal[0], seal[1], payouts.root):
            charged.claim(seal, payouts, "miner")
    assert charged.claim((epoch, root, signed), payouts, "miner") == 95


def test_claim__numbers_of_the_same_record__name_no_other_epoch(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    for _ in range(3):
        seal = charged.settle(payouts.root)
    mature()

    for epoch in (3 + KEPT_EPOCHS, 3 + 2 * KEPT_EPOCHS):
        with reverts("Outbox", "EpochNotKept", epoch, 3, KEPT_EPOCHS):
            charged.claim((epoch, *seal[1:]), payouts, "miner")
    for _ in range(KEPT_EPOCHS):
        later = charged.settle(payouts.root)
    mature()
    with reverts("Outbox", "EpochNotKept", 3, 3 + KEPT_EPOCHS, KEPT_EPOCHS):
        charged.claim((3, *later[1:]), payouts, "miner")


def test_claim__an_old_proof__pays_until_its_record_is_another_epochs(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    seal = charged.settle(payouts.root)
    for _ in range(KEPT_EPOCHS - 1):
        last = charged.settle(payouts.root)
    mature()

    assert charged.claim(seal, payouts, "miner") == 95
    charged.settle(payouts.root)
    with reverts("Outbox", "EpochNotKept", 1, KEPT_EPOCHS + 1, KEPT_EPOCHS):
        charged.claim(seal, payouts, "router")
    with reverts("Outbox", "EpochNotKept", 1, KEPT_EPOCHS + 1, KEPT_EPOCHS):
        charged.outbox.sealed(1)
    assert charged.claim(last, payouts, "router") == 5
    assert direct(charged, session_of(charged), "other") == 20


# with claim_direct


def test_claim__after_claim_direct__pays_the_rest(charged: Hub) -> None:
    second = charged.open(nonce=2)
    charged.charge(second, 1, {"miner": 50})
    payouts = Payouts({**EARNED, "miner": 145})
    seal = charged.settle(payouts.root)
    mature()

    assert direct(charged, session_of(charged), "miner") == 95
    assert charged.claim(seal, payouts, "miner") == 50
    assert direct(charged, second, "miner") == 0
    assert balance(charged, "miner") == charged.settlement.total_paid() == 145


def test_claim_direct__after_claim__pays_only_what_was_charged_since(charged: Hub) -> None:
    payouts, more = Payouts(EARNED), {"router": 5, "miner": 99, "other": 20}
    seal = charged.settle(payouts.root)
    mature()
    charged.claim(seal, payouts, "miner")

    assert direct(charged, session_of(charged), "miner") == 0
    charged.charge(session_of(charged), 2, more)
    assert direct(charged, session_of(charged), "miner") == 4
    assert charged.claim(seal, payouts, "miner") == 0
    assert balance(charged, "miner") == 99


# false roots that nobody stopped


def test_false_root__not_stopped__never_pays_above_what_was_charged(charged: Hub) -> None:
    greedy, theft = Payouts({"stranger": 121, "thief": 2**96 - 1}), Payouts({"stranger": 100, "accomplice": 21})
    first, second = charged.settle(greedy.root), charged.settle(theft.root)
    mature()

    def refused(seal: Any, payouts: Payouts, name: str, due: int, left: int) -> None:
        with reverts("Settlement", "AboveCharged", due, left):
            charged.claim(seal, payouts, name)

    refused(first, greedy, "stranger", 121, 120)
    refused(first, greedy, "thief", 2**96 - 1, 120)
    assert charged.claim(second, theft, "stranger") == 100
    refused(second, theft, "accomplice", 21, 20)
    refused(first, greedy, "stranger", 21, 20)
    with reverts("Settlement", "AboveCharged", 21, 20):
        charged.settlement.claim_many(second, *theft.many("stranger", "accomplice"))
    assert charged.settlement.total_paid() == 100


def test_false_root__not_stopped__takes_nothing_of_deposits_and_the_rest_is_paid_as_more_is_charged(
    charged: Hub,
) -> None:
    theft = Payouts({"stranger": 100})
    seal = charged.settle(theft.root)
    mature()
    charged.claim(seal, theft, "stranger")
    session, more = session_of(charged), {**EARNED, "other": 120}

    assert direct(charged, session, "miner") == 20
    assert direct(charged, session, "router") == 0
    charged.charge(session, 2, more)
    assert direct(charged, session, "miner") == 75
    assert charged.settlement.total_paid() == 195
    before = balance(charged, "owner")
    boa.env.time_travel(20_000)
    charged.sessions.close(session)
    assert balance(charged, "owner") - before == 10_000_000 - 220


def test_false_root__signed_by_a_set_whose_time_is_over__is_not_sealed(charged: Hub) -> None:
    until = charged.outbox.current().valid_until
    boa.env.time_travel(until - boa.env.timestamp - 1)

    with reverts("Outbox", "SetExpired", until, until + 1):
        charged.settle(Payouts({"stranger": 120}).root)  # two seconds later
    assert charged.outbox.last_epoch() == 0
    assert {name: direct(charged, session_of(charged), name) for name in EARNED} == EARNED
