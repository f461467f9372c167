"""The receipt file: a receipt with its path to Ethereum, and the check of every link of it.

``signature → receipts tree → epoch (→ parent → parent epoch) → ethereum``: every hash is recomputed, and every field of
the file takes part in one, so that a file in which anything is changed does not pass. All but the last value, the root
that the ledger on L1 holds, is in the file (``docs/epochs.md``).
"""

import json
from enum import StrEnum
from typing import Any

import msgspec

from tristrata.protocol import codec, indexed_tree, standard_tree
from tristrata.protocol.epoch import Lane, child_leaf, epoch_root, parse_evm_chain
from tristrata.protocol.errors import InvalidSignature, InvalidValue, TristrataError
from tristrata.protocol.hashing import WORD_BYTES, ZERO_WORD, address_word, keccak, word
from tristrata.protocol.ids import ADDRESS_BYTES, Address, Caip2, ChainRef, chain_ref, checksum, show
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.signing import SIGNATURE_BYTES, Domain, digest, recover

PROOF_FORMAT = "tristrata.receipt/1"
MAX_PROOF_BYTES = 65_536
MAX_SIBLINGS = 64
_PROOF_FIELDS = frozenset(("format", "receipt", "signature", "signer", "chain", "chain_ref", "settlement", "path"))
_PATH_FIELDS = frozenset(("position", "siblings", "sealed", "parent", "checkpoint"))
_SEALED_FIELDS = frozenset(
    ("chain_ref", "epoch", "messages_root", "receipts_root", "payouts_root", "children_root", "root")
)
_PARENT_FIELDS = frozenset(("index", "lane", "siblings", "sealed"))
_LANES = {lane.name.lower(): lane for lane in (Lane.ATTESTED, Lane.FINAL)}
_CHECKPOINT_FIELDS = frozenset(("chain", "ledger", "chain_ref", "epoch", "root", "digest"))


class Link(StrEnum):
    """The links of the chain from a receipt to Ethereum, in the order in which they are checked."""

    RECEIPT = "receipt"
    SIGNATURE = "signature"
    RECEIPTS_TREE = "receipts tree"
    EPOCH = "epoch"
    PARENT = "parent"
    PARENT_EPOCH = "parent epoch"
    ETHEREUM = "ethereum"


class LinkBroken(TristrataError):
    """The first ``link`` that does not hold: what it should lead to, and what was ``found``."""

    def __init__(self, link: Link, expected: str, found: str) -> None:
        super().__init__(
            f"the receipt breaks at {link}: expected {expected}, found {found}",
            remedy="the file was changed, or somebody cheated: keep it, and ask for the receipt again",
        )
        self.link = link
        self.expected = expected
        self.found = found


class NotYetOnEthereum(TristrataError):
    """The receipt is signed and in order as far as it goes, but not on Ethereum yet; says what is ``awaited``."""

    def __init__(self, awaited: str) -> None:
        super().__init__(
            f"the receipt is signed, but not on Ethereum yet: awaiting {awaited}", remedy="try again later"
        )
        self.awaited = awaited


class EpochParts(msgspec.Struct, frozen=True):
    """The four roots that an epoch root commits to besides its chain and its number."""

    messages_root: bytes
    receipts_root: bytes
    payouts_root: bytes
    children_root: bytes


class SealedEpoch(msgspec.Struct, frozen=True):
    """The epoch that one chain sealed, and the ``root`` that it should have."""

    chain_ref: ChainRef
    epoch: int
    parts: EpochParts
    root: bytes

    @property
    def computed_root(self) -> bytes:
        """The root that follows from the parts."""
        parts = self.parts
        return epoch_root(
            self.chain_ref,
            self.epoch,
            parts.messages_root,
            parts.receipts_root,
            parts.payouts_root,
            parts.children_root,
        )


class ParentHop(msgspec.Struct, frozen=True):
    """How a chain's epoch is in its parent's: at place ``index`` of the children, where it came by ``lane``."""

    index: int
    lane: Lane
    siblings: tuple[bytes, ...]
    sealed: SealedEpoch


class CheckpointId(msgspec.Struct, frozen=True):
    """Which entry of which ledger the path ends in: ``ledger`` on the L1 ``chain`` holds ``root`` for an epoch."""

    chain: Caip2
    ledger: Address
    chain_ref: ChainRef
    epoch: int
    root: bytes

    @property
    def digest(self) -> bytes:
        """``keccak(abi.encode(L1's chain reference, ledger, chain_ref, epoch, root))``: binds all of it in the file."""
        ledger = chain_ref(self.chain) + address_word(self.ledger)
        return keccak(ledger + self.chain_ref + word(self.epoch) + self.root)


class ReceiptPath(msgspec.Struct, frozen=True):
    """The way from a signed receipt to Ethereum.

    ``position`` is the receipt's in its session. ``checkpoint_digest`` must be the checkpoint's `CheckpointId.digest`.
    """

    position: int
    siblings: tuple[bytes, ...]
    sealed: SealedEpoch
    parent: ParentHop | None
    checkpoint: CheckpointId
    checkpoint_digest: bytes


class ReceiptProof(msgspec.Struct, frozen=True):
    """A receipt, its signature by ``signer`` for the ``Settlement`` in ``domain``, and its path once there is one."""

    receipt: Receipt
    signature: bytes
    signer: Address
    domain: Domain
    path: ReceiptPath | None = None


class Hop(msgspec.Struct, frozen=True):
    """One root that was found one layer up: ``chain_ref`` sealed ``root`` in ``epoch``, and it came up by ``lane``."""

    chain_ref: ChainRef
    epoch: int
    root: bytes
    lane: Lane


class Verified(msgspec.Struct, frozen=True):
    """A receipt that is proven: its hash, and the hops from its hub to Ethereum."""

    receipt_hash: bytes
    hops: tuple[Hop, ...]

    @property
    def lane(self) -> Lane:
        """The weakest lane of all hops, which is the path's."""
        return min(hop.lane for hop in self.hops)


def make_path(
    position: int,
    siblings: tuple[bytes, ...],
    sealed: SealedEpoch,
    parent: ParentHop | None,
    chain: Caip2,
    ledger: Address,
) -> ReceiptPath:
    """A path to the ``ledger`` on L1 ``chain``, with the checkpoint that it must end in."""
    top = parent.sealed if parent else sealed
    checkpoint = CheckpointId(chain, ledger, top.chain_ref, top.epoch, top.root)
    return ReceiptPath(position, siblings, sealed, parent, checkpoint, checkpoint.digest)


def verify(proof: ReceiptProof, checkpoint_root: bytes, lane: Lane = Lane.ATTESTED) -> Verified:
    """Check every link, from the signature to ``checkpoint_root``.

    ``checkpoint_root`` is what the ledger that the proof names holds for the chain and epoch that it names (32 bytes,
    zeros for nothing), and ``lane`` how it came there. Raises `LinkBroken` for the first link that fails, and
    `NotYetOnEthereum` when all links hold that there are.
    """
    receipt_hash = proof.receipt.struct_hash
    _check_signature(proof, receipt_hash)
    if proof.path is None:
        raise NotYetOnEthereum("the charge of its voucher, and the epoch that includes it")
    hops = _check_path(proof, proof.path, receipt_hash, lane)
    checkpoint = proof.path.checkpoint
    if checkpoint_root == ZERO_WORD or lane == Lane.NONE:
        raise NotYetOnEthereum(f"the checkpoint of epoch {checkpoint.epoch} of chain {show(checkpoint.chain_ref)}")
    _require(Link.ETHEREUM, checkpoint_root, checkpoint.root)
    return Verified(receipt_hash, hops)


def proof_to_json(proof: ReceiptProof) -> dict[str, Any]:
    """The JSON object of a receipt file."""
    return {
        "format": PROOF_FORMAT,
        "receipt": codec.receipt_to_json(proof.receipt),
        "signature": show(proof.signature),
        "signer": checksum(proof.signer),
        "chain": proof.domain.chain,
        "chain_ref": show(proof.domain.ref),
        "settlement": checksum(proof.domain.contract),
        "path": _path_to_json(proof.path) if proof.path else None,
    }


def parse_proof(data: bytes) -> ReceiptProof:
    """The receipt file in ``data``, however it is indented.

    Raises `InvalidValue` that names the field, also where a value is written in another way than `proof_to_json`
    writes it: one receipt has one spelling.
    """
    if len(data) > MAX_PROOF_BYTES:
        raise InvalidValue(f"a receipt file has {len(data)} bytes; it must have at most {MAX_PROOF_BYTES}")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"the receipt file is not JSON: {error}") from error
    proof = _proof_from_json(document)
    _check_spelling("file", proof_to_json(proof), document)
    return proof


def _check_signature(proof: ReceiptProof, receipt_hash: bytes) -> None:
    try:
        signer = recover(digest(proof.domain.separator, receipt_hash), proof.signature)
    except InvalidSignature as error:
        raise LinkBroken(Link.SIGNATURE, f"a signature by {checksum(proof.signer)}", error.message) from error
    if signer != proof.signer:
        raise LinkBroken(Link.SIGNATURE, f"signer {checksum(proof.signer)}", checksum(signer))


def _check_path(proof: ReceiptProof, path: ReceiptPath, receipt_hash: bytes, lane: Lane) -> tuple[Hop, ...]:
    sealed, parent, checkpoint = path.sealed, path.parent, path.checkpoint
    leaf = standard_tree.receipt_leaf(proof.receipt.session, path.position, receipt_hash)
    found = standard_tree.root_from_proof(standard_tree.leaf_hash(leaf), path.siblings)
    _require(Link.RECEIPTS_TREE, sealed.parts.receipts_root, found)
    _require(Link.EPOCH, proof.domain.ref, sealed.chain_ref)
    _require(Link.EPOCH, sealed.root, sealed.computed_root)
    hops: tuple[Hop, ...] = ()
    top = sealed
    if parent is not None:
        _check_parent(sealed, parent)
        hops = (_hop(sealed, parent.lane),)
        top = parent.sealed
    _require(Link.ETHEREUM, checkpoint.chain_ref, top.chain_ref)
    _require(Link.ETHEREUM, word(checkpoint.epoch), word(top.epoch))
    _require(Link.ETHEREUM, checkpoint.root, top.root)
    _require(Link.ETHEREUM, path.checkpoint_digest, checkpoint.digest)
    return (*hops, _hop(top, lane))


def _check_parent(sealed: SealedEpoch, parent: ParentHop) -> None:
    leaf = child_leaf(sealed.chain_ref, sealed.epoch, sealed.root, parent.lane)
    try:
        found = indexed_tree.root_from_proof(leaf, parent.index, parent.siblings)
    except InvalidValue as error:
        raise LinkBroken(Link.PARENT, f"a place among {indexed_tree.CAPACITY} children", error.message) from error
    _require(Link.PARENT, parent.sealed.parts.children_root, found)
    _require(Link.PARENT_EPOCH, parent.sealed.root, parent.sealed.computed_root)


def _hop(sealed: SealedEpoch, lane: Lane) -> Hop:
    return Hop(sealed.chain_ref, sealed.epoch, sealed.root, lane)


def _require(link: Link, expected: bytes, found: bytes) -> None:
    if expected != found:
        raise LinkBroken(link, show(expected), show(found))


def _path_to_json(path: ReceiptPath) -> dict[str, Any]:
    parent, checkpoint = path.parent, path.checkpoint
    return {
        "position": path.position,
        "siblings": [show(sibling) for sibling in path.siblings],
        "sealed": _sealed_to_json(path.sealed),
        "parent": parent
        and {
            "index": parent.index,
            "lane": parent.lane.name.lower(),
            "siblings": [show(sibling) for sibling in parent.siblings],
            "sealed": _sealed_to_json(parent.sealed),
        },
        "checkpoint": {
            "chain": checkpoint.chain,
            "ledger": checksum(checkpoint.ledger),
            "chain_ref": show(checkpoint.chain_ref),
            "epoch": checkpoint.epoch,
            "root": show(checkpoint.root),
            "digest": show(path.checkpoint_digest),
        },
    }


def _sealed_to_json(sealed: SealedEpoch) -> dict[str, Any]:
    parts = {name: show(getattr(sealed.parts, name)) for name in EpochParts.__struct_fields__}
    return {"chain_ref": show(sealed.chain_ref), "epoch": sealed.epoch, **parts, "root": show(sealed.root)}


def _proof_from_json(value: Any) -> ReceiptProof:
    fields = codec.Fields("file", value, _PROOF_FIELDS)
    if fields.text("format") != PROOF_FORMAT:
        raise InvalidValue(f"file.format must be {PROOF_FORMAT!r}, not {fields.text('format')[:40]!r}")
    path = fields.get("path")
    return ReceiptProof(
        receipt=codec.receipt_from_json(fields.get("receipt")),
        signature=fields.raw("signature", SIGNATURE_BYTES),
        signer=Address(fields.raw("signer", ADDRESS_BYTES)),
        domain=Domain(
            chain=parse_evm_chain(fields.text("chain"), "file.chain"),
            ref=ChainRef(fields.raw("chain_ref", WORD_BYTES)),
            contract=Address(fields.raw("settlement", ADDRESS_BYTES)),
        ),
        path=None if path is None else _path_from_json(path),
    )


def _path_from_json(value: Any) -> ReceiptPath:
    fields = codec.Fields("path", value, _PATH_FIELDS)
    parent = fields.get("parent")
    checkpoint = codec.Fields("checkpoint", fields.get("checkpoint"), _CHECKPOINT_FIELDS)
    return ReceiptPath(
        position=fields.number("position"),
        siblings=_siblings_from_json("path.siblings", fields.get("siblings")),
        sealed=_sealed_from_json("path.sealed", fields.get("sealed")),
        parent=None if parent is None else _parent_from_json(parent),
        checkpoint=CheckpointId(
            chain=parse_evm_chain(checkpoint.text("chain"), "checkpoint.chain"),
            ledger=Address(checkpoint.raw("ledger", ADDRESS_BYTES)),
            chain_ref=ChainRef(checkpoint.raw("chain_ref", WORD_BYTES)),
            epoch=checkpoint.number("epoch"),
            root=checkpoint.raw("root", WORD_BYTES),
        ),
        checkpoint_digest=checkpoint.raw("digest", WORD_BYTES),
    )


def _parent_from_json(value: Any) -> ParentHop:
    fields = codec.Fields("parent", value, _PARENT_FIELDS)
    lane = fields.text("lane")
    if lane not in _LANES:
        raise InvalidValue(f"parent.lane {lane[:16]!r} must be one of {', '.join(_LANES)}")
    return ParentHop(
        index=fields.number("index", indexed_tree.CAPACITY - 1),
        lane=_LANES[lane],
        siblings=_siblings_from_json("parent.siblings", fields.get("siblings")),
        sealed=_sealed_from_json("parent.sealed", fields.get("sealed")),
    )


def _sealed_from_json(name: str, value: Any) -> SealedEpoch:
    fields = codec.Fields(name, value, _SEALED_FIELDS)
    return SealedEpoch(
        chain_ref=ChainRef(fields.raw("chain_ref", WORD_BYTES)),
        epoch=fields.number("epoch"),
        parts=EpochParts(*(fields.raw(root, WORD_BYTES) for root in EpochParts.__struct_fields__)),
        root=fields.raw("root", WORD_BYTES),
    )


def _siblings_from_json(name: str, value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_SIBLINGS:
        raise InvalidValue(f"{name} must be a list of at most {MAX_SIBLINGS} hashes")
    entries = {f"[{number}]": sibling for number, sibling in enumerate(value)}
    fields = codec.Fields(name, entries, frozenset(entries))
    return tuple(fields.raw(entry, WORD_BYTES) for entry in entries)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a name that is there twice, another reader might see the other value: it is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidValue("the receipt file has an object with the same name twice")
    return found


def _check_spelling(name: str, canonical: Any, written: Any) -> None:
    if isinstance(canonical, dict):
        for field, value in canonical.items():
            _check_spelling(f"{name}.{field}", value, written[field])
    elif canonical != written:
        raise InvalidValue(f"{name} must be written {canonical}, not {written}")
