"""Refusals that several contracts share: owners, payments, signatures, quorums and proofs."""

SHARED = {
    # ownership
    "NotOwner(address)": "{0} is not the contract's owner, who alone may do this",
    "NotPendingOwner(address)": "{0} was not offered the ownership: the owner must offer it first",
    "ContractPaused(address)": (
        "the contract {0} is paused, so it begins nothing new; closing, claiming and leaving go on"
    ),
    "ChangeNotAnnounced(bytes32)": "the change {0} was not announced: announce it, wait for the delay, then make it",
    "ChangeNotRipe(uint64,uint64,uint64)": (
        "the change can be made from {0} to {1}, but it is {2}: wait, or announce it again if that is over"
    ),
    # callers
    "NotInbox(address)": "{0} is not the inbox, which alone delivers messages here",
    "UnknownSource(bytes32,bytes32)": "messages from chain {0}, sender {1}, are not accepted here",
    "NotSessions(address)": "{0} is not the Sessions contract, which alone may do this",
    "NotSettlement(address)": "{0} is not the Settlement contract, which alone may do this",
    "AddressInvalid(address)": "{0} could never take out what it gets: name an account of your own",
    # amounts and payments
    "ZeroAmount(uint96)": "an amount of {0} moves nothing: it must be above zero",
    "TransferRefused(address,address,uint96)": (
        "the token {0} refused to move {2} base units (account {1}): check its balance and its allowance"
    ),
    "TransferRefused(address,address,uint256)": (
        "the token {0} refused to move {2} base units (account {1}): check the balance that pays"
    ),
    "WrongAmountReceived(uint96,uint256)": (
        "{0} base units were due but {1} arrived: tokens that charge a fee or move on their own are not accepted"
    ),
    "DepositTooHigh(uint96,uint256)": (
        "the deposit would be more than a session can hold ({0} and {1} base units): deposit less"
    ),
    # signatures
    "WrongSigner(address,address)": (
        "the signature must be by {0} but is by {1}: sign for this chain and this contract with the right key"
    ),
    "NotSignedBy(address)": "this is not signed by {0}: sign exactly these values, for this chain and this contract",
    "SignatureExpired(uint256,uint256)": (
        "the signature was good until {0} but it is {1}: sign again with a later deadline"
    ),
    "SignatureInvalid(uint256)": "signature number {0}, counted from 0, is malformed and by nobody: sign again",
    "SignatureUsed(bytes32)": "the signed order {0} was carried out before: sign a new one with another deadline",
    "NonceUsed(address,uint256)": "account {0} has used nonce {1} before: sign the order again with a fresh nonce",
    # quorums
    "NotValidator(address)": "{0} is not a validator, or is not in the current set (any more)",
    "SignersUnsorted(address)": "signatures must be in ascending order of signers, each once: {0} is out of place",
    "NoQuorum(uint256,uint256)": (
        "the signers weigh {0} of {1}, and two thirds are needed: collect more validators' signatures"
    ),
    "SetEmpty(uint64)": "validator set {0} has no members: a set needs at least one",
    "SetExpired(uint64,uint64)": "the validator set was valid until {0} but it is {1}: bring the next set first",
    "SetNotNewer(uint64,uint64)": "validator set {0} does not come after the current one, {1}: bring a newer one",
    "MembersUnsorted(address)": "members must be in ascending order, each once: {0} is out of place",
    "ZeroWeight(address)": "member {0} of the validator set has no weight: leave it out",
    # proofs and trees
    "WrongProofLength(uint256,uint256)": (
        "the proof for {0} leaves has {1} elements and does not lead to one root: make it from the epoch's content"
    ),
    "SumOverflow(uint256,uint256)": "the sums {0} and {1} in the proof are together beyond 256 bits: the tree is false",
    "IndexTooHigh(uint256,uint256)": "a proof of {1} siblings has no leaf {0}: give the index with its own proof",
    "TreeFull(uint256)": "the tree is full with {0} leaves, and takes no more",
    "PlaceOutOfReach(uint256,uint256)": (
        "place {0} is beyond a tree of height {1}: places are taken in order, and there are 2^20 at most"
    ),
    "TooManyDrawn(uint256,uint256)": "{0} members cannot be drawn at once: {1} is the most",
    "WeightTooBig(uint256,uint256)": "the weights add up to {0}, above {1}, the most that the tree can hold",
    # epochs and chains
    "ChainExists(bytes32)": "chain {0} was added before: a chain is added once",
    "ChainUnknown(bytes32)": "chain {0} is not known here: its owner must have it added first",
    "NothingSealed(bytes32,uint64,bytes32)": (
        "chain {0} cannot have sealed epoch {1} with root {2}: both are above zero"
    ),
    "EpochOutOfOrder(uint64,uint64)": "epoch {0} cannot be next: epochs go one by one, and the next is {1}",
    "ModelUnknown(bytes32)": "model {0} is not registered: register it, or name one that is",
}
