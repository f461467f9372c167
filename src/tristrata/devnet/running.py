"""Whether the embedded network runs, and what of it: one lock that lives as long as its supervisor, and one file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tristrata.config.home import NetworkHome
from tristrata.protocol.errors import TristrataError


class AlreadyRunning(TristrataError):
    """The network has a supervisor already."""


class NotRunning(TristrataError):
    """The network has no supervisor."""


class Running(msgspec.Struct, frozen=True):
    """A running network: its supervisor's process id, whether all is up, and the children's process ids by name."""

    pid: int
    is_ready: bool
    children: dict[str, int]


@contextmanager
def supervising(home: NetworkHome) -> Iterator[None]:
    """Hold the network's lock. Raises `AlreadyRunning` when another process holds it, and changes nothing."""
    home.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with home.lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = _read(home)
            whose = f" (process {running.pid})" if running else ""
            raise AlreadyRunning(
                f"network {home.folder.name} is running already{whose}; nothing was changed",
                remedy="see it with: tristrata status, or stop it with: tristrata down",
            ) from None
        home.running_file.unlink(missing_ok=True)
        try:
            yield
        finally:
            home.running_file.unlink(missing_ok=True)


def write_running(home: NetworkHome, *, is_ready: bool, children: dict[str, int]) -> None:
    """Say what runs, replacing the file at once or not at all."""
    temporary = home.running_file.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(Running(os.getpid(), is_ready, children)))
    temporary.replace(home.running_file)


def read_running(home: NetworkHome) -> Running:
    """What runs. Raises `NotRunning`: the lock decides, for a killed supervisor leaves its file behind."""
    running = _read(home) if _is_locked(home) else None
    if running is None:
        raise NotRunning(f"network {home.folder.name} is not running", remedy="start it: tristrata up")
    return running


def is_running(home: NetworkHome) -> bool:
    """Whether a supervisor holds the network's lock."""
    return _is_locked(home)


def _is_locked(home: NetworkHome) -> bool:
    try:
        with home.lock_file.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _read(home: NetworkHome) -> Running | None:
    try:
        return msgspec.json.decode(home.running_file.read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
