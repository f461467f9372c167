"""`tristrata demo`: a guided tour, from nothing to a real answer with a signed, vouchered and charged receipt."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName

if TYPE_CHECKING:
    from rich.console import Console

    from tristrata.cli.tour.guide import Guide
    from tristrata.cli.tour.records import Record
    from tristrata.cli.tour.screen import TourScreen
    from tristrata.config.home import NetworkHome

_PICTURE_WIDTH = 110
_RECEIPTS = Path("demo") / "receipts"


def demo(
    prompt: Annotated[str, typer.Argument(help="Ask this instead of the three prepared questions.")] = "",
    network: NetworkName = DEFAULT_NETWORK,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every step and answer here.", metavar="FILE")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the network running.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write what is printed as an SVG.", metavar="FILE")
    ] = None,
) -> None:
    """Start the embedded network, onboard a user, ask a real model, and follow each receipt until it is charged.

    Exit code 0 only if every step held. What this command started, it stops; a network that runs already is used and
    left running.
    """
    from rich.console import Console

    from tristrata.cli.options import home_of
    from tristrata.cli.setup import setup
    from tristrata.devnet.toolchain import missing_steps
    from tristrata.process import run_service

    if missing_steps():
        setup()
    console = Console(highlight=False)
    if picture is not None:
        console = Console(highlight=False, record=True, width=_PICTURE_WIDTH, force_terminal=False)
    outcome: list[Record] = []
    run_service(_demo(home_of(network), console, prompt, keep, outcome))
    if not outcome:
        raise KeyboardInterrupt
    if json_file is not None:
        json_file.write_bytes(outcome[0].encode())
    if picture is not None:
        from tristrata.cli.tour.picture import to_svg

        picture.write_text(to_svg(console))


async def _demo(home: "NetworkHome", console: "Console", prompt: str, keep: bool, outcome: list["Record"]) -> None:
    import time

    from tristrata.chains.pool import Chains
    from tristrata.cli.tour.guide import PROMPTS, Guide
    from tristrata.cli.tour.screen import TourScreen
    from tristrata.config.actor import read_actor
    from tristrata.devnet.running import is_running

    screen = TourScreen(console)
    was_running = is_running(home)
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_network(home, console, keep))
        settings = read_actor(home, "visitor")
        chains = await stack.enter_async_context(Chains(settings.network))
        guide = Guide(settings, chains, screen)
        size = f"{len(settings.network.chains)} chains, {len(settings.network.miners)} miners"
        guide.took("use the running network" if was_running else "start the network", "all", 0, started, size)
        try:
            await guide.run((prompt,) if prompt else PROMPTS, _RECEIPTS)
        finally:
            screen.stop()
        _finish(guide, screen, home, is_running=was_running or keep, hide_key=console.record)
        outcome.append(guide.record)
    if not was_running and not keep:
        screen.say("\n[dim]Everything this command started is stopped; its state is kept for the next start.[/dim]")


def _finish(guide: "Guide", screen: "TourScreen", home: "NetworkHome", *, is_running: bool, hide_key: bool) -> None:
    from tristrata.config.network import read_network
    from tristrata.custody.api_keys import read_api_keys

    network = read_network(home.network_file)
    screen.picture(network, guide.record)
    screen.tables(guide.record)
    key = read_api_keys(home.api_keys_file)[network.roles.orchestration[0]].api_key
    shown = "sk-tri-…" if hide_key else key  # a picture is made to be shown around
    screen.commands(f"{network.router}/v1", shown, next(iter(network.models)), is_running=is_running)


@asynccontextmanager
async def _network(home: "NetworkHome", console: "Console", keep: bool) -> AsyncIterator[None]:
    """A running network for as long as this lasts; one that had to be started is stopped again unless kept."""
    import asyncio

    from tristrata.cli.up import start_detached
    from tristrata.devnet.running import is_running, supervising
    from tristrata.devnet.supervisor import EmbeddedNetwork

    if is_running(home):
        yield
        return
    if keep:
        with console.status("starting the network in the background"):
            await asyncio.to_thread(start_detached, home)
        yield
        return
    with supervising(home):
        with console.status("starting the network") as spinner:
            network = EmbeddedNetwork(home, spinner.update)
            await network.start()
            network.announce()
        watching = asyncio.create_task(network.watch())
        try:
            yield
        finally:
            watching.cancel()
            with console.status("stopping the network"):
                await network.stop()
