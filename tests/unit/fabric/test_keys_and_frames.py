import pytest
from hypothesis import given
from hypothesis import strategies as st

from tristrata.fabric.frames import (
    Accepted,
    Cancel,
    Delta,
    Failure,
    Finish,
    FrameInvalid,
    decode,
    decode_replies,
    encode,
    encode_replies,
)
from tristrata.fabric.keys import format_public, new_seed, parse_public, public_bytes, public_text
from tristrata.protocol.errors import InvalidValue


@given(st.binary(min_size=32, max_size=32))
def test_public_key__any_bytes__round_trips(key: bytes) -> None:
    assert parse_public(format_public(key)) == key


def test_public_key__of_a_seed__is_what_nkeys_writes() -> None:
    seed = new_seed()

    assert format_public(public_bytes(seed)) == public_text(seed)


@pytest.mark.parametrize("text", ["", "U", "not base32!", "SUAAA", format_public(bytes(32))[:-1] + "A"])
def test_parse_public__malformed__is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="NATS public key"):
        parse_public(text)


@given(st.text(), st.integers(0, 10**9), st.binary())
def test_frames__any_reply__round_trips(text: str, tokens: int, data: bytes) -> None:
    frames = [Accepted(), Delta(text, tokens, data), Finish(text, data, data), Failure(text, text)]
    assert decode_replies(encode_replies(frames)) == frames


@given(st.binary(max_size=200))
def test_decode__any_bytes__is_a_frame_or_a_named_error(data: bytes) -> None:
    for attempt in (lambda: decode_replies(data), lambda: decode(data, Cancel)):
        try:
            attempt()
        except FrameInvalid as error:
            assert str(len(data)) in error.message


def test_decode__another_kind__is_refused() -> None:
    with pytest.raises(FrameInvalid, match="Cancel"):
        decode(encode(Delta("x", 1)), Cancel)
