"""The running network, end to end: the official client, every line of "bad input", the money, and nothing on chain."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import openai
import pytest
from coincurve import PrivateKey

from tests.e2e.conftest import MODEL, Customer
from tests.support.network import CliNetwork, is_alive, paused, wait_for
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionWriter
from tristrata.client import RouterApi, RouterRefused
from tristrata.client.account import Account
from tristrata.client.checks import ReceiptBroken, check_answer
from tristrata.client.orders import grant_for, sign_grant
from tristrata.inference.embedded import EmbeddedRuntime
from tristrata.protocol.ids import SessionId
from tristrata.protocol.units import Amount, PricePerMillion, Timestamp
from tristrata.protocol.voucher import SignedVoucher
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]
STORY = [{"role": "user", "content": "Tell me a very long story."}]
DETERMINISTIC = {"model": MODEL, "temperature": 0, "seed": 7}


async def ask(client: openai.AsyncOpenAI, **changes: Any) -> Any:
    return await client.chat.completions.create(**{**DETERMINISTIC, "messages": QUESTION, **changes})


class TestAnswers:
    async def test_chat__official_client__answers_and_streams_the_same(self, customer: Customer) -> None:
        client = customer.client(await customer.open())

        whole = await ask(client)
        chunks = [chunk async for chunk in await ask(client, stream=True)]

        assert whole.choices[0].message.content == "The capital of Japan is Tokyo."
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert streamed == whole.choices[0].message.content
        assert [model.id async for model in client.models.list()] == [MODEL, "all-minilm-l6-v2"]

    async def test_receipt__of_an_answer__proves_it_until_one_letter_changes(self, customer: Customer) -> None:
        session = await customer.open()
        answer = await ask(customer.client(session))
        async with RouterApi(customer.settings.router, session.api_key) as api:
            document = await api.receipt(answer.id.removeprefix("chatcmpl-"))

        receipt, _ = await check_answer(document, "The capital of Japan is Tokyo.", customer.hub)
        assert receipt.assurance.name == "NONE"
        with pytest.raises(ReceiptBroken, match="the answer's hash"):
            await check_answer(document, "The capital of Japan is Kyoto.", customer.hub)
        forged = {**document, "signature": "0x" + "11" * 64 + "1b"}
        with pytest.raises(ReceiptBroken, match="the miner's signature"):
            await check_answer(forged, "The capital of Japan is Tokyo.", customer.hub)

    async def test_chat__from_request_to_last_token__no_chain_has_a_transaction(
        self, network: CliNetwork, customer: Customer
    ) -> None:
        client = customer.client(await customer.open())
        with paused(network, "settler", "relayer", "admission"):
            before = {
                name: (await customer.chains[name].block(Level.SOFT)).number for name in network.status()["chains"]
            }
            stream = await ask(client, messages=STORY, max_tokens=60, stream=True)
            assert len([chunk async for chunk in stream]) > 50
            counts = {}
            for name, first in before.items():
                last = (await customer.chains[name].block(Level.SOFT)).number
                counts[name] = await customer.chains[name].transactions(first + 1, last)
        assert counts == {"ethereum": 0, "base": 0, "arbitrum": 0, "acme": 0}

    def test_ask__from_the_terminal__prints_the_answer_and_keeps_the_receipt(
        self, network: CliNetwork, tmp_path: Path
    ) -> None:
        for hub in ("arbitrum", "acme"):
            done = network.run("ask", "What is the capital of Japan?", "--hub", hub, "--receipt", str(tmp_path / hub))
            assert done.returncode == 0, done.stderr
            assert done.stdout == "The capital of Japan is Tokyo.\n"
            assert "8 tokens" in done.stderr
            document = json.loads((tmp_path / hub).read_text())
            assert document["format"] == "tristrata.receipt/1"
            assert document["chain"] == f"eip155:{network.status()['chains'][hub]['chain_id']}"


class TestBadInput:
    async def test_chat__unknown_model_key_or_messages__is_told_in_openais_words(self, customer: Customer) -> None:
        session = await customer.open()
        client = customer.client(session)

        with pytest.raises(openai.NotFoundError) as missing:
            await ask(client, model="gpt-4o")
        assert (missing.value.status_code, missing.value.code) == (404, "model_not_found")
        for messages, field in (([], "messages"), ([{"role": "user"}], "messages[0].content")):
            with pytest.raises(openai.BadRequestError) as malformed:
                await ask(client, messages=messages)
            assert malformed.value.param == field
        for key in ("sk-tri-wrong", "x"):
            with pytest.raises(openai.AuthenticationError) as stranger:
                await ask(customer.client_with(key))
            assert (stranger.value.status_code, stranger.value.code) == (401, "invalid_api_key")

    async def test_chat__session_without_budget__is_402_until_it_is_topped_up(self, customer: Customer) -> None:
        session = await customer.open(deposit=Amount(5), exposure_cap=Amount(10**6))
        client = customer.client(session)

        with pytest.raises(openai.APIStatusError, match="top up") as poor:
            await ask(client)
        assert (poor.value.status_code, poor.value.code) == (402, "insufficient_quota")

        await _top_up(customer, session.session, Amount(10**6))
        assert (await _until_answered(client)).choices[0].message.content == "The capital of Japan is Tokyo."

    async def test_chat__price_ceiling_below_every_miner__is_503_with_counts(self, customer: Customer) -> None:
        client = customer.client(await customer.open(max_output_price=PricePerMillion(1)))

        with pytest.raises(openai.InternalServerError, match="no_capacity: price [12]") as none:
            await ask(client)
        assert none.value.status_code == 503

    async def test_open_session__beyond_what_the_router_takes__is_403_and_moves_nothing(
        self, customer: Customer
    ) -> None:
        too_much = Amount(customer.settings.network.parameters.unsecured_limit + 1)
        with pytest.raises(RouterRefused, match="beyond its bond") as refused:
            await customer.open(deposit=too_much)
        assert refused.value.status == 403
        head = (await customer.hub.chain.block(Level.SOFT)).number
        assert await customer.hub.balance(customer.account.address, at=head) == too_much

    async def test_grant__signed_by_another_than_the_owner__is_401(self, customer: Customer) -> None:
        session = await customer.open()
        grant = grant_for(session.session, "sk-tri-mine", Timestamp(2**40))
        forged = sign_grant(PrivateKey(), customer.hub.sessions_domain, grant)

        async with RouterApi(customer.settings.router) as api:
            with pytest.raises(RouterRefused, match="not signed by") as refused:
                await api.grant_api_key(customer.hub.caip2, grant, forged)
        assert refused.value.status == 401

    async def test_chat__client_leaves__the_miner_stops_and_only_what_was_streamed_is_billed(
        self, customer: Customer
    ) -> None:
        session = await customer.open()
        stream = await ask(customer.client(session), messages=STORY, max_tokens=1_000, stream=True)
        async for _ in stream:
            break
        await stream.close()

        async with RouterApi(customer.settings.router, session.api_key) as api, _patience():
            while (state := await api.session(session.session))["receipts"] == 0:
                await _a_moment()
        assert state["in_flight"] == "0"
        assert 0 < int(state["cumulative"]) < 60  # the whole answer would have cost some 200

    def test_up__a_second_time__says_so_and_changes_nothing(self, network: CliNetwork) -> None:
        before = network.status()
        for arguments in (("up",), ("up", "--detach"), ("up", "--fresh")):
            done = network.run(*arguments)
            assert done.returncode == 1
            assert "running already" in done.stderr
            assert "tristrata down" in done.stderr
        after = network.status()
        for status in (before, after):
            for chain in status["chains"].values():
                del chain["block"]
        assert after == before


class TestMoney:
    async def test_session__asked_charged_closed__pays_miner_and_router_and_refunds_the_rest(
        self, customer: Customer, tmp_path: Path
    ) -> None:
        hub, session = customer.hub, await customer.open()
        for _ in range(3):
            answer = await ask(customer.client(session))
        async with RouterApi(customer.settings.router, session.api_key) as api:
            document = await api.receipt(answer.id.removeprefix("chatcmpl-"))
            async with _patience():
                while (await api.session(session.session))["charged"] != document["voucher"]["cumulative"]:
                    await _a_moment()
        receipt, signed = await check_answer(document, "The capital of Japan is Tokyo.", hub)
        database = await Database.open(tmp_path / "owner.sqlite")
        writer = TransactionWriter(hub.chain, customer.key, Intents(database))

        await hub.sessions.write(writer, "ask to close", "request_close", session.session)
        head = (await hub.chain.block(Level.SOFT)).number
        closing_at = (await hub.session(session.session, at=head)).closing_at
        async with _patience():
            while (await hub.chain.block(Level.SOFT)).timestamp < closing_at:
                await _a_moment()
        before = await hub.balance(customer.account.address, at=head)
        closed = await hub.sessions.write(writer, "close", "close", session.session)
        refund = await hub.balance(customer.account.address, at=closed.block) - before
        assert refund == 5_000_000 - signed.voucher.cumulative

        earned = await _claim_all(customer, writer, signed)
        await database.close()
        assert sum(earned.values()) == signed.voucher.cumulative
        assert earned[receipt.miner] > 0


class TestFailures:
    async def test_miner__killed_mid_stream__is_an_error_event_and_only_acknowledged_work_is_paid(
        self, network: CliNetwork, customer: Customer
    ) -> None:
        session = await customer.open()
        client = customer.client(session)
        first = await ask(client)
        stream = await ask(client, messages=STORY, max_tokens=1_000, stream=True)
        await anext(aiter(stream))
        miners = [network.status()["processes"][name] for name in ("miner-1", "miner-2")]
        for pid in miners:
            os.kill(pid, signal.SIGKILL)

        with pytest.raises(openai.APIError, match="nothing is owed"):
            async for _ in stream:
                pass
        last = await _until_answered(client)
        assert last.choices[0].message.content == "The capital of Japan is Tokyo."
        async with RouterApi(customer.settings.router, session.api_key) as api:
            state = await api.session(session.session)
            owed = await _prices(api, first, last)
        assert (state["receipts"], int(state["cumulative"]), state["in_flight"]) == (2, owed, "0")

    async def test_router__killed__comes_back_with_every_voucher_and_goes_on(
        self, network: CliNetwork, customer: Customer
    ) -> None:
        session = await customer.open()
        client = customer.client(session)
        answers = [await ask(client) for _ in range(2)]
        before = network.status()["processes"]["router"]
        os.kill(before, signal.SIGKILL)

        answers.append(await _until_answered(client))
        assert network.status()["processes"]["router"] != before
        async with RouterApi(customer.settings.router, session.api_key) as api:
            state = await api.session(session.session)
            owed = await _prices(api, *answers)
        assert (state["receipts"], int(state["cumulative"])) == (3, owed)

    async def test_relayer__killed__carries_what_came_meanwhile(self, network: CliNetwork, customer: Customer) -> None:
        killed = network.status()["processes"]["relayer"]
        os.kill(killed, signal.SIGKILL)
        newcomer = Account(PrivateKey(), customer.router, customer.welcome, {customer.hub.caip2: customer.hub})

        await newcomer.register()
        await newcomer.wait_until_known(customer.hub)
        assert network.status()["processes"]["relayer"] != killed

    async def test_fabric__killed__router_and_miners_come_back(self, network: CliNetwork, customer: Customer) -> None:
        client = customer.client(await customer.open())
        before = network.status()["processes"]["fabric"]
        os.kill(before, signal.SIGKILL)

        assert (await _until_answered(client)).choices[0].message.content == "The capital of Japan is Tokyo."
        assert network.status()["processes"]["fabric"] != before


class TestSupervisor:
    def test_supervisor__killed__leaves_no_process_and_the_next_start_has_everything(
        self, tmp_path: Path, smollm2: Path
    ) -> None:
        network = CliNetwork(tmp_path)
        network.up()
        before = network.status()
        pids = [before["pid"], *before["processes"].values()]
        assert len(pids) == 16
        os.kill(before["pid"], signal.SIGKILL)

        wait_for(lambda: not any(is_alive(pid) for pid in pids))
        assert network.run("status").returncode == 1
        network.up()
        try:
            assert network.status()["api_key"] == before["api_key"]
            assert network.run("ask", "What is the capital of Japan?").stdout == "The capital of Japan is Tokyo.\n"
        finally:
            network.down()

    def test_up__interrupted__stops_cleanly_and_at_once(self, tmp_path: Path, smollm2: Path) -> None:
        network = CliNetwork(tmp_path)
        running = network.start("up")
        wait_for(lambda: network.run("status").returncode == 0 and network.status()["ready"])
        pids = list(network.status()["processes"].values())

        os.killpg(running.pid, signal.SIGINT)  # as a terminal sends Ctrl-C: to the whole group
        output, _ = running.communicate(timeout=30)
        assert running.returncode == 0, output
        assert "Traceback" not in output
        assert not any(is_alive(pid) for pid in pids)
        logs = "".join(log.read_text() for log in network.home.logs.glob("*.log"))
        assert "Traceback" not in logs

    def test_up__chain_state_lost__says_so_and_fresh_starts_anew(self, tmp_path: Path, smollm2: Path) -> None:
        network = CliNetwork(tmp_path)
        network.up()
        network.down()
        (network.home.chain("arbitrum") / "state.json").unlink()

        refused = network.run("up", "--detach")
        assert refused.returncode == 1
        assert "up --fresh" in refused.stderr
        fresh = network.run("up", "--detach", "--fresh")
        assert fresh.returncode == 0, fresh.stderr
        network.down()
        assert len(list(network.home.folder.parent.iterdir())) == 2


class TestMiners:
    async def test_miner__with_an_openai_backend__joins_registers_and_answers(
        self, network: CliNetwork, customer: Customer, smollm2: Path
    ) -> None:
        backend = EmbeddedRuntime(smollm2, slots=2)  # llama.cpp's own server speaks OpenAI's protocol
        await backend.start()
        url = f"{backend._server.listening_address}/v1"
        prices = ("--prompt-price", "1", "--output-price", "1")
        backend_model = ("--backend-model", str(smollm2))
        miner = network.start("miner", "cheap", "--backend", "openai", "--url", url, *backend_model, *prices)
        try:
            ceilings = {"max_output_price": PricePerMillion(1), "max_prompt_price": PricePerMillion(1)}
            answer = await _until_answered(customer.client(await customer.open(**ceilings)))
            assert answer.choices[0].message.content == "The capital of Japan is Tokyo."
        finally:
            miner.send_signal(signal.SIGINT)
            output, _ = miner.communicate(timeout=30)
            await backend.close()
        assert miner.returncode == 0, output

    def test_miner__unknown_and_without_a_usable_backend__says_what_is_wrong(self, network: CliNetwork) -> None:
        without_url = network.run("miner", "new", "--backend", "openai")
        assert without_url.returncode == 1
        assert "url must be given" in without_url.stderr
        other_model = network.run("miner", "new", "--model", "gpt-4o")
        assert other_model.returncode == 1
        assert "'gpt-4o' is not in the network" in other_model.stderr


async def _until_answered(client: openai.AsyncOpenAI) -> Any:
    """Ask until a miner is there again; clients are told to come back."""
    async with _patience():
        while True:
            try:
                return await ask(client)
            except (openai.InternalServerError, openai.APIConnectionError, openai.APIStatusError):
                await _a_moment()


async def _prices(api: RouterApi, *answers: Any) -> int:
    """What the receipts of these answers ask for together."""
    documents = [await api.receipt(answer.id.removeprefix("chatcmpl-")) for answer in answers]
    return sum(int(document["receipt"]["price"]) for document in documents)


async def _top_up(customer: Customer, session: SessionId, amount: Amount) -> None:
    from tristrata.devnet.treasury import give_dollars

    hub = customer.hub
    await give_dollars(customer.settings, customer.chains, [(hub.name, customer.account.address, amount)])
    database = await Database.open(customer.settings.home.actor("test") / f"{session.hex()}.sqlite")
    writer = TransactionWriter(hub.chain, customer.key, Intents(database))
    await hub.asset.write(writer, "approve", "approve", hub.sessions.address, amount)
    await hub.sessions.write(writer, "top up", "top_up", session, amount)
    await database.close()


async def _claim_all(customer: Customer, writer: TransactionWriter, signed: SignedVoucher) -> dict[bytes, int]:
    """Pay out every split of a voucher, as anyone may, and say who got how much."""
    hub, earned = customer.hub, {}
    words = [split.packed for split in signed.splits]
    for index, split in enumerate(signed.splits):
        head = (await hub.chain.block(Level.SOFT)).number
        before = await hub.balance(split.payee, at=head)
        arguments = (signed.voucher.session, signed.voucher.count, words, index)
        paid = await hub.settlement.write(writer, f"claim {index}", "claim_direct", *arguments)
        earned[split.payee] = await hub.balance(split.payee, at=paid.block) - before
    return earned


def _patience() -> Any:
    import asyncio

    return asyncio.timeout(60)


async def _a_moment() -> None:
    import asyncio

    await asyncio.sleep(0.1)
