"""Matching one task among 100,000 miners that tell their statuses over the fabric, and taking those in."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.network import HUB, MODEL_ID, make_session
from benchmarks.report import Goal, Section, table
from benchmarks.stats import percentile
from tristrata.fabric import subjects
from tristrata.fabric.frames import Offer, Status, encode
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address
from tristrata.protocol.voucher_book import VoucherBook
from tristrata.router.matching import NoCapacity
from tristrata.router.presence import Presence

_MINERS = 100_000
_MODELS = [MODEL_ID, *(keccak(b"model %d" % number) for number in range(1, 10))]


async def measure(*, quick: bool) -> Section:
    """Match at a constant clock, so that nobody falls silent meanwhile."""
    miners, calls = (5_000, 100) if quick else (_MINERS, 2_000)
    rows, slowest, costs = [], 0.0, []
    for models in (len(_MODELS), 1):
        statuses = _statuses(miners, models)
        presence, first, again = await _heard(statuses)
        costs.append([f"{models}", f"{first * 1_000_000 / miners:.1f}", f"{again * 1_000_000 / miners:.1f}"])
        book, bound = make_session(0).book, Address(statuses[miners // 2].miner)
        poor = msgspec.structs.replace(book, terms=msgspec.structs.replace(book.terms, max_output_price=10_100))

        def match(book: VoucherBook, presence: Presence = presence, **options: Any) -> None:
            with suppress(NoCapacity):
                presence.market.match(HUB, MODEL_ID, book, **options)

        samples = {
            "any session": _time(partial(match, book), calls),
            "session bound to a miner": _time(partial(match, book, bound=bound), calls),
            "price ceiling below nearly all": _time(partial(match, poor), calls),
        }
        slowest = max(slowest, *(percentile(each, 99) for each in samples.values()))
        offered = sum(any(offer.model_id == MODEL_ID for offer in status.offers) for status in statuses)
        rows += [[f"{models}", f"{offered:,}", what, *_cells(each)] for what, each in samples.items()]
    goals = [Goal(f"match one task among {miners:,} miners, p99", "≤ 1 ms", f"{slowest:,.3f} ms", slowest <= 1)]
    body = _BODY.format(
        miners=miners,
        calls=calls,
        rows=table(["models", "miners that offer it", "match for", "p50, ms", "p99, ms"], rows),
        costs=table(["models", "first status of a miner, µs", "another one, µs"], costs),
    )
    return Section("Matching", goals, body)


def _cells(samples: Sequence[float]) -> list[str]:
    return [f"{percentile(samples, percent):,.4f}" for percent in (50, 99)]


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


async def _heard(statuses: Sequence[Status]) -> tuple[Presence, float, float]:
    """A presence that has heard all of them twice, and the seconds that each time took.

    The second time, one in ten is free that was not, or the reverse.
    """
    connection = _Connection()
    presence = Presence(connection, clock=lambda: 0.0)  # type: ignore[arg-type]
    await presence.start()
    client = Client()
    later = [
        msgspec.structs.replace(status, busy=0 if status.busy >= status.slots else status.slots)
        if number % 10 == 0
        else status
        for number, status in enumerate(statuses)
    ]
    took = []
    for told in (later, statuses):
        messages = [Msg(client, subjects.status(Address(status.miner)), data=encode(status)) for status in told]
        started = time.perf_counter()
        for message in messages:
            await connection.hear(message)
        took.append(time.perf_counter() - started)
    return presence, took[0], took[1]


class _Connection:
    """As much of a NATS connection as `Presence` uses; it keeps the callback."""

    async def subscribe(self, _: str, cb: Callable[[Msg], Any]) -> None:
        self.hear = cb

    async def flush(self) -> None:
        """Nothing waits."""

    async def publish(self, _: str, __: bytes) -> None:
        """Nobody listens."""


_BODY = """\
`Market.match()` among {miners:,} miners in one process, {calls:,} calls each. Prices, load and speed are random; a
third of the prices lies above the session's ceilings, and nearly all above those of the last kind, whose match fails
after looking at the 1,280 that may fit.

{rows}

To take in a status, without the NATS client's part; the second time, one miner in ten has become free or busy:

{costs}"""
