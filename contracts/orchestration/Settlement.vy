# pragma version 0.4.3
# pragma evm-version prague
"""
@title Charges by voucher, payments by claim
@license Apache-2.0
@notice A voucher of a session's key says how much is owed in all, and its splits say to whom. Anyone may charge it;
        charges only go up. What a payee was charged for it can claim for ever, without anyone's help.
        The rules are those of `tristrata.protocol.session`.
"""

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
    def session(session_id: bytes32) -> Session: view
    def pay(payee: address, amount: uint96): nonpayable


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


_VOUCHER_TYPE_HASH: constant(bytes32) = keccak256(
    "Voucher(bytes32 session,uint64 count,uint96 cumulative,bytes32 head,bytes32 splits)"
)
_MAX_SPLITS: constant(uint256) = 32
_AMOUNT_MASK: constant(uint256) = 2**96 - 1
_SECONDS_PER_DAY: constant(uint256) = 86_400


sessions: public(immutable(address))


# One word a session: cumulative (96 bits), count (40), day (24), charged on that day (96).
_charges: HashMap[bytes32, uint256]
_splits: HashMap[bytes32, bytes32]
_opened_entry: HashMap[bytes32, HashMap[address, uint256]]
opened: public(HashMap[address, uint256])
claimed: public(HashMap[address, uint256])


event Charged:
    session_id: indexed(bytes32)
    cumulative: uint96
    count: uint64
    head: bytes32
    splits: DynArray[uint256, _MAX_SPLITS]


event Claimed:
    payee: indexed(address)
    amount: uint96


@deploy
def __init__(chain_ref: bytes32, sessions_: address):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param sessions_ The contract that holds the escrow.
    """
    domain.__init__(chain_ref)
    sessions = sessions_


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
    session: Session = staticcall ISessions(sessions).session(voucher.session)
    if session.owner == empty(address):
        raw_revert(abi_encode(voucher.session, method_id=method_id("SessionUnknown(bytes32)")))
    if session.closed:
        raw_revert(abi_encode(voucher.session, method_id=method_id("SessionClosed(bytes32)")))
    domain._require_signer(
        keccak256(abi_encode(_VOUCHER_TYPE_HASH, voucher)), signature, session.terms.session_key
    )
    before: Charge = self._charge(voucher.session)
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
    log Charged(
        session_id=voucher.session,
        cumulative=voucher.cumulative,
        count=voucher.count,
        head=voucher.head,
        splits=splits,
    )


@external
@nonreentrant
def claim_direct(session_id: bytes32, splits: DynArray[uint256, _MAX_SPLITS], index: uint256) -> uint96:
    """
    @notice Pay entry `index` of a session's charged splits to its payee. Anyone may call, at any time, also after the
            session is closed.
    @dev Opened entries of different sessions add up in `opened`, which never exceeds what was charged for the payee;
         `claimed` counts what was paid by any way, so nothing is paid twice.
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
    if due == 0:
        return 0
    self.claimed[payee] += due
    amount: uint96 = convert(due, uint96)
    log Claimed(payee=payee, amount=amount)
    extcall ISessions(sessions).pay(payee, amount)
    return amount


@external
@view
def charged(session_id: bytes32) -> Charge:
    """
    @notice What was charged: in all, after how many receipts, how much on which UTC day, and the hash of the splits.
    """
    return self._charge(session_id)


@external
@view
def charged_amount(session_id: bytes32) -> uint96:
    """
    @notice What was charged in all, in base units.
    """
    return convert(self._charges[session_id] >> 160, uint96)


@internal
@view
def _charge(session_id: bytes32) -> Charge:
    packed: uint256 = self._charges[session_id]
    return Charge(
        cumulative=convert(packed >> 160, uint96),
        count=convert(packed >> 120 & (2**40 - 1), uint40),
        day=convert(packed >> 96 & (2**24 - 1), uint24),
        on_day=convert(packed & _AMOUNT_MASK, uint96),
        splits=self._splits[session_id],
    )
