"""`tristrata status`: what runs, where, and with which key it can be used."""

from typing import TYPE_CHECKING, Any

from tristrata.cli.options import DEFAULT_NETWORK, AsJson, NetworkName

if TYPE_CHECKING:
    from tristrata.config.home import NetworkHome

_ROLES = {"security": "secures", "onboarding": "Welcome Center", "orchestration": "Task Center", "private": "private"}


def status(network: NetworkName = DEFAULT_NETWORK, as_json: AsJson = False) -> None:
    """Show the running network: every chain's RPC address, the router's address and a ready API key."""
    import asyncio
    import json

    from tristrata.cli.options import home_of

    found = asyncio.run(describe(home_of(network)))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_status(found)


async def describe(home: "NetworkHome") -> dict[str, Any]:
    """The running network as one JSON object. Raises `NotRunning`."""
    from tristrata.chains.evm import Level
    from tristrata.chains.pool import Chains
    from tristrata.config.network import read_network
    from tristrata.custody.api_keys import read_api_keys
    from tristrata.devnet.running import read_running
    from tristrata.protocol.errors import TristrataError

    running = read_running(home)
    network = read_network(home.network_file)
    chains: dict[str, Any] = {}
    async with Chains(network) as opened:
        for name, settings in network.chains.items():
            try:
                block: int | None = (await opened[name].block(Level.SOFT)).number
            except TristrataError:
                block = None
            chains[name] = {
                "rpc": settings.rpc[0] if settings.rpc else None,
                "chain_id": settings.chain_id,
                "stack": settings.stack.value,
                "layer": network.layer(name),
                "parent": settings.parent,
                "roles": [role for role in _ROLES if name in _as_names(getattr(network.roles, role))],
                "block": block,
            }
    kept = read_api_keys(home.api_keys_file)
    keys = {hub: {"api_key": key.api_key, "session": key.session} for hub, key in kept.items()}
    hub = network.roles.orchestration[0]
    return {
        "network": network.name,
        "ready": running.is_ready,
        "pid": running.pid,
        "chains": chains,
        "router": network.router,
        "base_url": f"{network.router}/v1",
        "model": next(iter(network.models)),
        "api_key": keys[hub]["api_key"] if hub in keys else None,
        "sessions": keys,
        "processes": running.children,
        "home": str(home.folder),
    }


def print_status(found: dict[str, Any]) -> None:
    """The same for people."""
    from rich.console import Console
    from rich.tree import Tree

    console = Console(highlight=False)
    state = "ready" if found["ready"] else "starting"
    tree = Tree(f"network [bold]{found['network']}[/bold], {state}")
    nodes: dict[str | None, Tree] = {None: tree}
    for name, chain in sorted(found["chains"].items(), key=lambda item: item[1]["layer"]):
        roles = ", ".join(_ROLES[role] for role in chain["roles"])
        block = "not answering" if chain["block"] is None else f"block {chain['block']}"
        line = f"[bold]{name}[/bold]  L{chain['layer']}  {chain['rpc']}  {block}  [dim]{roles}[/dim]"
        nodes[name] = nodes[chain["parent"]].add(line)
    console.print(tree)
    console.print(f"OpenAI base URL  {found['base_url']}\nmodel            {found['model']}", soft_wrap=True)
    if found["api_key"]:
        console.print(f"API key          {found['api_key']}", soft_wrap=True)


def _as_names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
