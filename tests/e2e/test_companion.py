"""`tristrata connect` on the running network: own keys, the official client, a router that lies."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.support.network import COMMAND, CliNetwork, wait_for
from tristrata.client.api import RouterApi
from tristrata.process import remembered_port
from tristrata.protocol.ids import SessionId

MODEL = "smollm2-135m-instruct"
QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]


class Companion:
    """A running `tristrata connect --json`, and what it has said."""

    def __init__(self, network: CliNetwork, port: int, *options: str) -> None:
        self._log = network.home.folder / f"connect-{port}.log"
        with self._log.open("wb") as output:
            command = [*COMMAND, "connect", "--yes", "--json", "--port", str(port), *options]
            self.process = subprocess.Popen(command, env=network.environment, stdout=output, stderr=output)
        self.ready: dict[str, Any] = wait_for(lambda: next(iter(self.said("ready")), None))

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [said for said in map(json.loads, lines) if said["event"] == event]

    @property
    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.ready["base_url"], api_key=self.ready["api_key"], max_retries=0)

    def kept(self, network: CliNetwork, custody: str = "own") -> dict[str, str]:
        """The session and the router's API key that the companion keeps."""
        found: dict[str, str] = json.loads(
            (network.home.actor("companion") / f"arbitrum-{MODEL}-{custody}.json").read_text()
        )
        return found


@contextmanager
def connected(network: CliNetwork, folder: Path, *options: str) -> Iterator[Companion]:
    companion = Companion(network, remembered_port(folder / "port"), *options)
    try:
        yield companion
    finally:
        companion.process.terminate()
        companion.process.wait()


async def ask(client: openai.AsyncOpenAI, **options: Any) -> Any:
    return await client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, seed=7, max_tokens=40, **options
    )


async def test_connect__own_key__checks_pays_and_goes_on_after_kill_9(network: CliNetwork, tmp_path: Path) -> None:
    companion = Companion(network, remembered_port(tmp_path / "port"))
    try:
        whole = await ask(companion.client)
        streamed = [chunk async for chunk in await ask(companion.client, stream=True)]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
        assert whole.choices[0].message.content == text == "The capital of Japan is Tokyo."
        await asyncio.to_thread(wait_for, lambda: len(companion.said("checked")) == 2)
        with pytest.raises(openai.AuthenticationError):
            await openai.AsyncOpenAI(base_url=companion.ready["base_url"], api_key="x", max_retries=0).models.list()
        await ask(companion.client)
    finally:
        os.kill(companion.process.pid, signal.SIGKILL)  # before, while or after it paid for the third
        companion.process.wait()

    with connected(network, tmp_path, "--pay-unseen") as companion:
        await ask(companion.client)
        kept = companion.kept(network)
        session = SessionId(bytes.fromhex(kept["session"]))
        async with RouterApi(network.settings().router, kept["api_key"]) as api:
            state = await api.session(session)
            while (state["count"], state["awaiting"]) != (4, 0):
                await asyncio.sleep(0.1)
                state = await api.session(session)
            assert state["custody"] == "own"
            async with asyncio.timeout(40):  # the settler charges what the vouchers say
                while int((await api.session(session))["charged"]) < int(state["cumulative"]):
                    await asyncio.sleep(0.2)


async def test_connect__managed_and_a_budget__checks_and_asks_no_more_beyond_it(
    network: CliNetwork, tmp_path: Path
) -> None:
    with connected(network, tmp_path, "--managed", "--budget", "5") as companion:
        for _ in range(5):
            try:
                await ask(companion.client)
            except openai.APIStatusError as error:
                assert (error.status_code, error.code) in ((402, "insufficient_quota"), (402, "companion_stopped"))
                break
        else:
            pytest.fail("the budget was not held")
        assert companion.said("checked")[0]["spent"] <= 5


@pytest.fixture
async def liar(network: CliNetwork) -> AsyncIterator[str]:
    """A router that changes the answer's text on the way."""
    router = network.settings().router

    async def forward(request: Request) -> StreamingResponse:
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name in ("authorization", "content-type")}
        http = aiohttp.ClientSession()
        response = await http.request(
            request.method, router + request.url.path, params=dict(request.query_params), data=body, headers=headers
        )

        async def changed() -> AsyncIterator[bytes]:
            async for chunk in response.content.iter_any():
                yield chunk.replace(b"Tokyo", b"Osaka")
            await http.close()

        return StreamingResponse(changed(), response.status, media_type=response.content_type)

    app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


async def test_connect__router_changes_the_text__nothing_is_signed_and_no_more_is_asked(
    network: CliNetwork, tmp_path: Path, liar: str
) -> None:
    companion = await asyncio.to_thread(Companion, network, remembered_port(tmp_path / "port"), "--router", liar)
    try:
        kept = companion.kept(network)
        session = SessionId(bytes.fromhex(kept["session"]))
        async with RouterApi(network.settings().router, kept["api_key"]) as api:
            before = await api.session(session)
            async for _ in await ask(companion.client, stream=True):
                pass
            [problem] = await asyncio.to_thread(wait_for, lambda: companion.said("problem"))
            assert "the text of its answer" in problem["problem"]
            with pytest.raises(openai.APIStatusError, match="asks no more") as refused:
                await ask(companion.client)
            assert refused.value.code == "companion_stopped"
            after = await api.session(session)
            assert (after["count"], after["cumulative"]) == (before["count"], before["cumulative"])
            assert after["awaiting"] == before["awaiting"] + 1
    finally:
        companion.process.terminate()
        companion.process.wait()
