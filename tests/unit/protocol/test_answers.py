import pytest
from hypothesis import given
from hypothesis import strategies as st

from tristrata.protocol.answers import (
    MAX_TOOL_CALLS,
    Detail,
    DetailInvalid,
    Function,
    FunctionPart,
    TokenLogprob,
    ToolCall,
    ToolCallPart,
    ToolCalls,
    TopLogprob,
    decode_detail,
    encode_detail,
    output_of,
)

CALL = ToolCall("call_1", Function("weather", '{"city":"Kyōto"}'))


def test_output_of__no_tool_calls__is_the_text() -> None:
    assert output_of("Tokyo.", []) == "Tokyo."


def test_output_of__tool_calls__are_canonical_json_after_the_text() -> None:
    said = r'{"arguments":"{\"city\":\"Kyōto\"}","name":"weather"}'
    assert output_of("Wait. ", [CALL]) == f'Wait. [{{"function":{said},"id":"call_1","type":"function"}}]'


@given(st.text(), st.integers(1, 5))
def test_tool_calls__arguments_in_pieces__are_the_whole_call(arguments: str, size: int) -> None:
    calls = ToolCalls()
    calls.add([ToolCallPart(0, "call_1", FunctionPart("weather", ""))])
    for start in range(0, len(arguments), size):
        calls.add([ToolCallPart(0, None, FunctionPart(None, arguments[start : start + size]))])

    assert calls.all == [ToolCall("call_1", Function("weather", arguments))]


def test_tool_calls__two_interleaved__are_in_the_order_of_their_indices() -> None:
    calls = ToolCalls()
    calls.add([ToolCallPart(1, "b", FunctionPart("g", "1")), ToolCallPart(0, "a", FunctionPart("f", "2"))])
    calls.add([ToolCallPart(1, None, FunctionPart(None, "3"))])

    assert calls.all == [ToolCall("a", Function("f", "2")), ToolCall("b", Function("g", "13"))]


def test_tool_calls__too_many__are_refused() -> None:
    calls = ToolCalls()
    with pytest.raises(DetailInvalid, match="more than 128"):
        calls.add(ToolCallPart(index) for index in range(MAX_TOOL_CALLS + 1))


@pytest.mark.parametrize(
    "detail",
    [
        Detail((ToolCallPart(0, "call_1", FunctionPart("f", "{")),)),
        Detail((), (TokenLogprob(" T", -0.5, (32, 84), (TopLogprob("x", -1.0),)),)),
    ],
)
def test_detail__encoded__is_the_same_again(detail: Detail) -> None:
    assert decode_detail(encode_detail(detail)) == detail


def test_encode_detail__empty__is_nothing() -> None:
    assert encode_detail(Detail()) == b""


@pytest.mark.parametrize("data", [b"x", b"[]", b'{"tool_calls":[{}]}', b'{"logprobs":[{"token":"a"}]}', b'"\xff"'])
def test_decode_detail__something_else__is_refused(data: bytes) -> None:
    with pytest.raises(DetailInvalid):
        decode_detail(data)
