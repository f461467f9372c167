"""The router under more: 256 at once, 500 paced streams, answers that do not stream, memory; and LiteLLM's proxy."""

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
from benchmarks.answer import PACE_SECONDS, PACED_SEED, PIECES
from benchmarks.children import child, free_port, usage
from benchmarks.litellm import ENVIRONMENT, litellm_python
from benchmarks.load import LOOPBACK, Load, Target, ask
from benchmarks.network import check_book, network
from benchmarks.report import Goal, Section, table
from benchmarks.stats import BenchmarkFailed
from tristrata.config.paths import cache_home

MANY, CROWD, PACED = 32, 256, 500
LEAST_TIMES = 50
_LITELLM_START_SECONDS = 60.0
_LITELLM_KEY = "sk-" + secrets.token_hex(32)


class _Plan(msgspec.Struct, frozen=True):
    seconds: float
    memory_rounds: int


_FULL, _QUICK = _Plan(3.0, 4), _Plan(0.5, 1)


async def measure(*, quick: bool) -> Section:
    """Start everything, load it, check the receipt book, end everything."""
    plan = _QUICK if quick else _FULL
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tristrata-bench-")))
        stub_port, floor_port = free_port(), free_port()
        await stack.enter_async_context(child("stub", stub.run, stub_port, port=stub_port))
        await stack.enter_async_context(child("floor", passthrough.run, floor_port, stub_port, port=floor_port))
        ours = await stack.enter_async_context(network(folder, sessions=MANY))
        router, floor = ours.target, Target("pass-through", floor_port)
        loads: dict[str, Load] = {}
        answers = 0

        async def take(what: str, target: Target, concurrency: int, seconds: float) -> Load:
            nonlocal answers
            loads[what] = await ask(target, concurrency=concurrency, seconds=seconds)
            answers += loads[what].answers if target.name == router.name else 0
            print(f"  {what}: {loads[what].answers_per_second:,.0f}/s", flush=True)
            return loads[what]

        whole = msgspec.structs.replace(router, stream=False)
        paced = msgspec.structs.replace(router, seed=PACED_SEED)
        await take("warm-up", router, MANY, 0.5)
        await take(f"router, {MANY} at once", router, MANY, plan.seconds)
        await take(f"router, not streaming, {MANY} at once", whole, MANY, plan.seconds)
        await take(f"router, {CROWD} at once", router, CROWD, plan.seconds)
        await take(f"pass-through, {CROWD} at once", floor, CROWD, plan.seconds)
        before = usage(ours.pids)
        load = await take(f"router, {PACED} paced streams at once", paced, PACED, plan.seconds)
        share = usage(ours.pids).since(before).by_process["router"] / load.seconds
        memory = [_memory(ours.pids["router"])]
        counts = [answers]
        for _ in range(plan.memory_rounds):
            await take("memory", router, MANY, plan.seconds)
            memory.append(_memory(ours.pids["router"]))
            counts.append(answers)
        await check_book(ours.book, answers)
        if not quick:
            port = await stack.enter_async_context(_litellm(folder, stub_port))
            proxy = Target("LiteLLM", port, keys=(_LITELLM_KEY,))
            await take("warm-up", proxy, 4, 2.0)
            await take("LiteLLM, one at a time", proxy, 1, plan.seconds)
            await take(f"LiteLLM, {MANY} at once", proxy, MANY, 2 * plan.seconds)
    return _section(loads, memory, counts, share)


def _memory(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


@asynccontextmanager
async def _litellm(folder: Path, stub_port: int) -> AsyncIterator[int]:
    """LiteLLM's proxy before the stub, one worker, in an environment of its own; made the first time."""
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
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _section(loads: dict[str, Load], memory: list[float], counts: list[int], share: float) -> Section:
    shown = {what: load for what, load in loads.items() if what not in ("warm-up", "memory")}
    rows = [
        [
            what,
            f"{load.answers_per_second:,.0f}",
            f"{load.first_token_ms(50):,.1f}",
            f"{load.first_token_ms(99):,.1f}",
            f"{load.end_ms(50):,.1f}",
        ]
        for what, load in shown.items()
    ]
    goals = []
    proxy = loads.get(f"LiteLLM, {MANY} at once")
    if proxy is not None:
        times = loads[f"router, {MANY} at once"].answers_per_second / proxy.answers_per_second
        what = f"router's answers/s over LiteLLM proxy's, streaming, {MANY} at once, same run"
        goals.append(Goal(what, f"≥ {LEAST_TIMES} ×", f"{times:.0f} ×", times >= LEAST_TIMES))
    grown = (memory[-1] - memory[0]) / max(1, counts[-1] - counts[0]) * 1_000
    body = _BODY.format(
        pieces=len(PIECES),
        pace=PACE_SECONDS * 1_000,
        paced=PACED,
        rows=table(["what", "answers/s", "first token p50, ms", "first token p99, ms", "whole answer p50, ms"], rows),
        share=share,
        memory=table(
            ["answers before", "resident memory of the router, MiB"],
            [[f"{count:,}", f"{size:.1f}"] for count, size in zip(counts, memory, strict=True)],
        ),
        grown=grown,
    )
    return Section("Router: more at once, memory, LiteLLM", goals, body)


_BODY = """\
The same path and stub model as above, one round each, {pieces} pieces an answer. *Paced* streams have their pieces
{pace:.0f} ms apart, as from a model that gives 50 tokens a second; {paced} of them at once took {share:.2f} of a core
of the router. LiteLLM proxy 1.106.2 stands before the same stub, one worker, with a key but no budgets and no database.

{rows}

Memory of the router's process over answers, each with a receipt in its session's voucher book:

{memory}

That is {grown:.2f} MiB in 1,000 answers."""
