# pragma version 0.4.3
# pragma evm-version prague
"""
@title A test stablecoin
@license Apache-2.0
@notice Six decimals and permit (EIP-2612), like the dollars it stands for; minted freely by its deployer. It exists on
        test networks only.
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
    erc20.mint,
    erc20.name,
    erc20.nonces,
    erc20.permit,
    erc20.symbol,
    erc20.totalSupply,
    erc20.transfer,
    erc20.transferFrom,
)


decimals: public(constant(uint8)) = 6


@deploy
def __init__():
    """
    @notice The deployer becomes the minter.
    """
    ownable.__init__()
    erc20.__init__("Test Dollar", "tUSD", 6, "Test Dollar", "1")
