# pragma version 0.4.3
# pragma evm-version prague
"""
@title Welcome Center
@license Apache-2.0
@notice Registers users and miners by signature; whoever carries the signature here, a sponsor, pays the gas. From here
        a registration travels to the hubs.
"""

from snekmate.utils import signature_checker
from shared import domain


initializes: domain
exports: domain.chain_ref


_REGISTRATION_TYPE_HASH: constant(bytes32) = keccak256("Registration(address account,uint8 role,uint256 deadline)")
_USER: constant(uint8) = 1
_MINER: constant(uint8) = 2


# The roles of an account, each a bit of its own: 1 for a user, 2 for a miner.
roles: public(HashMap[address, uint8])


event Registered:
    account: indexed(address)
    role: indexed(uint8)
    sponsor: indexed(address)


@deploy
def __init__(chain_ref: bytes32):
    """
    @param chain_ref The 32-byte reference of this chain.
    """
    domain.__init__(chain_ref)


@external
def register(account: address, role: uint8, deadline: uint256, signature: Bytes[65]):
    """
    @notice Register `account`, which signed `Registration`. Anyone may carry it.
    @param role 1 for a user, 2 for a miner.
    @param deadline Timestamp after which the signature is worth nothing.
    @param signature The account's; a contract account answers by ERC-1271.
    """
    if block.timestamp > deadline:
        raw_revert(abi_encode(deadline, block.timestamp, method_id=method_id("SignatureExpired(uint256,uint256)")))
    if role != _USER and role != _MINER:
        raw_revert(abi_encode(role, method_id=method_id("RoleUnknown(uint8)")))
    if self.roles[account] & role != 0:
        raw_revert(abi_encode(account, role, method_id=method_id("AlreadyRegistered(address,uint8)")))
    digest: bytes32 = domain._digest(keccak256(abi_encode(_REGISTRATION_TYPE_HASH, account, role, deadline)))
    if account == empty(address) or not signature_checker._is_valid_signature_now(account, digest, signature):
        raw_revert(abi_encode(account, method_id=method_id("NotSignedBy(address)")))
    self.roles[account] |= role
    log Registered(account=account, role=role, sponsor=msg.sender)
