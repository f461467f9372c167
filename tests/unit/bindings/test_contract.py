"""What a read that a contract refuses says."""

from typing import Any

import pytest
from eth_abi.abi import encode

from tristrata.bindings.artifacts import selector
from tristrata.bindings.contract import Contract
from tristrata.chains.evm import CallRefused, EvmChain, _refusal
from tristrata.protocol.ids import Address, eip155

TASK = b"\x07" * 32


class Refusing(EvmChain):
    """A chain that refuses every call in the same way."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__("arbitrum", eip155(42161), "http://nowhere")
        self.error = error

    async def rpc(self, method: str, *parameters: Any) -> Any:
        raise _refusal(self.name, method, self.error)


async def refused(error: dict[str, Any]) -> CallRefused:
    queue = Contract("TaskQueue", Address(b"\x01" * 20), Refusing(error))
    with pytest.raises(CallRefused) as caught:
        await queue.read("answer", TASK, at=1)
    return caught.value


async def test_read__refused_by_the_contract__is_told_in_words() -> None:
    data = selector("NotAnswered(bytes32,uint8)") + encode(["bytes32", "uint8"], [TASK, 2])

    refusal = await refused({"message": "execution reverted", "data": "0x" + data.hex()})

    assert str(refusal) == (
        "TaskQueue.answer on arbitrum: task 0x07070707…0707 is assigned and has no answer "
        f"(NotAnswered(0x{TASK.hex()}, 2))"
    )
    assert refusal.data == data


async def test_read__refused_by_the_chain__is_told_as_the_chain_says() -> None:
    refusal = await refused({"message": "header not found"})

    assert str(refusal) == "arbitrum refused eth_call: header not found"
    assert refusal.data is None
