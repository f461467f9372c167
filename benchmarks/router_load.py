"""The router under more, beside the pass-through and LiteLLM's proxy: 256 at once, paced streams, no streams."""

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import uv

from benchmarks import passthrough, stub
from benchmarks.answer import APART_SEED, PACE_SECONDS, PACED_SEED, PIECES
from benchmarks.children import Usage, child, free_port, usage
from benchmarks.litellm import ENVIRONMENT, litellm_python
from benchmarks.load import LOOPBACK, Load, Target, ask
from benchmarks.network import check_book, network
from benchmarks.report import Goal, Section, table
from benchmarks.stats import BenchmarkFailed
from tristrata.config.paths import cache_home

ONE, MANY, CROWD, PACED = 1, 32, 256, 500
LEAST_TIMES, LEAST_RATIO = 50, 0.35
_ROUTER, _FLOOR, _LITELLM = "router", "pass-through", "LiteLLM"
_LITELLM_START_SECONDS = 60.0
_LITELLM_KEY = "sk-" + secrets.token_hex(32)


class _Plan(msgspec.Struct, frozen=True):
    seconds: float
    warm_up: float


_FULL, _QUICK = _Plan(3.0, 1.0), _Plan(0.4, 0.2)


class _Way(msgspec.Struct, frozen=True):
    """One way to ask: how many at once, in which manner."""

    at_once: int
    stream: bool = True
    seed: int | None = None

    @property
    def name(self) -> str:
        """As the table has it."""
        kinds = {PACED_SEED: "paced streams", APART_SEED: "streams piece by piece"}
        kind = kinds.get(self.seed or 0, "streams") if self.stream else "not streaming"
        return f"{self.at_once} {kind}"


_STREAMS, _APART = _Way(MANY), _Way(MANY, seed=APART_SEED)
_WAYS = (
    _Way(ONE),
    _Way(ONE, stream=False),
    _STREAMS,
    _Way(MANY, stream=False),
    _APART,
    _Way(CROWD),
    _Way(CROWD, stream=False),
    _Way(PACED, seed=PACED_SEED),
)
_LITELLM_WAYS = _WAYS[:4]  # it gives some 30 answers a second: more at once would only wait longer


class _Gateway(msgspec.Struct, frozen=True):
    """What stands between client and model: where it is asked, its process, those behind it."""

    target: Target
    pid: int
    behind: dict[str, int]


class _Taken(msgspec.Struct, frozen=True):
    """One way of asking one gateway; memory in bytes."""

    load: Load
    used: Usage
    memory_before: int
    memory_after: int

    @property
    def cpu_us(self) -> float:
        """Processor time of the gateway for an answer, µs."""
        return self.used.by_process["gateway"] / self.load.answers * 1e6

    @property
    def behind_us(self) -> float:
        """The same of the processes behind it."""
        behind = sum(spent for name, spent in self.used.by_process.items() if name not in ("gateway", "load"))
        return behind / self.load.answers * 1e6


async def measure(*, quick: bool) -> Section:
    """Start everything, ask each gateway in each way, check the receipt book, end everything."""
    plan = _QUICK if quick else _FULL
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tristrata-bench-")))
        stub_port, floor_port = free_port(), free_port()
        model = {"stub": await stack.enter_async_context(child("stub", stub.run, stub_port, port=stub_port))}
        floor_pid = await stack.enter_async_context(
            child("floor", passthrough.run, floor_port, stub_port, port=floor_port)
        )
        ours = await stack.enter_async_context(network(folder, sessions=MANY))
        behind = {name: pid for name, pid in ours.pids.items() if name != "router"}
        taken: dict[tuple[str, _Way], _Taken] = {}
        router = _Gateway(ours.target, ours.pids["router"], behind)
        floor = _Gateway(Target(_FLOOR, floor_port), floor_pid, model)
        answers = await _warm_up(plan, router)
        await _warm_up(plan, floor)
        for way in _WAYS:
            for name, gateway in ((_ROUTER, router), (_FLOOR, floor)):
                taken[name, way] = await _take(plan, name, gateway, way)
        answers += sum(each.load.answers for (name, _), each in taken.items() if name == _ROUTER)
        await check_book(ours.book, answers)
        if not quick:
            port, pid = await stack.enter_async_context(_litellm(folder, stub_port))
            proxy = _Gateway(Target(_LITELLM, port, keys=(_LITELLM_KEY,)), pid, model)
            await _warm_up(plan, proxy, at_once=4)
            for way in _LITELLM_WAYS:
                taken[_LITELLM, way] = await _take(plan, _LITELLM, proxy, way)
    return _section(taken)


async def _warm_up(plan: _Plan, gateway: _Gateway, at_once: int = MANY) -> int:
    return (await ask(gateway.target, concurrency=at_once, seconds=plan.warm_up)).answers


async def _take(plan: _Plan, name: str, gateway: _Gateway, way: _Way) -> _Taken:
    target = msgspec.structs.replace(gateway.target, stream=way.stream, seed=way.seed)
    pids = {"gateway": gateway.pid, **gateway.behind}
    memory, before = _memory(gateway.pid), usage(pids)
    load = await ask(target, concurrency=way.at_once, seconds=plan.seconds)
    taken = _Taken(load, usage(pids).since(before), memory, _memory(gateway.pid))
    print(f"  {name}, {way.name}: {load.answers_per_second:,.0f}/s, {taken.cpu_us:,.0f} µs each", flush=True)
    return taken


def _memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@asynccontextmanager
async def _litellm(folder: Path, stub_port: int) -> AsyncIterator[tuple[int, int]]:
    """LiteLLM's proxy before the stub, one worker, in an environment of its own that is made the first time.

    Gives its port and its process.
    """
    port, config = free_port(), folder / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: stub\n    litellm_params:\n      model: openai/stub\n"
        f"      api_base: http://{LOOPBACK}:{stub_port}/v1\n      api_key: none\n"
    )
    python = await asyncio.to_thread(litellm_python, cache_home(), uv.find_uv_bin())
    with (folder / "litellm.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(python.with_name("litellm")),
            *("--config", str(config), "--host", LOOPBACK, "--port", str(port), "--num_workers", "1"),
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **ENVIRONMENT, "LITELLM_MASTER_KEY": _LITELLM_KEY},
        )
    try:
        async with asyncio.timeout(_LITELLM_START_SECONDS):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection(LOOPBACK, port)
                except OSError:
                    await asyncio.sleep(0.2)
                    continue
                writer.close()
                break
        if process.returncode is not None:
            raise BenchmarkFailed(f"LiteLLM did not start: {(folder / 'litellm.log').read_text()[-500:]}")
        yield port, process.pid
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _section(taken: dict[tuple[str, _Way], _Taken]) -> Section:
    rows = [_row(name, way, taken[name, way]) for way in _WAYS for name in _names(taken, way)]
    goals = []
    proxy, router = taken.get((_LITELLM, _STREAMS)), taken[_ROUTER, _STREAMS]
    if proxy is not None:
        times = router.load.answers_per_second / proxy.load.answers_per_second
        what = f"router's answers/s over LiteLLM proxy's, streaming, {MANY} at once, same run"
        goals.append(Goal(what, f"≥ {LEAST_TIMES} ×", f"{times:.0f} ×", times >= LEAST_TIMES))
    apart, floor_apart = taken[_ROUTER, _APART].load, taken[_FLOOR, _APART].load
    ratio = apart.answers_per_second / floor_apart.answers_per_second
    what = f"router's answers/s over the pass-through's, streaming piece by piece, {MANY} at once, one worker"
    goals.append(Goal(what, f"≥ {LEAST_RATIO}", f"{ratio:.2f}", ratio >= LEAST_RATIO))
    paced = taken[_ROUTER, _WAYS[-1]]
    head = ("answers/s", "first token p50, ms", "first token p99, ms", "whole answer p50, ms")
    costs = ("µs of its processor", "µs behind it", "memory, MiB")
    body = _BODY.format(
        pieces=len(PIECES),
        pace=PACE_SECONDS * 1_000,
        paced=PACED,
        share=paced.used.by_process["gateway"] / paced.load.seconds,
        rows=table(["asked for", *head, *costs], rows),
    )
    return Section("Router: more at once, not streaming, paced, beside LiteLLM", goals, body)


def _names(taken: dict[tuple[str, _Way], _Taken], way: _Way) -> list[str]:
    return [name for name in (_ROUTER, _FLOOR, _LITELLM) if (name, way) in taken]


def _row(name: str, way: _Way, taken: _Taken) -> list[str]:
    load = taken.load
    first = [f"{load.first_token_ms(percent):,.1f}" if way.stream else "–" for percent in (50, 99)]
    memory = f"{taken.memory_before / 2**20:.0f} → {taken.memory_after / 2**20:.0f}"
    return [
        f"{name}, {way.name}",
        f"{load.answers_per_second:,.0f}",
        *first,
        f"{load.end_ms(50):,.1f}",
        f"{taken.cpu_us:,.0f}",
        f"{taken.behind_us:,.0f}",
        memory,
    ]


_BODY = """\
The same stub models as above, one round each, {pieces} pieces an answer. *Paced* streams have their pieces
{pace:.0f} ms apart, as from a model that gives 50 tokens a second; {paced} of them at once took {share:.2f} of a core
of the router. *Piece by piece* there is no pause, but each piece is sent by itself, as every model server does; above
they are sent together, which spares the pass-through nearly all that it does for a piece.
LiteLLM proxy 1.106.2 stands before the same stub as the pass-through, one worker, with a key but no budgets and no
database. Processor time is for an answer: of the gateway's own process, and of those behind it (NATS and the miner, or
the stub). Memory is what the gateway's process had before and after.

{rows}"""
