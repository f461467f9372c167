# pragma version 0.4.3
# pragma evm-version prague
"""
@title Ownership as a contract, for tests
@license Apache-2.0
"""

from shared import ownership


initializes: ownership
exports: ownership.__interface__


number: public(uint256)


@deploy
def __init__(change_delay: uint64):
    """
    @param change_delay Seconds between announcing a change and making it.
    """
    ownership.__init__(change_delay)


@external
def set_number(number: uint256):
    """
    @notice Change the number; an announced change.
    """
    ownership._make(keccak256(abi_encode(number, method_id=method_id("set_number(uint256)"))))
    self.number = number


@external
def set_number_now(number: uint256):
    """
    @notice Change the number at once. The owner's alone.
    """
    ownership._require_owner()
    self.number = number


@external
def enter(number: uint256):
    """
    @notice Begin something new: not while paused.
    """
    ownership._require_running()
    self.number = number
