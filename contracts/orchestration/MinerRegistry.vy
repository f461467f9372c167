# pragma version 0.4.3
# pragma evm-version prague
"""
@title Miners, their bonds, keys and offers
@license Apache-2.0
@notice A miner is an account: it is paid there, and it changes only its own record. Its bond returns to it after the
        exit delay.
"""

from ethereum.ercs import IERC20


struct Miner:
    signing_key: address
    nats_key: bytes32
    hpke_key: bytes32
    slots: uint16
    bond: uint96
    exit_at: uint64
    active: bool


struct Offer:
    prompt_price: uint96
    output_price: uint96
    active: bool


asset: public(immutable(address))
min_bond: public(immutable(uint96))
exit_delay: public(immutable(uint64))


_miners: HashMap[address, Miner]
_offers: HashMap[address, HashMap[bytes32, Offer]]
miner_by_nats_key: public(HashMap[bytes32, address])
miner_by_signing_key: public(HashMap[address, address])


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


event ExitRequested:
    miner: indexed(address)
    exit_at: uint64


@deploy
def __init__(asset_: address, min_bond_: uint96, exit_delay_: uint64):
    """
    @param asset_ The ERC-20 in which bonds are kept.
    @param min_bond_ The least bond, in base units of the asset.
    @param exit_delay_ Seconds between asking to leave and getting the bond back.
    """
    asset = asset_
    min_bond = min_bond_
    exit_delay = exit_delay_


@external
@nonreentrant
def register(signing_key: address, nats_key: bytes32, hpke_key: bytes32, slots: uint16, bond: uint96):
    """
    @notice Become a miner: the bond is pulled from the caller, who has approved it.
    @param signing_key Signs receipts.
    @param nats_key Ed25519 public key that opens the fabric.
    @param hpke_key X25519 public key for sealed prompts; zero when there is none.
    @param slots How many tasks at once.
    """
    if self._miners[msg.sender].active:
        raw_revert(abi_encode(msg.sender, method_id=method_id("AlreadyMiner(address)")))
    if bond < min_bond:
        raw_revert(abi_encode(bond, min_bond, method_id=method_id("BondTooLow(uint96,uint96)")))
    self._check_slots(slots)
    self._take_keys(signing_key, nats_key)
    self._miners[msg.sender] = Miner(
        signing_key=signing_key,
        nats_key=nats_key,
        hpke_key=hpke_key,
        slots=slots,
        bond=bond,
        exit_at=0,
        active=True,
    )
    self._pull(bond)
    log MinerRegistered(
        miner=msg.sender, signing_key=signing_key, nats_key=nats_key, hpke_key=hpke_key, slots=slots
    )
    log BondChanged(miner=msg.sender, bond=bond)


@external
def set_keys(signing_key: address, nats_key: bytes32, hpke_key: bytes32):
    """
    @notice Replace the caller's keys; the old ones become free.
    """
    self._check_active()
    self._free_keys()
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
    self._check_active()
    self._check_slots(slots)
    self._miners[msg.sender].slots = slots
    log SlotsChanged(miner=msg.sender, slots=slots)


@external
def offer(model_id: bytes32, prompt_price: uint96, output_price: uint96):
    """
    @notice Offer a model at these prices, base units per 1,000,000 tokens. Offering again changes the prices.
    """
    self._check_active()
    if model_id == empty(bytes32):
        raw_revert(abi_encode(model_id, method_id=method_id("ModelUnknown(bytes32)")))
    self._offers[msg.sender][model_id] = Offer(prompt_price=prompt_price, output_price=output_price, active=True)
    log Offered(miner=msg.sender, model_id=model_id, prompt_price=prompt_price, output_price=output_price)


@external
def withdraw_offer(model_id: bytes32):
    """
    @notice Offer a model no longer.
    """
    if not self._offers[msg.sender][model_id].active:
        raw_revert(abi_encode(msg.sender, model_id, method_id=method_id("NotOffered(address,bytes32)")))
    self._offers[msg.sender][model_id] = empty(Offer)
    log OfferWithdrawn(miner=msg.sender, model_id=model_id)


@external
@nonreentrant
def add_bond(amount: uint96):
    """
    @notice Raise the caller's bond.
    """
    self._check_active()
    if amount == 0:
        raw_revert(abi_encode(amount, method_id=method_id("ZeroAmount(uint96)")))
    self._miners[msg.sender].bond += amount
    self._pull(amount)
    log BondChanged(miner=msg.sender, bond=self._miners[msg.sender].bond)


@external
def request_exit():
    """
    @notice Ask to leave: the caller takes no more tasks, and gets its bond after the exit delay.
    """
    self._check_active()
    if self._miners[msg.sender].exit_at != 0:
        raw_revert(abi_encode(self._miners[msg.sender].exit_at, method_id=method_id("AlreadyLeaving(uint64)")))
    exit_at: uint64 = convert(block.timestamp, uint64) + exit_delay
    self._miners[msg.sender].exit_at = exit_at
    log ExitRequested(miner=msg.sender, exit_at=exit_at)


@external
@nonreentrant
def exit():
    """
    @notice Leave, after the exit delay: the bond returns to the caller, its keys become free.
    """
    self._check_active()
    exit_at: uint64 = self._miners[msg.sender].exit_at
    if exit_at == 0 or block.timestamp < convert(exit_at, uint256):
        raw_revert(abi_encode(exit_at, block.timestamp, method_id=method_id("ExitTooEarly(uint64,uint256)")))
    bond: uint96 = self._miners[msg.sender].bond
    self._free_keys()
    self._miners[msg.sender] = empty(Miner)
    log BondChanged(miner=msg.sender, bond=0)
    assert extcall IERC20(asset).transfer(msg.sender, convert(bond, uint256), default_return_value=True)


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


@internal
@view
def _check_active():
    if not self._miners[msg.sender].active:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotMiner(address)")))


@internal
@pure
def _check_slots(slots: uint16):
    if slots == 0:
        raw_revert(abi_encode(slots, method_id=method_id("ZeroSlots(uint16)")))


@internal
def _take_keys(signing_key: address, nats_key: bytes32):
    """
    @dev A key belongs to one miner, so that a receipt or a connection names one.
    """
    if signing_key == empty(address) or self.miner_by_signing_key[signing_key] != empty(address):
        raw_revert(abi_encode(signing_key, method_id=method_id("SigningKeyTaken(address)")))
    if nats_key == empty(bytes32) or self.miner_by_nats_key[nats_key] != empty(address):
        raw_revert(abi_encode(nats_key, method_id=method_id("NatsKeyTaken(bytes32)")))
    self.miner_by_signing_key[signing_key] = msg.sender
    self.miner_by_nats_key[nats_key] = msg.sender


@internal
def _free_keys():
    self.miner_by_signing_key[self._miners[msg.sender].signing_key] = empty(address)
    self.miner_by_nats_key[self._miners[msg.sender].nats_key] = empty(address)


@internal
def _pull(amount: uint96):
    """
    @dev Takes exactly `amount` from the caller; an asset that keeps a part for itself is refused.
    """
    before: uint256 = staticcall IERC20(asset).balanceOf(self)
    assert extcall IERC20(asset).transferFrom(
        msg.sender, self, convert(amount, uint256), default_return_value=True
    )
    received: uint256 = staticcall IERC20(asset).balanceOf(self) - before
    if received != convert(amount, uint256):
        raw_revert(abi_encode(amount, received, method_id=method_id("WrongAmountReceived(uint96,uint256)")))
