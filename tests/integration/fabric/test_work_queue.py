"""The queue over real nats-servers: nothing is lost, nothing is done by two, whoever dies."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from tests.integration.fabric.test_fabric import Fabric, fabric  # noqa: F401
from tristrata.fabric import work_queue
from tristrata.fabric.connection import connect
from tristrata.fabric.keys import new_seed
from tristrata.fabric.server import Cluster, FabricServer
from tristrata.fabric.work_queue import QueueUnavailable, WorkQueue


@pytest.fixture
async def router(fabric: Fabric) -> Client:  # noqa: F811
    return await fabric.connect("router")


async def test_take__work_that_was_put__is_given_once_and_gone_when_finished(router: Client) -> None:
    here, there = WorkQueue(router, "batches"), WorkQueue(router, "batches")
    await here.put("one")

    work = await there.take(5)

    assert work is not None and work.name == "one"
    assert await here.take(0.3) is None
    await work.finish()
    assert await here.take(0.3) is None


async def test_put__name_that_is_in_or_being_done__changes_nothing(router: Client) -> None:
    queue = WorkQueue(router, "batches")
    await queue.put("one")
    await queue.put("one")
    work = await queue.take(5)
    assert work is not None
    await queue.put("one")

    assert await queue.take(0.3) is None
    await work.finish()
    assert await queue.take(0.3) is None
    await queue.put("one")
    assert await queue.take(5) is not None


async def test_give_back__work__is_taken_again_after_the_delay(router: Client) -> None:
    queue = WorkQueue(router, "batches")
    await queue.put("one")
    work = await queue.take(5)
    assert work is not None

    await work.give_back(0.5)

    assert await queue.take(0.2) is None
    assert await queue.take(5) is not None


async def test_take__whoever_had_it_is_silent__is_given_to_another(
    router: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_queue, "ACK_SECONDS", 1.0)
    queue = WorkQueue(router, "batches")
    await queue.put("one")
    held = await queue.take(5)
    assert held is not None

    for _ in range(4):  # two seconds, twice what it may be silent
        await asyncio.sleep(0.5)
        await held.go_on()
    assert await queue.take(0.1) is None

    assert await queue.take(5) is not None


async def test_take__after_the_server_was_killed__has_what_was_put(fabric: Fabric, router: Client) -> None:  # noqa: F811
    queue = WorkQueue(router, "batches")
    await queue.put("one")

    await fabric.server.stop()
    with pytest.raises(QueueUnavailable, match="'batches' cannot be used"):
        await queue.put("one")
    await fabric.server.start()

    async with asyncio.timeout(30):
        while True:
            try:
                work = await queue.take(1)
            except QueueUnavailable:
                continue
            if work is not None:
                break
    assert work.name == "one"


async def test_put__by_a_miner__is_refused(fabric: Fabric, router: Client) -> None:  # noqa: F811
    queue = WorkQueue(router, "batches")
    assert await queue.take(0.1) is None  # the stream is there

    with pytest.raises(QueueUnavailable):
        await WorkQueue(await fabric.connect("miner"), "batches").put("forged")

    assert await queue.take(0.3) is None


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[list[FabricServer], str, bytes]]:
    ports = tuple(_free_port() for _ in range(3))
    router, admission, issuer = new_seed(), new_seed(), new_seed()
    servers = [
        FabricServer(
            tmp_path / str(number),
            router_seed=router,
            admission_seed=admission,
            issuer_seed=issuer,
            cluster=Cluster(f"n{number}", port, ports),
        )
        for number, port in enumerate(ports)
    ]
    urls = [await server.start() for server in servers]
    yield servers, ",".join(urls), router
    for server in servers:
        await server.stop()


async def test_take__one_of_three_servers_is_gone__has_what_was_put(
    cluster: tuple[list[FabricServer], str, bytes],
) -> None:
    servers, urls, seed = cluster
    connection = await connect(urls, seed, "r1")
    queue = WorkQueue(connection, "batches")
    await _until_it_works(queue, "one")

    await servers[0].stop()

    async with asyncio.timeout(60):
        while True:
            try:
                work = await queue.take(1)
            except QueueUnavailable:
                continue
            if work is not None:
                break
    assert work.name == "one"
    await connection.close()


async def _until_it_works(queue: WorkQueue, name: str) -> None:
    """A cluster takes some seconds to choose its leader."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await queue.put(name)
            except QueueUnavailable:
                await asyncio.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
