import logging

import pytest

from tristrata.fabric.keys import seed_text
from tristrata.redaction import BLOT, RedactingFormatter, redact, redact_event

SEED = seed_text(bytes(range(32))).decode()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("refused sk-tri-Ab3_-xyz0123456789", "Ab3_-xyz0123456789"),
        ("token st-tri-abcdefgh.ijkl", "abcdefgh"),
        ("authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        (f"connect as {SEED}", SEED),
        ("postgresql://me:s3cret-word@host:5432/db is down", "s3cret-word"),
        ("private_key=0x" + "ab" * 32, "ab" * 32),
        ("{'password': 'hunter2hunter2'}", "hunter2hunter2"),
    ],
)
def test_redact__secret__is_blotted_out(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert BLOT in redact(text)


@pytest.mark.parametrize(
    "text", ["session 0x" + "ab" * 32 + " charged", "http://127.0.0.1:8080/v1", "the key has no session", "risk-averse"]
)
def test_redact__no_secret__stays(text: str) -> None:
    assert redact(text) == text


def test_logs__of_ours_and_of_libraries__have_no_secret() -> None:
    record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "failed for %s", ("Bearer abcdefghij",), None)

    assert redact_event(None, "", {"event": "x", "reason": "Bearer abcdefghij", "n": 1})["reason"] == f"Bearer {BLOT}"
    assert "abcdefghij" not in RedactingFormatter().format(record)
