"""What a person sees and types: the demo in a real terminal, and the commands that it prints, pasted into a shell."""

import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.network import COMMAND, CliNetwork, wait_for

WIDTH, HEIGHT = 200, 50


class Terminal:
    """A shell in tmux, as wide and high as a person's."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._socket = f"tristrata-{uuid.uuid4().hex[:8]}"
        size = ("-x", str(WIDTH), "-y", str(HEIGHT))
        exports = [part for name in ("TRISTRATA_HOME", "PATH") for part in ("-e", f"{name}={environment[name]}")]
        self._tmux("new-session", "-d", *size, *exports, "bash --norc")

    def type(self, command: str) -> None:
        """A line, and return."""
        self._tmux("send-keys", "-l", command)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """One key, such as ``C-c``."""
        self._tmux("send-keys", key)

    def screen(self) -> str:
        """What is on the screen and what scrolled off it."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-2000")

    def close(self) -> None:
        """End the shell."""
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def network(tmp_path: Path, smollm2: Path) -> CliNetwork:
    return CliNetwork(tmp_path)


@pytest.fixture
def terminal(network: CliNetwork) -> Iterator[Terminal]:
    terminal = Terminal({**network.environment, "PATH": os.environ["PATH"]})
    yield terminal
    terminal.close()


def test_demo__in_a_terminal__streams_climbs_and_its_commands_work_when_pasted(
    network: CliNetwork, terminal: Terminal
) -> None:
    terminal.type(f"{shlex.join(COMMAND)} demo --keep; echo left with $?")

    seen: set[str] = set()

    def finished() -> bool:
        text = terminal.screen()
        for fragment in ("starting the network", "signed", "vouchered", "charged", "Go on yourself"):
            if fragment in text:
                seen.add(fragment)
        return "left with" in text.replace("echo left with", "")

    wait_for(finished, 120)
    text = terminal.screen()
    assert "left with 0" in text
    assert seen >= {"starting the network", "signed", "vouchered", "charged", "Go on yourself"}
    assert "The capital of Japan is Tokyo." in text
    try:
        curl = next(line.strip() for line in text.splitlines() if line.strip().startswith("curl -N"))
        pasted = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60, check=True).stdout
        assert "data: [DONE]" in pasted
        assert "event: tristrata.receipt" in pasted
        assert network.run("ask", "List five fruits.").stdout.startswith("1. Bananas")
    finally:
        network.down()


def test_demo__ctrl_c_in_the_middle__leaves_the_terminal_usable_and_nothing_running(
    network: CliNetwork, terminal: Terminal
) -> None:
    terminal.type(f"{shlex.join(COMMAND)} demo 'Tell me a very long story.'; echo left with $?")
    wait_for(
        lambda: "Tell me a very long story." in terminal.screen().replace("demo 'Tell", "") and _is_up(network), 60
    )

    terminal.press("C-c")
    wait_for(lambda: "left with 130" in terminal.screen(), 40)
    assert "Traceback" not in terminal.screen()
    assert network.run("status").returncode == 1


def _is_up(network: CliNetwork) -> bool:
    return network.run("status").returncode == 0
