"""No secret in a log: what looks like one is blotted out of everything that is written there."""

import logging
import re
from collections.abc import MutableMapping
from typing import Any

BLOT = "[redacted]"
_NAMES = "(?:private|signing|session|secret)[ _-]?key|secret|seed|password|mnemonic"
_SECRETS = (
    # API keys and sign-in tokens of ours, and whatever else is sent as one
    (re.compile(r"\b(sk|st)-[\w-]{8,}"), rf"\1-{BLOT}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {BLOT}"),
    # seeds of NATS keys
    (re.compile(r"\bS[UAO][A-Z2-7]{40,}\b"), BLOT),
    # passwords in URLs
    (re.compile(r"(://[^\s:/@]+:)[^\s@/]+@"), rf"\1{BLOT}@"),
    # what is named a secret
    (
        re.compile(r"(?i)\b((?:private|signing|session|secret)[ _-]?key|secret|seed|password|mnemonic)(\W{1,4})\w{8,}"),
        rf"\1\2{BLOT}",
    ),
)


def redact(text: str) -> str:
    """The text without secrets."""
    for pattern, blot in _SECRETS:
        text = pattern.sub(blot, text)
    return text


def redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """A structlog processor; the last before the renderer, after exceptions have become text."""
    return {name: redact(value) if isinstance(value, str) else value for name, value in event.items()}


class RedactingFormatter(logging.Formatter):
    """Of libraries' own logs."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without secrets."""
        return redact(super().format(record))
