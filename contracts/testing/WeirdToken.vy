# pragma version 0.4.3
# pragma evm-version prague
"""
@title A token that misbehaves on demand
@license Apache-2.0
@notice One mode for each thing that real tokens do and ERC-20 does not expect. Anyone may mint, and may set the mode.
        Functions that it lacks, `permit` among them, succeed and do nothing, as those of WETH do. For tests only.
"""

# What the fee mode keeps of every transfer, in hundredths of a percent.
_FEE_BPS: constant(uint256) = 100


flag Mode:
    PLAIN  # 1: as it should be
    FEE  # 2: a hundredth of each transfer is burnt on the way
    REFUSING  # 4: transfers do nothing, and return false
    SILENT  # 8: transfers work, and return nothing
    REENTRANT  # 16: transfers first call `target` with `data`; what came of it is in `reentry_succeeded`
    BLOCKING  # 32: transfers from or to a blocked account revert


balanceOf: public(HashMap[address, uint256])
totalSupply: public(uint256)
mode: public(Mode)
blocked: public(HashMap[address, bool])
target: public(address)
data: public(Bytes[1024])
# How many calls of `target` there were, and whether the last one succeeded.
reentries: public(uint256)
reentry_succeeded: public(bool)
# By the hash of owner and spender: titanoboa cannot show a map of maps when a call reverts.
_allowances: HashMap[bytes32, uint256]


event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


@deploy
def __init__():
    """
    @notice It begins as a plain token.
    """
    self.mode = Mode.PLAIN


@external
def set_mode(mode: Mode):
    """
    @notice Change how transfers behave.
    @param mode One of the values of `Mode`.
    """
    self.mode = mode


@external
def set_reentry(target: address, data: Bytes[1024]):
    """
    @notice What a transfer in the reentrant mode calls, once a transfer and not within its own call.
    """
    self.target = target
    self.data = data


@external
def set_blocked(account: address, blocked: bool):
    """
    @notice Block an account, or let it go; the blocking mode heeds it.
    """
    self.blocked[account] = blocked


@external
def mint(owner: address, amount: uint256):
    """
    @notice Create tokens.
    """
    self.balanceOf[owner] += amount
    self.totalSupply += amount
    log Transfer(sender=empty(address), receiver=owner, value=amount)


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Allow `spender` to transfer the caller's tokens.
    """
    self._approve(msg.sender, spender, amount)
    return True


@external
def approve_as_token(spender: address, amount: uint256):
    """
    @notice Allow `spender` to transfer the token's own tokens, as an attack from inside a transfer needs it.
    """
    self._approve(self, spender, amount)


@external
@raw_return
def transfer(to: address, amount: uint256) -> Bytes[32]:
    """
    @notice Transfer from the caller, as the mode has it.
    """
    return self._transfer(msg.sender, to, amount)


@external
@raw_return
def transferFrom(owner: address, to: address, amount: uint256) -> Bytes[32]:
    """
    @notice Transfer from `owner` by its allowance, as the mode has it.
    """
    if self.mode != Mode.REFUSING:
        self._allowances[self._pair(owner, msg.sender)] -= amount
    return self._transfer(owner, to, amount)


@external
@view
def allowance(owner: address, spender: address) -> uint256:
    """
    @notice How much `spender` may transfer of what `owner` has.
    """
    return self._allowances[self._pair(owner, spender)]


@external
@payable
def __default__():
    """
    @notice Whatever this token lacks succeeds, and does nothing.
    """
    pass


@internal
def _approve(owner: address, spender: address, amount: uint256):
    """
    @dev Sets an allowance.
    """
    self._allowances[self._pair(owner, spender)] = amount
    log Approval(owner=owner, spender=spender, value=amount)


@internal
@pure
def _pair(owner: address, spender: address) -> bytes32:
    """
    @dev Where an allowance is kept.
    """
    return keccak256(abi_encode(owner, spender))


@internal
def _transfer(owner: address, to: address, amount: uint256) -> Bytes[32]:
    """
    @dev Moves tokens, as the mode has it.
    @return What the caller gets: a word, or nothing.
    """
    if self.mode == Mode.REFUSING:
        return abi_encode(False)
    if self.mode == Mode.BLOCKING and (self.blocked[owner] or self.blocked[to]):
        raw_revert(abi_encode(owner, to, method_id=method_id("AccountBlocked(address,address)")))
    if self.mode == Mode.REENTRANT and self.target != empty(address):
        target: address = self.target
        self.target = empty(address)  # once: what it calls may transfer too
        self.reentries += 1
        self.reentry_succeeded = raw_call(target, self.data, revert_on_failure=False)
        self.target = target
    fee: uint256 = 0
    if self.mode == Mode.FEE:
        fee = amount * _FEE_BPS // 10_000
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount - fee
    self.totalSupply -= fee
    log Transfer(sender=owner, receiver=to, value=amount - fee)
    if self.mode == Mode.SILENT:
        return b""
    return abi_encode(True)
