"""`tristrata connect`: an OpenAI endpoint on this machine that keeps the keys, checks every receipt and pays."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tristrata.cli.options import DEFAULT_NETWORK, AsJson, NetworkName
from tristrata.cli.owner import PasswordFile, WalletName

if TYPE_CHECKING:
    from coincurve import PrivateKey

    from tristrata.companion.service import Connection
    from tristrata.config.actor import ActorSettings

_PORT = 8_787


def connect(
    network: NetworkName = DEFAULT_NETWORK,
    hub: Annotated[str, typer.Option(help="The chain whose session pays (default: the first hub).")] = "",
    model: Annotated[str, typer.Option(help="The model that the session is for (default: the network's first).")] = "",
    managed: Annotated[
        bool, typer.Option("--managed", help="Leave the session's key to the router; check its receipts only.")
    ] = False,
    deposit: Annotated[int, typer.Option(min=1, help="Of a new session, in base units of the asset.")] = 1_000_000,
    budget: Annotated[int, typer.Option(min=1, help="The most to spend in all, in base units.")] = 1_000_000,
    per_day: Annotated[int, typer.Option(min=0, help="The most to spend a day; 0 is no limit.")] = 0,
    router: Annotated[
        str, typer.Option(help="The router's address (default: the network file's).", metavar="URL")
    ] = "",
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where to listen on loopback.")] = _PORT,
    yes: Annotated[bool, typer.Option("--yes", help="Open a session, if there is none, without asking.")] = False,
    pay_unseen: Annotated[
        bool, typer.Option("--pay-unseen", help="Pay for answers that came while no companion was looking.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Offer an OpenAI endpoint on loopback: own keys, checked receipts, a budget. Ctrl-C stops it."""
    import asyncio
    import contextlib
    import secrets
    from dataclasses import replace

    from tristrata.cli.options import home_of
    from tristrata.cli.owner import key_of
    from tristrata.companion.service import run
    from tristrata.config.actor import read_actor
    from tristrata.custody.limits import SigningLimits
    from tristrata.devnet.running import read_running
    from tristrata.process import run_service
    from tristrata.protocol.signing import address_of
    from tristrata.protocol.units import Amount

    home = home_of(network)
    read_running(home)
    settings = replace(read_actor(home, "companion"), listen=router or None)
    hub = hub or settings.network.roles.orchestration[0]
    model = model or next(iter(settings.network.models))
    owner = key_of(settings, wallet, password_file)
    whose = f"-{address_of(owner.public_key).hex()}" if wallet else ""
    connecting = _connection(settings, owner, hub, model, deposit, whose=whose, managed=managed, may_open=yes or None)
    found = asyncio.run(connecting)
    local_key = f"sk-local-{secrets.token_urlsafe(24)}"
    limits = SigningLimits(budget=Amount(budget), per_day=Amount(per_day))

    def ready() -> None:
        told = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": local_key, "session": f"0x{found.session.hex()}"}
        _say(as_json, {"event": "ready", **told, "custody": "managed" if managed else "own"})

    with contextlib.suppress(KeyboardInterrupt):
        run_service(
            run(
                settings,
                found,
                limits,
                local_key=local_key,
                port=port,
                pay_unseen=pay_unseen,
                tell=lambda checked: _tell(as_json, checked),
                ready=ready,
            )
        )


async def _connection(
    settings: "ActorSettings",
    owner: "PrivateKey",
    hub_name: str,
    model: str,
    deposit: int,
    *,
    whose: str,
    managed: bool,
    may_open: bool | None,
) -> "Connection":
    """The kept session of this hub, model and custody; else a new one, once the user agrees."""
    import json

    from msgspec.structs import replace

    from tristrata.chains.pool import Chains
    from tristrata.client.account import open_account
    from tristrata.companion.service import Connection
    from tristrata.custody.keystore import load_or_create_secret, read_password
    from tristrata.devnet.treasury import OPERATOR, give_dollars
    from tristrata.devnet.user import BUDGET
    from tristrata.protocol.errors import TristrataError
    from tristrata.protocol.ids import SessionId
    from tristrata.protocol.signing import address_of, parse_key
    from tristrata.protocol.units import Amount

    home = settings.home
    folder = home.actor("companion")
    name = f"{hub_name}-{model}-{'managed' if managed else 'own'}{whose}"
    kept = folder / f"{name}.json"
    password = read_password(home.password_file)
    session_key = None if managed else parse_key(load_or_create_secret(home.keystore(f"session-{name}"), password))
    if not kept.exists():
        if may_open is None:
            may_open = typer.confirm(
                f"There is no session yet. Open one on {hub_name} for {model}, with a deposit of {deposit} base units?"
            )
        if not may_open:
            raise TristrataError("without a session nothing can be asked", remedy="agree, or say --yes")
        async with Chains(settings.network) as chains, open_account(settings, owner) as account:
            hub = account.hub(hub_name)
            await account.join(hub)
            if home.keystore(OPERATOR).exists():  # the embedded network mints its test dollars
                await give_dollars(settings, chains, [(hub_name, account.address, Amount(deposit))])
            opened = await account.open_session(
                hub,
                model,
                replace(BUDGET, deposit=Amount(deposit), exposure_cap=Amount(deposit)),
                session_key=address_of(session_key.public_key) if session_key else None,
            )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept.touch(mode=0o600)
        kept.write_text(json.dumps({"session": opened.session.hex(), "api_key": opened.api_key}))
    document = json.loads(kept.read_text())
    session = SessionId(bytes.fromhex(document["session"]))
    return Connection(hub_name, session, document["api_key"], session_key, folder / f"{document['session']}.jsonl")


def _tell(as_json: bool, checked: Any) -> None:
    import msgspec

    _say(as_json, {"event": "problem" if checked.problem else "checked", **msgspec.structs.asdict(checked)})


def _say(as_json: bool, event: dict[str, Any]) -> None:
    import json
    import sys

    if as_json:
        print(json.dumps(event), flush=True)
    elif event["event"] == "ready":
        print(f"base URL  {event['base_url']}\nAPI key   {event['api_key']}\nsession   {event['session']}", flush=True)
        print(f"custody   {event['custody']}: receipts are checked here. Ctrl-C stops it.", flush=True)
    elif event["event"] == "problem":
        print(f"\nSTOPPED: {event['problem']}", file=sys.stderr, flush=True)
    else:
        line = f"spent {event['spent']} base units, {event['checked']} receipts checked, all right"
        print(f"\r{line}   " if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)
