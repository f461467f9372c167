# pragma version 0.4.3
# pragma evm-version prague
"""
@title Welcome Center
@license Apache-2.0
@notice Where accounts come in: registration by signature, which sponsors may pay for; balances, which are credited to the
        hubs of other chains and come back from there. Custody is held per chain: a chain returns at most what was
        credited to it. States and changes: docs/protocol.md, "Welcome Center"; the specification is
        `tristrata.protocol.welcome`.
@dev Nothing here asks what kind of account calls or signs: keys, contracts (ERC-1271, ERC-4337) and keys with code
     (EIP-7702) are served alike, and whoever carries a signature may be anyone.
     Everything in custody belongs to a balance, to a chain's credit or to a sponsor's budget.
"""

from ethereum.ercs import IERC20
from shared import accounts
from shared import domain
from shared import ownership
from shared import payment


initializes: domain
initializes: ownership
exports: (domain.chain_ref, ownership.__interface__)


interface IOutbox:
    def send(destination: bytes32, receiver: bytes32, payload: Bytes[1024]) -> uint64: nonpayable


interface IERC3009:
    def receiveWithAuthorization(
        owner: address,
        receiver: address,
        amount: uint256,
        valid_after: uint256,
        valid_before: uint256,
        nonce: bytes32,
        v: uint8,
        r: bytes32,
        s: bytes32,
    ): nonpayable


interface IERC20Allowance:
    def allowance(owner: address, spender: address) -> uint256: view


struct Destination:
    receiver: bytes32
    limit: uint96
    credited: uint96


struct Sponsor:
    budget: uint96
    reward: uint96
    per_day: uint32
    per_account: uint8
    day: uint64
    on_day: uint32


_REGISTRATION_TYPE_HASH: constant(bytes32) = keccak256("Registration(address account,uint8 role,uint256 deadline)")
_DEPOSIT_TYPE_HASH: constant(bytes32) = keccak256("Deposit(address owner,uint96 amount,bytes32 salt)")
_WITHDRAW_TYPE_HASH: constant(bytes32) = keccak256(
    "Withdraw(address account,uint96 amount,address recipient,uint256 nonce,uint256 deadline)"
)
_CREDIT_TYPE_HASH: constant(bytes32) = keccak256(
    "Credit(address account,bytes32 destination,uint96 amount,uint256 nonce,uint256 deadline)"
)
_USER: constant(uint8) = 1
_MINER: constant(uint8) = 2
_CREDIT: constant(uint8) = 2
_RETURN: constant(uint256) = 3
_RETURN_BYTES: constant(uint256) = 96
_SECONDS_PER_DAY: constant(uint256) = 86_400
_AMOUNT_MASK: constant(uint256) = 2**96 - 1
_UINT64_MASK: constant(uint256) = 2**64 - 1
_UINT32_MASK: constant(uint256) = 2**32 - 1


asset: public(immutable(address))
outbox: public(immutable(address))
inbox: public(immutable(address))


# The roles of an account, each a bit of its own: 1 for a user, 2 for a miner.
roles: public(HashMap[address, uint8])
# What an account can withdraw or credit, in base units. Wider than any amount, so that no sum overflows.
balance_of: public(HashMap[address, uint256])
# Whether an account's order with this nonce was carried.
nonce_used: public(HashMap[address, HashMap[uint256, bool]])
# The one contract of a chain that credits go to and come back from, left-padded; zero for none.
_receivers: HashMap[bytes32, bytes32]
# Of a chain: how much may be credited to it at once (96 bits), how much is (96).
_credits: HashMap[bytes32, uint256]
# What changes with each registration that a sponsor pays: budget (96 bits), the last day (64), how many on it (32).
_budgets: HashMap[address, uint256]
# What a sponsor set: reward (96 bits), per_day (32), per_account (8).
_offers: HashMap[address, uint256]


event Registered:
    account: indexed(address)
    role: indexed(uint8)
    sponsor: indexed(address)


event CarrierPaid:
    sponsor: indexed(address)
    payee: indexed(address)
    reward: uint96


event SponsorshipSet:
    sponsor: indexed(address)
    reward: uint96
    per_day: uint32
    per_account: uint8


event BudgetRaised:
    sponsor: indexed(address)
    amount: uint96


event BudgetWithdrawn:
    sponsor: indexed(address)
    recipient: indexed(address)
    amount: uint96


event Deposited:
    account: indexed(address)
    payer: indexed(address)
    amount: uint96


event Withdrawn:
    account: indexed(address)
    recipient: indexed(address)
    amount: uint96


event Credited:
    account: indexed(address)
    destination: indexed(bytes32)
    amount: uint96
    index: uint64


event CreditReturned:
    account: indexed(address)
    source: indexed(bytes32)
    amount: uint96


event DestinationSet:
    chain: indexed(bytes32)
    receiver: bytes32
    limit: uint96


@deploy
def __init__(chain_ref: bytes32, asset_: address, outbox_: address, inbox_: address, change_delay: uint64):
    """
    @notice The deployer becomes the owner, which can pause entries and, announced, set destinations.
    @param chain_ref The 32-byte reference of this chain.
    @param asset_ The one ERC-20 that is kept here.
    @param outbox_ Who takes messages to other chains.
    @param inbox_ Who delivers messages of other chains.
    @param change_delay Seconds between announcing a destination and setting it.
    """
    domain.__init__(chain_ref)
    ownership.__init__(change_delay)
    asset = asset_
    outbox = outbox_
    inbox = inbox_


@external
def register(account: address, role: uint8, deadline: uint256, signature: Bytes[accounts.MAX_SIGNATURE]):
    """
    @notice Register `account`, which signed `Registration`. Anyone may carry it, and pays the gas: it is the sponsor.
    @param role 1 for a user, 2 for a miner.
    @param deadline Timestamp after which the signature is worth nothing.
    @param signature The account's; a contract account answers by ERC-1271.
    """
    self._register(account, role, deadline, signature, msg.sender)


@external
def register_sponsored(
    account: address,
    role: uint8,
    deadline: uint256,
    signature: Bytes[accounts.MAX_SIGNATURE],
    sponsor: address,
    payee: address,
):
    """
    @notice As `register`, and the sponsor's reward for it goes from its budget to the balance of `payee`. Anyone may
            carry it, for any sponsor: the reward is an open offer.
    @dev Accounts cost nothing to make, so whoever wants to can register many and take the reward for each. No contract
         can tell them from people; what bounds the loss is the sponsor's `per_day`, at `per_day * reward` a day, and
         its budget. A reward at or below the gas that it refunds takes the gain out of it.
    """
    self._require_address(payee)
    # How many registrations the account has already, by anyone's doing: each is one of two bits.
    roles: uint8 = self.roles[account]
    earlier: uint8 = (roles & _USER) + (roles & _MINER) // _MINER
    self._register(account, role, deadline, signature, sponsor)
    record: Sponsor = self._sponsor(sponsor)
    if earlier >= record.per_account:
        raw_revert(
            abi_encode(sponsor, account, record.per_account, method_id=method_id("AccountLimitReached(address,address,uint8)"))
        )
    today: uint64 = convert(block.timestamp // _SECONDS_PER_DAY, uint64)
    on_day: uint32 = 0
    if record.day == today:
        on_day = record.on_day
    if on_day >= record.per_day:
        raw_revert(abi_encode(sponsor, record.per_day, method_id=method_id("DailyLimitReached(address,uint32)")))
    self._require_budget(sponsor, record.budget, record.reward)
    self._store_budget(sponsor, record.budget - record.reward, today, on_day + 1)
    self.balance_of[payee] += convert(record.reward, uint256)
    log CarrierPaid(sponsor=sponsor, payee=payee, reward=record.reward)


@external
def set_sponsorship(reward: uint96, per_day: uint32, per_account: uint8):
    """
    @notice Set, as a sponsor, what the caller pays for. Nothing is paid before, nor where one of the limits is 0.
    @param reward What the carrier of one registration gets, in base units.
    @param per_day For how many registrations at most, per UTC day.
    @param per_account For an account's first how many registrations: 1 or 2, for there are two roles.
    """
    self._offers[msg.sender] = (
        convert(reward, uint256) << 40 | convert(per_day, uint256) << 8 | convert(per_account, uint256)
    )
    log SponsorshipSet(sponsor=msg.sender, reward=reward, per_day=per_day, per_account=per_account)


@external
@nonreentrant
def sponsor_deposit(amount: uint96):
    """
    @notice Raise the caller's budget as a sponsor; the caller has approved `amount`.
    """
    ownership._require_running()
    self._require_amount(amount)
    record: Sponsor = self._sponsor(msg.sender)
    budget: uint256 = convert(record.budget, uint256) + convert(amount, uint256)
    if budget > _AMOUNT_MASK:
        raw_revert(abi_encode(msg.sender, budget, method_id=method_id("BudgetTooHigh(address,uint256)")))
    self._store_budget(msg.sender, convert(budget, uint96), record.day, record.on_day)
    log BudgetRaised(sponsor=msg.sender, amount=amount)
    payment._pull(asset, msg.sender, self, amount)


@external
@nonreentrant
def sponsor_withdraw(amount: uint96, recipient: address):
    """
    @notice Take what is left of the caller's budget as a sponsor, or a part of it. At any time.
    """
    self._require_amount(amount)
    self._require_address(recipient)
    record: Sponsor = self._sponsor(msg.sender)
    self._require_budget(msg.sender, record.budget, amount)
    self._store_budget(msg.sender, record.budget - amount, record.day, record.on_day)
    log BudgetWithdrawn(sponsor=msg.sender, recipient=recipient, amount=amount)
    payment._push(asset, recipient, amount)


@external
@nonreentrant
def deposit(amount: uint96):
    """
    @notice Raise the caller's balance; the caller has approved `amount`.
    """
    self._deposit(msg.sender, msg.sender, amount)
    payment._pull(asset, msg.sender, self, amount)


@external
@nonreentrant
def deposit_for(account: address, amount: uint96):
    """
    @notice Raise another account's balance; the caller pays, and has approved `amount`.
    """
    self._deposit(account, msg.sender, amount)
    payment._pull(asset, msg.sender, self, amount)


@external
@nonreentrant
def deposit_with_permit(owner: address, amount: uint96, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    """
    @notice Raise `owner`'s balance from its tokens, by its permit (EIP-2612) of exactly `amount`. Anyone may carry it.
    @dev A permit that somebody used before us fails, but its allowance stands: so the allowance decides, not the call.
         It must be exactly `amount`, as a permit leaves it: an owner who allowed us more, for deposits of its own, is
         not to be made to deposit by others. An asset without `permit` whose fallback accepts the call gains nothing.
    """
    self._deposit(owner, owner, amount)
    permitted: bool = raw_call(
        asset,
        abi_encode(
            owner,
            self,
            convert(amount, uint256),
            deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    allowed: uint256 = staticcall IERC20Allowance(asset).allowance(owner, self)
    if allowed != convert(amount, uint256):
        raw_revert(abi_encode(owner, allowed, amount, method_id=method_id("PermitRefused(address,uint256,uint96)")))
    payment._pull(asset, owner, self, amount)


@external
@nonreentrant
def deposit_with_authorization(
    owner: address,
    amount: uint96,
    valid_after: uint256,
    valid_before: uint256,
    salt: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice Raise `owner`'s balance from its tokens, by its EIP-3009 `ReceiveWithAuthorization` whose nonce is the digest of
            `Deposit(owner, amount, salt)` in our own domain: so it can be used for this, here, and for nothing else.
            Anyone may carry it.
    @param salt Any 32 bytes that tell this deposit from others of the same amount.
    """
    self._deposit(owner, owner, amount)
    nonce: bytes32 = domain._digest(keccak256(abi_encode(_DEPOSIT_TYPE_HASH, owner, amount, salt)))
    before: uint256 = staticcall IERC20(asset).balanceOf(self)
    extcall IERC3009(asset).receiveWithAuthorization(
        owner, self, convert(amount, uint256), valid_after, valid_before, nonce, v, r, s
    )
    payment._require_received(asset, self, before, amount)


@external
@nonreentrant
def withdraw(amount: uint96, recipient: address):
    """
    @notice Take from the caller's balance. At any time.
    """
    self._withdraw(msg.sender, amount, recipient)


@external
@nonreentrant
def withdraw_for(
    account: address,
    amount: uint96,
    recipient: address,
    nonce: uint256,
    deadline: uint256,
    signature: Bytes[accounts.MAX_SIGNATURE],
):
    """
    @notice Take from the balance of `account`, which signed `Withdraw`. At any time; anyone may carry it, once.
    @param nonce Any number that the account did not use in an order before.
    """
    accounts._require_signed(
        account,
        domain._digest(keccak256(abi_encode(_WITHDRAW_TYPE_HASH, account, amount, recipient, nonce, deadline))),
        deadline,
        signature,
    )
    self._use_nonce(account, nonce)
    self._withdraw(account, amount, recipient)


@external
@nonreentrant
def credit(destination: bytes32, amount: uint96) -> uint64:
    """
    @notice Move a part of the caller's balance to the hub of another chain, where it arrives as a message.
    @param destination The reference of that chain.
    @return The message's index in the outbox.
    """
    return self._credit(msg.sender, destination, amount)


@external
@nonreentrant
def credit_for(
    account: address,
    destination: bytes32,
    amount: uint96,
    nonce: uint256,
    deadline: uint256,
    signature: Bytes[accounts.MAX_SIGNATURE],
) -> uint64:
    """
    @notice As `credit`, of the balance of `account`, which signed `Credit`. Anyone may carry it, once.
    @param nonce Any number that the account did not use in an order before.
    @return The message's index in the outbox.
    """
    accounts._require_signed(
        account,
        domain._digest(keccak256(abi_encode(_CREDIT_TYPE_HASH, account, destination, amount, nonce, deadline))),
        deadline,
        signature,
    )
    self._use_nonce(account, nonce)
    return self._credit(account, destination, amount)


@external
@nonreentrant
def on_message(source_chain: bytes32, source_sender: bytes32, payload: Bytes[1024]):
    """
    @notice Take credit back from a chain: an account's unused part, or what a miner earned there. The inbox's alone, at any
            time. The chain's receiver is believed whose it is, and never more than was credited to the chain.
    @param payload `abi.encode(uint8 kind, address account, uint96 amount)`, kind 3.
    """
    if msg.sender != inbox:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotInbox(address)")))
    if source_sender == empty(bytes32) or source_sender != self._receivers[source_chain]:
        raw_revert(abi_encode(source_chain, source_sender, method_id=method_id("UnknownSource(bytes32,bytes32)")))
    account: address = empty(address)
    amount: uint96 = 0
    account, amount = self._parse_return(payload)
    record: Destination = self._destination(source_chain)
    if amount > record.credited:
        raw_revert(
            abi_encode(source_chain, record.credited, amount, method_id=method_id("CreditExceeded(bytes32,uint96,uint96)"))
        )
    self._store_credit(source_chain, record.limit, record.credited - amount)
    self.balance_of[account] += convert(amount, uint256)
    log CreditReturned(account=account, source=source_chain, amount=amount)


@external
def set_destination(ref: bytes32, receiver: bytes32, limit: uint96):
    """
    @notice Set where credits of a chain go to and come back from. Announced, and the owner's alone. The receiver cannot
            change while anything is credited to it, for then it could not come back; a limit of 0 lets nothing more out.
    @param ref The reference of that chain.
    @param receiver That contract, left-padded to 32 bytes.
    @param limit How much may be credited to the chain at once, in base units.
    """
    ownership._make(
        keccak256(abi_encode(ref, receiver, limit, method_id=method_id("set_destination(bytes32,bytes32,uint96)")))
    )
    record: Destination = self._destination(ref)
    if record.credited != 0 and receiver != record.receiver:
        raw_revert(abi_encode(ref, record.credited, method_id=method_id("DestinationInUse(bytes32,uint96)")))
    self._receivers[ref] = receiver
    self._store_credit(ref, limit, record.credited)
    log DestinationSet(chain=ref, receiver=receiver, limit=limit)


@external
@view
def destination(ref: bytes32) -> Destination:
    """
    @notice A chain's receiver, its limit, and how much is credited to it; all empty for one that is unknown.
    """
    return self._destination(ref)


@external
@view
def sponsor(account: address) -> Sponsor:
    """
    @notice A sponsor's budget and limits, the last UTC day (since 1970) on which it paid, and for how many on it.
    """
    return self._sponsor(account)


@internal
def _register(
    account: address, role: uint8, deadline: uint256, signature: Bytes[accounts.MAX_SIGNATURE], sponsor: address
):
    """
    @dev Registers an account that signed for it, each role once.
    """
    ownership._require_running()
    if role != _USER and role != _MINER:
        raw_revert(abi_encode(role, method_id=method_id("RoleUnknown(uint8)")))
    if self.roles[account] & role != 0:
        raw_revert(abi_encode(account, role, method_id=method_id("AlreadyRegistered(address,uint8)")))
    accounts._require_signed(
        account, domain._digest(keccak256(abi_encode(_REGISTRATION_TYPE_HASH, account, role, deadline))), deadline, signature
    )
    self.roles[account] |= role
    log Registered(account=account, role=role, sponsor=sponsor)


@internal
def _deposit(account: address, payer: address, amount: uint96):
    """
    @dev Raises a balance by what the caller takes in next.
    """
    ownership._require_running()
    self._require_amount(amount)
    self._require_address(account)
    self.balance_of[account] += convert(amount, uint256)
    log Deposited(account=account, payer=payer, amount=amount)


@internal
def _withdraw(account: address, amount: uint96, recipient: address):
    """
    @dev Pays out of a balance.
    """
    self._require_amount(amount)
    self._require_address(recipient)
    self._take(account, amount)
    log Withdrawn(account=account, recipient=recipient, amount=amount)
    payment._push(asset, recipient, amount)


@internal
def _credit(account: address, destination: bytes32, amount: uint96) -> uint64:
    """
    @dev Moves a part of a balance to a chain's credit, and tells that chain.
    """
    ownership._require_running()
    self._require_amount(amount)
    record: Destination = self._destination(destination)
    if record.receiver == empty(bytes32):
        raw_revert(abi_encode(destination, method_id=method_id("DestinationUnknown(bytes32)")))
    credited: uint256 = convert(record.credited, uint256) + convert(amount, uint256)
    if credited > convert(record.limit, uint256):
        raw_revert(
            abi_encode(destination, credited, record.limit, method_id=method_id("CreditLimitReached(bytes32,uint256,uint96)"))
        )
    self._take(account, amount)
    self._store_credit(destination, record.limit, convert(credited, uint96))
    index: uint64 = extcall IOutbox(outbox).send(
        destination, record.receiver, abi_encode(_CREDIT, account, amount, convert(asset, bytes32))
    )
    log Credited(account=account, destination=destination, amount=amount, index=index)
    return index


@internal
def _take(account: address, amount: uint96):
    """
    @dev Lowers a balance.
    """
    balance: uint256 = self.balance_of[account]
    if convert(amount, uint256) > balance:
        raw_revert(abi_encode(account, balance, amount, method_id=method_id("BalanceTooLow(address,uint256,uint96)")))
    self.balance_of[account] = balance - convert(amount, uint256)


@internal
def _use_nonce(account: address, nonce: uint256):
    """
    @dev Each order is carried once.
    """
    if self.nonce_used[account][nonce]:
        raw_revert(abi_encode(account, nonce, method_id=method_id("NonceUsed(address,uint256)")))
    self.nonce_used[account][nonce] = True


@internal
@pure
def _require_amount(amount: uint96):
    """
    @dev Nothing is moved by nothing.
    """
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))


@internal
@view
def _require_address(account: address):
    """
    @dev Refuses those that could never take out what they get: nobody, and this contract.
    """
    if account == empty(address) or account == self:
        raw_revert(abi_encode(account, method_id=method_id("AddressInvalid(address)")))


@internal
@pure
def _require_budget(sponsor: address, budget: uint96, amount: uint96):
    """
    @dev Reverts unless a sponsor's budget covers `amount`.
    """
    if amount > budget:
        raw_revert(abi_encode(sponsor, budget, amount, method_id=method_id("BudgetTooLow(address,uint96,uint96)")))


@internal
@pure
def _parse_return(payload: Bytes[1024]) -> (address, uint96):
    """
    @dev The account and amount of a message of kind 3. By hand, because `abi_decode` reverts without a name.
    """
    if len(payload) != _RETURN_BYTES:
        raw_revert(abi_encode(len(payload), _RETURN_BYTES, method_id=method_id("WrongLength(uint256,uint256)")))
    kind: uint256 = extract32(payload, 0, output_type=uint256)
    account: uint256 = extract32(payload, 32, output_type=uint256)
    amount: uint256 = extract32(payload, 64, output_type=uint256)
    if kind != _RETURN or account >> 160 != 0 or amount > _AMOUNT_MASK:
        raw_revert(abi_encode(kind, account, amount, method_id=method_id("MessageUnknown(uint256,uint256,uint256)")))
    return convert(account, address), convert(amount, uint96)


@internal
@view
def _destination(ref: bytes32) -> Destination:
    """
    @dev A destination's record, unpacked.
    """
    packed: uint256 = self._credits[ref]
    return Destination(
        receiver=self._receivers[ref],
        limit=convert(packed >> 96, uint96),
        credited=convert(packed & _AMOUNT_MASK, uint96),
    )


@internal
def _store_credit(ref: bytes32, limit: uint96, credited: uint96):
    """
    @dev Packs a chain's limit, and what is credited to it.
    """
    self._credits[ref] = convert(limit, uint256) << 96 | convert(credited, uint256)


@internal
@view
def _sponsor(account: address) -> Sponsor:
    """
    @dev A sponsor's record, unpacked.
    """
    spent: uint256 = self._budgets[account]
    offer: uint256 = self._offers[account]
    return Sponsor(
        budget=convert(spent >> 96, uint96),
        reward=convert(offer >> 40, uint96),
        per_day=convert(offer >> 8 & _UINT32_MASK, uint32),
        per_account=convert(offer & 255, uint8),
        day=convert(spent >> 32 & _UINT64_MASK, uint64),
        on_day=convert(spent & _UINT32_MASK, uint32),
    )


@internal
def _store_budget(sponsor: address, budget: uint96, day: uint64, on_day: uint32):
    """
    @dev Packs what changes with each registration that a sponsor pays.
    """
    self._budgets[sponsor] = convert(budget, uint256) << 96 | convert(day, uint256) << 32 | convert(on_day, uint256)
