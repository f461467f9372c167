"""Options that several verbs have, spelled once."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tristrata.config.home import NetworkHome

NetworkName = Annotated[str, typer.Option("--network", help="The network's name on this machine.", metavar="NAME")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")]
DEFAULT_NETWORK = "local"


def home_of(network: str) -> "NetworkHome":
    """The home folder of a network by name. Raises `InvalidValue` for a name that cannot be one."""
    from tristrata.config.home import NetworkHome

    return NetworkHome.named(network)


def dollars(amount: int | str) -> str:
    """An amount in base units of the embedded network's asset, for people."""
    return f"{int(amount) / 10**6:.6f} tUSD"
