# pragma version 0.4.3
# pragma evm-version prague
"""
@title Who may change what, and how long ahead it must be said
@license Apache-2.0
@notice An owner that is handed over in two steps. Changes that matter to other people are announced, and can be made only
        after a delay in which whoever dislikes them can leave. Pausing stops new business at once; it is for the using
        contract never to ask `_require_running` on a way out.
@dev By hand, because snekmate's `ownable_2step` and `pausable` revert with strings where we name the error, and know no
     delay. Rules: docs/protocol.md, "Ownership".
"""

# An announced change that nobody made within this time is void.
_LIFETIME: constant(uint64) = 30 * 86_400


change_delay: public(immutable(uint64))


owner: public(address)
pending_owner: public(address)
paused: public(bool)
# From when on an announced change may be made; 0 for one that is not announced.
ripe_at: public(HashMap[bytes32, uint64])


event OwnershipOffered:
    owner: indexed(address)
    pending_owner: indexed(address)


event OwnershipTaken:
    owner: indexed(address)


event ChangeAnnounced:
    change: indexed(bytes32)
    ripe_at: uint64


event ChangeWithdrawn:
    change: indexed(bytes32)


event ChangeMade:
    change: indexed(bytes32)


event Paused:
    paused: bool


@deploy
def __init__(change_delay_: uint64):
    """
    @notice The deployer becomes the owner.
    @param change_delay_ Seconds between announcing a change and making it.
    """
    change_delay = change_delay_
    self.owner = msg.sender


@external
def transfer_ownership(pending_owner: address):
    """
    @notice Offer the ownership to another account; the zero address takes an offer back. The owner's alone.
    """
    self._require_owner()
    self.pending_owner = pending_owner
    log OwnershipOffered(owner=msg.sender, pending_owner=pending_owner)


@external
def accept_ownership():
    """
    @notice Take the ownership that was offered to the caller.
    """
    if msg.sender != self.pending_owner:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotPendingOwner(address)")))
    self.owner = msg.sender
    self.pending_owner = empty(address)
    log OwnershipTaken(owner=msg.sender)


@external
def announce(change: bytes32):
    """
    @notice Announce a change. The owner's alone.
    @param change The hash of the call that will make it: `keccak256(calldata)`.
    """
    self._require_owner()
    ripe_at: uint64 = convert(block.timestamp, uint64) + change_delay
    self.ripe_at[change] = ripe_at
    log ChangeAnnounced(change=change, ripe_at=ripe_at)


@external
def withdraw_announcement(change: bytes32):
    """
    @notice Take an announcement back. The owner's alone.
    """
    self._require_owner()
    self._take(change)
    log ChangeWithdrawn(change=change)


@external
def pause(paused: bool):
    """
    @notice Stop new business, or let it go on. The owner's alone.
    """
    self._require_owner()
    self.paused = paused
    log Paused(paused=paused)


@internal
@view
def _require_owner():
    """
    @dev Reverts unless the owner calls.
    """
    if msg.sender != self.owner:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotOwner(address)")))


@internal
@view
def _require_running():
    """
    @dev Reverts while paused. Only for what begins something new, or takes money in.
    """
    if self.paused:
        raw_revert(abi_encode(self, method_id=method_id("ContractPaused(address)")))


@internal
def _make(change: bytes32):
    """
    @dev Reverts unless the owner calls, and announced `change` long enough, and not too long, ago. Each announcement
         serves once.
    @param change `keccak256(abi_encode(…, method_id=method_id("…")))` of the call under way.
    """
    self._require_owner()
    ripe_at: uint64 = self._take(change)
    now: uint64 = convert(block.timestamp, uint64)
    if now < ripe_at or now > ripe_at + _LIFETIME:
        raw_revert(abi_encode(ripe_at, ripe_at + _LIFETIME, now, method_id=method_id("ChangeNotRipe(uint64,uint64,uint64)")))
    log ChangeMade(change=change)


@internal
def _take(change: bytes32) -> uint64:
    """
    @dev Removes an announcement.
    @return From when on the change may be made.
    """
    ripe_at: uint64 = self.ripe_at[change]
    if ripe_at == 0:
        raw_revert(abi_encode(change, method_id=method_id("ChangeNotAnnounced(bytes32)")))
    self.ripe_at[change] = 0
    return ripe_at
