# pragma version 0.4.3
# pragma evm-version prague
"""
@title The token that validators stake
@license Apache-2.0
@notice ERC-20 with permit (EIP-2612). Its deployer is owner and minter, and can hand both on.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.tokens import erc20


implements: IERC20
initializes: ownable
initializes: erc20[ownable := ownable]
exports: (
    erc20.allowance,
    erc20.approve,
    erc20.balanceOf,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
    erc20.is_minter,
    erc20.mint,
    erc20.name,
    erc20.nonces,
    erc20.owner,
    erc20.permit,
    erc20.set_minter,
    erc20.symbol,
    erc20.totalSupply,
    erc20.transfer,
    erc20.transferFrom,
    erc20.transfer_ownership,
)


decimals: public(constant(uint8)) = 18


@deploy
def __init__():
    """
    @notice The deployer becomes owner and minter.
    """
    ownable.__init__()
    erc20.__init__("Tristrata Stake", "TRIS", 18, "Tristrata Stake", "1")
