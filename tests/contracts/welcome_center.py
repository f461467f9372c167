"""A Welcome Center in titanoboa, with what its accounts sign; the tests of all its parts share it."""

from typing import Any

import boa
from eth_abi.abi import encode
from msgspec.structs import asdict

from tests.contracts.conftest import DOLLAR, KEPT_EPOCHS, MAX_VALIDITY, REF, account, contract, domain_of, key, raw
from tristrata.protocol.authorization import Asset, Authorization, Permit
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, chain_ref, checksum, eip155
from tristrata.protocol.signing import Domain, digest, sign
from tristrata.protocol.terms import Credit, Deposit, Registration, Role, Withdraw
from tristrata.protocol.units import Amount, Timestamp

HUB, OTHER_HUB, NOWHERE = chain_ref(eip155(42161)), chain_ref(eip155(10)), chain_ref(eip155(5))
SESSIONS = b"\x31" * 32
DELAY = 100
LIMIT = 60 * DOLLAR
SALT = b"\x05" * 32
Signed = Registration | Withdraw | Credit


class Center:
    """A Welcome Center with a real outbox; the inbox is a plain account."""

    def __init__(self, asset: str = "testing/TestDollar.vy") -> None:
        self.operator, self.inbox = account("operator"), account("inbox")
        with boa.env.prank(self.operator):
            self.asset = contract(asset)
            self.outbox = contract(
                "messaging/Outbox.vy", REF, self.inbox, account("settlement"), MAX_VALIDITY, KEPT_EPOCHS
            )
            self.contract = self.another()
        self.domain = domain_of(self.contract)

    def another(self) -> Any:
        """One more Welcome Center on the same chain."""
        return contract("onboarding/Welcome.vy", REF, self.asset.address, self.outbox.address, self.inbox, DELAY)

    def fund(self, holder: str, amount: int = 100 * DOLLAR, allowance: int = 2**255) -> None:
        self.asset.mint(holder, amount, sender=self.operator)
        self.asset.approve(self.contract.address, allowance, sender=holder)

    def deposit(self, name: str, amount: int = 100 * DOLLAR) -> None:
        self.fund(account(name), amount)
        self.contract.deposit(amount, sender=account(name))

    def announce(self, *arguments: Any) -> None:
        calldata = self.contract.set_destination.prepare_calldata(*arguments)
        self.contract.announce(keccak(calldata), sender=self.operator)
        boa.env.time_travel(DELAY)

    def set_destination(self, ref: bytes = HUB, receiver: bytes = SESSIONS, limit: int = LIMIT) -> None:
        self.announce(ref, receiver, limit)
        self.contract.set_destination(ref, receiver, limit, sender=self.operator)

    def sign(self, signer: str, signed: Signed, domain: Domain | None = None) -> bytes:
        return sign(key(signer), digest((domain or self.domain).separator, signed.struct_hash))

    def carry(self, signed: Signed, signature: bytes, carrier: str = "carrier") -> None:
        """Have somebody carry what an account signed."""
        fields = [checksum(value) if is_address(value) else value for value in asdict(signed).values()]
        call = {Registration: "register", Withdraw: "withdraw_for", Credit: "credit_for"}[type(signed)]
        getattr(self.contract, call)(*fields, signature, sender=account(carrier))

    def sponsor(self, budget: int = 100, reward: int = 10, per_day: int = 2, per_account: int = 1) -> None:
        self.fund(account("sponsor"), budget)
        self.contract.sponsor_deposit(budget, sender=account("sponsor"))
        self.contract.set_sponsorship(reward, per_day, per_account, sender=account("sponsor"))

    def register_sponsored(self, name: str, role: Role = Role.USER, payee: str | None = None) -> None:
        signed = Registration(raw(name), role, soon())
        arguments = (account(name), int(role), signed.deadline, self.sign(name, signed))
        self.contract.register_sponsored(
            *arguments, account("sponsor"), payee or account("carrier"), sender=account("carrier")
        )

    def send_back(self, name: str, amount: int, ref: bytes = HUB, sender: bytes = SESSIONS) -> None:
        self.contract.on_message(ref, sender, returned(raw(name), amount), sender=self.inbox)

    def token(self) -> Asset:
        return Asset(1, Address(bytes.fromhex(self.asset.address[2:])), "Test Dollar", "1")

    def permit(self, owner: str, amount: int, nonce: int = 0, deadline: int | None = None) -> tuple[Any, ...]:
        """The deadline and signature of a permit for the Welcome Center."""
        until = Timestamp(soon() if deadline is None else deadline)
        permit = Permit(raw(owner), self.domain.contract, amount, nonce, until)
        return until, *vrs(sign(key(owner), digest(self.token().separator, permit.struct_hash)))

    def authorize(self, owner: str, amount: int, salt: bytes = SALT, domain: Domain | None = None) -> tuple[Any, ...]:
        """The arguments of a deposit with authorization; its nonce is for the Welcome Center of ``domain``."""
        nonce = digest((domain or self.domain).separator, Deposit(raw(owner), Amount(amount), salt).struct_hash)
        until = soon()
        signed = Authorization(raw(owner), self.domain.contract, amount, Timestamp(0), until, nonce)
        signature = sign(key(owner), digest(self.token().separator, signed.receive_hash))
        return account(owner), amount, 0, until, salt, *vrs(signature)

    def holds(self) -> int:
        return int(self.asset.balanceOf(self.contract.address))


def is_address(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == 20


def soon() -> Timestamp:
    return Timestamp(boa.env.timestamp + 1_000)


def vrs(signature: bytes) -> tuple[int, bytes, bytes]:
    return signature[64], signature[:32], signature[32:64]


def returned(who: Address, amount: int, kind: int = 3) -> bytes:
    return bytes(encode(["uint8", "address", "uint96"], [kind, who, amount]))


def orders() -> list[Signed]:
    """One of each that an account can sign; the user needs a balance, the hub must be known."""
    return [
        Registration(raw("user"), Role.USER, soon()),
        Withdraw(raw("user"), Amount(DOLLAR), raw("payee"), 7, soon()),
        Credit(raw("user"), HUB, Amount(DOLLAR), 8, soon()),
    ]


def funded(center: Center, name: str) -> str:
    center.fund(account(name))
    return account(name)
