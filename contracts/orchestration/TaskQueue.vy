# pragma version 0.4.3
# pragma evm-version prague
"""
@title Inference for contracts
@license Apache-2.0
@notice A contract (or anyone) asks a question and puts down a budget for each miner that shall answer. Miners are drawn by
        randomness that is fixed later, from the weights at the time of the request. Each commits to its answer before it
        sees another's, then reveals it. What a strict majority of them says is the answer; those who said it are paid,
        the rest of the money goes back. Every phase has a deadline, after which anyone may advance the task.
        States, changes and deadlines: docs/protocol.md, "On-chain task"; the specification is `tristrata.protocol.task`.
@dev Nothing that a requester or a miner does can stand between another and its money: money is credited, and fetched by
     `withdraw`; the callback comes after all that, in a transaction of its own; bonds are settled miner by miner, so
     that no miner's registry entries can make the end of a task too expensive for a block.
"""

from shared import ownership
from shared import payment


initializes: ownership
exports: ownership.__interface__


struct Model:
    name: String[64]
    weights: bytes32
    tokenizer: bytes32
    template: bytes32


interface IModelRegistry:
    def model(model_id: bytes32) -> Model: view


interface IMinerRegistry:
    def snapshot(model_id: bytes32) -> uint256: view
    def draw(root: uint256, randomness: bytes32, count: uint256) -> DynArray[address, _MAX_REPLICAS]: view
    def reserve(miner: address, amount: uint96) -> bool: nonpayable
    def release(miner: address, amount: uint96): nonpayable
    def penalize(miner: address, amount: uint96, jail_seconds: uint64): nonpayable


interface IInbox:
    def newest() -> uint64: view
    def randomness(number: uint64) -> bytes32: view


struct Parameters:
    assign_seconds: uint32
    min_seconds: uint32
    max_seconds: uint32
    bond_bps: uint32
    penalty_bps: uint32
    jail_seconds: uint32
    lead: uint32


struct Task:
    requester: address
    budget: uint96
    snapshot: uint256
    super_number: uint64
    bond: uint96
    penalty: uint96
    callback_gas: uint32
    jail_seconds: uint32
    commit_seconds: uint32
    reveal_seconds: uint32
    deadline: uint64
    status: uint8
    callback: uint8
    replicas: uint8
    committed: uint256
    revealed: uint256
    held: uint256


# Statuses, as `tristrata.protocol.task.Status` has them. The last four are final.
_REQUESTED: constant(uint8) = 1
_ASSIGNED: constant(uint8) = 2
_COMMITTED: constant(uint8) = 3
_ANSWERED: constant(uint8) = 4
_DISAGREED: constant(uint8) = 5
_EXPIRED: constant(uint8) = 6
_CANCELLED: constant(uint8) = 7
# Callbacks, as `tristrata.protocol.task.Callback` has them; 0 is one that is not due.
_PENDING: constant(uint8) = 1
_DELIVERED: constant(uint8) = 2
_FAILED: constant(uint8) = 3
# Assurances, as receipts have them. The others need validators or enclaves, which a contract cannot ask.
_NONE: constant(uint8) = 0
_QUORUM: constant(uint8) = 2

_MAX_REPLICAS: constant(uint256) = 8
_MAX_TEXT: constant(uint256) = 1_024
# So that eight budgets, or a bond of a hundred budgets, fit 96 bits with room for 512 tasks in one account's credit.
_MAX_BUDGET: constant(uint96) = 2**80
_MAX_CALLBACK_GAS: constant(uint32) = 5_000_000
# What `deliver` itself needs around the callback (a cold account, one word of storage, one event), with a margin.
_GAS_RESERVE: constant(uint256) = 50_000
# How often more miners are drawn when some of those drawn have too little free bond.
_MAX_ROUNDS: constant(uint256) = 4
_MAX_SEEN: constant(uint256) = _MAX_ROUNDS * _MAX_REPLICAS
_WHOLE_IN_BPS: constant(uint256) = 10_000
_MAX_BOND_BPS: constant(uint32) = 1_000_000
_MAX_SECONDS: constant(uint32) = 30 * 86_400
_MIN_LEAD: constant(uint32) = 2
_UINT96_MASK: constant(uint256) = 2**96 - 1
_UINT64_MASK: constant(uint256) = 2**64 - 1
_UINT32_MASK: constant(uint256) = 2**32 - 1
_BYTE_MASK: constant(uint256) = 255


chain_ref: public(immutable(bytes32))
asset: public(immutable(address))
miners: public(immutable(address))
models: public(immutable(address))
inbox: public(immutable(address))


parameters: public(Parameters)
# How many tasks an account has requested.
nonces: public(HashMap[address, uint256])
# What an account can withdraw, in base units. Overflows only for an asset of which more than 2**96 units exist.
credits: public(HashMap[address, uint96])
# requester (160 bits), budget (96).
_payers: HashMap[bytes32, uint256]
_snapshots: HashMap[bytes32, uint256]
# bond (96 bits), penalty (96), super_number (64).
_stakes: HashMap[bytes32, uint256]
# callback_gas, jail_seconds, commit_seconds, reveal_seconds (32 bits each), deadline (64), status, callback, replicas,
# committed, revealed, held (8 each, so 240 in all).
_progress: HashMap[bytes32, uint256]
_assigned: HashMap[bytes32, DynArray[address, _MAX_REPLICAS]]
# By place of the miner: its commitment, and once it has revealed the hash of its answer.
entries: public(HashMap[bytes32, bytes32[_MAX_REPLICAS]])
_answers: HashMap[bytes32, Bytes[_MAX_TEXT]]


event ParametersChanged:
    parameters: Parameters


event Requested:
    task_id: indexed(bytes32)
    requester: indexed(address)
    model_id: indexed(bytes32)
    prompt: bytes32
    payload: Bytes[_MAX_TEXT]
    assurance: uint8
    replicas: uint8
    budget: uint96
    commit_seconds: uint32
    reveal_seconds: uint32
    callback_gas: uint32
    snapshot: uint256
    super_number: uint64
    deadline: uint64


event Assigned:
    task_id: indexed(bytes32)
    miners: DynArray[address, _MAX_REPLICAS]
    deadline: uint64


event Committed:
    task_id: indexed(bytes32)
    miner: indexed(address)
    commitment: bytes32


event RevealsOpened:
    task_id: indexed(bytes32)
    deadline: uint64


event Revealed:
    task_id: indexed(bytes32)
    miner: indexed(address)
    answer: Bytes[_MAX_TEXT]


event Finished:
    task_id: indexed(bytes32)
    status: uint8
    answer_hash: bytes32


event Credited:
    task_id: indexed(bytes32)
    account: indexed(address)
    amount: uint96


event BondSettled:
    task_id: indexed(bytes32)
    miner: indexed(address)
    penalty: uint96


event Delivered:
    task_id: indexed(bytes32)
    succeeded: bool


event Withdrawn:
    account: indexed(address)
    amount: uint96


@deploy
def __init__(
    chain_ref_: bytes32,
    asset_: address,
    miners_: address,
    models_: address,
    inbox_: address,
    parameters_: Parameters,
    change_delay_: uint64,
):
    """
    @notice The deployer becomes the owner, who can change the parameters and pause requests.
    @param chain_ref_ The 32-byte reference of this chain.
    @param asset_ The ERC-20 in which budgets are paid.
    @param miners_ The `MinerRegistry`, which must know this contract as its task queue.
    @param models_ The `ModelRegistry`.
    @param inbox_ The `Inbox`, for randomness.
    @param parameters_ As in `set_parameters`.
    @param change_delay_ Seconds between announcing other parameters and going over to them.
    """
    ownership.__init__(change_delay_)
    chain_ref = chain_ref_
    asset = asset_
    miners = miners_
    models = models_
    inbox = inbox_
    self._set_parameters(parameters_)


@external
def set_parameters(parameters: Parameters):
    """
    @notice Go over to other parameters, for tasks requested from now on. The owner's alone, announced ahead.
    @param parameters Seconds in which a request must be assigned; the least and most seconds of a commit or a reveal
           window; the bond that a miner has reserved for a task, and the part of it that it loses when it stays silent,
           both in basis points of its budget; for how many seconds it is then jailed; and how many super roots after the
           newest known one the randomness comes from. `lead` should exceed the number of super roots that L1 may have
           and this chain may not, or a requester can know the draw.
    """
    ownership._make(
        keccak256(
            abi_encode(
                parameters,
                method_id=method_id("set_parameters((uint32,uint32,uint32,uint32,uint32,uint32,uint32))"),
            )
        )
    )
    self._set_parameters(parameters)


@external
@nonreentrant
def request(
    model_id: bytes32,
    prompt: bytes32,
    payload: Bytes[_MAX_TEXT],
    assurance: uint8,
    replicas: uint8,
    budget: uint96,
    commit_seconds: uint32,
    reveal_seconds: uint32,
    callback_gas: uint32,
) -> bytes32:
    """
    @notice Ask for an answer. `budget * replicas` is pulled from the caller, who has approved it.
    @param model_id The model that shall answer.
    @param prompt The prompt's content id: its SHA-256.
    @param payload The prompt itself, for miners to read from the event; or empty, if it is in the content store.
    @param assurance 0 (none): one miner answers. 2 (quorum): several do, and a strict majority decides.
    @param replicas How many miners: 1 for none, 2 to 8 for a quorum.
    @param budget What each miner that gives the answer is paid, in base units of the asset.
    @param commit_seconds How long miners have to commit, from their assignment.
    @param reveal_seconds How long they have to reveal, from when no more can commit.
    @param callback_gas Gas for `on_answer(bytes32 task_id, uint8 status, bytes answer)`, which the caller then has; 0 for
           no callback.
    @return The task's id.
    """
    ownership._require_running()
    parameters: Parameters = self.parameters
    self._check_request(prompt, payload, assurance, replicas, budget, callback_gas)
    self._check_window(commit_seconds, parameters)
    self._check_window(reveal_seconds, parameters)
    if (staticcall IModelRegistry(models).model(model_id)).weights == empty(bytes32):
        raw_revert(abi_encode(model_id, method_id=method_id("ModelUnknown(bytes32)")))
    snapshot: uint256 = staticcall IMinerRegistry(miners).snapshot(model_id)
    if snapshot == 0:
        raw_revert(abi_encode(model_id, method_id=method_id("NotOffered(bytes32)")))

    nonce: uint256 = self.nonces[msg.sender]
    self.nonces[msg.sender] = nonce + 1
    task_id: bytes32 = keccak256(abi_encode(chain_ref, self, msg.sender, nonce))
    super_number: uint64 = staticcall IInbox(inbox).newest() + convert(parameters.lead, uint64)
    deadline: uint64 = convert(block.timestamp, uint64) + convert(parameters.assign_seconds, uint64)
    bond: uint256 = convert(budget, uint256) * convert(parameters.bond_bps, uint256) // _WHOLE_IN_BPS
    penalty: uint256 = convert(budget, uint256) * convert(parameters.penalty_bps, uint256) // _WHOLE_IN_BPS
    self._payers[task_id] = convert(msg.sender, uint256) << 96 | convert(budget, uint256)
    self._snapshots[task_id] = snapshot
    self._stakes[task_id] = bond << 160 | penalty << 64 | convert(super_number, uint256)
    task: Task = empty(Task)
    task.callback_gas = callback_gas
    task.jail_seconds = parameters.jail_seconds
    task.commit_seconds = commit_seconds
    task.reveal_seconds = reveal_seconds
    task.deadline = deadline
    task.status = _REQUESTED
    task.replicas = replicas
    self._store(task_id, task)
    payment._pull(asset, msg.sender, self, budget * convert(replicas, uint96))
    log Requested(
        task_id=task_id,
        requester=msg.sender,
        model_id=model_id,
        prompt=prompt,
        payload=payload,
        assurance=assurance,
        replicas=replicas,
        budget=budget,
        commit_seconds=commit_seconds,
        reveal_seconds=reveal_seconds,
        callback_gas=callback_gas,
        snapshot=snapshot,
        super_number=super_number,
        deadline=deadline,
    )
    return task_id


@external
def cancel(task_id: bytes32):
    """
    @notice Take a request back, for the whole budget. The requester's alone, until the super root that decides the draw
            is here: whoever could still cancel then would draw again until it likes the miners.
    """
    task: Task = self._require_status(task_id, _REQUESTED)
    if msg.sender != task.requester:
        raw_revert(abi_encode(task_id, msg.sender, method_id=method_id("NotRequester(bytes32,address)")))
    if staticcall IInbox(inbox).newest() >= task.super_number:
        raw_revert(abi_encode(task_id, task.super_number, method_id=method_id("DrawDecided(bytes32,uint64)")))
    self._finish(task_id, task, _CANCELLED, empty(bytes32))
    self._credit(task_id, task.requester, self._escrow(task))


@external
def assign(task_id: bytes32):
    """
    @notice Draw the miners, once the randomness is proven to the inbox. Open to anyone. A miner without enough free bond
            is passed over; with too few others the call reverts, and can be made again.
    """
    task: Task = self._require_status(task_id, _REQUESTED)
    self._require_before(task.deadline)
    randomness: bytes32 = staticcall IInbox(inbox).randomness(task.super_number)
    if randomness == empty(bytes32):
        raw_revert(abi_encode(task.super_number, method_id=method_id("RandomnessUnknown(uint64)")))
    drawn: DynArray[address, _MAX_REPLICAS] = self._draw(task_id, task, randomness)
    if len(drawn) < convert(task.replicas, uint256):
        raw_revert(
            abi_encode(
                task_id, len(drawn), task.replicas, method_id=method_id("TooFewMiners(bytes32,uint256,uint8)")
            )
        )
    self._assigned[task_id] = drawn
    task.held = self._all(task)
    task.status = _ASSIGNED
    task.deadline = convert(block.timestamp, uint64) + convert(task.commit_seconds, uint64)
    self._store(task_id, task)
    log Assigned(task_id=task_id, miners=drawn, deadline=task.deadline)


@external
def commit(task_id: bytes32, commitment: bytes32):
    """
    @notice Commit to an answer, as an assigned miner. The last one to do so opens the reveals.
    @param commitment `keccak256(abi.encode(chain_ref, queue, task_id, miner, keccak256(answer), salt))`, with 32 random
           bytes as salt.
    """
    task: Task = self._require_status(task_id, _ASSIGNED)
    self._require_before(task.deadline)
    place: uint256 = self._place(task_id, msg.sender)
    if task.committed >> place & 1 == 1:
        raw_revert(abi_encode(task_id, msg.sender, method_id=method_id("AlreadyCommitted(bytes32,address)")))
    self.entries[task_id][place] = commitment
    task.committed |= 1 << place
    log Committed(task_id=task_id, miner=msg.sender, commitment=commitment)
    if task.committed == self._all(task):
        self._open_reveals(task_id, task)
    else:
        self._store(task_id, task)


@external
def reveal(task_id: bytes32, answer: Bytes[_MAX_TEXT], salt: bytes32):
    """
    @notice Reveal the answer that the caller committed to; its bond is free again. The last one to do so ends the task.
    @dev Whoever completes a majority also pays for storing the answer.
    """
    task: Task = self._require_status(task_id, _COMMITTED)
    self._require_before(task.deadline)
    place: uint256 = self._place(task_id, msg.sender)
    if task.committed >> place & 1 == 0:
        raw_revert(abi_encode(task_id, msg.sender, method_id=method_id("NotCommitted(bytes32,address)")))
    if task.revealed >> place & 1 == 1:
        raw_revert(abi_encode(task_id, msg.sender, method_id=method_id("AlreadyRevealed(bytes32,address)")))
    answer_hash: bytes32 = keccak256(answer)
    found: bytes32 = keccak256(abi_encode(chain_ref, self, task_id, msg.sender, answer_hash, salt))
    if found != self.entries[task_id][place]:
        raw_revert(
            abi_encode(self.entries[task_id][place], found, method_id=method_id("WrongReveal(bytes32,bytes32)"))
        )
    self.entries[task_id][place] = answer_hash
    task.revealed |= 1 << place
    task.held ^= 1 << place
    log Revealed(task_id=task_id, miner=msg.sender, answer=answer)
    if self._votes(task_id, task, answer_hash) == convert(task.replicas, uint256) // 2 + 1:
        self._answers[task_id] = answer
    if task.revealed == task.committed:
        self._settle(task_id, task)
    else:
        self._store(task_id, task)
    extcall IMinerRegistry(miners).release(msg.sender, task.bond)


@external
def advance(task_id: bytes32):
    """
    @notice Go on after a deadline. Open to anyone. A request that was not assigned expires; miners that did not commit
            are left behind, and so are those that did not reveal. What nobody has earned is credited to the requester.
    """
    task: Task = self._task(task_id)
    if task.status == 0 or task.status > _COMMITTED:
        raw_revert(abi_encode(task_id, task.status, method_id=method_id("NothingToAdvance(bytes32,uint8)")))
    now: uint64 = convert(block.timestamp, uint64)
    if now < task.deadline:
        raw_revert(abi_encode(task.deadline, now, method_id=method_id("TooEarly(uint64,uint64)")))
    if task.status == _REQUESTED:
        self._finish(task_id, task, _EXPIRED, empty(bytes32))
        self._credit(task_id, task.requester, self._escrow(task))
    elif task.status == _ASSIGNED and 2 * self._count(task.committed) > convert(task.replicas, uint256):
        self._open_reveals(task_id, task)
    else:
        self._settle(task_id, task)


@external
def settle_bond(task_id: bytes32, miner: address):
    """
    @notice Free the bond of a miner that did not reveal, once the task has ended. Open to anyone. If it was its turn to
            commit or to reveal, it is penalized.
    """
    task: Task = self._task(task_id)
    if task.status < _ANSWERED:
        raw_revert(abi_encode(task_id, task.status, method_id=method_id("NotFinished(bytes32,uint8)")))
    place: uint256 = self._place(task_id, miner)
    if task.held >> place & 1 == 0:
        raw_revert(abi_encode(task_id, miner, method_id=method_id("BondNotHeld(bytes32,address)")))
    task.held ^= 1 << place
    self._store(task_id, task)
    # With commitments of no more than half of the miners, those who committed were never asked to reveal.
    reveals_opened: bool = 2 * self._count(task.committed) > convert(task.replicas, uint256)
    if reveals_opened or task.committed >> place & 1 == 0:
        log BondSettled(task_id=task_id, miner=miner, penalty=task.penalty)
        extcall IMinerRegistry(miners).penalize(miner, task.penalty, convert(task.jail_seconds, uint64))
    else:
        log BondSettled(task_id=task_id, miner=miner, penalty=0)
    extcall IMinerRegistry(miners).release(miner, task.bond)


@external
def deliver(task_id: bytes32) -> bool:
    """
    @notice Call the requester back, once, after its task has ended. Open to anyone. The call gets the gas that the request
            names: with less at hand this reverts, and nothing changes. A callback that fails is on record as failed, and
            its answer can still be read here.
    @dev Not locked against reentry, so that a callback can ask the next question: what it may find here is final already,
         and money is held by nothing that it can change.
    @return Whether the callback succeeded.
    """
    task: Task = self._task(task_id)
    if task.callback != _PENDING:
        raw_revert(abi_encode(task_id, task.callback, method_id=method_id("CallbackNotPending(bytes32,uint8)")))
    call: Bytes[_MAX_TEXT + 132] = abi_encode(
        task_id, task.status, self._answers[task_id], method_id=method_id("on_answer(bytes32,uint8,bytes)")
    )
    task.callback = _DELIVERED
    self._store(task_id, task)
    # A call gets at most 63/64 of the gas at hand (EIP-150), silently: so we look before.
    available: uint256 = msg.gas * 63 // 64
    needed: uint256 = convert(task.callback_gas, uint256) + _GAS_RESERVE
    if available < needed:
        raw_revert(abi_encode(available, needed, method_id=method_id("NotEnoughGas(uint256,uint256)")))
    succeeded: bool = raw_call(
        task.requester, call, max_outsize=0, gas=convert(task.callback_gas, uint256), revert_on_failure=False
    )
    if not succeeded:
        task = self._task(task_id)
        task.callback = _FAILED
        self._store(task_id, task)
    log Delivered(task_id=task_id, succeeded=succeeded)
    return succeeded


@external
@nonreentrant
def withdraw(account: address) -> uint96:
    """
    @notice Pay an account what is credited to it. Open to anyone.
    @return What was paid, in base units.
    """
    amount: uint96 = self.credits[account]
    if amount == 0:
        raw_revert(abi_encode(account, method_id=method_id("NothingCredited(address)")))
    self.credits[account] = 0
    log Withdrawn(account=account, amount=amount)
    payment._push(asset, account, amount)
    return amount


@external
@view
def task(task_id: bytes32) -> Task:
    """
    @notice A task's record; all empty for an unknown one. In `committed`, `revealed` and `held` (whose bond is reserved)
            bit `i` stands for the miner at place `i`.
    """
    return self._task(task_id)


@external
@view
def assigned(task_id: bytes32) -> DynArray[address, _MAX_REPLICAS]:
    """
    @notice The miners of a task, in the order in which they were drawn.
    """
    return self._assigned[task_id]


@external
@view
def answer(task_id: bytes32) -> Bytes[_MAX_TEXT]:
    """
    @notice What a majority of a task's miners answered, for ever. Reverts while or if there is no such answer.
    """
    status: uint8 = self._task(task_id).status
    if status != _ANSWERED:
        raw_revert(abi_encode(task_id, status, method_id=method_id("NotAnswered(bytes32,uint8)")))
    return self._answers[task_id]


@internal
def _set_parameters(parameters: Parameters):
    """
    @dev Checks and stores parameters.
    """
    if parameters.assign_seconds == 0 or parameters.assign_seconds > _MAX_SECONDS:
        self._refuse(parameters.assign_seconds, 1, _MAX_SECONDS)
    if parameters.max_seconds > _MAX_SECONDS:
        self._refuse(parameters.max_seconds, 0, _MAX_SECONDS)
    if parameters.min_seconds == 0 or parameters.min_seconds > parameters.max_seconds:
        self._refuse(parameters.min_seconds, 1, parameters.max_seconds)
    if parameters.bond_bps > _MAX_BOND_BPS:
        self._refuse(parameters.bond_bps, 0, _MAX_BOND_BPS)
    if parameters.penalty_bps > parameters.bond_bps:
        self._refuse(parameters.penalty_bps, 0, parameters.bond_bps)
    if parameters.jail_seconds > _MAX_SECONDS:
        self._refuse(parameters.jail_seconds, 0, _MAX_SECONDS)
    if parameters.lead < _MIN_LEAD:
        self._refuse(parameters.lead, _MIN_LEAD, max_value(uint32))
    self.parameters = parameters
    log ParametersChanged(parameters=parameters)


@internal
@pure
def _refuse(found: uint32, least: uint32, most: uint32):
    """
    @dev Reverts for a parameter that lies outside of its bounds.
    """
    raw_revert(abi_encode(found, least, most, method_id=method_id("ParameterOutOfBounds(uint32,uint32,uint32)")))


@internal
@pure
def _check_request(
    prompt: bytes32, payload: Bytes[_MAX_TEXT], assurance: uint8, replicas: uint8, budget: uint96, callback_gas: uint32
):
    """
    @dev Reverts for a request that cannot be right, whoever makes it.
    """
    if prompt == empty(bytes32):
        raw_revert(abi_encode(prompt, method_id=method_id("NoPrompt(bytes32)")))
    if len(payload) != 0 and sha256(payload) != prompt:
        raw_revert(abi_encode(prompt, sha256(payload), method_id=method_id("WrongPayload(bytes32,bytes32)")))
    if assurance != _NONE and assurance != _QUORUM:
        raw_revert(abi_encode(assurance, method_id=method_id("AssuranceNotOffered(uint8)")))
    if (assurance == _NONE) != (replicas == 1) or replicas == 0 or convert(replicas, uint256) > _MAX_REPLICAS:
        raw_revert(abi_encode(assurance, replicas, method_id=method_id("WrongReplicas(uint8,uint8)")))
    if budget == 0 or budget > _MAX_BUDGET:
        raw_revert(abi_encode(budget, _MAX_BUDGET, method_id=method_id("BudgetOutOfBounds(uint96,uint96)")))
    if callback_gas > _MAX_CALLBACK_GAS:
        raw_revert(
            abi_encode(callback_gas, _MAX_CALLBACK_GAS, method_id=method_id("TooMuchCallbackGas(uint32,uint32)"))
        )


@internal
@pure
def _check_window(seconds: uint32, parameters: Parameters):
    """
    @dev Reverts for a commit or reveal window that is too short or too long.
    """
    if seconds < parameters.min_seconds or seconds > parameters.max_seconds:
        raw_revert(
            abi_encode(
                seconds,
                parameters.min_seconds,
                parameters.max_seconds,
                method_id=method_id("WindowOutOfBounds(uint32,uint32,uint32)"),
            )
        )


@internal
def _draw(task_id: bytes32, task: Task, randomness: bytes32) -> DynArray[address, _MAX_REPLICAS]:
    """
    @dev Draws miners by the weights at the time of the request, and reserves their bonds. As many as needed are drawn
         first; if some cannot, up to `_MAX_ROUNDS - 1` times eight more, of which those drawn before are left out.
    """
    drawn: DynArray[address, _MAX_REPLICAS] = []
    seen: DynArray[address, _MAX_SEEN] = []
    needed: uint256 = convert(task.replicas, uint256)
    for round: uint256 in range(_MAX_ROUNDS):
        count: uint256 = needed if round == 0 else _MAX_REPLICAS
        candidates: DynArray[address, _MAX_REPLICAS] = staticcall IMinerRegistry(miners).draw(
            task.snapshot, keccak256(abi_encode(randomness, task_id, round)), count
        )
        for candidate: address in candidates:
            if len(drawn) == needed:
                break
            if candidate in seen:
                continue
            seen.append(candidate)
            if extcall IMinerRegistry(miners).reserve(candidate, task.bond):
                drawn.append(candidate)
        # Fewer than asked for means that there are no others.
        if len(drawn) == needed or len(candidates) < count:
            break
    return drawn


@internal
def _open_reveals(task_id: bytes32, task: Task):
    """
    @dev Ends the commit phase.
    """
    opened: Task = task
    opened.status = _COMMITTED
    opened.deadline = convert(block.timestamp, uint64) + convert(task.reveal_seconds, uint64)
    self._store(task_id, opened)
    log RevealsOpened(task_id=task_id, deadline=opened.deadline)


@internal
def _settle(task_id: bytes32, task: Task):
    """
    @dev Ends a task that was assigned: credits those who gave the answer, and the rest to the requester.
    """
    agreed: uint256 = 0
    answer_hash: bytes32 = empty(bytes32)
    for place: uint256 in range(convert(task.replicas, uint256), bound=_MAX_REPLICAS):
        if task.revealed >> place & 1 == 1:
            votes: uint256 = self._votes(task_id, task, self.entries[task_id][place])
            if 2 * votes > convert(task.replicas, uint256):
                agreed = votes
                answer_hash = self.entries[task_id][place]
                break
    self._finish(task_id, task, _ANSWERED if agreed != 0 else _DISAGREED, answer_hash)
    if agreed != 0:
        for place: uint256 in range(convert(task.replicas, uint256), bound=_MAX_REPLICAS):
            if task.revealed >> place & 1 == 1 and self.entries[task_id][place] == answer_hash:
                self._credit(task_id, self._assigned[task_id][place], task.budget)
    # At most what was put down: no more miners agreed than there are.
    self._credit(task_id, task.requester, self._escrow(task) - task.budget * convert(agreed, uint96))


@internal
def _finish(task_id: bytes32, task: Task, status: uint8, answer_hash: bytes32):
    """
    @dev Writes the final status. Whoever cancels needs no callback to know it.
    """
    finished: Task = task
    finished.status = status
    finished.deadline = 0
    if task.callback_gas != 0 and status != _CANCELLED:
        finished.callback = _PENDING
    self._store(task_id, finished)
    log Finished(task_id=task_id, status=status, answer_hash=answer_hash)


@internal
def _credit(task_id: bytes32, account: address, amount: uint96):
    """
    @dev Adds to what an account can withdraw.
    """
    if amount != 0:
        self.credits[account] += amount
        log Credited(task_id=task_id, account=account, amount=amount)


@internal
@view
def _votes(task_id: bytes32, task: Task, answer_hash: bytes32) -> uint256:
    """
    @dev How many miners have revealed this answer.
    """
    votes: uint256 = 0
    for place: uint256 in range(convert(task.replicas, uint256), bound=_MAX_REPLICAS):
        if task.revealed >> place & 1 == 1 and self.entries[task_id][place] == answer_hash:
            votes += 1
    return votes


@internal
@view
def _place(task_id: bytes32, miner: address) -> uint256:
    """
    @dev Where a miner stands among those assigned.
    """
    place: uint256 = 0
    for each: address in self._assigned[task_id]:
        if each == miner:
            return place
        place += 1
    raw_revert(abi_encode(task_id, miner, method_id=method_id("NotAssigned(bytes32,address)")))


@internal
@pure
def _all(task: Task) -> uint256:
    """
    @dev The bits of all miners of a task.
    """
    return (1 << convert(task.replicas, uint256)) - 1


@internal
@pure
def _count(bits: uint256) -> uint256:
    """
    @dev How many of the lowest eight bits are set.
    """
    count: uint256 = 0
    for place: uint256 in range(_MAX_REPLICAS):
        count += bits >> place & 1
    return count


@internal
@pure
def _escrow(task: Task) -> uint96:
    """
    @dev What the requester put down.
    """
    return task.budget * convert(task.replicas, uint96)


@internal
@view
def _require_status(task_id: bytes32, status: uint8) -> Task:
    """
    @dev Reverts unless the task is at this status.
    """
    task: Task = self._task(task_id)
    if task.status != status:
        raw_revert(
            abi_encode(task_id, task.status, status, method_id=method_id("WrongStatus(bytes32,uint8,uint8)"))
        )
    return task


@internal
@view
def _require_before(deadline: uint64):
    """
    @dev Reverts from the deadline on.
    """
    now: uint64 = convert(block.timestamp, uint64)
    if now >= deadline:
        raw_revert(abi_encode(deadline, now, method_id=method_id("TooLate(uint64,uint64)")))


@internal
@view
def _task(task_id: bytes32) -> Task:
    """
    @dev A task's record, unpacked.
    """
    payer: uint256 = self._payers[task_id]
    stakes: uint256 = self._stakes[task_id]
    progress: uint256 = self._progress[task_id]
    return Task(
        requester=convert(payer >> 96, address),
        budget=convert(payer & _UINT96_MASK, uint96),
        snapshot=self._snapshots[task_id],
        super_number=convert(stakes & _UINT64_MASK, uint64),
        bond=convert(stakes >> 160, uint96),
        penalty=convert(stakes >> 64 & _UINT96_MASK, uint96),
        callback_gas=convert(progress >> 208, uint32),
        jail_seconds=convert(progress >> 176 & _UINT32_MASK, uint32),
        commit_seconds=convert(progress >> 144 & _UINT32_MASK, uint32),
        reveal_seconds=convert(progress >> 112 & _UINT32_MASK, uint32),
        deadline=convert(progress >> 48 & _UINT64_MASK, uint64),
        status=convert(progress >> 40 & _BYTE_MASK, uint8),
        callback=convert(progress >> 32 & _BYTE_MASK, uint8),
        replicas=convert(progress >> 24 & _BYTE_MASK, uint8),
        committed=progress >> 16 & _BYTE_MASK,
        revealed=progress >> 8 & _BYTE_MASK,
        held=progress & _BYTE_MASK,
    )


@internal
def _store(task_id: bytes32, task: Task):
    """
    @dev Packs what can change; the three bit sets have at most eight bits, for there are no more miners.
    """
    self._progress[task_id] = (
        convert(task.callback_gas, uint256) << 208
        | convert(task.jail_seconds, uint256) << 176
        | convert(task.commit_seconds, uint256) << 144
        | convert(task.reveal_seconds, uint256) << 112
        | convert(task.deadline, uint256) << 48
        | convert(task.status, uint256) << 40
        | convert(task.callback, uint256) << 32
        | convert(task.replicas, uint256) << 24
        | task.committed << 16
        | task.revealed << 8
        | task.held
    )
