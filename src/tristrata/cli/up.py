"""`tristrata up`: start the embedded network, and keep it running."""

from typing import TYPE_CHECKING, Annotated

import typer

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName

if TYPE_CHECKING:
    from pathlib import Path

    from tristrata.config.home import NetworkHome


def up(
    network: NetworkName = DEFAULT_NETWORK,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is up; it goes on running.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the old network is moved aside.")] = False,
) -> None:
    """Start the embedded network on this machine: four chains, fabric, router, miners, settler. Ctrl-C stops it."""
    from tristrata.cli.options import home_of
    from tristrata.cli.setup import setup
    from tristrata.devnet.running import is_running
    from tristrata.devnet.toolchain import missing_steps

    home = home_of(network)
    if missing_steps():
        setup()
    if fresh and not is_running(home):
        _move_aside(home)
    if detach:
        _run_detached(home)
    else:
        _run(home)


def _run(home: "NetworkHome") -> None:
    from tristrata.devnet.running import supervising
    from tristrata.process import run_service

    with supervising(home):
        run_service(_serve(home))


async def _serve(home: "NetworkHome") -> None:
    from rich.console import Console

    from tristrata.cli.status import describe, print_status
    from tristrata.config.actor import read_actor
    from tristrata.devnet.supervisor import EmbeddedNetwork
    from tristrata.devnet.user import USER, provide_user

    console = Console(highlight=False)
    with console.status("starting") as spinner:

        def report(step: str) -> None:
            spinner.update(step)
            if not console.is_terminal:
                print(step, flush=True)

        running = EmbeddedNetwork(home, report)
        try:
            await running.start()
            report("opening sessions for this machine's user")
            await provide_user(read_actor(home, USER))
            running.announce()
        except BaseException:
            await running.stop()
            raise
    try:
        print_status(await describe(home))
        print("Ctrl-C stops it.", flush=True)
        await running.watch()
    finally:
        print("stopping", flush=True)
        await running.stop()


def start_detached(home: "NetworkHome") -> "Path":
    """Start a supervisor that outlives this process, wait until the network is ready, and give its log.

    Raises `AlreadyRunning`, or the supervisor's last words when it did not come up.
    """
    import subprocess
    import sys
    import time

    from tristrata.devnet.running import AlreadyRunning, NotRunning, is_running, read_running
    from tristrata.protocol.errors import TristrataError

    if is_running(home):
        raise AlreadyRunning(
            f"network {home.folder.name} is running already; nothing was changed",
            remedy="see it with: tristrata status, or stop it with: tristrata down",
        )
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "supervisor.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tristrata", "up", "--network", home.folder.name]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    while process.poll() is None:
        try:
            if read_running(home).is_ready:
                return log
        except NotRunning:
            pass
        time.sleep(0.1)
    raise TristrataError(f"the network did not start:\n{log.read_text()[-2_000:]}", remedy="see the logs beside it")


def _run_detached(home: "NetworkHome") -> None:
    import asyncio

    from tristrata.cli.status import describe, print_status

    log = start_detached(home)
    print_status(asyncio.run(describe(home)))
    print(f"It runs in the background (log: {log}). Stop it with: tristrata down")


def _move_aside(home: "NetworkHome") -> None:
    import time

    if home.folder.exists():
        aside = home.folder.with_name(f"{home.folder.name}-until-{time.strftime('%Y%m%d-%H%M%S')}")
        home.folder.rename(aside)
        print(f"the old network is now in {aside}")
