"""A voucher: one signature that pays for every answer so far, acknowledges them, and fixes their order."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import ADDRESS_BYTES, Address, SessionId
from tristrata.protocol.units import MAX_AMOUNT, Amount

VOUCHER_TYPE = "Voucher(bytes32 session,uint64 count,uint96 cumulative,bytes32 head,bytes32 splits)"
MAX_SPLITS = 32
AMOUNT_BITS = 96
_TYPE_HASH = keccak(VOUCHER_TYPE.encode())
_DYNAMIC_ARRAY_OFFSET = word(32)


class Split(msgspec.Struct, frozen=True, order=True, gc=False):
    """What one payee has earned from the session so far."""

    payee: Address
    amount: Amount

    @property
    def packed(self) -> int:
        """One word, ``payee << 96 | amount``: half the calldata of two."""
        return int.from_bytes(self.payee, "big") << AMOUNT_BITS | self.amount


class Voucher(msgspec.Struct, frozen=True, gc=False):
    """The session's state after ``count`` receipts.

    ``cumulative`` is all that was ever owed, in base units; ``head`` the root of the session's receipt tree;
    ``splits`` the `splits_hash` of who gets how much of it.
    """

    session: SessionId
    count: int
    cumulative: Amount
    head: bytes
    splits: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the voucher."""
        return keccak(
            b"".join((_TYPE_HASH, self.session, word(self.count), word(self.cumulative), self.head, self.splits))
        )


class SignedVoucher(msgspec.Struct, frozen=True, gc=False):
    """A voucher with the splits that it commits to: everything needed to charge it."""

    voucher: Voucher
    splits: tuple[Split, ...]
    signature: bytes


def make_splits(earned: Mapping[Address, Amount]) -> tuple[Split, ...]:
    """Splits in their one canonical order, by payee, without zeros. Raises `InvalidValue` as `check_splits` does."""
    splits = tuple(Split(payee, earned[payee]) for payee in sorted(earned) if earned[payee])
    check_splits(splits, Amount(sum(earned.values())))
    return splits


def check_splits(splits: Sequence[Split], cumulative: Amount) -> None:
    """Raise `InvalidValue` unless at most 32 splits, sorted by payee, none of nothing, sum to the total."""
    if len(splits) > MAX_SPLITS:
        raise InvalidValue(f"a voucher has {len(splits)} splits; it must have at most {MAX_SPLITS}")
    for split in splits:
        if len(split.payee) != ADDRESS_BYTES or not any(split.payee):
            raise InvalidValue(f"split payee 0x{split.payee.hex()} must be an address other than zero")
        if not 0 < split.amount <= MAX_AMOUNT:
            raise InvalidValue(f"split amount {split.amount} must lie between 1 and 2**96 - 1")
    if any(left.payee >= right.payee for left, right in pairwise(splits)):
        raise InvalidValue("splits must be sorted by payee, each payee once")
    total = sum(split.amount for split in splits)
    if total != cumulative:
        raise InvalidValue(f"splits sum to {total}; they must sum to the voucher's cumulative amount, {cumulative}")


def splits_hash(splits: Sequence[Split]) -> bytes:
    """``keccak(abi.encode(uint256[] packed splits))``: what a voucher commits to."""
    return keccak(_DYNAMIC_ARRAY_OFFSET + _words(splits))


def charge_tail(count: int, splits: Sequence[Split]) -> int:
    """What the hub keeps of a charge beside its amount: 160 bits of ``keccak(abi.encode(count, packed splits))``."""
    return int.from_bytes(keccak(word(count) + word(64) + _words(splits))[12:], "big")


def parse_splits(words: Sequence[int]) -> tuple[Split, ...]:
    """Splits from their packed words."""
    mask = MAX_AMOUNT
    return tuple(
        Split(Address((packed >> AMOUNT_BITS).to_bytes(ADDRESS_BYTES, "big")), Amount(packed & mask))
        for packed in words
    )


def covers(newer: Sequence[Split], older: Sequence[Split]) -> bool:
    """Whether ``newer`` pays every payee of ``older`` at least as much; of two vouchers, one must cover the other."""
    now = {split.payee: split.amount for split in newer}
    return all(now.get(split.payee, -1) >= split.amount for split in older)


def _words(splits: Sequence[Split]) -> bytes:
    return word(len(splits)) + b"".join(word(split.packed) for split in splits)
