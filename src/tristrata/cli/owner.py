"""Whose account a command acts for: the running network's user, or a wallet of one's own; signed in at the router."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coincurve import PrivateKey

    from tristrata.client.account import Account
    from tristrata.client.api import RouterApi
    from tristrata.config.actor import ActorSettings

WalletName = Annotated[
    str,
    typer.Option(
        "--wallet",
        help="A wallet of yours (default: the running network's user): see tristrata wallet.",
        metavar="NAME",
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", help="The wallet's password (default: it is asked for).", metavar="FILE"),
]


class Owner:
    """An account at the network's router, and what it may ask there."""

    def __init__(self, settings: "ActorSettings", account: "Account", router: "RouterApi") -> None:
        self.settings = settings
        self.account = account
        self.router = router


@asynccontextmanager
async def signed_in(network: str, wallet: str, password_file: Path | None) -> AsyncIterator[Owner]:
    """The account, signed in. Raises what stands in the way as a `TristrataError`."""
    from tristrata.cli.options import home_of
    from tristrata.client.account import open_account
    from tristrata.client.api import RouterApi
    from tristrata.config.actor import read_actor

    settings = read_actor(home_of(network), "owner")
    key = key_of(settings, wallet, password_file)
    async with open_account(settings, key) as account:
        token = (await account.sign_in()).token
        async with RouterApi(settings.router, token) as router:
            yield Owner(settings, account, router)


def key_of(settings: "ActorSettings", wallet: str, password_file: Path | None) -> "PrivateKey":
    """The key of a wallet, or of the network's user."""
    from tristrata.custody.keystore import load_key, read_password
    from tristrata.custody.wallets import Wallets
    from tristrata.devnet.user import USER

    if not wallet:
        return load_key(settings.home.keystore(USER), read_password(settings.home.password_file))
    return Wallets().open(wallet, lambda: password_of(password_file))


def password_of(password_file: Path | None, *, confirm: bool = False) -> str:
    """The password in a file, else what is typed."""
    from tristrata.custody.keystore import read_password

    if password_file is not None:
        return read_password(password_file)
    typed: str = typer.prompt("Password of the wallet", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed
