"""An epoch from charges and receipts. The settler builds it and every validator rebuilds it, with this same function.

The rules and hashes are those of ``docs/epochs.md``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Any

import msgspec

from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidSignature, InvalidValue, TristrataError
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import Address, Caip2, ChainRef, SessionId, show
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.signing import SIGNATURE_BYTES, digest, recover
from tristrata.protocol.standard_tree import StandardTree, payout_leaf, receipt_leaf
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import Split

CONTENT_FORMAT = "tristrata.epoch/1"
MAX_CONTENT_BYTES = 2**30
_EVM_CHAIN = re.compile(r"eip155:[1-9][0-9]{0,31}")
_CONTENT_FIELDS = frozenset(("format", "chain", "epoch", "block", "sessions"))
_SESSION_FIELDS = frozenset(("session", "first", "receipts"))
_SIGNED_FIELDS = frozenset(("receipt", "signature"))


class EpochWrong(TristrataError):
    """Receipts that do not account for the charges: ``what`` is wrong, in which ``session``, at which ``position``."""

    def __init__(self, what: str, session: SessionId, position: int | None = None) -> None:
        at = "" if position is None else f", position {position}"
        super().__init__(f"session {show(session)}{at}: {what}", remedy="sign nothing; wait for the right receipts")
        self.what = what
        self.session = session
        self.position = position


class Lane(IntEnum):
    """How a root came to where it is: signed by a quorum, or over the chains' native bridges."""

    NONE = 0
    ATTESTED = 1
    FINAL = 2


class ChargedSession(msgspec.Struct, frozen=True):
    """A session's last charge up to the reference block: after ``count`` receipts ``cumulative`` (base units) was owed.

    ``head`` is the root of the session's receipt tree, ``splits`` who gets how much of it.
    """

    session: SessionId
    count: int
    cumulative: Amount
    head: bytes
    splits: tuple[Split, ...]


class SignedReceipt(msgspec.Struct, frozen=True):
    """A receipt and its miner's signature over it, 65 bytes."""

    receipt: Receipt
    signature: bytes


class SessionReceipts(msgspec.Struct, frozen=True):
    """A session's receipts of one epoch, at positions ``first``, ``first`` + 1 … of the session."""

    session: SessionId
    first: int
    receipts: tuple[SignedReceipt, ...]


class EpochContent(msgspec.Struct, frozen=True):
    """What the content store holds of an epoch: its receipts, by session in order of id."""

    chain: Caip2
    epoch: int
    block: int
    sessions: tuple[SessionReceipts, ...]


class SessionProgress(msgspec.Struct, frozen=True):
    """How far a session's receipts have come in epochs: the tree over them, and the sum of their prices."""

    tree: IncrementalTree = IncrementalTree()
    total: Amount = Amount(0)


class LeafSpan(msgspec.Struct, frozen=True):
    """Where a session's receipts are in the receipts tree: positions ``first`` … are leaves ``leaf`` …"""

    first: int
    count: int
    leaf: int


class EpochResult(msgspec.Struct, frozen=True):
    """An epoch's two roots, the trees behind them, and each session's progress after it.

    ``spans`` finds a session's receipts among the leaves of ``receipts_tree``. ``payouts`` are each payee's cumulative
    base units, in order of payee, as they are the leaves of ``payouts_tree``.
    """

    chain: Caip2
    epoch: int
    block: int
    receipts_root: bytes
    payouts_root: bytes
    receipts_tree: StandardTree
    payouts_tree: StandardTree
    spans: dict[SessionId, LeafSpan]
    payouts: dict[Address, Amount]
    after: dict[SessionId, SessionProgress]

    def prove_receipt(self, session: SessionId, position: int) -> tuple[bytes, ...]:
        """The path of a receipt to ``receipts_root``. Raises `InvalidValue` when the epoch does not have it."""
        span = self.spans.get(session)
        if span is None or not span.first <= position < span.first + span.count:
            raise InvalidValue(f"epoch {self.epoch} has no receipt at position {position} of session {show(session)}")
        return self.receipts_tree.prove(span.leaf + position - span.first)

    def prove_payout(self, payee: Address) -> tuple[bytes, ...]:
        """The path of a payee's cumulative amount to ``payouts_root``. Raises `InvalidValue` when it has none."""
        if payee not in self.payouts:
            raise InvalidValue(f"epoch {self.epoch} pays nothing to 0x{payee.hex()}")
        return self.payouts_tree.prove(list(self.payouts).index(payee))


def build_epoch(
    chain: Caip2,
    epoch: int,
    block: int,
    before: Mapping[SessionId, SessionProgress],
    charged: Mapping[SessionId, ChargedSession],
    receipts: Sequence[SessionReceipts],
    keys: Mapping[Address, frozenset[Address]],
    separator: bytes,
) -> EpochResult:
    """The epoch that follows from what was charged up to ``block`` and from the receipts since the last epoch.

    ``before`` is each session's progress after the last epoch, ``keys`` every signing key that each miner has
    registered up to ``block``, ``separator`` the EIP-712 domain separator of the hub's ``Settlement``.
    Raises `EpochWrong` that names the session, the position and what is wrong there.
    """
    for left, right in pairwise(receipts):
        if left.session >= right.session:
            raise EpochWrong("sessions must be in order of their ids, each once", right.session)
    after = dict(before)
    spans: dict[SessionId, LeafSpan] = {}
    leaves: list[bytes] = []
    for part in receipts:
        if part.session not in charged:
            raise EpochWrong("there are receipts, but nothing is charged", part.session)
        progress = after.get(part.session, SessionProgress())
        hashes = _hashes(part, progress, charged[part.session])
        _check_signatures(part, hashes, keys, separator)
        after[part.session] = _advance(progress, part, hashes)
        spans[part.session] = LeafSpan(part.first, len(hashes), len(leaves))
        leaves += [receipt_leaf(part.session, part.first + number, found) for number, found in enumerate(hashes)]
    _check_charges(after, charged, spans)
    payouts = payouts_of(charged)
    receipts_tree = StandardTree(leaves)
    payouts_tree = StandardTree([payout_leaf(payee, cumulative) for payee, cumulative in payouts.items()])
    return EpochResult(
        chain=chain,
        epoch=epoch,
        block=block,
        receipts_root=receipts_tree.root,
        payouts_root=payouts_tree.root,
        receipts_tree=receipts_tree,
        payouts_tree=payouts_tree,
        spans=spans,
        payouts=payouts,
        after=after,
    )


def payouts_of(charged: Mapping[SessionId, ChargedSession]) -> dict[Address, Amount]:
    """What each payee has earned in all sessions together, in base units and in order of payee, without zeros."""
    earned: dict[Address, int] = {}
    for session in charged.values():
        for split in session.splits:
            earned[split.payee] = earned.get(split.payee, 0) + split.amount
    return {payee: Amount(earned[payee]) for payee in sorted(earned) if earned[payee]}


def epoch_root(
    chain_ref: ChainRef,
    epoch: int,
    messages_root: bytes,
    receipts_root: bytes,
    payouts_root: bytes,
    children_root: bytes,
) -> bytes:
    """The one root that a chain seals an epoch: ``keccak(abi.encode(…))`` of these, 32 bytes."""
    return keccak(chain_ref + word(epoch) + messages_root + receipts_root + payouts_root + children_root)


def child_leaf(chain: ChainRef, epoch: int, root: bytes, lane: Lane) -> bytes:
    """A chain's leaf in its parent's children tree, and in the ledger's super root."""
    return keccak(chain + word(epoch) + root + word(lane))


def content_of(content: EpochContent) -> bytes:
    """The epoch's object in the content store: canonical JSON. Raises `InvalidValue` when it is larger than may be."""
    document = codec.encode(
        {
            "format": CONTENT_FORMAT,
            "chain": content.chain,
            "epoch": content.epoch,
            "block": content.block,
            "sessions": [
                {
                    "session": show(part.session),
                    "first": part.first,
                    "receipts": [
                        {"receipt": codec.receipt_to_json(signed.receipt), "signature": show(signed.signature)}
                        for signed in part.receipts
                    ],
                }
                for part in content.sessions
            ],
        }
    )
    _check_size(document)
    return document


def parse_content(data: bytes) -> EpochContent:
    """The epoch's content in an object of the content store.

    Raises `InvalidValue` that names the field, also for JSON that is not canonical. What the receipts say is for
    `build_epoch` to check.
    """
    _check_size(data)
    document = codec.decode(data)
    fields = codec.Fields("epoch", document, _CONTENT_FIELDS)
    if fields.text("format") != CONTENT_FORMAT:
        raise InvalidValue(f"epoch.format must be {CONTENT_FORMAT!r}, not {fields.text('format')[:40]!r}")
    chain, epoch = parse_evm_chain(fields.text("chain"), "epoch.chain"), fields.number("epoch")
    if epoch == 0:
        raise InvalidValue("epoch.epoch must be 1 or more")
    sessions = tuple(_session_from_json(value) for value in _list(fields, "epoch.sessions", "sessions"))
    for left, right in pairwise(sessions):
        if left.session >= right.session:
            raise InvalidValue("epoch.sessions must be in order of their ids, each once")
    if codec.encode(document) != data:
        raise InvalidValue("epoch is not canonical JSON: its keys must be sorted, without spaces")
    return EpochContent(chain, epoch, fields.number("block"), sessions)


def parse_evm_chain(text: str, name: str) -> Caip2:
    """The CAIP-2 name of an EVM chain, in its one canonical spelling. Raises `InvalidValue` that names ``name``."""
    if not _EVM_CHAIN.fullmatch(text):
        raise InvalidValue(f"{name} {text[:48]!r} is not an EVM chain: its name must read eip155:<chain id>")
    return Caip2(text)


def _hashes(part: SessionReceipts, progress: SessionProgress, charge: ChargedSession) -> list[bytes]:
    """The receipts' struct hashes, once they are exactly those between the last epoch and the charge."""
    if part.first != progress.tree.count:
        raise EpochWrong(f"receipts start here; they must go on at {progress.tree.count}", part.session, part.first)
    end = part.first + len(part.receipts)
    if not part.receipts:
        raise EpochWrong("the session is listed without a receipt", part.session)
    if end < charge.count:
        raise EpochWrong(f"receipts are missing from here to {charge.count - 1}, all charged", part.session, end)
    if end > charge.count:
        raise EpochWrong(f"receipts go on here; only {charge.count} are charged", part.session, charge.count)
    for position, signed in enumerate(part.receipts, part.first):
        if signed.receipt.session != part.session:
            raise EpochWrong(f"the receipt is of session {show(signed.receipt.session)}", part.session, position)
    return [signed.receipt.struct_hash for signed in part.receipts]


def _check_signatures(
    part: SessionReceipts, hashes: list[bytes], keys: Mapping[Address, frozenset[Address]], separator: bytes
) -> None:
    for position, signed, found in zip(_positions(part), part.receipts, hashes, strict=True):
        miner = signed.receipt.miner
        try:
            signer = recover(digest(separator, found), signed.signature)
        except InvalidSignature as error:
            raise EpochWrong(f"the receipt's signature is wrong: {error.message}", part.session, position) from error
        if signer not in keys.get(miner, frozenset()):
            raise EpochWrong(
                f"the receipt's signature is wrong: it is by 0x{signer.hex()}, never a key of miner 0x{miner.hex()}",
                part.session,
                position,
            )


def _advance(progress: SessionProgress, part: SessionReceipts, hashes: list[bytes]) -> SessionProgress:
    tree = progress.tree
    for found in hashes:
        tree = tree.append(found)
    return SessionProgress(tree, Amount(progress.total + sum(signed.receipt.price for signed in part.receipts)))


def _check_charges(
    after: Mapping[SessionId, SessionProgress],
    charged: Mapping[SessionId, ChargedSession],
    spans: Mapping[SessionId, LeafSpan],
) -> None:
    for session in after:
        if session not in charged:
            raise EpochWrong("an earlier epoch has its receipts, but now nothing is charged", session)
    for session, charge in charged.items():
        progress = after.get(session, SessionProgress())
        if progress.tree.count > charge.count:
            raise EpochWrong(
                f"earlier epochs have receipts from here on; only {charge.count} are charged", session, charge.count
            )
        if progress.tree.count < charge.count:
            raise EpochWrong(
                f"receipts are missing from here to {charge.count - 1}, all charged", session, progress.tree.count
            )
        if progress.total != charge.cumulative:
            raise EpochWrong(f"prices sum to {progress.total}; {charge.cumulative} is charged", session)
        # Charges only go up: the same total without a new receipt is the same charge, whose head was checked before.
        if session in spans and progress.tree.root != charge.head:
            raise EpochWrong(
                f"receipts lead to head {show(progress.tree.root)}; {show(charge.head)} is charged", session
            )


def _positions(part: SessionReceipts) -> Iterator[int]:
    return iter(range(part.first, part.first + len(part.receipts)))


def _check_size(document: bytes) -> None:
    if len(document) > MAX_CONTENT_BYTES:
        raise InvalidValue(f"an epoch's content has {len(document)} bytes; it must have at most {MAX_CONTENT_BYTES}")


def _session_from_json(value: Any) -> SessionReceipts:
    fields = codec.Fields("epoch.session", value, _SESSION_FIELDS)
    entries = _list(fields, "epoch.session.receipts", "receipts")
    if not entries:
        raise InvalidValue("epoch.session.receipts must not be empty: sessions without new receipts are left out")
    return SessionReceipts(
        session=SessionId(fields.raw("session", 32)),
        first=fields.number("first"),
        receipts=tuple(_signed_from_json(entry) for entry in entries),
    )


def _signed_from_json(value: Any) -> SignedReceipt:
    fields = codec.Fields("epoch.receipt", value, _SIGNED_FIELDS)
    return SignedReceipt(codec.receipt_from_json(fields.get("receipt")), fields.raw("signature", SIGNATURE_BYTES))


def _list(fields: Any, name: str, field: str) -> list[Any]:
    value = fields.get(field)
    if not isinstance(value, list):
        raise InvalidValue(f"{name} must be a list, not {type(value).__name__}")
    return value
