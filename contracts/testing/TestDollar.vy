# pragma version 0.4.3
# pragma evm-version prague
"""
@title A test stablecoin
@license Apache-2.0
@notice Six decimals, permit (EIP-2612) and transfers by authorization (EIP-3009), like the dollars it stands for; minted
        freely by its deployer. It exists on test networks only.
@dev EIP-3009 is by hand, for snekmate has none. The Python side is `tristrata.protocol.authorization`.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.tokens import erc20
from shared import domain


implements: IERC20
initializes: ownable
initializes: erc20[ownable := ownable]
exports: (
    erc20.allowance,
    erc20.approve,
    erc20.balanceOf,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
    erc20.mint,
    erc20.name,
    erc20.nonces,
    erc20.permit,
    erc20.symbol,
    erc20.totalSupply,
    erc20.transfer,
    erc20.transferFrom,
)


_TRANSFER_TYPE_HASH: constant(bytes32) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_RECEIVE_TYPE_HASH: constant(bytes32) = keccak256(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_CANCEL_TYPE_HASH: constant(bytes32) = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)")


decimals: public(constant(uint8)) = 6


# Whether an authorization was used or cancelled.
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])


event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


@deploy
def __init__():
    """
    @notice The deployer becomes the minter.
    """
    ownable.__init__()
    erc20.__init__("Test Dollar", "tUSD", 6, "Test Dollar", "1")


@external
def transferWithAuthorization(
    owner: address,
    to: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice Transfer what `owner` signed (`TransferWithAuthorization`). Anyone may carry it.
    @param valid_after Timestamp after which it can be used.
    @param valid_before Timestamp before which it can be used.
    @param nonce Any 32 bytes that `owner` did not use before.
    """
    self._transfer_authorized(_TRANSFER_TYPE_HASH, owner, to, amount, valid_after, valid_before, nonce, v, r, s)


@external
def receiveWithAuthorization(
    owner: address,
    to: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice Transfer what `owner` signed (`ReceiveWithAuthorization`). Only the payee may carry it, so a contract that is
            paid this way knows that nobody made the transfer without it.
    @param valid_after Timestamp after which it can be used.
    @param valid_before Timestamp before which it can be used.
    @param nonce Any 32 bytes that `owner` did not use before.
    """
    if msg.sender != to:
        raw_revert(abi_encode(msg.sender, to, method_id=method_id("NotPayee(address,address)")))
    self._transfer_authorized(_RECEIVE_TYPE_HASH, owner, to, amount, valid_after, valid_before, nonce, v, r, s)


@external
def cancelAuthorization(authorizer: address, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    """
    @notice Make an authorization worthless; `authorizer` signed `CancelAuthorization`. Anyone may carry it.
    """
    self._require_unused(authorizer, nonce)
    self._require_signer(keccak256(abi_encode(_CANCEL_TYPE_HASH, authorizer, nonce)), authorizer, v, r, s)
    self.authorizationState[authorizer][nonce] = True
    log AuthorizationCanceled(authorizer=authorizer, nonce=nonce)


@internal
def _transfer_authorized(
    type_hash: bytes32,
    owner: address,
    to: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @dev A transfer that `owner` signed under one of the two types; both bounds of its time are exclusive (EIP-3009).
    """
    if block.timestamp <= valid_after:
        raw_revert(
            abi_encode(valid_after, block.timestamp, method_id=method_id("AuthorizationNotYetValid(uint256,uint256)"))
        )
    if block.timestamp >= valid_before:
        raw_revert(
            abi_encode(valid_before, block.timestamp, method_id=method_id("AuthorizationExpired(uint256,uint256)"))
        )
    self._require_unused(owner, nonce)
    self._require_signer(
        keccak256(abi_encode(type_hash, owner, to, amount, valid_after, valid_before, nonce)), owner, v, r, s
    )
    self.authorizationState[owner][nonce] = True
    log AuthorizationUsed(authorizer=owner, nonce=nonce)
    erc20._transfer(owner, to, amount)


@internal
@view
def _require_unused(authorizer: address, nonce: bytes32):
    """
    @dev Each authorization serves once.
    """
    if self.authorizationState[authorizer][nonce]:
        raw_revert(abi_encode(authorizer, nonce, method_id=method_id("AuthorizationSpent(address,bytes32)")))


@internal
@view
def _require_signer(struct_hash: bytes32, signer: address, v: uint8, r: bytes32, s: bytes32):
    """
    @dev Reverts unless `signer` signed, under this token's own domain.
    """
    recovered: address = domain._recover(
        erc20.eip712_domain_separator._hash_typed_data_v4(struct_hash), concat(r, s, convert(v, bytes1))
    )
    if recovered == empty(address) or recovered != signer:
        raw_revert(abi_encode(signer, recovered, method_id=method_id("WrongSigner(address,address)")))
