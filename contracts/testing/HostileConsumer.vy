# pragma version 0.4.3
# pragma evm-version prague
"""
@title A requester that misbehaves on demand
@license Apache-2.0
@notice One mode for each thing that a callback can do to whoever calls it. Anyone may have it call, and set the mode. For
        tests only.
"""


flag Mode:
    QUIET  # 1: the callback does nothing
    REVERTING  # 2: it reverts with a few bytes
    BURNING  # 4: it burns all gas it gets
    BOMBING  # 8: it reverts with very many bytes
    FLOODING  # 16: it returns very many bytes
    REENTRANT  # 32: it makes the planned calls; what came of each is in `outcomes`


_MAX_CALLS: constant(uint256) = 8
# 192,000 bytes: whoever copies them pays about 106,000 gas for their memory.
_BOMB_WORDS: constant(uint256) = 6_000


mode: public(Mode)
target: public(address)
calls: public(DynArray[Bytes[2048], _MAX_CALLS])
outcomes: public(DynArray[bool, _MAX_CALLS])
callbacks: public(uint256)


@deploy
def __init__():
    """
    @notice It begins quiet.
    """
    self.mode = Mode.QUIET


@external
def set_mode(mode: Mode):
    """
    @notice Change what the callback does.
    """
    self.mode = mode


@external
def plan(target: address, calls: DynArray[Bytes[2048], _MAX_CALLS]):
    """
    @notice What the callback calls in the reentrant mode.
    """
    self.target = target
    self.calls = calls


@external
def execute(target: address, data: Bytes[2048]) -> Bytes[32]:
    """
    @notice Call a contract in this one's name.
    @return What that returned.
    """
    return raw_call(target, data, max_outsize=32)


@external
@raw_return
def on_answer(task_id: bytes32, status: uint8, answer: Bytes[1024]) -> Bytes[32 * _BOMB_WORDS]:
    """
    @notice The callback, as the mode has it.
    """
    self.callbacks += 1
    if self.mode == Mode.REVERTING:
        raw_revert(b"no")
    if self.mode == Mode.BURNING:
        for _: uint256 in range(max_value(uint256)):
            self.callbacks += 1
    if self.mode == Mode.BOMBING:
        raw_revert(abi_encode(empty(uint256[_BOMB_WORDS])))
    if self.mode == Mode.FLOODING:
        return abi_encode(empty(uint256[_BOMB_WORDS]))
    if self.mode == Mode.REENTRANT:
        for call: Bytes[2048] in self.calls:
            self.outcomes.append(raw_call(self.target, call, revert_on_failure=False))
    return b""
