"""An epoch from charges and receipts: what it contains, what it leaves out, and what is named as wrong."""

from collections.abc import Mapping

import pytest
from coincurve import PrivateKey
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.protocol import strategies
from tests.unit.protocol.test_voucher_book import make_receipt
from tristrata.protocol import codec
from tristrata.protocol.epoch import (
    ChargedSession,
    EpochContent,
    EpochResult,
    EpochWrong,
    Lane,
    SessionProgress,
    SessionReceipts,
    SignedReceipt,
    build_epoch,
    check_receipts,
    child_leaf,
    content_of,
    epoch_root,
    parse_content,
    payouts_after,
    progress_after,
)
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ChainRef, SessionId, chain_ref, eip155
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.payouts import Payouts
from tristrata.protocol.signing import Domain, address_of, digest, sign
from tristrata.protocol.standard_tree import leaf_hash, receipt_leaf, root_from_proof
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import Split

HUB = eip155(31_339)
SETTLEMENT = Domain(HUB, chain_ref(HUB), Address(b"\x5e" * 20))
SEPARATOR = SETTLEMENT.separator
ROUTER, MINER = Address(b"\xee" * 20), Address(b"\x11" * 20)
KEY, OLD_KEY = PrivateKey(b"\x21" * 32), PrivateKey(b"\x22" * 32)
KEYS = {MINER: frozenset({address_of(KEY.public_key), address_of(OLD_KEY.public_key)})}
A, B = SessionId(b"\x0a" * 32), SessionId(b"\x0b" * 32)


def signed(session: SessionId, position: int, price: int = 10, key: PrivateKey = KEY) -> SignedReceipt:
    receipt = make_receipt(keccak(session + bytes([position])), price, MINER, session)
    return SignedReceipt(receipt, sign(key, digest(SEPARATOR, receipt.struct_hash)))


def receipts_of(session: SessionId, first: int, prices: list[int]) -> SessionReceipts:
    return SessionReceipts(
        session, first, tuple(signed(session, position, price) for position, price in enumerate(prices, first))
    )


def charge_of(*parts: SessionReceipts) -> ChargedSession:
    """The charge that all receipts of one session so far, in these parts, account for."""
    receipts = [each.receipt for part in parts for each in part.receipts]
    tree = IncrementalTree()
    for receipt in receipts:
        tree = tree.append(receipt.struct_hash)
    total = sum(receipt.price for receipt in receipts)
    splits = (Split(MINER, Amount(total - total // 10)), Split(ROUTER, Amount(total // 10)))
    return ChargedSession(parts[0].session, tree.count, Amount(total), tree.root, splits)


def build(
    charged: list[ChargedSession],
    receipts: list[SessionReceipts],
    before: Mapping[SessionId, SessionProgress] | None = None,
) -> EpochResult:
    by_session = {charge.session: charge for charge in charged}
    return build_epoch(HUB, 1, 9, before or {}, by_session, receipts)


prices = st.lists(st.integers(0, 10**6), min_size=1, max_size=6)


@given(prices, prices, prices)
def test_build__two_epochs__equal_the_charges_and_prove_every_leaf(
    first: list[int], second: list[int], other: list[int]
) -> None:
    early, late, others = receipts_of(A, 0, first), receipts_of(A, len(first), second), receipts_of(B, 0, other)

    one = build([charge_of(early)], [early])
    two = build([charge_of(early, late), charge_of(others)], [late, others], one.after)

    assert set(two.spans) == {A, B}
    for part in (late, others):
        for position, each in enumerate(part.receipts, part.first):
            leaf = leaf_hash(receipt_leaf(part.session, position, each.receipt.struct_hash))
            assert root_from_proof(leaf, two.prove_receipt(part.session, position)) == two.receipts_root
    for payee in two.payouts.cumulative:
        leaf = leaf_hash(two.payouts.leaf(payee).encoded)
        assert root_from_proof(leaf, two.payouts.prove(payee)) == two.payouts_root
    assert two.payouts_root == Payouts({A: charge_of(early, late).splits, B: charge_of(others).splits}).root
    assert sum(two.payouts.cumulative.values()) == sum(first) + sum(second) + sum(other)
    assert two.after[A].total == sum(first) + sum(second)
    assert two.after[A].tree.root == charge_of(early, late).head


def test_build__nothing_new__repeats_the_payouts_without_receipts() -> None:
    part = receipts_of(A, 0, [10])
    one = build([charge_of(part)], [part])
    two = build([charge_of(part)], [], one.after)

    assert two.receipts_root == bytes(32)
    assert two.payouts_root == one.payouts_root
    assert two.after == one.after


def test_build__nothing_at_all__has_empty_roots() -> None:
    result = build([], [])

    assert (result.receipts_root, result.payouts_root, result.payouts.cumulative) == (bytes(32), bytes(32), {})


def test_build__payees_with_nothing__are_left_out_and_others_summed() -> None:
    a, b = receipts_of(A, 0, [9]), receipts_of(B, 0, [20])

    result = build([charge_of(a), charge_of(b)], [a, b])

    assert result.payouts.cumulative == {MINER: 9 + 18, ROUTER: 2}
    assert build([charge_of(a)], [a]).payouts.cumulative == {MINER: 9}


PART = receipts_of(A, 0, [10, 20, 30])
CHARGE = charge_of(PART)
FOREIGN = SessionReceipts(A, 0, (*PART.receipts[:2], signed(B, 2, 30)))
FORGED = replace(PART, receipts=(PART.receipts[0], signed(A, 1, 20, PrivateKey(b"\x33" * 32)), PART.receipts[2]))
SWAPPED_SIGNATURES = replace(
    PART, receipts=(PART.receipts[0], replace(PART.receipts[1], signature=PART.receipts[2].signature), PART.receipts[2])
)
MALFORMED = replace(PART, receipts=(*PART.receipts[:2], replace(PART.receipts[2], signature=bytes(65))))


@pytest.mark.parametrize(
    ("charge", "receipts", "position", "what"),
    [
        (CHARGE, [replace(PART, receipts=PART.receipts[:2])], 2, "receipts are missing from here to 2"),
        (CHARGE, [replace(PART, first=1, receipts=PART.receipts[1:])], 1, "must go on at 0"),
        (replace(CHARGE, count=2), [PART], 2, "only 2 are charged"),
        (CHARGE, [replace(PART, receipts=())], 0, "receipts are missing from here to 2"),
        (replace(CHARGE, count=0), [replace(PART, receipts=())], None, "without a receipt"),
        (replace(CHARGE, head=b"\1" * 32), [PART], None, "lead to head"),
        (replace(CHARGE, cumulative=Amount(61)), [PART], None, "prices sum to 60; 61 is charged"),
        (CHARGE, [FOREIGN], 2, "the receipt is of session"),
        (CHARGE, [replace(PART, receipts=PART.receipts[::-1])], None, "lead to head"),
        (CHARGE, [replace(PART, receipts=(*PART.receipts[:2], PART.receipts[1]))], None, "sum to 50"),
    ],
)
def test_build__receipts_do_not_account_for_the_charge__says_where(
    charge: ChargedSession, receipts: list[SessionReceipts], position: int | None, what: str
) -> None:
    with pytest.raises(EpochWrong, match=what) as caught:
        build([charge], receipts)

    assert (caught.value.session, caught.value.position) == (A, position)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("part", "position"), [(FORGED, 1), (SWAPPED_SIGNATURES, 1), (MALFORMED, 2)])
def test_check__a_wrong_signature__says_where(part: SessionReceipts, position: int, threads: int) -> None:
    other = receipts_of(B, 4, [1, 2])
    right = SessionReceipts(A, 0, (*PART.receipts[:2], signed(A, 2, 30, OLD_KEY)))

    check_receipts([right, other], KEYS, SEPARATOR, threads=threads)
    with pytest.raises(EpochWrong, match="signature is wrong") as caught:
        check_receipts([part, other], KEYS, SEPARATOR, threads=threads)
    assert (caught.value.session, caught.value.position) == (A, position)


def test_check__many_wrong_ones_in_many_pieces__names_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tristrata.protocol.epoch._CHECKED_AT_ONCE", 2)
    parts = [receipts_of(A, 7, [1] * 9), receipts_of(B, 0, [1] * 9)]
    check_receipts(parts, KEYS, SEPARATOR, threads=4)
    for index, wrong in ((1, 8), (1, 3), (0, 6), (0, 5)):
        receipts = list(parts[index].receipts)
        receipts[wrong] = replace(receipts[wrong], signature=receipts[wrong - 1].signature)
        parts[index] = replace(parts[index], receipts=tuple(receipts))

        with pytest.raises(EpochWrong) as caught:
            check_receipts(parts, KEYS, SEPARATOR, threads=4)
        part = parts[index]
        assert (caught.value.session, caught.value.position) == (part.session, part.first + wrong)


def test_check__key_of_nobody_or_of_another_miner__is_wrong() -> None:
    for keys in ({}, {ROUTER: KEYS[MINER]}, {MINER: frozenset[Address]()}):
        with pytest.raises(EpochWrong, match="never a key of miner"):
            check_receipts([PART], keys, SEPARATOR)


def test_check__receipts_signed_for_another_settlement__are_wrong() -> None:
    elsewhere = replace(SETTLEMENT, contract=Address(b"\x5f" * 20)).separator

    with pytest.raises(EpochWrong, match="signature is wrong"):
        check_receipts([PART], KEYS, elsewhere)


def test_check__nothing__is_right() -> None:
    check_receipts([], {}, SEPARATOR)


def test_build__wrong_signatures__are_for_others_to_check() -> None:
    assert build([CHARGE], [FORGED]).spans[A].count == 3


def test_build__sessions_out_of_order_or_twice_or_not_charged__are_wrong() -> None:
    other = receipts_of(B, 0, [1])

    for receipts in ([other, PART], [PART, PART]):
        with pytest.raises(EpochWrong, match="order of their ids"):
            build([CHARGE, charge_of(other)], receipts)
    with pytest.raises(EpochWrong, match="nothing is charged"):
        build([CHARGE], [PART, other])


def test_build__charged_state_older_than_the_last_epoch__is_wrong() -> None:
    after = build([CHARGE], [PART]).after

    with pytest.raises(EpochWrong, match="now nothing is charged"):
        build([], [], after)
    with pytest.raises(EpochWrong, match="only 2 are charged"):
        build([replace(CHARGE, count=2)], [], after)
    with pytest.raises(EpochWrong, match="account for 60; only 59 is charged"):
        build([replace(CHARGE, cumulative=Amount(59))], [], after)


NONSENSE = ChargedSession(B, 7, Amount(50), b"\x66" * 32, (Split(Address(b"\x77" * 20), Amount(50)),))


def test_build__charge_without_receipts__is_left_out() -> None:
    result = build([CHARGE, NONSENSE], [PART])

    assert result.payouts.cumulative == {MINER: 54, ROUTER: 6}
    assert (set(result.spans), set(result.after)) == ({A}, {A})
    assert build([NONSENSE], []).payouts_root == bytes(32)


@pytest.mark.parametrize(
    "later",
    [
        replace(NONSENSE, session=A),
        replace(CHARGE, cumulative=Amount(70)),
        replace(CHARGE, count=4, cumulative=Amount(61), head=b"\1" * 32),
    ],
)
def test_build__later_charge_without_receipts__keeps_what_was_accounted_for(later: ChargedSession) -> None:
    later = replace(later, cumulative=Amount(max(60, later.cumulative)))
    one = build([CHARGE], [PART])

    two = build([later], [], one.after)

    assert (two.receipts_root, two.payouts_root, two.after) == (bytes(32), one.payouts_root, one.after)


def test_build__session_left_out_whose_receipts_come_later__is_accounted_for_then() -> None:
    late = receipts_of(A, 3, [5, 5])
    one = build([CHARGE], [PART])
    two = build([charge_of(PART, late)], [], one.after)

    three = build([charge_of(PART, late)], [late], two.after)

    assert sum(three.payouts.cumulative.values()) == 70
    assert three.spans[A].first == 3


def test_progress_after__any_epoch__is_that_of_the_epoch() -> None:
    other = receipts_of(B, 0, [4])
    one = build([CHARGE], [PART])
    charged = {A: CHARGE, B: charge_of(other)}

    assert progress_after({}, {A: CHARGE}, [PART]) == one.after
    assert progress_after(one.after, charged, [other]) == build(list(charged.values()), [other], one.after).after
    with pytest.raises(EpochWrong, match="lead to head"):
        progress_after({}, {A: replace(CHARGE, head=bytes(32))}, [PART])


class ChargedByHand:
    """A session whose key charges what receipts account for, or anything else above the last charge."""

    def __init__(self, session: SessionId) -> None:
        self.receipts = SessionReceipts(session, 0, ())
        self.charge: ChargedSession | None = None
        self.is_honest = True

    def charge_honestly(self, price: int) -> None:
        count, cumulative = (self.charge.count, self.charge.cumulative) if self.charge else (0, 0)
        prices = [signed.receipt.price for signed in self.receipts.receipts]
        prices += [Amount(1)] * (count - len(prices) - 1)
        prices.append(Amount(price + max(0, cumulative - sum(prices))))
        self.receipts = receipts_of(self.receipts.session, 0, [int(each) for each in prices])
        self.charge, self.is_honest = charge_of(self.receipts), True

    def charge_nonsense(self, price: int) -> None:
        count, cumulative = (self.charge.count, self.charge.cumulative) if self.charge else (0, 0)
        total = cumulative + price
        splits = (Split(MINER, Amount(total - total // 10)), Split(ROUTER, Amount(total // 10)))
        head = keccak(b"nonsense" + bytes([count]))
        self.charge = ChargedSession(self.receipts.session, count + price % 3, Amount(total), head, splits)
        self.is_honest = False

    def since(self, before: Mapping[SessionId, SessionProgress]) -> SessionReceipts | None:
        """What accounts for the charge, if anything does and it is new."""
        first = before.get(self.receipts.session, SessionProgress()).tree.count
        left = self.receipts.receipts[first:]
        return SessionReceipts(self.receipts.session, first, left) if self.is_honest and left else None


charges = st.lists(st.tuples(st.sampled_from("+?."), st.integers(1, 10**6), st.booleans()), min_size=3, max_size=3)


@given(st.lists(charges, min_size=1, max_size=5))
def test_build__any_charges_and_any_of_them_accounted_for__payouts_only_grow_and_are_charged(
    rounds: list[list[tuple[str, int, bool]]],
) -> None:
    sessions = [ChargedByHand(SessionId(bytes([number]) * 32)) for number in (1, 2, 3)]
    after: dict[SessionId, SessionProgress] = {}
    payouts: dict[Address, Amount] = {}
    accounted: dict[SessionId, ChargedSession] = {}
    for actions in rounds:
        parts = []
        for session, (action, price, is_listed) in zip(sessions, actions, strict=True):
            if action == "+":
                session.charge_honestly(price)
            elif action == "?":
                session.charge_nonsense(price)
            if is_listed and (part := session.since(after)) is not None and session.charge is not None:
                parts.append(part)
                accounted[part.session] = session.charge
        charged = [session.charge for session in sessions if session.charge is not None]

        result = build(charged, parts, after)

        found = result.payouts.cumulative
        assert all(found[payee] >= before for payee, before in payouts.items())
        everything = Payouts({charge.session: charge.splits for charge in charged}).cumulative
        assert all(everything[payee] >= amount for payee, amount in found.items())
        assert result.payouts_root == Payouts({each: charge.splits for each, charge in accounted.items()}).root
        assert result.payouts_root == payouts_after(result.after).root
        after, payouts = result.after, found


@pytest.mark.parametrize(("session", "position"), [(B, 0), (A, 3), (A, -1)])
def test_prove_receipt__that_the_epoch_does_not_have__is_named(session: SessionId, position: int) -> None:
    result = build([CHARGE], [PART])

    with pytest.raises(InvalidValue, match=f"epoch 1 has no receipt at position {position}"):
        result.prove_receipt(session, position)


@given(strategies.words, strategies.uint64, st.lists(strategies.words, min_size=4, max_size=4))
def test_epoch_root__any__is_the_hash_of_its_abi_encoding(ref: bytes, epoch: int, roots: list[bytes]) -> None:
    types = ["bytes32", "uint64", "bytes32", "bytes32", "bytes32", "bytes32"]

    assert epoch_root(ChainRef(ref), epoch, *roots) == keccak(encode(types, [ref, epoch, *roots]))


@given(strategies.words, strategies.uint64, strategies.words, st.sampled_from(Lane))
def test_child_leaf__any__is_the_hash_of_its_abi_encoding(ref: bytes, epoch: int, root: bytes, lane: Lane) -> None:
    types = ["bytes32", "uint64", "bytes32", "uint8"]

    assert child_leaf(ChainRef(ref), epoch, root, lane) == keccak(encode(types, [ref, epoch, root, int(lane)]))


CONTENT = EpochContent(HUB, 3, 912, (receipts_of(A, 4, [1, 2]), receipts_of(B, 0, [3])))


@given(
    st.integers(1, 2**64 - 1),
    strategies.uint64,
    st.dictionaries(
        strategies.words,
        st.tuples(
            strategies.uint64,
            st.lists(st.builds(SignedReceipt, strategies.receipts, st.binary(min_size=65, max_size=65)), min_size=1),
        ),
        max_size=3,
    ),
)
def test_content__any__round_trips(
    epoch: int, block: int, sessions: dict[bytes, tuple[int, list[SignedReceipt]]]
) -> None:
    parts = (SessionReceipts(SessionId(each), sessions[each][0], tuple(sessions[each][1])) for each in sorted(sessions))
    content = EpochContent(HUB, epoch, block, tuple(parts))

    assert parse_content(content_of(content)) == content


def test_content__as_the_specification_shows_it() -> None:
    document = codec.decode(content_of(CONTENT))

    assert (document["format"], document["chain"]) == ("tristrata.epoch/1", "eip155:31339")
    assert (document["epoch"], document["block"]) == (3, 912)
    assert [(part["first"], len(part["receipts"])) for part in document["sessions"]] == [(4, 2), (0, 1)]
    assert set(document["sessions"][0]["receipts"][0]) == {"receipt", "signature"}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("format",), "tristrata.epoch/2", "epoch.format"),
        (("chain",), "solana:x", "epoch.chain"),
        (("chain",), "eip155:٣", "epoch.chain"),
        (("chain",), "eip155:031339", "epoch.chain"),
        (("epoch",), 0, "epoch.epoch"),
        (("epoch",), 2**64, "epoch.epoch"),
        (("block",), -1, "epoch.block"),
        (("block",), "912", "epoch.block"),
        (("more",), 1, "exactly the fields"),
        (("sessions",), {}, "epoch.sessions must be a list"),
        (("sessions",), [3], "epoch.session must be an object"),
        (("sessions", 0, "session"), "0x" + "0c" * 32, "order of their ids"),
        (("sessions", 0, "session"), "0x0c", "epoch.session.session"),
        (("sessions", 0, "first"), True, "epoch.session.first"),
        (("sessions", 0, "receipts"), [], "must not be empty"),
        (("sessions", 0, "receipts", 0, "signature"), "0x" + "01" * 64, "epoch.receipt.signature"),
        (("sessions", 0, "receipts", 0, "receipt", "price"), "-1", "receipt.price"),
    ],
)
def test_parse_content__a_wrong_field__is_named(path: tuple[str | int, ...], value: object, field: str) -> None:
    document = codec.decode(content_of(CONTENT))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    with pytest.raises(InvalidValue, match=field):
        parse_content(codec.encode(document))


def test_parse_content__not_canonical__is_refused() -> None:
    data = content_of(CONTENT)

    for other in (data + b"\n", data.replace(b'"epoch":3', b'"epoch": 3'), data[:-1] + b',"epoch":3}'):
        with pytest.raises(InvalidValue, match="canonical"):
            parse_content(other)
    for broken in (b"", b"null", b"[]", data[:-1]):
        with pytest.raises(InvalidValue):
            parse_content(broken)


def test_content__too_large__is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = content_of(CONTENT)
    monkeypatch.setattr("tristrata.protocol.epoch.MAX_CONTENT_BYTES", len(data) - 1)

    for call in (lambda: parse_content(data), lambda: content_of(CONTENT)):
        with pytest.raises(InvalidValue, match="at most"):
            call()
