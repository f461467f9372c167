"""Permits and authorizations of tokens against `eth_account`, which encodes EIP-712 from the type strings by itself."""

from typing import Any

from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tests.unit.protocol.test_signing import parse_types
from tristrata.protocol.authorization import (
    ASSET_DOMAIN_TYPE,
    CANCEL_AUTHORIZATION_TYPE,
    PERMIT_TYPE,
    RECEIVE_WITH_AUTHORIZATION_TYPE,
    TRANSFER_WITH_AUTHORIZATION_TYPE,
    Asset,
    Authorization,
    Cancellation,
    Permit,
)
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, chain_ref, eip155
from tristrata.protocol.signing import Domain, digest
from tristrata.protocol.terms import Deposit
from tristrata.protocol.units import Amount

uint256 = st.integers(0, 2**256 - 1)
assets = st.builds(Asset, st.integers(1, 2**63), strategies.addresses, st.text(max_size=20), st.text(max_size=5))
permits = st.builds(Permit, strategies.addresses, strategies.addresses, uint256, uint256, uint256)
authorizations = st.builds(
    Authorization, strategies.addresses, strategies.addresses, uint256, uint256, uint256, strategies.words
)


def reference_digest(type_string: str, message: dict[str, Any], asset: Asset) -> bytes:
    types = {**parse_types(ASSET_DOMAIN_TYPE), **parse_types(type_string)}
    encoded = encode_typed_data(
        full_message={
            "types": types,
            "primaryType": type_string.partition("(")[0],
            "domain": {
                "name": asset.name,
                "version": asset.version,
                "chainId": asset.chain_id,
                "verifyingContract": "0x" + asset.contract.hex(),
            },
            "message": message,
        }
    )
    return keccak(b"\x19" + encoded.version + encoded.header + encoded.body)


def authorization_message(authorization: Authorization) -> dict[str, Any]:
    return {
        "from": authorization.owner,
        "to": authorization.to,
        "value": authorization.value,
        "validAfter": authorization.valid_after,
        "validBefore": authorization.valid_before,
        "nonce": authorization.nonce,
    }


@given(permits, assets)
def test_permit__any__equals_eth_account(permit: Permit, asset: Asset) -> None:
    message = {name: getattr(permit, name) for name in permit.__struct_fields__}

    assert digest(asset.separator, permit.struct_hash) == reference_digest(PERMIT_TYPE, message, asset)


@given(authorizations, assets)
def test_authorization__any__equals_eth_account(authorization: Authorization, asset: Asset) -> None:
    message = authorization_message(authorization)

    assert digest(asset.separator, authorization.receive_hash) == reference_digest(
        RECEIVE_WITH_AUTHORIZATION_TYPE, message, asset
    )
    assert digest(asset.separator, authorization.transfer_hash) == reference_digest(
        TRANSFER_WITH_AUTHORIZATION_TYPE, message, asset
    )


@given(strategies.addresses, strategies.words, assets)
def test_cancellation__any__equals_eth_account(owner: Address, nonce: bytes, asset: Asset) -> None:
    message = {"authorizer": owner, "nonce": nonce}

    assert digest(asset.separator, Cancellation(owner, nonce).struct_hash) == reference_digest(
        CANCEL_AUTHORIZATION_TYPE, message, asset
    )


def test_deposit__as_an_authorization_nonce__names_welcome_chain_owner_amount_and_salt() -> None:
    def nonce(chain: int = 1, welcome: int = 1, owner: int = 1, amount: int = 1, salt: int = 1) -> bytes:
        domain = Domain(eip155(1), chain_ref(eip155(chain)), Address(bytes([welcome] * 20)))
        deposit = Deposit(Address(bytes([owner] * 20)), Amount(amount), bytes([salt] * 32))
        return digest(domain.separator, deposit.struct_hash)

    nonces = {nonce(), nonce(chain=2), nonce(welcome=2), nonce(owner=2), nonce(amount=2), nonce(salt=2)}

    assert len(nonces) == 6
