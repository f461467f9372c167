# pragma version 0.4.3
# pragma evm-version prague
"""
@title Charges by voucher, epochs, payments by claim
@license Apache-2.0
@notice A voucher of a session's key says how much is owed in all, and its splits say to whom. Anyone may charge it;
        charges only go up. What was charged for a payee it can claim for ever: at once and without anyone's help from
        each session's splits, or all together from the payouts that validators signed when an epoch was sealed.
        The rules are those of `tristrata.protocol.session` and docs/epochs.md.
"""

from ethereum.ercs import IERC20
from shared import domain


initializes: domain
exports: domain.chain_ref


struct Terms:
    session_key: address
    router: address
    model_id: bytes32
    assurance: uint8
    replicas: uint8
    router_bps: uint16
    max_prompt_price: uint96
    max_output_price: uint96
    max_per_day: uint96
    exposure_cap: uint96
    expiry: uint64


struct Session:
    owner: address
    terms: Terms
    deposit: uint96
    opened_at: uint64
    closing_at: uint64
    closed: bool


interface ISessions:
    def asset() -> address: view
    def session(session_id: bytes32) -> Session: view
    def pay(payee: address, amount: uint96): nonpayable


struct Seal:
    root: bytes32
    payouts_root: bytes32
    timestamp: uint64


interface IOutbox:
    def seal(
        epoch: uint64,
        block_number: uint64,
        receipts_root: bytes32,
        payouts_root: bytes32,
        content: bytes32,
        signatures: DynArray[Bytes[65], _MAX_SIGNATURES],
    ) -> bytes32: nonpayable
    def sealed(epoch: uint64) -> Seal: view
    def is_validator(signer: address) -> bool: view


struct Voucher:
    session: bytes32
    count: uint64
    cumulative: uint96
    head: bytes32
    splits: bytes32


struct Charge:
    cumulative: uint96
    count: uint40
    day: uint24
    on_day: uint96
    splits: bytes32


struct ChargeCall:
    voucher: Voucher
    splits: DynArray[uint256, _MAX_SPLITS]
    previous: DynArray[uint256, _MAX_SPLITS]
    signature: Bytes[65]


struct Claim:
    payee: address
    cumulative: uint256
    epoch: uint64
    proof: DynArray[bytes32, _MAX_PROOF]


_VOUCHER_TYPE_HASH: constant(bytes32) = keccak256(
    "Voucher(bytes32 session,uint64 count,uint96 cumulative,bytes32 head,bytes32 splits)"
)
_MAX_SPLITS: constant(uint256) = 32
_MAX_CHARGES: constant(uint256) = 16
_MAX_SIGNATURES: constant(uint256) = 32
_MAX_CLAIMS: constant(uint256) = 32
_MAX_PROOF: constant(uint256) = 32
_AMOUNT_MASK: constant(uint256) = 2**96 - 1
_SECONDS_PER_DAY: constant(uint256) = 86_400
# Where veto fees go: an address whose key nobody has.
_BURNT: constant(address) = 0x000000000000000000000000000000000000dEaD


sessions: public(immutable(address))
outbox: public(immutable(address))
payout_delay: public(immutable(uint64))
veto_fee: public(immutable(uint96))


# One word a session: cumulative (96 bits), count (40), day (24), charged on that day (96).
_charges: HashMap[bytes32, uint256]
_splits: HashMap[bytes32, bytes32]
_opened_entry: HashMap[bytes32, HashMap[address, uint256]]
opened: public(HashMap[address, uint256])
claimed: public(HashMap[address, uint256])
# Over all sessions and all payees; `total_paid` is the sum of `claimed` and never above `total_charged`.
total_charged: public(uint256)
total_paid: public(uint256)
vetoed: public(HashMap[uint64, bool])


event Charged:
    session_id: indexed(bytes32)
    cumulative: uint96
    count: uint64
    head: bytes32
    splits: DynArray[uint256, _MAX_SPLITS]


event Claimed:
    payee: indexed(address)
    amount: uint96


event Vetoed:
    epoch: indexed(uint64)
    validator: indexed(address)


@deploy
def __init__(
    chain_ref: bytes32, sessions_: address, outbox_: address, payout_delay_: uint64, veto_fee_: uint96
):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param sessions_ The contract that holds the escrow.
    @param outbox_ The contract that seals epochs and keeps the validator set.
    @param payout_delay_ Seconds between the seal of an epoch and payments from it, in which it can be vetoed.
    @param veto_fee_ What a veto burns, in base units of the asset.
    """
    domain.__init__(chain_ref)
    sessions = sessions_
    outbox = outbox_
    payout_delay = payout_delay_
    veto_fee = veto_fee_


@external
@nonreentrant
def charge(
    voucher: Voucher,
    splits: DynArray[uint256, _MAX_SPLITS],
    previous: DynArray[uint256, _MAX_SPLITS],
    signature: Bytes[65],
):
    """
    @notice Charge a session up to a voucher that its key signed. Open to anyone.
    @param splits `payee << 96 | cumulative amount`, sorted by payee; they sum to the voucher's cumulative amount.
    @param previous The splits of the last charge; empty for the first.
    """
    self._charge(voucher, splits, previous, signature)


@external
@nonreentrant
def settle(
    charges: DynArray[ChargeCall, _MAX_CHARGES],
    epoch: uint64,
    block_number: uint64,
    receipts_root: bytes32,
    payouts_root: bytes32,
    content: bytes32,
    signatures: DynArray[Bytes[65], _MAX_SIGNATURES],
) -> bytes32:
    """
    @notice Charge sessions, as `charge` does, and seal an epoch, in one transaction. Open to anyone. What is charged here
            lies after the epoch's reference block, and so belongs to a later epoch.
    @param epoch The last sealed epoch plus one.
    @param block_number The epoch's reference block.
    @param receipts_root The root over its receipts.
    @param payouts_root The root over what each payee was charged for in all, up to the reference block.
    @param content The SHA-256 of its content.
    @param signatures Of a quorum of the outbox's set, over `Epoch`.
    @return The epoch's root.
    """
    for call: ChargeCall in charges:
        self._charge(call.voucher, call.splits, call.previous, call.signature)
    return extcall IOutbox(outbox).seal(epoch, block_number, receipts_root, payouts_root, content, signatures)


@external
@nonreentrant
def claim(payee: address, cumulative: uint256, epoch: uint64, proof: DynArray[bytes32, _MAX_PROOF]) -> uint96:
    """
    @notice Pay a payee what is still due of `cumulative`, which the payouts root of a sealed epoch holds for it. Anyone
            may call, once the payout delay is over.
    @return What was paid, in base units; 0 when all was paid already.
    """
    return self._claim(payee, cumulative, epoch, proof)


@external
@nonreentrant
def claim_many(claims: DynArray[Claim, _MAX_CLAIMS]):
    """
    @notice Many claims at once; all are paid or none.
    """
    for each: Claim in claims:
        self._claim(each.payee, each.cumulative, each.epoch, each.proof)


@external
@nonreentrant
def claim_direct(session_id: bytes32, splits: DynArray[uint256, _MAX_SPLITS], index: uint256) -> uint96:
    """
    @notice Pay entry `index` of a session's charged splits to its payee. Anyone may call, at any time, also after the
            session is closed.
    @dev Opened entries of different sessions add up in `opened`, which never exceeds what was charged for the payee;
         `claimed` counts what was paid by any way, so nothing is paid twice.
         What was stolen by a false payouts root that nobody vetoed is missing here until more is charged: sessions
         owe no more than their vouchers say, so their deposits are not touched.
    @return What was paid, in base units; 0 when all was paid already.
    """
    if self._splits[session_id] == empty(bytes32) or keccak256(abi_encode(splits)) != self._splits[session_id]:
        raw_revert(abi_encode(self._splits[session_id], method_id=method_id("WrongSplits(bytes32)")))
    if index >= len(splits):
        raw_revert(abi_encode(index, len(splits), method_id=method_id("NoSuchSplit(uint256,uint256)")))
    payee: address = convert(splits[index] >> 96, address)
    entry: uint256 = splits[index] & _AMOUNT_MASK
    self.opened[payee] += entry - self._opened_entry[session_id][payee]
    self._opened_entry[session_id][payee] = entry
    due: uint256 = self.opened[payee] - min(self.opened[payee], self.claimed[payee])
    return self._pay(payee, min(due, self.total_charged - self.total_paid))


@external
@nonreentrant
def veto(epoch: uint64):
    """
    @notice Stop all payments from an epoch's payouts root, before the first, by burning the veto fee. Open to each
            single member of the outbox's set, while that is valid. `claim_direct` and later epochs are not stopped.
    """
    if not staticcall IOutbox(outbox).is_validator(msg.sender):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotValidator(address)")))
    mature_at: uint64 = self._seal(epoch).timestamp + payout_delay
    if block.timestamp >= convert(mature_at, uint256):
        raw_revert(
            abi_encode(mature_at, convert(block.timestamp, uint64), method_id=method_id("VetoTooLate(uint64,uint64)"))
        )
    self.vetoed[epoch] = True
    log Vetoed(epoch=epoch, validator=msg.sender)
    asset: address = staticcall ISessions(sessions).asset()
    before: uint256 = staticcall IERC20(asset).balanceOf(_BURNT)
    assert extcall IERC20(asset).transferFrom(
        msg.sender, _BURNT, convert(veto_fee, uint256), default_return_value=True
    )
    received: uint256 = staticcall IERC20(asset).balanceOf(_BURNT) - before
    if received != convert(veto_fee, uint256):
        raw_revert(abi_encode(veto_fee, received, method_id=method_id("WrongAmountReceived(uint96,uint256)")))


@external
@view
def charged(session_id: bytes32) -> Charge:
    """
    @notice What was charged: in all, after how many receipts, how much on which UTC day, and the hash of the splits.
    """
    return self._charged(session_id)


@external
@view
def charged_amount(session_id: bytes32) -> uint96:
    """
    @notice What was charged in all, in base units.
    """
    return convert(self._charges[session_id] >> 160, uint96)


@internal
def _charge(
    voucher: Voucher,
    splits: DynArray[uint256, _MAX_SPLITS],
    previous: DynArray[uint256, _MAX_SPLITS],
    signature: Bytes[65],
):
    """
    @dev Charges a session up to a voucher, under the conditions of `charge`.
    """
    session: Session = staticcall ISessions(sessions).session(voucher.session)
    if session.owner == empty(address):
        raw_revert(abi_encode(voucher.session, method_id=method_id("SessionUnknown(bytes32)")))
    if session.closed:
        raw_revert(abi_encode(voucher.session, method_id=method_id("SessionClosed(bytes32)")))
    domain._require_signer(
        keccak256(abi_encode(_VOUCHER_TYPE_HASH, voucher)), signature, session.terms.session_key
    )
    before: Charge = self._charged(voucher.session)
    if voucher.cumulative <= before.cumulative or voucher.count < convert(before.count, uint64) or voucher.count >= 2**40:
        raw_revert(
            abi_encode(
                voucher.cumulative,
                voucher.count,
                before.cumulative,
                convert(before.count, uint64),
                method_id=method_id("ChargeNotUp(uint96,uint64,uint96,uint64)"),
            )
        )
    if voucher.cumulative > session.deposit:
        raw_revert(
            abi_encode(voucher.cumulative, session.deposit, method_id=method_id("AboveDeposit(uint96,uint96)"))
        )
    if keccak256(abi_encode(splits)) != voucher.splits:
        raw_revert(abi_encode(voucher.splits, method_id=method_id("WrongSplits(bytes32)")))
    if len(previous) == 0:
        if before.splits != empty(bytes32):
            raw_revert(abi_encode(before.splits, method_id=method_id("WrongPreviousSplits(bytes32)")))
    elif keccak256(abi_encode(previous)) != before.splits:
        raw_revert(abi_encode(before.splits, method_id=method_id("WrongPreviousSplits(bytes32)")))

    # Both lists are sorted by payee: one walk checks order, sum, and that nobody has less than before.
    total: uint256 = 0
    last_payee: uint256 = 0
    matched: uint256 = 0
    for split: uint256 in splits:
        payee: uint256 = split >> 96
        if payee <= last_payee:
            raw_revert(abi_encode(convert(payee, address), method_id=method_id("SplitsUnsorted(address)")))
        last_payee = payee
        total += split & _AMOUNT_MASK
        if matched < len(previous):
            if previous[matched] >> 96 == payee:
                if split < previous[matched]:
                    raw_revert(abi_encode(convert(payee, address), method_id=method_id("SplitShrunk(address)")))
                matched += 1
    if matched != len(previous):
        raw_revert(
            abi_encode(convert(previous[matched] >> 96, address), method_id=method_id("SplitShrunk(address)"))
        )
    if total != convert(voucher.cumulative, uint256):
        raw_revert(abi_encode(total, voucher.cumulative, method_id=method_id("WrongSum(uint256,uint96)")))

    day: uint256 = block.timestamp // _SECONDS_PER_DAY
    on_day: uint256 = convert(voucher.cumulative - before.cumulative, uint256)
    if day == convert(before.day, uint256):
        on_day += convert(before.on_day, uint256)
    if session.terms.max_per_day != 0 and on_day > convert(session.terms.max_per_day, uint256):
        raw_revert(
            abi_encode(on_day, session.terms.max_per_day, method_id=method_id("AboveDailyLimit(uint256,uint96)"))
        )
    # Each field fits: cumulative and on_day are sums of 96-bit growth below the deposit, count is checked above,
    # and day 2**24 is 45,000 years away.
    self._charges[voucher.session] = (
        convert(voucher.cumulative, uint256) << 160 | convert(voucher.count, uint256) << 120 | day << 96 | on_day
    )
    self._splits[voucher.session] = voucher.splits
    self.total_charged += convert(voucher.cumulative - before.cumulative, uint256)
    log Charged(
        session_id=voucher.session,
        cumulative=voucher.cumulative,
        count=voucher.count,
        head=voucher.head,
        splits=splits,
    )


@internal
def _claim(payee: address, cumulative: uint256, epoch: uint64, proof: DynArray[bytes32, _MAX_PROOF]) -> uint96:
    """
    @dev Pays what is due by a payouts root. `claimed` then stands at `cumulative` or above, so neither an older root, nor
         this one again, nor `claim_direct` pays any of it twice. Should a quorum have signed a false root, all roots
         together still pay no more than was charged.
    """
    seal: Seal = self._seal(epoch)
    mature_at: uint64 = seal.timestamp + payout_delay
    if block.timestamp < convert(mature_at, uint256):
        raw_revert(
            abi_encode(mature_at, convert(block.timestamp, uint64), method_id=method_id("PayoutTooEarly(uint64,uint64)"))
        )
    if self._root(keccak256(keccak256(abi_encode(payee, cumulative))), proof) != seal.payouts_root:
        raw_revert(abi_encode(payee, cumulative, epoch, method_id=method_id("WrongProof(address,uint256,uint64)")))
    due: uint256 = cumulative - min(cumulative, self.claimed[payee])
    left: uint256 = self.total_charged - self.total_paid
    if due > left:
        raw_revert(abi_encode(due, left, method_id=method_id("AboveCharged(uint256,uint256)")))
    return self._pay(payee, due)


@internal
def _pay(payee: address, due: uint256) -> uint96:
    """
    @dev Pays out of the escrow, and counts it.
    """
    amount: uint96 = convert(due, uint96)
    if amount != 0:
        self.claimed[payee] += due
        self.total_paid += due
        log Claimed(payee=payee, amount=amount)
        extcall ISessions(sessions).pay(payee, amount)
    return amount


@internal
@view
def _seal(epoch: uint64) -> Seal:
    """
    @dev A sealed epoch that nobody vetoed.
    """
    seal: Seal = staticcall IOutbox(outbox).sealed(epoch)
    if seal.timestamp == 0:
        raw_revert(abi_encode(epoch, method_id=method_id("EpochNotSealed(uint64)")))
    if self.vetoed[epoch]:
        raw_revert(abi_encode(epoch, method_id=method_id("PayoutVetoed(uint64)")))
    return seal


@internal
@pure
def _root(leaf: bytes32, proof: DynArray[bytes32, _MAX_PROOF]) -> bytes32:
    """
    @dev Where a proof leads, each pair sorted (OpenZeppelin's StandardMerkleTree). By hand, because snekmate's takes
         proofs of up to 255 elements, and the memory for so many is paid for with each claim.
    """
    node: bytes32 = leaf
    for sibling: bytes32 in proof:
        if convert(node, uint256) < convert(sibling, uint256):
            node = keccak256(concat(node, sibling))
        else:
            node = keccak256(concat(sibling, node))
    return node


@internal
@view
def _charged(session_id: bytes32) -> Charge:
    """
    @dev What was charged to a session, unpacked.
    """
    packed: uint256 = self._charges[session_id]
    return Charge(
        cumulative=convert(packed >> 160, uint96),
        count=convert(packed >> 120 & (2**40 - 1), uint40),
        day=convert(packed >> 96 & (2**24 - 1), uint24),
        on_day=convert(packed & _AMOUNT_MASK, uint96),
        splits=self._splits[session_id],
    )
