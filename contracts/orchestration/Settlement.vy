# pragma version 0.4.3
# pragma evm-version prague
"""
@title Charges by voucher, epochs, payments by claim
@license Apache-2.0
@notice All money of the hub's sessions is here. A voucher of a session's key says to whom how much of it is owed in all.
        Anyone may charge it; charges only go up. What was charged for a payee it can claim for ever: at once and without
        anyone's help from each session's splits, or all together from the payouts that validators signed when an epoch
        was sealed. Who may put money in, and when it goes back, is `Sessions`' concern.
        States, changes and deadlines: docs/protocol.md, "Charge" and "Claim"; the specification is
        `tristrata.protocol.session` and `tristrata.protocol.claim`, the hashes are those of docs/epochs.md.
"""

from shared import accounts
from shared import domain
from shared import forfeits
from shared import payment
from shared import proofs
from shared import quorum


initializes: domain
exports: domain.chain_ref


interface ISessions:
    def daily_limit(session_id: bytes32) -> uint96: view
    def replaced_key(session_id: bytes32) -> (address, uint64): view
    def is_closed(session_id: bytes32) -> bool: view
    def parties(session_id: bytes32) -> (address, address, bool): view
    def forfeit(session_id: bytes32, from_bond: uint96) -> uint96: nonpayable


struct Epoch:
    epoch: uint64
    block_number: uint64
    receipts_root: bytes32
    payouts_root: bytes32
    content: bytes32


interface IOutbox:
    def seal(epoch: Epoch, signatures: DynArray[quorum.Signature, _MAX_SIGNATURES]) -> bytes32: nonpayable
    def last_epoch() -> uint64: view
    def payable_from(epoch: uint64, root: bytes32, payouts_root: bytes32, signed: bytes32) -> uint64: view
    def sealed_at(epoch: uint64, root: bytes32, payouts_root: bytes32, signed: bytes32) -> uint64: view
    def is_validator(signer: address) -> bool: view
    def stop_payouts(epoch: uint64): nonpayable
    def send(destination: bytes32, receiver: bytes32, payload: Bytes[1024]) -> uint64: nonpayable


# A voucher, without its splits: those of all vouchers of a call stand one after another in one flat list.
struct Charge:
    session: bytes32
    count: uint256
    head: bytes32
    count_before: uint256
    # How many of the splits are this voucher's.
    split_count: uint256
    # The session key's signature of the voucher, in two words (EIP-2098).
    r: bytes32
    vs: bytes32


struct Seal:
    epoch: uint64
    root: bytes32
    # The struct hash of the `Epoch` that the quorum signed.
    signed: bytes32


struct Payout:
    # `payee << 96 | cumulative amount`.
    payout: uint256
    # The root over the payee's sessions, by which what is false in it can be shown.
    sums: bytes32


# What a payout counts from a session, and its way to `sums`.
struct Entry:
    amount: uint96
    index: uint256
    siblings: DynArray[proofs.SumNode, _MAX_PROOF]


_VOUCHER_TYPE_HASH: constant(bytes32) = keccak256(
    "Voucher(bytes32 session,uint64 count,uint96 cumulative,bytes32 head,bytes32 splits)"
)
_CLAIM_TO_TYPE_HASH: constant(bytes32) = keccak256(
    "ClaimTo(address payee,address recipient,uint256 claimed,uint256 deadline)"
)
_MAX_SPLITS: constant(uint256) = 32
# After a forfeit: those of both vouchers.
_MAX_FINAL_SPLITS: constant(uint256) = forfeits.MAX_FINAL_SPLITS
_MAX_CHARGES: constant(uint256) = 16
_MAX_CHARGED_SPLITS: constant(uint256) = 128
_MAX_SIGNATURES: constant(uint256) = 32
_MAX_PAYOUTS: constant(uint256) = 32
_MAX_PROOF: constant(uint256) = 32
_MAX_ENTRIES: constant(uint256) = 4
_MAX_CALL: constant(uint256) = 8_192
_MAX_CALLS: constant(uint256) = 2
_AMOUNT_MASK: constant(uint256) = 2**96 - 1
_TAIL_MASK: constant(uint256) = 2**160 - 1
_TOTAL_MASK: constant(uint256) = 2**128 - 1
_DEPOSIT_MASK: constant(uint256) = 2**95 - 1
_LIMITED: constant(uint256) = 2**95
_SECONDS_PER_DAY: constant(uint256) = 86_400
_FALSE_EPOCH: constant(uint8) = 1


asset: public(immutable(address))
sessions: public(immutable(address))
outbox: public(immutable(address))
payout_delay: public(immutable(uint64))
veto_fee: public(immutable(uint96))
security_chain: public(immutable(bytes32))
validators: public(immutable(bytes32))


# What may be charged to a session, in one word: its key (160 bits), whether it has a daily limit (1), its deposit (95). When a
# session ends, its deposit becomes what was charged, so that nothing more can be.
_escrow: HashMap[bytes32, uint256]
# One word a session: cumulative (96 bits) above the last 160 of `keccak256(abi.encode(count, splits))`. Nobody can find two
# lists with the same 160 bits, as nobody can find two keys of one address.
_charged: HashMap[bytes32, uint256]
# For sessions with a daily limit: the UTC day above what was charged on it (96 bits).
_on_day: HashMap[bytes32, uint256]
_opened_entry: HashMap[bytes32, HashMap[address, uint256]]
opened: public(HashMap[address, uint256])
claimed: public(HashMap[address, uint256])
# Refunds that the asset refused to pay to their owners.
kept_refund: public(HashMap[address, uint256])
# Over all sessions and all payees, in one word: charged (128 bits), paid (128): the sum of `claimed`, never above charged.
_totals: uint256


event Charged:
    session_id: indexed(bytes32)
    count: uint256
    head: bytes32
    splits: DynArray[uint256, _MAX_SPLITS]


event Forfeited:
    session_id: indexed(bytes32)
    count: uint256
    splits: DynArray[uint256, _MAX_FINAL_SPLITS]
    refund: uint96
    from_bond: uint96


event Claimed:
    # What was paid to whom: `payee << 96 | amount`. One that is due nothing, or that the asset refused to pay, is not in it.
    payments: DynArray[uint256, _MAX_PAYOUTS]


event RefundKept:
    owner: indexed(address)
    amount: uint96


event Vetoed:
    epoch: indexed(uint64)
    validator: indexed(address)


event Refuted:
    epoch: indexed(uint64)
    payee: indexed(address)
    session_id: bytes32
    amount: uint96
    charged: uint96


@deploy
def __init__(
    chain_ref: bytes32,
    asset_: address,
    sessions_: address,
    outbox_: address,
    payout_delay_: uint64,
    veto_fee_: uint96,
    security_chain_: bytes32,
    validators_: bytes32,
):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param asset_ The one ERC-20 of this hub.
    @param sessions_ The contract that opens and ends sessions.
    @param outbox_ The contract that seals epochs and keeps the validator set.
    @param payout_delay_ Seconds between the seal of an epoch and payments from it, in which it can be vetoed.
    @param veto_fee_ What a veto burns, in base units of the asset.
    @param security_chain_ The reference of L1.
    @param validators_ The `ValidatorSet` there, left-padded, which hears of false payouts.
    """
    domain.__init__(chain_ref)
    asset = asset_
    sessions = sessions_
    outbox = outbox_
    payout_delay = payout_delay_
    veto_fee = veto_fee_
    security_chain = security_chain_
    validators = validators_


@external
def set_escrow(session_id: bytes32, key: address, limited: bool, deposit: uint96):
    """
    @notice Say what may be charged to a session, by vouchers of which key. `Sessions`' alone, which has brought the money.
    """
    self._require_sessions()
    if convert(deposit, uint256) > _DEPOSIT_MASK:
        raw_revert(abi_encode(deposit, _DEPOSIT_MASK, method_id=method_id("DepositTooHigh(uint96,uint256)")))
    word: uint256 = convert(key, uint256) << 96 | convert(deposit, uint256)
    if limited:
        word |= _LIMITED
    self._escrow[session_id] = word


@external
@nonreentrant
def refund(session_id: bytes32, owner: address) -> uint96:
    """
    @notice End a session: what was not charged goes to its owner. `Sessions`' alone.
    @return What went back, in base units.
    """
    self._require_sessions()
    refunded: uint256 = (self._escrow[session_id] & _DEPOSIT_MASK) - (self._charged[session_id] >> 160)
    # It is a part of the deposit.
    self._escrow[session_id] -= refunded
    self._refund(owner, refunded)
    return convert(refunded, uint96)


@external
@nonreentrant
def charge(charge: Charge, splits: DynArray[uint256, _MAX_SPLITS], before: DynArray[uint256, _MAX_SPLITS]):
    """
    @notice Charge a session up to a voucher that its key signed: `(session, count, sum of splits, head, hash of splits)`. Open to
            anyone.
    @param splits `payee << 96 | cumulative amount`, ascending by payee.
    @param before What each of these payees had in the session's last charge, in the same order; 0 for a new one.
    """
    self._totals += self._charge(charge, splits, self._splits_before(splits, before)) << 128


@external
@nonreentrant
def settle(
    charges: DynArray[Charge, _MAX_CHARGES],
    splits: DynArray[uint256, _MAX_CHARGED_SPLITS],
    before: DynArray[uint256, _MAX_CHARGED_SPLITS],
    epoch: Epoch,
    signatures: DynArray[quorum.Signature, _MAX_SIGNATURES],
):
    """
    @notice Charge sessions, as `charge` does, and seal the next epoch, in one transaction. All are charged or none. Open to
            anyone. What is charged here lies after the epoch's reference block, and so belongs to a later epoch. If somebody
            sealed the epoch before, or there are no signatures, sessions are charged all the same.
    @param splits Those of all vouchers, one after another.
    @param before What their payees had, in the same order.
    @param signatures Of a quorum of the outbox's set, over the epoch.
    """
    if len(before) != len(splits):
        raw_revert(abi_encode(len(splits), len(before), method_id=method_id("LengthsDiffer(uint256,uint256)")))
    growth: uint256 = 0
    start: uint256 = 0
    for each: Charge in charges:
        if each.split_count > _MAX_SPLITS or start + each.split_count > len(splits):
            raw_revert(
                abi_encode(each.split_count, len(splits) - start, method_id=method_id("SplitsMissing(uint256,uint256)"))
            )
        own: DynArray[uint256, _MAX_SPLITS] = []
        own_before: DynArray[uint256, _MAX_SPLITS] = []
        for index: uint256 in range(start, start + each.split_count, bound=_MAX_SPLITS):
            own.append(splits[index])
            own_before.append(before[index])
        start += each.split_count
        growth += self._charge(each, own, self._splits_before(own, own_before))
    if start != len(splits):
        raw_revert(abi_encode(start, len(splits), method_id=method_id("SplitsMissing(uint256,uint256)")))
    if growth != 0:
        self._totals += growth << 128
    if len(signatures) != 0 and staticcall IOutbox(outbox).last_epoch() < epoch.epoch:
        extcall IOutbox(outbox).seal(epoch, signatures)


@external
def multicall(calls: DynArray[Bytes[_MAX_CALL], _MAX_CALLS]):
    """
    @notice Make several of this contract's calls in one transaction, in the caller's name; all succeed or none. So a settler can
            seal an epoch and pay the payees of an older one at once. Each call has 8,192 bytes at most.
    """
    for call: Bytes[_MAX_CALL] in calls:
        raw_call(self, call, is_delegate_call=True)


@external
@nonreentrant
def forfeit(
    voucher: Charge,
    splits: DynArray[uint256, _MAX_SPLITS],
    charged_splits: DynArray[uint256, _MAX_SPLITS],
):
    """
    @notice End a session whose key signed a voucher that contradicts what is charged: neither gives every payee as much as
            the other. Open to anyone, also for vouchers that would be too high to charge.
    @dev Each payee gets the higher of its two amounts, and what is left of the deposit goes to the miners in proportion: a
         key that forks its history gains nothing. It never takes more than the key could have charged today: a stolen key
         is worth no more here. In a managed session the router signed, not the owner: the owner gets back what is left,
         and the router's bond pays the miners instead.
    @param voucher The voucher, as for `charge`.
    @param splits Its splits.
    @param charged_splits The splits of the last charge.
    """
    session_id: bytes32 = voucher.session
    escrow: uint256 = self._escrow[session_id]
    if voucher.count >= 2**40:
        raw_revert(abi_encode(voucher.count, method_id=method_id("CountTooHigh(uint256)")))
    self._require_key(voucher, self._sum(splits), keccak256(abi_encode(splits)), escrow)
    self._require_open(session_id)
    self._require_splits(session_id, voucher.count_before, charged_splits)

    merged: forfeits.Merged = forfeits._merge(charged_splits, splits)
    if not merged.contradict:
        raw_revert(abi_encode(session_id, method_id=method_id("VouchersAgree(bytes32)")))
    self._forfeit(session_id, max(voucher.count_before, voucher.count), merged, escrow)


@external
@nonreentrant
def claim(seal: Seal, payout: Payout, proof: DynArray[bytes32, _MAX_PROOF]) -> uint96:
    """
    @notice Pay a payee what is still due of what the payouts root of a sealed epoch holds for it. Anyone may call, once the
            payout delay is over.
    @return What was paid, in base units; 0 when all was paid already.
    """
    self._require_mature(seal, proofs._root(self._leaf(payout), proof))
    payee: address = convert(payout.payout >> 96, address)
    return self._pay_all(payee, payee, self._due(payee, payout.payout & _AMOUNT_MASK))


@external
@nonreentrant
def claim_many(
    seal: Seal, payouts: DynArray[Payout, _MAX_PAYOUTS], proof: DynArray[bytes32, 96], flags: uint256
):
    """
    @notice Pay many payees of one sealed epoch at once. A payee that the asset refuses to pay is left out, and can claim
            again.
    @param payouts In the order of the tree, as OpenZeppelin's multiproof wants them.
    @param proof Their common proof; bit `i` of `flags` is its `i`th flag.
    """
    leaves: DynArray[bytes32, _MAX_PAYOUTS] = []
    for payout: Payout in payouts:
        leaves.append(self._leaf(payout))
    self._require_mature(seal, proofs._root_of_many(leaves, proof, flags))
    totals: uint256 = self._totals
    left: uint256 = (totals >> 128) - (totals & _TOTAL_MASK)
    paid: uint256 = 0
    payments: DynArray[uint256, _MAX_PAYOUTS] = []
    for payout: Payout in payouts:
        payee: address = convert(payout.payout >> 96, address)
        due: uint256 = self._due(payee, payout.payout & _AMOUNT_MASK)
        if due > left - paid:
            raw_revert(abi_encode(due, left - paid, method_id=method_id("AboveCharged(uint256,uint256)")))
        if due != 0 and self._pay(payee, payee, due):
            paid += due
            payments.append(payout.payout & ~_AMOUNT_MASK | due)
    # All of it was charged and not paid: the sum stays below the half above it.
    self._totals = totals + paid
    log Claimed(payments=payments)


@external
@nonreentrant
def claim_direct(session_id: bytes32, count: uint256, splits: DynArray[uint256, _MAX_FINAL_SPLITS], index: uint256) -> uint96:
    """
    @notice Pay entry `index` of a session's charged splits to its payee. Anyone may call, at any time, also after the
            session is closed.
    @dev What was stolen by a false payouts root that nobody stopped is missing here until more is charged: sessions owe no
         more than their vouchers say, so their deposits are not touched.
    @param count The count of the last charge.
    @param splits The splits of the last charge.
    @return What was paid, in base units; 0 when all was paid already.
    """
    due: uint256 = self._open_entry(session_id, count, splits, index)
    payee: address = convert(splits[index] >> 96, address)
    return self._pay_all(payee, payee, due)


@external
@nonreentrant
def claim_to(
    recipient: address,
    deadline: uint256,
    signature: Bytes[accounts.MAX_SIGNATURE],
    session_id: bytes32,
    count: uint256,
    splits: DynArray[uint256, _MAX_FINAL_SPLITS],
    index: uint256,
) -> uint96:
    """
    @notice As `claim_direct`, but to another account, which the payee names by signature (`ClaimTo`): for a payee that the
            asset refuses to pay. Anyone may carry it.
    @return What was paid, in base units.
    """
    due: uint256 = self._open_entry(session_id, count, splits, index)
    payee: address = convert(splits[index] >> 96, address)
    # Once paid, more is claimed than the signature says: it serves once.
    digest: bytes32 = domain._digest(
        keccak256(abi_encode(_CLAIM_TO_TYPE_HASH, payee, recipient, self.claimed[payee], deadline))
    )
    accounts._require_signed(payee, digest, deadline, signature)
    return self._pay_all(payee, recipient, due)


@external
@nonreentrant
def collect_refund(recipient: address) -> uint96:
    """
    @notice Pay what was kept of the caller's refunds, because the asset refused to pay it, to any account.
    @return What was paid, in base units.
    """
    amount: uint256 = self.kept_refund[msg.sender]
    self.kept_refund[msg.sender] = 0
    payment._push(asset, recipient, convert(amount, uint96))
    return convert(amount, uint96)


@external
@nonreentrant
def veto(seal: Seal, payouts_root: bytes32):
    """
    @notice Stop all payments from an epoch's payouts root, before the first, by burning the veto fee. Open to each
            single member of the outbox's set, while that is valid. `claim_direct` and later epochs are not stopped.
    """
    if not staticcall IOutbox(outbox).is_validator(msg.sender):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotValidator(address)")))
    mature_at: uint64 = self._mature_at(seal, payouts_root)
    if block.timestamp >= convert(mature_at, uint256):
        raw_revert(
            abi_encode(mature_at, convert(block.timestamp, uint64), method_id=method_id("VetoTooLate(uint64,uint64)"))
        )
    extcall IOutbox(outbox).stop_payouts(seal.epoch)
    log Vetoed(epoch=seal.epoch, validator=msg.sender)
    payment._pull(asset, msg.sender, payment.BURNT, veto_fee)


@external
@nonreentrant
def refute(
    seal: Seal,
    payout: Payout,
    proof: DynArray[bytes32, _MAX_PROOF],
    session_id: bytes32,
    entries: DynArray[Entry, _MAX_ENTRIES],
    count: uint256,
    splits: DynArray[uint256, _MAX_FINAL_SPLITS],
):
    """
    @notice Show that a payout counts more from a session than was ever charged to it for that payee. Open to anyone, for
            free. If the epoch pays nothing yet, it never will; in any case, also when it was vetoed before, L1 hears who must
            be slashed: whoever signed it.
    @param entries What the payout counts from the session; a false one can hold many small entries of it. In strictly ascending
                   order of `len(siblings) << 32 | index`.
    @param count The count of the session's last charge; 0 if there is none.
    @param splits The splits of the session's last charge; empty if there is none.
    """
    mature_at: uint64 = payout_delay + staticcall IOutbox(outbox).sealed_at(
        seal.epoch, seal.root, proofs._root(self._leaf(payout), proof), seal.signed
    )
    amount: uint96 = self._sum_entries(payout, session_id, entries)
    self._require_splits(session_id, count, splits)
    payee: address = convert(payout.payout >> 96, address)
    charged: uint96 = 0
    for split: uint256 in splits:
        if convert(split >> 96, address) == payee:
            charged = convert(split & _AMOUNT_MASK, uint96)
    if amount <= charged:
        raw_revert(
            abi_encode(session_id, amount, charged, method_id=method_id("PayoutCovered(bytes32,uint96,uint96)"))
        )
    if block.timestamp < convert(mature_at, uint256):
        extcall IOutbox(outbox).stop_payouts(seal.epoch)
    log Refuted(epoch=seal.epoch, payee=payee, session_id=session_id, amount=amount, charged=charged)
    extcall IOutbox(outbox).send(security_chain, validators, abi_encode(_FALSE_EPOCH, seal.signed))


@external
@view
def escrow(session_id: bytes32) -> uint96:
    """
    @notice A session's deposit, in base units; once it has ended, what stayed of it.
    """
    return convert(self._escrow[session_id] & _DEPOSIT_MASK, uint96)


@external
@view
def charged_amount(session_id: bytes32) -> uint96:
    """
    @notice What was charged in all, in base units.
    """
    return convert(self._charged[session_id] >> 160, uint96)


@external
@view
def charged_tail(session_id: bytes32) -> uint256:
    """
    @notice The last 160 bits of `keccak256(abi.encode(count, splits))` of the last charge; 0 if there is none.
    """
    return self._charged[session_id] & _TAIL_MASK


@external
@view
def charged_on_day(session_id: bytes32, day: uint256) -> uint96:
    """
    @notice What was charged on a UTC day to a session that has a daily limit, in base units.
    """
    return self._charged_on(session_id, day)


@external
@view
def total_charged() -> uint256:
    """
    @notice What was charged in all, over all sessions, in base units.
    """
    return self._totals >> 128


@external
@view
def total_paid() -> uint256:
    """
    @notice What was paid in all, to all payees, in base units.
    """
    return self._totals & _TOTAL_MASK


@internal
@view
def _require_sessions():
    """
    @dev Reverts unless `Sessions` calls.
    """
    if msg.sender != sessions:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotSessions(address)")))


@internal
def _charge(charge: Charge, splits: DynArray[uint256, _MAX_SPLITS], had: DynArray[uint256, _MAX_SPLITS]) -> uint256:
    """
    @dev Charges a session.
    @param had The splits of the last charge. None of those has less now, and if one was left out, it is not the last charge.
    @return By how much, in base units, for the caller to count.
    """
    escrow: uint256 = self._escrow[charge.session]
    total: uint256 = self._sum(splits)
    self._require_key(charge, total, keccak256(abi_encode(splits)), escrow)
    charged: uint256 = self._charged[charge.session]
    if charged == 0:
        if len(had) != 0 or charge.count_before != 0:
            raw_revert(abi_encode(charge.session, method_id=method_id("WrongSplitsBefore(bytes32)")))
    elif self._tail(charge.count_before, had) != charged & _TAIL_MASK:
        raw_revert(abi_encode(charge.session, method_id=method_id("WrongSplitsBefore(bytes32)")))
    before: uint256 = charged >> 160
    if total <= before or charge.count < charge.count_before or charge.count >= 2**40:
        raw_revert(
            abi_encode(
                total,
                charge.count,
                before,
                charge.count_before,
                method_id=method_id("ChargeNotUp(uint256,uint256,uint256,uint256)"),
            )
        )
    if total > escrow & _DEPOSIT_MASK:
        self._require_open(charge.session)
        raw_revert(abi_encode(total, escrow & _DEPOSIT_MASK, method_id=method_id("AboveDeposit(uint256,uint256)")))
    if escrow & _LIMITED != 0:
        self._count_on_day(charge.session, total - before)
    # The total is at most a deposit, 95 bits.
    self._charged[charge.session] = total << 160 | self._tail(charge.count, splits)
    log Charged(session_id=charge.session, count=charge.count, head=charge.head, splits=splits)
    return total - before


@internal
@pure
def _splits_before(
    splits: DynArray[uint256, _MAX_SPLITS], before: DynArray[uint256, _MAX_SPLITS]
) -> DynArray[uint256, _MAX_SPLITS]:
    """
    @dev The splits that these payees had before. Reverts if one has less now.
    """
    if len(before) != len(splits):
        raw_revert(abi_encode(len(splits), len(before), method_id=method_id("LengthsDiffer(uint256,uint256)")))
    found: DynArray[uint256, _MAX_SPLITS] = []
    index: uint256 = 0
    for split: uint256 in splits:
        had: uint256 = before[index]
        index += 1
        if had > split & _AMOUNT_MASK:
            raw_revert(abi_encode(convert(split >> 96, address), method_id=method_id("SplitShrunk(address)")))
        if had != 0:
            found.append(split & ~_AMOUNT_MASK | had)
    return found


@internal
@pure
def _sum(splits: DynArray[uint256, _MAX_SPLITS]) -> uint256:
    """
    @dev Reverts unless splits ascend by payee, none of nothing.
    @return Their sum: at most 32 amounts of 96 bits.
    """
    total: uint256 = 0
    last_payee: uint256 = 0
    for split: uint256 in splits:
        payee: uint256 = split >> 96
        if payee <= last_payee or split & _AMOUNT_MASK == 0:
            raw_revert(abi_encode(convert(payee, address), method_id=method_id("SplitInvalid(address)")))
        last_payee = payee
        total += split & _AMOUNT_MASK
    return total


@internal
@view
def _require_key(charge: Charge, total: uint256, splits_hash: bytes32, escrow: uint256):
    """
    @dev Reverts unless the session's key signed the voucher: the present one, or the one replaced last while its
         grace period is not over.
    """
    key: address = convert(escrow >> 96, address)
    if key == empty(address):
        raw_revert(abi_encode(charge.session, method_id=method_id("SessionUnknown(bytes32)")))
    voucher: bytes32 = keccak256(
        abi_encode(_VOUCHER_TYPE_HASH, charge.session, charge.count, total, charge.head, splits_hash)
    )
    signer: address = domain._recover_compact(domain._digest(voucher), charge.r, charge.vs)
    if signer != key:
        replaced: address = empty(address)
        until: uint64 = 0
        replaced, until = staticcall ISessions(sessions).replaced_key(charge.session)
        if signer != replaced or signer == empty(address) or block.timestamp > convert(until, uint256):
            raw_revert(abi_encode(key, signer, method_id=method_id("WrongSigner(address,address)")))


@internal
def _count_on_day(session_id: bytes32, growth: uint256):
    """
    @dev Counts what is charged on the present UTC day, up to the session's limit.
    """
    day: uint256 = block.timestamp // _SECONDS_PER_DAY
    on_day: uint256 = convert(self._charged_on(session_id, day), uint256) + growth
    limit: uint96 = staticcall ISessions(sessions).daily_limit(session_id)
    if on_day > convert(limit, uint256):
        raw_revert(abi_encode(on_day, limit, method_id=method_id("AboveDailyLimit(uint256,uint96)")))
    self._on_day[session_id] = day << 96 | on_day


@internal
@view
def _charged_on(session_id: bytes32, day: uint256) -> uint96:
    """
    @dev What was charged on a UTC day to a session that has a daily limit.
    """
    on_day: uint256 = self._on_day[session_id]
    if on_day >> 96 != day:
        return 0
    return convert(on_day & _AMOUNT_MASK, uint96)


@internal
def _forfeit(session_id: bytes32, count: uint256, merged: forfeits.Merged, escrow: uint256):
    """
    @dev Ends a session with the splits that both vouchers give together.
    """
    owner: address = empty(address)
    router: address = empty(address)
    managed: bool = False
    owner, router, managed = staticcall ISessions(sessions).parties(session_id)
    deposit: uint256 = escrow & _DEPOSIT_MASK
    spendable: uint256 = deposit
    if escrow & _LIMITED != 0:
        limit: uint96 = staticcall ISessions(sessions).daily_limit(session_id)
        on_day: uint96 = self._charged_on(session_id, block.timestamp // _SECONDS_PER_DAY)
        spendable = min(deposit, merged.total_charged + convert(limit - on_day, uint256))

    final: DynArray[uint256, _MAX_FINAL_SPLITS] = forfeits._cut(merged, spendable)
    kept: uint256 = 0
    weight: uint256 = 0
    kept, weight = forfeits._sum_but(final, router)
    # With own keys the miners get what is left, and with managed ones as much from the router's bond; nobody, if there are none.
    bonus: uint256 = 0
    from_bond: uint96 = 0
    if managed and weight != 0:
        from_bond = convert(deposit - kept, uint96)
    elif weight != 0:
        bonus = spendable - kept
    from_bond = extcall ISessions(sessions).forfeit(session_id, from_bond)
    refunded: uint256 = deposit - kept - bonus
    bonus += convert(from_bond, uint256)
    final = forfeits._add_bonus(final, bonus, router, weight)
    self._escrow[session_id] = escrow & ~_DEPOSIT_MASK | kept + bonus
    self._charged[session_id] = kept + bonus << 160 | self._tail(count, final)
    self._totals += kept + bonus - merged.total_charged << 128
    log Forfeited(session_id=session_id, count=count, splits=final, refund=convert(refunded, uint96), from_bond=from_bond)
    self._refund(owner, refunded)


@internal
def _open_entry(
    session_id: bytes32, count: uint256, splits: DynArray[uint256, _MAX_FINAL_SPLITS], index: uint256
) -> uint256:
    """
    @dev Opened entries of different sessions add up in `opened`, which never exceeds what was charged for the payee;
         `claimed` counts what was paid by any way, so nothing is paid twice.
    @return What is due to the payee, as far as the hub has not paid out all that was ever charged.
    """
    self._require_splits(session_id, count, splits)
    if index >= len(splits):
        raw_revert(abi_encode(index, len(splits), method_id=method_id("NoSuchSplit(uint256,uint256)")))
    payee: address = convert(splits[index] >> 96, address)
    entry: uint256 = splits[index] & _AMOUNT_MASK
    self.opened[payee] += entry - self._opened_entry[session_id][payee]
    self._opened_entry[session_id][payee] = entry
    totals: uint256 = self._totals
    return min(self._due(payee, self.opened[payee]), (totals >> 128) - (totals & _TOTAL_MASK))


@internal
def _pay_all(payee: address, recipient: address, due: uint256) -> uint96:
    """
    @dev Pays all that is due to one payee, and counts it.
    """
    totals: uint256 = self._totals
    left: uint256 = (totals >> 128) - (totals & _TOTAL_MASK)
    if due > left:
        raw_revert(abi_encode(due, left, method_id=method_id("AboveCharged(uint256,uint256)")))
    if due == 0:
        return 0
    # All of it was charged and not paid: the sum stays below the half above it.
    self._totals = totals + due
    if not self._pay(payee, recipient, due):
        raw_revert(abi_encode(payee, recipient, due, method_id=method_id("PaymentRefused(address,address,uint256)")))
    log Claimed(payments=[convert(payee, uint256) << 96 | due])
    return convert(due, uint96)


@internal
def _refund(owner: address, amount: uint256):
    """
    @dev Pays what an owner gets back; what the asset refuses to pay is kept for it (`collect_refund`), so that no owner can
         keep a session from ending.
    """
    if amount != 0 and not self._transfer(owner, amount):
        self.kept_refund[owner] += amount
        log RefundKept(owner=owner, amount=convert(amount, uint96))


@internal
def _transfer(recipient: address, amount: uint256) -> bool:
    """
    @dev Whether the asset paid.
    """
    success: bool = False
    response: Bytes[32] = b""
    success, response = raw_call(
        asset,
        abi_encode(recipient, amount, method_id=method_id("transfer(address,uint256)")),
        max_outsize=32,
        revert_on_failure=False,
    )
    return success and (len(response) == 0 or convert(response, uint256) == 1)


@internal
def _pay(payee: address, recipient: address, due: uint256) -> bool:
    """
    @dev Pays out of the escrow. `claimed` is raised before, so that who is called meanwhile finds nothing due.
    @return Whether it was paid; if not, nothing has changed.
    """
    claimed: uint256 = self.claimed[payee]
    self.claimed[payee] = claimed + due
    if self._transfer(recipient, due):
        return True
    self.claimed[payee] = claimed
    return False


@internal
@view
def _due(payee: address, cumulative: uint256) -> uint256:
    """
    @dev What is not yet paid of `cumulative`. `claimed` then stands at `cumulative` or above, so neither an older root, nor
         this one again, nor `claim_direct` pays any of it twice.
    """
    return cumulative - min(cumulative, self.claimed[payee])


@internal
@view
def _require_mature(seal: Seal, payouts_root: bytes32):
    """
    @dev Reverts unless the epoch is sealed with these roots, was not vetoed, and the payout delay is over. Should a quorum
         have signed a false root, all roots together still pay no more than was charged.
    """
    mature_at: uint64 = self._mature_at(seal, payouts_root)
    if block.timestamp < convert(mature_at, uint256):
        raw_revert(
            abi_encode(mature_at, convert(block.timestamp, uint64), method_id=method_id("PayoutTooEarly(uint64,uint64)"))
        )


@internal
@view
def _mature_at(seal: Seal, payouts_root: bytes32) -> uint64:
    """
    @dev From when on an epoch pays, if it is sealed with these roots and was not vetoed.
    """
    return (
        staticcall IOutbox(outbox).payable_from(seal.epoch, seal.root, payouts_root, seal.signed) + payout_delay
    )


@internal
@pure
def _sum_entries(payout: Payout, session_id: bytes32, entries: DynArray[Entry, _MAX_ENTRIES]) -> uint96:
    """
    @dev What different entries of a payout's sum tree count from a session. Entries at different places are different
         leaves, for a leaf hashes two words and a node four; so they sum to no more than the payout.
    """
    summed: uint256 = 0
    lowest: uint256 = 0
    for entry: Entry in entries:
        node: bytes32 = empty(bytes32)
        total: uint256 = 0
        node, total = proofs._sum_root(session_id, convert(entry.amount, uint256), entry.index, entry.siblings)
        if total != payout.payout & _AMOUNT_MASK or keccak256(abi_encode(node, total)) != payout.sums:
            raw_revert(abi_encode(session_id, entry.amount, method_id=method_id("WrongEntry(bytes32,uint96)")))
        place: uint256 = len(entry.siblings) << 32 | entry.index
        if place < lowest:
            raw_revert(abi_encode(place, lowest, method_id=method_id("EntriesUnsorted(uint256,uint256)")))
        lowest = place + 1
        summed += convert(entry.amount, uint256)
    return convert(summed, uint96)


@internal
@view
def _require_splits(session_id: bytes32, count: uint256, splits: DynArray[uint256, _MAX_FINAL_SPLITS]):
    """
    @dev Reverts unless these are count and splits of the session's last charge; 0 and none if there is none.
    """
    tail: uint256 = self._charged[session_id] & _TAIL_MASK
    if self._tail(count, splits) != tail and not (tail == 0 and count == 0 and len(splits) == 0):
        raw_revert(abi_encode(session_id, count, method_id=method_id("WrongSplits(bytes32,uint256)")))


@internal
@view
def _require_open(session_id: bytes32):
    """
    @dev Reverts if the session was closed or forfeited.
    """
    if staticcall ISessions(sessions).is_closed(session_id):
        raw_revert(abi_encode(session_id, method_id=method_id("SessionClosed(bytes32)")))


@internal
@pure
def _tail(count: uint256, splits: DynArray[uint256, _MAX_FINAL_SPLITS]) -> uint256:
    """
    @dev What is kept of count and splits.
    """
    return convert(keccak256(abi_encode(count, splits)), uint256) & _TAIL_MASK


@internal
@pure
def _leaf(payout: Payout) -> bytes32:
    """
    @dev A payout's leaf in the payouts tree.
    """
    return keccak256(
        keccak256(
            abi_encode(convert(payout.payout >> 96, address), payout.payout & _AMOUNT_MASK, payout.sums)
        )
    )
