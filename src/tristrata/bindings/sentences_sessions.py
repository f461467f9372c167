"""Refusals of sessions, charges, epochs and payouts."""

SESSIONS = {
    # opening
    "SessionExists(bytes32)": "session {0} exists: open one with another nonce",
    "NotRegistered(address)": (
        "account {0} is not registered as a user on this hub: register at the Welcome Center first"
    ),
    "CountTooHigh(uint256)": "the voucher counts {0} receipts: it must be below 2^40",
    "NotRouter(address,address)": "a managed session is opened by its router, {1}, but {0} called",
    "ExpiryOutOfRange(uint64,uint256)": "a session cannot expire at {0}: it must be after now, {1}, and below 2^63",
    "ZeroAddress(address,address)": "a session needs a key and a router: they are {0} and {1}",
    "ShareTooHigh(uint16,uint16)": "a router's share of {0} basis points is above the most, {1}",
    "ReplicasOutOfRange(uint8,uint8)": "{0} replicas are not possible: 1 to {1} are",
    "AssuranceUnknown(uint8)": "there is no assurance {0}: use 0 (none), 1 (sampled), 2 (quorum) or 3 (TEE)",
    # a session's life
    "SessionUnknown(bytes32)": "there is no session {0} on this hub: check the id and the chain",
    "SessionClosed(bytes32)": "session {0} is closed: open another",
    "SessionManaged(bytes32)": "session {0} is managed by its router, so its key cannot be replaced",
    "NotSessionOwner(bytes32,address)": "session {0} is not owned by {1}: its owner must do or sign this",
    "NotParty(bytes32,address)": "only the owner, the key and the router of session {0} may ask to close it, not {1}",
    "AlreadyClosing(bytes32,uint64)": "session {0} was asked to close already: anyone can close it from {1}",
    "CloseTooEarly(bytes32,uint64,uint256)": "session {0} can be closed from {1} but it is {2}: wait until then",
    "NotAnotherKey(address,address)": "the key is {0} and cannot be replaced by {1}: give another one",
    "KeyChangeTooEarly(uint64,uint256)": (
        "the key replaced last is good until {0}, and it is {1}: replace again after that"
    ),
    # router's bonds
    "AboveRouterBond(address,uint96,uint256)": (
        "router {0} would manage {1} base units but its bond answers for {2}: raise the bond, or deposit less"
    ),
    "ZeroBond(address,uint96)": "a bond needs a router and an amount above zero: they are {0} and {1}",
    "ExitTooEarly(uint96,uint64,uint256)": (
        "{0} base units of the bond are leaving and can be taken from {1} (0: ask for it first) but it is {2}"
    ),
    # charging
    "ChargeNotUp(uint256,uint256,uint256,uint256)": (
        "a charge of {0}, count {1}, is not above the last: {2}, count {3}; use a newer voucher"
    ),
    "AboveDeposit(uint256,uint256)": (
        "charges of {0} base units are above the session's deposit of {1}: top it up first"
    ),
    "AboveDailyLimit(uint256,uint96)": (
        "today's charges would be {0} base units, above the owner's limit of {1} a day: wait for tomorrow (UTC)"
    ),
    "WrongSplitsBefore(bytes32)": "count or splits before are not those of session {0}'s last charge: read them again",
    "SplitInvalid(address)": (
        "the split of {0} is empty or out of order: payees ascend, each once, with amounts above zero"
    ),
    "SplitShrunk(address)": "payee {0} would have less than was charged for it before: splits only grow",
    "SplitsMissing(uint256,uint256)": "{0} splits are said but there are {1}: give every charge exactly its splits",
    "LengthsDiffer(uint256,uint256)": "there are {0} splits but {1} amounts before: give one for each",
    "VouchersAgree(bytes32)": "the voucher of session {0} does not contradict the last charge, so nothing is forfeited",
    # payouts
    "WrongSplits(bytes32,uint256)": (
        "session {0} was not charged last with count {1} and these splits: read its last charge"
    ),
    "NoSuchSplit(uint256,uint256)": "split {0}, counted from 0, is not among the {1} of the last charge",
    "AboveCharged(uint256,uint256)": (
        "{0} base units are due but only {1} were charged and not paid yet: claim directly"
    ),
    "PaymentRefused(address,address,uint256)": (
        "the token refused to pay {2} base units of {0} to {1}: have it paid elsewhere by a signature"
    ),
    "PayoutTooEarly(uint64,uint64)": "this epoch pays from {0} but it is {1}: wait, or claim directly",
    "VetoTooLate(uint64,uint64)": "this epoch could be vetoed before {0}, and it is {1}",
    "PayoutCovered(bytes32,uint96,uint96)": (
        "the payout counts {1} base units of session {0} and {2} were charged, so it is not proven false"
    ),
    "WrongEntry(bytes32,uint96)": "an entry of session {0} with {1} base units is not in the payout's sums",
    "EntriesUnsorted(uint256,uint256)": "the entry at place {0} must be at {1} or above: entries ascend, each once",
}
