# pragma version 0.4.3
# pragma evm-version prague
"""
@title A contract that asks a model, to learn from
@license Apache-2.0
@notice Its owner sends it dollars and has it ask questions. Miners answer off chain; the answer comes back by a callback.

        What to take over into a contract of your own:
        1. `ask`: approve the budget, and request. The prompt's id is its SHA-256; short prompts can go along in full.
        2. `on_answer`: believe only the queue, and keep it cheap: it gets the gas that the request named and not more.
           Without an answer (5 disagreed, 6 expired) the money was credited back, and the answer is empty.
        3. `collect`: should the callback fail, or nobody have delivered it yet, the answer is there to be fetched.
        4. `withdraw`: what was not earned by a miner is credited to this contract, and has to be fetched.
"""

from ethereum.ercs import IERC20


interface ITaskQueue:
    def asset() -> address: view
    def request(
        model_id: bytes32,
        prompt: bytes32,
        payload: Bytes[1024],
        assurance: uint8,
        replicas: uint8,
        budget: uint96,
        commit_seconds: uint32,
        reveal_seconds: uint32,
        callback_gas: uint32,
    ) -> bytes32: nonpayable
    def answer(task_id: bytes32) -> Bytes[1024]: view
    def credits(account: address) -> uint96: view
    def withdraw(account: address) -> uint96: nonpayable


# Three miners answer by themselves, and two must agree. Ask for what a model answers with one word, at temperature 0:
# answers agree only if they are the same, byte for byte.
_QUORUM: constant(uint8) = 2
_REPLICAS: constant(uint8) = 3
_COMMIT_SECONDS: constant(uint32) = 300
_REVEAL_SECONDS: constant(uint32) = 300
# For storing up to 1,024 bytes, a word of which costs 22,100 gas.
_CALLBACK_GAS: constant(uint32) = 900_000
_ANSWERED: constant(uint8) = 4


owner: public(immutable(address))
queue: public(immutable(address))
model_id: public(immutable(bytes32))
budget: public(immutable(uint96))


asked: public(HashMap[bytes32, bool])
# The status with which a question ended, as the callback told; 0 until then.
statuses: public(HashMap[bytes32, uint8])
answers: public(HashMap[bytes32, Bytes[1024]])


event Asked:
    task_id: indexed(bytes32)
    question: Bytes[1024]


event Answered:
    task_id: indexed(bytes32)
    answer: Bytes[1024]


event NotAnswered:
    task_id: indexed(bytes32)
    status: uint8


@deploy
def __init__(queue_: address, model_id_: bytes32, budget_: uint96):
    """
    @notice The deployer becomes the owner.
    @param queue_ The `TaskQueue`.
    @param model_id_ Which model answers, as the `ModelRegistry` has it.
    @param budget_ What each miner gets for the answer, in base units of the queue's asset.
    """
    owner = msg.sender
    queue = queue_
    model_id = model_id_
    budget = budget_


@external
def ask(question: Bytes[1024]) -> bytes32:
    """
    @notice Ask a question; this contract must hold three budgets. The owner's alone.
    @return The id under which the answer will be in `answers`.
    """
    self._require(owner)
    asset: address = staticcall ITaskQueue(queue).asset()
    total: uint256 = convert(budget * convert(_REPLICAS, uint96), uint256)
    extcall IERC20(asset).approve(queue, total, default_return_value=True)
    task_id: bytes32 = extcall ITaskQueue(queue).request(
        model_id,
        sha256(question),
        question,
        _QUORUM,
        _REPLICAS,
        budget,
        _COMMIT_SECONDS,
        _REVEAL_SECONDS,
        _CALLBACK_GAS,
    )
    self.asked[task_id] = True
    log Asked(task_id=task_id, question=question)
    return task_id


@external
def on_answer(task_id: bytes32, status: uint8, answer: Bytes[1024]):
    """
    @notice The callback. The queue's alone.
    @param status 4 answered, 5 disagreed, 6 expired.
    @param answer What most miners said; empty unless answered.
    """
    self._require(queue)
    self.statuses[task_id] = status
    if status == _ANSWERED:
        self._take(task_id, answer)
    else:
        log NotAnswered(task_id=task_id, status=status)


@external
def collect(task_id: bytes32):
    """
    @notice Fetch the answer of a question whose callback failed, or was not delivered. Open to anyone, for the answer comes
            from the queue all the same.
    """
    if not self.asked[task_id]:
        raw_revert(abi_encode(task_id, method_id=method_id("NotAsked(bytes32)")))
    self.statuses[task_id] = _ANSWERED
    self._take(task_id, staticcall ITaskQueue(queue).answer(task_id))


@external
def withdraw(amount: uint256):
    """
    @notice Get dollars back, those included that the queue has credited. The owner's alone.
    """
    self._require(owner)
    if staticcall ITaskQueue(queue).credits(self) != 0:
        extcall ITaskQueue(queue).withdraw(self)
    asset: address = staticcall ITaskQueue(queue).asset()
    if not extcall IERC20(asset).transfer(owner, amount, default_return_value=True):
        raw_revert(abi_encode(asset, owner, amount, method_id=method_id("TransferRefused(address,address,uint256)")))


@internal
def _take(task_id: bytes32, answer: Bytes[1024]):
    """
    @dev Keeps an answer. Here your contract would act on it.
    """
    self.answers[task_id] = answer
    log Answered(task_id=task_id, answer=answer)


@internal
@view
def _require(caller: address):
    """
    @dev Reverts unless `caller` calls.
    """
    if msg.sender != caller:
        raw_revert(abi_encode(msg.sender, caller, method_id=method_id("WrongCaller(address,address)")))
