"""Gas of settling a task: charges, epoch, quorum and claims, on an anvil in steady state.

`python -m benchmarks.gas --tasks N --sessions S --miners M --json FILE` measures one epoch of your own.
"""

import argparse
import asyncio
import math
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file, as well as a module
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec

from benchmarks.report import Goal, Section, table
from benchmarks.settling import MAX_GAS, Epochs, Step, compressed, hub_on_anvil, transfer_gas
from benchmarks.stats import BenchmarkFailed

TARGETS = {1_000: 300.0, 1_000_000: 50.0}
_SMALL = Epochs(1_000, 5, 5)
_LARGE = Epochs(1_000_000, 1_000, 1_000)
_CURVE = (_SMALL, Epochs(10_000, 25, 25), Epochs(100_000, 150, 150), _LARGE)


class Settled(msgspec.Struct, frozen=True):
    """One epoch as it was settled: gas a task in all, and by step (number of transactions, gas).

    Beside it, not in it: ``checkpoint_gas`` of its attestation on L1, and the calldata that its chain posts upwards.
    """

    epochs: Epochs
    gas_per_task: float
    gas: int
    largest: int
    steps: dict[str, tuple[int, int]]
    data_bytes: int
    posted_bytes: int
    checkpoint_gas: int


async def settle(epochs: Epochs) -> Settled:
    """Settle one epoch on a chain of its own.

    Raises `BenchmarkFailed` for a transaction above 2**24 gas, and for vouchers that name more miners than there are.
    """
    if epochs.splits - 1 > epochs.miners:
        raise BenchmarkFailed(f"a voucher with {epochs.splits} splits names more than the {epochs.miners} miners")
    async with hub_on_anvil() as hub:
        steps = await hub.settle_steadily(epochs)
        return _add_up(epochs, steps, await hub.attest_steadily(epochs.signers))


async def measure(*, quick: bool) -> Section:
    """Settle epochs of several sizes and shapes, and one payment a task for comparison."""
    shapes = {
        "one transaction settles and claims": msgspec.structs.replace(_SMALL, at_once=True),
        "claims in a transaction of their own": _SMALL,
        "the same, sessions with a daily limit": msgspec.structs.replace(_SMALL, limited=True),
        "the same, 14 signers": msgspec.structs.replace(_SMALL, signers=14),
        "the same, 16 splits a session, so 15 miners": msgspec.structs.replace(_SMALL, splits=16, miners=15),
    }
    by_shape = {name: await settle(epochs) for name, epochs in shapes.items()}
    best, apart, *_ = by_shape.values()
    curve = [best, *[await settle(epochs) for epochs in (_CURVE[1:2] if quick else _CURVE[1:])]]
    transfer = await transfer_gas()
    goals = [
        Goal(
            f"gas per task, {settled.epochs.tasks:,} tasks, {settled.epochs.sessions:,} sessions and miners",
            f"≤ {target:g}",
            f"{settled.gas_per_task:.1f}",
            settled.gas_per_task <= target,
        )
        for settled in curve
        if (target := TARGETS.get(settled.epochs.tasks)) is not None
    ]
    shapes_table = table(
        [
            "1,000 tasks, 5 sessions, 5 miners",
            "gas a task",
            "gas",
            "L1 checkpoint, gas",
            "bytes of calldata",
            "compressed",
        ],
        [
            [
                name,
                f"{each.gas_per_task:.1f}",
                f"{each.gas:,}",
                f"{each.checkpoint_gas:,}",
                f"{each.data_bytes:,}",
                f"{each.posted_bytes:,}",
            ]
            for name, each in by_shape.items()
        ],
    )
    curve_table = table(
        [
            "tasks",
            "sessions, miners",
            "gas a task",
            "batched x402",
            "ratio",
            "largest transaction",
            "L1 checkpoint, gas a task",
            "compressed bytes a task",
        ],
        [
            [
                f"{each.epochs.tasks:,}",
                f"{each.epochs.sessions:,}",
                f"{each.gas_per_task:.1f}",
                f"{(rival := batched_x402(each.epochs)):.0f}",
                f"{each.gas_per_task / rival:.2f}",
                f"{each.largest:,}",
                f"{each.checkpoint_gas / each.epochs.tasks:.2f}",
                f"{each.posted_bytes / each.epochs.tasks:.3f}",
            ]
            for each in curve
        ],
    )
    steps_table = table(
        ["step", *(f"{each.epochs.tasks:,} tasks: transactions, gas" for each in (apart, curve[-1]))],
        [
            [name, *(_shown(each.steps.get(name)) for each in (apart, curve[-1]))]
            for name in dict.fromkeys([*apart.steps, *curve[-1].steps])
        ],
    )
    body = _BODY.format(
        shapes=shapes_table,
        curve=curve_table,
        steps=steps_table,
        transfer=transfer,
        ratio=transfer / best.gas_per_task,
        most=MAX_GAS,
    )
    return Section("Gas of settlement", goals, body, {"gas.svg": _plot(curve)})


def batched_x402(epochs: Epochs) -> float:
    """Gas a payment that the best rival known publishes: (246,000 + 78,958 · recipients) / payments (field facts)."""
    return (246_000 + 78_958 * epochs.miners) / epochs.tasks


def _add_up(epochs: Epochs, steps: list[Step], checkpoint_gas: int) -> Settled:
    by_name: dict[str, tuple[int, int]] = {}
    for step in steps:
        count, gas = by_name.get(step.name, (0, 0))
        by_name[step.name] = (count + 1, gas + step.gas)
    gas, largest = sum(step.gas for step in steps), max(step.gas for step in steps)
    if largest > MAX_GAS:
        raise BenchmarkFailed(f"a transaction took {largest} gas; the most that a chain takes is {MAX_GAS}")
    data = sum(len(step.data) for step in steps)
    return Settled(epochs, gas / epochs.tasks, gas, largest, by_name, data, compressed(steps), checkpoint_gas)


def _shown(step: tuple[int, int] | None) -> str:
    return "–" if step is None else f"{step[0]:,}, {step[1]:,}"


def _plot(curve: list[Settled]) -> str:
    """Gas a task against tasks, both axes logarithmic: ours and the rival's formula."""
    width, height, left, bottom = 760, 320, 70, 50
    most, least, steps = 1_000.0, 10.0, len(curve) - 1

    def place(number: int, gas: float) -> tuple[float, float]:
        x = left + number * (width - left - 160) / max(1, steps)
        y = 30 + (math.log10(most) - math.log10(gas)) / (math.log10(most) - math.log10(least)) * (height - 30 - bottom)
        return x, y

    font = "font-family='system-ui, sans-serif' font-size='13' fill='#222222'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>",
        "<title>Gas a task against tasks an epoch</title>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        f"<text x='12' y='20' {font} font-weight='600'>Gas a task (log) against tasks an epoch (log)</text>",
    ]
    for gas in (10, 100, 1_000):
        _, y = place(0, gas)
        parts.append(f"<path d='M{left} {y:.1f} H{width - 150}' stroke='#d5dbe1'/>")
        parts.append(f"<text x='{left - 8}' y='{y + 4:.1f}' text-anchor='end' {font}>{gas:,}</text>")
    lines = {
        "Tristrata": ("#d9822b", [each.gas_per_task for each in curve]),
        "batched x402": ("#5b8db8", [batched_x402(each.epochs) for each in curve]),
    }
    for name, (colour, values) in lines.items():
        points = [place(number, gas) for number, gas in enumerate(values)]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f"<path d='M{path}' stroke='{colour}' stroke-width='2' fill='none'/>")
        for (x, y), gas in zip(points, values, strict=True):
            parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>")
            above = -8 if name != "Tristrata" else 18
            parts.append(f"<text x='{x + 4:.1f}' y='{y + above:.1f}' {font}>{gas:,.0f}</text>")
        x, y = points[-1]
        parts.append(f"<text x='{x + 44:.1f}' y='{y + (-8 if name != 'Tristrata' else 18):.1f}' {font}>{name}</text>")
    for number, each in enumerate(curve):
        x, _ = place(number, least)
        parts.append(f"<text x='{x:.1f}' y='{height - 20}' text-anchor='middle' {font}>{each.epochs.tasks:,}</text>")
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Measure one epoch, print it, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000, help="tasks in the epoch")
    parser.add_argument("--sessions", type=int, default=5, help="sessions, each charged once")
    parser.add_argument("--miners", type=int, default=5, help="miners, each claiming once")
    parser.add_argument("--splits", type=int, default=2, help="payees a voucher names, the router among them")
    parser.add_argument("--signers", type=int, default=3, help="validators that sign")
    parser.add_argument("--limited", action="store_true", help="sessions have a daily limit")
    parser.add_argument("--apart", action="store_true", help="never settle and claim in one transaction")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there")
    options = parser.parse_args()
    if not 1 <= options.sessions <= options.tasks or not options.miners >= 1 or not 2 <= options.splits <= 32:
        parser.error("there must be 1 session or more, no more than tasks, 1 miner or more, and 2 to 32 splits")
    if not 1 <= options.signers <= 32 or options.splits - 1 > options.miners:
        parser.error("there must be 1 to 32 signers, and at least as many miners as a voucher names beside the router")
    epochs = Epochs(
        options.tasks,
        options.sessions,
        options.miners,
        options.splits,
        options.signers,
        options.limited,
        at_once=not options.apart,
    )
    settled = asyncio.run(settle(epochs))
    for name, (count, gas) in settled.steps.items():
        print(f"{name}: {count:,} transactions, {gas:,} gas")
    print(
        f"{settled.gas_per_task:.1f} gas a task: {settled.gas:,} for {epochs.tasks:,}; beside it the chain posts "
        f"{settled.posted_bytes:,} compressed bytes to its parent, and the checkpoint on L1 takes "
        f"{settled.checkpoint_gas:,} gas"
    )
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(settled)))
    return 0


_BODY = """Every session is charged once and every miner claims once; all slots and balances were non-zero before, also
the record of the epoch, which takes the place of an older one. The hub has no new messages in it. 3 validators sign and
a voucher names 2 payees unless the table says otherwise. No transaction is above {most:,} gas.

{shapes}

{curve}

Batched x402 is the best rival known, by its published formula, not run here. Paying each task alone by
`transferWithAuthorization`, as x402 `exact` does, took {transfer:,} gas a task in the same run: {ratio:,.0f} times as
much.

{steps}

Beside this, not in it: one attestation on L1 an epoch (the L1 checkpoint; an L3's goes into its parent instead), and
what the rollup pays its parent for the compressed bytes in the tables (zlib; 1 blob gas a byte)."""


if __name__ == "__main__":
    sys.exit(main())
