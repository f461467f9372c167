"""Our struct hashes and signatures against `eth_account`, which encodes EIP-712 from the type strings by itself."""

import re

import pytest
from coincurve import PrivateKey
from coincurve.utils import GROUP_ORDER_INT
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidSignature
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, chain_ref, eip155
from tristrata.protocol.orders import (
    CLAIM_TO_TYPE,
    REPLACE_KEY_TYPE,
    REQUEST_CLOSE_TYPE,
    TOP_UP_TYPE,
    ClaimTo,
    ReplaceKey,
    RequestClose,
    TopUp,
)
from tristrata.protocol.receipt import RECEIPT_TYPE, Receipt
from tristrata.protocol.signing import (
    DOMAIN_NAME,
    DOMAIN_VERSION,
    Domain,
    address_of,
    digest,
    recover,
    require_signer,
    sign,
)
from tristrata.protocol.terms import (
    API_KEY_GRANT_TYPE,
    CREDIT_TYPE,
    DEPOSIT_TYPE,
    OPEN_SESSION_TYPE,
    REGISTRATION_TYPE,
    WITHDRAW_TYPE,
    ApiKeyGrant,
    Credit,
    Deposit,
    OpenSession,
    Registration,
    Withdraw,
)
from tristrata.protocol.voucher import VOUCHER_TYPE, Voucher

DOMAIN_TYPES = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
    {"name": "salt", "type": "bytes32"},
]


def parse_types(encoded: str) -> dict[str, list[dict[str, str]]]:
    """The ``types`` dictionary of a typed-data document, from an EIP-712 type string."""
    found = re.findall(r"(\w+)\(([^)]*)\)", encoded)
    return {
        name: [dict(zip(("type", "name"), field.split(" "), strict=True)) for field in fields.split(",")]
        for name, fields in found
    }


def plain(value: object) -> object:
    """A struct's fields as `eth_account` takes them."""
    if hasattr(value, "__struct_fields__"):
        return {name: plain(field) for name, field in asdict(value).items()}
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def reference_digest(type_string: str, struct: object, domain: Domain) -> bytes:
    types = parse_types(type_string)
    primary = type_string.partition("(")[0]
    message = encode_typed_data(
        full_message={
            "types": {"EIP712Domain": DOMAIN_TYPES, **types},
            "primaryType": primary,
            "domain": {
                "name": DOMAIN_NAME,
                "version": DOMAIN_VERSION,
                "chainId": int(domain.chain.removeprefix("eip155:")),
                "verifyingContract": "0x" + domain.contract.hex(),
                "salt": domain.ref,
            },
            "message": plain(struct),
        }
    )
    return keccak(b"\x19" + message.version + message.header + message.body)


domains = st.builds(
    lambda chain_id, contract: Domain(eip155(chain_id), chain_ref(eip155(chain_id)), contract),
    st.integers(1, 2**63),
    strategies.addresses,
)


@given(strategies.receipts, domains)
def test_digest__any_receipt__equals_eth_account(receipt: Receipt, domain: Domain) -> None:
    assert digest(domain.separator, receipt.struct_hash) == reference_digest(RECEIPT_TYPE, receipt, domain)


@given(
    st.builds(
        Voucher,
        session=strategies.words,
        count=strategies.uint64,
        cumulative=strategies.amounts,
        head=strategies.words,
        splits=strategies.words,
    ),
    domains,
)
def test_digest__any_voucher__equals_eth_account(voucher: Voucher, domain: Domain) -> None:
    assert digest(domain.separator, voucher.struct_hash) == reference_digest(VOUCHER_TYPE, voucher, domain)


@given(strategies.open_sessions, domains)
def test_digest__any_session_order__equals_eth_account(order: OpenSession, domain: Domain) -> None:
    assert digest(domain.separator, order.struct_hash) == reference_digest(OPEN_SESSION_TYPE, order, domain)


@given(
    st.builds(
        TopUp,
        session=strategies.words,
        payer=strategies.addresses,
        amount=strategies.amounts,
        salt=strategies.words,
        deadline=strategies.uint64,
    ),
    domains,
)
def test_digest__any_top_up__equals_eth_account(order: TopUp, domain: Domain) -> None:
    assert digest(domain.separator, order.struct_hash) == reference_digest(TOP_UP_TYPE, order, domain)


@given(st.builds(RequestClose, strategies.words, strategies.addresses, strategies.uint64), domains)
def test_digest__any_close_request__equals_eth_account(order: RequestClose, domain: Domain) -> None:
    assert digest(domain.separator, order.struct_hash) == reference_digest(REQUEST_CLOSE_TYPE, order, domain)


@given(st.builds(ReplaceKey, strategies.words, strategies.addresses, strategies.addresses, strategies.uint64), domains)
def test_digest__any_key_replacement__equals_eth_account(order: ReplaceKey, domain: Domain) -> None:
    assert digest(domain.separator, order.struct_hash) == reference_digest(REPLACE_KEY_TYPE, order, domain)


@given(st.builds(ClaimTo, strategies.addresses, strategies.addresses, strategies.amounts, strategies.uint64), domains)
def test_digest__any_claim_to__equals_eth_account(order: ClaimTo, domain: Domain) -> None:
    assert digest(domain.separator, order.struct_hash) == reference_digest(CLAIM_TO_TYPE, order, domain)


@given(st.builds(Registration, strategies.addresses, strategies.roles, strategies.uint64), domains)
def test_digest__any_registration__equals_eth_account(registration: Registration, domain: Domain) -> None:
    assert digest(domain.separator, registration.struct_hash) == reference_digest(
        REGISTRATION_TYPE, registration, domain
    )


@given(st.builds(Deposit, strategies.addresses, strategies.amounts, strategies.words), domains)
def test_digest__any_deposit__equals_eth_account(deposit: Deposit, domain: Domain) -> None:
    assert digest(domain.separator, deposit.struct_hash) == reference_digest(DEPOSIT_TYPE, deposit, domain)


@given(
    st.builds(
        Withdraw,
        account=strategies.addresses,
        amount=strategies.amounts,
        recipient=strategies.addresses,
        nonce=st.integers(0, 2**256 - 1),
        deadline=strategies.uint64,
    ),
    domains,
)
def test_digest__any_withdrawal__equals_eth_account(order: Withdraw, domain: Domain) -> None:
    assert digest(domain.separator, order.struct_hash) == reference_digest(WITHDRAW_TYPE, order, domain)


@given(
    st.builds(
        Credit,
        account=strategies.addresses,
        destination=strategies.words,
        amount=strategies.amounts,
        nonce=st.integers(0, 2**256 - 1),
        deadline=strategies.uint64,
    ),
    domains,
)
def test_digest__any_credit__equals_eth_account(order: Credit, domain: Domain) -> None:
    assert digest(domain.separator, order.struct_hash) == reference_digest(CREDIT_TYPE, order, domain)


@given(st.builds(ApiKeyGrant, strategies.words, strategies.words, strategies.uint64), domains)
def test_digest__any_api_key_grant__equals_eth_account(grant: ApiKeyGrant, domain: Domain) -> None:
    assert digest(domain.separator, grant.struct_hash) == reference_digest(API_KEY_GRANT_TYPE, grant, domain)


@given(strategies.secrets, strategies.words)
def test_sign__any_key_and_digest__recovers_the_account_eth_account_derives(secret: bytes, message: bytes) -> None:
    signature = sign(PrivateKey(secret), message)

    assert recover(message, signature).hex() == Account.from_key(secret).address[2:].lower()


@given(strategies.words, st.integers(0, 64), st.integers(1, 255))
def test_recover__one_byte_changed__never_gives_the_signer(message: bytes, position: int, change: int) -> None:
    key = PrivateKey(b"\x07" * 32)
    signature = bytearray(sign(key, message))
    signature[position] ^= change

    with pytest.raises(InvalidSignature):
        require_signer(message, bytes(signature), address_of(key.public_key), "the message")


@given(strategies.words)
def test_recover__high_s__is_refused(message: bytes) -> None:
    signature = sign(PrivateKey(b"\x07" * 32), message)
    high_s = GROUP_ORDER_INT - int.from_bytes(signature[32:64], "big")
    malleated = signature[:32] + high_s.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])

    with pytest.raises(InvalidSignature, match="lower"):
        recover(message, malleated)


@pytest.mark.parametrize("signature", [b"", b"\1" * 64, b"\1" * 66, b"\0" * 65])
def test_recover__malformed__is_refused(signature: bytes) -> None:
    with pytest.raises(InvalidSignature):
        recover(b"\1" * 32, signature)


def test_digest__same_struct_elsewhere__differs_by_chain_and_by_contract() -> None:
    here = Domain(eip155(1), chain_ref(eip155(1)), Address(b"\1" * 20))
    other_chain = Domain(eip155(2), chain_ref(eip155(2)), Address(b"\1" * 20))
    other_contract = Domain(eip155(1), chain_ref(eip155(1)), Address(b"\2" * 20))

    assert len({domain.separator for domain in (here, other_chain, other_contract)}) == 3
