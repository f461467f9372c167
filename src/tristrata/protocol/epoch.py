"""An epoch from charges and receipts. The settler builds it and every validator rebuilds it, with this same function.

The rules and hashes are those of ``docs/epochs.md``.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from itertools import pairwise
from typing import Any

import msgspec

from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidSignature, InvalidValue, TristrataError
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import Address, Caip2, ChainRef, SessionId, show
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.payouts import Payouts
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.signing import SIGNATURE_BYTES, digest, recover
from tristrata.protocol.standard_tree import StandardTree, receipt_leaf
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import Split

CONTENT_FORMAT = "tristrata.epoch/1"
MAX_CONTENT_BYTES = 2**30
_CHECKED_AT_ONCE = 500
_EVM_CHAIN = re.compile(r"eip155:[1-9][0-9]{0,31}")
_CONTENT_FIELDS = frozenset(("format", "chain", "epoch", "block", "sessions"))
_SESSION_FIELDS = frozenset(("session", "first", "receipts"))
_SIGNED_FIELDS = frozenset(("receipt", "signature"))


class EpochWrong(TristrataError):
    """Receipts that do not account for a charge: ``what`` is wrong, in which ``session``, at which ``position``."""

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
    """What the content store holds of an epoch: the sessions that it accounts for, each with its receipts, by id."""

    chain: Caip2
    epoch: int
    block: int
    sessions: tuple[SessionReceipts, ...]


class SessionProgress(msgspec.Struct, frozen=True):
    """The charge at which an epoch last accounted for a session; as it stands here, none ever did.

    ``tree`` is over all the session's receipts so far, ``total`` the sum of their prices (base units), ``splits`` who
    gets how much of it.
    """

    tree: IncrementalTree = IncrementalTree()
    total: Amount = Amount(0)
    splits: tuple[Split, ...] = ()


class LeafSpan(msgspec.Struct, frozen=True):
    """Where a session's receipts are in the receipts tree: positions ``first`` … are leaves ``leaf`` …"""

    first: int
    count: int
    leaf: int


class EpochResult(msgspec.Struct, frozen=True):
    """An epoch's trees, what it pays, and each session's progress after it.

    ``spans`` finds a session's receipts among the leaves of ``receipts_tree``.
    """

    chain: Caip2
    epoch: int
    block: int
    receipts_tree: StandardTree
    spans: dict[SessionId, LeafSpan]
    payouts: Payouts
    after: dict[SessionId, SessionProgress]

    @property
    def receipts_root(self) -> bytes:
        """The root over the epoch's receipts, 32 bytes."""
        return self.receipts_tree.root

    @property
    def payouts_root(self) -> bytes:
        """The root over what each payee is paid in all, 32 bytes."""
        return self.payouts.root

    def prove_receipt(self, session: SessionId, position: int) -> tuple[bytes, ...]:
        """The path of a receipt to ``receipts_root``. Raises `InvalidValue` when the epoch does not have it."""
        span = self.spans.get(session)
        if span is None or not span.first <= position < span.first + span.count:
            raise InvalidValue(f"epoch {self.epoch} has no receipt at position {position} of session {show(session)}")
        return self.receipts_tree.prove(span.leaf + position - span.first)


def build_epoch(
    chain: Caip2,
    epoch: int,
    block: int,
    before: Mapping[SessionId, SessionProgress],
    charged: Mapping[SessionId, ChargedSession],
    receipts: Sequence[SessionReceipts],
) -> EpochResult:
    """The epoch over ``block`` that accounts for the sessions with ``receipts``, and for no other.

    ``before`` is each session's progress after the last epoch, ``charged`` each one's last charge up to ``block``. A
    charged session without receipts here stays where the last epoch left it. Who signed the receipts is for
    `check_receipts`. Raises `EpochWrong` that names the session, the position and what is wrong there.
    """
    after, hashes = _account(before, charged, receipts)
    spans: dict[SessionId, LeafSpan] = {}
    leaf = 0
    for part in receipts:
        spans[part.session] = LeafSpan(part.first, len(part.receipts), leaf)
        leaf += len(part.receipts)
    return EpochResult(
        chain=chain,
        epoch=epoch,
        block=block,
        receipts_tree=StandardTree(
            receipt_leaf(part.session, position, found)
            for part in receipts
            for position, found in enumerate(hashes[part.session], part.first)
        ),
        spans=spans,
        payouts=payouts_after(after),
        after=after,
    )


def check_receipts(
    receipts: Sequence[SessionReceipts],
    keys: Mapping[Address, frozenset[Address]],
    separator: bytes,
    *,
    threads: int = 1,
) -> None:
    """Raise `EpochWrong` for the first receipt that is not signed by a key of its miner.

    ``keys`` are every signing key that each miner has registered up to the epoch's block, ``separator`` the EIP-712
    domain separator of the hub's ``Settlement``. To recover a signer takes most of the time, and leaves Python free
    meanwhile: ``threads`` keep as many cores busy.
    """
    pieces = [(part, start) for part in receipts for start in range(0, len(part.receipts), _CHECKED_AT_ONCE)]
    with ThreadPoolExecutor(threads) as pool:
        checks = pool.map(lambda piece: _check_signatures(piece[0], piece[1], keys, separator), pieces)
        deque(checks, maxlen=0)  # taken in order, so that the first wrong one is named whatever the threads do


def progress_after(
    before: Mapping[SessionId, SessionProgress],
    charged: Mapping[SessionId, ChargedSession],
    receipts: Sequence[SessionReceipts],
) -> dict[SessionId, SessionProgress]:
    """Each session's progress after an epoch, without its trees. Raises `EpochWrong` as `build_epoch` does."""
    return _account(before, charged, receipts)[0]


def payouts_after(progress: Mapping[SessionId, SessionProgress]) -> Payouts:
    """What an epoch with this progress after it pays."""
    return Payouts({session: each.splits for session, each in progress.items()})


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
    `build_epoch` and `check_receipts` to check.
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


def _account(
    before: Mapping[SessionId, SessionProgress],
    charged: Mapping[SessionId, ChargedSession],
    receipts: Sequence[SessionReceipts],
) -> tuple[dict[SessionId, SessionProgress], dict[SessionId, list[bytes]]]:
    """Progress after these receipts, and their struct hashes by session, once they account for what is charged."""
    for left, right in pairwise(receipts):
        if left.session >= right.session:
            raise EpochWrong("sessions must be in order of their ids, each once", right.session)
    _check_charges_go_on(before, charged)
    after, hashes = dict(before), {}
    for part in receipts:
        charge = charged.get(part.session)
        if charge is None:
            raise EpochWrong("there are receipts, but nothing is charged", part.session)
        progress = after.get(part.session, SessionProgress())
        hashes[part.session] = _hashes(part, progress, charge)
        after[part.session] = _advance(progress, part, hashes[part.session], charge)
    return after, hashes


def _check_charges_go_on(
    before: Mapping[SessionId, SessionProgress], charged: Mapping[SessionId, ChargedSession]
) -> None:
    """Charges only go up, whatever a session's key signs: one below the last epoch's is of an older state."""
    for session, progress in before.items():
        charge = charged.get(session)
        if charge is None:
            raise EpochWrong("an earlier epoch has its receipts, but now nothing is charged", session)
        if charge.count < progress.tree.count:
            raise EpochWrong(
                f"earlier epochs have receipts from here on; only {charge.count} are charged", session, charge.count
            )
        if charge.cumulative < progress.total:
            raise EpochWrong(
                f"earlier epochs account for {progress.total}; only {charge.cumulative} is charged", session
            )


def _hashes(part: SessionReceipts, progress: SessionProgress, charge: ChargedSession) -> list[bytes]:
    """The receipts' struct hashes, once they are exactly those between the last epoch and the charge."""
    if part.first != progress.tree.count:
        raise EpochWrong(f"receipts start here; they must go on at {progress.tree.count}", part.session, part.first)
    end = part.first + len(part.receipts)
    if end < charge.count:
        raise EpochWrong(f"receipts are missing from here to {charge.count - 1}, all charged", part.session, end)
    if end > charge.count:
        raise EpochWrong(f"receipts go on here; only {charge.count} are charged", part.session, charge.count)
    if not part.receipts:
        raise EpochWrong("the session is listed without a receipt", part.session)
    for position, signed in enumerate(part.receipts, part.first):
        if signed.receipt.session != part.session:
            raise EpochWrong(f"the receipt is of session {show(signed.receipt.session)}", part.session, position)
    return [signed.receipt.struct_hash for signed in part.receipts]


def _advance(
    progress: SessionProgress, part: SessionReceipts, hashes: list[bytes], charge: ChargedSession
) -> SessionProgress:
    """The session's progress at ``charge``, once its receipts lead exactly there."""
    tree = progress.tree.extend(hashes)
    total = progress.total + sum(signed.receipt.price for signed in part.receipts)
    if total != charge.cumulative:
        raise EpochWrong(f"prices sum to {total}; {charge.cumulative} is charged", part.session)
    if tree.root != charge.head:
        raise EpochWrong(f"receipts lead to head {show(tree.root)}; {show(charge.head)} is charged", part.session)
    return SessionProgress(tree, Amount(total), charge.splits)


def _check_signatures(
    part: SessionReceipts, start: int, keys: Mapping[Address, frozenset[Address]], separator: bytes
) -> None:
    """Check the part's receipts from index ``start`` on, as many as are checked at once."""
    piece = part.receipts[start : start + _CHECKED_AT_ONCE]
    for position, signed in enumerate(piece, part.first + start):
        miner = signed.receipt.miner
        try:
            signer = recover(digest(separator, signed.receipt.struct_hash), signed.signature)
        except InvalidSignature as error:
            raise EpochWrong(f"the receipt's signature is wrong: {error.message}", part.session, position) from error
        if signer not in keys.get(miner, frozenset()):
            raise EpochWrong(
                f"the receipt's signature is wrong: it is by 0x{signer.hex()}, never a key of miner 0x{miner.hex()}",
                part.session,
                position,
            )


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
