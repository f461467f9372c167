"""What an epoch pays: sum trees against their definition, and what an opened entry can and cannot show."""

from collections.abc import Callable

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.payouts import EntryProof, PayoutLeaf, Payouts, SumNode, SumTree, exceeds, verify_entry
from tristrata.protocol.standard_tree import leaf_hash, payout_leaf, root_from_proof, verify_many
from tristrata.protocol.units import MAX_AMOUNT, Amount
from tristrata.protocol.voucher import Split

PAYEE = Address(b"\x11" * 20)
NODE_TYPES = ["bytes32", "uint256", "bytes32", "uint256"]
Entry = tuple[SessionId, Amount]

paid = st.integers(1, MAX_AMOUNT).map(Amount)
entries_of_a_payee = st.dictionaries(strategies.words, paid, min_size=1, max_size=20).map(
    lambda found: [(SessionId(session), found[session]) for session in sorted(found)]
)


def plain_nodes(entries: list[Entry]) -> list[list[tuple[bytes, int]]]:
    """The definition: leaves, then pairs, layer by layer; an odd node is carried up."""
    layers = [[(keccak(encode(["bytes32", "uint256"], list(entry))), int(entry[1])) for entry in entries]]
    while len(layers[-1]) > 1:
        layer, parents = layers[-1], []
        for place in range(0, len(layer) - 1, 2):
            (left, left_sum), (right, right_sum) = layer[place : place + 2]
            encoded = encode(NODE_TYPES, [left, left_sum, right, right_sum])
            parents.append((keccak(encoded), left_sum + right_sum))
        layers.append(parents + (layer[-1:] if len(layer) % 2 else []))
    return layers


def plain_word(entries: list[Entry]) -> bytes:
    return keccak(encode(["bytes32", "uint256"], list(plain_nodes(entries)[-1][0])))


def leaf_of(entries: list[Entry]) -> PayoutLeaf:
    """A leaf over any entries, in order or not: what validators that lie can sign."""
    return PayoutLeaf(PAYEE, Amount(sum(amount for _, amount in entries)), plain_word(entries))


def plain_proof(entries: list[Entry], place: int) -> EntryProof:
    siblings, sides = [], 0
    for layer in plain_nodes(entries)[:-1]:
        if place ^ 1 < len(layer):
            sides |= (place & 1) << len(siblings)
            siblings.append(SumNode(*layer[place ^ 1]))
        place //= 2
    return EntryProof(tuple(siblings), sides)


def contract_root(session: SessionId, amount: int, proof: EntryProof) -> tuple[bytes, int]:
    """How `shared/proofs.vy` walks: bit i of the index says whether sibling i stands left; additions are checked."""
    node, total, sides = keccak(encode(["bytes32", "uint256"], [session, amount])), amount, proof.sides
    for sibling in proof.siblings:
        pair = (
            [(sibling.digest, sibling.total), (node, total)]
            if sides & 1
            else [(node, total), (sibling.digest, sibling.total)]
        )
        node = keccak(encode(NODE_TYPES, [value for side in pair for value in side]))
        total += sibling.total
        assert total < 2**256
        sides >>= 1
    return node, total


@given(entries_of_a_payee, st.data())
def test_sum_tree__any_entries__is_as_defined_and_proves_each(entries: list[Entry], data: st.DataObject) -> None:
    tree = SumTree(entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    session, amount = entries[place]

    assert (tree.root, tree.total) == (plain_word(entries), sum(found for _, found in entries))
    assert tree.prove(session) == (amount, plain_proof(entries, place))
    assert verify_entry(leaf_of(entries), session, amount, tree.prove(session)[1])
    node, total = contract_root(session, amount, tree.prove(session)[1])
    assert keccak(encode(["bytes32", "uint256"], [node, total])) == tree.root


@pytest.mark.parametrize("room", [0, 1])
def test_verify_entry__sums_that_wrap_around__are_false(room: int) -> None:
    """Just as far as a word goes, a sum is only not the leaf's; one more, and it is no sum at all."""
    proof = EntryProof((SumNode(b"\x01" * 32, 2**256 - 1 - 5 + room),), 0)

    assert not verify_entry(PayoutLeaf(PAYEE, Amount(5), b"\x02" * 32), SessionId(b"\x03" * 32), 5, proof)


@given(entries_of_a_payee, st.data())
def test_verify_entry__other_session_amount_or_leaf__is_false(entries: list[Entry], data: st.DataObject) -> None:
    leaf, tree = leaf_of(entries), SumTree(entries)
    session, amount = data.draw(st.sampled_from(entries))
    proof = tree.prove(session)[1]
    other_session = data.draw(st.one_of(strategies.words, st.sampled_from([each for each, _ in entries])))
    other_amount = data.draw(st.one_of(st.integers(-1, 2**256), st.integers(amount - 2, amount + 2)))
    other_total = data.draw(st.one_of(st.just(leaf.cumulative + 1), st.just(leaf.cumulative - 1), paid))

    if other_session != session:
        assert not verify_entry(leaf, SessionId(other_session), amount, proof)
    if other_amount != amount:
        assert not verify_entry(leaf, session, other_amount, proof)
    if other_total != leaf.cumulative:
        assert not verify_entry(replace(leaf, cumulative=Amount(other_total)), session, amount, proof)
    assert not verify_entry(replace(leaf, sums=keccak(leaf.sums)), session, amount, proof)


def _another_digest(node: SumNode) -> SumNode:
    return replace(node, digest=keccak(node.digest))


def _shorter_digest(node: SumNode) -> SumNode:
    return replace(node, digest=node.digest[:31])


def _another_total(node: SumNode) -> SumNode:
    return replace(node, total=node.total + 1)


def _wrapped_total(node: SumNode) -> SumNode:
    return replace(node, total=node.total + 2**256)


def _negative_total(node: SumNode) -> SumNode:
    return replace(node, total=-node.total)


def _largest_total(node: SumNode) -> SumNode:
    return replace(node, total=2**256 - 1)


@pytest.mark.parametrize(
    "change",
    [_another_digest, _shorter_digest, _another_total, _wrapped_total, _negative_total, _largest_total],
)
@given(entries_of_a_payee.filter(lambda entries: len(entries) > 1), st.data())
def test_verify_entry__a_sibling_changed__is_false(
    change: Callable[[SumNode], SumNode], entries: list[Entry], data: st.DataObject
) -> None:
    session, amount = data.draw(st.sampled_from(entries))
    proof = SumTree(entries).prove(session)[1]
    place = data.draw(st.integers(0, len(proof.siblings) - 1))
    siblings = [*proof.siblings[:place], change(proof.siblings[place]), *proof.siblings[place + 1 :]]

    assert not verify_entry(leaf_of(entries), session, amount, replace(proof, siblings=tuple(siblings)))


@given(entries_of_a_payee.filter(lambda entries: len(entries) > 1), st.data())
def test_verify_entry__sides_or_length_changed__is_false(entries: list[Entry], data: st.DataObject) -> None:
    leaf = leaf_of(entries)
    session, amount = data.draw(st.sampled_from(entries))
    proof = SumTree(entries).prove(session)[1]
    flipped = proof.sides ^ 1 << data.draw(st.integers(0, len(proof.siblings) + 8))

    assert not verify_entry(leaf, session, amount, replace(proof, sides=flipped))
    assert not verify_entry(leaf, session, amount, replace(proof, sides=-1))
    assert not verify_entry(leaf, session, amount, replace(proof, siblings=proof.siblings[:-1]))
    assert not verify_entry(leaf, session, amount, replace(proof, siblings=(*proof.siblings, SumNode(bytes(32), 0))))


def test_verify_entry__a_node_offered_as_an_entry__is_false() -> None:
    entries = [(SessionId(bytes([number]) * 32), Amount(10)) for number in (1, 2, 3, 4)]
    layers = plain_nodes(entries)
    digest, total = layers[1][0]

    proof = EntryProof((SumNode(*layers[1][1]),), 0)
    assert not verify_entry(leaf_of(entries), SessionId(digest), total, proof)


def test_verify_entry__sums_that_wrap_around__is_false() -> None:
    """A tree in which a large sibling would cancel a large entry, if sums were counted modulo 2**256."""
    session, amount = SessionId(b"\x01" * 32), 1_000
    sibling = SumNode(b"\x02" * 32, 2**256 - 900)
    own = keccak(encode(["bytes32", "uint256"], [session, amount]))
    top = keccak(encode(NODE_TYPES, [own, amount, sibling.digest, sibling.total]))
    leaf = PayoutLeaf(PAYEE, Amount(100), keccak(encode(["bytes32", "uint256"], [top, 100])))

    assert not verify_entry(leaf, session, amount, EntryProof((sibling,), 0))


A, B = SessionId(b"\x0a" * 32), SessionId(b"\x0b" * 32)
TWICE = [(A, Amount(50)), (A, Amount(50)), (B, Amount(7))]
"""50 was charged in session A: no entry is above that, but the payee would have 100 of it."""


def test_exceeds__an_entry_above_the_charge__shows_it() -> None:
    entries = [(A, Amount(50)), (B, Amount(7))]
    leaf, opened = leaf_of(entries), SumTree(entries).prove(A)

    assert exceeds(leaf, A, 49, [opened])
    assert exceeds(leaf, A, 0, [opened])
    assert not exceeds(leaf, A, 50, [opened])
    assert not exceeds(leaf, B, 0, [opened])
    assert not exceeds(leaf, A, 0, [])


def test_exceeds__one_session_in_many_entries__shows_it_by_their_sum() -> None:
    leaf = leaf_of(TWICE)
    first, second = (Amount(50), plain_proof(TWICE, 0)), (Amount(50), plain_proof(TWICE, 1))

    assert exceeds(leaf, A, 50, [first, second])
    assert not exceeds(leaf, A, 100, [first, second])
    assert not exceeds(leaf, A, 50, [first])


@given(entries_of_a_payee, st.data())
def test_exceeds__one_right_entry_offered_again__shows_nothing(entries: list[Entry], data: st.DataObject) -> None:
    leaf, tree = leaf_of(entries), SumTree(entries)
    session, _ = data.draw(st.sampled_from(entries))
    amount, proof = tree.prove(session)
    disguised = replace(proof, sides=proof.sides | 1 << len(proof.siblings))

    assert not exceeds(leaf, session, amount, [(amount, proof), (amount, proof)])
    assert not exceeds(leaf, session, amount, [(amount, proof), (amount, disguised)])


@pytest.mark.parametrize(
    ("entries", "rule"),
    [
        ([], "one entry or more"),
        ([(A, Amount(0))], "from 1 to"),
        ([(A, Amount(2**96))], "from 1 to"),
        ([(SessionId(bytes(31)), Amount(1))], "from 1 to"),
        ([(B, Amount(1)), (A, Amount(1))], "order of session id"),
        ([(A, Amount(1)), (A, Amount(2))], "each once"),
    ],
)
def test_sum_tree__entries_that_no_epoch_has__are_refused(entries: list[Entry], rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        SumTree(entries)


payees = st.sampled_from([Address(bytes([number]) * 20) for number in range(1, 6)])
all_splits = st.dictionaries(
    strategies.words.map(SessionId),
    st.dictionaries(payees, strategies.small_amounts, max_size=5).map(
        lambda earned: tuple(Split(payee, earned[payee]) for payee in sorted(earned))
    ),
    max_size=6,
)


@given(all_splits, st.randoms())
def test_payouts__any_splits__sum_up_and_prove_every_payee_and_entry(
    splits: dict[SessionId, tuple[Split, ...]], chance: object
) -> None:
    payouts = Payouts(splits)
    shuffled = list(splits)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert Payouts({session: splits[session] for session in shuffled}).root == payouts.root
    earned = [split for each in splits.values() for split in each]
    assert sum(payouts.cumulative.values()) == sum(split.amount for split in earned)
    assert set(payouts.cumulative) == {split.payee for split in earned if split.amount}
    assert list(payouts.cumulative) == sorted(payouts.cumulative)
    for payee, cumulative in payouts.cumulative.items():
        leaf = payouts.leaf(payee)
        assert (leaf.payee, leaf.cumulative, leaf.packed) == (payee, cumulative, Split(payee, cumulative).packed)
        assert leaf.encoded == payout_leaf(payee, cumulative, leaf.sums)
        assert root_from_proof(leaf_hash(leaf.encoded), payouts.prove(payee)) == payouts.root
        for session, each in splits.items():
            for split in each:
                if split.payee == payee and split.amount:
                    amount, proof = payouts.prove_entry(payee, session)
                    assert amount == split.amount
                    assert verify_entry(leaf, session, amount, proof)
                    assert not exceeds(leaf, session, split.amount, [(amount, proof)])


@given(all_splits.filter(lambda splits: any(split.amount for each in splits.values() for split in each)), st.data())
def test_payouts__many_payees__are_proven_at_once(
    splits: dict[SessionId, tuple[Split, ...]], data: st.DataObject
) -> None:
    payouts = Payouts(splits)
    chosen = data.draw(st.lists(st.sampled_from(list(payouts.cumulative)), min_size=1, unique=True))

    leaves, proof = payouts.prove_many(chosen)

    assert {leaf.payee for leaf in leaves} == set(chosen)
    assert verify_many(payouts.root, [leaf_hash(leaf.encoded) for leaf in leaves], proof.siblings, proof.flags)


def test_payouts__payee_or_session_that_gets_nothing__is_named() -> None:
    payouts = Payouts({A: (Split(PAYEE, Amount(5)),), B: (Split(PAYEE, Amount(0)),)})
    stranger = Address(b"\x77" * 20)

    for call in (payouts.leaf, payouts.prove, lambda payee: payouts.prove_many([payee])):
        with pytest.raises(InvalidValue, match="7777"):
            call(stranger)
    with pytest.raises(InvalidValue, match="no entry for session 0x0b0b"):
        payouts.prove_entry(PAYEE, B)


def test_payouts__nobody_is_paid__has_an_empty_root() -> None:
    assert (Payouts({}).root, Payouts({A: ()}).root) == (bytes(32), bytes(32))
