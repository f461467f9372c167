"""Every error of every contract has its sentence, and no value can spoil one."""

from string import Formatter
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from tristrata.bindings import (
    sentences_security,
    sentences_sessions,
    sentences_shared,
    sentences_tasks,
    sentences_welcome,
)
from tristrata.bindings.artifacts import CONTRACTS, load, parse_signature, selector
from tristrata.bindings.sentences import SENTENCES, STANDARD, explain
from tristrata.chains.evm import CallRefused, _refusal

PARTS = (
    sentences_shared.SHARED,
    sentences_security.SECURITY,
    sentences_sessions.SESSIONS,
    sentences_tasks.TASKS,
    sentences_welcome.WELCOME,
)
ALL = SENTENCES | STANDARD
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # EIP-55's own example
WORD = bytes(range(32))


def values_of(kind: str) -> st.SearchStrategy[Any]:
    """Any values of one ABI type, as `eth_abi` encodes them."""
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind.removeprefix("uint")) - 1)
    return {
        "address": st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
        "bytes32": st.binary(min_size=32, max_size=32),
        "string": st.text(max_size=200),
    }[kind]


@st.composite
def refused(draw: st.DrawFn) -> tuple[str, bytes]:
    signature = draw(st.sampled_from(sorted(ALL)))
    _, types = parse_signature(signature)
    return signature, selector(signature) + encode(types, [draw(values_of(kind)) for kind in types])


def largest(kind: str) -> Any:
    """The value of a type that takes the most room."""
    exact = {"address": ADDRESS, "bytes32": WORD, "string": "\u2028" * 200}
    return exact[kind] if kind in exact else min(10**25, 2 ** int(kind.removeprefix("uint"))) - 1


def refuse(signature: str, *values: Any) -> bytes:
    return selector(signature) + encode(parse_signature(signature)[1], values)


def test_sentences__of_the_contracts__are_complete_and_none_is_left_over() -> None:
    errors = {signature for name in CONTRACTS for signature in load(name).errors}

    assert sorted(errors - set(SENTENCES)) == [], "errors without a sentence: add them to a sentences_*.py"
    assert sorted(set(SENTENCES) - errors) == [], "sentences without an error: remove them"


def test_sentences__of_all_files__are_for_different_errors_and_selectors() -> None:
    assert sum(len(part) for part in PARTS) == len(SENTENCES)
    assert len({selector(signature) for signature in ALL}) == len(ALL)


@pytest.mark.parametrize("signature", sorted(ALL))
def test_sentences__placeholders__are_the_values_each_named(signature: str) -> None:
    text = ALL[signature]
    _, types = parse_signature(signature)

    named = {field for _, field, _, _ in Formatter().parse(text) if field is not None}
    assert named == {str(index) for index in range(len(types))}
    assert not text.endswith(".") and text[0] == text[0].lower(), "it stands after a colon, before a parenthesis"


@given(refused())
def test_explain__any_values__give_one_short_line_with_the_error(case: tuple[str, bytes]) -> None:
    signature, data = case
    refusal = explain(data)

    assert refusal.text.splitlines() == [refusal.text]
    assert refusal.text.isprintable()
    assert len(refusal.text) < 300
    assert refusal.name == signature.partition("(")[0]
    assert f"({refusal.name}(" in refusal.text
    assert "{" not in refusal.text or "string" in signature


@pytest.mark.parametrize("signature", sorted(ALL))
def test_explain__longest_values__stay_below_300_characters(signature: str) -> None:
    refusal = explain(refuse(signature, *(largest(kind) for kind in parse_signature(signature)[1])))

    assert refusal.text.isprintable()
    assert len(refusal.text) < 300, refusal.text


@given(st.binary(max_size=200))
def test_explain__any_bytes__give_one_short_line(data: bytes) -> None:
    text = explain(data).text
    assert text.isprintable() and 0 < len(text) < 300


@given(st.sampled_from(sorted(ALL)), st.binary(max_size=200))
def test_explain__any_bytes_behind_a_selector__give_one_short_line(signature: str, rest: bytes) -> None:
    text = explain(selector(signature) + rest).text
    assert text.isprintable() and 0 < len(text) < 300


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            refuse("ChargeNotUp(uint256,uint256,uint256,uint256)", 100, 1, 100, 1),
            "a charge of 100, count 1, is not above the last: 100, count 1; use a newer voucher "
            "(ChargeNotUp(100, 1, 100, 1))",
        ),
        (
            refuse("NotMiner(address)", ADDRESS),
            "0x5aAeb605…eAed is not a miner on this hub: register it first "
            "(NotMiner(0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed))",
        ),
        (
            refuse("NotAnswered(bytes32,uint8)", WORD, 6),
            f"task 0x00010203…1e1f is expired and has no answer (NotAnswered(0x{WORD.hex()}, 6))",
        ),
        (
            refuse("Error(string)", "erc20: transfer amount exceeds balance"),
            "the contract says 'erc20: transfer amount exceeds balance' "
            "(Error('erc20: transfer amount exceeds balance'))",
        ),
        (
            refuse("Panic(uint256)", 0x11),
            "the contract met a number out of its range, which is a mistake in it or in what it was given (Panic(17))",
        ),
        (b"", "the contract gave no reason: a value is out of its range, or gas ran out"),
        (
            b"\xde\xad\xbe\xef" + bytes(32),
            "the contract gave a reason that is none of ours: 0xdeadbeef, 36 bytes",
        ),
    ],
)
def test_explain__known_refusals__read_as_a_person_expects(data: bytes, text: str) -> None:
    assert explain(data).text == text


def test_explain__a_number_that_nobody_means__is_rounded() -> None:
    text = explain(refuse("TreeFull(uint256)", 2**256 - 1)).text
    assert text == "the tree is full with 1.158e+77 leaves, and takes no more (TreeFull(1.158e+77))"


@pytest.mark.parametrize(
    ("error", "data"),
    [
        ({"message": "execution reverted", "data": "0x"}, b""),
        ({"message": "execution reverted"}, b""),
        ({"message": "VM Exception", "data": "0xdeadbeef"}, b"\xde\xad\xbe\xef"),
        ({"message": "insufficient funds for gas * price + value"}, None),
        ({"message": "nonce too low", "data": None}, None),
    ],
)
def test_refusal__of_a_chain_or_of_a_contract__is_told_apart(error: dict[str, Any], data: bytes | None) -> None:
    refusal = _refusal("base", "eth_estimateGas", error)
    assert isinstance(refusal, CallRefused)
    assert refusal.data == data
    assert str(refusal) == f"base refused eth_estimateGas: {error['message']}"
