"""What a tour looks like: answers as they stream, one line that climbs, and at the end the tree and the tables."""

from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tristrata.cli.tour.records import Answer, Milestone, Record, Step
from tristrata.config.network import Network

_LEVELS = ("signed", "vouchered", "charged")
_HEIGHTS = ("settled", "attested", "Ethereum")


class TourScreen:
    """A terminal shows the answer growing and the line climbing; anything else gets each line once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._text = ""
        self._is_climbing = False
        self._reached: dict[str, Milestone] = {}

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text)

    def step(self, step: Step) -> None:
        """A step is done."""
        gas = f"{step.gas:>9,} gas" if step.gas else " " * 13
        line = f"[green]✓[/green] {step.name:<22} {step.chain:<9}{gas} {step.seconds or 0:>6.2f} s"
        room = self._console.width - len(Text.from_markup(line)) - 2
        separator = "  " if len(step.detail) <= room else "\n    "
        self._console.print(f"{line}{separator}[dim]{step.detail}[/dim]" if step.detail else line)

    def question(self, hub: str, prompt: str) -> None:
        """A question goes out."""
        self._text, self._reached = "", {}
        self._console.print()
        self._console.print(Text.assemble((f"{hub} ", "dim"), ("› ", "bold cyan"), (prompt, "bold")))
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=20, transient=True)
            self._live.start()

    def piece(self, text: str) -> None:
        """A piece of its answer."""
        self._text += text
        self._refresh()

    def milestone(self, milestone: Milestone) -> None:
        """The answer's receipt has come further."""
        self._reached[milestone.name] = milestone
        self._refresh()

    def answered(self, answer: Answer) -> None:
        """The answer is complete, checked and charged."""
        self.stop()
        self._console.print(Text(answer.answer.strip()))
        self._console.print(self._climb())

    def climbing(self, answers: list[Answer]) -> None:
        """How far each receipt has come by now; the last state stays on the screen."""
        is_done = all(answer.l1_tx for answer in answers)
        lines = []
        for number, answer in enumerate(answers, 1):
            reached = {milestone.name: milestone for milestone in answer.milestones}
            lines.append(Text(f"{number} on {answer.hub:<9}") + _line(_HEIGHTS, reached))
        if not self._is_climbing:
            self._is_climbing = True
            self._console.print("\n[bold]Up to Ethereum[/bold]  [dim]by attestation: the bridges come later[/dim]")
            if self._console.is_terminal:
                self._live = Live(console=self._console, refresh_per_second=10, transient=True)
                self._live.start()
        if self._live is not None:
            self._live.update(Group(*lines))
        if is_done:
            self.stop()
            self._console.print(Group(*lines))

    def stop(self) -> None:
        """Leave the terminal as it was, also in the middle of an answer."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def picture(self, network: Network, record: Record) -> None:
        """The tree of chains, and on each what the tour did there."""
        self._console.print()
        nodes: dict[str | None, Any] = {}
        root: Tree | None = None
        for name in sorted(network.chains, key=network.layer):
            chain = network.chains[name]
            title = Text.assemble((name, "bold"), (f"  L{network.layer(name)} {chain.stack.value}", "dim"))
            node = nodes[chain.parent].add(title) if chain.parent else Tree(title, guide_style="cyan")
            nodes[name] = node
            root = root or node
            for line in _events_on(name, network, record):
                node.add(Text(line))
        assert root is not None
        self._console.print(root)

    def tables(self, record: Record) -> None:
        """What everything cost and how long it took."""
        costs = Table(title="Costs", title_justify="left", title_style="bold", box=None, pad_edge=False)
        for name, justify in (("step", "left"), ("chain", "left"), ("gas", "right"), ("seconds", "right")):
            costs.add_column(name, justify=justify)  # type: ignore[arg-type]
        for step in record.steps:
            seconds = "–" if step.seconds is None else f"{step.seconds:.2f}"
            costs.add_row(step.name, step.chain, f"{step.gas:,}" if step.gas else "–", seconds)
        costs.add_row("all", "", f"{sum(step.gas for step in record.steps):,}", "", style="bold")

        times = Table(title="Answers", title_justify="left", title_style="bold", box=None, pad_edge=False)
        for name in ("answer", "first token", "whole", "tokens", "tokens/s", "tUSD"):
            times.add_column(name, justify="left" if name == "answer" else "right")
        for number, task in enumerate(record.tasks, 1):
            speed = task.output_tokens / task.seconds
            price = int(task.receipt["receipt"]["price"]) / 10**6
            first = f"{task.first_token_milliseconds:.0f} ms"
            whole = f"{task.seconds:.2f} s"
            rest = (str(task.output_tokens), f"{speed:.0f}", f"{price:.6f}")
            times.add_row(f"{number} on {task.hub}", first, whole, *rest)
        self._console.print()
        self._console.print(costs)
        self._console.print()
        self._console.print(times)

    def commands(self, base_url: str, api_key: str, model: str, *, is_running: bool) -> None:
        """Three commands to paste."""
        first = "tristrata status" if is_running else "tristrata up"
        body = (
            f'{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "List five fruits."}}]}}'
        )
        curl = f"curl -N {base_url}/chat/completions -H 'Authorization: Bearer {api_key}' -d '{body}'"
        self._console.print("\n[bold]Go on yourself[/bold]")
        for command in (f".venv/bin/{first}", '.venv/bin/tristrata ask "List five fruits."', curl):
            self._console.print(Text(f"  {command}"), soft_wrap=True)

    def _refresh(self) -> None:
        if self._live is not None:
            room = max(3, self._console.height - 6)
            wrapped = Text(self._text.lstrip()).wrap(self._console, self._console.width)
            self._live.update(Group(*wrapped[-room:], self._climb()))

    def _climb(self) -> Text:
        return Text("  ") + _line(_LEVELS, self._reached)


def _line(names: tuple[str, ...], reached: dict[str, Milestone]) -> Text:
    line = Text()
    for number, name in enumerate(names):
        milestone = reached.get(name)
        line.append(" → " if number else "", "dim")
        line.append(name, "green" if milestone else "dim")
        if milestone:
            gas = f", {milestone.gas:,} gas" if milestone.gas else ""
            line.append(f" {milestone.milliseconds:,} ms{gas}", "cyan")
    return line


def _events_on(name: str, network: Network, record: Record) -> list[str]:
    gas = sum(step.gas for step in record.steps if step.chain == name)
    tasks = [task for task in record.tasks if task.hub == name]
    lines = []
    if name in network.roles.onboarding:
        lines.append(f"Welcome Center: a user registered by signature, {gas:,} gas")
    if tasks:
        miners = {task.receipt["receipt"]["miner"] for task in tasks}
        answers = f"{len(tasks)} answer{'s' if len(tasks) > 1 else ''}"
        price = sum(int(task.receipt["receipt"]["price"]) for task in tasks) / 10**6
        lines.append(f"1 session, {answers} by {len(miners)} miner{'s' if len(miners) > 1 else ''}, {price:.6f} tUSD")
        lines.append(f"{gas:,} gas")
    if name == network.roles.security:
        checkpoints = {task.l1_tx for task in record.tasks}
        lines.append(f"{len(checkpoints)} checkpoints prove all {len(record.tasks)} answers, by attestation")
    return lines
