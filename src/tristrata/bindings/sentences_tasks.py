"""Refusals of miners, models and the queue of tasks."""

TASKS = {
    # miners
    "AlreadyMiner(address)": "{0} is a miner already",
    "NotMiner(address)": "{0} is not a miner on this hub: register it first",
    "NotTaskQueue(address)": "{0} is not the task queue, which alone may do this",
    "ZeroSlots(uint16)": "a miner cannot take {0} tasks at once: say 1 or more",
    "SigningKeyTaken(address)": "signing key {0} is another miner's, or nobody's: use a key of your own",
    "NatsKeyTaken(bytes32)": "the NATS key {0} is another miner's, or empty: use a key of your own",
    "ModelIncomplete(string,bytes32)": (
        "model {0} with weights {1} is incomplete: it needs a name and its weights' digest"
    ),
    "NotOffered(address,bytes32)": "miner {0} does not offer model {1}",
    "TooManyOffers(address,uint256)": "miner {0} offers {1} models, the most there can be: withdraw an offer first",
    "MeasurementOutOfRange(uint64,uint64,uint64)": (
        "a measurement of {0} must be later than the last, of {1}, and not after now, {2}"
    ),
    # miners' bonds
    "BondTooLow(uint96,uint96)": (
        "{0} base units do not fit: a miner bonds {1} at least; a router withdraws {1} at most"
    ),
    "BondNeeded(uint96,uint96,uint96)": "{0} base units cannot leave the bond: {1} are free, and {2} of them must stay",
    "AlreadyWithdrawing(uint64)": "a part of the bond is leaving already, and can be taken from {0}: take it first",
    "WithdrawalTooEarly(uint64,uint256)": "the bond can be withdrawn from {0} (0: ask for it first) but it is {1}",
    "BondReserved(address,uint96)": "{1} base units of the bond of {0} answer for tasks: leave when those have ended",
    "NotReserved(address,uint96,uint96)": "{1} base units of the bond of {0} cannot be released: {2} are reserved",
    "RegistryFull(uint256,uint96,uint256)": (
        "the registry holds {0} base units and cannot take {1} more: {2} is the most"
    ),
    "MinBondOutOfRange(uint96,uint96)": "a least bond of {0} base units is not possible: 1 to {1} are",
    "MaxPenaltyTooHigh(uint16,uint16)": "a largest penalty of {0} basis points is above {1}, the most there may be",
    # jail
    "InJail(address,uint64)": "miner {0} is in jail until {1}: wait, then leave it with unjail",
    "NotJailed(address)": "miner {0} is not in jail",
    "JailOutOfRange(uint64,uint64,uint64)": "jail until {0} is not possible: it is {1}, and {2} is the latest",
    "EvidenceUsed(address,bytes32)": "miner {0} was jailed before by the evidence {1}",
    # requests
    "NoPrompt(bytes32)": "the digest of the prompt is {0}: give the SHA-256 of a prompt",
    "WrongPayload(bytes32,bytes32)": "the prompt's digest should be {0} but the payload has {1}: give its SHA-256",
    "NotOffered(bytes32)": "nobody offers model {0} now: name another",
    "AssuranceNotOffered(uint8)": "the queue does not offer assurance {0}: use 0 (none) or 2 (quorum)",
    "WrongReplicas(uint8,uint8)": "assurance {0} does not go with {1} replicas: 0 takes 1, 2 (quorum) takes 2 to 8",
    "BudgetOutOfBounds(uint96,uint96)": "a budget of {0} base units is not possible: 1 to {1} are",
    "TooMuchCallbackGas(uint32,uint32)": "a callback with {0} gas is above {1}, the most there may be",
    "WindowOutOfBounds(uint32,uint32,uint32)": "a time of {0} s is not possible: {1} to {2} s are",
    "ParameterOutOfBounds(uint32,uint32,uint32)": "a parameter of {0} is not possible: {1} to {2} are",
    # a task's life
    "WrongStatus(bytes32,uint8,uint8)": "task {0} is {1:status} but must be {2:status} for this",
    "TooEarly(uint64,uint64)": "this is possible from {0} but it is {1}: wait until then",
    "TooLate(uint64,uint64)": "this was possible before {0} and it is {1}: anyone can advance the task now",
    "NothingToAdvance(bytes32,uint8)": "task {0} is {1:status}: there is nothing to advance",
    "NotRequester(bytes32,address)": "task {0} was not requested by {1}, so it cannot cancel it",
    "DrawDecided(bytes32,uint64)": (
        "super root {1} has arrived, which decides the draw of task {0}: it cannot be cancelled"
    ),
    "RandomnessUnknown(uint64)": "the randomness of super root {0} is not proven here: prove it first",
    "TooFewMiners(bytes32,uint256,uint8)": "{1} miners could be drawn for task {0} and {2} are needed: try again later",
    "NotAssigned(bytes32,address)": "task {0} is not assigned to {1}",
    "AlreadyCommitted(bytes32,address)": "miner {1} has committed to an answer to task {0} before",
    "NotCommitted(bytes32,address)": "miner {1} has not committed to an answer to task {0}, so it cannot reveal one",
    "AlreadyRevealed(bytes32,address)": "miner {1} has revealed its answer to task {0} before",
    "WrongReveal(bytes32,bytes32)": "the commitment is {0} but this answer gives {1}: reveal the same answer and salt",
    # after a task
    "NotFinished(bytes32,uint8)": "task {0} is {1:status} and has not ended: settle its bonds after that",
    "BondNotHeld(bytes32,address)": "task {0} holds no bond of {1} (any more)",
    "NotAnswered(bytes32,uint8)": "task {0} is {1:status} and has no answer",
    "CallbackNotPending(bytes32,uint8)": "the callback of task {0} is {1:callback}, so it cannot be delivered",
    "NotEnoughGas(uint256,uint256)": "the callback would get {0} gas and needs {1}: send the transaction with more",
    "NothingCredited(address)": "the queue owes {0} nothing",
}
