"""`tristrata mcp`: tools for agents, over standard input and output, or over HTTP."""

from typing import TYPE_CHECKING, Annotated

import typer

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName

_KEY_SECONDS = 30 * 86_400

if TYPE_CHECKING:
    from tristrata.client.wallet import Wallet
    from tristrata.config.actor import ActorSettings


def mcp(
    network: NetworkName = DEFAULT_NETWORK,
    router: Annotated[str, typer.Option(help="A router's address (default: the network's).", metavar="URL")] = "",
    api_key: Annotated[
        str,
        typer.Option(
            envvar="TRISTRATA_API_KEY", help="Its API key (default: the running network's user's).", metavar="KEY"
        ),
    ] = "",
    allow_spending: Annotated[
        int, typer.Option(min=0, help="Let agents deposit so much in all, in base units, from the network's user.")
    ] = 0,
    listen: Annotated[
        str, typer.Option(help="Serve over HTTP here instead; each caller brings an API key.", metavar="HOST:PORT")
    ] = "",
    host_name: Annotated[
        list[str] | None, typer.Option(help="With --listen: a name under which this is reached (host or host:port).")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="With --listen: an origin whose web pages may call.", metavar="URL")
    ] = None,
) -> None:
    """Serve agents over the Model Context Protocol: infer, verify, receipt_file, balance, models, and sessions."""
    import asyncio
    from contextlib import nullcontext

    from tristrata.cli.options import home_of
    from tristrata.client.mcp import add_wallet, make_server
    from tristrata.client.sdk import AsyncClient
    from tristrata.config.actor import read_actor
    from tristrata.custody.api_keys import read_api_keys
    from tristrata.protocol.errors import TristrataError

    if allow_spending and (router or api_key):
        raise TristrataError(
            "--allow-spending cannot go with --router or --api-key: what is opened is the network's user's",
            remedy="leave them out, or open sessions yourself: tristrata session open",
        )
    home = home_of(network)
    settings = read_actor(home, "mcp") if allow_spending or not (router and (api_key or listen)) else None
    if listen:
        if allow_spending:
            raise TristrataError(
                "--allow-spending cannot go with --listen: whoever calls would spend the user's money",
                remedy="serve over standard input and output, or have callers open sessions themselves",
            )
        assert settings is not None or router
        _serve(listen, router or settings.router, network, host_name or [], origin or [])  # type: ignore[union-attr]
        return
    if settings is not None:
        keys, hub = read_api_keys(home.api_keys_file), settings.network.roles.orchestration[0]
        if hub not in keys and not (router and api_key):
            raise TristrataError(
                "there is no API key yet", remedy="start the network: tristrata up, or give --router and --api-key"
            )
        router = router or settings.router
        api_key = api_key or keys[hub].api_key

    async def serve(key: str) -> None:
        if settings is not None and allow_spending:
            key = await _own_key(settings)
        async with AsyncClient(router, api_key=key) as client:
            server = make_server(lambda _: nullcontext(client), network=network)
            if settings is not None and allow_spending:
                add_wallet(server, _wallet(settings, router, allow_spending), key)
            await server.run_stdio_async()

    asyncio.run(serve(api_key))


async def _own_key(settings: "ActorSettings") -> str:
    """A fresh API key of the user that deposits: the one that is kept may be somebody else's."""
    import time

    from tristrata.cli.owner import key_of
    from tristrata.client.account import open_account
    from tristrata.client.api import RouterApi

    async with open_account(settings, key_of(settings, "", None)) as account:
        token = (await account.sign_in()).token
    async with RouterApi(settings.router, token) as router:
        made = await router.create_api_key(name="tristrata mcp", expires_at=int(time.time()) + _KEY_SECONDS)
    return str(made["secret"])


def _wallet(settings: "ActorSettings", router: str, allowance: int) -> "Wallet":
    """The running network's user, whose dollars the embedded network mints."""
    from functools import partial

    from tristrata.chains.pool import Chains
    from tristrata.client.account import Account, open_account
    from tristrata.client.wallet import Wallet
    from tristrata.custody.keystore import load_key, read_password
    from tristrata.devnet.treasury import OPERATOR, give_dollars
    from tristrata.devnet.user import BUDGET, USER
    from tristrata.protocol.units import Amount

    home, hub = settings.home, settings.network.roles.orchestration[0]
    key = load_key(home.keystore(USER), read_password(home.password_file))

    async def fund(account: Account, amount: Amount) -> None:
        async with Chains(settings.network) as chains:
            await give_dollars(settings, chains, [(hub, account.address, amount)])

    giver = fund if home.keystore(OPERATOR).exists() else None
    return Wallet(partial(open_account, settings, key), router, hub, Amount(allowance), BUDGET, giver)


def _serve(listen: str, router: str, network: str, hosts: list[str], origins: list[str]) -> None:
    import sys

    import uvicorn

    from tristrata.client.mcp_http import PATH, make_app
    from tristrata.protocol.errors import InvalidValue

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise InvalidValue(f"--listen {listen!r} must read HOST:PORT", remedy="for example: --listen 127.0.0.1:8788")
    app = make_app(router, network=network, hosts=[listen, f"localhost:{port}", *hosts], origins=origins)
    print(f"tools for agents at http://{listen}{PATH}, over the router at {router}. Ctrl-C stops it.", file=sys.stderr)
    uvicorn.run(app, host=host, port=int(port), log_level="warning")
