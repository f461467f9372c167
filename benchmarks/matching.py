"""Matching one task among 100,000 miners, with statuses as they are heard over the fabric."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
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
    miners, calls = (5_000, 10) if quick else (_MINERS, 40)
    rows, slowest = [], 0.0
    for models in (len(_MODELS), 1):
        statuses = _statuses(miners, models)
        presence, hearing = await _heard(statuses)
        book, bound = make_session(0).book, Address(statuses[miners // 2].miner)
        unbound = _time(partial(match, HUB, MODEL_ID, book, statuses), calls)
        bound_to_one = _time(partial(match, HUB, MODEL_ID, book, statuses, bound=bound), calls)
        listing = _time(presence.statuses, calls)
        slowest = max(slowest, percentile(unbound, 99), percentile(bound_to_one, 99))
        offered = sum(any(offer.model_id == MODEL_ID for offer in status.offers) for status in statuses)
        what = f"{'one model' if models == 1 else f'{models} models'}, {offered:,} miners offer the one asked for"
        rows += [
            [f"{what}: match", *_cells(unbound)],
            [f"{what}: match, session bound to a miner", *_cells(bound_to_one)],
            [f"{what}: list of who is there, before each match", *_cells(listing)],
        ]
    goals = [Goal(f"match one task among {miners:,} miners, p99", "≤ 1 ms", f"{slowest:,.1f} ms", slowest <= 1)]
    body = _BODY.format(
        miners=miners,
        calls=calls,
        rows=table(["what", "p50, ms", "p99, ms"], rows),
        hearing=hearing * 1_000_000 / miners,
        cores=hearing / miners * _MINERS,
        all_miners=_MINERS,
    )
    return Section("Matching", goals, body)


def _cells(samples: Sequence[float]) -> list[str]:
    return [f"{percentile(samples, percent):,.2f}" for percent in (50, 99)]


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


async def _heard(statuses: Sequence[Status]) -> tuple[Presence, float]:
    """A presence that has heard all of them, and the seconds that took."""
    connection = _Connection()
    presence = Presence(connection, clock=lambda: 0.0)  # type: ignore[arg-type]
    await presence.start()
    client = Client()
    messages = [Msg(client, subjects.status(Address(status.miner)), data=encode(status)) for status in statuses]
    started = time.perf_counter()
    for message in messages:
        await connection.hear(message)
    return presence, time.perf_counter() - started


class _Connection:
    """As much of a NATS connection as `Presence` uses; it keeps the callback."""

    async def subscribe(self, _: str, cb: Callable[[Msg], Any]) -> None:
        self.hear = cb

    async def flush(self) -> None:
        """Nothing waits."""

    async def publish(self, _: str, __: bytes) -> None:
        """Nobody listens."""


_BODY = """\
`match()` among {miners:,} statuses in one process, {calls} calls each (so that p99 is the slowest call). Prices, load
and speed are random; a third of the prices lies above the session's ceilings. Before each match the router lists who
was heard lately, which is timed apart.

{rows}

To take in one status costs {hearing:.1f} µs, without the NATS client's part; {all_miners:,} miners that tell theirs
once a second would fill {cores:.1f} cores of a router."""
