# pragma version 0.4.3
# pragma evm-version prague
"""
@title Routers' bonds, which stand for managed deposits
@license Apache-2.0
@notice A router that holds the key of somebody's session could misuse it. What such sessions hold together may not exceed
        the router's bond and a limit, shown here, that is not secured by anything.
        Rules: docs/protocol.md, "Router's bond"; the specification is `tristrata.protocol.router_bond`.
"""

from shared import ownership
from shared import payment


initializes: ownership
exports: ownership.__interface__


struct Router:
    bond: uint96
    leaving: uint96
    leaves_at: uint64
    managed: uint96


asset: public(immutable(address))
sessions: public(immutable(address))
exit_delay: public(immutable(uint64))


unsecured_limit: public(uint96)
_routers: HashMap[address, Router]


event BondChanged:
    router: indexed(address)
    bond: uint96


event WithdrawalRequested:
    router: indexed(address)
    amount: uint96
    leaves_at: uint64


event ManagedChanged:
    router: indexed(address)
    managed: uint96


event UnsecuredLimitChanged:
    limit: uint96


@deploy
def __init__(asset_: address, sessions_: address, unsecured_limit_: uint96, exit_delay_: uint64, change_delay: uint64):
    """
    @param asset_ The ERC-20 of the hub, in which bonds are kept.
    @param sessions_ The only contract that counts deposits against a bond, and takes from one.
    @param unsecured_limit_ What a router may manage beyond its bond, in base units.
    @param exit_delay_ Seconds between asking for a part of a bond and getting it.
    @param change_delay Seconds between announcing a change and making it.
    """
    ownership.__init__(change_delay)
    asset = asset_
    sessions = sessions_
    exit_delay = exit_delay_
    self.unsecured_limit = unsecured_limit_


@external
@nonreentrant
def add_bond(router: address, amount: uint96):
    """
    @notice Raise a router's bond, from the caller. Anyone may.
    """
    ownership._require_running()
    if amount == 0 or router == empty(address):
        raw_revert(abi_encode(router, amount, method_id=method_id("ZeroBond(address,uint96)")))
    self._routers[router].bond += amount
    log BondChanged(router=router, bond=self._routers[router].bond)
    payment._pull(asset, msg.sender, self, amount)


@external
def request_withdrawal(amount: uint96):
    """
    @notice Ask for a part of the caller's bond that no managed deposit needs; asking again replaces what was asked before.
            It stops securing new deposits at once, and can be slashed until it is withdrawn.
    """
    router: Router = self._routers[msg.sender]
    if amount == 0 or amount > router.bond:
        raw_revert(abi_encode(amount, router.bond, method_id=method_id("BondTooLow(uint96,uint96)")))
    router.leaving = amount
    router.leaves_at = convert(block.timestamp, uint64) + exit_delay
    self._require_secured(msg.sender, router)
    self._routers[msg.sender] = router
    log WithdrawalRequested(router=msg.sender, amount=amount, leaves_at=router.leaves_at)


@external
@nonreentrant
def withdraw():
    """
    @notice Get what was asked for, after the exit delay.
    """
    router: Router = self._routers[msg.sender]
    if router.leaving == 0 or block.timestamp < convert(router.leaves_at, uint256):
        raw_revert(
            abi_encode(
                router.leaving, router.leaves_at, block.timestamp, method_id=method_id("ExitTooEarly(uint96,uint64,uint256)")
            )
        )
    # At most the bond: a slash takes from both.
    amount: uint96 = router.leaving
    router.bond -= amount
    router.leaving = 0
    router.leaves_at = 0
    self._routers[msg.sender] = router
    log BondChanged(router=msg.sender, bond=router.bond)
    payment._push(asset, msg.sender, amount)


@external
def reserve(router: address, amount: uint96):
    """
    @notice Count a managed deposit. `Sessions`' alone.
    """
    self._require_sessions()
    changed: Router = self._routers[router]
    changed.managed += amount
    self._require_secured(router, changed)
    self._routers[router] = changed
    log ManagedChanged(router=router, managed=changed.managed)


@external
def release(router: address, amount: uint96):
    """
    @notice Count a managed deposit no more. `Sessions`' alone.
    """
    self._require_sessions()
    self._routers[router].managed -= amount
    log ManagedChanged(router=router, managed=self._routers[router].managed)


@external
@nonreentrant
def slash(router: address, amount: uint96, receiver: address) -> uint96:
    """
    @notice Take from a bond for the payees of a session. `Sessions`' alone. What is leaving is taken first: what stays
            secures other sessions.
    @param receiver Who gets it.
    @return What was taken: `amount`, or the whole bond if that is less.
    """
    self._require_sessions()
    slashed: Router = self._routers[router]
    taken: uint96 = min(amount, slashed.bond)
    slashed.bond -= taken
    slashed.leaving -= min(taken, slashed.leaving)
    self._routers[router] = slashed
    log BondChanged(router=router, bond=slashed.bond)
    payment._push(asset, receiver, taken)
    return taken


@external
def set_unsecured_limit(limit: uint96):
    """
    @notice Change what a router may manage beyond its bond. The owner's, announced.
    """
    ownership._make(keccak256(abi_encode(limit, method_id=method_id("set_unsecured_limit(uint96)"))))
    self.unsecured_limit = limit
    log UnsecuredLimitChanged(limit=limit)


@external
@view
def router(account: address) -> Router:
    """
    @notice A router's bond, how much of it leaves and when, and the managed deposits it stands for.
    """
    return self._routers[account]


@internal
@view
def _require_sessions():
    """
    @dev Reverts unless `Sessions` calls.
    """
    if msg.sender != sessions:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotSessions(address)")))


@internal
@view
def _require_secured(account: address, router: Router):
    """
    @dev Reverts when a router would manage more than what stays of its bond and the unsecured limit.
    """
    allowed: uint256 = convert(router.bond - router.leaving, uint256) + convert(self.unsecured_limit, uint256)
    if convert(router.managed, uint256) > allowed:
        raw_revert(
            abi_encode(account, router.managed, allowed, method_id=method_id("AboveRouterBond(address,uint96,uint256)"))
        )
