# pragma version 0.4.3
# pragma evm-version prague
"""
@title Validators, their stake, their seats, and what of the stake answers for which chain
@license Apache-2.0
@notice A validator is an account with a stake; another key, its signer, signs for it. An account is a validator once, and a
        key signs for one account for ever, so that no old signature is held against a new stake, and none is free of one.
        There are 32 seats: the smallest gives way to a validator that weighs more. Whoever leaves, on its own wish or not,
        gets its stake after the unbonding period, which is longer than everything that a signature can still do.
@dev Who makes sets of those that have seats, and who takes stake away, is the using contract.
     The Python side is `tristrata.protocol.stake`.
"""

from shared import ownership
from shared import payment


uses: ownership


struct Validator:
    signer: address
    stake: uint96
    pending: uint96
    active_from: uint64
    exit_at: uint64
    allocated: uint96
    seated: bool


struct Partition:
    amount: uint96
    leaving: uint96
    free_at: uint64
    since: uint64


MAX_VALIDATORS: constant(uint256) = 32


token: public(immutable(address))
min_stake: public(immutable(uint96))
activation: public(immutable(uint64))
unbonding: public(immutable(uint64))


_validators: HashMap[address, Validator]
# For whom a key signs, or ever signed.
account_of: public(HashMap[address, address])
# The accounts that have a seat, in no particular order.
_seats: DynArray[address, MAX_VALIDATORS]
_partitions: HashMap[address, HashMap[bytes32, Partition]]
# Chains on which a root or an epoch that was proven false costs the stake allocated to it.
slashable: public(HashMap[bytes32, bool])


event ValidatorRegistered:
    account: indexed(address)
    signer: indexed(address)


event SignerChanged:
    account: indexed(address)
    signer: indexed(address)


event StakeChanged:
    account: indexed(address)
    stake: uint96
    pending: uint96
    active_from: uint64


event ExitRequested:
    account: indexed(address)
    exit_at: uint64


event SeatTaken:
    account: indexed(address)
    displaced: indexed(address)


event PartitionChanged:
    account: indexed(address)
    chain: indexed(bytes32)
    amount: uint96
    leaving: uint96
    free_at: uint64


event SlashableChanged:
    chain: indexed(bytes32)
    slashable: bool


@deploy
def __init__(token_: address, min_stake_: uint96, activation_: uint64, unbonding_: uint64):
    """
    @param token_ The ERC-20 in which validators stake.
    @param min_stake_ The least stake, in base units; more than zero, for a member must weigh something.
    @param activation_ Seconds before new stake weighs anything.
    @param unbonding_ Seconds between asking to leave and getting the stake back.
    """
    if min_stake_ == 0:
        raw_revert(abi_encode(min_stake_, method_id=method_id("ZeroAmount(uint96)")))
    token = token_
    min_stake = min_stake_
    activation = activation_
    unbonding = unbonding_


@external
def set_slashable(ref: bytes32, slashable: bool):
    """
    @notice Change whether proven lies about a chain cost the stake that was allocated to it; an announced change.
    """
    ownership._make(keccak256(abi_encode(ref, slashable, method_id=method_id("set_slashable(bytes32,bool)"))))
    self.slashable[ref] = slashable
    log SlashableChanged(chain=ref, slashable=slashable)


@external
@nonreentrant
def register(signer: address, amount: uint96):
    """
    @notice Become a validator: the stake is pulled from the caller, who has approved it, and may be in a set after the
            activation delay. An account that left comes back as another.
    @param signer Signs for the caller; a key that signs for nobody else, ever.
    @param amount The stake, in base units.
    """
    ownership._require_running()
    if self._validators[msg.sender].signer != empty(address):
        raw_revert(abi_encode(msg.sender, method_id=method_id("AlreadyValidator(address)")))
    if amount < min_stake:
        raw_revert(abi_encode(amount, min_stake, method_id=method_id("StakeTooLow(uint96,uint96)")))
    self._take_signer(signer)
    log ValidatorRegistered(account=msg.sender, signer=signer)
    self._add_pending(amount)


@external
@nonreentrant
def add_stake(amount: uint96):
    """
    @notice Raise the caller's stake. What is added weighs in the sets after the activation delay, which starts anew for all
            that is still waiting for it.
    """
    self._require_active()
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))
    self._add_pending(amount)


@external
def set_signer(signer: address):
    """
    @notice Have another key sign for the caller from the next set on. What the old one signs still counts against the
            caller's stake.
    """
    self._require_active()
    self._take_signer(signer)
    log SignerChanged(account=msg.sender, signer=signer)


@external
def allocate(ref: bytes32, amount: uint96):
    """
    @notice Have a part of the caller's stake answer for a slashable chain: all of it is lost if the caller signed a root or
            an epoch of that chain that is proven false from now on.
    """
    self._require_active()
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))
    if not self.slashable[ref]:
        raw_revert(abi_encode(ref, method_id=method_id("NotSlashable(bytes32)")))
    free: uint96 = self._validators[msg.sender].stake - self._validators[msg.sender].allocated
    if amount > free:
        raw_revert(abi_encode(amount, free, method_id=method_id("AboveFreeStake(uint96,uint96)")))
    self._validators[msg.sender].allocated += amount
    partition: Partition = self._partitions[msg.sender][ref]
    if partition.amount == 0:
        partition.since = convert(block.timestamp, uint64)
    partition.amount += amount
    self._store_partition(msg.sender, ref, partition)


@external
def deallocate(ref: bytes32, amount: uint96):
    """
    @notice Take back a part of what the caller allocated to a chain. It still answers for the chain until the unbonding
            period is over and `release` is called; the period starts anew for all of it that is on its way back.
    """
    partition: Partition = self._partitions[msg.sender][ref]
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))
    if amount > partition.amount - partition.leaving:
        raw_revert(
            abi_encode(amount, partition.amount - partition.leaving, method_id=method_id("AbovePartition(uint96,uint96)"))
        )
    partition.leaving += amount
    partition.free_at = convert(block.timestamp, uint64) + unbonding
    self._store_partition(msg.sender, ref, partition)


@external
def release(ref: bytes32):
    """
    @notice Make free what the caller took back from a chain, after the unbonding period.
    """
    partition: Partition = self._partitions[msg.sender][ref]
    if partition.leaving == 0 or block.timestamp < convert(partition.free_at, uint256):
        raw_revert(
            abi_encode(partition.free_at, block.timestamp, method_id=method_id("ReleaseTooEarly(uint64,uint256)"))
        )
    self._validators[msg.sender].allocated -= partition.leaving
    partition.amount -= partition.leaving
    partition.leaving = 0
    partition.free_at = 0
    self._store_partition(msg.sender, ref, partition)


@external
def request_exit():
    """
    @notice Ask to leave: the caller is in no set from the next one on, and gets its stake after the unbonding period.
    """
    self._require_active()
    self._leave(msg.sender)


@external
@nonreentrant
def withdraw():
    """
    @notice Leave, after the unbonding period: what is left of the stake returns to the caller.
    """
    validator: Validator = self._validators[msg.sender]
    if validator.signer == empty(address):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotValidator(address)")))
    if validator.exit_at == 0 or block.timestamp < convert(validator.exit_at, uint256):
        raw_revert(abi_encode(validator.exit_at, block.timestamp, method_id=method_id("ExitTooEarly(uint64,uint256)")))
    if validator.stake == 0:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NothingAtStake(address)")))
    self._set_stake(msg.sender, 0)
    payment._push(token, msg.sender, validator.stake)


@external
@view
def validator(account: address) -> Validator:
    """
    @notice A validator's record; all empty for an account that never was one. Of `stake`, `pending` weighs nothing before
            `active_from`.
    """
    return self._validators[account]


@external
@view
def seats() -> DynArray[address, MAX_VALIDATORS]:
    """
    @notice The accounts that have a seat.
    """
    return self._seats


@external
@view
def partition(account: address, ref: bytes32) -> Partition:
    """
    @notice What of an account's stake answers for a chain, since when, and how much of it is free from when on.
    """
    return self._partitions[account][ref]


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
@view
def _account_now(signer: address) -> address:
    """
    @dev For whom a key signs now; reverts when that account has asked to leave, or was made to.
    """
    account: address = self._account_of(signer)
    if self._validators[account].signer != signer or self._validators[account].exit_at != 0:
        raw_revert(abi_encode(signer, method_id=method_id("NotValidator(address)")))
    return account


@internal
def _take_signer(signer: address):
    """
    @dev Makes `signer` the caller's, for ever. It may have been the caller's before.
    """
    if signer == empty(address) or self.account_of[signer] not in [empty(address), msg.sender]:
        raw_revert(abi_encode(signer, method_id=method_id("SignerTaken(address)")))
    self.account_of[signer] = msg.sender
    self._validators[msg.sender].signer = signer


@internal
def _add_pending(amount: uint96):
    """
    @dev Pulls `amount` from the caller onto its stake, where it weighs nothing before the activation delay is over.
    """
    validator: Validator = self._validators[msg.sender]
    pending: uint96 = amount
    if block.timestamp < convert(validator.active_from, uint256):
        pending += validator.pending
    self._validators[msg.sender].pending = pending
    self._validators[msg.sender].active_from = convert(block.timestamp, uint64) + activation
    self._set_stake(msg.sender, validator.stake + amount)
    payment._pull(token, msg.sender, self, amount)


@internal
def _set_stake(account: address, stake: uint96):
    """
    @dev Changes a stake. What is pending is never more than all of it.
    """
    validator: Validator = self._validators[account]
    pending: uint96 = min(validator.pending, stake)
    self._validators[account].stake = stake
    self._validators[account].pending = pending
    log StakeChanged(account=account, stake=stake, pending=pending, active_from=validator.active_from)


@internal
@view
def _member(signer: address) -> uint256:
    """
    @dev What an account that stays is in a set of now: `signer << 96 | weight`.
    """
    return convert(signer, uint256) << 96 | convert(self._weight(self._account_now(signer)), uint256)


@internal
@view
def _weight(account: address) -> uint96:
    """
    @dev What an account's stake weighs in a set of now.
    """
    validator: Validator = self._validators[account]
    if block.timestamp < convert(validator.active_from, uint256):
        return validator.stake - validator.pending
    return validator.stake


@internal
def _take_seat(signer: address):
    """
    @dev Gives a seat to the account of `signer`, unless it has one: a free one, or that of the smallest, which must
         weigh less even with all the stake that is not active yet. Of equally small ones the lowest account goes. It leaves
         as if it had asked to.
    """
    account: address = self._account_now(signer)
    if self._validators[account].seated:
        return
    weight: uint96 = self._weight(account)
    if weight == 0:
        raw_revert(
            abi_encode(account, self._validators[account].active_from, method_id=method_id("NotActiveYet(address,uint64)"))
        )
    displaced: address = empty(address)
    if len(self._seats) == MAX_VALIDATORS:
        smallest: uint256 = max_value(uint256)
        for other: address in self._seats:
            smallest = min(
                smallest, convert(self._validators[other].stake, uint256) << 160 | convert(other, uint256)
            )
        if convert(weight, uint256) <= smallest >> 160:
            raw_revert(abi_encode(account, weight, smallest >> 160, method_id=method_id("SetFull(address,uint96,uint256)")))
        displaced = convert(smallest & (2**160 - 1), address)
        self._leave(displaced)
    self._seats.append(account)
    self._validators[account].seated = True
    log SeatTaken(account=account, displaced=displaced)


@internal
def _leave(account: address):
    """
    @dev Starts the unbonding of an account that stays until now, and frees its seat.
    """
    exit_at: uint64 = convert(block.timestamp, uint64) + unbonding
    self._validators[account].exit_at = exit_at
    if self._validators[account].seated:
        self._validators[account].seated = False
        last: address = self._seats.pop()
        if last != account:
            index: uint256 = 0
            for other: address in self._seats:
                if other == account:
                    break
                index += 1
            self._seats[index] = last
    log ExitRequested(account=account, exit_at=exit_at)


@internal
def _forfeit(account: address, amount: uint96):
    """
    @dev Takes `amount` off an account's stake, be it leaving or not, and makes it leave. The tokens stay here; what becomes
         of them is the caller's concern.
    """
    self._set_stake(account, self._validators[account].stake - amount)
    if self._validators[account].exit_at == 0:
        self._leave(account)


@internal
def _empty_partition(account: address, ref: bytes32, proven_at: uint64) -> uint96:
    """
    @dev Takes from a partition all that answers for what was proven at `proven_at`. A partition that is gone cannot come
         back, once its account is leaving: so nobody loses it twice.
    @return How much of the stake that is; 0 for none.
    """
    partition: Partition = self._partitions[account][ref]
    # An equivocation may have taken a part of what is allocated.
    lost: uint96 = min(partition.amount, self._validators[account].stake)
    if lost == 0 or partition.since > proven_at:
        return 0
    self._validators[account].allocated -= partition.amount
    self._store_partition(account, ref, empty(Partition))
    return lost


@internal
def _store_partition(account: address, ref: bytes32, partition: Partition):
    """
    @dev Writes a partition.
    """
    self._partitions[account][ref] = partition
    log PartitionChanged(
        account=account, chain=ref, amount=partition.amount, leaving=partition.leaving, free_at=partition.free_at
    )


@internal
@view
def _account_of(signer: address) -> address:
    """
    @dev For whom a key signs, or ever signed.
    """
    account: address = self.account_of[signer]
    if account == empty(address):
        raw_revert(abi_encode(signer, method_id=method_id("NotValidator(address)")))
    return account
