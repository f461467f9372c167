"""Evidence against a payouts root: what a payout counts from a session, and what was charged there."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import boa
import pytest
from eth_abi.abi import encode

from tests.contracts.conftest import (
    DELAY,
    KEPT_EPOCHS,
    SECURITY_CHAIN,
    VALIDATORS,
    Hub,
    Payouts,
    account,
    packed,
    raw,
    reverts,
)
from tests.contracts.money import (
    EARNED,
    Entry,
    Seal,
    SumTreeOf,
    charged_hub,
    direct,
    events,
    mature,
    parent,
    session_of,
    sums_of,
)
from tristrata.protocol import payouts as honest
from tristrata.protocol.ids import SessionId
from tristrata.protocol.payouts import SumNode

ABSENT = SessionId(b"\x99" * 32)
MINER = account("miner")


@pytest.fixture
def charged() -> Hub:
    """A hub with two sessions: the miner earned 95 of the first, and 40 of the second."""
    hub = charged_hub()
    hub.charge(hub.open(nonce=2), 3, {"miner": 40})
    return hub


class Statement:
    """An epoch that pays one payee by a sum tree over these entries, beside a payout to another."""

    def __init__(
        self, entries: Sequence[tuple[bytes, int]], payee: str = "miner", cumulative: int | None = None
    ) -> None:
        self.payee = payee
        self.tree = SumTreeOf(entries)
        total = self.tree.total if cumulative is None else cumulative
        self.payouts = Payouts({payee: total, "bystander": 1}, {payee: self.tree.root})


def refute(
    hub: Hub, seal: Seal, false: Statement, session: bytes, entries: Sequence[Entry] | None = None, **changes: Any
) -> None:
    count, splits = hub.last.get(session, (0, ()))
    arguments = {
        "seal": seal,
        "payout": false.payouts.payout(false.payee),
        "proof": false.payouts.proof(false.payee),
        "session": session,
        "entries": false.tree.open_all(session) if entries is None else entries,
        "count": count,
        "splits": packed(splits),
    }
    hub.settlement.refute(*{**arguments, **changes}.values(), sender=account("anyone"))


def test_refute__more_than_was_charged__stops_the_epoch_and_tells_l1(charged: Hub) -> None:
    one, two = session_of(charged), session_of(charged, 2)
    false = Statement([(one, 95), (two, 41)])
    seal = charged.settle(false.payouts.root)
    boa.env.time_travel(DELAY - 1)

    refute(charged, seal, false, two)

    [event] = events(charged.settlement, "Refuted")
    [sent] = events(charged.settlement, "Sent")
    assert (event.epoch, event.payee, event.session_id, event.amount, event.charged) == (1, MINER, two, 41, 40)
    assert (sent.destination, sent.sender) == (SECURITY_CHAIN, charged.settlement.address)
    assert sent.receiver == VALIDATORS.rjust(32, b"\0")
    assert sent.payload == encode(["uint8", "bytes32"], [1, seal[2]])
    assert charged.outbox.sealed(1).vetoed
    mature()
    for name in ("miner", "bystander"):
        with reverts("Outbox", "PayoutVetoed", 1):
            charged.claim(seal, false.payouts, name)
    refute(charged, seal, false, two)  # L1 hears of it again, and slashes once
    assert direct(charged, one, "miner") + direct(charged, two, "miner") == 135


def test_refute__a_payout_to_a_stranger__stops_it_for_free(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 120)], payee="stranger")
    seal = charged.settle(false.payouts.root)

    refute(charged, seal, false, session)

    mature()
    with reverts("Outbox", "PayoutVetoed", 1):
        charged.claim(seal, false.payouts, "stranger")
    assert {name: direct(charged, session, name) for name in EARNED} == EARNED


@pytest.mark.parametrize("nonce", [3, None])
def test_refute__a_session_that_was_never_charged__needs_no_splits(charged: Hub, nonce: int | None) -> None:
    session = ABSENT if nonce is None else charged.open(nonce=nonce)
    false = Statement([(session, 1)])
    seal = charged.settle(false.payouts.root)

    for count, splits in ((1, []), (0, [1]), (1, packed(charged.last[session_of(charged)][1]))):
        with reverts("Settlement", "WrongSplits", session, count):
            refute(charged, seal, false, session, count=count, splits=splits)
    refute(charged, seal, false, session)
    assert charged.outbox.sealed(1).vetoed


def test_refute__when_the_epoch_pays_already__tells_l1_but_does_not_stop_it(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 96)])
    seal = charged.settle(false.payouts.root)
    mature()

    refute(charged, seal, false, session)

    assert len(events(charged.settlement, "Refuted")) == 1
    assert charged.outbox.message_count() == 1
    assert not charged.outbox.sealed(1).vetoed
    assert charged.claim(seal, false.payouts, "miner") == 96


def test_refute__what_was_charged_since__is_no_evidence(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 96)])
    seal = charged.settle(false.payouts.root)
    charged.charge(session, 2, {**EARNED, "miner": 96})

    with reverts("Settlement", "PayoutCovered", session, 96, 96):
        refute(charged, seal, false, session)


def test_refute__a_forfeited_or_closed_session__counts_what_was_charged(charged: Hub) -> None:
    session = session_of(charged)
    boa.env.time_travel(20_000)
    charged.sessions.close(session)
    true, false = Statement([(session, 95)]), Statement([(session, 96)])
    first, second = charged.settle(true.payouts.root), charged.settle(false.payouts.root)

    with reverts("Settlement", "PayoutCovered", session, 95, 95):
        refute(charged, first, true, session)
    refute(charged, second, false, session)


# what is true cannot be refuted


def test_refute__every_entry_of_a_true_epoch__is_covered(charged: Hub) -> None:
    true = honest.Payouts({session: splits for session, (_, splits) in charged.last.items()})
    names = {raw(name): name for name in EARNED}
    stated = Payouts(
        {names[payee]: amount for payee, amount in true.cumulative.items()},
        {names[payee]: true.leaf(payee).sums for payee in true.cumulative},
    )
    assert stated.root == true.root
    seal = charged.settle(true.root)

    for session, (count, splits) in charged.last.items():
        for split in splits:
            amount, proof = true.prove_entry(split.payee, session)
            siblings = [(sibling.digest, sibling.total) for sibling in proof.siblings]
            leaf, path = true.leaf(split.payee), list(true.prove(split.payee))
            with reverts("Settlement", "PayoutCovered", session, split.amount, split.amount):
                charged.settlement.refute(
                    seal,
                    (leaf.packed, leaf.sums),
                    path,
                    session,
                    [(amount, proof.sides, siblings)],
                    count,
                    packed(splits),
                )
    mature()
    assert charged.claim(seal, stated, "miner") == 135


def test_refute__no_entries__show_nothing(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 96)])
    seal = charged.settle(false.payouts.root)

    for which in (session, ABSENT):
        charged_there = 95 if which == session else 0
        with reverts("Settlement", "PayoutCovered", which, 0, charged_there):
            refute(charged, seal, false, which, [])


# many entries of one session


def test_refute__many_small_entries_of_one_session__add_up(charged: Hub) -> None:
    session, other = session_of(charged), session_of(charged, 2)
    false = Statement([(session, 30), (other, 40), (session, 30), (session, 30), (session, 6)])
    seal = charged.settle(false.payouts.root)
    opened = false.tree.open_all(session)
    assert [len(siblings) for _, _, siblings in opened] == [1, 3, 3, 3]

    for place in range(4):
        fewer = opened[:place] + opened[place + 1 :]
        with reverts("Settlement", "PayoutCovered", session, 96 - opened[place][0], 95):
            refute(charged, seal, false, session, fewer)
    refute(charged, seal, false, session, opened)
    assert charged.outbox.sealed(1).vetoed


def test_refute__one_entry_twice__is_refused(charged: Hub) -> None:
    session, other = session_of(charged), session_of(charged, 2)
    true = Statement([(session, 95), (other, 40)])
    seal = charged.settle(true.payouts.root)
    [entry] = true.tree.open_all(session)

    with reverts("Settlement", "EntriesUnsorted", 1 << 32, (1 << 32) + 1):
        refute(charged, seal, true, session, [entry, entry])
    amount, index, siblings = entry
    for other_index in (index + 2, index + 2**32, 2**255 + index):
        with reverts("Settlement", "IndexTooHigh", other_index, 1):
            refute(charged, seal, true, session, [entry, (amount, other_index, siblings)])
    with reverts("Settlement", "WrongEntry", session, 95):
        refute(charged, seal, true, session, [entry, (amount, 1, siblings)])


def test_refute__entries_in_another_order__are_refused(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 50), (session, 50), (session, 7)])
    seal = charged.settle(false.payouts.root)
    last, first, second = false.tree.open_all(session)

    with reverts("Settlement", "EntriesUnsorted", 2 << 32, (2 << 32) + 2):
        refute(charged, seal, false, session, [second, first])
    with reverts("Settlement", "EntriesUnsorted", (1 << 32) + 1, (2 << 32) + 1):
        refute(charged, seal, false, session, [first, last])
    refute(charged, seal, false, session, [last, first, second])


def test_refute__a_node_as_if_it_were_an_entry__is_refused(charged: Hub) -> None:
    session, other = session_of(charged), session_of(charged, 2)
    true = Statement([(session, 60), (other, 30), (ABSENT, 7)])
    seal = charged.settle(true.payouts.root)
    node = true.tree.layers[1][0]
    [sibling] = [(node.digest, node.total) for node in true.tree.layers[1][1:]]

    for key, amount in ((node.digest, 90), (session, 90), (node.digest, node.total)):
        with reverts("Settlement", "WrongEntry", key, amount):
            refute(charged, seal, true, key, [(amount, 0, [sibling])])


# what is not in the epoch


def test_refute__an_entry_that_is_not_in_the_payout__is_refused(charged: Hub) -> None:
    session, other = session_of(charged), session_of(charged, 2)
    false = Statement([(session, 96), (other, 40), (ABSENT, 1)])
    seal = charged.settle(false.payouts.root)
    [(amount, index, siblings)] = false.tree.open_all(session)
    (digest, total), *rest = siblings

    for entry in (
        (amount + 1, index, siblings),
        (amount, index ^ 1, siblings),
        (amount, index & 1, siblings[:-1]),
        (amount, index, [(digest, total - 1), *rest]),
        (amount + 1, index, [(digest, total - 1), *rest]),
    ):
        with reverts("Settlement", "WrongEntry", session, entry[0]):
            refute(charged, seal, false, session, [entry])
    with reverts("Settlement", "WrongEntry", other, amount):
        refute(charged, seal, false, other, [(amount, index, siblings)])
    with reverts("Settlement", "SumOverflow", 2**256 - 1, amount):
        refute(charged, seal, false, session, [(amount, index, [(digest, 2**256 - 1), *rest])])


def test_refute__a_sum_that_is_not_the_payout__is_refused(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 96)], cumulative=95)
    seal = charged.settle(false.payouts.root)

    with reverts("Settlement", "WrongEntry", session, 96):
        refute(charged, seal, false, session)


def test_refute__another_payout_proof_or_seal__is_refused(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 96)])
    seal = charged.settle(false.payouts.root)
    word, sums = false.payouts.payout("miner")
    made_up = SumTreeOf([(session, 97)])

    for changes in (
        {"payout": ((word >> 96 << 96) | 97, made_up.root)},
        {"payout": (int.from_bytes(raw("router"), "big") << 96 | 96, sums)},
        {"proof": []},
    ):
        with reverts("Outbox", "WrongRoots"):
            refute(charged, seal, false, session, **changes)
    for other in ((1, bytes(32), seal[2]), (1, seal[1], bytes(32))):
        with reverts("Outbox", "WrongRoots", 1, other[1], false.payouts.root):
            refute(charged, other, false, session)
    for epoch in (2, 1 + KEPT_EPOCHS):
        with reverts("Outbox", "EpochNotKept", epoch, 1, KEPT_EPOCHS):
            refute(charged, (epoch, *seal[1:]), false, session)
    assert not charged.outbox.sealed(1).vetoed


def test_refute__splits_that_were_not_charged__are_refused(charged: Hub) -> None:
    session = session_of(charged)
    false = Statement([(session, 96)])
    seal = charged.settle(false.payouts.root)
    splits = packed(charged.last[session][1])

    for count, words in ((0, []), (2, splits), (1, splits[:-1]), (1, [splits[0] - 1, *splits[1:]])):
        with reverts("Settlement", "WrongSplits", session, count):
            refute(charged, seal, false, session, count=count, splits=words)


def test_refute__the_deepest_proofs__fit(charged: Hub) -> None:
    """Four entries with 32 siblings each: as in a tree over 2**32 entries of which most are worth nothing."""
    session = session_of(charged)
    tree = SumTreeOf([(session, 24)] * 4)
    nothing = SumNode(bytes(32), 0)
    top = reduce(parent, [nothing] * 30, tree.top)
    opened = [
        (amount, index, [*siblings, *[(nothing.digest, 0)] * 30]) for amount, index, siblings in tree.open_all(session)
    ]
    payouts = Payouts({"miner": 96}, {"miner": sums_of(top)})
    seal = charged.settle(payouts.root)
    count, splits = charged.last[session]

    charged.settlement.refute(
        seal, payouts.payout("miner"), payouts.proof("miner"), session, opened, count, packed(splits)
    )
    assert charged.outbox.sealed(1).vetoed
