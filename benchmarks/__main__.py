"""`python -m benchmarks`: measure everything and write ``docs/benchmarks.md``, or smoke-test the measuring itself."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop

from benchmarks import acknowledging, epoch, gas, machine, matching, memory, receipt_book, router, router_load, verify
from benchmarks.children import usage
from benchmarks.report import Section, goals_table, page
from tristrata.protocol.errors import TristrataError

BENCHMARKS: dict[str, Callable[..., Awaitable[Section]]] = {
    "router": router.measure,
    "router-load": router_load.measure,
    "memory": memory.measure,
    "matching": matching.measure,
    "acknowledging": acknowledging.measure,
    "receipt-book": receipt_book.measure,
    "verify": verify.measure,
    "epoch": epoch.measure,
    "gas": gas.measure,
}
NOT_MEASURED = (
    "The router with chains: following hubs, onboarding and charging; the hub's facts are given to it here.",
    "A router on cores of its own, several routers or miners, a network between them: all is one machine's loopback.",
    "A real model: the answer is ready, so that only what is ours is timed.",
    "Long prompts; clients that leave, or read slowly; LiteLLM with 256 at once or paced.",
    "The design's other targets: validators' audits, encryption, the demo, the indexer.",
)
_DOCS = Path(__file__).resolve().parent.parent / "docs"
_MOST_SECONDS = 480.0


def main() -> int:
    """Run, and give the exit status: 1 when a path gave no answer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=BENCHMARKS, help="run one, print what it found, write nothing")
    parser.add_argument("--quick", action="store_true", help="a smoke run of 20 seconds that writes nothing")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        sections = uvloop.run(_measure([options.only] if options.only else list(BENCHMARKS), quick=options.quick))
    except (TristrataError, TimeoutError) as error:
        print(f"failed: {error!r}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    if options.only:
        print(*(section.body for section in sections), sep="\n\n")
    print(goals_table([goal for section in sections for goal in section.goals]))
    if not options.only and not options.quick:
        _write(sections)
    print(f"took {time.monotonic() - started:.0f} s")
    return 0


async def _measure(names: list[str], *, quick: bool) -> list[Section]:
    sections = []
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(_MOST_SECONDS):
        for name in names:
            print(f"measuring: {name}", flush=True)
            began, before = time.monotonic(), usage({})
            section = await BENCHMARKS[name](quick=quick)
            if section.others is None:
                others = usage({}).since(before).others / (time.monotonic() - began) / (os.cpu_count() or 1)
                section = msgspec.structs.replace(section, others=others)
            sections.append(section)
    return sections


def _write(sections: list[Section]) -> None:
    plots = _DOCS / "benchmarks"
    plots.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for name, plot in section.plots.items():
            (plots / name).write_text(plot)
    document = page(sections, machine.describe(Path(tempfile.gettempdir())), NOT_MEASURED)
    (_DOCS / "benchmarks.md").write_text(document)
    print(f"written: {_DOCS / 'benchmarks.md'}")


if __name__ == "__main__":
    sys.exit(main())
