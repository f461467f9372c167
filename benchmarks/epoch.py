"""Building an epoch, and checking its receipts' signatures: time, memory, and the size of its content.

Each size runs in a process of its own (``python -m benchmarks.epoch``), so that its peak memory is its own.
"""

import argparse
import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence

import msgspec
from coincurve import PrivateKey
from sha3 import keccak_256

from benchmarks.report import Goal, Section, table
from benchmarks.stats import BenchmarkFailed
from tristrata.protocol.epoch import (
    MAX_CONTENT_BYTES,
    ChargedSession,
    EpochContent,
    SessionReceipts,
    SignedReceipt,
    build_epoch,
    check_receipts,
    content_of,
)
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import Address, ModelId, RequestId, SessionId, eip155
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.receipt import Assurance, Receipt
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.protocol.voucher import make_splits

TARGET_SECONDS = 10.0
_HUB = eip155(31_339)
_ROUTER = Address(b"\xee" * 20)
_KEY = PrivateKey(b"\x21" * 32)
_SEPARATOR = bytes(32)
_MOST_SESSIONS = 1_000
_MEBIBYTE = 2**20


class Measured(msgspec.Struct, frozen=True):
    """One size. ``floor`` and ``build`` are seconds of processor time, ``checks`` of it and of the clock, by threads.

    ``content_bytes`` and ``checks`` are only of signed receipts.
    """

    receipts: int
    sessions: int
    floor: float
    build: float
    peak_bytes: int
    added_bytes: int
    content_bytes: int
    checks: dict[int, tuple[float, float]]


async def measure(*, quick: bool) -> Section:
    """Build epochs of several sizes, and check the signatures of one; each in a new process."""
    sizes, checked = ([1_000, 10_000], 1_000) if quick else ([1_000, 10_000, 100_000, 1_000_000], 20_000)
    measured = [await _run(size) for size in sizes]
    signed = await _run(checked, "--check")
    rows = [
        [
            f"{each.receipts:,}",
            f"{each.sessions:,}",
            f"{each.build:.3f}",
            f"{each.build / each.receipts * 1e6:.2f}",
            f"{each.build / each.floor:.1f}",
            f"{each.peak_bytes / _MEBIBYTE:,.0f}",
            f"{each.added_bytes / _MEBIBYTE:,.0f}",
        ]
        for each in measured
    ]
    last = measured[-1]
    goal = Goal(
        "build an epoch of 1,000,000 receipts, one core",
        f"≤ {TARGET_SECONDS:.0f} s",
        f"{last.build:.1f} s" if not quick else f"{last.build:.3f} s for {last.receipts:,}",
        last.build <= TARGET_SECONDS if not quick else None,
    )
    head = [
        "receipts",
        "sessions",
        "built, s",
        "µs a receipt",
        "× floor",
        "peak memory, MiB",
        "of that by building, MiB",
    ]
    body = _BODY.format(
        sessions=_MOST_SESSIONS,
        rows=table(head, rows),
        floor=last.floor / last.receipts * 1e6,
        checks=table(["threads", "processor, µs a receipt", "× floor", "clock, µs a receipt"], _check_rows(signed)),
        checked=signed.receipts,
        bytes=signed.content_bytes / signed.receipts,
        fit=MAX_CONTENT_BYTES * signed.receipts // signed.content_bytes,
        most=MAX_CONTENT_BYTES // _MEBIBYTE,
    )
    return Section("Epochs", [goal], body)


def _check_rows(signed: Measured) -> list[list[str]]:
    microseconds = 1e6 / signed.receipts
    return [
        [str(threads), f"{spent * microseconds:.1f}", f"{spent / signed.floor:.0f}", f"{passed * microseconds:.1f}"]
        for threads, (spent, passed) in signed.checks.items()
    ]


async def _run(receipts: int, *options: str) -> Measured:
    command = [sys.executable, "-m", "benchmarks.epoch", str(receipts), *options]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise BenchmarkFailed(f"{' '.join(command)} ended with {child.returncode}", remedy="see its messages above")
    return msgspec.json.decode(output, type=Measured)


def _measure_one(receipts: int, *, check: bool) -> Measured:
    parts = _parts(receipts, is_signed=check)
    charged = {part.session: _charge(part) for part in parts}
    before = _peak_bytes()
    build = _processor_seconds(lambda: build_epoch(_HUB, 1, 9, {}, charged, parts).payouts_root)
    peak = _peak_bytes()
    numbers = sorted({1, os.cpu_count() or 1}) if check else []
    return Measured(
        receipts=receipts,
        sessions=len(parts),
        floor=_processor_seconds(lambda: _hash_nodes(receipts)),
        build=build,
        peak_bytes=peak,
        added_bytes=peak - before,
        content_bytes=len(content_of(EpochContent(_HUB, 1, 9, tuple(parts)))) if check else 0,
        checks={number: _check_seconds(parts, number) for number in numbers},
    )


def _check_seconds(parts: Sequence[SessionReceipts], threads: int) -> tuple[float, float]:
    key = frozenset({address_of(_KEY.public_key)})
    keys = {part.receipts[0].receipt.miner: key for part in parts}
    started, spent = time.perf_counter(), time.process_time()
    check_receipts(parts, keys, _SEPARATOR, threads=threads)
    return time.process_time() - spent, time.perf_counter() - started


def _hash_nodes(count: int) -> None:
    """The floor: one hash of a 64-byte node for each receipt, one after another."""
    node, hash_of = bytes(32), keccak_256
    for _ in range(count):
        node = hash_of(node + node).digest()


def _parts(receipts: int, *, is_signed: bool) -> list[SessionReceipts]:
    sessions = min(_MOST_SESSIONS, receipts // 10)
    ids = sorted(SessionId(keccak(b"session" + word(number))) for number in range(sessions))
    return [SessionReceipts(each, 0, _receipts(each, receipts // sessions, is_signed=is_signed)) for each in ids]


def _receipts(session: SessionId, count: int, *, is_signed: bool) -> tuple[SignedReceipt, ...]:
    miner, made = Address(keccak(session)[:20]), []
    for position in range(count):
        seed = keccak(session + word(position))
        receipt = Receipt(
            session=session,
            request_id=RequestId(seed),
            miner=miner,
            model_id=ModelId(session),
            prompt_hash=keccak(b"prompt" + seed),
            output_hash=keccak(b"output" + seed),
            prompt_tokens=1_000 + position,
            output_tokens=2_000 + position,
            price=Amount(3_000 + position),
            started_at=Milliseconds(1_800_000_000_000 + position),
            finished_at=Milliseconds(1_800_000_001_000 + position),
            assurance=Assurance.SAMPLED,
            evidence=keccak(b"evidence" + seed),
        )
        # Each an object of its own, as signatures are: memory is measured.
        signature = sign(_KEY, digest(_SEPARATOR, receipt.struct_hash)) if is_signed else seed + seed + b"\x1b"
        made.append(SignedReceipt(receipt, signature))
    return tuple(made)


def _charge(part: SessionReceipts) -> ChargedSession:
    tree = IncrementalTree().extend([signed.receipt.struct_hash for signed in part.receipts])
    total = sum(signed.receipt.price for signed in part.receipts)
    share = Amount(total // 20)
    splits = make_splits({part.receipts[0].receipt.miner: Amount(total - share), _ROUTER: share})
    return ChargedSession(part.session, tree.count, Amount(total), tree.root, splits)


def _processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


def _main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description=__doc__)
    parser.add_argument("receipts", type=int)
    parser.add_argument("--check", action="store_true", help="sign the receipts, and check them too")
    options = parser.parse_args(arguments)
    sys.stdout.buffer.write(msgspec.json.encode(_measure_one(options.receipts, check=options.check)))


_BODY = """\
`build_epoch()` on one core, in seconds of its processor time, each size in a process of its own: every receipt hashed,
every session's tree and charge recomputed, both roots made. Each of the sessions, {sessions:,} at most, has a miner of
its own and 2 splits. The receipts are in memory before; peak memory is theirs and what building adds. The floor is the
same number of 64-byte nodes, hashed one after another by the same Keccak-256 in the same process: {floor:.2f} µs each.

{rows}

`check_receipts()`, which settler and validators do besides, with the signatures of {checked:,} receipts recovered and
compared:

{checks}

The content of that epoch has {bytes:,.0f} bytes a receipt, so that {fit:,} receipts fit into the {most:,} MiB that one
epoch's content may have."""


if __name__ == "__main__":
    _main(sys.argv[1:])
