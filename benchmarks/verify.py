"""Verifying a receipt file, of a hub and of an L3, against the root that its ledger holds: no chain is asked here."""

import time

from coincurve import PrivateKey

from benchmarks.report import Goal, Section, table
from benchmarks.stats import percentile
from tristrata.protocol import codec
from tristrata.protocol.epoch import Lane, child_leaf
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ChainRef, ModelId, RequestId, SessionId, chain_ref, eip155
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.proof import (
    EpochParts,
    ParentHop,
    ReceiptProof,
    SealedEpoch,
    make_path,
    parse_proof,
    proof_to_json,
    verify,
)
from tristrata.protocol.receipt import Assurance, Receipt
from tristrata.protocol.signing import Domain, address_of, digest, sign
from tristrata.protocol.standard_tree import StandardTree, receipt_leaf
from tristrata.protocol.units import Amount, Milliseconds

TARGET_MILLISECONDS = 50.0
_L1, _HUB, _L3 = eip155(31_337), eip155(31_339), eip155(31_341)
_KEY = PrivateKey(b"\x21" * 32)
_WORD = b"\x07" * 32


async def measure(*, quick: bool) -> Section:
    """Read and verify one receipt file, of a hub and of an L3, again and again. Milliseconds."""
    receipts, calls = (1_000, 100) if quick else (10_000, 2_000)
    rows, slowest = [], 0.0
    for name, is_private in (("hub", False), ("L3, through its parent", True)):
        data, root = _file(receipts, is_private=is_private)
        samples = []
        for _ in range(calls):
            started = time.perf_counter()
            verify(parse_proof(data), root)
            samples.append((time.perf_counter() - started) * 1_000)
        p50, p99 = percentile(samples, 50), percentile(samples, 99)
        slowest = max(slowest, p99)
        rows.append([name, f"{len(data):,}", f"{p50:.2f}", f"{p99:.2f}"])
    goal = Goal(
        "verify a receipt against L1, p99",
        f"≤ {TARGET_MILLISECONDS:.0f} ms + one RPC call",
        f"{slowest:.2f} ms; the call is not measured here",
        slowest <= TARGET_MILLISECONDS,
    )
    body = _BODY.format(
        receipts=receipts, calls=calls, rows=table(["receipt of", "file, bytes", "p50, ms", "p99, ms"], rows)
    )
    return Section("Verifying a receipt", [goal], body)


def _file(receipts: int, *, is_private: bool) -> tuple[bytes, bytes]:
    chain = _L3 if is_private else _HUB
    domain = Domain(chain, chain_ref(chain), Address(b"\x5e" * 20))
    receipt = Receipt(
        session=SessionId(_WORD),
        request_id=RequestId(_WORD),
        miner=Address(b"\x11" * 20),
        model_id=ModelId(_WORD),
        prompt_hash=_WORD,
        output_hash=_WORD,
        prompt_tokens=100,
        output_tokens=200,
        price=Amount(300),
        started_at=Milliseconds(1_800_000_000_000),
        finished_at=Milliseconds(1_800_000_001_000),
        assurance=Assurance.SAMPLED,
        evidence=bytes(32),
    )
    hashes = [receipt.struct_hash, *(keccak(b"receipt %d" % number) for number in range(1, receipts))]
    leaves = [receipt_leaf(receipt.session, position, found) for position, found in enumerate(hashes)]
    tree = StandardTree(leaves)
    sealed = _seal(domain.ref, tree.root, IndexedTree())
    parent = None
    if is_private:
        leaf = child_leaf(sealed.chain_ref, sealed.epoch, sealed.root, Lane.ATTESTED)
        children = IndexedTree().update(3, leaf)
        parent = ParentHop(3, Lane.ATTESTED, children.prove(3), _seal(chain_ref(_HUB), _WORD, children))
    path = make_path(0, tree.prove(0), sealed, parent, _L1, Address(b"\x1e" * 20))
    signature = sign(_KEY, digest(domain.separator, receipt.struct_hash))
    proof = ReceiptProof(receipt, signature, address_of(_KEY.public_key), domain, path)
    return codec.encode(proof_to_json(proof)), path.checkpoint.root


def _seal(ref: ChainRef, receipts_root: bytes, children: IndexedTree) -> SealedEpoch:
    unsealed = SealedEpoch(ref, 12, EpochParts(_WORD, receipts_root, _WORD, children.root), bytes(32))
    return SealedEpoch(ref, 12, unsealed.parts, unsealed.computed_root)


_BODY = """\
One receipt of an epoch of {receipts:,}, {calls:,} calls each: the file is read, every field checked, the signature
recovered and every hash recomputed up to the root that the ledger on L1 holds. No chain is asked.

{rows}"""
