# pragma version 0.4.3
# pragma evm-version prague
"""
@title Miners, their bonds, keys and offers
@license Apache-2.0
@notice A miner is an account: it is paid there, and it changes only its own record. Its bond answers for it: tasks
        reserve parts of it, penalties burn them, and what is left returns to it after the exit delay. Per model, the
        miners that offer it stand in a sum tree by their free bond, from which the task queue draws.
        States, changes and deadlines: docs/protocol.md, "Miner's bond"; the specification is `tristrata.protocol.bond`.
@dev A miner weighs the same in the trees of all its offers, so a change of its free bond rewrites a path in each: about
     10,000 gas an offer and 24,700 a level (a tree of n places has ceil(log2 n) levels), for at most 8 offers. With one
     offer among 32 that is 0.13 million, with eight among 32 each 1.1 million.
     A token that was sent here by other means than these functions stays for ever.
"""

from ethereum.ercs import IERC20
from shared import domain
from shared import ownership
from shared import payment
from shared import quorum
from shared import sum_tree


initializes: domain
initializes: ownership
initializes: sum_tree
exports: (domain.chain_ref, ownership.__interface__)


interface IOutbox:
    def require_quorum(digest: bytes32, signatures: DynArray[quorum.Signature, _MAX_SIGNATURES]): nonpayable


struct Miner:
    signing_key: address
    nats_key: bytes32
    hpke_key: bytes32
    slots: uint16
    bond: uint96
    exit_at: uint64
    active: bool
    reserved: uint96
    withdrawing: uint96
    withdraw_at: uint64
    jailed_until: uint64
    weight: uint96


struct Offer:
    prompt_price: uint96
    output_price: uint96
    active: bool


struct Capability:
    reference: bytes32
    measured_at: uint64


_JAIL_TYPE_HASH: constant(bytes32) = keccak256("Jail(address miner,uint64 until,uint96 penalty,bytes32 evidence)")
_CAPABILITY_TYPE_HASH: constant(bytes32) = keccak256(
    "Capability(address miner,bytes32 model_id,bytes32 reference,uint64 measured_at)"
)
_MAX_SIGNATURES: constant(uint256) = 32
_MAX_OFFERS: constant(uint256) = 8
_MAX_DRAWN: constant(uint256) = 8
_MAX_JAIL: constant(uint64) = 30 * 86_400
_WHOLE_BPS: constant(uint256) = 10_000
_FIRST_PENALTY_BPS: constant(uint16) = 1_000
_PENALTY_BPS_LIMIT: constant(uint16) = 5_000
# The owner may raise the least bond to this many times what it was at first.
_MIN_BOND_GROWTH: constant(uint256) = 10
# A tree's sums have 88 bits. All bonds together stay below, so that no free bond is ever too much for a tree.
_MAX_BALANCE: constant(uint256) = 2**88 - 1
_ROOT_MASK: constant(uint256) = 2**136 - 1


asset: public(immutable(address))
exit_delay: public(immutable(uint64))
outbox: public(immutable(address))
task_queue: public(immutable(address))
min_bond_limit: public(immutable(uint96))


min_bond: public(uint96)
max_penalty_bps: public(uint16)
_miners: HashMap[address, Miner]
_offers: HashMap[address, HashMap[bytes32, Offer]]
_offered: HashMap[address, DynArray[bytes32, _MAX_OFFERS]]
# A key is its first miner's for ever, so that what it signed is never another's.
_signing_key_owner: HashMap[address, address]
_nats_key_owner: HashMap[bytes32, address]
_used_evidence: HashMap[address, HashMap[bytes32, bool]]
_capabilities: HashMap[address, HashMap[bytes32, Capability]]
# Accounts are numbered from 1; a number is never given again.
_account_count: uint256
_accounts: HashMap[uint256, address]
_numbers: HashMap[address, uint256]
# One word a model: how many places its tree has taken (above 136 bits), and the tree's root.
_trees: HashMap[bytes32, uint256]
# A miner's place in a model's tree, plus 1. It keeps it for ever, so that only new accounts make the tree grow.
_places: HashMap[bytes32, HashMap[address, uint256]]


event MinerRegistered:
    miner: indexed(address)
    signing_key: address
    nats_key: bytes32
    hpke_key: bytes32
    slots: uint16


event Offered:
    miner: indexed(address)
    model_id: indexed(bytes32)
    prompt_price: uint96
    output_price: uint96


event OfferWithdrawn:
    miner: indexed(address)
    model_id: indexed(bytes32)


event SlotsChanged:
    miner: indexed(address)
    slots: uint16


event BondChanged:
    miner: indexed(address)
    bond: uint96


event ReservationChanged:
    miner: indexed(address)
    reserved: uint96


event WithdrawalRequested:
    miner: indexed(address)
    amount: uint96
    withdraw_at: uint64


event Withdrawn:
    miner: indexed(address)
    amount: uint96


event ExitRequested:
    miner: indexed(address)
    exit_at: uint64


event Penalized:
    miner: indexed(address)
    amount: uint96


event Jailed:
    miner: indexed(address)
    until: uint64
    evidence: indexed(bytes32)


event Unjailed:
    miner: indexed(address)


event CapabilityMeasured:
    miner: indexed(address)
    model_id: indexed(bytes32)
    reference: bytes32
    measured_at: uint64


event MinBondChanged:
    min_bond: uint96


event MaxPenaltyChanged:
    max_penalty_bps: uint16


@deploy
def __init__(
    chain_ref: bytes32,
    asset_: address,
    min_bond_: uint96,
    exit_delay_: uint64,
    outbox_: address,
    task_queue_: address,
    change_delay_: uint64,
):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param asset_ The ERC-20 in which bonds are kept.
    @param min_bond_ The least bond, in base units of the asset.
    @param exit_delay_ Seconds between asking for bond back and getting it.
    @param outbox_ Who knows the validator set: its quorum jails and measures.
    @param task_queue_ The only contract that may reserve, release and penalize.
    @param change_delay_ Seconds between announcing a change of the rules and making it.
    """
    domain.__init__(chain_ref)
    ownership.__init__(change_delay_)
    asset = asset_
    exit_delay = exit_delay_
    outbox = outbox_
    task_queue = task_queue_
    min_bond_limit = convert(min(convert(min_bond_, uint256) * _MIN_BOND_GROWTH, _MAX_BALANCE), uint96)
    self.min_bond = min_bond_
    self.max_penalty_bps = _FIRST_PENALTY_BPS
    log MinBondChanged(min_bond=min_bond_)
    log MaxPenaltyChanged(max_penalty_bps=_FIRST_PENALTY_BPS)


@external
@nonreentrant
def register(signing_key: address, nats_key: bytes32, hpke_key: bytes32, slots: uint16, bond: uint96):
    """
    @notice Become a miner: the bond is pulled from the caller, who has approved it. Not while paused.
    @param signing_key Signs receipts.
    @param nats_key Ed25519 public key that opens the fabric.
    @param hpke_key X25519 public key for sealed prompts; zero when there is none.
    @param slots How many tasks at once.
    """
    ownership._require_running()
    if self._miners[msg.sender].active:
        raw_revert(abi_encode(msg.sender, method_id=method_id("AlreadyMiner(address)")))
    self._check_bond(bond)
    self._check_slots(slots)
    self._take_keys(signing_key, nats_key)
    self._take_number()
    self._miners[msg.sender] = Miner(
        signing_key=signing_key,
        nats_key=nats_key,
        hpke_key=hpke_key,
        slots=slots,
        bond=bond,
        exit_at=0,
        active=True,
        reserved=0,
        withdrawing=0,
        withdraw_at=0,
        jailed_until=0,
        weight=bond,
    )
    self._pull(bond)
    log MinerRegistered(
        miner=msg.sender, signing_key=signing_key, nats_key=nats_key, hpke_key=hpke_key, slots=slots
    )
    log BondChanged(miner=msg.sender, bond=bond)


@external
def set_keys(signing_key: address, nats_key: bytes32, hpke_key: bytes32):
    """
    @notice Replace the caller's keys. The old ones name it no more, and stay closed to everybody else.
    """
    self._require_miner(msg.sender)
    self._take_keys(signing_key, nats_key)
    self._miners[msg.sender].signing_key = signing_key
    self._miners[msg.sender].nats_key = nats_key
    self._miners[msg.sender].hpke_key = hpke_key
    log MinerRegistered(
        miner=msg.sender,
        signing_key=signing_key,
        nats_key=nats_key,
        hpke_key=hpke_key,
        slots=self._miners[msg.sender].slots,
    )


@external
def set_slots(slots: uint16):
    """
    @notice Change how many tasks the caller takes at once.
    """
    self._require_miner(msg.sender)
    self._check_slots(slots)
    self._miners[msg.sender].slots = slots
    log SlotsChanged(miner=msg.sender, slots=slots)


@external
def offer(model_id: bytes32, prompt_price: uint96, output_price: uint96):
    """
    @notice Offer a model at these prices, base units per 1,000,000 tokens. Offering again changes the prices. At most
            8 models; not while paused, leaving or jailed, nor with less than the least bond.
    """
    ownership._require_running()
    self._require_staying(msg.sender)
    self._require_not_jailed(msg.sender)
    self._check_bond(self._miners[msg.sender].bond)
    if model_id == empty(bytes32):
        raw_revert(abi_encode(model_id, method_id=method_id("ModelUnknown(bytes32)")))
    self._refresh(msg.sender)
    if not self._offers[msg.sender][model_id].active:
        self._add_offer(model_id)
    self._offers[msg.sender][model_id] = Offer(prompt_price=prompt_price, output_price=output_price, active=True)
    log Offered(miner=msg.sender, model_id=model_id, prompt_price=prompt_price, output_price=output_price)


@external
def withdraw_offer(model_id: bytes32):
    """
    @notice Offer a model no longer.
    """
    if not self._offers[msg.sender][model_id].active:
        raw_revert(abi_encode(msg.sender, model_id, method_id=method_id("NotOffered(address,bytes32)")))
    if self._miners[msg.sender].weight != 0:
        self._weigh(model_id, msg.sender, 0)
    self._remove_offer(model_id)
    self._offers[msg.sender][model_id] = empty(Offer)
    self._refresh(msg.sender)
    log OfferWithdrawn(miner=msg.sender, model_id=model_id)


@external
@nonreentrant
def add_bond(amount: uint96):
    """
    @notice Raise the caller's bond.
    """
    self._require_miner(msg.sender)
    self._check_amount(amount)
    self._miners[msg.sender].bond += amount
    self._refresh(msg.sender)
    self._pull(amount)
    log BondChanged(miner=msg.sender, bond=self._miners[msg.sender].bond)


@external
def remove_bond(amount: uint96):
    """
    @notice Ask for a part of the bond back. It answers for no new task from now on, can be penalized still, and is
            paid by `withdraw_bond` after the exit delay. What stays free must be the least bond at least.
    """
    self._require_staying(msg.sender)
    self._check_amount(amount)
    if self._miners[msg.sender].withdrawing != 0:
        raw_revert(
            abi_encode(self._miners[msg.sender].withdraw_at, method_id=method_id("AlreadyWithdrawing(uint64)"))
        )
    free: uint96 = self._free_bond(msg.sender)
    min_bond: uint96 = self.min_bond
    if convert(free, uint256) < convert(amount, uint256) + convert(min_bond, uint256):
        raw_revert(
            abi_encode(amount, free, min_bond, method_id=method_id("BondNeeded(uint96,uint96,uint96)"))
        )
    withdraw_at: uint64 = convert(block.timestamp, uint64) + exit_delay
    self._miners[msg.sender].bond -= amount
    self._miners[msg.sender].withdrawing = amount
    self._miners[msg.sender].withdraw_at = withdraw_at
    self._refresh(msg.sender)
    log WithdrawalRequested(miner=msg.sender, amount=amount, withdraw_at=withdraw_at)
    log BondChanged(miner=msg.sender, bond=self._miners[msg.sender].bond)


@external
@nonreentrant
def withdraw_bond():
    """
    @notice Get what the caller asked back with `remove_bond`, less what penalties took of it. Not while jailed.
    """
    self._require_miner(msg.sender)
    self._require_not_jailed(msg.sender)
    withdraw_at: uint64 = self._miners[msg.sender].withdraw_at
    if withdraw_at == 0 or block.timestamp < convert(withdraw_at, uint256):
        raw_revert(
            abi_encode(withdraw_at, block.timestamp, method_id=method_id("WithdrawalTooEarly(uint64,uint256)"))
        )
    amount: uint96 = self._miners[msg.sender].withdrawing
    self._miners[msg.sender].withdrawing = 0
    self._miners[msg.sender].withdraw_at = 0
    self._refresh(msg.sender)
    log Withdrawn(miner=msg.sender, amount=amount)
    payment._push(asset, msg.sender, amount)


@external
def request_exit():
    """
    @notice Ask to leave: the caller takes no more tasks, and gets its bond after the exit delay.
    """
    self._require_staying(msg.sender)
    exit_at: uint64 = convert(block.timestamp, uint64) + exit_delay
    self._miners[msg.sender].exit_at = exit_at
    self._refresh(msg.sender)
    log ExitRequested(miner=msg.sender, exit_at=exit_at)


@external
@nonreentrant
def exit():
    """
    @notice Leave, after the exit delay, when no task has bond reserved, and not while jailed: all of the bond returns
            to the caller, and its offers end.
    """
    self._require_miner(msg.sender)
    self._require_not_jailed(msg.sender)
    exit_at: uint64 = self._miners[msg.sender].exit_at
    if exit_at == 0 or block.timestamp < convert(exit_at, uint256):
        raw_revert(abi_encode(exit_at, block.timestamp, method_id=method_id("ExitTooEarly(uint64,uint256)")))
    reserved: uint96 = self._miners[msg.sender].reserved
    if reserved != 0:
        raw_revert(abi_encode(msg.sender, reserved, method_id=method_id("BondReserved(address,uint96)")))
    amount: uint96 = self._miners[msg.sender].bond + self._miners[msg.sender].withdrawing
    # Its weight is 0 in every tree since it asked to leave.
    for model_id: bytes32 in self._offered[msg.sender]:
        self._offers[msg.sender][model_id] = empty(Offer)
        log OfferWithdrawn(miner=msg.sender, model_id=model_id)
    self._offered[msg.sender] = []
    self._miners[msg.sender] = empty(Miner)
    log BondChanged(miner=msg.sender, bond=0)
    log Withdrawn(miner=msg.sender, amount=amount)
    payment._push(asset, msg.sender, amount)


@external
def reserve(account: address, amount: uint96) -> bool:
    """
    @notice Have a miner's free bond answer for a task. The task queue's alone.
    @return False, and nothing is changed, when the miner has not so much free, has less than the least bond, is jailed,
            leaving, or is none.
    """
    self._require_task_queue()
    if not self._may_work(account) or self._free_bond(account) < amount:
        return False
    self._set_reserved(account, self._miners[account].reserved + amount)
    return True


@external
def release(account: address, amount: uint96):
    """
    @notice Free bond that was reserved. The task queue's alone.
    """
    self._require_task_queue()
    reserved: uint96 = self._miners[account].reserved
    if amount > reserved:
        raw_revert(
            abi_encode(account, amount, reserved, method_id=method_id("NotReserved(address,uint96,uint96)"))
        )
    self._set_reserved(account, reserved - amount)


@external
@nonreentrant
def penalize(account: address, amount: uint96, jail_seconds: uint64):
    """
    @notice Burn a miner's bond, as far as there is any, and jail it for so long, 30 days at most. Nothing is released,
            and nothing happens to an account that is no miner. The task queue's alone.
    """
    self._require_task_queue()
    if not self._miners[account].active:
        return
    if jail_seconds != 0:
        until: uint64 = convert(block.timestamp, uint64) + min(jail_seconds, _MAX_JAIL)
        self._jail(account, until, empty(bytes32))
    self._penalize(account, amount)


@external
@nonreentrant
def jail(
    account: address,
    until: uint64,
    penalty: uint96,
    evidence: bytes32,
    signatures: DynArray[quorum.Signature, _MAX_SIGNATURES],
):
    """
    @notice Shut a miner out of offers, draws and withdrawals until a time, and burn a part of its bond: what a quorum
            of validators signed (`Jail`). Open to anyone; the signatures are worth nothing after `until`.
    @param until Timestamp, 30 days ahead at most. A longer jail stays as it is.
    @param penalty Base units; of more than `max_penalty_bps` of the bond only that is taken.
    @param evidence The hash of what it is jailed for; each serves once against a miner.
    """
    self._require_miner(account)
    now: uint64 = convert(block.timestamp, uint64)
    if until <= now or until > now + _MAX_JAIL:
        raw_revert(abi_encode(until, now, now + _MAX_JAIL, method_id=method_id("JailOutOfRange(uint64,uint64,uint64)")))
    if self._used_evidence[account][evidence]:
        raw_revert(abi_encode(account, evidence, method_id=method_id("EvidenceUsed(address,bytes32)")))
    self._require_quorum(keccak256(abi_encode(_JAIL_TYPE_HASH, account, until, penalty, evidence)), signatures)
    self._used_evidence[account][evidence] = True
    self._jail(account, until, evidence)
    held: uint256 = convert(self._miners[account].bond, uint256) + convert(self._miners[account].withdrawing, uint256)
    most: uint256 = held * convert(self.max_penalty_bps, uint256) // _WHOLE_BPS
    self._penalize(account, min(penalty, convert(most, uint96)))


@external
def unjail(account: address):
    """
    @notice Put a miner whose jail is over back into the trees of its models. Open to anyone. Any change of its bond
            or offers does it too.
    """
    self._require_miner(account)
    if self._miners[account].jailed_until == 0:
        raw_revert(abi_encode(account, method_id=method_id("NotJailed(address)")))
    self._require_not_jailed(account)
    self._miners[account].jailed_until = 0
    self._refresh(account)
    log Unjailed(miner=account)


@external
def set_capability(
    account: address,
    model_id: bytes32,
    reference: bytes32,
    measured_at: uint64,
    signatures: DynArray[quorum.Signature, _MAX_SIGNATURES],
):
    """
    @notice Record what validators measured of a miner with a model, signed by their quorum (`Capability`). Open to
            anyone.
    @param reference The content id of the probe.
    @param measured_at Timestamp, not in the future; only a newer measurement replaces an older one.
    """
    self._require_miner(account)
    last: uint64 = self._capabilities[account][model_id].measured_at
    now: uint64 = convert(block.timestamp, uint64)
    if measured_at <= last or measured_at > now:
        raw_revert(
            abi_encode(measured_at, last, now, method_id=method_id("MeasurementOutOfRange(uint64,uint64,uint64)"))
        )
    self._require_quorum(
        keccak256(abi_encode(_CAPABILITY_TYPE_HASH, account, model_id, reference, measured_at)), signatures
    )
    self._capabilities[account][model_id] = Capability(reference=reference, measured_at=measured_at)
    log CapabilityMeasured(miner=account, model_id=model_id, reference=reference, measured_at=measured_at)


@external
def set_min_bond(min_bond: uint96):
    """
    @notice Change the least bond, from 1 up to ten times what it was at first. An announced change; a miner that has
            less gets no new task until it raises its bond, and its weight follows with the next change of its own.
    """
    if min_bond == 0 or min_bond > min_bond_limit:
        raw_revert(abi_encode(min_bond, min_bond_limit, method_id=method_id("MinBondOutOfRange(uint96,uint96)")))
    ownership._make(keccak256(abi_encode(min_bond, method_id=method_id("set_min_bond(uint96)"))))
    self.min_bond = min_bond
    log MinBondChanged(min_bond=min_bond)


@external
def set_max_penalty_bps(max_penalty_bps: uint16):
    """
    @notice Change how much of a bond one jailing may burn, in hundredths of a percent, up to half. An announced
            change.
    """
    if max_penalty_bps > _PENALTY_BPS_LIMIT:
        raw_revert(
            abi_encode(max_penalty_bps, _PENALTY_BPS_LIMIT, method_id=method_id("MaxPenaltyTooHigh(uint16,uint16)"))
        )
    ownership._make(keccak256(abi_encode(max_penalty_bps, method_id=method_id("set_max_penalty_bps(uint16)"))))
    self.max_penalty_bps = max_penalty_bps
    log MaxPenaltyChanged(max_penalty_bps=max_penalty_bps)


@external
@view
def snapshot(model_id: bytes32) -> uint256:
    """
    @notice The tree of those who offer a model as it is now; 0 if none of them has free bond. It can be drawn from
            for ever, whatever changes later.
    """
    root: uint256 = self._trees[model_id] & _ROOT_MASK
    if sum_tree._total(root) == 0:
        return 0
    return root


@external
@view
def weight_of(root: uint256) -> uint256:
    """
    @notice The sum of the free bonds in a snapshot.
    """
    return sum_tree._total(root)


@external
@view
def draw(root: uint256, randomness: bytes32, count: uint256) -> DynArray[address, _MAX_DRAWN]:
    """
    @notice Draw up to `count` (8 at most) different miners from a snapshot, each by its weight among those not drawn
            yet. The same arguments draw the same miners, and the first are the same for every `count`.
    @return The miners in the order drawn; fewer when fewer have weight.
    """
    numbers: DynArray[uint256, _MAX_DRAWN] = sum_tree._draw(root, randomness, count)
    drawn: DynArray[address, _MAX_DRAWN] = []
    for number: uint256 in numbers:
        drawn.append(self._accounts[number])
    return drawn


@external
@view
def miner(account: address) -> Miner:
    """
    @notice A miner's record; all empty for an account that is none.
    """
    return self._miners[account]


@external
@view
def offer_of(account: address, model_id: bytes32) -> Offer:
    """
    @notice A miner's offer for a model.
    """
    return self._offers[account][model_id]


@external
@view
def offers_of(account: address) -> DynArray[bytes32, _MAX_OFFERS]:
    """
    @notice The models that a miner offers, in no particular order.
    """
    return self._offered[account]


@external
@view
def capability_of(account: address, model_id: bytes32) -> Capability:
    """
    @notice What was measured last of a miner with a model, and when; all empty when nothing was.
    """
    return self._capabilities[account][model_id]


@external
@view
def miner_by_signing_key(signing_key: address) -> address:
    """
    @notice The miner that signs with this key now; the zero address if none does. Who signed with it earlier is in the
            `MinerRegistered` events: a key never has two miners.
    """
    account: address = self._signing_key_owner[signing_key]
    if account == empty(address) or self._miners[account].signing_key != signing_key:
        return empty(address)
    return account


@external
@view
def miner_by_nats_key(nats_key: bytes32) -> address:
    """
    @notice The miner that opens the fabric with this key now; the zero address if none does.
    """
    account: address = self._nats_key_owner[nats_key]
    if account == empty(address) or self._miners[account].nats_key != nats_key:
        return empty(address)
    return account


@internal
@view
def _require_miner(account: address):
    """
    @dev Reverts unless the account is a miner.
    """
    if not self._miners[account].active:
        raw_revert(abi_encode(account, method_id=method_id("NotMiner(address)")))


@internal
@view
def _require_staying(account: address):
    """
    @dev Reverts unless the account is a miner that has not asked to leave.
    """
    self._require_miner(account)
    exit_at: uint64 = self._miners[account].exit_at
    if exit_at != 0:
        raw_revert(abi_encode(exit_at, method_id=method_id("AlreadyLeaving(uint64)")))


@internal
@view
def _require_not_jailed(account: address):
    """
    @dev Reverts while the miner is jailed.
    """
    if self._is_jailed(account):
        raw_revert(
            abi_encode(account, self._miners[account].jailed_until, method_id=method_id("InJail(address,uint64)"))
        )


@internal
@view
def _require_task_queue():
    """
    @dev Reverts unless the task queue calls.
    """
    if msg.sender != task_queue:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotTaskQueue(address)")))


@internal
def _require_quorum(struct_hash: bytes32, signatures: DynArray[quorum.Signature, _MAX_SIGNATURES]):
    """
    @dev Reverts, with the outbox's errors, unless a quorum of the current validators signed for this contract. A view
         is called by `extcall` because Vyper has no `staticcall` of a function without result.
    """
    extcall IOutbox(outbox).require_quorum(domain._digest(struct_hash), signatures)


@internal
@pure
def _check_slots(slots: uint16):
    """
    @dev Reverts for none.
    """
    if slots == 0:
        raw_revert(abi_encode(slots, method_id=method_id("ZeroSlots(uint16)")))


@internal
@pure
def _check_amount(amount: uint96):
    """
    @dev Reverts for nothing.
    """
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))


@internal
@view
def _check_bond(bond: uint96):
    """
    @dev Reverts for less than the least bond.
    """
    min_bond: uint96 = self.min_bond
    if bond < min_bond:
        raw_revert(abi_encode(bond, min_bond, method_id=method_id("BondTooLow(uint96,uint96)")))


@internal
@view
def _is_jailed(account: address) -> bool:
    """
    @dev Whether the miner's jail is not over yet.
    """
    return block.timestamp < convert(self._miners[account].jailed_until, uint256)


@internal
@view
def _may_work(account: address) -> bool:
    """
    @dev Whether new tasks may be given to it. Penalties can leave a miner with less than the least bond, and so with
         little to lose: until it raises its bond it gets none.
    """
    return (
        self._miners[account].active
        and self._miners[account].exit_at == 0
        and not self._is_jailed(account)
        and self._miners[account].bond >= self.min_bond
    )


@internal
@view
def _free_bond(account: address) -> uint96:
    """
    @dev The bond that no task has reserved; 0 where a penalty took what was reserved.
    """
    bond: uint96 = self._miners[account].bond
    reserved: uint96 = self._miners[account].reserved
    return bond - reserved if bond > reserved else 0


@internal
def _take_keys(signing_key: address, nats_key: bytes32):
    """
    @dev A key belongs to one miner, so that a receipt or a connection names one.
    """
    signing_key_owner: address = self._signing_key_owner[signing_key]
    if signing_key == empty(address) or signing_key_owner not in [empty(address), msg.sender]:
        raw_revert(abi_encode(signing_key, method_id=method_id("SigningKeyTaken(address)")))
    nats_key_owner: address = self._nats_key_owner[nats_key]
    if nats_key == empty(bytes32) or nats_key_owner not in [empty(address), msg.sender]:
        raw_revert(abi_encode(nats_key, method_id=method_id("NatsKeyTaken(bytes32)")))
    self._signing_key_owner[signing_key] = msg.sender
    self._nats_key_owner[nats_key] = msg.sender


@internal
def _take_number():
    """
    @dev Numbers the caller, unless it has been a miner before.
    """
    if self._numbers[msg.sender] == 0:
        number: uint256 = self._account_count + 1
        self._account_count = number
        self._accounts[number] = msg.sender
        self._numbers[msg.sender] = number


@internal
def _add_offer(model_id: bytes32):
    """
    @dev Puts the caller into the model's tree, at the place it had before if it had one.
    """
    if len(self._offered[msg.sender]) >= _MAX_OFFERS:
        raw_revert(abi_encode(msg.sender, _MAX_OFFERS, method_id=method_id("TooManyOffers(address,uint256)")))
    self._offered[msg.sender].append(model_id)
    if self._places[model_id][msg.sender] == 0:
        tree: uint256 = self._trees[model_id]
        size: uint256 = (tree >> 136) + 1
        self._trees[model_id] = size << 136 | tree & _ROOT_MASK
        self._places[model_id][msg.sender] = size
    self._weigh(model_id, msg.sender, self._miners[msg.sender].weight)


@internal
def _remove_offer(model_id: bytes32):
    """
    @dev Takes the model off the caller's list; the last one takes its position.
    """
    last: bytes32 = self._offered[msg.sender].pop()
    for index: uint256 in range(len(self._offered[msg.sender]), bound=_MAX_OFFERS):
        if self._offered[msg.sender][index] == model_id:
            self._offered[msg.sender][index] = last
            break


@internal
def _set_reserved(account: address, reserved: uint96):
    """
    @dev Changes how much of the bond tasks have reserved.
    """
    self._miners[account].reserved = reserved
    self._refresh(account)
    log ReservationChanged(miner=account, reserved=reserved)


@internal
def _jail(account: address, until: uint64, evidence: bytes32):
    """
    @dev Jails a miner, unless it is jailed for longer.
    """
    if until > self._miners[account].jailed_until:
        self._miners[account].jailed_until = until
    self._refresh(account)
    log Jailed(miner=account, until=self._miners[account].jailed_until, evidence=evidence)


@internal
def _penalize(account: address, amount: uint96):
    """
    @dev Burns so much of a miner's bond, and then of what it is withdrawing, as far as there is any.
    """
    bond: uint96 = self._miners[account].bond
    withdrawing: uint96 = self._miners[account].withdrawing
    from_bond: uint96 = min(amount, bond)
    from_withdrawing: uint96 = min(amount - from_bond, withdrawing)
    self._miners[account].bond = bond - from_bond
    self._miners[account].withdrawing = withdrawing - from_withdrawing
    self._refresh(account)
    log Penalized(miner=account, amount=from_bond + from_withdrawing)
    log BondChanged(miner=account, bond=bond - from_bond)
    payment._push(asset, payment.BURNT, from_bond + from_withdrawing)


@internal
def _refresh(account: address):
    """
    @dev Gives a miner the weight that it should have now in the trees of all its offers.
    """
    weight: uint96 = 0
    if self._may_work(account):
        weight = self._free_bond(account)
    if weight == self._miners[account].weight:
        return
    self._miners[account].weight = weight
    for model_id: bytes32 in self._offered[account]:
        self._weigh(model_id, account, weight)


@internal
def _weigh(model_id: bytes32, account: address, weight: uint96):
    """
    @dev Gives a miner this weight in the tree of a model in which it has a place.
    """
    tree: uint256 = self._trees[model_id]
    root: uint256 = sum_tree._update(
        tree & _ROOT_MASK,
        self._places[model_id][account] - 1,
        self._numbers[account],
        convert(weight, uint256),
    )
    self._trees[model_id] = tree & ~_ROOT_MASK | root


@internal
def _pull(amount: uint96):
    """
    @dev Takes exactly `amount` from the caller.
    """
    held: uint256 = staticcall IERC20(asset).balanceOf(self)
    if held + convert(amount, uint256) > _MAX_BALANCE:
        raw_revert(abi_encode(held, amount, _MAX_BALANCE, method_id=method_id("RegistryFull(uint256,uint96,uint256)")))
    payment._pull(asset, msg.sender, self, amount)
