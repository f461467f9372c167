"""The router against a bare pass-through and against the stub itself: time to first token, answers a second."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from benchmarks import passthrough, stub
from benchmarks.answer import AHEAD_SECONDS, AHEAD_SEED, PIECES
from benchmarks.children import Usage, child, free_port, usage
from benchmarks.load import Load, Target, ask
from benchmarks.network import check_book, network
from benchmarks.report import Goal, Section, bars, table
from benchmarks.stats import Spread, spread

MANY = 32
MOST_ADDED_MS, LEAST_RATIO = 1.0, 0.35
_STUB, _FLOOR, _ROUTER = "stub, asked directly", "pass-through", "router, full path"
_AHEAD = "router, first piece ahead"
_PATHS = (_STUB, _ROUTER, _FLOOR)
_PATHS_OF_ONE = (*_PATHS, _AHEAD)
_DISTURBED_SHARE = 0.1


class _Plan(msgspec.Struct, frozen=True):
    """How much to measure, in seconds; ``spare`` rounds replace disturbed ones while ``most_seconds`` lasts."""

    rounds: int
    spare: int
    one: float
    many: float
    warm_up: float
    most_seconds: float


_FULL = _Plan(rounds=6, spare=3, one=1.5, many=2.0, warm_up=0.7, most_seconds=105)
_QUICK = _Plan(rounds=1, spare=0, one=0.5, many=0.5, warm_up=0.2, most_seconds=20)


class _Round(msgspec.Struct, frozen=True):
    """One round of all paths, each alone: first one at a time, then many at once, with the processor time of these.

    ``disturbance`` is the share of all cores that others used, 1 at most, while the worst disturbed path was asked.
    """

    one: dict[str, Load]
    many: dict[str, Load]
    used: dict[str, Usage]
    disturbance: float

    @property
    def receipts(self) -> int:
        """How many answers the router gave."""
        return sum(self.one[path].answers for path in (_ROUTER, _AHEAD)) + self.many[_ROUTER].answers


async def measure(*, quick: bool) -> Section:
    """Start everything, measure in interleaved rounds, check the receipt book, end everything."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tristrata-bench-")))
        stub_port, floor_port = free_port(), free_port()
        stub_pid = await stack.enter_async_context(child("stub", stub.run, stub_port, port=stub_port))
        floor_pid = await stack.enter_async_context(
            child("pass-through", passthrough.run, floor_port, stub_port, port=floor_port)
        )
        ours = await stack.enter_async_context(network(folder, sessions=MANY))
        targets = {
            _STUB: Target("stub", stub_port),
            _FLOOR: Target("pass-through", floor_port),
            _ROUTER: ours.target,
            _AHEAD: msgspec.structs.replace(ours.target, seed=AHEAD_SEED),
        }
        pids = {"stub": stub_pid, "pass-through": floor_pid, **ours.pids}
        rounds, receipts = await _rounds(_QUICK if quick else _FULL, targets, pids)
        await check_book(ours.book, receipts)
    return _section(rounds, receipts)


async def _rounds(plan: _Plan, targets: dict[str, Target], pids: dict[str, int]) -> tuple[list[_Round], int]:
    """The least disturbed rounds, and how many answers the router gave in all."""
    began, rounds, receipts = time.monotonic(), list[_Round](), 0
    for path in _PATHS:
        warm = await ask(targets[path], concurrency=MANY, seconds=plan.warm_up)
        receipts += warm.answers if path == _ROUTER else 0
    first_began = time.monotonic()
    while sum(each.disturbance <= _DISTURBED_SHARE for each in rounds) < plan.rounds:
        done = len(rounds)
        a_round = (time.monotonic() - first_began) / done if done else 0.0
        if done >= plan.rounds + plan.spare or time.monotonic() + a_round > began + plan.most_seconds:
            break
        rounds.append(await _round(plan, targets, pids))
        receipts += rounds[-1].receipts
        _tell(rounds)
    quietest = sorted(rounds, key=lambda each: each.disturbance)
    return quietest[: plan.rounds], receipts


async def _round(plan: _Plan, targets: dict[str, Target], pids: dict[str, int]) -> _Round:
    disturbance = 0.0

    async def take(path: str, concurrency: int, seconds: float) -> tuple[Load, Usage]:
        nonlocal disturbance
        before = usage(pids)
        load = await ask(targets[path], concurrency=concurrency, seconds=seconds)
        used = usage(pids).since(before)
        disturbance = max(disturbance, used.others / load.seconds / (os.cpu_count() or 1))
        return load, used

    one = {path: (await take(path, 1, plan.one))[0] for path in _PATHS_OF_ONE}
    many = {path: await take(path, MANY, plan.many) for path in _PATHS}
    loads, used = ({path: taken[part] for path, taken in many.items()} for part in (0, 1))
    return _Round(one, loads, used, disturbance)  # type: ignore[arg-type]


def _tell(rounds: Sequence[_Round]) -> None:
    done = rounds[-1]
    first = ", ".join(f"{path} {done.one[path].first_token_ms(50):.2f}" for path in _PATHS)
    rates = ", ".join(f"{path} {done.many[path].answers_per_second:,.0f}" for path in _PATHS)
    print(f"  round {len(rounds)}, others used {done.disturbance:.0%}")
    print(f"    first token p50 at 1, ms: {first}")
    print(f"    answers/s at {MANY}: {rates}", flush=True)


def _section(rounds: list[_Round], receipts: int) -> Section:
    def over(value: Callable[[_Round], float]) -> Spread:
        return spread([value(each) for each in rounds])

    def added(path: str) -> Spread:
        return over(lambda each: each.one[path].first_token_ms(50) - each.one[_STUB].first_token_ms(50))

    ratio = over(lambda each: each.many[_ROUTER].answers_per_second / each.many[_FLOOR].answers_per_second)
    rates = {path: _over(rounds, "many", path, lambda load: load.answers_per_second) for path in (_ROUTER, _FLOOR)}
    first = {path: _over(rounds, "one", path, lambda load: load.first_token_ms(50)) for path in _PATHS_OF_ONE}
    body = _BODY.format(
        pieces=len(PIECES),
        pause=AHEAD_SECONDS * 1_000,
        rounds=len(rounds),
        share=_DISTURBED_SHARE,
        receipts=receipts,
        many=MANY,
        one_table=_table_of_one(rounds),
        added=added(_ROUTER).text(),
        ahead_added=added(_AHEAD).text(),
        floor_added=added(_FLOOR).text(),
        times=over(lambda each: each.one[_ROUTER].first_token_ms(50) / each.one[_FLOOR].first_token_ms(50)).text(),
        many_table=_table_of_many(rounds),
        ratio=ratio.text(),
        used_table=_used_table(rounds),
    )
    plots = {
        "first-token.svg": bars("Time to first token, p50, one at a time (less is better)", "ms", first),
        "answers.svg": bars(f"Answers a second, {MANY} at once (more is better)", "/s", rates, digits=0),
    }
    goals = _goals(added(_ROUTER), added(_AHEAD), ratio)
    others = max(each.disturbance for each in rounds)
    return Section("Router: time to first token, and answers a second", goals, body, plots, others)


def _goals(added: Spread, ahead: Spread, ratio: Spread) -> list[Goal]:
    return [
        Goal(
            "router's added time to first token, streaming, one at a time, full path, p50",
            f"≤ {MOST_ADDED_MS:.0f} ms",
            f"{added.text()} ms; first piece ahead: {ahead.text()} ms",
            added.median <= MOST_ADDED_MS,
        ),
        Goal(
            f"router's answers/s over the pass-through's, streaming, {MANY} at once, one worker",
            f"≥ {LEAST_RATIO}",
            ratio.text(),
            ratio.median >= LEAST_RATIO,
        ),
    ]


def _over(rounds: Sequence[_Round], part: str, path: str, value: Callable[[Load], float]) -> Spread:
    return spread([value(getattr(each, part)[path]) for each in rounds])


def _table_of_one(rounds: Sequence[_Round]) -> str:
    values: tuple[Callable[[Load], float], ...] = (
        lambda load: load.first_token_ms(50),
        lambda load: load.first_token_ms(99),
        lambda load: load.end_ms(50),
    )
    rows = [[path, *(_over(rounds, "one", path, value).text() for value in values)] for path in _PATHS_OF_ONE]
    return table(["path", "first token p50, ms", "first token p99, ms", "whole answer p50, ms"], rows)


def _table_of_many(rounds: Sequence[_Round]) -> str:
    rows = [
        [
            path,
            _over(rounds, "many", path, lambda load: load.answers_per_second).text(0),
            _over(rounds, "many", path, lambda load: load.first_token_ms(50)).text(1),
            _over(rounds, "many", path, lambda load: load.first_token_ms(99)).text(1),
        ]
        for path in _PATHS
    ]
    return table(["path", "answers/s", "first token p50, ms", "first token p99, ms"], rows)


def _used_table(rounds: Sequence[_Round]) -> str:
    processes = ("router", "pass-through", "stub", "nats", "miner", "load")

    def cell(path: str, process: str) -> str:
        costs = [each.used[path].by_process[process] / each.many[path].answers * 1_000_000 for each in rounds]
        middle = spread(costs).median
        return f"{middle:,.0f}" if middle >= 5 else "–"

    names = ["load generator" if process == "load" else process for process in processes]
    return table(["path", *names], [[path, *(cell(path, process) for process in processes)] for path in _PATHS])


_BODY = """\
Three paths give the same answer, {pieces} pieces at once, streamed:

* **stub, asked directly**: a bare socket protocol that has the answer ready;
* **pass-through**, the floor: uvicorn and uvloop, a raw ASGI function, aiohttp to the stub. Nothing is parsed, and what
  arrived together is passed on together;
* **router, full path**: HTTP → the router's process (API key, checks, reservation, matching) → NATS with admission →
  the miner's process with a stub model, which signs a receipt → the router's process, which passes {pieces} pieces on,
  checks the receipt, signs the voucher, and ends the answer when both are in the receipt book (SQLite) and on disk.

**router, first piece ahead** is the same but for a stub model that pauses {pause:.0f} ms after its first piece, as real
models do; else the first piece waits until miner, NATS client and router are through with all {pieces} frames.

All processes share this machine's cores: the load generator; for the pass-through also pass-through and stub; for the
router also router, NATS and miner. One session a connection. {rounds} rounds, paths interleaved; a value is the median
of its rounds (lowest – highest). A round in which anything else used more than {share:.0%} of the cores is repeated as
time allows, and the quietest are kept. Every answer was checked for its {pieces} pieces and, through the router, its
receipt. Afterwards the book held all {receipts:,} receipts, warm-up included, the newest vouchers acknowledged all of
them, and their signatures were right.

### One at a time

{one_table}

To the time to first token (p50, minus the stub's) the router adds **{added} ms**, with the first piece ahead
{ahead_added} ms; the pass-through adds {floor_added} ms. The router's time to first token is {times} times the
pass-through's. The end of an answer waits for the disk, its first token does not.

### {many} at once

{many_table}

The router gives **{ratio}** of the pass-through's answers a second. All processes compete for the same cores
here, so that these are the rates of a whole path on this machine. What one process could do with a core of its own
follows from the processor time that an answer takes in it, in µs (medians, {many} at once):

{used_table}

Where the router's time goes, by samples of its own process (2026-11-27): a sixth is uvicorn's HTTP, a sixth signatures,
hashes and the voucher book, a seventh OpenAI's format, a seventh limits, keys and the edge, a tenth NATS, the rest
asyncio and the desk. Of these the pass-through has uvicorn, and an HTTP client that the router does not need."""
