"""`tristrata`: its verbs, and what an error looks like.

Exit codes: 0 done; 1 it could not be done, and standard error says why and what to do; 2 wrong usage; 130 interrupted.
`tristrata verify` has its own: 0 proven, 1 broken, 2 not on Ethereum yet, 3 not checked.
"""

import sys

import typer

from tristrata.cli.actors import miner, relayer, router, settler
from tristrata.cli.ask import ask
from tristrata.cli.connect import connect
from tristrata.cli.demo import demo
from tristrata.cli.down import down
from tristrata.cli.keys import keys
from tristrata.cli.mcp import mcp
from tristrata.cli.money import claim, where_is_my_money
from tristrata.cli.session import session
from tristrata.cli.setup import setup
from tristrata.cli.status import status
from tristrata.cli.up import up
from tristrata.cli.validator import validator
from tristrata.cli.verify import verify
from tristrata.cli.wallet import wallet
from tristrata.protocol.errors import TristrataError

app = typer.Typer(
    help="Tristrata: an open network for AI inference on layered blockchains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_USING = (demo, up, down, status, ask, connect, mcp, verify, claim, where_is_my_money)
_RUNNING = (miner, validator, router, settler, relayer, setup)
for name, group in (("session", session), ("keys", keys), ("wallet", wallet)):
    app.add_typer(group, name=name)
for verb in (*_USING, *_RUNNING):
    app.command(verb.__name__.replace("_", "-"))(verb)


def main() -> None:
    """Run one command; errors of ours become a sentence, what to do about it, and exit code 1."""
    try:
        if sys.argv[1:] == ["setup"]:  # what `make` runs before everything: without Typer's imports
            setup()
        else:
            app()
    except TristrataError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseExceptionGroup as group:
        ours = group.subgroup(TristrataError)
        if ours is None:
            raise
        fail(_first(ours))


def fail(error: TristrataError) -> None:
    """Say what went wrong and what to do, and exit with code 1."""
    print(f"error: {error.message}", file=sys.stderr)
    if error.remedy:
        print(f"       {error.remedy}", file=sys.stderr)
    sys.exit(1)


def _first(group: BaseExceptionGroup[TristrataError]) -> TristrataError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, TristrataError)
    return found
