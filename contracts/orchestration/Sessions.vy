# pragma version 0.4.3
# pragma evm-version prague
"""
@title Sessions and their escrow
@license Apache-2.0
@notice An owner puts down a deposit under terms that it signed once; vouchers of the session key are charged against it
        by `Settlement`; what was not charged returns to the owner. All custody of the hub is here.
        The rules are those of `tristrata.protocol.session`.
"""

from ethereum.ercs import IERC20
from snekmate.utils import signature_checker
from shared import domain


initializes: domain
exports: domain.chain_ref


interface ISettlement:
    def charged_amount(session_id: bytes32) -> uint96: view


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


_TERMS_TYPE_HASH: constant(bytes32) = keccak256(
    "Terms(address session_key,address router,bytes32 model_id,uint8 assurance,uint8 replicas,uint16 router_bps,uint96 max_prompt_price,uint96 max_output_price,uint96 max_per_day,uint96 exposure_cap,uint64 expiry)"
)
_OPEN_SESSION_TYPE_HASH: constant(bytes32) = keccak256(
    "OpenSession(address owner,uint256 nonce,uint96 deposit,uint256 deadline,Terms terms)Terms(address session_key,address router,bytes32 model_id,uint8 assurance,uint8 replicas,uint16 router_bps,uint96 max_prompt_price,uint96 max_output_price,uint96 max_per_day,uint96 exposure_cap,uint64 expiry)"
)
_REGISTER: constant(uint8) = 1
_USER: constant(uint8) = 1
_MAX_ROUTER_BPS: constant(uint16) = 2_000
_MAX_REPLICAS: constant(uint8) = 8
_MAX_ASSURANCE: constant(uint8) = 3


asset: public(immutable(address))
settlement: public(immutable(address))
inbox: public(immutable(address))
welcome_chain: public(immutable(bytes32))
welcome: public(immutable(bytes32))
grace: public(immutable(uint64))


# The roles of an account, each a bit of its own: 1 for a user, 2 for a miner.
registered: public(HashMap[address, uint8])
_sessions: HashMap[bytes32, Session]


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
    inbox_: address,
    welcome_chain_: bytes32,
    welcome_: bytes32,
    grace_: uint64,
):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param asset_ The one ERC-20 of this hub.
    @param settlement_ The only contract that may order payments.
    @param inbox_ Who delivers messages of other chains (the operator's account until bridges exist).
    @param welcome_chain_ The chain whose Welcome Center is believed.
    @param welcome_ That Welcome Center, left-padded.
    @param grace_ Seconds between a close request, or the expiry, and the close.
    """
    domain.__init__(chain_ref)
    asset = asset_
    settlement = settlement_
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
    kind: uint8 = 0
    account: address = empty(address)
    role: uint8 = 0
    kind, account, role = abi_decode(payload, (uint8, address, uint8))
    if kind != _REGISTER or (role != 1 and role != 2):
        raw_revert(abi_encode(kind, role, method_id=method_id("MessageUnknown(uint8,uint8)")))
    self.registered[account] |= role
    log Registered(account=account, role=role)


@external
@nonreentrant
def open(nonce: uint256, deposit: uint96, terms: Terms) -> bytes32:
    """
    @notice Open a session of the caller's, who has approved the deposit.
    @return `keccak256(abi.encode(chain_ref, owner, nonce))`.
    """
    return self._open(msg.sender, nonce, deposit, terms)


@external
@nonreentrant
def open_for(
    owner: address,
    nonce: uint256,
    deposit: uint96,
    deadline: uint256,
    terms: Terms,
    signature: Bytes[65],
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
    if block.timestamp > deadline:
        raw_revert(abi_encode(deadline, block.timestamp, method_id=method_id("SignatureExpired(uint256,uint256)")))
    digest: bytes32 = domain._digest(
        keccak256(
            abi_encode(_OPEN_SESSION_TYPE_HASH, owner, nonce, deposit, deadline, self._hash_terms(terms))
        )
    )
    if owner == empty(address) or not signature_checker._is_valid_signature_now(owner, digest, signature):
        raw_revert(abi_encode(owner, method_id=method_id("NotSignedBy(address)")))
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
    return self._open(owner, nonce, deposit, terms)


@external
@nonreentrant
def top_up(session_id: bytes32, amount: uint96):
    """
    @notice Add to a session's deposit, from the caller. Anyone may.
    """
    self._check_live(session_id)
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))
    self._sessions[session_id].deposit += amount
    self._pull(msg.sender, amount)
    log ToppedUp(session_id=session_id, amount=amount)


@external
def request_close(session_id: bytes32):
    """
    @notice Ask to close: the owner, the session key or the router. Vouchers can be charged until it is closed.
    """
    self._check_live(session_id)
    session: Session = self._sessions[session_id]
    if msg.sender != session.owner and msg.sender != session.terms.session_key and msg.sender != session.terms.router:
        raw_revert(abi_encode(session_id, msg.sender, method_id=method_id("NotParty(bytes32,address)")))
    if session.closing_at != 0:
        raw_revert(abi_encode(session_id, session.closing_at, method_id=method_id("AlreadyClosing(bytes32,uint64)")))
    closing_at: uint64 = convert(block.timestamp, uint64) + grace
    self._sessions[session_id].closing_at = closing_at
    log CloseRequested(session_id=session_id, closing_at=closing_at)


@external
@nonreentrant
def close(session_id: bytes32):
    """
    @notice Close a session whose time has come, and refund what was not charged to its owner. Anyone may.
    """
    self._check_live(session_id)
    session: Session = self._sessions[session_id]
    closable_at: uint64 = session.terms.expiry + grace
    if session.closing_at != 0:
        closable_at = min(closable_at, session.closing_at)
    if block.timestamp < convert(closable_at, uint256):
        raw_revert(
            abi_encode(session_id, closable_at, block.timestamp, method_id=method_id("CloseTooEarly(bytes32,uint64,uint256)"))
        )
    refund: uint96 = session.deposit - staticcall ISettlement(settlement).charged_amount(session_id)
    self._sessions[session_id].closed = True
    log Closed(session_id=session_id, refund=refund)
    self._push(session.owner, refund)


@external
@nonreentrant
def pay(payee: address, amount: uint96):
    """
    @notice Pay out what was charged. Only `Settlement` orders it.
    """
    if msg.sender != settlement:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotSettlement(address)")))
    self._push(payee, amount)


@external
@view
def session(session_id: bytes32) -> Session:
    """
    @notice A session's record; its owner is zero when there is none.
    """
    return self._sessions[session_id]


@external
@view
def session_id(owner: address, nonce: uint256) -> bytes32:
    """
    @notice The id that `owner`'s session with `nonce` has or will have.
    """
    return self._session_id(owner, nonce)


@internal
def _open(owner: address, nonce: uint256, deposit: uint96, terms: Terms) -> bytes32:
    session_id: bytes32 = self._session_id(owner, nonce)
    if self._sessions[session_id].owner != empty(address):
        raw_revert(abi_encode(session_id, method_id=method_id("SessionExists(bytes32)")))
    if self.registered[owner] & _USER == 0:
        raw_revert(abi_encode(owner, method_id=method_id("NotRegistered(address)")))
    if deposit == 0:
        raw_revert(abi_encode(deposit, method_id=method_id("ZeroAmount(uint96)")))
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
    self._sessions[session_id] = Session(
        owner=owner,
        terms=terms,
        deposit=deposit,
        opened_at=convert(block.timestamp, uint64),
        closing_at=0,
        closed=False,
    )
    self._pull(owner, deposit)
    log Opened(session_id=session_id, owner=owner, router=terms.router, deposit=deposit)
    return session_id


@internal
@view
def _check_live(session_id: bytes32):
    if self._sessions[session_id].owner == empty(address):
        raw_revert(abi_encode(session_id, method_id=method_id("SessionUnknown(bytes32)")))
    if self._sessions[session_id].closed:
        raw_revert(abi_encode(session_id, method_id=method_id("SessionClosed(bytes32)")))


@internal
@view
def _session_id(owner: address, nonce: uint256) -> bytes32:
    return keccak256(abi_encode(domain.chain_ref, owner, nonce))


@internal
@pure
def _hash_terms(terms: Terms) -> bytes32:
    return keccak256(abi_encode(_TERMS_TYPE_HASH, terms))


@internal
def _pull(owner: address, amount: uint96):
    """
    @dev Takes exactly `amount`; an asset that keeps a part for itself is refused.
    """
    before: uint256 = staticcall IERC20(asset).balanceOf(self)
    assert extcall IERC20(asset).transferFrom(owner, self, convert(amount, uint256), default_return_value=True)
    received: uint256 = staticcall IERC20(asset).balanceOf(self) - before
    if received != convert(amount, uint256):
        raw_revert(abi_encode(amount, received, method_id=method_id("WrongAmountReceived(uint96,uint256)")))


@internal
def _push(payee: address, amount: uint96):
    if amount != 0:
        assert extcall IERC20(asset).transfer(payee, convert(amount, uint256), default_return_value=True)
