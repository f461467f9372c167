# pragma version 0.4.3
# pragma evm-version prague
"""
@title The numbered sets that validators form, and what they lose for a lie
@license Apache-2.0
@notice Anyone may publish the next set: it is always all validators that have a seat, each weighing its active stake. A
        signature is proof: whoever brings two that contradict each other, or one of a root or an epoch that was proven
        false, has the signer slashed, and gets a part.
        States, changes and deadlines: docs/protocol.md, "Validator's stake" and "Slashing".
@dev How stake comes, goes and takes seats is in `shared/stakes.vy`. The Python side is `tristrata.protocol.stake` and
     `tristrata.protocol.slashing`.
"""

from shared import domain
from shared import ownership
from shared import payment
from shared import quorum
from shared import stakes


initializes: ownership
initializes: quorum
initializes: stakes[ownership := ownership]
exports: (ownership.__interface__, quorum.current, quorum.member_weight, stakes.__interface__)


struct Epoch:
    epoch: uint64
    block_number: uint64
    receipts_root: bytes32
    payouts_root: bytes32
    content: bytes32


struct Checkpoint:
    root: bytes32
    lane: uint8
    timestamp: uint64


interface ICheckpointLedger:
    def attestation_digest(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32: view
    def checkpoint(ref: bytes32, epoch: uint64) -> Checkpoint: view
    def checkpoint_digest(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32: view
    def convicted(ref: bytes32, epoch: uint64) -> bytes32: view
    def outbox_separator_of(ref: bytes32) -> bytes32: view
    def settlement_of(ref: bytes32) -> bytes32: view


_EPOCH_TYPE_HASH: constant(bytes32) = keccak256(
    "Epoch(uint64 epoch,uint64 block_number,bytes32 receipts_root,bytes32 payouts_root,bytes32 content)"
)
_FALSE_EPOCH: constant(uint256) = 1
_WHOLE_BPS: constant(uint256) = 10_000
# Half: a validator that reports itself must lose more than it gets.
_MAX_REWARD_BPS: constant(uint16) = 5_000


# The `CheckpointLedger`, for which checkpoints are signed, and which knows each chain's contracts.
ledger: public(immutable(address))
# Who delivers messages of other chains.
inbox: public(immutable(address))
validity: public(immutable(uint64))


# What an equivocation costs, and the reporter's part of any slash, in hundredths of a percent.
equivocation_bps: public(uint16)
reward_bps: public(uint16)
# By account, chain and epoch: whether an equivocation was punished.
equivocated: public(HashMap[address, HashMap[bytes32, HashMap[uint64, bool]]])
# By chain and the struct hash of an `Epoch`: when its hub proved it false; 0 where it did not.
false_since: public(HashMap[bytes32, HashMap[bytes32, uint64]])


event SetPublished:
    number: indexed(uint64)
    root: bytes32
    total: uint256
    valid_until: uint64
    members: DynArray[uint256, stakes.MAX_VALIDATORS]


event PenaltiesChanged:
    equivocation_bps: uint16
    reward_bps: uint16


event EpochProvenFalse:
    chain: indexed(bytes32)
    epoch_hash: indexed(bytes32)


event Slashed:
    account: indexed(address)
    chain: indexed(bytes32)
    epoch: uint64
    amount: uint96
    reporter: address
    reward: uint96


@deploy
def __init__(
    token_: address,
    ledger_: address,
    inbox_: address,
    min_stake_: uint96,
    validity_: uint64,
    activation_: uint64,
    unbonding_: uint64,
    equivocation_bps_: uint16,
    reward_bps_: uint16,
    change_delay: uint64,
):
    """
    @notice The deployer becomes the owner.
    @param token_ The ERC-20 in which validators stake.
    @param ledger_ The `CheckpointLedger` that this set attests to.
    @param inbox_ Who delivers messages of other chains; zero for nobody.
    @param min_stake_ The least stake, in base units; more than zero, for a member must weigh something.
    @param validity_ Seconds for which a published set may sign.
    @param activation_ Seconds before new stake weighs anything.
    @param unbonding_ Seconds between asking to leave and getting the stake back; more than `validity_`, so that whoever
                      can still sign still has a stake.
    @param equivocation_bps_ What an equivocation costs, in hundredths of a percent of the stake.
    @param reward_bps_ The reporter's part of a slash, in hundredths of a percent; at most half.
    @param change_delay Seconds between announcing a change and making it.
    """
    ownership.__init__(change_delay)
    stakes.__init__(token_, min_stake_, activation_, unbonding_)
    if unbonding_ <= validity_:
        raw_revert(abi_encode(unbonding_, validity_, method_id=method_id("UnbondingTooShort(uint64,uint64)")))
    ledger = ledger_
    inbox = inbox_
    validity = validity_
    self._set_penalties(equivocation_bps_, reward_bps_)


@external
def set_penalties(equivocation_bps: uint16, reward_bps: uint16):
    """
    @notice Change what an equivocation costs, and the reporter's part of any slash; an announced change.
    """
    ownership._make(
        keccak256(abi_encode(equivocation_bps, reward_bps, method_id=method_id("set_penalties(uint16,uint16)")))
    )
    self._set_penalties(equivocation_bps, reward_bps)


@external
def publish(signers: DynArray[address, stakes.MAX_VALIDATORS]):
    """
    @notice Make the next set, of all that have a seat; those among the signers that have none take one first. Open to
            anyone: whoever may have a seat can see to it.
    @param signers The signers of exactly these, strictly ascending.
    """
    for signer: address in signers:
        stakes._take_seat(signer)
    if len(signers) != len(stakes._seats):
        raw_revert(abi_encode(len(signers), len(stakes._seats), method_id=method_id("NotAllSeated(uint256,uint256)")))
    members: DynArray[uint256, stakes.MAX_VALIDATORS] = []
    for signer: address in signers:
        # Reverts for one that had a seat, or took one, and lost it to another since.
        members.append(stakes._member(signer))
    # They are as many as there are seats taken, each has one, and each is another because the set is ascending.
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
def on_message(source_chain: bytes32, source_sender: bytes32, payload: Bytes[1024]):
    """
    @notice A message of another chain: its `Settlement` proved false an `Epoch` that validators signed for its `Outbox`.
    @param payload `abi.encode(uint8 kind, bytes32 epoch_hash)`, kind 1; the EIP-712 struct hash of the `Epoch`.
    """
    if msg.sender != inbox:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotInbox(address)")))
    if (
        source_sender == empty(bytes32)
        or source_sender != staticcall ICheckpointLedger(ledger).settlement_of(source_chain)
    ):
        raw_revert(abi_encode(source_chain, source_sender, method_id=method_id("UnknownSource(bytes32,bytes32)")))
    if len(payload) != 64 or extract32(payload, 0, output_type=uint256) != _FALSE_EPOCH:
        raw_revert(abi_encode(keccak256(payload), method_id=method_id("MessageUnknown(bytes32)")))
    epoch_hash: bytes32 = extract32(payload, 32)
    if self.false_since[source_chain][epoch_hash] == 0:
        self.false_since[source_chain][epoch_hash] = convert(block.timestamp, uint64)
        log EpochProvenFalse(chain=source_chain, epoch_hash=epoch_hash)


@external
@nonreentrant
def slash_equivocation(
    ref: bytes32,
    epoch: uint64,
    first_root: bytes32,
    second_root: bytes32,
    first_signature: quorum.Signature,
    second_signature: quorum.Signature,
):
    """
    @notice Punish the signer of two checkpoints of one chain and epoch, once for a chain and epoch. Open to anyone, who
            gets a part. Two `Epoch`s of one number are no fault: each may be right, and only one of them is sealed.
    """
    first: bytes32 = staticcall ICheckpointLedger(ledger).checkpoint_digest(ref, epoch, first_root)
    second: bytes32 = staticcall ICheckpointLedger(ledger).checkpoint_digest(ref, epoch, second_root)
    if first == second:
        raw_revert(abi_encode(first, method_id=method_id("SameStatement(bytes32)")))
    signer: address = self._signer_of(first, first_signature, 0)
    second_signer: address = self._signer_of(second, second_signature, 1)
    # By account: one that signed with its old key and with its new one has contradicted itself as well.
    account: address = stakes._account_of(signer)
    if account != stakes._account_of(second_signer):
        raw_revert(abi_encode(signer, second_signer, method_id=method_id("SignersDiffer(address,address)")))
    if self.equivocated[account][ref][epoch]:
        raw_revert(abi_encode(account, ref, epoch, method_id=method_id("AlreadySlashed(address,bytes32,uint64)")))
    stake: uint256 = convert(stakes._validators[account].stake, uint256)
    if stake == 0:
        raw_revert(abi_encode(account, method_id=method_id("NothingAtStake(address)")))
    self.equivocated[account][ref][epoch] = True
    # Rounded up, so that it never costs nothing; at most the stake, because the share is at most the whole.
    amount: uint256 = (stake * convert(self.equivocation_bps, uint256) + _WHOLE_BPS - 1) // _WHOLE_BPS
    reward: uint96 = self._slash(account, ref, epoch, convert(amount, uint96))
    self._pay(convert(amount, uint96), reward)


@external
@nonreentrant
def slash_conviction(ref: bytes32, epoch: uint64, signatures: DynArray[quorum.Signature, stakes.MAX_VALIDATORS]):
    """
    @notice Punish signers of the attested root that a final one contradicted: each loses what it allocated to the chain.
            Open to anyone, who gets a part.
    @param signatures Of the attested `Checkpoint`. Those whose signers have nothing at stake (any more) are passed over,
                      so that nobody can spoil the others by being first; but one must count.
    """
    root: bytes32 = staticcall ICheckpointLedger(ledger).convicted(ref, epoch)
    if root == empty(bytes32):
        raw_revert(abi_encode(ref, epoch, method_id=method_id("NotConvicted(bytes32,uint64)")))
    convicted: Checkpoint = staticcall ICheckpointLedger(ledger).checkpoint(ref, epoch)
    self._slash_partitions(
        ref,
        epoch,
        staticcall ICheckpointLedger(ledger).attestation_digest(ref, epoch, root),
        convicted.timestamp,
        signatures,
    )


@external
@nonreentrant
def slash_false_epoch(ref: bytes32, epoch: Epoch, signatures: DynArray[quorum.Signature, stakes.MAX_VALIDATORS]):
    """
    @notice Punish signers of an `Epoch` that its hub proved false: each loses what it allocated to the chain. Open to
            anyone, who gets a part.
    @param signatures Of that `Epoch`; see `slash_conviction`.
    """
    epoch_hash: bytes32 = self._epoch_hash(epoch)
    proven_at: uint64 = self.false_since[ref][epoch_hash]
    if proven_at == 0:
        raw_revert(abi_encode(ref, epoch_hash, method_id=method_id("NotProvenFalse(bytes32,bytes32)")))
    self._slash_partitions(ref, epoch.epoch, self._epoch_digest(ref, epoch), proven_at, signatures)


@external
@view
def require_quorum(digest: bytes32, signatures: DynArray[quorum.Signature, stakes.MAX_VALIDATORS]) -> quorum.Set:
    """
    @notice Reverts unless a quorum of the current set signed `digest`, in strictly ascending order of signers.
    @param digest What was signed, with the domain of the contract that asks.
    @return The current set.
    """
    quorum._require_quorum(digest, signatures)
    return quorum._current()


@internal
def _set_penalties(equivocation_bps: uint16, reward_bps: uint16):
    """
    @dev Changes what an equivocation costs, and the reporter's part of any slash.
    """
    if equivocation_bps == 0 or convert(equivocation_bps, uint256) > _WHOLE_BPS or reward_bps > _MAX_REWARD_BPS:
        raw_revert(
            abi_encode(equivocation_bps, reward_bps, method_id=method_id("PenaltiesOutOfRange(uint16,uint16)"))
        )
    self.equivocation_bps = equivocation_bps
    self.reward_bps = reward_bps
    log PenaltiesChanged(equivocation_bps=equivocation_bps, reward_bps=reward_bps)


@internal
def _slash_partitions(
    ref: bytes32,
    epoch: uint64,
    digest: bytes32,
    proven_at: uint64,
    signatures: DynArray[quorum.Signature, stakes.MAX_VALIDATORS],
):
    """
    @dev Takes what the signers of `digest` had allocated to the chain when it was proven false.
    """
    if not stakes.slashable[ref]:
        raw_revert(abi_encode(ref, method_id=method_id("NotSlashable(bytes32)")))
    amount: uint96 = 0
    rewards: uint96 = 0
    index: uint256 = 0
    for signature: quorum.Signature in signatures:
        account: address = stakes._account_of(self._signer_of(digest, signature, index))
        lost: uint96 = stakes._empty_partition(account, ref, proven_at)
        if lost != 0:
            amount += lost
            rewards += self._slash(account, ref, epoch, lost)
        index += 1
    if amount == 0:
        raw_revert(abi_encode(ref, epoch, method_id=method_id("NothingToSlash(bytes32,uint64)")))
    self._pay(amount, rewards)


@internal
def _slash(account: address, ref: bytes32, epoch: uint64, amount: uint96) -> uint96:
    """
    @dev Takes `amount` off an account's stake, be it leaving or not, and makes it leave.
    @return The reporter's part.
    """
    reward: uint96 = convert(
        convert(amount, uint256) * convert(self.reward_bps, uint256) // _WHOLE_BPS, uint96
    )
    log Slashed(account=account, chain=ref, epoch=epoch, amount=amount, reporter=msg.sender, reward=reward)
    stakes._forfeit(account, amount)
    return reward


@internal
def _pay(amount: uint96, reward: uint96):
    """
    @dev Sends the reporter its part of what was slashed, and burns the rest.
    """
    payment._push(stakes.token, msg.sender, reward)
    payment._push(stakes.token, payment.BURNT, amount - reward)


@internal
@pure
def _signer_of(digest: bytes32, signature: quorum.Signature, index: uint256) -> address:
    """
    @dev Who signed `digest`; reverts with the signature's place if that is malformed or malleable.
    """
    signer: address = domain._recover_compact(digest, signature.r, signature.vs)
    if signer == empty(address):
        raw_revert(abi_encode(index, method_id=method_id("SignatureInvalid(uint256)")))
    return signer


@internal
@view
def _epoch_digest(ref: bytes32, epoch: Epoch) -> bytes32:
    """
    @dev What a validator signs for a chain's `Outbox` about an epoch (EIP-712).
    """
    separator: bytes32 = staticcall ICheckpointLedger(ledger).outbox_separator_of(ref)
    if separator == empty(bytes32):
        raw_revert(abi_encode(ref, method_id=method_id("NoOutbox(bytes32)")))
    return keccak256(concat(x"1901", separator, self._epoch_hash(epoch)))


@internal
@pure
def _epoch_hash(epoch: Epoch) -> bytes32:
    """
    @dev The EIP-712 `hashStruct` of an epoch, by which its hub names it.
    """
    return keccak256(abi_encode(_EPOCH_TYPE_HASH, epoch))
