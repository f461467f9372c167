"""The test dollar's authorizations (EIP-3009), as wallets and contracts expect them of a dollar."""

from typing import Any

import boa
import pytest
from coincurve.utils import GROUP_ORDER_INT
from msgspec.structs import replace

from tests.contracts.conftest import DOLLAR, account, contract, key, raw, reverts
from tristrata.protocol.authorization import Asset, Authorization, Cancellation, Permit
from tristrata.protocol.ids import Address, checksum
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.units import Timestamp

NONCE = b"\x07" * 32


@pytest.fixture
def dollar() -> Any:
    with boa.env.prank(account("operator")):
        deployed = contract("testing/TestDollar.vy")
        deployed.mint(account("owner"), 10 * DOLLAR)
    return deployed


def asset_of(dollar: Any, chain_id: int = 1) -> Asset:
    return Asset(chain_id, Address(bytes.fromhex(dollar.address[2:])), "Test Dollar", "1")


def authorization() -> Authorization:
    now = boa.env.timestamp
    return Authorization(raw("owner"), raw("payee"), DOLLAR, Timestamp(now - 1), Timestamp(now + 100), NONCE)


def vrs(asset: Asset, struct_hash: bytes, signer: str = "owner") -> tuple[int, bytes, bytes]:
    signature = sign(key(signer), digest(asset.separator, struct_hash))
    return signature[64], signature[:32], signature[32:64]


def arguments(authorized: Authorization) -> tuple[Any, ...]:
    return (
        checksum(authorized.owner),
        checksum(authorized.to),
        authorized.value,
        authorized.valid_after,
        authorized.valid_before,
        authorized.nonce,
    )


def receive(dollar: Any, authorized: Authorization, signed: tuple[int, bytes, bytes], sender: str = "payee") -> None:
    dollar.receiveWithAuthorization(*arguments(authorized), *signed, sender=account(sender))


def transfer(dollar: Any, authorized: Authorization, signed: tuple[int, bytes, bytes]) -> None:
    dollar.transferWithAuthorization(*arguments(authorized), *signed, sender=account("anyone"))


def test_domain__of_the_token__is_the_one_python_signs_for(dollar: Any) -> None:
    assert dollar.DOMAIN_SEPARATOR() == asset_of(dollar).separator


def test_permit__signed_in_python__sets_the_allowance(dollar: Any) -> None:
    permit = Permit(raw("owner"), raw("payee"), DOLLAR, 0, Timestamp(boa.env.timestamp))
    signed = vrs(asset_of(dollar), permit.struct_hash)
    dollar.permit(account("owner"), account("payee"), DOLLAR, permit.deadline, *signed, sender=account("anyone"))

    assert dollar.allowance(account("owner"), account("payee")) == DOLLAR


def test_receive__by_the_payee__moves_the_tokens_once(dollar: Any) -> None:
    authorized = authorization()
    signed = vrs(asset_of(dollar), authorized.receive_hash)

    with reverts("TestDollar", "NotPayee", account("anyone").lower(), account("payee").lower()):
        receive(dollar, authorized, signed, sender="anyone")
    receive(dollar, authorized, signed)
    used = next(log for log in dollar.get_logs() if type(log).__name__ == "AuthorizationUsed")
    assert (used.authorizer, used.nonce) == (account("owner"), NONCE)
    assert dollar.authorizationState(account("owner"), NONCE)
    assert dollar.balanceOf(account("payee")) == DOLLAR
    with reverts("TestDollar", "AuthorizationSpent", account("owner").lower(), NONCE):
        receive(dollar, authorized, signed)


def test_transfer__by_anyone__moves_the_tokens_once(dollar: Any) -> None:
    authorized = authorization()
    signed = vrs(asset_of(dollar), authorized.transfer_hash)
    transfer(dollar, authorized, signed)

    assert dollar.balanceOf(account("payee")) == DOLLAR
    with reverts("TestDollar", "AuthorizationSpent"):
        transfer(dollar, authorized, signed)
    with reverts("TestDollar", "AuthorizationSpent"):
        receive(dollar, authorized, vrs(asset_of(dollar), authorized.receive_hash))


def test_authorization__of_one_kind__is_not_one_of_the_other(dollar: Any) -> None:
    authorized = authorization()

    with reverts("TestDollar", "WrongSigner"):
        transfer(dollar, authorized, vrs(asset_of(dollar), authorized.receive_hash))
    with reverts("TestDollar", "WrongSigner"):
        receive(dollar, authorized, vrs(asset_of(dollar), authorized.transfer_hash))


@pytest.mark.parametrize(
    "change",
    [
        {"value": DOLLAR + 1},
        {"nonce": b"\x08" * 32},
        {"owner": raw("rich")},
        {"valid_after": 0},
        {"valid_before": 2**60},
    ],
)
def test_authorization__changed_after_signing__is_refused(dollar: Any, change: dict[str, Any]) -> None:
    signed = vrs(asset_of(dollar), authorization().receive_hash)

    with reverts("TestDollar", "WrongSigner"):
        receive(dollar, replace(authorization(), **change), signed)


def test_authorization__signed_for_another_chain_or_token__is_refused(dollar: Any) -> None:
    authorized = authorization()
    for asset in (asset_of(dollar, chain_id=2), asset_of(contract("testing/TestDollar.vy"))):
        with reverts("TestDollar", "WrongSigner"):
            receive(dollar, authorized, vrs(asset, authorized.receive_hash))


def test_authorization__malleable_or_malformed__is_refused(dollar: Any) -> None:
    authorized = authorization()
    v, r, s = vrs(asset_of(dollar), authorized.receive_hash)
    high_s = (GROUP_ORDER_INT - int.from_bytes(s, "big")).to_bytes(32, "big")
    for signed in ((55 - v, r, high_s), (v + 27, r, s), (v, bytes(32), s)):
        with reverts("TestDollar", "WrongSigner"):
            receive(dollar, authorized, signed)
    # Nobody's signature is not that of the zero address.
    with reverts("TestDollar", "WrongSigner"):
        receive(dollar, replace(authorized, owner=Address(bytes(20))), (0, r, s))


def test_authorization__at_the_bounds_of_its_time__both_are_exclusive(dollar: Any) -> None:
    now = boa.env.timestamp
    early = replace(authorization(), valid_after=Timestamp(now))
    late = replace(authorization(), valid_before=Timestamp(now))

    with reverts("TestDollar", "AuthorizationNotYetValid", now, now):
        receive(dollar, early, vrs(asset_of(dollar), early.receive_hash))
    with reverts("TestDollar", "AuthorizationExpired", now, now):
        receive(dollar, late, vrs(asset_of(dollar), late.receive_hash))


def test_cancel__by_the_owners_signature__makes_the_authorization_worthless(dollar: Any) -> None:
    authorized, cancellation = authorization(), Cancellation(raw("owner"), NONCE)
    signed = vrs(asset_of(dollar), authorized.receive_hash)

    with reverts("TestDollar", "WrongSigner", account("owner").lower(), account("other").lower()):
        dollar.cancelAuthorization(
            account("owner"), NONCE, *vrs(asset_of(dollar), cancellation.struct_hash, signer="other")
        )
    dollar.cancelAuthorization(account("owner"), NONCE, *vrs(asset_of(dollar), cancellation.struct_hash))
    [cancelled] = dollar.get_logs()
    assert (type(cancelled).__name__, cancelled.nonce) == ("AuthorizationCanceled", NONCE)
    with reverts("TestDollar", "AuthorizationSpent"):
        receive(dollar, authorized, signed)
    with reverts("TestDollar", "AuthorizationSpent"):
        dollar.cancelAuthorization(account("owner"), NONCE, *vrs(asset_of(dollar), cancellation.struct_hash))
