# pragma version 0.4.3
# pragma evm-version prague
"""
@title A wallet that is a contract
@license Apache-2.0
@notice Some keys own it together. It signs (ERC-1271) where all of them did, one signature after the other, and each may
        have it call. For tests: it stands for Safe and for ERC-4337 accounts.
"""

from shared import domain


_MAX_OWNERS: constant(uint256) = 4
_SIGNATURE_BYTES: constant(uint256) = 65
_VALID: constant(bytes4) = 0x1626BA7E
_INVALID: constant(bytes4) = 0xFFFFFFFF


owners: public(DynArray[address, _MAX_OWNERS])


@deploy
def __init__(owners: DynArray[address, _MAX_OWNERS]):
    """
    @param owners Whose keys own it; 1 to 4.
    """
    self.owners = owners


@external
@payable
def execute(target: address, data: Bytes[4096]) -> Bytes[1024]:
    """
    @notice Call a contract in the wallet's name, with the value sent along. An owner's alone.
    @return What that contract returned.
    """
    if msg.sender not in self.owners:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotOwner(address)")))
    return raw_call(target, data, max_outsize=1024, value=msg.value)


@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[1024]) -> bytes4:
    """
    @notice The magic value of ERC-1271 where `signature` is that of every owner, in their order.
    """
    if len(self.owners) == 0 or len(signature) != _SIGNATURE_BYTES * len(self.owners):
        return _INVALID
    at: uint256 = 0
    for owner: address in self.owners:
        if domain._recover(digest, slice(signature, at, _SIGNATURE_BYTES)) != owner:
            return _INVALID
        at += _SIGNATURE_BYTES
    return _VALID
