"""Accounts on the running network: sign-in, keys, top-ups, closes, own keys to a real claim; bad input everywhere."""

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import openai
import pytest
from coincurve import PrivateKey
from msgspec.structs import replace
from nacl.signing import SigningKey

from tests.e2e.conftest import MODEL, Customer
from tests.support.network import CliNetwork
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionWriter
from tristrata.client import RouterApi, RouterRefused, RouterUnreachable
from tristrata.client.account import NewSession
from tristrata.client.charging import charge_kept
from tristrata.client.checks import check_answer
from tristrata.client.money import Treasurer
from tristrata.client.orders import grant_for, new_api_key, sign_grant
from tristrata.custody.keystore import load_key, read_password
from tristrata.devnet.treasury import give_dollars
from tristrata.devnet.user import BUDGET
from tristrata.protocol import codec
from tristrata.protocol.ids import Address
from tristrata.protocol.orders import RequestClose
from tristrata.protocol.sign_in import Ecosystem, SignIn, sign_message
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher import SignedVoucher
from tristrata.protocol.voucher_book import Acknowledge, Reserve, VoucherBook, apply
from tristrata.storage.content_store import ContentStore
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]


async def ask(client: openai.AsyncOpenAI, **changes: Any) -> Any:
    fields = {"model": MODEL, "temperature": 0, "seed": 7, "messages": QUESTION, **changes}
    return await client.chat.completions.create(**fields)


async def open_with(customer: Customer, session_key: Address, **changes: Any) -> NewSession:
    budget = replace(BUDGET, **changes)
    await give_dollars(
        customer.settings, customer.chains, [(customer.hub.name, customer.account.address, budget.deposit)]
    )
    return await customer.account.open_session(customer.hub, MODEL, budget, session_key=session_key)


async def eventually(condition: Callable[[], Any], seconds: float = 40) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.2)
        return found


class TestSignIn:
    async def test_sign_in__with_a_wallet__lists_manages_and_asks(self, customer: Customer) -> None:
        first, second = await customer.open(), await customer.open()
        token = (await customer.account.sign_in()).token
        async with RouterApi(customer.settings.router, token) as api:
            listed = [session["id"] for session in (await api.sessions())["data"]]
            assert listed == [f"0x{session.session.hex()}" for session in (second, first)]
            page = await api.sessions(limit=1)
            assert page["has_more"]
            rest = await api.sessions(after=page["data"][0]["id"])
            assert [session["id"] for session in rest["data"]] == listed[1:]

            made = await api.create_api_key(name="laptop", budget="1000000")
            assert made["sessions"] == list(reversed(listed))
            answer = await ask(customer.client_with(made["secret"]))
            assert answer.choices[0].message.content == "The capital of Japan is Tokyo."
            [row] = (await api.usage())["data"]
            assert (row["api_key"], row["requests"], row["model"]) == (made["id"], 1, MODEL)
            receipts = (await api.receipts())["data"]
            assert [receipt["api_key"] for receipt in receipts] == [made["id"]]
            assert row["cost"] == receipts[0]["receipt"]["price"]
            assert {key["id"] for key in (await api.api_keys())["data"]} >= {made["id"]}
            assert "secret" not in (await api.api_keys())["data"][0]
        assert (await ask(customer.client_with(token))).usage.total_tokens > 0

    async def test_sign_in__replayed_or_altered__is_401_and_solana_is_taken(self, customer: Customer) -> None:
        url = customer.settings.router
        async with RouterApi(url) as api:
            nonce = await api.sign_in_nonce()
            message = SignIn(
                ecosystem=Ecosystem.ETHEREUM,
                domain=nonce.domain,
                account=customer.account.address,
                uri=f"{url}/",
                chain_id=nonce.chain_ids["ethereum"][0],
                nonce=nonce.nonce,
                issued_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            )
            other_nonce = replace(message, nonce="0" * 66)
            evil = replace(message, domain="evil.example")
            another = replace(message, account=address_of(PrivateKey().public_key))
            for refused in (other_nonce, evil, another):
                with pytest.raises(RouterRefused) as told:
                    await api.sign_in(refused, sign_message(customer.key, refused))
                assert (told.value.status, told.value.code) == (401, "sign_in_refused")
            with pytest.raises(RouterRefused, match="not signed by"):
                await api.sign_in(message, sign_message(customer.key, evil))

            assert (await api.sign_in(message, sign_message(customer.key, message))).account
            with pytest.raises(RouterRefused, match="used before"):
                await api.sign_in(message, sign_message(customer.key, message))

            wallet = SigningKey.generate()
            solana = replace(
                message,
                ecosystem=Ecosystem.SOLANA,
                account=bytes(wallet.verify_key),
                chain_id="solana:devnet",
                nonce=(await api.sign_in_nonce()).nonce,
            )
            signed_in = await api.sign_in(solana, wallet.sign(solana.text.encode()).signature)
        async with RouterApi(url, signed_in.token) as api:
            assert (await api.sessions())["data"] == []
            assert (await api.create_api_key())["owner"] == signed_in.account


class TestKeys:
    async def test_keys__budget_rotation_revocation__hold_at_once(self, customer: Customer) -> None:
        await customer.open()
        async with RouterApi(customer.settings.router, (await customer.account.sign_in()).token) as api:
            poor = await api.create_api_key(budget="100")
            with pytest.raises(openai.APIStatusError, match="of the key's budget of 100") as refused:
                await ask(customer.client_with(poor["secret"]))
            assert refused.value.status_code == 402
            await api.change_api_key(poor["id"], budget="1000000")
            await ask(customer.client_with(poor["secret"]))
            assert int((await api.api_keys())["data"][0]["spent"]) > 0

            rotated = await api.rotate_api_key(poor["id"], grace_seconds=600)
            for secret in (poor["secret"], rotated["secret"]):
                await ask(customer.client_with(secret))
            await api.rotate_api_key(poor["id"], grace_seconds=0)
            for secret in (poor["secret"], rotated["secret"]):
                with pytest.raises(openai.AuthenticationError):
                    await ask(customer.client_with(secret))

            reader = await api.create_api_key(scopes=["read"])
            with pytest.raises(openai.PermissionDeniedError, match="'inference'"):
                await ask(customer.client_with(reader["secret"]))
            await api.revoke_api_key(reader["id"])
            with pytest.raises(openai.AuthenticationError):
                await ask(customer.client_with(reader["secret"]))
        async with RouterApi(customer.settings.router, poor["secret"]) as api:
            with pytest.raises(RouterRefused):
                await api.api_keys()

    async def test_grant__a_second_session_to_one_key__adds_it_and_the_header_chooses(self, customer: Customer) -> None:
        first, second = await customer.open(), await customer.open()
        grant = grant_for(second.session, first.api_key, Timestamp(2**40))
        signature = sign_grant(customer.key, customer.hub.sessions_domain, grant)
        await customer.router.grant_api_key(customer.hub.caip2, grant, signature)

        client = customer.client(first)
        await ask(client)  # the newest of the model
        await ask(client, extra_headers={"x-tristrata-session": "0x" + first.session.hex()})
        async with RouterApi(customer.settings.router, first.api_key) as api:
            assert [(await api.session(each.session))["receipts"] for each in (first, second)] == [1, 1]
        with pytest.raises(openai.NotFoundError, match="you have no session"):
            await ask(client, extra_headers={"x-tristrata-session": "0x" + "ab" * 32})


class TestMoney:
    async def test_top_up_close_refund__over_the_api__move_the_money(self, customer: Customer) -> None:
        hub, account = customer.hub, customer.account
        session = await customer.open(deposit=Amount(1_000_000))
        await ask(customer.client(session))
        await give_dollars(customer.settings, customer.chains, [(hub.name, account.address, Amount(500_000))])
        async with RouterApi(customer.settings.router, session.api_key) as api:
            topped = await account.top_up(hub, session.session, Amount(500_000), router=api)
            assert topped["deposit"] == "1500000"
            with pytest.raises(RouterRefused) as early:
                await api.refund(session.session)
            assert (early.value.status, early.value.code) == (409, "refused_by_contract")

            closing = await account.close_session(hub, session.session)
            assert (closing["refund"]["state"], closing["ending"]) == ("closing", True)
            with pytest.raises(openai.APIStatusError) as refused:
                await ask(customer.client(session))
            assert (refused.value.status_code, refused.value.code) == (402, "session_ending")
            assert (await account.close_session(hub, session.session))["tx"] == closing["tx"]
            assert int(closing["refund"]["amount"]) == 1_500_000 - int(closing["cumulative"])

            closed = await eventually(lambda: _unless_refused(api.refund(session.session)))
            assert closed["refund"]["state"] == "closed"
            head = (await hub.chain.block(Level.SOFT)).number
            assert await hub.balance(account.address, at=head) == int(closed["refund"]["amount"]) > 1_400_000

    async def test_top_up__bad_input__is_told_and_moves_nothing(self, customer: Customer) -> None:
        session = await customer.open(deposit=Amount(1_000_000))
        path = f"{customer.settings.router}/v1/sessions/0x{session.session.hex()}/top-up"
        good = {
            "payer": "0x" + customer.account.address.hex(),
            "amount": "5",
            "salt": "0x" + "11" * 32,
            "deadline": 2**40,
            "signature": "0x" + "11" * 64 + "1b",
        }
        bad: list[tuple[dict[str, Any], int]] = [
            ({}, 409),  # a signature of nobody's
            ({"amount": "0"}, 400),
            ({"amount": "-5"}, 400),
            ({"amount": 5}, 400),
            ({"amount": str(2**96)}, 400),
            ({"amount": str(2**95)}, 403),
            ({"deadline": 1}, 400),
            ({"deadline": 2**300}, 400),
            ({"salt": "0x11"}, 400),
            ({"payer": "me"}, 400),
            ({"signature": "0x"}, 400),
            ({"extra": 1}, 400),
        ]
        headers = {"authorization": f"Bearer {session.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for changes, status in bad:
                async with http.post(path, json={**good, **changes}) as response:
                    assert (response.status, changes) == (status, changes), await response.text()
            async with http.get(path.removesuffix("/top-up")) as response:
                assert (await response.json())["deposit"] == "1000000"
        async with aiohttp.ClientSession() as http, http.post(path, json=good) as response:
            assert response.status == 401


class TestOwnKeys:
    async def test_own_key__answers_vouchers_restart_claim__the_miner_is_paid(
        self, network: CliNetwork, customer: Customer
    ) -> None:
        hub, key = customer.hub, PrivateKey()
        session = await open_with(customer, address_of(key.public_key))
        client = customer.client(session)
        for _ in range(2):
            await ask(client)
        async with RouterApi(customer.settings.router, session.api_key) as api:
            state = await api.session(session.session)
            assert (state["custody"], state["awaiting"], state["count"]) == ("own", 2, 0)
            waiting = await api.awaiting(session.session)
            assert int(state["exposure"]) == sum(int(each["receipt"]["price"]) for each in waiting)
            assert (await api.receipt(waiting[0]["id"]))["stage"] == "signed"

            vouchers = await self._sign_all(customer, session, key, list(reversed(waiting)))
            forged = [(request, b"\x11" * 64 + b"\x1b") for request, _ in vouchers]
            with pytest.raises(RouterRefused) as conflict:
                await api.send_vouchers(session.session, forged)
            assert (conflict.value.status, conflict.value.code) == (409, "voucher_conflict")
            signatures = [(request, signed.signature) for request, signed in vouchers]
            assert (await api.send_vouchers(session.session, signatures))["acknowledged"] == 2
            again = await api.send_vouchers(session.session, signatures)
            assert (again["acknowledged"], again["session"]["count"], again["session"]["awaiting"]) == (0, 2, 0)

            await ask(client)  # and one that waits over a restart
            killed = network.status()["processes"]["router"]
            os.kill(killed, signal.SIGKILL)
            state = await eventually(lambda: _unless_refused(api.session(session.session)))
            assert (state["count"], state["awaiting"]) == (2, 1)

            last = vouchers[-1][1]
            document = await api.receipt("0x" + vouchers[-1][0].hex())
            await check_answer(document, "The capital of Japan is Tokyo.", hub)
            assert codec.voucher_from_json(document["voucher"]) == last
            await self._claim(customer, last)
            charged = await eventually(lambda: _stage_of(api, document["id"], "charged", "settled", "attested"))
            assert int((await api.session(session.session))["charged"]) == last.voucher.cumulative
            assert charged["position"] == 1

    async def test_own_key__without_vouchers__is_429_at_the_cap_until_they_come(self, customer: Customer) -> None:
        key = PrivateKey()
        session = await open_with(customer, address_of(key.public_key), exposure_cap=Amount(60))
        client = customer.client(session)
        with pytest.raises(openai.RateLimitError, match="[1-9] receipts await your vouchers") as refused:
            for _ in range(60):
                await ask(client, max_tokens=10)
        assert refused.value.code == "exposure_reached"

        async with RouterApi(customer.settings.router, session.api_key) as api:
            state, waiting = await api.session(session.session), await api.awaiting(session.session)
            assert int(state["exposure"]) <= int(state["exposure_cap"]) == 60
            vouchers = await self._sign_all(customer, session, key, waiting)
            await api.send_vouchers(session.session, [(request, signed.signature) for request, signed in vouchers])
        # From here on it is the settler's charge that makes room.
        assert await eventually(lambda: _unless_limited(ask(client, max_tokens=10)))

    async def _sign_all(
        self, customer: Customer, session: NewSession, key: PrivateKey, waiting: list[dict[str, Any]]
    ) -> list[tuple[bytes, SignedVoucher]]:
        """As a client does: in an order of its own, from its own book."""
        head = (await customer.hub.chain.block(Level.SOFT)).number
        record = await customer.hub.session(session.session, at=head)
        assert record is not None
        book = VoucherBook(session=session.session, terms=record.terms, deposit=record.deposit)
        signed = []
        for document in waiting:
            receipt = codec.receipt_from_json(document["receipt"])
            book, _ = apply(book, Reserve(receipt.request_id, receipt.price))
            book, [due] = apply(book, Acknowledge(receipt))
            signature = sign(key, digest(customer.hub.settlement_domain.separator, due.voucher.struct_hash))
            signed.append((receipt.request_id, SignedVoucher(due.voucher, due.splits, signature)))
        return signed

    async def _claim(self, customer: Customer, signed: SignedVoucher) -> None:
        """Charge by the voucher unless the settler was first, and pay its miner out."""
        hub = customer.hub
        database = await Database.open(customer.settings.home.actor("test") / f"own-{signed.voucher.head.hex()}.sqlite")
        writer = TransactionWriter(hub.chain, customer.key, Intents(database))
        await charge_kept(hub, writer, {signed.voucher.session: signed})
        miner = next(split.payee for split in signed.splits if split.payee != _router(customer, signed))
        head = (await hub.chain.block(Level.SOFT)).number
        before = await hub.balance(miner, at=head)
        [*_, last] = await Treasurer(hub, ContentStore(customer.settings.home.content)).claim_direct(writer, miner)
        assert await hub.balance(miner, at=last.block) > before
        await database.close()


class TestReceipts:
    async def test_stage__of_an_answer__climbs_to_attested(self, customer: Customer) -> None:
        session = await customer.open()
        answer = await ask(customer.client(session))
        async with RouterApi(customer.settings.router, session.api_key) as api:
            request_id = answer.id.removeprefix("chatcmpl-")
            assert (await api.receipt(request_id))["stage"] in ("vouchered", "charged", "settled")
            attested = await eventually(lambda: _stage_of(api, request_id, "attested"), 90)
            assert attested["epoch"] > 0
            assert attested["ledger_epoch"] == attested["epoch"]


class TestBadInput:
    async def test_endpoints__bad_input__answer_with_an_error_and_change_nothing(self, customer: Customer) -> None:
        session = await customer.open()
        token = (await customer.account.sign_in()).token
        stranger = RequestClose(session.session, customer.account.address, Timestamp(2**40))
        forged = sign(PrivateKey(), digest(customer.hub.sessions_domain.separator, stranger.struct_hash))
        own = f"/v1/sessions/0x{session.session.hex()}"
        close = {"sender": "0x" + customer.account.address.hex(), "deadline": 2**40, "signature": "0x" + forged.hex()}
        cases: list[tuple[str, str, Any, int]] = [
            ("POST", f"{own}/close", close, 401),
            ("POST", f"{own}/close", {**close, "sender": "0x" + "11" * 20}, 400),
            ("POST", f"{own}/close", {**close, "deadline": 1}, 400),
            ("POST", f"{own}/close", {}, 400),
            ("POST", "/v1/sessions/0x12/close", close, 400),
            ("POST", f"/v1/sessions/0x{'ab' * 32}/close", close, 404),
            ("POST", f"{own}/vouchers", {"vouchers": []}, 400),  # managed
            ("GET", f"{own}/awaiting", None, 400),
            ("GET", f"/v1/sessions/0x{'ab' * 32}/awaiting", None, 404),
            ("GET", "/v1/sessions?limit=0", None, 400),
            ("GET", "/v1/sessions?after=x", None, 400),
            ("GET", "/v1/usage?start=2026-01-32", None, 400),
            ("GET", "/v1/usage?start=2000-01-01", None, 400),
            ("GET", "/v1/usage?page=-1", None, 400),
            ("GET", "/v1/receipts?limit=1001", None, 400),
            ("GET", f"/v1/receipts?after={'ab' * 32}", None, 404),
            ("GET", f"/v1/receipts?session={'ab' * 32}", None, 404),
            ("GET", "/v1/receipts/0xzz", None, 400),
            ("GET", f"/v1/receipts/{'ab' * 32}", None, 404),
            ("POST", "/v1/api-keys", {"scopes": ["root"]}, 400),
            ("POST", "/v1/api-keys", {"scopes": []}, 400),
            ("POST", "/v1/api-keys", {"budget": "1.5"}, 400),
            ("POST", "/v1/api-keys", {"expires_at": 1}, 400),
            ("POST", "/v1/api-keys", {"name": "x" * 101}, 400),
            ("POST", "/v1/api-keys", {"sessions": ["0x" + "ab" * 32]}, 404),
            ("POST", "/v1/api-keys", [], 400),
            ("GET", "/v1/api-keys/key_none", None, 404),
            ("DELETE", "/v1/api-keys/key_none", None, 404),
            ("POST", "/v1/api-keys/key_none/rotate", {}, 404),
            ("POST", "/v1/signin", {"message": "hello", "signature": "0x11"}, 400),
            ("POST", "/v1/signin", {"message": "x" * 5_000, "signature": "0x11"}, 400),
            ("POST", "/v1/signin", {}, 400),
        ]
        headers = {"authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(customer.settings.router, headers=headers) as http:
            before = await (await http.get(own)).json()
            for method, path, body, status in cases:
                async with http.request(method, path, json=body) as response:
                    told = await response.json()
                    assert (response.status, method, path, body) == (status, method, path, body), told
                    assert told["error"]["message"]
            assert await (await http.get(own)).json() == before
        wrong_tokens = ("st-tri-x", "sk-tri-" + new_api_key(), token[:-1])
        for wrong in wrong_tokens:
            headers = {"authorization": f"Bearer {wrong}"}
            async with aiohttp.ClientSession(customer.settings.router, headers=headers) as http:
                for path in ("/v1/sessions", own, "/v1/usage", "/v1/receipts", "/v1/api-keys"):
                    assert (await http.get(path)).status == 401


def _router(customer: Customer, signed: SignedVoucher) -> Address:
    home = customer.settings.home
    return address_of(load_key(home.keystore("router"), read_password(home.password_file)).public_key)


async def _stage_of(api: RouterApi, request_id: str, *stages: str) -> dict[str, Any] | None:
    found = await api.receipt(request_id)
    return found if found["stage"] in stages else None


async def _unless_limited(call: Any) -> Any:
    try:
        return await call
    except openai.RateLimitError:
        return None


async def _unless_refused(call: Any) -> Any:
    try:
        return await call
    except (RouterUnreachable, RouterRefused):
        return None
