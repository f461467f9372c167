"""Calls that the stock x402 client pays one by one on the running network: who has what before and after."""

import asyncio
import base64
import json
import os
import secrets
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from eth_account import Account as EthAccount
from x402 import x402Client
from x402.http import decode_payment_required_header, decode_payment_response_header
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

from tests.e2e.conftest import MODEL, Customer
from tests.e2e.test_accounts import eventually
from tests.support.network import CliNetwork
from tristrata.chains.evm import Level
from tristrata.client.sse import events
from tristrata.devnet.treasury import give_dollars
from tristrata.protocol.ids import Address, parse_address
from tristrata.protocol.units import Amount

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
    "max_tokens": 12,
    "temperature": 0,
    "seed": 7,
}


class Shopper:
    """Somebody with dollars on the hub, a key, and no account anywhere."""

    def __init__(self, customer: Customer) -> None:
        self.account = EthAccount.create()
        self.address = parse_address(self.account.address)
        self.url = customer.settings.router
        self._customer = customer
        client = x402Client()
        # The client knows the dollars of real chains only.
        client.set_spend_controls({"allowed_assets": True})
        register_exact_evm_client(client, EthAccountSigner(self.account))
        self.client = client

    def http(self) -> httpx.AsyncClient:
        return x402HttpxClient(self.client, base_url=self.url, timeout=60)

    async def give(self, dollars: int) -> None:
        hub = self._customer.hub
        await give_dollars(self._customer.settings, self._customer.chains, [(hub.name, self.address, Amount(dollars))])

    async def balance(self, of: Address | None = None) -> int:
        hub = self._customer.hub
        head = (await hub.chain.block(Level.SOFT)).number
        return await hub.balance(of or self.address, at=head)

    async def payment(self, body: dict[str, Any], **changes: Any) -> tuple[str, dict[str, Any]]:
        """A payment's header for a body, perhaps with fields of its authorization changed after it was signed."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            offered = await http.post(CHAT, json=body)
        required = decode_payment_required_header(offered.headers["payment-required"])
        payload = (await self.client.create_payment_payload(required)).model_dump(by_alias=True, exclude_none=True)
        payload["payload"]["authorization"] |= changes
        return _encoded(payload), payload


@pytest.fixture
async def shopper(customer: Customer) -> AsyncIterator[Shopper]:
    shopper = Shopper(customer)

    async def is_open() -> bool:
        async with httpx.AsyncClient(base_url=shopper.url) as http:
            return (await http.post(CHAT, json=ASK)).status_code == 402

    await eventually(is_open)
    await shopper.give(1_000_000)
    yield shopper


async def test_call__without_key_or_payment__is_told_what_it_costs_and_where(shopper: Shopper) -> None:
    async with httpx.AsyncClient(base_url=shopper.url) as http:
        answer = await http.post(CHAT, json=ASK)
        longer = await http.post(CHAT, json={**ASK, "max_tokens": 1_000})

    assert answer.status_code == 402
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("payment_required", "invalid_request_error")
    required = decode_payment_required_header(answer.headers["payment-required"])
    [offer] = required.accepts
    assert required.x402_version == 2 and offer.scheme == "exact" and offer.network == shopper._customer.hub.caip2
    assert parse_address(offer.asset) == shopper._customer.hub.asset.address
    [dearer] = decode_payment_required_header(longer.headers["payment-required"]).accepts
    assert int(dearer.amount) > int(offer.amount) > 1_000


async def test_call__stock_client_pays__answer_has_a_receipt_and_the_money_has_moved(shopper: Shopper) -> None:
    terms = await shopper._customer.router.terms()
    router, before = parse_address(terms.address), await shopper.balance()
    had = await shopper.balance(router)

    async with shopper.http() as http:
        answer = await http.post(CHAT, json=ASK)

    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"].strip()
    settled = decode_payment_response_header(answer.headers["payment-response"])
    assert settled.success and parse_address(str(settled.payer)) == shopper.address
    paid = before - await shopper.balance()
    assert paid == int(settled.amount or 0) > 1_000
    assert await shopper.balance(router) - had == paid
    request_id = answer.headers["x-request-id"]
    async with httpx.AsyncClient(base_url=shopper.url) as http:
        receipt = (await http.get(f"/v1/receipts/{request_id}")).json()
        assert receipt["id"] == f"0x{request_id}" and receipt["stage"]
        assert (await http.get("/v1/receipts")).status_code == 401
        assert (await http.get(f"/v1/receipts/{secrets.token_hex(32)}")).status_code == 404


async def test_call__streaming__is_paid_before_its_first_piece(shopper: Shopper) -> None:
    before = await shopper.balance()

    async with shopper.http() as http, http.stream("POST", CHAT, json={**ASK, "stream": True}) as answer:
        assert answer.status_code == 200
        assert decode_payment_response_header(answer.headers["payment-response"]).success
        assert await shopper.balance() < before
        text, names = "", []
        async for event in events(answer.aiter_bytes()):
            names.append(event.name)
            if event.data.startswith("{") and event.name != "tristrata.receipt":
                choices = json.loads(event.data)["choices"]
                text += choices[0]["delta"].get("content") or "" if choices else ""

    assert text.strip() and names[-1] == "tristrata.receipt"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": MODEL, "prompt": "Tokyo is", "max_tokens": 5}),
        ("/v1/responses", {"model": MODEL, "input": "Who are you?", "max_output_tokens": 16}),
        ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "Tokyo"}),
    ],
)
async def test_call__other_endpoints__are_paid_for_too(shopper: Shopper, path: str, body: dict[str, Any]) -> None:
    async def is_open() -> bool:
        async with httpx.AsyncClient(base_url=shopper.url) as http:
            return (await http.post(path, json=body)).status_code == 402

    await eventually(is_open)
    async with shopper.http() as http:
        answer = await http.post(path, json=body)

    assert answer.status_code == 200, answer.text
    assert decode_payment_response_header(answer.headers["payment-response"]).success


async def test_payment__shown_again__is_refused_and_costs_nothing(shopper: Shopper) -> None:
    header, _ = await shopper.payment(ASK)
    async with httpx.AsyncClient(base_url=shopper.url, timeout=60) as http:
        first = await http.post(CHAT, json=ASK, headers={"payment-signature": header})
        assert first.status_code == 200, first.text
        after = await shopper.balance()
        again = await http.post(CHAT, json=ASK, headers={"payment-signature": header})

    assert again.status_code == 402
    assert decode_payment_required_header(again.headers["payment-required"]).error.endswith("nonce_already_used")
    assert await shopper.balance() == after


async def test_payment__shown_twice_at_once__is_answered_once(shopper: Shopper) -> None:
    header, _ = await shopper.payment(ASK)
    before = await shopper.balance()
    async with httpx.AsyncClient(base_url=shopper.url, timeout=60) as http:
        answers = await asyncio.gather(
            *(http.post(CHAT, json=ASK, headers={"payment-signature": header}) for _ in range(4))
        )

    assert sorted(answer.status_code for answer in answers) == [200, 402, 402, 402]
    [settled] = [decode_payment_response_header(a.headers["payment-response"]) for a in answers if a.status_code == 200]
    assert before - await shopper.balance() == int(settled.amount or 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": "1"}, "value_mismatch"),
        ({"to": "0x" + "11" * 20}, "recipient_mismatch"),
        ({"validBefore": str(int(time.time()) - 5)}, "valid_before"),
        ({"validAfter": str(2**40)}, "valid_after"),
        ({"nonce": "0x" + "22" * 32}, "signature"),
        ({"from": "0x" + "33" * 20}, "signature"),
        ({"value": "x"}, "invalid_payload"),
    ],
)
async def test_payment__not_what_was_signed__is_refused(shopper: Shopper, changes: dict[str, Any], reason: str) -> None:
    header, _ = await shopper.payment(ASK, **changes)
    before = await shopper.balance()

    await expect_refusal(shopper, header, reason)

    assert await shopper.balance() == before


@pytest.mark.parametrize("header", ["", "%%%", "e30=", "bnVsbA==", "A" * 9_000])
async def test_payment__no_payment_at_all__is_refused(shopper: Shopper, header: str) -> None:
    await expect_refusal(shopper, header, "invalid_payload")


async def test_payment__another_network_or_scheme__is_refused(shopper: Shopper) -> None:
    _, payload = await shopper.payment(ASK)
    for change, reason in (({"network": "eip155:1"}, "network"), ({"scheme": "upto"}, "unsupported_scheme")):
        accepted = {**payload["accepted"], **change}
        await expect_refusal(shopper, _encoded({**payload, "accepted": accepted}), reason)
    await expect_refusal(shopper, _encoded({**payload, "x402Version": 1}), "version")


async def test_payment__for_a_cheaper_call__is_refused(shopper: Shopper) -> None:
    header, _ = await shopper.payment(ASK)

    await expect_refusal(shopper, header, "value_mismatch", {**ASK, "max_tokens": 1_000})


async def test_payment__of_whom_has_too_little__is_refused(customer: Customer, shopper: Shopper) -> None:
    poor = Shopper(customer)
    await poor.give(10)
    header, _ = await poor.payment(ASK)

    await expect_refusal(poor, header, "insufficient_balance")

    assert await poor.balance() == 10


async def test_call__that_cannot_be_answered__is_not_paid(shopper: Shopper) -> None:
    before, body = await shopper.balance(), {**ASK, "model": "gpt-4"}
    async with shopper.http() as http:
        assert (await http.post(CHAT, json=body)).status_code == 404
        assert (await http.post(CHAT, json={**ASK, "temperature": 9})).status_code == 400
        too_long = {**ASK, "max_tokens": 5, "messages": [{"role": "user", "content": "a b " * 1_500}]}
        refused = await http.post(CHAT, json=too_long)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert await shopper.balance() == before


async def expect_refusal(shopper: Shopper, header: str, reason: str, body: dict[str, Any] | None = None) -> None:
    async with httpx.AsyncClient(base_url=shopper.url, timeout=60) as http:
        answer = await http.post(CHAT, json=body or ASK, headers={"payment-signature": header})
    assert answer.status_code == 402, answer.text
    required = decode_payment_required_header(answer.headers["payment-required"])
    assert reason in str(required.error), required.error
    assert "payment-response" not in answer.headers
    assert answer.json()["error"]["message"]


def _encoded(payload: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()


async def test_payment__router_is_killed_while_it_settles__same_request_is_answered_and_paid_once(
    network: CliNetwork, shopper: Shopper
) -> None:
    header, payload = await shopper.payment(ASK)
    before, amount = await shopper.balance(), int(payload["accepted"]["amount"])
    nonce = payload["payload"]["authorization"]["nonce"].removeprefix("0x")
    router = network.status()["processes"]["router"]
    asking = asyncio.create_task(_ask_with(shopper, header))
    async with asyncio.timeout(30):
        while not _is_planned(network, nonce):
            await asyncio.sleep(0.005)

    os.kill(router, signal.SIGKILL)
    with pytest.raises(httpx.HTTPError):
        await asking

    async def answered() -> httpx.Response | None:
        try:
            answer = await _ask_with(shopper, header)
        except httpx.HTTPError:
            return None
        return answer if answer.status_code in (200, 402) else None

    answer = await eventually(answered, 60)
    assert answer.status_code == 200, answer.text
    assert before - await shopper.balance() == amount
    again = await _ask_with(shopper, header)
    assert again.status_code == 402
    assert before - await shopper.balance() == amount


async def _ask_with(shopper: Shopper, header: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=shopper.url, timeout=60) as http:
        return await http.post(CHAT, json=ASK, headers={"payment-signature": header})


def _is_planned(network: CliNetwork, nonce: str) -> bool:
    """Whether the router has written down the transaction that carries a payment."""
    database = sqlite3.connect(f"file:{network.settings('router').database}?mode=ro", uri=True)
    try:
        query = "SELECT count(*) FROM transaction_intents WHERE purpose LIKE ?"
        return bool(database.execute(query, (f"%{nonce}",)).fetchone()[0])
    finally:
        database.close()
