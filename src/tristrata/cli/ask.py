"""`tristrata ask`: one question from the terminal, answered as it is generated."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName

_POLL_SECONDS = 0.5


def ask(
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    network: NetworkName = DEFAULT_NETWORK,
    hub: Annotated[str, typer.Option(help="The chain whose session pays (default: the first hub).")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 512,
    seed: Annotated[int, typer.Option(help="The same seed and temperature give the same answer.")] = 7,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.0,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="Write the receipt file here, for `verify`.", metavar="FILE")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the receipt can be proven from Ethereum.")] = False,
) -> None:
    """Ask the running network. The answer goes to standard output, what it cost to standard error."""
    import asyncio
    import json

    document = asyncio.run(_ask(prompt, network, hub, max_tokens, seed, temperature, wait))
    if receipt is not None:
        receipt.write_text(json.dumps(document, indent=2) + "\n")


async def _ask(
    prompt: str, network: str, hub: str, max_tokens: int, seed: int, temperature: float, wait: bool
) -> dict[str, Any]:
    """Print the answer; give the receipt file."""
    import asyncio
    import sys

    from tristrata.cli.options import home_of
    from tristrata.client.api import ReceiptArrived, RouterApi, TextDelta
    from tristrata.config.actor import read_actor
    from tristrata.custody.api_keys import read_api_keys
    from tristrata.devnet.running import read_running
    from tristrata.protocol.errors import TristrataError

    home = home_of(network)
    read_running(home)
    settings = read_actor(home, "user")
    hub = hub or settings.network.roles.orchestration[0]
    keys = read_api_keys(home.api_keys_file)
    kept = keys.get(hub)
    if kept is None:
        raise TristrataError(
            f"there is no API key for hub {hub!r}; there is one for {', '.join(keys) or 'none'}",
            remedy="wait until the network is ready: tristrata status",
        )
    request = {
        "model": next(iter(settings.network.models)),
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "seed": seed,
        "temperature": temperature,
    }
    async with RouterApi(settings.router, kept.api_key) as api:
        document = None
        async for event in api.stream_chat(request):
            if isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
            elif isinstance(event, ReceiptArrived):
                document = event.document
        print()
        if document is None:
            raise TristrataError("the answer came without a receipt; nothing was billed")
        signed = document["receipt"]
        print(
            f"{signed['output_tokens']} tokens, {signed['price']} millionths of a dollar, miner {signed['miner']}, "
            f"receipt {signed['request_id']}",
            file=sys.stderr,
        )
        proof = await api.proof(signed["request_id"])
        while wait and proof["path"] is None:
            await asyncio.sleep(_POLL_SECONDS)
            proof = await api.proof(signed["request_id"])
        return proof
