"""Refusals of the Welcome Center, and of what stands in for others' contracts: test token, example consumer."""

WELCOME = {
    # registering
    "RoleUnknown(uint8)": "there is no role {0}: use 1 (user) or 2 (miner)",
    "AlreadyRegistered(address,uint8)": "account {0} is registered as a {1:role} already",
    # sponsors
    "AccountLimitReached(address,address,uint8)": (
        "sponsor {0} has paid for {1} as often as it pays for one account, {2}"
    ),
    "DailyLimitReached(address,uint32)": (
        "sponsor {0} pays for {1} accounts a day, and has today: try again tomorrow (UTC)"
    ),
    "BudgetTooHigh(address,uint256)": "a budget of {1} base units for sponsor {0} is above 96 bits: deposit less",
    "BudgetTooLow(address,uint96,uint96)": "the budget of sponsor {0} is {1} base units, below {2}: deposit more",
    # balances
    "PermitRefused(address,uint256,uint96)": (
        "the permit of {0} leaves an allowance of {1} base units, not the {2} to deposit: sign it again"
    ),
    "BalanceTooLow(address,uint256,uint96)": "account {0} has {1} base units, below {2}: deposit more, or move less",
    # credit to other hubs
    "DestinationUnknown(bytes32)": "no credit can go to chain {0}: name one that the Welcome Center knows",
    "CreditLimitReached(bytes32,uint256,uint96)": "credit to chain {0} would be {1} base units, above its limit of {2}",
    "CreditExceeded(bytes32,uint96,uint96)": "chain {0} was credited {1} base units and cannot return {2}",
    "DestinationInUse(bytes32,uint96)": "chain {0} still holds {1} base units of credit, so its receiver must stay",
    "WrongLength(uint256,uint256)": "the message has {0} bytes and must have {1}",
    "MessageUnknown(uint256,uint256,uint256)": (
        "a message of kind {0} with account {1} and value {2} is none that this contract takes"
    ),
    # the test token
    "AuthorizationNotYetValid(uint256,uint256)": "the authorization is good after {0} but it is {1}: wait until then",
    "AuthorizationExpired(uint256,uint256)": "the authorization was good before {0} but it is {1}: sign a new one",
    "AuthorizationSpent(address,bytes32)": (
        "{0} has used or cancelled authorization {1} before: sign one with a new nonce"
    ),
    "NotPayee(address,address)": "{0} cannot carry an authorization that pays {1}: the payee must",
    # the example consumer
    "NotAsked(bytes32)": "task {0} was not asked by this contract",
    "WrongCaller(address,address)": "{0} called, but only {1} may",
}
