# pragma version 0.4.3
# pragma evm-version prague
"""
@title Whether an account signed
@license Apache-2.0
@notice An account is a key, a contract (ERC-1271), or a key that delegated to code (EIP-7702).
@dev By hand, because snekmate's `signature_checker` takes 65 bytes only, too few for a wallet with two owners, and asks
     the code of an account before its key.
"""

from shared import domain


# Those of contract accounts are as long as these want them.
MAX_SIGNATURE: constant(uint256) = 1_024
_KEY_BYTES: constant(uint256) = 65
_ERC1271_MAGIC: constant(bytes4) = 0x1626BA7E


@internal
@view
def _require_signed(signer: address, digest: bytes32, deadline: uint256, signature: Bytes[MAX_SIGNATURE]):
    """
    @dev Reverts unless `signer` signed, and the deadline is not over. Its own key is asked first, for an account that
         delegated to code still has one; then the code: where there is none it answers nothing.
    """
    if block.timestamp > deadline:
        raw_revert(abi_encode(deadline, block.timestamp, method_id=method_id("SignatureExpired(uint256,uint256)")))
    signed: bool = False
    if len(signature) == _KEY_BYTES:
        signed = domain._recover(digest, slice(signature, 0, _KEY_BYTES)) == signer
    if not signed:
        answered: bool = False
        answer: Bytes[32] = b""
        answered, answer = raw_call(
            signer,
            abi_encode(digest, signature, method_id=_ERC1271_MAGIC),
            max_outsize=32,
            is_static_call=True,
            revert_on_failure=False,
        )
        signed = answered and len(answer) == 32 and convert(answer, bytes32) == convert(_ERC1271_MAGIC, bytes32)
    # What nobody signed recovers to the zero address.
    if signer == empty(address) or not signed:
        raw_revert(abi_encode(signer, method_id=method_id("NotSignedBy(address)")))
