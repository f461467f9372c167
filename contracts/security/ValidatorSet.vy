# pragma version 0.4.3
# pragma evm-version prague
"""
@title Validators, their stake, and the numbered sets they form
@license Apache-2.0
@notice A validator is an account with a stake; another key, its signer, signs for it. Anyone may publish the next set: it
        is always all validators that have not asked to leave, each weighing its stake.
"""

from ethereum.ercs import IERC20
from shared import quorum


initializes: quorum
exports: (quorum.current, quorum.member_weight)


struct Validator:
    signer: address
    stake: uint96
    exit_at: uint64


_MAX_VALIDATORS: constant(uint256) = 32


token: public(immutable(address))
min_stake: public(immutable(uint96))
validity: public(immutable(uint64))
unbonding: public(immutable(uint64))


_validators: HashMap[address, Validator]
account_of: public(HashMap[address, address])
# How many have a stake and have not asked to leave.
active_count: public(uint256)


event ValidatorRegistered:
    account: indexed(address)
    signer: indexed(address)


event StakeChanged:
    account: indexed(address)
    stake: uint96


event ExitRequested:
    account: indexed(address)
    exit_at: uint64


event SetPublished:
    number: indexed(uint64)
    root: bytes32
    total: uint256
    valid_until: uint64
    members: DynArray[uint256, _MAX_VALIDATORS]


@deploy
def __init__(token_: address, min_stake_: uint96, validity_: uint64, unbonding_: uint64):
    """
    @param token_ The ERC-20 in which validators stake.
    @param min_stake_ The least stake, in base units; more than zero, for a member must weigh something.
    @param validity_ Seconds for which a published set may sign.
    @param unbonding_ Seconds between asking to leave and getting the stake back; more than `validity_`, so that whoever
                      can still sign still has a stake.
    """
    if min_stake_ == 0:
        raw_revert(abi_encode(min_stake_, method_id=method_id("ZeroAmount(uint96)")))
    if unbonding_ <= validity_:
        raw_revert(abi_encode(unbonding_, validity_, method_id=method_id("UnbondingTooShort(uint64,uint64)")))
    token = token_
    min_stake = min_stake_
    validity = validity_
    unbonding = unbonding_


@external
@nonreentrant
def register(signer: address, amount: uint96):
    """
    @notice Become a validator: the stake is pulled from the caller, who has approved it. The next set includes it.
    @param signer Signs for the caller; a key that signs for nobody else.
    @param amount The stake, in base units.
    """
    if self._validators[msg.sender].signer != empty(address):
        raw_revert(abi_encode(msg.sender, method_id=method_id("AlreadyValidator(address)")))
    if signer == empty(address) or self.account_of[signer] != empty(address):
        raw_revert(abi_encode(signer, method_id=method_id("SignerTaken(address)")))
    if amount < min_stake:
        raw_revert(abi_encode(amount, min_stake, method_id=method_id("StakeTooLow(uint96,uint96)")))
    if self.active_count >= _MAX_VALIDATORS:
        raw_revert(abi_encode(_MAX_VALIDATORS, method_id=method_id("SetFull(uint256)")))
    self.active_count += 1
    self.account_of[signer] = msg.sender
    self._validators[msg.sender] = Validator(signer=signer, stake=amount, exit_at=0)
    self._pull(amount)
    log ValidatorRegistered(account=msg.sender, signer=signer)
    log StakeChanged(account=msg.sender, stake=amount)


@external
@nonreentrant
def add_stake(amount: uint96):
    """
    @notice Raise the caller's stake; it weighs more from the next set on.
    """
    self._require_active()
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))
    self._validators[msg.sender].stake += amount
    self._pull(amount)
    log StakeChanged(account=msg.sender, stake=self._validators[msg.sender].stake)


@external
def request_exit():
    """
    @notice Ask to leave: the caller is in no set from the next one on, and gets its stake after the unbonding period.
    """
    self._require_active()
    exit_at: uint64 = convert(block.timestamp, uint64) + unbonding
    self._validators[msg.sender].exit_at = exit_at
    self.active_count -= 1
    log ExitRequested(account=msg.sender, exit_at=exit_at)


@external
@nonreentrant
def withdraw():
    """
    @notice Leave, after the unbonding period: the stake returns to the caller, its signer becomes free.
    """
    validator: Validator = self._validators[msg.sender]
    if validator.signer == empty(address):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotValidator(address)")))
    if validator.exit_at == 0 or block.timestamp < convert(validator.exit_at, uint256):
        raw_revert(abi_encode(validator.exit_at, block.timestamp, method_id=method_id("ExitTooEarly(uint64,uint256)")))
    self.account_of[validator.signer] = empty(address)
    self._validators[msg.sender] = empty(Validator)
    log StakeChanged(account=msg.sender, stake=0)
    assert extcall IERC20(token).transfer(msg.sender, convert(validator.stake, uint256), default_return_value=True)


@external
def publish(signers: DynArray[address, _MAX_VALIDATORS]):
    """
    @notice Make the next set, of all active validators. Open to anyone.
    @param signers The signers of exactly these, strictly ascending.
    """
    if len(signers) != self.active_count:
        raw_revert(abi_encode(len(signers), self.active_count, method_id=method_id("NotAllActive(uint256,uint256)")))
    members: DynArray[uint256, _MAX_VALIDATORS] = []
    for signer: address in signers:
        validator: Validator = self._validators[self.account_of[signer]]
        if validator.signer == empty(address) or validator.exit_at != 0:
            raw_revert(abi_encode(signer, method_id=method_id("NotValidator(address)")))
        members.append(convert(signer, uint256) << 96 | convert(validator.stake, uint256))
    # They are as many as there are active validators, each active, and each another because the set is ascending.
    published: quorum.Set = quorum._adopt(
        quorum._current().number + 1, convert(block.timestamp, uint64) + validity, members
    )
    log SetPublished(
        number=published.number,
        root=published.root,
        total=published.total,
        valid_until=published.valid_until,
        members=members,
    )


@external
@view
def require_quorum(digest: bytes32, signatures: DynArray[Bytes[65], _MAX_VALIDATORS]) -> quorum.Set:
    """
    @notice Reverts unless a quorum of the current set signed `digest`, in strictly ascending order of signers.
    @param digest What was signed, with the domain of the contract that asks.
    @return The current set.
    """
    quorum._require_quorum(digest, signatures)
    return quorum._current()


@external
@view
def validator(account: address) -> Validator:
    """
    @notice A validator's record; all empty for an account that is none.
    """
    return self._validators[account]


@internal
@view
def _require_active():
    """
    @dev Reverts unless the caller is a validator that has not asked to leave.
    """
    if self._validators[msg.sender].signer == empty(address):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotValidator(address)")))
    if self._validators[msg.sender].exit_at != 0:
        raw_revert(abi_encode(self._validators[msg.sender].exit_at, method_id=method_id("AlreadyLeaving(uint64)")))


@internal
def _pull(amount: uint96):
    """
    @dev Takes exactly `amount` from the caller; a token that keeps a part for itself is refused.
    """
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(
        msg.sender, self, convert(amount, uint256), default_return_value=True
    )
    received: uint256 = staticcall IERC20(token).balanceOf(self) - before
    if received != convert(amount, uint256):
        raw_revert(abi_encode(amount, received, method_id=method_id("WrongAmountReceived(uint96,uint256)")))
