"""What the Welcome Center holds: deposits, withdrawals, credit out and back, destinations, tokens that misbehave."""

from collections.abc import Callable
from typing import Any

import boa
import pytest
from eth_abi.abi import encode

from tests.contracts.conftest import CHAIN, DOLLAR, REF, account, domain_of, raw, reverts
from tests.contracts.welcome_center import (
    HUB,
    LIMIT,
    NOWHERE,
    OTHER_HUB,
    SESSIONS,
    Center,
    funded,
    orders,
    returned,
    soon,
)
from tristrata.protocol.hashing import address_word
from tristrata.protocol.ids import ZERO_ADDRESS, chain_ref, checksum, eip155
from tristrata.protocol.signing import Domain
from tristrata.protocol.terms import Withdraw
from tristrata.protocol.units import Amount

FEE, REFUSING, SILENT, REENTRANT, BLOCKING = 2, 4, 8, 16, 32  # modes of the weird token


@pytest.fixture
def center() -> Center:
    return Center()


@pytest.fixture
def ready() -> Center:
    """With a known hub, and a user that has a balance."""
    center = Center()
    center.set_destination()
    center.deposit("user")
    return center


def test_deposit__for_oneself_and_another__is_each_ones_balance(center: Center) -> None:
    center.contract.deposit(3, sender=funded(center, "user"))
    center.contract.deposit_for(account("other"), 4, sender=account("user"))
    [event] = [log for log in center.contract.get_logs() if type(log).__name__ == "Deposited"]

    assert (event.account, event.payer, event.amount) == (account("other"), account("user"), 4)
    assert [center.contract.balance_of(account(name)) for name in ("user", "other")] == [3, 4]
    with reverts("Welcome", "ZeroAmount", 0):
        center.contract.deposit(0, sender=account("user"))
    for nobody in (checksum(ZERO_ADDRESS), center.contract.address):
        with reverts("Welcome", "AddressInvalid", nobody.lower()):
            center.contract.deposit_for(nobody, 1, sender=account("user"))


def test_deposit__with_permit__needs_no_gas_of_the_owner(center: Center) -> None:
    center.asset.mint(account("user"), 9, sender=center.operator)
    center.contract.deposit_with_permit(account("user"), 4, *center.permit("user", 4), sender=account("carrier"))
    # Somebody shows the permit to the token first: its allowance stands.
    second = center.permit("user", 5, nonce=1)
    center.asset.permit(account("user"), center.contract.address, 5, *second, sender=account("thief"))
    center.contract.deposit_with_permit(account("user"), 5, *second, sender=account("carrier"))

    assert center.contract.balance_of(account("user")) == center.holds() == 9
    with reverts("Welcome", "PermitRefused", account("user").lower(), 0, 5):
        center.contract.deposit_with_permit(account("user"), 5, *second, sender=account("carrier"))


def test_deposit__with_a_permit_that_is_none__is_refused(center: Center) -> None:
    user = funded(center, "user")
    late = center.permit("user", 5, deadline=boa.env.timestamp - 1)
    for permit in (late, center.permit("other", 5), center.permit("user", 6), center.permit("user", 5, nonce=1)):
        # The owner allowed more, for deposits of its own: nobody makes it deposit.
        with reverts("Welcome", "PermitRefused", user.lower(), 2**255, 5):
            center.contract.deposit_with_permit(user, 5, *permit, sender=account("thief"))


def test_deposit__with_authorization__works_once_and_for_nothing_else(center: Center) -> None:
    center.asset.mint(account("user"), 9, sender=center.operator)
    signed = center.authorize("user", 4)
    center.contract.deposit_with_authorization(*signed, sender=account("carrier"))

    assert center.contract.balance_of(account("user")) == center.holds() == 4
    with reverts("TestDollar", "AuthorizationSpent"):
        center.contract.deposit_with_authorization(*signed, sender=account("carrier"))
    ours, other = center.domain, domain_of(center.another())
    for domain in (other, Domain(CHAIN, chain_ref(eip155(2)), ours.contract), Domain(eip155(2), REF, ours.contract)):
        with reverts("TestDollar", "WrongSigner"):
            center.contract.deposit_with_authorization(*center.authorize("user", 4, b"\x06" * 32, domain))
    fresh = center.authorize("user", 5, b"\x06" * 32)
    for changed in (
        (account("other"), *fresh[1:]),
        (fresh[0], 4, *fresh[2:]),
        (*fresh[:3], fresh[3] + 1, *fresh[4:]),
        (*fresh[:4], b"\x07" * 32, *fresh[5:]),
    ):
        with reverts("TestDollar", "WrongSigner"):
            center.contract.deposit_with_authorization(*changed)
    boa.env.time_travel(1_000)
    with reverts("TestDollar", "AuthorizationExpired"):
        center.contract.deposit_with_authorization(*fresh)
    with reverts("Welcome", "ZeroAmount"):
        center.contract.deposit_with_authorization(*center.authorize("user", 0))


def test_withdraw__to_anyone__up_to_the_balance(ready: Center) -> None:
    ready.contract.withdraw(99 * DOLLAR, account("payee"), sender=account("user"))

    [event] = [log for log in ready.contract.get_logs() if type(log).__name__ == "Withdrawn"]
    assert (event.account, event.recipient, event.amount) == (account("user"), account("payee"), 99 * DOLLAR)
    assert ready.asset.balanceOf(account("payee")) == 99 * DOLLAR
    with reverts("Welcome", "BalanceTooLow", account("user").lower(), DOLLAR, DOLLAR + 1):
        ready.contract.withdraw(DOLLAR + 1, account("payee"), sender=account("user"))
    with reverts("Welcome", "ZeroAmount"):
        ready.contract.withdraw(0, account("payee"), sender=account("user"))
    for nobody in (checksum(ZERO_ADDRESS), ready.contract.address):
        with reverts("Welcome", "AddressInvalid", nobody.lower()):
            ready.contract.withdraw(1, nobody, sender=account("user"))


def test_withdraw__order_changed_by_its_carrier__is_refused(ready: Center) -> None:
    order = Withdraw(raw("user"), Amount(DOLLAR), raw("payee"), 7, soon())
    signature = ready.sign("user", order)
    for changed in (
        Withdraw(raw("user"), Amount(DOLLAR), raw("thief"), 7, order.deadline),
        Withdraw(raw("user"), Amount(2 * DOLLAR), raw("payee"), 7, order.deadline),
        Withdraw(raw("user"), Amount(DOLLAR), raw("payee"), 8, order.deadline),
    ):
        with reverts("Welcome", "NotSignedBy"):
            ready.carry(changed, signature)


def test_credit__to_a_known_hub__sends_a_message_and_keeps_the_tokens(ready: Center) -> None:
    index = ready.contract.credit(HUB, 60 * DOLLAR, sender=account("user"))

    sent, credited = ready.contract.get_logs()
    asset = address_word(bytes.fromhex(ready.asset.address[2:]))
    expected = encode(["uint8", "address", "uint96", "bytes32"], [2, account("user"), 60 * DOLLAR, asset])
    assert (sent.destination, sent.receiver, sent.payload) == (HUB, SESSIONS, expected)
    assert (sent.sender, sent.index) == (ready.contract.address, index)
    assert (credited.destination, credited.amount, credited.index) == (HUB, 60 * DOLLAR, index)
    assert ready.contract.destination(HUB) == (SESSIONS, LIMIT, 60 * DOLLAR)
    assert (ready.contract.balance_of(account("user")), ready.holds()) == (40 * DOLLAR, 100 * DOLLAR)


def test_credit__breaks_a_rule__is_refused(ready: Center) -> None:
    user = account("user")
    with reverts("Welcome", "CreditLimitReached", HUB, LIMIT + 1, LIMIT):
        ready.contract.credit(HUB, LIMIT + 1, sender=user)
    with reverts("Welcome", "DestinationUnknown", NOWHERE):
        ready.contract.credit(NOWHERE, 1, sender=user)
    with reverts("Welcome", "ZeroAmount"):
        ready.contract.credit(HUB, 0, sender=user)
    with reverts("Welcome", "BalanceTooLow", account("poor").lower(), 0, 1):
        ready.contract.credit(HUB, 1, sender=account("poor"))


def test_return__from_the_receiver__never_more_than_was_credited(ready: Center) -> None:
    ready.set_destination(OTHER_HUB)
    ready.contract.credit(HUB, 10, sender=account("user"))
    ready.contract.credit(OTHER_HUB, 20, sender=account("user"))
    ready.send_back("miner", 7)

    [event] = ready.contract.get_logs()
    assert (event.account, event.source, event.amount) == (account("miner"), HUB, 7)
    assert ready.contract.balance_of(account("miner")) == 7
    with reverts("Welcome", "CreditExceeded", HUB, 3, 4):
        ready.send_back("miner", 4)
    ready.contract.withdraw(7, account("miner"), sender=account("miner"))
    assert ready.contract.destination(OTHER_HUB).credited == 20


def test_return__from_anyone_else_or_malformed__is_refused(ready: Center) -> None:
    ready.contract.credit(HUB, 10, sender=account("user"))
    good = returned(raw("miner"), 7)

    with reverts("Welcome", "NotInbox", account("thief").lower()):
        ready.contract.on_message(HUB, SESSIONS, good, sender=account("thief"))
    for ref, sender in ((HUB, b"\x32" * 32), (NOWHERE, SESSIONS), (NOWHERE, bytes(32))):
        with reverts("Welcome", "UnknownSource", ref, sender):
            ready.contract.on_message(ref, sender, good, sender=ready.inbox)
    for payload in (b"", good[:-1], good + b"\0"):
        with reverts("Welcome", "WrongLength", len(payload), 96):
            ready.contract.on_message(HUB, SESSIONS, payload, sender=ready.inbox)
    for kind, who, amount in ((2, 1, 1), (3, 2**160, 1), (3, 1, 2**96), (2**255, 1, 1)):
        with reverts("Welcome", "MessageUnknown", kind, who, amount):
            payload = encode(["uint256", "uint256", "uint256"], [kind, who, amount])
            ready.contract.on_message(HUB, SESSIONS, payload, sender=ready.inbox)


def test_destination__is_set_by_the_owner_alone__and_announced(center: Center) -> None:
    change = (HUB, SESSIONS, LIMIT)
    with reverts("Welcome", "ChangeNotAnnounced"):
        center.contract.set_destination(*change, sender=center.operator)
    center.announce(*change)
    with reverts("Welcome", "NotOwner", account("thief").lower()):
        center.contract.set_destination(*change, sender=account("thief"))
    with reverts("Welcome", "ChangeNotAnnounced"):
        center.contract.set_destination(HUB, SESSIONS, LIMIT + 1, sender=center.operator)
    center.contract.set_destination(*change, sender=center.operator)
    event = center.contract.get_logs()[-1]
    assert (event.chain, event.receiver, event.limit) == change
    with reverts("Welcome", "ChangeNotAnnounced"):
        center.contract.set_destination(*change, sender=center.operator)


def test_destination__with_credit_out__keeps_its_receiver(ready: Center) -> None:
    ready.contract.credit(HUB, 10, sender=account("user"))
    with reverts("Welcome", "DestinationInUse", HUB, 10):
        ready.set_destination(receiver=b"\x32" * 32)
    ready.set_destination(limit=0)
    with reverts("Welcome", "CreditLimitReached", HUB, 11, 0):
        ready.contract.credit(HUB, 1, sender=account("user"))
    ready.send_back("user", 10)
    ready.set_destination(receiver=b"\x32" * 32)
    assert ready.contract.destination(HUB) == (b"\x32" * 32, LIMIT, 0)


def test_pause__stops_what_begins__and_nothing_that_ends(ready: Center) -> None:
    ready.sponsor()
    ready.contract.credit(HUB, 10, sender=account("user"))
    ready.fund(account("user"))
    ready.contract.pause(True, sender=ready.operator)
    registration, withdraw, credit = orders()
    entries: list[Callable[[], Any]] = [
        lambda: ready.carry(registration, ready.sign("user", registration)),
        lambda: ready.register_sponsored("user"),
        lambda: ready.contract.deposit(1, sender=account("user")),
        lambda: ready.contract.deposit_for(account("other"), 1, sender=account("user")),
        lambda: ready.contract.deposit_with_permit(account("user"), 1, *ready.permit("user", 1)),
        lambda: ready.contract.deposit_with_authorization(*ready.authorize("user", 1)),
        lambda: ready.contract.sponsor_deposit(1, sender=account("user")),
        lambda: ready.contract.credit(HUB, 1, sender=account("user")),
        lambda: ready.carry(credit, ready.sign("user", credit)),
    ]
    for entry in entries:
        with reverts("Welcome", "ContractPaused", ready.contract.address.lower()):
            entry()

    ready.carry(withdraw, ready.sign("user", withdraw))
    ready.send_back("user", 10)
    ready.contract.withdraw(99 * DOLLAR, account("user"), sender=account("user"))
    ready.contract.sponsor_withdraw(100, account("sponsor"), sender=account("sponsor"))
    assert ready.holds() == 0


@pytest.fixture
def weird() -> Center:
    return Center("testing/WeirdToken.vy")


def test_weird_token__that_keeps_a_fee__is_refused_at_every_entry(weird: Center) -> None:
    user = funded(weird, "user")
    weird.asset.set_mode(FEE)

    for entry in (weird.contract.deposit, weird.contract.sponsor_deposit):
        with reverts("Welcome", "WrongAmountReceived", 200, 198):
            entry(200, sender=user)
    weird.asset.approve(weird.contract.address, 200, sender=user)
    with reverts("Welcome", "WrongAmountReceived", 200, 198):
        weird.contract.deposit_with_permit(user, 200, *weird.permit("user", 200))


def test_weird_token__that_says_it_failed__moves_nothing(weird: Center) -> None:
    user = funded(weird, "user")
    weird.contract.deposit(5, sender=user)
    weird.asset.set_mode(REFUSING)

    with reverts("Welcome", "TransferRefused"):
        weird.contract.deposit(5, sender=user)
    with reverts("Welcome", "TransferRefused"):
        weird.contract.withdraw(5, user, sender=user)
    assert weird.contract.balance_of(user) == 5


def test_weird_token__that_answers_nothing__is_taken_at_its_word(weird: Center) -> None:
    user = funded(weird, "user")
    weird.asset.set_mode(SILENT)
    weird.contract.deposit(5, sender=user)
    weird.contract.withdraw(5, account("payee"), sender=user)

    assert weird.asset.balanceOf(account("payee")) == 5


def test_weird_token__without_permit_and_authorization__is_not_believed(weird: Center) -> None:
    user = funded(weird, "user")

    with reverts("Welcome", "PermitRefused", user.lower(), 2**255, 5):
        weird.contract.deposit_with_permit(user, 5, *weird.permit("user", 5))
    with reverts("Welcome", "WrongAmountReceived", 5, 0):
        weird.contract.deposit_with_authorization(*weird.authorize("user", 5))


def test_weird_token__that_blocks_a_recipient__lets_the_account_choose_another(weird: Center) -> None:
    user = funded(weird, "user")
    weird.contract.deposit(5, sender=user)
    weird.asset.set_mode(BLOCKING)
    weird.asset.set_blocked(user, True)

    with pytest.raises(boa.BoaError):
        weird.contract.withdraw(5, user, sender=user)
    weird.contract.withdraw(5, account("payee"), sender=user)
    assert weird.asset.balanceOf(account("payee")) == 5


@pytest.mark.parametrize(
    "inner", ["deposit", "deposit_for", "sponsor_deposit", "withdraw", "sponsor_withdraw", "credit"]
)
@pytest.mark.parametrize("outer", ["deposit", "withdraw"])
def test_weird_token__that_calls_back__gets_nowhere(weird: Center, inner: str, outer: str) -> None:
    token, made, user = weird.asset, weird.contract, funded(weird, "user")
    weird.set_destination()
    token.mint(token.address, 100)
    token.approve_as_token(made.address, 100)
    made.deposit_for(token.address, 50, sender=user)
    made.deposit(10, sender=user)
    made.sponsor_deposit(10, sender=user)
    arguments = {
        "deposit": (5,),
        "deposit_for": (user, 5),
        "sponsor_deposit": (5,),
        "withdraw": (5, token.address),
        "sponsor_withdraw": (5, token.address),
        "credit": (HUB, 5),
    }[inner]
    token.set_reentry(made.address, getattr(made, inner).prepare_calldata(*arguments))
    token.set_mode(REENTRANT)
    before = weird.holds()
    if outer == "deposit":
        made.deposit(5, sender=user)
    else:
        made.withdraw(5, user, sender=user)

    assert (token.reentries(), token.reentry_succeeded()) == (1, False)
    assert weird.holds() - before == (5 if outer == "deposit" else -5)
    assert made.balance_of(token.address) == 50
