"""What agents find at a running router: its A2A card and endpoint with the stock client, ERC-8004 documents."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jsonschema
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import Message, Role, SendMessageRequest
from google.protobuf.json_format import ParseDict

from tests.e2e.conftest import MODEL, Customer
from tests.e2e.test_accounts import eventually
from tests.support.network import CliNetwork
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.ids import checksum
from tristrata.protocol.signing import address_of

ANSWER = "The capital of Japan is Tokyo."
REGISTRATION = {
    "type": "object",
    "required": ["type", "name", "description", "image", "services", "x402Support", "active", "registrations"],
    "properties": {
        "type": {"const": "https://eips.ethereum.org/EIPS/eip-8004#registration-v1"},
        "services": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "endpoint"],
                "properties": {"name": {"type": "string"}, "endpoint": {"type": "string", "minLength": 3}},
            },
        },
        "x402Support": {"type": "boolean"},
        "active": {"type": "boolean"},
        "registrations": {
            "type": "array",
            "items": {"type": "object", "required": ["agentId", "agentRegistry"]},
        },
        "supportedTrust": {"items": {"enum": ["reputation", "crypto-economic", "tee-attestation"]}},
    },
}


@asynccontextmanager
async def a2a(url: str, api_key: str) -> AsyncIterator[Client]:
    """The stock client, set up by the router's card."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {api_key}"}, timeout=60) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        yield ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(card)


def message(text: str, **metadata: Any) -> SendMessageRequest:
    given = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": text}], "contextId": "c1"}
    return ParseDict({"message": {**given, "metadata": metadata}}, SendMessageRequest())


async def test_a2a__stock_client_sends_a_message__model_answers_with_a_receipt(customer: Customer) -> None:
    session = await customer.open()
    async with a2a(customer.settings.router, session.api_key) as client:
        sent = message("What is the capital of Japan?", temperature=0, seed=7, max_tokens=40, model=MODEL)
        [answer] = [event async for event in client.send_message(sent)]

    said: Message = answer.message
    assert said.role == Role.ROLE_AGENT and said.context_id == "c1"
    assert [part.text for part in said.parts] == [ANSWER]
    async with httpx.AsyncClient(base_url=customer.settings.router) as http:
        headers = {"authorization": f"Bearer {session.api_key}"}
        receipt = await http.get(f"/v1/receipts/{said.metadata['request_id']}", headers=headers)
    assert receipt.status_code == 200


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"SendMessage"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"Dance"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"t"}}', -32001),
        (b'{"jsonrpc":"2.0","id":1,"method":"CreateTaskPushNotificationConfig"}', -32003),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendStreamingMessage"}', -32004),
    ],
)
async def test_a2a__what_is_wrong__has_the_protocols_code(customer: Customer, call: bytes, code: int) -> None:
    session = await customer.open()
    headers = {"authorization": f"Bearer {session.api_key}"}
    async with httpx.AsyncClient(base_url=customer.settings.router, headers=headers) as http:
        answer = await http.post("/a2a", content=call)
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)


async def test_a2a__message_that_cannot_be_answered__says_why(customer: Customer) -> None:
    session = await customer.open()
    headers = {"authorization": f"Bearer {session.api_key}"}

    async def refused(**changes: Any) -> Any:
        given = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "Hello"}], **changes}
        call = {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {"message": given}}
        answer = (await http.post("/a2a", json=call)).json()
        assert answer["id"] == 7
        return answer["error"]

    async with httpx.AsyncClient(base_url=customer.settings.router, headers=headers, timeout=30) as http:
        assert (await refused(parts=[{"data": {}}]))["code"] == -32005
        assert (await refused(parts=[]))["code"] == -32005
        assert (await refused(role="ROLE_AGENT"))["code"] == -32602
        assert (await refused(taskId="t"))["code"] == -32001
        assert (await refused(metadata={"tools": []}))["code"] == -32602
        unknown = await refused(metadata={"model": "gpt-7"})
        assert unknown["code"] == -32602 and unknown["data"][0]["code"] == "model_not_found"
        assert "temperature" in (await refused(metadata={"temperature": 9}))["message"]
    async with httpx.AsyncClient(base_url=customer.settings.router) as http:
        assert (await http.post("/a2a", json={})).status_code == 401


async def test_registrations__of_router_and_miners__are_files_of_the_standard(network: CliNetwork) -> None:
    settings = network.settings()
    password = read_password(settings.home.password_file)
    miner = checksum(address_of(load_key(settings.home.keystore("miner-1"), password).public_key))
    async with httpx.AsyncClient(base_url=settings.router) as http:
        own = (await http.get("/.well-known/agent-registration.json")).json()
        file = (await http.get(f"/v1/miners/{miner}/registration")).json()
        listed = (await http.get("/v1/miners")).json()["data"]
        unknown = await http.get("/v1/miners/0x" + "11" * 20 + "/registration")
        wrong = await http.get("/v1/miners/me/registration")

    for document in (own, file):
        jsonschema.validate(document, REGISTRATION)
    services = {service["name"]: service["endpoint"] for service in own["services"]}
    assert services["A2A"] == f"{settings.router}/.well-known/agent-card.json"
    assert services["agentWallet"].startswith("eip155:") and own["x402Support"] is True
    assert miner in file["name"] and file["active"] and MODEL in file["description"]
    assert miner in {each["id"] for each in listed}
    assert (unknown.status_code, wrong.status_code) == (404, 400)


async def test_validations__of_a_miner_that_answered__name_the_epoch_on_its_hub(customer: Customer) -> None:
    session = await customer.open()
    answer = await customer.client(session).chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=5
    )
    request_id = answer.headers["x-request-id"]
    headers = {"authorization": f"Bearer {session.api_key}"}

    async with httpx.AsyncClient(base_url=customer.settings.router) as http:

        async def settled() -> Any:
            receipt = (await http.get(f"/v1/receipts/{request_id}", headers=headers)).json()
            return receipt if receipt.get("epoch") else None

        receipt = await eventually(settled, 60)
        miner = receipt["receipt"]["miner"]
        records = (await http.get(f"/v1/miners/{miner}/validations")).json()["data"]

    [record] = [each for each in records if each["epoch"] == receipt["epoch"] and each["requestURI"]][:1]
    hub = customer.hub
    assert record["response"] == 100 and record["receipts"] >= 1
    assert record["agentWallet"] == f"{hub.caip2}:{checksum(bytes.fromhex(miner[2:]))}"
    assert record["validatorAddress"] == f"{hub.caip2}:{checksum(hub.outbox.address)}"
    [sealed] = [
        event
        for event in await hub.events(record["block"], record["block"])
        if event.name == "Sealed" and event.values["epoch"] == record["epoch"]
    ]
    assert record["responseHash"] == "0x" + sealed.values["root"].hex()
    assert record["requestHash"] == "0x" + sealed.values["content"].hex()
    assert record["responseURI"].endswith(sealed.log.tx_hash.hex())
