import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import (
    Address,
    Caip2,
    account_id,
    chain_ref,
    checksum,
    eip155,
    evm_chain_id,
    parse_address,
    session_id,
)


@given(strategies.addresses)
def test_checksum__any_address__equals_eth_utils_and_parses_back(address: Address) -> None:
    text = checksum(address)

    assert text == to_checksum_address(address)
    assert parse_address(text) == parse_address(text.lower()) == address


@pytest.mark.parametrize(
    "text",
    ["", "0x", "0x12", "0x" + "g" * 40, "0x" + "1" * 41, "0x52908400098527886E0F7030069857D2E4169Ee7"],
)
def test_parse_address__malformed_or_wrong_checksum__names_the_value(text: str) -> None:
    with pytest.raises(InvalidValue, match="address"):
        parse_address(text)


@given(strategies.words, strategies.addresses, st.integers(0, 2**256 - 1))
def test_session_id__any_owner__equals_the_abi_encoding(hub: bytes, owner: Address, nonce: int) -> None:
    expected = keccak(encode(["bytes32", "address", "uint256"], [hub, owner, nonce]))

    assert session_id(hub, owner, nonce) == expected


def test_chain_ref__custom_chain_with_a_reused_id__differs() -> None:
    parent = chain_ref(eip155(42161))
    first = chain_ref(eip155(7), parent, Address(b"\1" * 20))
    second = chain_ref(eip155(7), parent, Address(b"\2" * 20))

    assert len({first, second, chain_ref(eip155(7))}) == 3


def test_chain_ref__only_one_of_parent_and_rollup__is_refused() -> None:
    with pytest.raises(InvalidValue, match="both"):
        chain_ref(eip155(7), parent=chain_ref(eip155(1)))


@pytest.mark.parametrize("name", ["", "eip155", "eip155:", "EIP155:1", "eip155:1:2", "eip155:" + "1" * 33])
def test_chain_ref__not_caip2__is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="CAIP-2"):
        chain_ref(Caip2(name))


def test_evm_chain_id__solana__is_refused() -> None:
    with pytest.raises(InvalidValue, match="not an EVM chain"):
        evm_chain_id(Caip2("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"))


def test_account_id__is_caip10() -> None:
    assert account_id(eip155(1), Address(bytes(20))) == "eip155:1:0x0000000000000000000000000000000000000000"
