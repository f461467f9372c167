"""`tristrata router`, `settler`, `relayer`, `miner`: one actor of a network, alone."""

from typing import Annotated, Any

import typer

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName

DatabaseUrl = Annotated[
    str,
    typer.Option(
        envvar="TRISTRATA_DATABASE",
        help="postgresql://…, which the routers of a fleet and their settler share (default: a file of its own).",
        metavar="URL",
        show_default=False,
    ),
]


def router(
    network: NetworkName = DEFAULT_NETWORK,
    name: Annotated[str, typer.Option(help="The router's name; each one of a fleet has another.")] = "router",
    listen: Annotated[
        str,
        typer.Option(help="Where it is reached, also by other routers (default: the network file's).", metavar="URL"),
    ] = "",
    database: DatabaseUrl = "",
) -> None:
    """Run a router: the OpenAI-compatible API. Any number of them share a PostgreSQL database."""
    from tristrata.router.service import run

    _run_alone(network, name, run, database_url=database or None, listen=listen or None)


def settler(network: NetworkName = DEFAULT_NETWORK, database: DatabaseUrl = "") -> None:
    """Run the settler: it charges sessions by the vouchers in the router's receipt book."""
    from tristrata.settler.service import run

    _run_alone(network, "settler", run, database_url=database or None)


def relayer(network: NetworkName = DEFAULT_NETWORK) -> None:
    """Run the relayer: it carries registrations to the hubs."""
    from tristrata.relayer.service import run

    _run_alone(network, "relayer", run)


def miner(
    name: Annotated[str, typer.Argument(help="The miner's name; its keys are made under it, once.")],
    network: NetworkName = DEFAULT_NETWORK,
    backend: Annotated[str, typer.Option(help="'embedded', or 'openai' for any OpenAI-compatible server.")] = "",
    url: Annotated[str, typer.Option(help="The backend's base URL, such as http://127.0.0.1:8000/v1.")] = "",
    model: Annotated[str, typer.Option(help="The network's name of the model (default: its first).")] = "",
    backend_model: Annotated[str, typer.Option(help="The backend's name of the model, if it differs.")] = "",
    prompt_price: Annotated[int, typer.Option(min=0, help="Base units per 1,000,000 prompt tokens.")] = 50_000,
    output_price: Annotated[int, typer.Option(min=0, help="Base units per 1,000,000 output tokens.")] = 200_000,
    slots: Annotated[int, typer.Option(min=1, max=1024, help="Tasks at once.")] = 2,
) -> None:
    """Run a miner. One that the network file does not name needs --backend, and joins with prices of its own.

    A backend's API key is read from the environment variable TRISTRATA_BACKEND_API_KEY.
    """
    from functools import partial

    from tristrata.cli.options import home_of
    from tristrata.config.actor import read_actor
    from tristrata.config.network import miner_settings
    from tristrata.devnet.join import provide_miner
    from tristrata.miner.actor import run
    from tristrata.process import log_to_stderr, run_service

    settings = read_actor(home_of(network), name)
    known = settings.network.miners.get(name)
    if known is None or backend:
        known = miner_settings(
            settings.network,
            backend=backend or "embedded",
            url=url or None,
            model=model or None,
            backend_model=backend_model or None,
            prompt_price=prompt_price,
            output_price=output_price,
            slots=slots,
        )
    log_to_stderr()
    run_service(provide_miner(settings, known))
    run_service(partial(run, settings, known)())


def _run_alone(network: str, name: str, run: Any, **changes: Any) -> None:
    from dataclasses import replace

    from tristrata.cli.options import home_of
    from tristrata.config.actor import read_actor
    from tristrata.process import log_to_stderr, run_service

    settings = replace(read_actor(home_of(network), name), **changes)
    log_to_stderr()
    run_service(run(settings))
