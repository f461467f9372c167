"""The embedded network as its users run it: the `tristrata` command, in a home folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tristrata.config.actor import ActorSettings, read_actor
from tristrata.config.home import NetworkHome

COMMAND = [sys.executable, "-m", "tristrata"]


class CliNetwork:
    """Runs the command with ``home`` as the user's data folder, and as where the user stands."""

    def __init__(self, home: Path) -> None:
        self.environment = {**os.environ, "TRISTRATA_HOME": str(home), "NO_COLOR": "1"}
        self._folder = home
        self._folder.mkdir(parents=True, exist_ok=True)
        self.home = NetworkHome(home / "networks" / "local")

    def run(self, *arguments: str, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        """One command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self._folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """One command that goes on."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self._folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def up(self) -> None:
        """Start the network in the background."""
        done = self.run("up", "--detach")
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        """Stop it."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """What `tristrata status --json` says."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def settings(self, name: str = "test") -> ActorSettings:
        """The network as an actor reads it."""
        return read_actor(self.home, name)


@contextmanager
def paused(network: CliNetwork, *names: str) -> Iterator[None]:
    """Some of the network's processes do not run meanwhile."""
    processes = network.status()["processes"]
    pids = [processes[name] for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """What ``condition`` gives once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return found
