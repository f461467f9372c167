"""What owners, session keys and payees order by signature, so that anyone may carry it to the chain."""

import msgspec

from tristrata.protocol.hashing import address_word, keccak, word
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.units import Amount, Timestamp

TOP_UP_TYPE = "TopUp(bytes32 session,address payer,uint96 amount,bytes32 salt,uint256 deadline)"
REQUEST_CLOSE_TYPE = "RequestClose(bytes32 session,address sender,uint256 deadline)"
REPLACE_KEY_TYPE = "ReplaceKey(bytes32 session,address old_key,address new_key,uint256 deadline)"
CLAIM_TO_TYPE = "ClaimTo(address payee,address recipient,uint256 claimed,uint256 deadline)"
_TOP_UP_TYPE_HASH = keccak(TOP_UP_TYPE.encode())
_REQUEST_CLOSE_TYPE_HASH = keccak(REQUEST_CLOSE_TYPE.encode())
_REPLACE_KEY_TYPE_HASH = keccak(REPLACE_KEY_TYPE.encode())
_CLAIM_TO_TYPE_HASH = keccak(CLAIM_TO_TYPE.encode())


class TopUp(msgspec.Struct, frozen=True):
    """More deposit (base units) for a session; its digest for ``Sessions`` is an EIP-3009 authorization's nonce."""

    session: SessionId
    payer: Address
    amount: Amount
    salt: bytes
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the order."""
        return keccak(
            b"".join(
                (
                    _TOP_UP_TYPE_HASH,
                    self.session,
                    address_word(self.payer),
                    word(self.amount),
                    self.salt,
                    word(self.deadline),
                )
            )
        )


class RequestClose(msgspec.Struct, frozen=True):
    """A party to a session (its owner, key or router) wants it closed after the grace period."""

    session: SessionId
    sender: Address
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the order."""
        return keccak(_REQUEST_CLOSE_TYPE_HASH + self.session + address_word(self.sender) + word(self.deadline))


class ReplaceKey(msgspec.Struct, frozen=True):
    """The owner wants another session key; the old one's vouchers stay good for the grace period."""

    session: SessionId
    old_key: Address
    new_key: Address
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the order."""
        return keccak(
            b"".join(
                (
                    _REPLACE_KEY_TYPE_HASH,
                    self.session,
                    address_word(self.old_key),
                    address_word(self.new_key),
                    word(self.deadline),
                )
            )
        )


class ClaimTo(msgspec.Struct, frozen=True):
    """A payee wants what is due to it paid to another account. ``claimed`` (base units) is what it was paid before."""

    payee: Address
    recipient: Address
    claimed: Amount
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the order."""
        return keccak(
            b"".join(
                (
                    _CLAIM_TO_TYPE_HASH,
                    address_word(self.payee),
                    address_word(self.recipient),
                    word(self.claimed),
                    word(self.deadline),
                )
            )
        )
