# pragma version 0.4.3
# pragma evm-version prague
"""
@title Sessions and their escrow
@license Apache-2.0
@notice An owner puts down a deposit under terms that it signed once; vouchers of the session key are charged against it
        by `Settlement`, which keeps the money; what was not charged returns to the owner.
        States, changes and deadlines: docs/protocol.md, "Session"; the specification is `tristrata.protocol.session`.
@dev Whoever carries a signature may be anyone: a sponsor, a bundler (ERC-4337), the owner itself.
"""

from ethereum.ercs import IERC20
from shared import accounts
from shared import domain
from shared import ownership
from shared import payment


initializes: domain
initializes: ownership
exports: (domain.chain_ref, ownership.__interface__)


interface ISettlement:
    def escrow(session_id: bytes32) -> uint96: view
    def set_escrow(session_id: bytes32, key: address, limited: bool, deposit: uint96): nonpayable
    def refund(session_id: bytes32, owner: address) -> uint96: nonpayable


interface IRouterRegistry:
    def reserve(router: address, amount: uint96): nonpayable
    def release(router: address, amount: uint96): nonpayable
    def slash(router: address, amount: uint96, receiver: address) -> uint96: nonpayable


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


struct Terms:
    session_key: address
    router: address
    managed: bool
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
    replaced_key: address
    replaced_until: uint64


_TERMS_TYPE_HASH: constant(bytes32) = keccak256(
    "Terms(address session_key,address router,bool managed,bytes32 model_id,uint8 assurance,uint8 replicas,uint16 router_bps,uint96 max_prompt_price,uint96 max_output_price,uint96 max_per_day,uint96 exposure_cap,uint64 expiry)"
)
_OPEN_SESSION_TYPE_HASH: constant(bytes32) = keccak256(
    "OpenSession(address owner,uint256 nonce,uint96 deposit,uint256 deadline,Terms terms)Terms(address session_key,address router,bool managed,bytes32 model_id,uint8 assurance,uint8 replicas,uint16 router_bps,uint96 max_prompt_price,uint96 max_output_price,uint96 max_per_day,uint96 exposure_cap,uint64 expiry)"
)
_TOP_UP_TYPE_HASH: constant(bytes32) = keccak256(
    "TopUp(bytes32 session,address payer,uint96 amount,bytes32 salt,uint256 deadline)"
)
_REQUEST_CLOSE_TYPE_HASH: constant(bytes32) = keccak256(
    "RequestClose(bytes32 session,address sender,uint256 deadline)"
)
_REPLACE_KEY_TYPE_HASH: constant(bytes32) = keccak256(
    "ReplaceKey(bytes32 session,address old_key,address new_key,uint256 deadline)"
)
_REGISTER: constant(uint256) = 1
_REGISTRATION_BYTES: constant(uint256) = 96
_USER: constant(uint8) = 1
_MAX_ROUTER_BPS: constant(uint16) = 2_000
_MAX_REPLICAS: constant(uint8) = 8
_MAX_ASSURANCE: constant(uint8) = 3
_AMOUNT_MASK: constant(uint256) = 2**96 - 1
_UINT64_MASK: constant(uint256) = 2**64 - 1


asset: public(immutable(address))
settlement: public(immutable(address))
routers: public(immutable(address))
inbox: public(immutable(address))
welcome_chain: public(immutable(bytes32))
welcome: public(immutable(bytes32))
grace: public(immutable(uint64))


# The roles of an account, each a bit of its own: 1 for a user, 2 for a miner.
registered: public(HashMap[address, uint8])
key_of: public(HashMap[bytes32, address])
# owner (160 bits), closing_at (64), closed (8), managed (8), assurance (8), replicas (8).
_owners: HashMap[bytes32, uint256]
# router (160 bits), expiry (64), router_bps (16).
_routers: HashMap[bytes32, uint256]
_models: HashMap[bytes32, bytes32]
# max_prompt_price (96 bits), max_output_price (96), opened_at (64).
_prices: HashMap[bytes32, uint256]
# max_per_day (96 bits), exposure_cap (96).
_limits: HashMap[bytes32, uint256]
# The last session key that was replaced (160 bits), until when its vouchers can be charged (64).
_replaced: HashMap[bytes32, uint256]
_used: HashMap[bytes32, bool]


event Registered:
    account: indexed(address)
    role: indexed(uint8)


event Opened:
    session_id: indexed(bytes32)
    owner: indexed(address)
    router: indexed(address)
    deposit: uint96


event ToppedUp:
    session_id: indexed(bytes32)
    amount: uint96


event KeyReplaced:
    session_id: indexed(bytes32)
    old_key: address
    new_key: address
    old_key_until: uint64


event CloseRequested:
    session_id: indexed(bytes32)
    closing_at: uint64


event Closed:
    session_id: indexed(bytes32)
    refund: uint96


@deploy
def __init__(
    chain_ref: bytes32,
    asset_: address,
    settlement_: address,
    routers_: address,
    inbox_: address,
    welcome_chain_: bytes32,
    welcome_: bytes32,
    grace_: uint64,
    change_delay: uint64,
):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param asset_ The one ERC-20 of this hub.
    @param settlement_ The contract that keeps the deposits, and charges them.
    @param routers_ The `RouterRegistry`, whose bonds stand for managed deposits.
    @param inbox_ Who delivers messages of other chains (the operator's account until bridges exist).
    @param welcome_chain_ The chain whose Welcome Center is believed.
    @param welcome_ That Welcome Center, left-padded.
    @param grace_ Seconds between a close request, or the expiry, and the close; also how long a replaced key's vouchers
                  can be charged.
    @param change_delay Seconds between announcing a change and making it.
    """
    domain.__init__(chain_ref)
    ownership.__init__(change_delay)
    asset = asset_
    settlement = settlement_
    routers = routers_
    inbox = inbox_
    welcome_chain = welcome_chain_
    welcome = welcome_
    grace = grace_


@external
def on_message(source_chain: bytes32, source_sender: bytes32, payload: Bytes[1024]):
    """
    @notice A message of another chain: so far, a registration that the Welcome Center made.
    @param payload `abi.encode(uint8 kind, address account, uint8 role)`, kind 1.
    """
    if msg.sender != inbox:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotInbox(address)")))
    if source_chain != welcome_chain or source_sender != welcome:
        raw_revert(abi_encode(source_chain, source_sender, method_id=method_id("UnknownSource(bytes32,bytes32)")))
    # By hand, because `abi_decode` reverts without a name.
    if len(payload) != _REGISTRATION_BYTES:
        raw_revert(abi_encode(len(payload), _REGISTRATION_BYTES, method_id=method_id("WrongLength(uint256,uint256)")))
    kind: uint256 = extract32(payload, 0, output_type=uint256)
    packed: uint256 = extract32(payload, 32, output_type=uint256)
    role: uint256 = extract32(payload, 64, output_type=uint256)
    if kind != _REGISTER or packed >> 160 != 0 or (role != 1 and role != 2):
        raw_revert(abi_encode(kind, packed, role, method_id=method_id("MessageUnknown(uint256,uint256,uint256)")))
    account: address = convert(packed, address)
    self.registered[account] |= convert(role, uint8)
    log Registered(account=account, role=convert(role, uint8))


@external
@nonreentrant
def open(nonce: uint256, deposit: uint96, terms: Terms) -> bytes32:
    """
    @notice Open a session of the caller's, who has approved the deposit. A managed one only its router may bring, here and
            in the other two ways: it stands for it with its bond.
    @return `keccak256(abi.encode(chain_ref, owner, nonce))`.
    """
    session_id: bytes32 = self._open(msg.sender, nonce, deposit, terms)
    payment._pull(asset, msg.sender, settlement, deposit)
    return session_id


@external
@nonreentrant
def open_for(
    owner: address,
    nonce: uint256,
    deposit: uint96,
    deadline: uint256,
    terms: Terms,
    signature: Bytes[accounts.MAX_SIGNATURE],
    permit_deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> bytes32:
    """
    @notice Open a session that `owner` ordered by signature (`OpenSession`), paid by its permit. Anyone may carry it.
    @dev A permit that somebody used before us fails, but its allowance stands: the failure is ignored and the
         transfer decides.
    """
    accounts._require_signed(owner, self._order(owner, nonce, deposit, deadline, terms), deadline, signature)
    permitted: bool = raw_call(
        asset,
        abi_encode(
            owner,
            self,
            convert(deposit, uint256),
            permit_deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    session_id: bytes32 = self._open(owner, nonce, deposit, terms)
    payment._pull(asset, owner, settlement, deposit)
    return session_id


@external
@nonreentrant
def open_with_authorization(
    owner: address,
    nonce: uint256,
    deposit: uint96,
    deadline: uint256,
    terms: Terms,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> bytes32:
    """
    @notice Open a session that `owner` ordered and paid with one signature: an EIP-3009 `ReceiveWithAuthorization` of the
            asset, valid from 0 until `deadline`, whose nonce is the digest of the order (`OpenSession`). Anyone may
            carry it.
    """
    order: bytes32 = self._order(owner, nonce, deposit, deadline, terms)
    session_id: bytes32 = self._open(owner, nonce, deposit, terms)
    self._receive(owner, deposit, deadline, order, v, r, s)
    return session_id


@external
@nonreentrant
def top_up(session_id: bytes32, amount: uint96):
    """
    @notice Add to a session's deposit, from the caller. Anyone may.
    """
    self._top_up(session_id, amount)
    payment._pull(asset, msg.sender, settlement, amount)


@external
@nonreentrant
def top_up_with_authorization(
    session_id: bytes32,
    payer: address,
    amount: uint96,
    salt: bytes32,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice Add to a session's deposit from `payer`, by an EIP-3009 authorization as in `open_with_authorization`, whose
            nonce is the digest of `TopUp`. Anyone may carry it.
    """
    self._top_up(session_id, amount)
    nonce: bytes32 = domain._digest(
        keccak256(abi_encode(_TOP_UP_TYPE_HASH, session_id, payer, amount, salt, deadline))
    )
    self._receive(payer, amount, deadline, nonce, v, r, s)


@external
def replace_key(session_id: bytes32, new_key: address):
    """
    @notice Replace a session's key; vouchers of the old one can be charged for the grace period. The owner's alone, and not
            in a managed session.
    """
    self._require_owner_of(session_id, msg.sender)
    self._replace_key(session_id, new_key)


@external
def replace_key_for(session_id: bytes32, new_key: address, deadline: uint256, signature: Bytes[accounts.MAX_SIGNATURE]):
    """
    @notice Replace a session's key as its owner ordered by signature (`ReplaceKey`). Anyone may carry it, once.
    """
    owner: address = convert(self._owners[session_id] >> 96, address)
    old_key: address = self.key_of[session_id]
    digest: bytes32 = domain._digest(
        keccak256(abi_encode(_REPLACE_KEY_TYPE_HASH, session_id, old_key, new_key, deadline))
    )
    accounts._require_signed(owner, digest, deadline, signature)
    if self._used[digest]:
        raw_revert(abi_encode(digest, method_id=method_id("SignatureUsed(bytes32)")))
    self._used[digest] = True
    self._replace_key(session_id, new_key)


@external
def request_close(session_id: bytes32):
    """
    @notice Ask to close: the owner, the session key or the router. Vouchers can be charged until it is closed.
    """
    self._request_close(session_id, msg.sender)


@external
def request_close_for(session_id: bytes32, sender: address, deadline: uint256, signature: Bytes[accounts.MAX_SIGNATURE]):
    """
    @notice Ask to close, as a party (`sender`) ordered by signature (`RequestClose`). Anyone may carry it.
    """
    accounts._require_signed(
        sender,
        domain._digest(keccak256(abi_encode(_REQUEST_CLOSE_TYPE_HASH, session_id, sender, deadline))),
        deadline,
        signature,
    )
    self._request_close(session_id, sender)


@external
@nonreentrant
def close(session_id: bytes32):
    """
    @notice Close a session whose time has come, and refund what was not charged to its owner. Anyone may.
    """
    self._require_live(session_id)
    record: Session = self._session(session_id)
    closable_at: uint64 = record.terms.expiry + grace
    if record.closing_at != 0:
        closable_at = min(closable_at, record.closing_at)
    if block.timestamp < convert(closable_at, uint256):
        raw_revert(
            abi_encode(session_id, closable_at, block.timestamp, method_id=method_id("CloseTooEarly(bytes32,uint64,uint256)"))
        )
    self._end(session_id, record)
    refund: uint96 = extcall ISettlement(settlement).refund(session_id, record.owner)
    log Closed(session_id=session_id, refund=refund)


@external
def forfeit(session_id: bytes32, from_bond: uint96) -> uint96:
    """
    @notice End a session whose key signed vouchers that contradict each other. `Settlement`'s alone.
    @param from_bond What the router's bond is to add for the payees, as far as it goes.
    @return What came from the router's bond.
    """
    if msg.sender != settlement:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotSettlement(address)")))
    record: Session = self._session(session_id)
    self._end(session_id, record)
    if from_bond == 0:
        return 0
    before: uint256 = staticcall IERC20(asset).balanceOf(settlement)
    slashed: uint96 = extcall IRouterRegistry(routers).slash(record.terms.router, from_bond, settlement)
    payment._require_received(asset, settlement, before, slashed)
    return slashed


@external
@view
def daily_limit(session_id: bytes32) -> uint96:
    """
    @notice What may be charged a UTC day, in base units; 0 for no limit.
    """
    return convert(self._limits[session_id] >> 96, uint96)


@external
@view
def replaced_key(session_id: bytes32) -> (address, uint64):
    """
    @notice The last session key that was replaced, and until when its vouchers can be charged.
    """
    replaced: uint256 = self._replaced[session_id]
    return convert(replaced >> 64, address), convert(replaced & _UINT64_MASK, uint64)


@external
@view
def parties(session_id: bytes32) -> (address, address, bool):
    """
    @notice A session's owner, its router, and whether the router holds the session's key.
    """
    owner: uint256 = self._owners[session_id]
    return convert(owner >> 96, address), convert(self._routers[session_id] >> 96, address), owner >> 16 & 1 == 1


@external
@view
def is_closed(session_id: bytes32) -> bool:
    """
    @notice Whether a session was closed or forfeited.
    """
    return self._is_closed(session_id)


@external
@view
def session(session_id: bytes32) -> Session:
    """
    @notice A session's record; its owner is zero when there is none.
    """
    return self._session(session_id)


@external
@view
def session_id(owner: address, nonce: uint256) -> bytes32:
    """
    @notice The id that `owner`'s session with `nonce` has or will have.
    """
    return self._session_id(owner, nonce)


@internal
def _open(owner: address, nonce: uint256, deposit: uint96, terms: Terms) -> bytes32:
    """
    @dev Writes the session down; what it is paid with comes after.
    """
    ownership._require_running()
    session_id: bytes32 = self._session_id(owner, nonce)
    if self._owners[session_id] != 0:
        raw_revert(abi_encode(session_id, method_id=method_id("SessionExists(bytes32)")))
    if self.registered[owner] & _USER == 0:
        raw_revert(abi_encode(owner, method_id=method_id("NotRegistered(address)")))
    # Its bond answers for the key, so it must have agreed: otherwise anyone could name it with a key of their own, sign
    # vouchers that contradict each other, and have its bond paid to themselves.
    if terms.managed and msg.sender != terms.router:
        raw_revert(abi_encode(msg.sender, terms.router, method_id=method_id("NotRouter(address,address)")))
    # Below 2**63, so that neither the expiry nor its grace period can overflow and lock the deposit.
    if convert(terms.expiry, uint256) <= block.timestamp or terms.expiry >= 2**63:
        raw_revert(abi_encode(terms.expiry, block.timestamp, method_id=method_id("ExpiryOutOfRange(uint64,uint256)")))
    if terms.session_key == empty(address) or terms.router == empty(address):
        raw_revert(abi_encode(terms.session_key, terms.router, method_id=method_id("ZeroAddress(address,address)")))
    if terms.router_bps > _MAX_ROUTER_BPS:
        raw_revert(abi_encode(terms.router_bps, _MAX_ROUTER_BPS, method_id=method_id("ShareTooHigh(uint16,uint16)")))
    if terms.replicas == 0 or terms.replicas > _MAX_REPLICAS:
        raw_revert(abi_encode(terms.replicas, _MAX_REPLICAS, method_id=method_id("ReplicasOutOfRange(uint8,uint8)")))
    if terms.assurance > _MAX_ASSURANCE:
        raw_revert(abi_encode(terms.assurance, method_id=method_id("AssuranceUnknown(uint8)")))
    self.key_of[session_id] = terms.session_key
    self._owners[session_id] = (
        convert(owner, uint256) << 96
        | convert(terms.managed, uint256) << 16
        | convert(terms.assurance, uint256) << 8
        | convert(terms.replicas, uint256)
    )
    self._routers[session_id] = (
        convert(terms.router, uint256) << 96 | convert(terms.expiry, uint256) << 32 | convert(terms.router_bps, uint256)
    )
    self._models[session_id] = terms.model_id
    self._prices[session_id] = (
        convert(terms.max_prompt_price, uint256) << 160
        | convert(terms.max_output_price, uint256) << 64
        | block.timestamp
    )
    self._limits[session_id] = convert(terms.max_per_day, uint256) << 96 | convert(terms.exposure_cap, uint256)
    log Opened(session_id=session_id, owner=owner, router=terms.router, deposit=deposit)
    self._add_deposit(session_id, terms.router, terms.managed, deposit)
    return session_id


@internal
def _top_up(session_id: bytes32, amount: uint96):
    """
    @dev Raises the deposit of a live session; what pays for it comes after.
    """
    ownership._require_running()
    self._require_live(session_id)
    log ToppedUp(session_id=session_id, amount=amount)
    self._add_deposit(
        session_id,
        convert(self._routers[session_id] >> 96, address),
        self._owners[session_id] >> 16 & 1 == 1,
        amount,
    )


@internal
def _add_deposit(session_id: bytes32, router: address, managed: bool, amount: uint96):
    """
    @dev Raises the deposit. The router of a managed session must have the bond for it.
    """
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))
    deposit: uint96 = staticcall ISettlement(settlement).escrow(session_id)
    if amount > max_value(uint96) - deposit:
        raw_revert(abi_encode(deposit, amount, method_id=method_id("DepositTooHigh(uint96,uint256)")))
    self._set_escrow(session_id, deposit + amount)
    if managed:
        extcall IRouterRegistry(routers).reserve(router, amount)


@internal
def _replace_key(session_id: bytes32, new_key: address):
    """
    @dev One replaced key at a time is still good, so none loses its grace period to the next replacement. A managed
         session keeps the key that the router's bond answers for; its owner revokes it by closing, which takes as long.
    """
    self._require_live(session_id)
    if self._owners[session_id] >> 16 & 1 == 1:
        raw_revert(abi_encode(session_id, method_id=method_id("SessionManaged(bytes32)")))
    old_key: address = self.key_of[session_id]
    if new_key == empty(address) or new_key == old_key:
        raw_revert(abi_encode(old_key, new_key, method_id=method_id("NotAnotherKey(address,address)")))
    replaced_until: uint64 = convert(self._replaced[session_id] & _UINT64_MASK, uint64)
    if block.timestamp < convert(replaced_until, uint256):
        raw_revert(
            abi_encode(replaced_until, block.timestamp, method_id=method_id("KeyChangeTooEarly(uint64,uint256)"))
        )
    old_key_until: uint64 = convert(block.timestamp, uint64) + grace
    self._replaced[session_id] = convert(old_key, uint256) << 64 | convert(old_key_until, uint256)
    self.key_of[session_id] = new_key
    self._set_escrow(session_id, staticcall ISettlement(settlement).escrow(session_id))
    log KeyReplaced(session_id=session_id, old_key=old_key, new_key=new_key, old_key_until=old_key_until)


@internal
def _request_close(session_id: bytes32, sender: address):
    """
    @dev Starts the grace period, for a party to the session.
    """
    self._require_live(session_id)
    record: Session = self._session(session_id)
    if sender != record.owner and sender != record.terms.session_key and sender != record.terms.router:
        raw_revert(abi_encode(session_id, sender, method_id=method_id("NotParty(bytes32,address)")))
    if record.closing_at != 0:
        raw_revert(abi_encode(session_id, record.closing_at, method_id=method_id("AlreadyClosing(bytes32,uint64)")))
    closing_at: uint64 = convert(block.timestamp, uint64) + grace
    # It was 0 before.
    self._owners[session_id] |= convert(closing_at, uint256) << 32
    log CloseRequested(session_id=session_id, closing_at=closing_at)


@internal
def _set_escrow(session_id: bytes32, deposit: uint96):
    """
    @dev Tells `Settlement` what may be charged, by vouchers of which key.
    """
    extcall ISettlement(settlement).set_escrow(
        session_id, self.key_of[session_id], self._limits[session_id] >> 96 != 0, deposit
    )


@internal
def _end(session_id: bytes32, record: Session):
    """
    @dev Marks a session closed, and frees the bond that stood for it.
    """
    self._owners[session_id] |= 1 << 24
    if record.terms.managed:
        extcall IRouterRegistry(routers).release(record.terms.router, record.deposit)


@internal
@view
def _session(session_id: bytes32) -> Session:
    """
    @dev A session's record, unpacked.
    """
    owner: uint256 = self._owners[session_id]
    router: uint256 = self._routers[session_id]
    prices: uint256 = self._prices[session_id]
    limits: uint256 = self._limits[session_id]
    replaced: uint256 = self._replaced[session_id]
    return Session(
        owner=convert(owner >> 96, address),
        terms=Terms(
            session_key=self.key_of[session_id],
            router=convert(router >> 96, address),
            managed=owner >> 16 & 1 == 1,
            model_id=self._models[session_id],
            assurance=convert(owner >> 8 & 255, uint8),
            replicas=convert(owner & 255, uint8),
            router_bps=convert(router & (2**16 - 1), uint16),
            max_prompt_price=convert(prices >> 160, uint96),
            max_output_price=convert(prices >> 64 & _AMOUNT_MASK, uint96),
            max_per_day=convert(limits >> 96, uint96),
            exposure_cap=convert(limits & _AMOUNT_MASK, uint96),
            expiry=convert(router >> 32 & _UINT64_MASK, uint64),
        ),
        deposit=staticcall ISettlement(settlement).escrow(session_id),
        opened_at=convert(prices & _UINT64_MASK, uint64),
        closing_at=convert(owner >> 32 & _UINT64_MASK, uint64),
        closed=owner >> 24 & 1 == 1,
        replaced_key=convert(replaced >> 64, address),
        replaced_until=convert(replaced & _UINT64_MASK, uint64),
    )


@internal
@view
def _is_closed(session_id: bytes32) -> bool:
    return self._owners[session_id] >> 24 & 1 == 1


@internal
@view
def _require_live(session_id: bytes32):
    """
    @dev Reverts unless the session is open.
    """
    if self._owners[session_id] == 0:
        raw_revert(abi_encode(session_id, method_id=method_id("SessionUnknown(bytes32)")))
    if self._is_closed(session_id):
        raw_revert(abi_encode(session_id, method_id=method_id("SessionClosed(bytes32)")))


@internal
@view
def _require_owner_of(session_id: bytes32, sender: address):
    """
    @dev Reverts unless `sender` owns the session.
    """
    if convert(self._owners[session_id] >> 96, address) != sender:
        raw_revert(abi_encode(session_id, sender, method_id=method_id("NotSessionOwner(bytes32,address)")))


@internal
@view
def _order(owner: address, nonce: uint256, deposit: uint96, deadline: uint256, terms: Terms) -> bytes32:
    """
    @dev The digest of an owner's order to open a session.
    """
    return domain._digest(
        keccak256(
            abi_encode(
                _OPEN_SESSION_TYPE_HASH,
                owner,
                nonce,
                deposit,
                deadline,
                keccak256(abi_encode(_TERMS_TYPE_HASH, terms)),
            )
        )
    )


@internal
@view
def _session_id(owner: address, nonce: uint256) -> bytes32:
    return keccak256(abi_encode(domain.chain_ref, owner, nonce))


@internal
def _receive(payer: address, amount: uint96, deadline: uint256, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    """
    @dev Takes exactly `amount` by EIP-3009. The asset checks signature and deadline, and takes each nonce once.
    """
    before: uint256 = staticcall IERC20(asset).balanceOf(self)
    extcall IERC3009(asset).receiveWithAuthorization(
        payer, self, convert(amount, uint256), 0, deadline, nonce, v, r, s
    )
    payment._require_received(asset, self, before, amount)
    payment._push(asset, settlement, amount)
