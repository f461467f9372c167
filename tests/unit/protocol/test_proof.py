"""A receipt with its path to Ethereum: it verifies as it was made, and with anything at all changed it does not."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.protocol import strategies
from tests.unit.protocol.test_epoch import HUB, KEY, SETTLEMENT, A, charge_of, receipts_of
from tristrata.protocol import codec
from tristrata.protocol.epoch import EpochResult, Lane, SessionReceipts, SignedReceipt, build_epoch, child_leaf
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, ChainRef, chain_ref, eip155
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.proof import (
    MAX_PROOF_BYTES,
    EpochParts,
    Hop,
    Link,
    LinkBroken,
    NotYetOnEthereum,
    ParentHop,
    ReceiptProof,
    SealedEpoch,
    make_path,
    parse_proof,
    proof_to_json,
    verify,
)
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.signing import Domain, address_of, digest, sign

L1 = eip155(31_337)
LEDGER = Address(b"\x1e" * 20)
L3 = eip155(31_341)
L3_REF = chain_ref(L3, chain_ref(HUB), Address(b"\x70" * 20))
L3_SETTLEMENT = Domain(L3, L3_REF, Address(b"\x3e" * 20))
SIGNER = address_of(KEY.public_key)
OTHER_CHILDREN = IndexedTree().update(0, b"\x31" * 32).update(2, b"\x32" * 32)


def seal(ref: ChainRef, epoch: int, built: EpochResult | None, children: IndexedTree = OTHER_CHILDREN) -> SealedEpoch:
    receipts_root = built.receipts_root if built else b"\x62" * 32
    payouts_root = built.payouts_root if built else b"\x63" * 32
    parts = EpochParts(b"\x61" * 32, receipts_root, payouts_root, children.root)
    sealed = SealedEpoch(ref, epoch, parts, bytes(32))
    return replace(sealed, root=sealed.computed_root)


def under(parent: ChainRef, epoch: int, child: SealedEpoch, index: int = 1) -> ParentHop:
    leaf = child_leaf(child.chain_ref, child.epoch, child.root, Lane.ATTESTED)
    tree = OTHER_CHILDREN.update(index, leaf)
    return ParentHop(index, Lane.ATTESTED, tree.prove(index), seal(parent, epoch, None, tree))


def hub_proof(position: int = 2, domain: Domain = SETTLEMENT, *, under_hub: bool = False) -> ReceiptProof:
    """A receipt of a hub right under L1, or of one under ``HUB``."""
    part = receipts_of(A, 0, [10, 20, 30, 40, 50])
    receipts = tuple(
        SignedReceipt(each.receipt, sign(KEY, digest(domain.separator, each.receipt.struct_hash)))
        for each in part.receipts
    )
    part = SessionReceipts(A, 0, receipts)
    built = build_epoch(domain.chain, 7, 9, {}, {A: charge_of(part)}, [part])
    sealed = seal(domain.ref, 7, built)
    parent = under(chain_ref(HUB), 12, sealed) if under_hub else None
    path = make_path(position, built.prove_receipt(A, position), sealed, parent, L1, LEDGER)
    signed = receipts[position]
    return ReceiptProof(signed.receipt, signed.signature, SIGNER, domain, path)


def l3_proof() -> ReceiptProof:
    return hub_proof(domain=L3_SETTLEMENT, under_hub=True)


def top_root(proof: ReceiptProof) -> bytes:
    assert proof.path is not None
    return proof.path.checkpoint.root


def unproven(proof: ReceiptProof) -> ReceiptProof:
    return replace(proof, path=None)


PROOFS = {"hub": hub_proof(), "l3": l3_proof()}


def test_verify__receipt_of_a_hub__is_one_hop() -> None:
    proof = PROOFS["hub"]
    verified = verify(proof, top_root(proof))

    assert verified.receipt_hash == proof.receipt.struct_hash
    assert verified.hops == (Hop(chain_ref(HUB), 7, top_root(proof), Lane.ATTESTED),)
    assert verified.lane == Lane.ATTESTED


def test_verify__receipt_of_an_l3__is_two_hops_and_as_strong_as_the_weaker() -> None:
    proof = PROOFS["l3"]
    verified = verify(proof, top_root(proof), Lane.FINAL)

    assert [(hop.chain_ref, hop.epoch, hop.lane) for hop in verified.hops] == [
        (L3_REF, 7, Lane.ATTESTED),
        (chain_ref(HUB), 12, Lane.FINAL),
    ]
    assert verified.hops[1].root == top_root(proof)
    assert verified.lane == Lane.ATTESTED


@pytest.mark.parametrize("position", range(5))
def test_verify__every_receipt_of_an_epoch__holds(position: int) -> None:
    proof = hub_proof(position)

    assert verify(proof, top_root(proof)).receipt_hash == proof.receipt.struct_hash


@pytest.mark.parametrize("name", PROOFS)
def test_file__as_written__is_read_back_however_indented(name: str) -> None:
    proof = PROOFS[name]
    document = proof_to_json(proof)

    assert parse_proof(codec.encode(document)) == proof
    assert parse_proof(json.dumps(document, indent=2).encode()) == proof
    assert parse_proof(codec.encode(proof_to_json(unproven(proof)))) == unproven(proof)


@settings(max_examples=30)
@given(strategies.receipts, strategies.secrets, st.integers(1, 2**63), strategies.addresses)
def test_file__any_receipt_without_a_path__round_trips_and_awaits_its_epoch(
    receipt: Receipt, secret: bytes, chain_id: int, contract: Address
) -> None:
    domain, key = Domain(eip155(chain_id), chain_ref(eip155(chain_id)), contract), PrivateKey(secret)
    signature = sign(key, digest(domain.separator, receipt.struct_hash))
    proof = ReceiptProof(receipt, signature, address_of(key.public_key), domain)

    assert parse_proof(codec.encode(proof_to_json(proof))) == proof
    with pytest.raises(NotYetOnEthereum, match="the epoch that includes it"):
        verify(proof, bytes(32))


def test_verify__ledger_has_nothing_yet__awaits_the_checkpoint() -> None:
    with pytest.raises(NotYetOnEthereum) as caught:
        verify(PROOFS["l3"], bytes(32))

    assert "epoch 12" in caught.value.awaited
    assert chain_ref(HUB).hex() in caught.value.awaited
    with pytest.raises(NotYetOnEthereum):
        verify(PROOFS["l3"], top_root(PROOFS["l3"]), Lane.NONE)


@pytest.mark.parametrize("name", PROOFS)
def test_verify__ledger_has_another_root__breaks_at_ethereum(name: str) -> None:
    with pytest.raises(LinkBroken) as caught:
        verify(PROOFS[name], b"\x99" * 32)

    assert caught.value.link == Link.ETHEREUM
    assert caught.value.expected == "0x" + "99" * 32
    assert caught.value.found == "0x" + top_root(PROOFS[name]).hex()


LINKS = [
    (("receipt", "price"), Link.SIGNATURE),
    (("receipt", "session"), Link.SIGNATURE),
    (("receipt", "evidence"), Link.SIGNATURE),
    (("signature",), Link.SIGNATURE),
    (("chain_ref",), Link.SIGNATURE),
    (("chain",), Link.SIGNATURE),
    (("path", "position"), Link.RECEIPTS_TREE),
    (("path", "siblings", 0), Link.RECEIPTS_TREE),
    (("path", "sealed", "receipts_root"), Link.RECEIPTS_TREE),
    (("path", "sealed", "chain_ref"), Link.EPOCH),
    (("path", "sealed", "epoch"), Link.EPOCH),
    (("path", "sealed", "messages_root"), Link.EPOCH),
    (("path", "sealed", "payouts_root"), Link.EPOCH),
    (("path", "sealed", "children_root"), Link.EPOCH),
    (("path", "sealed", "root"), Link.EPOCH),
    (("path", "parent", "index"), Link.PARENT),
    (("path", "parent", "siblings", 7), Link.PARENT),
    (("path", "parent", "sealed", "children_root"), Link.PARENT),
    (("path", "parent", "sealed", "chain_ref"), Link.PARENT_EPOCH),
    (("path", "parent", "sealed", "epoch"), Link.PARENT_EPOCH),
    (("path", "parent", "sealed", "receipts_root"), Link.PARENT_EPOCH),
    (("path", "parent", "sealed", "root"), Link.PARENT_EPOCH),
    (("path", "checkpoint", "chain"), Link.ETHEREUM),
    (("path", "checkpoint", "chain_ref"), Link.ETHEREUM),
    (("path", "checkpoint", "epoch"), Link.ETHEREUM),
    (("path", "checkpoint", "root"), Link.ETHEREUM),
    (("path", "checkpoint", "digest"), Link.ETHEREUM),
]


@pytest.mark.parametrize(("path", "link"), LINKS, ids=str)
def test_verify__one_value_changed__names_the_first_link_that_breaks(path: tuple[str | int, ...], link: Link) -> None:
    document = proof_to_json(PROOFS["l3"])
    value = _at(document, path)
    changed: Any
    if isinstance(value, int):
        changed = value ^ 1
    elif value.startswith("eip155:"):
        changed = "eip155:77"
    elif value.isdigit():
        changed = str(int(value) + 1)
    else:
        changed = value[:10] + ("0" if value[10] != "0" else "1") + value[11:]

    with pytest.raises(LinkBroken) as caught:
        _verify(_with(document, path, changed))

    assert caught.value.link == link
    assert caught.value.expected != caught.value.found


@pytest.mark.parametrize("name", [*PROOFS, "pathless"])
def test_verify__any_value_changed_in_any_way__breaks(name: str) -> None:
    """Every digit of every value, every length, every field: exhaustively. A path taken away whole is the next test."""
    document = proof_to_json(PROOFS[name] if name in PROOFS else unproven(PROOFS["hub"]))
    tried = 0
    for path in _places(document):
        for changed in _variants(_at(document, path)):
            if path == ("path",) and changed is None:
                continue
            with pytest.raises((LinkBroken, InvalidValue)):
                _verify(_with(document, path, changed))
                pytest.fail(f"{path} may read {changed!r}")
            tried += 1

    assert tried > 5_000


@pytest.mark.parametrize("name", PROOFS)
def test_verify__path_taken_away__is_signed_and_not_proven(name: str) -> None:
    with pytest.raises(NotYetOnEthereum):
        verify(unproven(PROOFS[name]), top_root(PROOFS[name]))


@pytest.mark.parametrize("name", PROOFS)
def test_verify__any_bit_of_the_file_flipped__breaks(name: str) -> None:
    data, root = codec.encode(proof_to_json(PROOFS[name])), top_root(PROOFS[name])
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises((LinkBroken, InvalidValue)):
                verify(parse_proof(bytes(flipped)), root)
                pytest.fail(f"byte {position} may read {chr(flipped[position])!r}")


def test_verify__path_of_another_receipt__breaks_at_the_receipts_tree() -> None:
    mine, other = hub_proof(1), hub_proof(3)

    with pytest.raises(LinkBroken) as caught:
        verify(replace(mine, path=other.path), top_root(other))

    assert caught.value.link == Link.RECEIPTS_TREE


def test_verify__parts_of_another_chain__break() -> None:
    hub, l3 = PROOFS["hub"], PROOFS["l3"]
    assert hub.path is not None
    assert l3.path is not None

    with pytest.raises(LinkBroken):
        verify(replace(hub, domain=l3.domain), top_root(hub))
    with pytest.raises(LinkBroken) as caught:
        verify(replace(l3, path=replace(l3.path, parent=None)), top_root(l3))
    assert caught.value.link == Link.ETHEREUM


@pytest.mark.parametrize("index", [-255, -1, 1 + 256, 2**32 + 1])
def test_verify__unused_index_bits__break_at_the_parent(index: int) -> None:
    proof = PROOFS["l3"]
    assert proof.path is not None
    assert proof.path.parent is not None
    changed = replace(proof.path, parent=replace(proof.path.parent, index=index))

    with pytest.raises(LinkBroken) as caught:
        verify(replace(proof, path=changed), top_root(proof))

    assert caught.value.link == Link.PARENT


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 5_000, b"1" * 5_000, b"NaN", b" " * (MAX_PROOF_BYTES + 1)]
)
def test_parse__not_a_receipt_file__is_refused(data: bytes) -> None:
    with pytest.raises(InvalidValue):
        parse_proof(data)


def test_parse__same_name_twice__is_refused() -> None:
    data = codec.encode(proof_to_json(PROOFS["hub"]))
    twice = data.replace(b'"position":2', b'"position":1,"position":2')

    assert twice != data
    with pytest.raises(InvalidValue, match="twice"):
        parse_proof(twice)


def test_parse__too_many_siblings__is_refused() -> None:
    document = proof_to_json(PROOFS["hub"])
    document["path"]["siblings"] *= 40

    with pytest.raises(InvalidValue, match="siblings"):
        parse_proof(codec.encode(document))


def _verify(document: dict[str, Any]) -> None:
    """As a client does it that asked the ledger what the file names."""
    known = {top_root(proof) for proof in PROOFS.values()}
    proof = parse_proof(json.dumps(document).encode())
    try:
        verify(proof, top_root(proof) if proof.path and top_root(proof) in known else b"\x99" * 32)
    except NotYetOnEthereum:
        pytest.fail("a changed receipt without a path passes")


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def _with(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where every value of a document is, objects and lists before what is in them; not the document itself."""
    if path:
        yield path
    if isinstance(value, dict):
        for field in value:
            yield from _places(value[field], (*path, field))
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from _places(value[number], (*path, number))


def _variants(value: Any) -> Iterator[Any]:
    """Other values for a place: every digit changed, every length, every other kind."""
    yield from (other for other in (None, {}, [], "", "0x", 0, -1, 2**64, True, 0.5) if _differs(other, value))
    if isinstance(value, str):
        yield from _texts(value)
    elif isinstance(value, int):
        yield from (value ^ 1 << bit for bit in range(70))
        yield from (-value - 1, str(value), float(value))
    elif isinstance(value, list):
        yield from (value[:-1], value[1:], value + value[-1:], [*value, "0x" + "00" * 32], value[::-1])
    elif isinstance(value, dict):
        yield from ({**value, "more": 1}, [value])
        yield from ({name: value[name] for name in value if name != left_out} for left_out in value)


def _texts(text: str) -> Iterator[str]:
    yield from (text[:-1], text + "0", " " + text, text + " ", text.upper() + "!", "0" + text)
    for position, character in enumerate(text):
        others = {character.swapcase(), "g", " ", chr(ord(character) ^ 1), chr(ord(character) + 1)}
        if character in "0123456789abcdefABCDEF":
            digit = int(character, 16)
            others |= {f"{digit ^ 1 << bit:x}" for bit in range(4)}
        for other in sorted(others - {character}):
            yield text[:position] + other + text[position + 1 :]


def _differs(other: Any, value: Any) -> bool:
    return type(other) is not type(value) or other != value
