"""`tristrata keys`: an account's API keys at its router."""

from typing import Annotated, Any

import typer

from tristrata.cli.options import DEFAULT_NETWORK, AsJson, NetworkName, dollars
from tristrata.cli.owner import PasswordFile, WalletName

keys = typer.Typer(no_args_is_help=True, help="API keys at the router: what they may do and spend, and their end.")
_KeyId = Annotated[str, typer.Argument(help="The key's id: see tristrata keys list.", metavar="ID")]


@keys.command("list")
def list_keys(
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the keys, the newest first; nobody can show a key's secret again."""
    found = _ask(network, wallet, password_file, "api_keys", limit=1_000)["data"]
    if as_json:
        _print_json(found)
        return
    for key in found:
        state = "revoked" if key["revoked_at"] else "expires " + _day(key["expires_at"]) if key["expires_at"] else ""
        budget = f"of {dollars(key['budget'])}" if key["budget"] else "no budget"
        print(
            f"{key['id']}  {key['name'] or '–':20} {dollars(key['spent'])} spent, {budget}  "
            f"{'+'.join(key['scopes'])}  {state}".rstrip()
        )


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="A name to know it by.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do: inference, read, admin (default: the first two).")
    ] = None,
    budget: Annotated[int, typer.Option(min=0, help="The most it may spend, in base units; 0 is no limit.")] = 0,
    days: Annotated[int, typer.Option(min=0, help="How many days it is valid; 0 is for ever.")] = 0,
    session: Annotated[
        list[str] | None, typer.Option(help="A session that it may use (default: all of the account's).", metavar="ID")
    ] = None,
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is shown now, and never again."""
    import time

    fields: dict[str, Any] = {"name": name, "budget": str(budget)}
    fields |= {"scopes": scope} if scope else {}
    fields |= {"sessions": session} if session else {}
    fields |= {"expires_at": int(time.time()) + days * 86_400} if days else {}
    _tell_secret(_ask(network, wallet, password_file, "create_api_key", **fields), as_json=as_json)


@keys.command()
def rotate(
    key: _KeyId,
    grace: Annotated[int, typer.Option(min=0, help="How many seconds the old secret stays valid.")] = 3_600,
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a key another secret, which is shown now and never again."""
    _tell_secret(_ask(network, wallet, password_file, "rotate_api_key", key, grace), as_json=as_json)


@keys.command()
def revoke(
    key: _KeyId,
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """End a key at once, for ever."""
    found = _ask(network, wallet, password_file, "revoke_api_key", key)
    if as_json:
        _print_json(found)
    else:
        print(f"{key} is revoked")


def _ask(network: str, wallet: str, password_file: Any, method: str, *arguments: Any, **fields: Any) -> dict[str, Any]:
    """What the router answers the signed-in account."""
    import asyncio

    from tristrata.cli.owner import signed_in

    async def ask() -> dict[str, Any]:
        async with signed_in(network, wallet, password_file) as owner:
            answer: dict[str, Any] = await getattr(owner.router, method)(*arguments, **fields)
            return answer

    return asyncio.run(ask())


def _tell_secret(found: dict[str, Any], *, as_json: bool) -> None:
    import sys

    if as_json:
        _print_json(found)
        return
    print(found["secret"])
    print(f"{found['id']}: keep this secret, it is shown only now", file=sys.stderr)


def _print_json(found: Any) -> None:
    import json

    print(json.dumps(found, indent=2))


def _day(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
