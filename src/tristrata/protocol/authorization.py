"""What a token's owner signs for the token itself: permits (EIP-2612) and authorized transfers (EIP-3009).

Both are EIP-712 under the token's own domain, which is not ours: `Asset` holds it.
"""

import msgspec

from tristrata.protocol.hashing import address_word, keccak, word
from tristrata.protocol.ids import Address
from tristrata.protocol.units import Timestamp

ASSET_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
PERMIT_TYPE = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
_AUTHORIZATION_FIELDS = "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
TRANSFER_WITH_AUTHORIZATION_TYPE = "TransferWithAuthorization" + _AUTHORIZATION_FIELDS
RECEIVE_WITH_AUTHORIZATION_TYPE = "ReceiveWithAuthorization" + _AUTHORIZATION_FIELDS
CANCEL_AUTHORIZATION_TYPE = "CancelAuthorization(address authorizer,bytes32 nonce)"
_ASSET_DOMAIN_TYPE_HASH = keccak(ASSET_DOMAIN_TYPE.encode())
_PERMIT_TYPE_HASH = keccak(PERMIT_TYPE.encode())
_TRANSFER_TYPE_HASH = keccak(TRANSFER_WITH_AUTHORIZATION_TYPE.encode())
_RECEIVE_TYPE_HASH = keccak(RECEIVE_WITH_AUTHORIZATION_TYPE.encode())
_CANCEL_TYPE_HASH = keccak(CANCEL_AUTHORIZATION_TYPE.encode())


class Asset(msgspec.Struct, frozen=True):
    """An ERC-20 as its own EIP-712 domain names it. ``name`` and ``version`` are the domain's, read from the token."""

    chain_id: int
    contract: Address
    name: str
    version: str

    @property
    def separator(self) -> bytes:
        """The asset's domain separator, 32 bytes."""
        return keccak(
            _ASSET_DOMAIN_TYPE_HASH
            + keccak(self.name.encode())
            + keccak(self.version.encode())
            + word(self.chain_id)
            + address_word(self.contract)
        )


class Permit(msgspec.Struct, frozen=True):
    """``owner`` allows ``spender`` to take ``value`` base units, until ``deadline``; ``nonce`` is the token's next."""

    owner: Address
    spender: Address
    value: int
    nonce: int
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the permit."""
        return keccak(
            _PERMIT_TYPE_HASH
            + address_word(self.owner)
            + address_word(self.spender)
            + word(self.value)
            + word(self.nonce)
            + word(self.deadline)
        )


class Authorization(msgspec.Struct, frozen=True):
    """``owner`` sends ``value`` base units to ``to``; after ``valid_after``, before ``valid_before``, both exclusive.

    ``nonce`` is any 32 bytes that the owner did not use before. One that is the digest of an order (`terms.Deposit`,
    ``orders.TopUp``) binds the transfer to that order: a contract that computes it takes the tokens for nothing else.
    """

    owner: Address
    to: Address
    value: int
    valid_after: Timestamp
    valid_before: Timestamp
    nonce: bytes

    @property
    def transfer_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of a ``TransferWithAuthorization``, which anyone may carry to the token."""
        return self._struct_hash(_TRANSFER_TYPE_HASH)

    @property
    def receive_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of a ``ReceiveWithAuthorization``, which only ``to`` may carry to the token."""
        return self._struct_hash(_RECEIVE_TYPE_HASH)

    def _struct_hash(self, type_hash: bytes) -> bytes:
        return keccak(
            type_hash
            + address_word(self.owner)
            + address_word(self.to)
            + word(self.value)
            + word(self.valid_after)
            + word(self.valid_before)
            + self.nonce
        )


class Cancellation(msgspec.Struct, frozen=True):
    """``owner`` takes back the authorization with this nonce."""

    owner: Address
    nonce: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the ``CancelAuthorization``."""
        return keccak(_CANCEL_TYPE_HASH + address_word(self.owner) + self.nonce)
