"""What accounts sign for the Welcome Center."""

from typing import Any

from msgspec.structs import replace

from tests.contracts.conftest import DOLLAR, as_abi, raw
from tests.contracts.replay.case import Case, by_owner_of, by_payment, of, soon, waits
from tests.contracts.replay.world import HUB, OTHER_HUB, World
from tristrata.protocol.ids import checksum
from tristrata.protocol.terms import Credit, Deposit, Registration, Role, Withdraw
from tristrata.protocol.units import Amount

SALT, OTHER_SALT = b"\x05" * 32, b"\x06" * 32


def withdraw(world: World) -> Withdraw:
    return Withdraw(raw("user"), Amount(DOLLAR), raw("payee"), 1, soon())


def credit(world: World) -> Credit:
    return Credit(raw("user"), HUB, Amount(DOLLAR), 1, soon())


def deposit_until(struct: Any) -> int:
    return 2**40


CASES = [
    Case(
        *("Registration", "register", of("welcome")),
        make=lambda world: Registration(raw("newcomer"), Role.USER, soon()),
        others=lambda world: [
            Registration(raw("other newcomer"), Role.USER, soon()),
            Registration(raw("newcomer"), Role.MINER, soon()),
        ],
        authorize=by_owner_of("account"),
        carry=lambda world, order, signature: world.welcome.register(*as_abi(order), signature),
        wrong="NotSignedBy",
        again="AlreadyRegistered",
        late="SignatureExpired",
        wait=waits(501),
    ),
    Case(
        *("Deposit", "deposit_with_authorization", of("welcome")),
        make=lambda world: Deposit(raw("owner"), Amount(5), SALT),
        others=lambda world: [
            Deposit(raw("other owner"), Amount(5), SALT),
            Deposit(raw("owner"), Amount(6), SALT),
            Deposit(raw("owner"), Amount(5), OTHER_SALT),
        ],
        authorize=by_payment("welcome", "owner", "amount", deposit_until),
        carry=lambda world, order, paid: world.welcome.deposit_with_authorization(
            checksum(order.owner), order.amount, 0, deposit_until(order), order.salt, *paid
        ),
        wrong="WrongSigner",
        again="AuthorizationSpent",
        late="AuthorizationExpired",
        wait=waits(2**40),
    ),
    Case(
        *("Withdraw", "withdraw_for", of("welcome"), withdraw),
        others=lambda world: [
            replace(withdraw(world), account=raw("other user")),
            replace(withdraw(world), recipient=raw("thief")),
            replace(withdraw(world), nonce=2),
        ],
        authorize=by_owner_of("account"),
        carry=lambda world, order, signature: world.welcome.withdraw_for(*as_abi(order), signature),
        wrong="NotSignedBy",
        again="NonceUsed",
        late="SignatureExpired",
        wait=waits(501),
    ),
    Case(
        *("Credit", "credit_for", of("welcome"), credit),
        others=lambda world: [
            replace(credit(world), account=raw("other user")),
            replace(credit(world), destination=OTHER_HUB),
            replace(credit(world), nonce=2),
        ],
        authorize=by_owner_of("account"),
        carry=lambda world, order, signature: world.welcome.credit_for(*as_abi(order), signature),
        wrong="NotSignedBy",
        again="NonceUsed",
        late="SignatureExpired",
        wait=waits(501),
    ),
]
