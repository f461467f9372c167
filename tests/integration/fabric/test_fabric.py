"""The fabric over a real nats-server: who gets in, who may say what, and what survives a restart."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tristrata.fabric import subjects
from tristrata.fabric.admission import Admission
from tristrata.fabric.connection import Replies, ReplyInbox, connect, settle
from tristrata.fabric.frames import Delta, Reply, encode_replies
from tristrata.fabric.keys import new_seed, public_bytes, public_text
from tristrata.fabric.server import FabricServer
from tristrata.protocol.ids import Address

MINER, OTHER = Address(b"\x01" * 20), Address(b"\x02" * 20)
REQUEST = b"\x07" * 32


@dataclass
class Fabric:
    server: FabricServer
    url: str
    seeds: dict[str, bytes]
    connections: list[Client]

    async def connect(self, name: str) -> Client:
        connection = await connect(self.url, self.seeds[name], name)
        self.connections.append(connection)
        return connection


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Fabric]:
    seeds = {name: new_seed() for name in ("router", "admission", "issuer", "miner", "other", "stranger")}
    server = FabricServer(
        tmp_path, router_seed=seeds["router"], admission_seed=seeds["admission"], issuer_seed=seeds["issuer"]
    )
    fabric = Fabric(server, await server.start(), seeds, [])
    registered = {public_bytes(seeds["miner"]): MINER, public_bytes(seeds["other"]): OTHER}

    async def admit(key: bytes) -> Address | None:
        return registered.get(key)

    await Admission(await fabric.connect("admission"), seeds["issuer"], admit).start()
    yield fabric
    for connection in fabric.connections:
        await connection.close()
    await server.stop()


async def stream(miner: Client, count: int) -> None:
    async def answer(message: Msg) -> None:
        for number in range(count):
            await message.respond(encode_replies([Delta(str(number), 1)]))

    await miner.subscribe(subjects.task(MINER), cb=answer)
    await settle(miner)


async def ask(router: Client, inbox: ReplyInbox, count: int) -> list[str]:
    replies = inbox.open(MINER, REQUEST)
    await router.publish(subjects.task(MINER), b"", reply=subjects.reply("r", MINER, REQUEST))
    frames: list[Reply] = []
    async with asyncio.timeout(30):
        while len(frames) < count and (arrived := await replies.get()):
            frames += arrived
    inbox.close(MINER, REQUEST)
    return [frame.text for frame in frames if isinstance(frame, Delta)]


async def test_task__admitted_miner__streams_hundreds_of_frames_in_order(fabric: Fabric) -> None:
    router, miner = await fabric.connect("router"), await fabric.connect("miner")
    inbox = ReplyInbox(router, "r")
    await inbox.start()
    await stream(miner, 300)

    assert await ask(router, inbox, 300) == [str(number) for number in range(300)]


async def test_connect__stranger_or_stolen_name__is_refused(fabric: Fabric) -> None:
    async def attempt(**options: object) -> None:
        connection = await nats.connect(fabric.url, allow_reconnect=False, max_reconnect_attempts=0, **options)
        await connection.close()

    from tristrata.fabric.keys import seed_text

    with pytest.raises(nats.errors.Error, match="(?i)authorization"):
        await attempt(nkeys_seed_str=seed_text(fabric.seeds["stranger"]).decode())
    with pytest.raises(nats.errors.Error, match="(?i)authorization"):
        await attempt(user=public_text(fabric.seeds["miner"]), password="")
    with pytest.raises(nats.errors.Error, match="(?i)authorization"):
        await attempt()


async def test_publish__to_an_inbox_that_asked_nothing_of_it__is_refused(fabric: Fabric) -> None:
    router, other = await fabric.connect("router"), await fabric.connect("other")
    inbox = ReplyInbox(router, "r")
    await inbox.start()
    replies = inbox.open(MINER, REQUEST)

    await other.publish(subjects.reply("r", MINER, REQUEST), encode_replies([Delta("forged", 1)]))
    await settle(other)
    await settle(router)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(replies.get(), 0.2)


async def test_subscribe__to_another_miners_tasks__gets_nothing(fabric: Fabric) -> None:
    router, other = await fabric.connect("router"), await fabric.connect("other")
    heard: list[Msg] = []

    async def listen(message: Msg) -> None:
        heard.append(message)

    await other.subscribe(subjects.task(MINER), cb=listen)
    await settle(other)
    await router.publish(subjects.task(MINER), b"secret")
    await settle(router)
    await settle(other)
    assert heard == []


async def test_publish__to_its_own_inbox_of_anothers_request__is_not_heard(fabric: Fabric) -> None:
    router, other = await fabric.connect("router"), await fabric.connect("other")
    inbox = ReplyInbox(router, "r")
    await inbox.start()
    replies = inbox.open(MINER, REQUEST)

    await other.publish(subjects.reply("r", OTHER, REQUEST), encode_replies([Delta("forged", 1)]))
    await settle(other)
    await settle(router)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(replies.get(), 0.2)


async def test_respond__to_a_place_that_is_not_the_miners_own__is_refused(fabric: Fabric) -> None:
    router, miner = await fabric.connect("router"), await fabric.connect("miner")
    heard: list[Msg] = []

    async def listen(message: Msg) -> None:
        heard.append(message)

    await router.subscribe("router.r.elsewhere", cb=listen)
    await stream(miner, 1)
    await router.publish(subjects.task(MINER), b"", reply="router.r.elsewhere")
    await settle(router)
    await settle(miner)
    await settle(router)
    assert heard == []


async def test_task__nobody_listens__is_said_at_once(fabric: Fabric) -> None:
    router = await fabric.connect("router")
    inbox = ReplyInbox(router, "r")
    await inbox.start()
    replies = inbox.open(OTHER, REQUEST)

    await router.publish(subjects.task(OTHER), b"", reply=subjects.reply("r", OTHER, REQUEST))
    assert await asyncio.wait_for(replies.get(), 5) == []


async def test_replies__nobody_reads_them__end_at_a_bound_after_what_had_come() -> None:
    replies = Replies()
    message = encode_replies([Delta("x" * 1_000_000, 1)])
    for _ in range(5):
        replies.put(message)

    assert len(await replies.get()) == 5
    assert await replies.get() == []


async def test_replies__not_a_frame__ends_the_answer() -> None:
    replies = Replies()
    replies.put(b"\xc1")

    assert await replies.get() == []


async def test_server__restarted__both_sides_come_back_and_stream(fabric: Fabric) -> None:
    router, miner = await fabric.connect("router"), await fabric.connect("miner")
    inbox = ReplyInbox(router, "r")
    await inbox.start()
    await stream(miner, 3)

    await fabric.server.stop()
    assert await fabric.server.start() == fabric.url
    for connection in (router, miner):
        async with asyncio.timeout(15):
            while not connection.is_connected:
                await asyncio.sleep(0.05)
    await settle(miner)
    await settle(router)
    assert await ask(router, inbox, 3) == ["0", "1", "2"]
