# pragma version 0.4.3
# pragma evm-version prague
"""
@title Tokens in and out, exactly
@license Apache-2.0
@notice Tokens that keep a part of a transfer, or say that it failed, are refused with a named error. Tokens that answer
        nothing are taken at their word, as many old ones do.
"""

from ethereum.ercs import IERC20


# Where penalties and fees go that nobody may have: an address whose key nobody has.
BURNT: constant(address) = 0x000000000000000000000000000000000000dEaD


@internal
def _pull(asset: address, payer: address, receiver: address, amount: uint96):
    """
    @dev Moves exactly `amount` from `payer`, who has approved it, to `receiver`.
    """
    before: uint256 = staticcall IERC20(asset).balanceOf(receiver)
    if not extcall IERC20(asset).transferFrom(payer, receiver, convert(amount, uint256), default_return_value=True):
        raw_revert(abi_encode(asset, payer, amount, method_id=method_id("TransferRefused(address,address,uint96)")))
    self._require_received(asset, receiver, before, amount)


@internal
def _push(asset: address, payee: address, amount: uint96):
    """
    @dev Pays `amount` out of what the calling contract holds; nothing is sent for zero.
    """
    if amount != 0 and not extcall IERC20(asset).transfer(payee, convert(amount, uint256), default_return_value=True):
        raw_revert(abi_encode(asset, payee, amount, method_id=method_id("TransferRefused(address,address,uint96)")))


@internal
@view
def _require_received(asset: address, receiver: address, before: uint256, amount: uint96):
    """
    @dev Reverts unless `receiver`'s balance is exactly `amount` above what it was before.
    """
    received: uint256 = staticcall IERC20(asset).balanceOf(receiver) - before
    if received != convert(amount, uint256):
        raw_revert(abi_encode(amount, received, method_id=method_id("WrongAmountReceived(uint96,uint256)")))
