"""`tristrata verify`: whether a receipt holds, link by link, from the miner's signature to Ethereum.

Exit codes: 0 proven; 1 a link is broken, and which; 2 signed, but not on Ethereum yet, and what is awaited; 3 it could
not be checked (no such file, no answer from L1).
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tristrata.cli.options import DEFAULT_NETWORK, AsJson, NetworkName


def verify(
    file: Annotated[Path, typer.Argument(help="The receipt file.", metavar="FILE")],
    rpc: Annotated[str, typer.Option(help="An RPC address of L1 (default: the running network's).")] = "",
    checkpoint: Annotated[
        str, typer.Option(help="The root that the ledger holds: checks offline.", metavar="HEX")
    ] = "",
    ledger: Annotated[
        str, typer.Option(help="The CheckpointLedger that you trust (default: the network's).", metavar="ADDRESS")
    ] = "",
    network: NetworkName = DEFAULT_NETWORK,
    as_json: AsJson = False,
) -> None:
    """Check a receipt against Ethereum. Exit code 0: proven; 1: broken; 2: not on Ethereum yet; 3: not checked."""
    import json

    from tristrata.client.verifying import verify_file

    code, found = verify_file(file, rpc=rpc, checkpoint=checkpoint, ledger=ledger, network=network)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    if code:
        sys.exit(code)


def _print(found: dict[str, Any]) -> None:
    status = found["status"]
    if status == "proven":
        _print_path(found)
    elif status == "broken":
        print(f"BROKEN at: {found['link']}\n  expected  {found['expected']}\n  found     {found['found']}")
    elif status == "awaiting":
        print(f"SIGNED, not on Ethereum yet. Awaiting {found['awaited']}.")
    else:
        print(f"error: {found['error']}", file=sys.stderr)
        if found["remedy"]:
            print(f"       {found['remedy']}", file=sys.stderr)


def _print_path(found: dict[str, Any]) -> None:
    receipt, checkpoint = found["receipt"], found["checkpoint"]
    tokens = f"{receipt['prompt_tokens']} + {receipt['output_tokens']} tokens for {receipt['price']}"
    print(f"PROVEN on Ethereum, {found['lane']}")
    print(f"  receipt   {found['receipt_hash']}  {tokens}, by miner {receipt['miner']}")
    print(f"  signed    by {found['signer']}")
    print(f"  session   {receipt['session']}, position {found['position']}, on {found['chain']}")
    for hop in found["hops"]:
        print(f"  epoch     {hop['root']}  epoch {hop['epoch']} of chain {hop['chain_ref']}  [{hop['lane']}]")
    print(f"  ethereum  {checkpoint['root']}  ledger {checkpoint['ledger']} on {checkpoint['chain']}")
    print(f"            {checkpoint['source']}")
    if not checkpoint["ledger_is_trusted"]:
        print("  note: only the file says that this is Tristrata's ledger; give --ledger ADDRESS to be sure")
