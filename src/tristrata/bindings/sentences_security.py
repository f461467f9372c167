"""Refusals of validators' stakes, of the checkpoint ledger, and of every chain's outbox and inbox."""

SECURITY = {
    # stake
    "AlreadyValidator(address)": "{0} is a validator already: add to its stake instead",
    "StakeTooLow(uint96,uint96)": "a stake of {0} base units is below the least, {1}: stake more",
    "AboveFreeStake(uint96,uint96)": "{0} base units cannot be allocated: {1} of the stake are free; add stake first",
    "AbovePartition(uint96,uint96)": "{0} base units cannot be freed: {1} are allocated to the chain and not leaving",
    "ReleaseTooEarly(uint64,uint256)": (
        "what was freed can be released from {0} (0: nothing was) but it is {1}: wait for the unbonding period"
    ),
    "NotSlashable(bytes32)": "chain {0} is not slashable, so no stake can answer for it",
    "SignerTaken(address)": "signing key {0} is another validator's, or nobody's: choose one that was never used",
    "NotActiveYet(address,uint64)": "validator {0} weighs nothing before {1}: publish the set after that",
    "SetFull(address,uint96,uint256)": (
        "validator {0} with a stake of {1} finds no seat: it must be above {2}, the smallest that has one"
    ),
    "NotAllSeated(uint256,uint256)": "the list names {0} validators but {1} have a seat: name every one of them",
    "NothingAtStake(address)": "account {0} has nothing at stake (any more)",
    "UnbondingTooShort(uint64,uint64)": "an unbonding period of {0} s must be longer than a set is valid, {1} s",
    "AlreadyLeaving(uint64)": "the account asked to leave already, and can do so from {0}",
    "ExitTooEarly(uint64,uint256)": "leaving is possible from {0} (0: ask for it first) but it is {1}",
    # slashing
    "PenaltiesOutOfRange(uint16,uint16)": (
        "penalty {0} or reward {1} is out of range, in basis points: 1 to 10000, and no more than the limit of rewards"
    ),
    "SameStatement(bytes32)": "both signatures are of the same statement {0}, which is no contradiction",
    "SignersDiffer(address,address)": "{0} and {1} are keys of two validators: evidence is by one of them, twice",
    "AlreadySlashed(address,bytes32,uint64)": "validator {0} was slashed before for chain {1}, epoch {2}",
    "NotConvicted(bytes32,uint64)": "no attested root of chain {0}, epoch {1}, was contradicted by a final one",
    "NotProvenFalse(bytes32,bytes32)": "chain {0} has not proven the epoch {1} false: prove it there first",
    "NothingToSlash(bytes32,uint64)": "none of these signers has stake left that answers for chain {0}, epoch {1}",
    "NoOutbox(bytes32)": "the ledger does not know the outbox of chain {0}: what is signed for it is no evidence",
    "MessageUnknown(bytes32)": "the message with hash {0} is none that the validator set takes",
    # ledger
    "AlreadyAttested(bytes32,uint64)": "chain {0}, epoch {1}, has a root already, and the ledger only appends",
    "AlreadyFinal(bytes32,uint64)": "chain {0}, epoch {1}, is final already",
    "ChainFrozen(bytes32)": "chain {0} is frozen after a conflict: its epochs go on by the final lane alone",
    "ChainNotFrozen(bytes32)": "chain {0} is not frozen, so there is nothing to lift",
    "NotHub(address)": "{0} is not the message hub, which alone brings final roots",
    # outbox
    "ChildNotSealed(bytes32,uint64)": (
        "epoch {1} of child {0} is not in a sealed epoch of this chain yet: settle one first"
    ),
    "BlockOutOfOrder(uint64,uint64)": "an epoch up to block {0} must reach beyond the last one, which went up to {1}",
    "NoEpochsKept(uint64)": "an outbox that keeps {0} epochs could pay from none: it must keep one at least",
    "EpochNotKept(uint64,uint64,uint64)": (
        "epoch {0} cannot be claimed from: the newest is {1}, and {2} are kept; newer payouts contain the older ones"
    ),
    "WrongRoots(uint64,bytes32,bytes32)": "epoch {0} was not sealed with root {1} and payouts root {2}",
    "PayoutVetoed(uint64)": "payouts of epoch {0} were stopped: claim directly, or from a later epoch",
    "ValidTooLong(uint64,uint256,uint64)": "at {1} a validator set may be valid for {2} s more, not until {0}",
    # inbox
    "NotPortal(address)": "{0} is not the portal, which alone brings super roots",
    "NoSuperRoot(uint64,bytes32)": "number {0} with root {1} is no super root: both must be above zero",
    "SuperRootTaken(uint64,bytes32,bytes32)": "super root {0} is {1} here, so it cannot be {2}",
    "SuperRootUnknown(uint64)": "super root {0} has not arrived here: have it pushed first",
    "NoRandomness(uint64)": "super root {0} was given an empty random word, which is none",
    "WrongProof(uint64,bytes32,bytes32)": "super root {0} is {1} but the proof leads to {2}",
}
