"""Our EIP-712 hashes and signatures against those of ethers, which most wallets and applications sign with.

The vectors in ``ethers.json`` are what npm's `ethers` 6.17.0 gives for every struct that anybody signs, each with its
lowest and highest values and with two mixed ones; ``ethers.mjs`` makes them.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from coincurve import PrivateKey

from tristrata import protocol
from tristrata.protocol import attestation, authorization, bond, orders, receipt, terms, voucher
from tristrata.protocol.authorization import Asset, Authorization, Cancellation, Permit
from tristrata.protocol.ids import ChainRef, checksum, eip155, parse_address
from tristrata.protocol.signing import Domain, address_of, compact, digest, recover, sign

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "ethers.json").read_text())
OURS: dict[str, tuple[str, Callable[..., Any]]] = {
    "Voucher": (voucher.VOUCHER_TYPE, voucher.Voucher),
    "Receipt": (receipt.RECEIPT_TYPE, receipt.Receipt),
    "Terms": (terms.TERMS_TYPE, terms.Terms),
    "OpenSession": (terms.OPEN_SESSION_TYPE, terms.OpenSession),
    "ApiKeyGrant": (terms.API_KEY_GRANT_TYPE, terms.ApiKeyGrant),
    "Registration": (terms.REGISTRATION_TYPE, terms.Registration),
    "Deposit": (terms.DEPOSIT_TYPE, terms.Deposit),
    "Withdraw": (terms.WITHDRAW_TYPE, terms.Withdraw),
    "Credit": (terms.CREDIT_TYPE, terms.Credit),
    "TopUp": (orders.TOP_UP_TYPE, orders.TopUp),
    "ReplaceKey": (orders.REPLACE_KEY_TYPE, orders.ReplaceKey),
    "RequestClose": (orders.REQUEST_CLOSE_TYPE, orders.RequestClose),
    "ClaimTo": (orders.CLAIM_TO_TYPE, orders.ClaimTo),
    "Epoch": (attestation.EPOCH_TYPE, attestation.Epoch),
    "Checkpoint": (attestation.CHECKPOINT_TYPE, attestation.Checkpoint),
    "NextSet": (attestation.NEXT_SET_TYPE, attestation.NextSet),
    "Jail": (bond.JAIL_TYPE, bond.Jail),
    "Capability": (bond.CAPABILITY_TYPE, bond.Capability),
    "Permit": (authorization.PERMIT_TYPE, Permit),
    "TransferWithAuthorization": (authorization.TRANSFER_WITH_AUTHORIZATION_TYPE, Authorization),
    "ReceiveWithAuthorization": (authorization.RECEIVE_WITH_AUTHORIZATION_TYPE, Authorization),
    "CancelAuthorization": (authorization.CANCEL_AUTHORIZATION_TYPE, Cancellation),
}


def declared_types() -> dict[str, str]:
    """All EIP-712 type strings that `tristrata.protocol` declares, by their struct's name; domains are no structs."""
    modules = [import_module(f"tristrata.protocol.{found.name}") for found in iter_modules(protocol.__path__)]
    strings = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_TYPE") and isinstance(value, str)
    }
    by_name = {value.partition("(")[0]: value for value in strings if not value.startswith("EIP712Domain(")}
    return dict(sorted(by_name.items()))


def parse(value: Any) -> Any:
    """A field of a message: numbers are decimal text, all else is hexadecimal or a truth value."""
    if isinstance(value, dict):
        return terms.Terms(*map(parse, value.values()))
    if isinstance(value, bool):
        return value
    return bytes.fromhex(value[2:]) if value.startswith("0x") else int(value)


def struct_hash(name: str, struct: Any) -> bytes:
    """An authorization has a hash for each of the two ways to carry it."""
    attribute = {"TransferWithAuthorization": "transfer_hash", "ReceiveWithAuthorization": "receive_hash"}
    return bytes(getattr(struct, attribute.get(name, "struct_hash")))


def separator(domain: dict[str, str]) -> bytes:
    contract = parse_address(domain["verifyingContract"])
    if "salt" in domain:
        return Domain(eip155(int(domain["chainId"])), ChainRef(parse(domain["salt"])), contract).separator
    return Asset(int(domain["chainId"]), contract, domain["name"], domain["version"]).separator


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['name']}-{vector['values']}")
def test_struct__ethers_vectors__are_met(vector: dict[str, Any]) -> None:
    type_string, make = OURS[vector["name"]]
    struct = make(*map(parse, vector["message"].values()))

    hashed = struct_hash(vector["name"], struct)
    message_digest = digest(separator(vector["domain"]), hashed)

    assert type_string == vector["type"]
    assert hashed == parse(vector["struct_hash"])
    assert separator(vector["domain"]) == parse(vector["separator"])
    assert message_digest == parse(vector["digest"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['name']}-{vector['values']}")
def test_signature__ethers_wallet__is_recovered_and_the_same_as_ours(vector: dict[str, Any]) -> None:
    key, message_digest = PrivateKey(parse(vector["key"])), parse(vector["digest"])

    signature = sign(key, message_digest)

    assert checksum(address_of(key.public_key)) == vector["signer"]
    assert checksum(recover(message_digest, parse(vector["signature"]))) == vector["signer"]
    assert signature == parse(vector["signature"])
    assert compact(signature)[1] == parse(vector["vs"])


def test_vectors__every_struct__is_there_with_its_extremes() -> None:
    found = {(vector["name"], vector["values"]) for vector in VECTORS}

    assert found == {(name, values) for name in OURS for values in ("lowest", "highest", "mixed 1", "mixed 2")}


def test_vectors__declared_types__are_all_held_against_ethers() -> None:
    assert declared_types().keys() == OURS.keys()
