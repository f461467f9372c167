"""Memory over 100,000 answers: of the router above all, which keeps every session's state in memory."""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import psutil

from benchmarks.load import ask
from benchmarks.network import check_book, network
from benchmarks.report import Goal, Section, table

AT_ONCE = 32
MOST_GROWTH = 0.01
"""What counts as none: of the resident memory once warm, to the end."""

_SHOWN = 10


class _Plan(msgspec.Struct, frozen=True):
    """How many answers, of which the first ``warm`` fill what is bounded; given up after ``most_seconds``."""

    answers: int
    warm: int
    step_seconds: float
    most_seconds: float


_FULL = _Plan(answers=100_000, warm=20_000, step_seconds=1.0, most_seconds=110)
_QUICK = _Plan(answers=1_000, warm=500, step_seconds=0.3, most_seconds=10)


class Sample(msgspec.Struct, frozen=True):
    """Resident memory, bytes, of each process after so many answers."""

    answers: int
    resident: dict[str, int]


async def measure(*, quick: bool) -> Section:
    """Ask for many answers, look at the processes now and then, check the receipt book, end everything."""
    plan = _QUICK if quick else _FULL
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tristrata-bench-")))
        ours = await stack.enter_async_context(network(folder, sessions=AT_ONCE))
        began, samples = time.monotonic(), [_look(0, ours.pids)]
        while samples[-1].answers < plan.answers and time.monotonic() < began + plan.most_seconds:
            load = await ask(ours.target, concurrency=AT_ONCE, seconds=plan.step_seconds)
            samples.append(_look(samples[-1].answers + load.answers, ours.pids))
        await asyncio.sleep(plan.step_seconds)  # what is ending is let go of
        samples.append(_look(samples[-1].answers, ours.pids))
        await check_book(ours.book, samples[-1].answers)
    return section(samples, plan.answers, plan.warm)


def section(samples: list[Sample], wanted: int, warm: int) -> Section:
    """What the samples say: grown or not, from the first of at least ``warm`` answers to the last."""
    settled = next((sample for sample in samples if sample.answers >= warm), samples[-1])
    last = samples[-1]
    before, after = settled.resident["router"], last.resident["router"]
    growth = after / before - 1
    goal = Goal(
        f"growth of the router's memory over {wanted:,} answers, once warm",
        f"none (≤ {MOST_GROWTH:.0%})",
        f"{growth:+.2%} from {settled.answers:,} to {last.answers:,}",
        growth <= MOST_GROWTH if last.answers >= wanted else None,
    )
    names = list(last.resident)
    rows = [[f"{sample.answers:,}", *(_mib(sample.resident[name]) for name in names)] for sample in _some(samples)]
    body = _BODY.format(
        many=AT_ONCE,
        rows=table(["answers before", *(f"{name}, MiB" for name in names)], rows),
        settled=settled.answers,
        last=last.answers,
        growth=(after - before) / 2**10,
        an_answer=(after - before) / max(1, last.answers - settled.answers),
    )
    return Section("Router: memory", [goal], body)


def _look(answers: int, pids: dict[str, int]) -> Sample:
    return Sample(answers, {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()})


def _some(samples: list[Sample]) -> list[Sample]:
    """The first and the last, and those between that are about equally far apart."""
    shown, step = [samples[0]], samples[-1].answers / _SHOWN
    for sample in samples[1:-1]:
        if sample.answers >= len(shown) * step and sample.answers < samples[-1].answers:
            shown.append(sample)
    return [*shown, samples[-1]]


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


_BODY = """\
{many} at once, streaming, as above; every answer is a receipt in the book and a leaf in its session's tree. Resident
memory of each process after so many answers; the last line is one second after the last of them:

{rows}

From {settled:,} to {last:,} answers the router has grown by {growth:,.0f} KiB: {an_answer:.1f} bytes an answer."""
