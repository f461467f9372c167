"""Three routers, three NATS servers and PostgreSQL under load; each is killed in turn, and everything is counted."""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.support.fleet import (
    MODEL,
    SEPARATOR,
    SESSION_KEY,
    Part,
    answer_to,
    api_key,
    grant_keys,
    miner_address,
    session_id,
    signing_key,
)
from tests.support.postgres import Postgres
from tristrata.client.sse import events
from tristrata.fabric.admission import Admission
from tristrata.fabric.connection import connect
from tristrata.fabric.keys import new_seed, public_bytes
from tristrata.fabric.server import Cluster, FabricServer
from tristrata.process import LOOPBACK, remembered_port
from tristrata.protocol.ids import Address
from tristrata.protocol.signing import address_of, digest, require_signer
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

ROUTERS, SERVERS, MINERS, SESSIONS = 3, 3, 2, 6


@dataclass
class Tally:
    """What the clients saw. ``refused`` counts connections that a dead router did not take: the next one was asked."""

    complete: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    longest_gap: float = 0.0
    asked: int = 0
    refused: int = 0


@dataclass
class Fleet:
    """Everything that runs."""

    parts: dict[str, Part]
    processes: dict[str, "subprocess.Popen[bytes]"]
    servers: list[FabricServer]
    postgres: Postgres
    database: str
    folder: Path

    @property
    def addresses(self) -> list[str]:
        return [f"http://{LOOPBACK}:{part.port}" for part in self.parts.values() if part.role == "router"]

    def start(self, name: str) -> None:
        self.processes[name] = self.parts[name].start(self.folder / f"{name}.log")

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    seeds = {name: new_seed() for name in ("router", "admission", "issuer", *(f"miner-{n}" for n in range(MINERS)))}
    miners = {public_bytes(seeds[f"miner-{number}"]): miner_address(number) for number in range(MINERS)}
    ports = tuple(remembered_port(tmp_path / f"route-{number}") for number in range(SERVERS))
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        servers = []
        for number in range(SERVERS):
            server = FabricServer(
                tmp_path / f"nats-{number}",
                router_seed=seeds["router"],
                admission_seed=seeds["admission"],
                issuer_seed=seeds["issuer"],
                cluster=Cluster(f"n{number}", ports[number], ports),
            )
            stack.push_async_callback(server.stop)
            servers.append(server)
        addresses = [await server.start() for server in servers]
        urls = ",".join(addresses)

        async def admit(key: bytes) -> Address | None:
            return miners.get(key)

        for (
            address
        ) in addresses:  # one beside each server: who reconnects after a server's death must be admitted again
            admission = await connect(address, seeds["admission"], "admission")
            stack.push_async_callback(admission.close)
            await Admission(admission, seeds["issuer"], admit).start()

        database = postgres.database()
        await grant_keys(database, SESSIONS)
        parts = {
            f"miner-{number}": Part("miner", f"miner-{number}", urls, seeds[f"miner-{number}"].hex(), number=number)
            for number in range(MINERS)
        } | {
            f"r{number}": Part(
                "router",
                f"r{number}",
                urls,
                seeds["router"].hex(),
                database=database,
                port=remembered_port(tmp_path / f"router-{number}"),
                miners=MINERS,
                sessions=SESSIONS,
            )
            for number in range(ROUTERS)
        }
        running = Fleet(parts, {}, servers, postgres, database, tmp_path)
        for name in parts:
            running.start(name)
        try:
            await until_serving(running)
            yield running
        finally:
            for process in running.processes.values():
                process.kill()
                process.wait()


async def until_serving(fleet: Fleet) -> None:
    """Every router gives an answer."""
    async with asyncio.timeout(40), aiohttp.ClientSession() as http:
        for number, address in enumerate(fleet.addresses):
            while True:
                with suppress(aiohttp.ClientError):
                    if await ask(http, address, number % SESSIONS, "Are you there?"):
                        break
                await asyncio.sleep(0.1)


async def ask(http: aiohttp.ClientSession, address: str, session: int, prompt: str) -> tuple[str, str] | None:
    """The answer's text and its receipt's id if it is complete, `None` after an error event. Raises `ClientError`."""
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    headers = {"authorization": f"Bearer {api_key(session)}"}
    async with http.post(f"{address}/v1/chat/completions", json=body, headers=headers) as response:
        if response.status != 200:
            raise aiohttp.ClientError(f"{response.status} {(await response.json())['error']['code']}")
        text, is_done = "", False
        async for event in events(response.content.iter_any()):
            if event.name == "tristrata.receipt":
                return (text, json.loads(event.data)["receipt"]["request_id"]) if is_done else None
            if event.data == "[DONE]":
                is_done = True
                continue
            data = json.loads(event.data)
            if "error" in data:
                raise aiohttp.ClientError(f"event {data['error']['code']}")
            text += data["choices"][0]["delta"].get("content") or ""
    raise aiohttp.ClientError("the stream ended early")


async def ask_any(
    http: aiohttp.ClientSession, addresses: list[str], session: int, prompt: str, tally: Tally
) -> tuple[str, str] | None:
    """As `ask`, of the first router that takes the connection."""
    for address in addresses:
        try:
            return await ask(http, address, session, prompt)
        except aiohttp.ClientConnectorError:
            tally.refused += 1
    raise aiohttp.ClientError("no router takes connections")


async def keep_asking(fleet: Fleet, session: int, tally: Tally, stop: asyncio.Event) -> None:
    """One client behind a load balancer: asks any router that takes connections; after an error, the next question."""
    chance, last = random.Random(session), time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
        number = 0
        while not stop.is_set():
            number += 1
            tally.asked += 1
            prompt = f"session {session}, question {number}"
            try:
                answered = await ask_any(http, chance.sample(fleet.addresses, ROUTERS), session, prompt, tally)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                tally.errors[str(error).split("[")[0][:60] or type(error).__name__] += 1
                await asyncio.sleep(0.05)
                continue
            assert answered is not None
            text, request_id = answered
            if text != "".join(answer_to(prompt)):
                tally.wrong.append(f"{prompt}: {text}")
            tally.complete[request_id] = session
            tally.longest_gap = max(tally.longest_gap, time.monotonic() - last)
            last = time.monotonic()


@pytest.mark.timeout(240)
async def test_fleet__each_part_is_killed_under_load__nothing_is_lost_or_charged_twice(fleet: Fleet) -> None:
    tally, stop = Tally(), asyncio.Event()
    clients = [asyncio.create_task(keep_asking(fleet, number, tally, stop)) for number in range(SESSIONS)]
    story = []

    async def phase(what: str, seconds: float) -> None:
        asked, complete, errors = tally.asked, len(tally.complete), sum(tally.errors.values())
        tally.longest_gap = 0.0
        await asyncio.sleep(seconds)
        story.append(
            f"{what}: {tally.asked - asked} asked, {len(tally.complete) - complete} answered, "
            f"{sum(tally.errors.values()) - errors} errors, longest wait {tally.longest_gap:.1f} s"
        )

    await phase("all run", 2)
    for number in range(ROUTERS):
        fleet.kill(f"r{number}")
        await phase(f"router r{number} is killed", 4.5)
        fleet.start(f"r{number}")
        await phase("it is back", 2.5)
    # A router that is not dead but does not know what the others did meanwhile: its fences are too low.
    fleet.processes["r0"].send_signal(signal.SIGSTOP)
    await phase("router r0 is paused", 5)
    fleet.processes["r0"].send_signal(signal.SIGCONT)
    await phase("it goes on", 2)
    for number, server in enumerate(fleet.servers):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await phase(f"NATS server n{number} is killed", 1.5)
        await server.start()
        await phase("it is back", 1)
    await asyncio.to_thread(fleet.postgres.crash_and_restart)
    await phase("PostgreSQL has crashed and is back", 3)
    stop.set()
    await asyncio.gather(*clients)
    print(*story, f"errors: {dict(tally.errors)}", sep="\n")

    assert tally.wrong == []
    database = await Database.open(fleet.database)
    book = ReceiptBook(database)
    kept: dict[str, BookEntry] = {}
    for number in range(SESSIONS):
        entries = await book.entries(session_id(number))
        assert [entry.position for entry in entries] == list(range(len(entries)))
        check_money(entries)
        kept |= {f"0x{entry.receipt.request_id.hex()}": entry for entry in entries}
        assert [
            entry for entry in entries if tally.complete.get(f"0x{entry.receipt.request_id.hex()}", number) != number
        ] == []
    await database.close()
    assert set(tally.complete) <= set(kept)
    print(f"{len(tally.complete)} answers complete, {len(kept)} in the book, {sum(tally.errors.values())} errors")
    assert len(tally.complete) > 100
    # An answer whose end a client did not see may be in the book, for the miner gave it; no more than were in flight.
    assert len(kept) - len(tally.complete) - ROUTERS <= sum(tally.errors.values())


def check_money(entries: list[BookEntry]) -> None:
    """Each receipt is signed by its miner and paid once; the newest voucher acknowledges them all."""
    signers = {miner_address(number): address_of(signing_key(number).public_key) for number in range(MINERS)}
    paid = 0
    for entry in entries:
        paid += entry.receipt.price
        voucher = entry.voucher
        assert voucher.voucher.cumulative == paid == sum(split.amount for split in voucher.splits)
        assert voucher.voucher.count == entry.position + 1
        message = digest(SEPARATOR, entry.receipt.struct_hash)
        require_signer(message, entry.signature, signers[entry.receipt.miner], "the receipt")
        message = digest(SEPARATOR, voucher.voucher.struct_hash)
        require_signer(message, voucher.signature, address_of(SESSION_KEY.public_key), "the voucher")
