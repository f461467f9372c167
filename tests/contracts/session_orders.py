"""What owners, keys and payers sign for `Sessions`, as the contract takes it; tests of sessions share it."""

from typing import Any

import boa
from msgspec.structs import replace

from tests.contracts.conftest import DOLLAR, Hub, account, as_abi, key, raw
from tristrata.client.orders import sign_permit
from tristrata.protocol.authorization import Asset, Authorization
from tristrata.protocol.ids import Address, checksum
from tristrata.protocol.orders import TopUp
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.terms import OpenSession
from tristrata.protocol.units import Amount, Timestamp


def address_of(contract: Any) -> Address:
    return Address(bytes.fromhex(contract.address[2:]))


def asset_of(hub: Hub) -> Asset:
    return Asset(1, address_of(hub.dollar), "Test Dollar", "1")


def soon() -> Timestamp:
    return Timestamp(boa.env.timestamp + 100)


def vrs(signature: bytes) -> tuple[int, bytes, bytes]:
    return signature[64], signature[:32], signature[32:64]


def open_order(hub: Hub, **changes: Any) -> OpenSession:
    """The owner's order of a session of one dollar, to be carried within 100 seconds."""
    return replace(OpenSession(raw("owner"), 1, Amount(DOLLAR), soon(), hub.terms()), **changes)


def order_fields(order: OpenSession) -> tuple[Any, ...]:
    return checksum(order.owner), order.nonce, order.deposit, order.deadline, as_abi(order.terms)


def open_for(hub: Hub, order: OpenSession, signer: str = "owner", contract: Any = None) -> tuple[Any, ...]:
    """The arguments of `open_for`: an order for ``contract`` and a permit for `Sessions`."""
    nonce = hub.dollar.nonces(account("owner"))
    spender = address_of(hub.sessions)
    permit = sign_permit(key("owner"), asset_of(hub), raw("owner"), spender, order.deposit, nonce, order.deadline)
    signature = hub.order(order, signer, contract)
    return (*order_fields(order), signature, permit.deadline, *vrs(permit.signature))


def authorize(
    hub: Hub, order: OpenSession | TopUp, signer: str = "owner", contract: Any = None
) -> tuple[int, bytes, bytes]:
    """The EIP-3009 signature that pays an order to `Sessions`; its nonce is the order's digest for ``contract``."""
    payer, amount = (order.payer, order.amount) if isinstance(order, TopUp) else (order.owner, order.deposit)
    nonce = digest(hub.domain(contract or hub.sessions).separator, order.struct_hash)
    signed = Authorization(payer, address_of(hub.sessions), amount, Timestamp(0), order.deadline, nonce)
    return vrs(sign(key(signer), digest(asset_of(hub).separator, signed.receive_hash)))
