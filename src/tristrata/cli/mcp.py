"""`tristrata mcp`: tools for agents, over standard input and output."""

from typing import Annotated

import typer

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName


def mcp(
    network: NetworkName = DEFAULT_NETWORK,
    router: Annotated[str, typer.Option(help="A router's address (default: the network's).", metavar="URL")] = "",
    api_key: Annotated[
        str,
        typer.Option(
            envvar="TRISTRATA_API_KEY", help="Its API key (default: the running network's user's).", metavar="KEY"
        ),
    ] = "",
) -> None:
    """Serve agents over the Model Context Protocol: infer, verify, receipt_file, balance, models."""
    import asyncio

    from tristrata.cli.options import home_of
    from tristrata.client.mcp import make_server
    from tristrata.client.sdk import AsyncClient
    from tristrata.config.actor import read_actor
    from tristrata.custody.api_keys import read_api_keys
    from tristrata.protocol.errors import TristrataError

    if not (router and api_key):
        home = home_of(network)
        settings = read_actor(home, "mcp")
        keys = read_api_keys(home.api_keys_file)
        hub = settings.network.roles.orchestration[0]
        if hub not in keys:
            raise TristrataError(
                "there is no API key yet", remedy="start the network: tristrata up, or give --router and --api-key"
            )
        router, api_key = router or settings.router, api_key or keys[hub].api_key
    asyncio.run(make_server(AsyncClient(router, api_key=api_key), network=network).run_stdio_async())
