"""A receipt: what a miner states, under its signature, about one answer."""

import struct
from enum import IntEnum

import msgspec

from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ModelId, RequestId, SessionId
from tristrata.protocol.units import Amount, Milliseconds

RECEIPT_TYPE = (
    "Receipt(bytes32 session,bytes32 request_id,address miner,bytes32 model_id,bytes32 prompt_hash,"
    "bytes32 output_hash,uint64 prompt_tokens,uint64 output_tokens,uint96 price,uint64 started_at,"
    "uint64 finished_at,uint8 assurance,bytes32 evidence)"
)
_TYPE_HASH = keccak(RECEIPT_TYPE.encode())
# One pack instead of fourteen joins: an epoch hashes a million receipts.
_WORDS = struct.Struct(">32s32s32s12x20s32s32s32s24xQ24xQ20x12s24xQ24xQ31xB32s")


class Assurance(IntEnum):
    """How an answer is checked; the buyer chooses, the receipt names it."""

    NONE = 0
    SAMPLED = 1
    QUORUM = 2
    TEE = 3


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """One answer: who gave it, to which request of which session, what it cost.

    ``prompt_hash`` and ``output_hash`` are salted (`salted_hash`), so a receipt leaks nothing; the salts stay with
    the client. ``price`` is what the session pays in all; the router's share is a part of it. Times are Unix
    milliseconds by the miner's clock. ``evidence`` is the digest of whatever the assurance asks for, else zero.
    """

    session: SessionId
    request_id: RequestId
    miner: Address
    model_id: ModelId
    prompt_hash: bytes
    output_hash: bytes
    prompt_tokens: int
    output_tokens: int
    price: Amount
    started_at: Milliseconds
    finished_at: Milliseconds
    assurance: Assurance
    evidence: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the receipt: what is signed, and its leaf in the session's receipt tree."""
        price = self.price.to_bytes(12, "big")
        return keccak(
            _WORDS.pack(
                _TYPE_HASH,
                self.session,
                self.request_id,
                self.miner,
                self.model_id,
                self.prompt_hash,
                self.output_hash,
                self.prompt_tokens,
                self.output_tokens,
                price,
                self.started_at,
                self.finished_at,
                self.assurance,
                self.evidence,
            )
        )


def salted_hash(salt: bytes, text: str) -> bytes:
    """``keccak(salt ‖ UTF-8 text)``: commits to a prompt or an answer without showing it."""
    return keccak(salt + text.encode())


def most_output_tokens(text: str) -> int:
    """The most tokens that an answer may be billed for: a token is a byte or more, and one ends the answer unseen."""
    return len(text.encode()) + 1
