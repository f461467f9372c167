"""`tristrata wallet`: accounts of one's own, in keystore files (as Foundry's) or in the system's keyring."""

from typing import Annotated

import typer

from tristrata.cli.options import AsJson
from tristrata.cli.owner import PasswordFile

wallet = typer.Typer(no_args_is_help=True, help="Accounts of your own: keystore files as Foundry's, or the keyring.")
_Name = Annotated[str, typer.Argument(help="The wallet's name, or a keystore file's path.", metavar="NAME")]


@wallet.command()
def new(
    name: Annotated[str, typer.Argument(help="The wallet's name.", metavar="NAME")],
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Keep the key in the system's keyring, in no file.")
    ] = False,
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an account. Its key is in a keystore file under a password, or in the system's keyring."""
    from tristrata.cli.owner import password_of
    from tristrata.custody.wallets import Wallets

    wallets = Wallets()
    if keyring:
        key, place = wallets.create_in_keyring(name), "the system's keyring"
    else:
        key, place = wallets.create(name, password_of(password_file, confirm=True)), str(wallets.folder / name)
    _show(name, key, place, as_json=as_json)


@wallet.command("list")
def list_wallets(as_json: AsJson = False) -> None:
    """Show the names of the keystore files. What a keyring has, it does not tell."""
    import json

    from tristrata.custody.wallets import Wallets

    names = Wallets().files()
    print(json.dumps({"wallets": names}) if as_json else "\n".join(names))


@wallet.command()
def show(name: _Name, password_file: PasswordFile = None, as_json: AsJson = False) -> None:
    """Show a wallet's address; never its key."""
    from tristrata.cli.owner import password_of
    from tristrata.custody.wallets import Wallets

    key = Wallets().open(name, lambda: password_of(password_file))
    _show(name, key, "", as_json=as_json)


def _show(name: str, key: object, place: str, *, as_json: bool) -> None:
    import json

    from coincurve import PrivateKey

    from tristrata.protocol.ids import checksum
    from tristrata.protocol.signing import address_of

    assert isinstance(key, PrivateKey)
    address = checksum(address_of(key.public_key))
    if as_json:
        print(json.dumps({"wallet": name, "address": address, **({"kept_in": place} if place else {})}))
    else:
        print(f"{address}  in {place}" if place else address)
