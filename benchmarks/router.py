"""The router against a bare pass-through and against the stub itself: time to first token, answers a second."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from benchmarks import passthrough, stub
from benchmarks.children import Usage, child, free_port, usage
from benchmarks.load import Load, Target, ask
from benchmarks.network import check_book, network
from benchmarks.report import Goal, Section, bars, table
from benchmarks.stats import Spread, spread

MANY = 32
LITELLM_PER_SECOND, LITELLM_FIRST_TOKEN_MS = 20, (25.9, 859)
"""Measured earlier on this kind of machine (2 cores), LiteLLM proxy 1.106.2: at 32 at once; p50 at 1 and 32 at once."""

_STUB, _FLOOR, _ROUTER = "stub, asked directly", "pass-through", "router, full path"
_PATHS = (_STUB, _ROUTER, _FLOOR)
_DISTURBED_SHARE = 0.1


class Plan(msgspec.Struct, frozen=True):
    """How much to measure. Times are seconds; ``spare`` rounds replace disturbed ones while ``most_seconds`` lasts."""

    rounds: int
    spare: int
    one: float
    many: float
    warm_up: float
    most_seconds: float


FULL = Plan(rounds=6, spare=3, one=1.5, many=2.0, warm_up=0.7, most_seconds=100)
QUICK = Plan(rounds=1, spare=0, one=0.7, many=0.7, warm_up=0.2, most_seconds=20)


class Round(msgspec.Struct, frozen=True):
    """One round of all paths: each alone, first one at a time, then many at once. ``disturbance`` is a share of 1."""

    one: dict[str, Load]
    many: dict[str, Load]
    used: dict[str, Usage]
    disturbance: float


async def measure(*, quick: bool) -> Section:
    """Start everything, measure in interleaved rounds, check the receipt book, end everything."""
    plan = QUICK if quick else FULL
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
        }
        pids = {"stub": stub_pid, "pass-through": floor_pid, **ours.pids}
        rounds, asked = await _rounds(plan, targets, pids)
        await check_book(ours.book, asked)
    return _section(rounds, asked)


async def _rounds(plan: Plan, targets: dict[str, Target], pids: dict[str, int]) -> tuple[list[Round], int]:
    ends_at = time.monotonic() + plan.most_seconds
    warm = [await ask(targets[path], concurrency=MANY, seconds=plan.warm_up) for path in _PATHS]
    asked = warm[_PATHS.index(_ROUTER)].answers
    rounds: list[Round] = []
    longest = 0.0
    while len(rounds) < plan.rounds + plan.spare:
        started = time.monotonic()
        if rounds and started + longest > ends_at:
            break
        done = await _round(plan, targets, pids)
        longest = max(longest, time.monotonic() - started)
        rounds.append(done)
        asked += done.one[_ROUTER].answers + done.many[_ROUTER].answers
        quiet = sum(each.disturbance <= _DISTURBED_SHARE for each in rounds)
        _tell(len(rounds), done)
        if quiet >= plan.rounds:
            break
    rounds.sort(key=lambda each: each.disturbance)
    return rounds[: plan.rounds], asked


async def _round(plan: Plan, targets: dict[str, Target], pids: dict[str, int]) -> Round:
    done = Round({}, {}, {}, 0.0)
    disturbance = 0.0
    for concurrency, seconds, loads in ((1, plan.one, done.one), (MANY, plan.many, done.many)):
        for path in _PATHS:
            before = usage(pids)
            load = await ask(targets[path], concurrency=concurrency, seconds=seconds)
            used = usage(pids).since(before)
            loads[path] = load
            done.used[path] = used  # the many come last, and are what stays
            disturbance = max(disturbance, used.others / load.seconds / (os.cpu_count() or 1))
    return msgspec.structs.replace(done, disturbance=disturbance)


def _tell(number: int, done: Round) -> None:
    first = ", ".join(f"{path} {done.one[path].first_token_ms(50):.2f}" for path in _PATHS)
    rates = ", ".join(f"{path} {done.many[path].answers_per_second:,.0f}" for path in _PATHS)
    print(f"  round {number}: first token p50 at 1, ms: {first}; answers/s at {MANY}: {rates}; ", end="")
    print(f"others used {done.disturbance:.0%}", flush=True)


def _section(rounds: list[Round], asked: int) -> Section:
    def over(value: Callable[[Round], float]) -> Spread:
        return spread([value(each) for each in rounds])

    added = over(lambda each: each.one[_ROUTER].first_token_ms(50) - each.one[_STUB].first_token_ms(50))
    floor_added = over(lambda each: each.one[_FLOOR].first_token_ms(50) - each.one[_STUB].first_token_ms(50))
    slower = over(lambda each: each.one[_ROUTER].first_token_ms(50) / each.one[_FLOOR].first_token_ms(50))
    rate = over(lambda each: each.many[_ROUTER].answers_per_second)
    ratio = over(lambda each: each.many[_ROUTER].answers_per_second / each.many[_FLOOR].answers_per_second)
    first = {path: over(lambda each, path=path: each.one[path].first_token_ms(50)) for path in _PATHS}  # type: ignore[misc]
    rates = {path: over(lambda each, path=path: each.many[path].answers_per_second) for path in _PATHS}  # type: ignore[misc]
    goals = [
        Goal(
            "router's added time to first token, streaming, 1 at a time, full path, p50",
            "≤ 1 ms",
            f"{added.text()} ms",
            added.median <= 1,
        ),
        Goal(
            f"answers/s over the pass-through's, streaming, {MANY} at once, one worker",
            "≥ 0.35",
            ratio.text(),
            ratio.median >= 0.35,
        ),
        Goal(
            "answers/s over LiteLLM proxy's, the same",
            "≥ 50×",
            f"LiteLLM was not run; {rate.median / LITELLM_PER_SECOND:.0f}× what it gave earlier",
            None,
        ),
    ]
    body = _BODY.format(
        rounds=len(rounds),
        worst=max(each.disturbance for each in rounds),
        share=_DISTURBED_SHARE,
        asked=asked,
        many=MANY,
        one_table=_load_table(rounds, lambda each: each.one),
        added=added.text(),
        floor_added=floor_added.text(),
        slower=slower.text(),
        many_table=_load_table(rounds, lambda each: each.many),
        ratio=ratio.text(),
        used_table=_used_table(rounds),
        litellm=LITELLM_PER_SECOND,
        litellm_one=LITELLM_FIRST_TOKEN_MS[0],
        litellm_many=LITELLM_FIRST_TOKEN_MS[1],
    )
    plots = {
        "first-token.svg": bars("Time to first token, p50, one at a time (lower is better)", "ms", first),
        "answers.svg": bars(f"Answers a second, {MANY} at once (higher is better)", "/s", rates, digits=0),
    }
    return Section("Router: time to first token, and answers a second", goals, body, plots)


def _load_table(rounds: list[Round], loads: Callable[[Round], dict[str, Load]]) -> str:
    def cell(path: str, value: Callable[[Load], float], digits: int = 2) -> str:
        return spread([value(loads(each)[path]) for each in rounds]).text(digits)

    rows = [
        [
            path,
            cell(path, lambda load: load.first_token_ms(50)),
            cell(path, lambda load: load.first_token_ms(99)),
            cell(path, lambda load: load.end_ms(50)),
            cell(path, lambda load: load.answers_per_second, 0),
        ]
        for path in _PATHS
    ]
    return table(["path", "first token p50, ms", "first token p99, ms", "whole answer p50, ms", "answers/s"], rows)


def _used_table(rounds: list[Round]) -> str:
    processes = ("load", "stub", "pass-through", "router", "nats", "miner")

    def cell(path: str, process: str) -> str:
        each_used = [each.used[path].by_process[process] / each.many[path].answers * 1_000_000 for each in rounds]
        middle = spread(each_used).median
        return f"{middle:,.0f}" if middle >= 5 else "–"

    rows = [[path, *(cell(path, process) for process in processes)] for path in _PATHS]
    return table(["path", *processes], rows)


_BODY = """\
Three paths give the same answer, 20 pieces at once, streamed:

* **stub, asked directly**: a bare socket protocol that has the answer ready;
* **pass-through**, the floor: uvicorn and uvloop, a raw ASGI function, aiohttp to the stub, nothing parsed; what arrived
  together is passed on together;
* **router, full path**: HTTP → the router's process (API key, checks, reservation, matching) → NATS with admission → the
  miner's process with a stub model, which signs a receipt → the router checks it, signs the voucher, appends both to the
  receipt book (SQLite, on disk before the answer ends) and streams 20 pieces and the receipt.

Everything shares this machine's cores: the load generator, and for the router three more processes (router, NATS, miner),
for the pass-through two (pass-through, stub). {rounds} rounds, paths interleaved; each value is the median of the rounds
(lowest – highest). Rounds in which anything else used more than {share:.0%} of the cores are repeated as time allows; in
the worst one kept it was {worst:.0%}. Each answer was checked for its 20 pieces and each of the router's for its receipt;
afterwards the book held all {asked:,} receipts, and the last voucher of every session acknowledged all of its own.

### One at a time

{one_table}

The router adds **{added} ms** to the time to first token (p50, router minus stub); the pass-through adds {floor_added} ms.
The router's time to first token is {slower} times the pass-through's. The whole answer waits for the disk once.

### {many} at once

{many_table}

The router gives **{ratio}** of the pass-through's answers a second. Here every process competes for the same cores, so
the rates are those of the whole path on this machine, not the most that one router could do with cores of its own. That
shows in the processor time each process uses for one answer, in µs (medians; {many} at once):

{used_table}

LiteLLM proxy is not installed here. Measured earlier on this kind of machine, not in this run (LiteLLM 1.106.2, the same
20-chunk stream, one worker): {litellm} answers/s at 32 at once, time to first byte p50 {litellm_one} ms at 1 and
{litellm_many} ms at 32 at once."""
