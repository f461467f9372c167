"""Matching one task among 100,000 miners, with statuses as they are heard over the fabric."""

import random
import time
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.network import HUB, MODEL_ID, make_session
from benchmarks.report import Goal, Section, table
from benchmarks.stats import percentile
from tristrata.fabric import subjects
from tristrata.fabric.frames import Offer, Status, encode
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address
from tristrata.router.matching import match
from tristrata.router.presence import Presence

_MINERS = 100_000
_MODELS = [MODEL_ID, *(keccak(b"model %d" % number) for number in range(1, 10))]


async def measure(*, quick: bool) -> Section:
    """Match at a constant clock, so that nobody falls silent meanwhile."""
    miners = 5_000 if quick else _MINERS
    calls = 10 if quick else 100
    rows, p99 = [], {}
    for name, models in (("ten models, a third of the miners has the one asked for", 10), ("one model", 1)):
        presence = await _heard(_statuses(miners, models))
        statuses = presence.statuses()
        book = make_session(0).book
        bound = Address(statuses[miners // 2].miner)
        cases: dict[str, Callable[[], Any]] = {
            "match": lambda statuses=statuses, book=book: match(HUB, MODEL_ID, book, statuses),
            "match, session bound to a miner": lambda statuses=statuses, book=book, bound=bound: match(
                HUB, MODEL_ID, book, statuses, bound=bound
            ),
            "list of who is there, before each match": presence.statuses,
        }
        for case, call in cases.items():
            samples = _time(call, calls)
            p99[name, case] = percentile(samples, 99)
            rows.append([f"{name}: {case}", *(f"{percentile(samples, percent):,.2f}" for percent in (50, 99))])
    worst = max(p99.values())
    goals = [Goal(f"match one task among {miners:,} miners, p99", "≤ 1 ms", f"{worst:,.1f} ms", worst <= 1)]
    body = _BODY.format(miners=miners, calls=calls, rows=table(["what", "p50, ms", "p99, ms"], rows))
    return Section("Matching", goals, body)


def _time(call: Callable[[], Any], calls: int) -> list[float]:
    samples = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        samples.append((time.perf_counter() - started) * 1_000)
    return samples


def _statuses(miners: int, models: int) -> list[Status]:
    chance = random.Random(7)
    statuses = []
    for number in range(miners):
        offers = tuple(
            Offer(HUB, model, chance.randrange(10_000, 1_500_000), chance.randrange(10_000, 1_500_000))
            for model in chance.sample(_MODELS[:models], k=min(models, chance.randrange(1, 6)))
        )
        slots = chance.randrange(1, 17)
        busy, speed = chance.randrange(0, slots + 1), chance.uniform(0, 200)
        statuses.append(
            Status(
                miner=keccak(b"%d" % number)[:20],
                run=b"",
                offers=offers,
                slots=slots,
                busy=busy,
                region="",
                speed=speed,
                draining=chance.random() < 0.01,
            )
        )
    return statuses


async def _heard(statuses: list[Status]) -> Presence:
    connection = _Connection()
    presence = Presence(connection, clock=lambda: 0.0)  # type: ignore[arg-type]
    await presence.start()
    for status in statuses:
        await connection.hear(Msg(Client(), subjects.status(Address(status.miner)), data=encode(status)))
    return presence


class _Connection:
    """As much of a NATS connection as `Presence` uses; it keeps the callback."""

    async def subscribe(self, _: str, cb: Callable[[Msg], Any]) -> None:
        self.hear = cb

    async def flush(self) -> None:
        """Nothing waits."""

    async def publish(self, _: str, __: bytes) -> None:
        """Nobody listens."""


_BODY = """\
`match()` among {miners:,} statuses in one process, {calls} calls each; prices, load and speed are random, a third of the
prices lies above the session's ceilings. Before each match the router lists who was heard lately, which is timed apart.

{rows}"""
