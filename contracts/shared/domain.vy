# pragma version 0.4.3
# pragma evm-version prague
"""
@title EIP-712 domain of one Tristrata contract on one chain
@license Apache-2.0
@notice Name "Tristrata", version "1", and the chain's 32-byte reference as salt, so that a signature names the one
        contract on the one chain it is meant for, even where two custom chains chose the same chain id.
@dev Written by hand because snekmate's `eip712_domain_separator` has no salt.
     The Python side is `tristrata.protocol.signing`.
"""

_DOMAIN_TYPE_HASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)
_NAME_HASH: constant(bytes32) = keccak256("Tristrata")
_VERSION_HASH: constant(bytes32) = keccak256("1")
# Half the order of secp256k1: of the two s values that a signature can have, only the lower is accepted (EIP-2).
_HALF_ORDER: constant(uint256) = 57_896_044_618_658_097_711_785_492_504_343_953_926_418_782_139_537_452_191_302_581_570_759_080_747_168


chain_ref: public(immutable(bytes32))
_SEPARATOR: immutable(bytes32)
_CHAIN_ID: immutable(uint256)


@deploy
def __init__(chain_ref_: bytes32):
    """
    @param chain_ref_ The 32-byte reference of this chain.
    """
    chain_ref = chain_ref_
    _CHAIN_ID = chain.id
    _SEPARATOR = keccak256(
        abi_encode(_DOMAIN_TYPE_HASH, _NAME_HASH, _VERSION_HASH, chain.id, self, chain_ref_)
    )


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    """
    @dev What a signer signs: `keccak256(0x1901 || separator || struct_hash)`. After a fork that changed the chain
         id, the old separator is not used.
    """
    separator: bytes32 = _SEPARATOR
    if chain.id != _CHAIN_ID:
        separator = keccak256(
            abi_encode(_DOMAIN_TYPE_HASH, _NAME_HASH, _VERSION_HASH, chain.id, self, chain_ref)
        )
    return keccak256(concat(x"1901", separator, struct_hash))


@internal
@view
def _require_signer(struct_hash: bytes32, signature: Bytes[65], signer: address):
    """
    @dev Reverts with `WrongSigner` unless `signer` signed.
    """
    recovered: address = self._recover(self._digest(struct_hash), signature)
    if recovered == empty(address) or recovered != signer:
        raw_revert(abi_encode(signer, recovered, method_id=method_id("WrongSigner(address,address)")))


@internal
@pure
def _recover(digest: bytes32, signature: Bytes[65]) -> address:
    """
    @dev Who signed `digest`; the zero address for a signature that is malformed or malleable (high s). By hand,
         because snekmate's `ecdsa` reverts with strings where we name the error.
    """
    if len(signature) != 65:
        return empty(address)
    s: uint256 = extract32(signature, 32, output_type=uint256)
    if s > _HALF_ORDER:
        return empty(address)
    return ecrecover(
        digest, convert(slice(signature, 64, 1), uint8), extract32(signature, 0, output_type=uint256), s
    )


@internal
@pure
def _recover_compact(digest: bytes32, r: bytes32, vs: bytes32) -> address:
    """
    @dev Who signed `digest` with a signature of two words: `vs` is s with v - 27 in its highest bit (EIP-2098).
    """
    s: uint256 = convert(vs, uint256) & (2**255 - 1)
    if s > _HALF_ORDER:
        return empty(address)
    return ecrecover(digest, convert(27 + (convert(vs, uint256) >> 255), uint8), convert(r, uint256), s)
