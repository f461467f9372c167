"""The Welcome Center: who is registered, who signs and calls, what sponsors pay."""

from typing import Any

import boa
import pytest
from coincurve.utils import GROUP_ORDER_INT

from tests.contracts.conftest import CHAIN, DOLLAR, REF, account, contract, domain_of, raw, reverts
from tests.contracts.welcome_center import (
    DELAY,
    HUB,
    Center,
    Signed,
    funded,
    orders,
    soon,
)
from tristrata.protocol.ids import ZERO_ADDRESS, Address, chain_ref, checksum, eip155
from tristrata.protocol.signing import Domain
from tristrata.protocol.terms import Credit, Registration, Role, Withdraw
from tristrata.protocol.units import Amount, Timestamp


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


def test_init__names_what_it_was_given(center: Center) -> None:
    made = center.contract

    assert (made.chain_ref(), made.asset(), made.outbox()) == (REF, center.asset.address, center.outbox.address)
    assert (made.inbox(), made.owner(), made.change_delay()) == (center.inbox, center.operator, DELAY)


def test_register__signed_by_the_account__is_sponsored_by_the_carrier(center: Center) -> None:
    for role in Role:
        signed = Registration(raw("user"), role, soon())
        center.carry(signed, center.sign("user", signed))
        [event] = center.contract.get_logs()
        assert (event.account, event.role, event.sponsor) == (account("user"), role, account("carrier"))

    assert center.contract.roles(account("user")) == Role.USER | Role.MINER
    with reverts("Welcome", "AlreadyRegistered", account("user").lower(), 2):
        center.carry(signed, center.sign("user", signed))


def test_register__unknown_role__is_refused(center: Center) -> None:
    for role in (0, 3, 4):
        with reverts("Welcome", "RoleUnknown", role):
            center.contract.register(account("user"), role, soon(), b"")


def test_orders__signed_by_the_account__work_once_and_in_time(ready: Center) -> None:
    late = [(order, ready.sign("user", order)) for order in orders()]
    for order in orders():
        ready.carry(order, ready.sign("user", order))
        with reverts("Welcome", "AlreadyRegistered" if isinstance(order, Registration) else "NonceUsed"):
            ready.carry(order, ready.sign("user", order), carrier="another")
    boa.env.time_travel(1_001)
    for order, signature in late[1:]:
        with reverts("Welcome", "SignatureExpired", order.deadline, boa.env.timestamp):
            ready.carry(order, signature)
    miner = Registration(raw("user"), Role.MINER, Timestamp(boa.env.timestamp - 1))
    with reverts("Welcome", "SignatureExpired"):
        ready.carry(miner, ready.sign("user", miner))


def test_orders__nonce_of_one_kind__is_used_for_the_other_too(ready: Center) -> None:
    withdraw = Withdraw(raw("user"), Amount(1), raw("payee"), 7, soon())
    credit = Credit(raw("user"), HUB, Amount(1), 7, soon())
    ready.carry(withdraw, ready.sign("user", withdraw))

    with reverts("Welcome", "NonceUsed", account("user").lower(), 7):
        ready.carry(credit, ready.sign("user", credit))


@pytest.mark.parametrize("index", range(3))
def test_orders__signed_for_elsewhere_or_badly__are_refused(ready: Center, index: int) -> None:
    order = orders()[index]
    good = ready.sign("user", order)
    ours = ready.domain
    high_s = (GROUP_ORDER_INT - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
    for signature in (
        ready.sign("user", order, Domain(eip155(2), ours.ref, ours.contract)),
        ready.sign("user", order, Domain(CHAIN, chain_ref(eip155(2)), ours.contract)),
        ready.sign("user", order, domain_of(ready.another())),
        ready.sign("other", order),
        b"",
        good[:64],
        good + b"\0",
        good * 15,
        good[:32] + high_s + bytes([55 - good[64]]),
        bytes(65),
    ):
        with reverts("Welcome", "NotSignedBy", account("user").lower()):
            ready.carry(order, signature)
    ready.carry(order, good)


def test_register__nobody__is_refused(center: Center) -> None:
    nobody = Registration(ZERO_ADDRESS, Role.USER, soon())

    for signature in (b"", bytes(65)):
        with reverts("Welcome", "NotSignedBy", checksum(ZERO_ADDRESS)):
            center.carry(nobody, signature)


def test_orders__of_an_account_with_code_of_its_own__are_signed_by_its_key(ready: Center) -> None:
    """EIP-7702: the key still signs, be the code it delegates to a wallet's or one that reverts."""
    wallet_code = boa.env.get_code(contract("testing/ContractWallet.vy", []).address)
    for order, code in zip(orders(), (b"\x5f\x5f\xfd", wallet_code, wallet_code), strict=True):
        boa.env.set_code(account("user"), code)
        with reverts("Welcome", "NotSignedBy"):
            ready.carry(order, ready.sign("other", order))
        ready.carry(order, ready.sign("user", order))


class Wallet:
    """A contract account of two keys, and what it signs and calls."""

    def __init__(self, center: Center) -> None:
        self.center = center
        self.contract = contract("testing/ContractWallet.vy", [account("key one"), account("key two")])
        self.address = self.contract.address
        self.raw = Address(bytes.fromhex(self.address[2:]))

    def sign(self, signed: Signed) -> bytes:
        return self.center.sign("key one", signed) + self.center.sign("key two", signed)

    def call(self, method: str, *arguments: Any) -> None:
        calldata = getattr(self.center.contract, method).prepare_calldata(*arguments)
        self.contract.execute(self.center.contract.address, calldata, sender=account("key one"))


def test_wallet__that_is_a_contract__signs_by_erc_1271(ready: Center) -> None:
    wallet = Wallet(ready)
    ready.contract.deposit_for(wallet.address, 2 * DOLLAR, sender=funded(ready, "friend"))
    for order in (
        Registration(wallet.raw, Role.USER, soon()),
        Withdraw(wallet.raw, Amount(DOLLAR), raw("payee"), 1, soon()),
        Credit(wallet.raw, HUB, Amount(DOLLAR), 2, soon()),
    ):
        for wrong in (wallet.sign(order)[65:], wallet.sign(order)[65:] + wallet.sign(order)[:65]):
            with reverts("Welcome", "NotSignedBy", wallet.address.lower()):
                ready.carry(order, wrong)
        ready.carry(order, wallet.sign(order))

    assert ready.contract.balance_of(wallet.address) == 0


def test_wallet__that_is_a_contract__calls_like_anybody(ready: Center) -> None:
    """ERC-4337: the account is the caller, whoever sent the transaction."""
    wallet = Wallet(ready)
    ready.fund(wallet.address)
    wallet.call(
        "register", account("user"), 1, soon(), ready.sign("user", Registration(raw("user"), Role.USER, soon()))
    )
    wallet.call("deposit", 9 * DOLLAR)
    wallet.call("deposit_for", account("user"), DOLLAR)
    wallet.call("credit", HUB, DOLLAR)
    wallet.call("withdraw", 8 * DOLLAR, wallet.address)
    wallet.call("set_sponsorship", 1, 2, 1)
    wallet.call("sponsor_deposit", DOLLAR)
    wallet.call("sponsor_withdraw", DOLLAR, wallet.address)

    assert ready.asset.balanceOf(wallet.address) == 98 * DOLLAR
    assert ready.contract.balance_of(wallet.address) == 0


def test_sponsor__pays_the_carrier__from_its_budget(center: Center) -> None:
    center.sponsor()
    center.register_sponsored("user")

    registered, paid = center.contract.get_logs()
    assert (registered.account, registered.role, registered.sponsor) == (account("user"), 1, account("sponsor"))
    assert (paid.sponsor, paid.payee, paid.reward) == (account("sponsor"), account("carrier"), 10)
    assert center.contract.balance_of(account("carrier")) == 10
    day = boa.env.timestamp // 86_400
    assert center.contract.sponsor(account("sponsor")) == (90, 10, 2, 1, day, 1)
    with reverts("Welcome", "AlreadyRegistered"):
        center.register_sponsored("user")
    assert center.contract.sponsor(account("sponsor")).budget == 90


def test_sponsor__at_its_limits__pays_no_more(center: Center) -> None:
    center.sponsor(budget=35)
    center.register_sponsored("one")
    with reverts("Welcome", "AccountLimitReached", account("sponsor").lower(), account("one").lower(), 1):
        center.register_sponsored("one", Role.MINER)
    center.register_sponsored("two")
    with reverts("Welcome", "DailyLimitReached", account("sponsor").lower(), 2):
        center.register_sponsored("three")
    boa.env.time_travel(86_400)
    center.register_sponsored("three")
    with reverts("Welcome", "BudgetTooLow", account("sponsor").lower(), 5, 10):
        center.register_sponsored("four")
    assert center.contract.roles(account("four")) == 0
    center.contract.set_sponsorship(5, 2, 2, sender=account("sponsor"))
    center.register_sponsored("one", Role.MINER)
    assert center.contract.balance_of(account("carrier")) == 35


def test_sponsor__that_offers_nothing__pays_nothing(center: Center) -> None:
    with reverts("Welcome", "AccountLimitReached"):
        center.register_sponsored("user")
    center.sponsor()
    for payee in (checksum(ZERO_ADDRESS), center.contract.address):
        with reverts("Welcome", "AddressInvalid", payee.lower()):
            center.register_sponsored("user", payee=payee)


def test_sponsor__withdraws__what_is_left(center: Center) -> None:
    center.sponsor()
    center.register_sponsored("user")
    with reverts("Welcome", "BudgetTooLow", account("sponsor").lower(), 90, 91):
        center.contract.sponsor_withdraw(91, account("vault"), sender=account("sponsor"))
    with reverts("Welcome", "ZeroAmount"):
        center.contract.sponsor_withdraw(0, account("vault"), sender=account("sponsor"))
    with reverts("Welcome", "AddressInvalid"):
        center.contract.sponsor_withdraw(1, center.contract.address, sender=account("sponsor"))
    center.contract.sponsor_withdraw(90, account("vault"), sender=account("sponsor"))
    assert center.asset.balanceOf(account("vault")) == 90
    with reverts("Welcome", "ZeroAmount"):
        center.contract.sponsor_deposit(0, sender=account("sponsor"))


def test_sponsor__budget_of_more_than_96_bits__is_refused(center: Center) -> None:
    center.fund(account("sponsor"), 2**97)
    center.contract.sponsor_deposit(2**96 - 1, sender=account("sponsor"))

    with reverts("Welcome", "BudgetTooHigh", account("sponsor").lower(), 2**96):
        center.contract.sponsor_deposit(1, sender=account("sponsor"))
