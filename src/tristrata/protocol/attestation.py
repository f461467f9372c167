"""What validators sign about epochs, checkpoints and their own succession, and when enough of them have signed."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from tristrata.protocol.errors import InvalidValue, TristrataError
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import ADDRESS_BYTES, Address, ChainRef
from tristrata.protocol.signing import recover
from tristrata.protocol.units import MAX_AMOUNT, Amount, Timestamp

EPOCH_TYPE = "Epoch(uint64 epoch,uint64 block_number,bytes32 receipts_root,bytes32 payouts_root,bytes32 content)"
CHECKPOINT_TYPE = "Checkpoint(bytes32 chain,uint64 epoch,bytes32 root)"
NEXT_SET_TYPE = "NextSet(uint64 number,bytes32 root,uint256 total,uint64 valid_until)"
MAX_VALIDATORS = 32
WEIGHT_BITS = 96
_EPOCH_TYPE_HASH = keccak(EPOCH_TYPE.encode())
_CHECKPOINT_TYPE_HASH = keccak(CHECKPOINT_TYPE.encode())
_NEXT_SET_TYPE_HASH = keccak(NEXT_SET_TYPE.encode())
_DYNAMIC_ARRAY_OFFSET = word(32)


class QuorumRefused(TristrataError):
    """Signatures that do not speak for the validators."""


class NoQuorum(QuorumRefused):
    """The signers weigh less than two thirds of the set."""


class SetExpired(QuorumRefused):
    """The validator set is not valid any more; it signs nothing."""


class SignersUnsorted(QuorumRefused):
    """The signatures are not in strictly ascending order of their signers, or one signed twice."""


class NotValidator(QuorumRefused):
    """A signer is not a member of the set (or signed something else, which recovers to a stranger)."""


class Epoch(msgspec.Struct, frozen=True):
    """The quorum's word that an epoch's roots follow from the chain up to ``block_number`` and from ``content``.

    Signed for the hub's ``Outbox``. ``content`` is the SHA-256 of the epoch's object in the content store.
    """

    epoch: int
    block_number: int
    receipts_root: bytes
    payouts_root: bytes
    content: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the epoch."""
        return keccak(
            b"".join(
                (
                    _EPOCH_TYPE_HASH,
                    word(self.epoch),
                    word(self.block_number),
                    self.receipts_root,
                    self.payouts_root,
                    self.content,
                )
            )
        )


class Checkpoint(msgspec.Struct, frozen=True):
    """The quorum's word that ``chain`` sealed ``root`` in ``epoch``.

    Signed for the ledger on L1, or, for a parent's children, for the parent's ``Outbox``.
    """

    chain: ChainRef
    epoch: int
    root: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the checkpoint."""
        return keccak(_CHECKPOINT_TYPE_HASH + self.chain + word(self.epoch) + self.root)


class NextSet(msgspec.Struct, frozen=True):
    """The outgoing set's word that a hub goes over to validator set ``number``; also what a super root says of it."""

    number: int
    root: bytes
    total: int
    valid_until: Timestamp

    @property
    def words(self) -> bytes:
        """``abi.encode(number, root, total, valid_until)``."""
        return word(self.number) + self.root + word(self.total) + word(self.valid_until)

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the succession."""
        return keccak(_NEXT_SET_TYPE_HASH + self.words)

    @property
    def leaf(self) -> bytes:
        """Leaf 0 of the ledger's super root."""
        return keccak(self.words)


class Validator(msgspec.Struct, frozen=True, order=True):
    """One member: the account that signs, and its weight (its bond, in base units of the stake token)."""

    signer: Address
    weight: Amount

    @property
    def packed(self) -> int:
        """One word, ``signer << 96 | weight``."""
        return int.from_bytes(self.signer, "big") << WEIGHT_BITS | self.weight


class ValidatorSet(msgspec.Struct, frozen=True):
    """Set ``number``: 1 to 32 members in strictly ascending order of signer, valid until a timestamp (inclusive).

    Raises `InvalidValue` for members that are not so, or of no weight.
    """

    number: int
    members: tuple[Validator, ...]
    valid_until: Timestamp

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= MAX_VALIDATORS:
            raise InvalidValue(f"a validator set has {len(self.members)} members; it must have 1 to {MAX_VALIDATORS}")
        for member in self.members:
            if len(member.signer) != ADDRESS_BYTES or not any(member.signer):
                raise InvalidValue(f"validator 0x{member.signer.hex()} must be an address other than zero")
            if not 1 <= member.weight <= MAX_AMOUNT:
                raise InvalidValue(
                    f"validator 0x{member.signer.hex()} has weight {member.weight}; it must lie between 1 and 2**96 - 1"
                )
        if any(left.signer >= right.signer for left, right in pairwise(self.members)):
            raise InvalidValue("validators must be sorted by signer, each signer once")

    @property
    def packed(self) -> tuple[int, ...]:
        """The members as contracts keep them, a word each."""
        return tuple(member.packed for member in self.members)

    @property
    def root(self) -> bytes:
        """``keccak(abi.encode(uint256[] members))``."""
        words = b"".join(word(packed) for packed in self.packed)
        return keccak(_DYNAMIC_ARRAY_OFFSET + word(len(self.members)) + words)

    @property
    def total(self) -> int:
        """The sum of all weights."""
        return sum(member.weight for member in self.members)

    @property
    def succession(self) -> NextSet:
        """What the outgoing set signs to hand over to this one."""
        return NextSet(self.number, self.root, self.total, self.valid_until)


def make_set(number: int, weights: Mapping[Address, Amount], valid_until: Timestamp) -> ValidatorSet:
    """A set in its one canonical order. Raises `InvalidValue` as `ValidatorSet` does."""
    return ValidatorSet(number, tuple(Validator(signer, weights[signer]) for signer in sorted(weights)), valid_until)


def parse_members(words: Sequence[int]) -> tuple[Validator, ...]:
    """Members from their packed words."""
    return tuple(
        Validator(Address((packed >> WEIGHT_BITS).to_bytes(ADDRESS_BYTES, "big")), Amount(packed & MAX_AMOUNT))
        for packed in words
    )


def check_quorum(validators: ValidatorSet, digest: bytes, signatures: Sequence[bytes], now: Timestamp) -> None:
    """Raise unless members that weigh two thirds of the set or more signed ``digest`` (EIP-712, with its domain).

    Raises `SetExpired`, `NotValidator`, `SignersUnsorted` or `NoQuorum`, and `InvalidSignature` for a malformed one.
    """
    if validators.valid_until < now:
        raise SetExpired(
            f"validator set {validators.number} was valid until {validators.valid_until}; it is {now}",
            remedy="have the outgoing set, or the ledger's super root, hand over to a newer set",
        )
    weights = {member.signer: member.weight for member in validators.members}
    signed, last = 0, b""
    for signature in signatures:
        signer = recover(digest, signature)
        if signer not in weights:
            raise NotValidator(f"signer 0x{signer.hex()} is not a member of validator set {validators.number}")
        if signer <= last:
            raise SignersUnsorted(f"signer 0x{signer.hex()} comes after 0x{last.hex()}; signers must strictly ascend")
        signed, last = signed + weights[signer], signer
    if 3 * signed < 2 * validators.total:
        raise NoQuorum(
            f"{len(signatures)} signers weigh {signed} of {validators.total}; they must weigh two thirds or more"
        )


def order_signatures(digest: bytes, signatures: Iterable[bytes]) -> tuple[bytes, ...]:
    """Signatures of ``digest`` as a quorum needs them: in order of signer, one a signer.

    Raises `InvalidSignature` for a malformed one.
    """
    by_signer = {recover(digest, signature): signature for signature in signatures}
    return tuple(by_signer[signer] for signer in sorted(by_signer))
