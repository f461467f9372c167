"""Every refusal of our contracts in one sentence: what it is about, its values, the rule, and the way out.

The catalogue is keyed by the errors' own signatures, and a test holds it against the contracts' sources. A placeholder
``{0}`` is the error's first value, written by its type: amounts in base units and timestamps as they are, addresses
with their checksum and, like 32-byte values, shortened; ``{1:status}`` is the word for a task's status. The error
itself follows in parentheses, its values not shortened, unless they are absurd.
"""

from string import Formatter
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from tristrata.bindings.artifacts import parse_signature, selector
from tristrata.bindings.sentences_security import SECURITY
from tristrata.bindings.sentences_sessions import SESSIONS
from tristrata.bindings.sentences_shared import SHARED
from tristrata.bindings.sentences_tasks import TASKS
from tristrata.bindings.sentences_welcome import WELCOME
from tristrata.chains.evm import Refusal
from tristrata.protocol.ids import ADDRESS_BYTES, Address, checksum, parse_address, show
from tristrata.protocol.task import Callback, Status

SENTENCES = {**SHARED, **SECURITY, **SESSIONS, **TASKS, **WELCOME}
STANDARD = {
    "Error(string)": "the contract says {0}",
    "Panic(uint256)": "the contract met {0:panic}, which is a mistake in it or in what it was given",
}
"""What Solidity reverts with by itself, and Vyper for a reason in words."""

_PANICS: dict[int, str] = {
    0x00: "an error without a name",
    0x01: "an assertion that does not hold",
    0x11: "a number out of its range",
    0x12: "a division by zero",
    0x21: "a value that its enumeration does not have",
    0x22: "storage that is encoded wrongly",
    0x31: "an empty array to take from",
    0x32: "an index that its array does not have",
    0x41: "a need for too much memory",
    0x51: "a call of a function that was never set",
}
_WORDS: dict[str, dict[int, str]] = {
    "panic": _PANICS,
    "status": {0: "unknown", **{status: status.name.lower() for status in Status}},
    "role": {1: "user", 2: "miner"},
    "callback": {callback: callback.name.lower() for callback in Callback},
}
_SIGNATURES = {selector(signature): signature for signature in (*SENTENCES, *STANDARD)}
_ABSURD = 10**25  # no amount, time or count; its digits would only hide the rest
_LONGEST_TEXT = 56
_SHORT = len("0x") + 8


def explain(data: bytes) -> Refusal:
    """Why a contract refused, from its revert data: an error of ours, a standard one, neither, or nothing at all."""
    if not data:
        return Refusal("Reverted", (), "the contract gave no reason: a value is out of its range, or gas ran out")
    signature = _SIGNATURES.get(data[:4])
    if signature is not None:
        name, types = parse_signature(signature)
        try:
            values = tuple(
                parse_address(value) if kind == "address" else value
                for kind, value in zip(types, decode(types, data[4:]), strict=True)
            )
        except (DecodingError, OverflowError, UnicodeDecodeError):  # another contract's, or made to confuse
            pass
        else:
            return Refusal(name, values, f"{sentence(signature, values)} ({name}({', '.join(map(_exact, values))}))")
    start = show(data[:4])
    return Refusal("Unknown", (data,), f"the contract gave a reason that is none of ours: {start}, {len(data)} bytes")


def sentence(signature: str, values: tuple[Any, ...]) -> str:
    """The sentence of one error, with these values; addresses are raw bytes."""
    return _Words().vformat((SENTENCES | STANDARD)[signature], values, {})


class _Words(Formatter):
    """Writes a value by its type, or by the word that a table has for it."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec:
            return _WORDS[format_spec].get(value, f"{format_spec} {_exact(value)}")
        exact = _exact(value)
        if isinstance(value, bytes):
            return f"{exact[:_SHORT]}…{exact[-4:]}"
        return exact


def _exact(value: Any) -> str:
    if isinstance(value, int):
        return str(value) if value < _ABSURD else f"{value:.3e}"
    if isinstance(value, bytes):
        return checksum(Address(value)) if len(value) == ADDRESS_BYTES else show(value)
    shown = repr(value[:_LONGEST_TEXT])
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}…"
