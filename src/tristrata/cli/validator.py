"""`tristrata validator`: recompute epochs and sign them, or first see whether everything is ready for that."""

import sys
from typing import Annotated

import typer

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName


def validator(
    name: Annotated[str, typer.Argument(help="The validator's name: its keystore.")],
    network: NetworkName = DEFAULT_NETWORK,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Recompute, say what would be signed, sign nothing.")
    ] = False,
    rpc: Annotated[
        list[str] | None,
        typer.Option("--rpc", help="Its own endpoint of a chain; may be repeated.", metavar="CHAIN=URL"),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only see whether it could run: key, stake, chains.")] = False,
) -> None:
    """Run a validator: it knows the chains and the content store, and nothing of router or settler."""
    from dataclasses import replace

    from tristrata.cli.options import home_of
    from tristrata.config.actor import read_actor
    from tristrata.process import log_to_stderr, run_service
    from tristrata.validator.service import run

    settings = read_actor(home_of(network), name)
    settings = replace(settings, network=settings.network.with_rpc(rpc or []))
    if check:
        import asyncio

        from tristrata.validator.readiness import readiness

        findings = asyncio.run(readiness(settings))
        for finding in findings:
            print(f"{'✓' if finding.holds else '✗'} {finding.what}")
        sys.exit(0 if all(finding.holds for finding in findings) else 1)
    log_to_stderr()
    run_service(run(settings, dry_run=dry_run))
