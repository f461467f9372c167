"""`tristrata session`: what an account has deposited to pay for answers, and how it comes back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tristrata.cli.options import DEFAULT_NETWORK, AsJson, NetworkName, dollars
from tristrata.cli.owner import PasswordFile, WalletName

if TYPE_CHECKING:
    from tristrata.cli.owner import Owner

session = typer.Typer(no_args_is_help=True, help="Deposits that pay for answers: open, top up, close, refund.")
_SessionId = Annotated[str, typer.Argument(help="The session's id: see tristrata session list.", metavar="ID")]
_HubName = Annotated[str, typer.Option("--hub", help="The chain that it is on (default: the first hub).")]
_POLL_SECONDS = 0.5


@session.command("list")
def list_sessions(
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the account's sessions, the newest first."""

    async def look(owner: "Owner") -> Any:
        return (await owner.router.sessions(limit=1_000))["data"]

    found = _act(network, wallet, password_file, look)
    if as_json:
        _print_json(found)
        return
    for each in found:
        left = int(each["deposit"]) - int(each["cumulative"])
        money = f"{dollars(left)} left of {dollars(each['deposit'])}"
        print(f"{each['id'][:18]}…  {each['model']:24} {money}  {_state(each)}")


@session.command()
def show(
    session_id: _SessionId,
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one session's money."""

    async def look(owner: "Owner") -> Any:
        return await owner.router.session(_parse(await _whole(owner, session_id)))

    _tell(_act(network, wallet, password_file, look), as_json=as_json)


@session.command("open")
def open_session(
    model: Annotated[str, typer.Option(help="The model that it pays for (default: the network's first).")] = "",
    deposit: Annotated[int, typer.Option(min=1, help="In base units of the hub's asset.")] = 1_000_000,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it lives.")] = 30,
    per_day: Annotated[int, typer.Option(min=0, help="The most that is charged a day; 0 is no limit.")] = 0,
    hub: _HubName = "",
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Deposit, and get an API key that uses the deposit. The router holds the session's key (managed custody)."""

    async def deposit_it(owner: "Owner") -> Any:
        from msgspec.structs import replace

        from tristrata.devnet.user import BUDGET
        from tristrata.protocol.ids import show as shown
        from tristrata.protocol.units import Amount

        settings = owner.settings
        chosen = owner.account.hub(hub or settings.network.roles.orchestration[0])
        name, amount = model or next(iter(settings.network.models)), Amount(deposit)
        budget = replace(
            BUDGET, deposit=amount, exposure_cap=amount, max_per_day=Amount(per_day), seconds=days * 86_400
        )
        _say("registering the account, if it is new …")
        await owner.account.join(chosen)
        await _fund(owner, chosen.name, amount)
        _say(f"opening a session on {chosen.name} …")
        opened = await owner.account.open_session(chosen, name, budget)
        return {"session": shown(opened.session), "model": name, "deposit": str(amount), "api_key": opened.api_key}

    found = _act(network, wallet, password_file, deposit_it)
    if as_json:
        _print_json(found)
    else:
        print(f"session  {found['session']}\ndeposit  {dollars(found['deposit'])} for {found['model']}")
        print(f"API key  {found['api_key']}")
        _say("keep the key: it is shown only now")


@session.command("top-up")
def top_up(
    session_id: _SessionId,
    amount: Annotated[int, typer.Argument(min=1, help="In base units of the hub's asset.")],
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Deposit more."""

    async def add(owner: "Owner") -> Any:
        from tristrata.protocol.units import Amount

        found = await owner.router.session(_parse(await _whole(owner, session_id)))
        hub = owner.account.hub(owner.settings.network.chain_named(found["chain"]))
        await _fund(owner, hub.name, Amount(amount))
        _say(f"topping up on {hub.name} …")
        return await owner.account.top_up(hub, _parse(found["id"]), Amount(amount), router=owner.router)

    _tell(_act(network, wallet, password_file, add), as_json=as_json)


@session.command()
def close(
    session_id: _SessionId,
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the grace period, and fetch the refund.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for a session's end: after the grace period what was not charged can go back (tristrata session refund)."""

    async def end(owner: "Owner") -> Any:
        found = await owner.router.session(_parse(await _whole(owner, session_id)))
        hub = owner.account.hub(owner.settings.network.chain_named(found["chain"]))
        if found["refund"]["state"] == "open":
            _say(f"asking for its end on {hub.name} …")
            found = await owner.account.close_session(hub, _parse(found["id"]))
        return await _refund(owner, found) if wait else found

    _tell(_act(network, wallet, password_file, end), as_json=as_json)


@session.command()
def refund(
    session_id: _SessionId,
    network: NetworkName = DEFAULT_NETWORK,
    wallet: WalletName = "",
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Fetch back what was not charged of a session whose grace period is over, or wait for that."""

    async def fetch(owner: "Owner") -> Any:
        from tristrata.protocol.errors import TristrataError

        found = await owner.router.session(_parse(await _whole(owner, session_id)))
        if found["refund"]["state"] == "open":
            raise TristrataError("nobody has asked for this session's end", remedy="tristrata session close ID")
        return await _refund(owner, found)

    _tell(_act(network, wallet, password_file, fetch), as_json=as_json)


async def _refund(owner: "Owner", found: dict[str, Any]) -> dict[str, Any]:
    """Wait until the hub lets it close, and close it."""
    import asyncio

    from tristrata.chains.evm import Level

    hub = owner.account.hub(owner.settings.network.chain_named(found["chain"]))
    if found["refund"]["state"] == "closing":
        _say(f"waiting for the grace period on {hub.name}, until {found['refund']['available_at']} (Unix time) …")
        now = 0
        while now <= found["refund"]["available_at"]:
            await asyncio.sleep(_POLL_SECONDS)
            now = int((await hub.chain.block(Level.SOFT)).timestamp)
        _say("fetching the rest …")
    return await owner.router.refund(_parse(found["id"]))


async def _fund(owner: "Owner", hub: str, amount: Any) -> None:
    """Give the account test dollars, where the embedded network mints them and it has too few."""
    from tristrata.chains.evm import Level
    from tristrata.chains.pool import Chains
    from tristrata.devnet.treasury import OPERATOR, give_dollars

    if not owner.settings.home.keystore(OPERATOR).exists():
        return
    found = owner.account.hub(hub)
    has = await found.balance(owner.account.address, at=(await found.chain.block(Level.SOFT)).number)
    if has < amount:
        async with Chains(owner.settings.network) as chains:
            await give_dollars(owner.settings, chains, [(hub, owner.account.address, amount)])


async def _whole(owner: "Owner", session_id: str) -> str:
    """The id that a beginning of one means."""
    from tristrata.protocol.errors import InvalidValue

    beginning = "0x" + session_id.lower().removeprefix("0x").rstrip("…")
    if len(beginning) == 66:
        return beginning
    known = [each["id"] for each in (await owner.router.sessions(limit=1_000))["data"]]
    found = [each for each in known if each.startswith(beginning)]
    if len(found) != 1:
        raise InvalidValue(
            f"{len(found)} of your sessions begin with {session_id!r}", remedy="see: tristrata session list --json"
        )
    return str(found[0])


def _parse(session_id: str) -> Any:
    from tristrata.protocol.ids import SessionId, parse_bytes32

    return SessionId(parse_bytes32(session_id, "session"))


def _act(network: str, wallet: str, password_file: Path | None, work: Any) -> Any:
    """What ``work`` gives the signed-in owner."""
    import asyncio

    from tristrata.cli.owner import signed_in

    async def act() -> Any:
        async with signed_in(network, wallet, password_file) as owner:
            return await work(owner)

    return asyncio.run(act())


def _tell(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    print(f"session    {found['id']}\nmodel      {found['model']} on {found['chain']}, custody {found['custody']}")
    spent = f"spent {dollars(found['cumulative'])}, charged {dollars(found['charged'])}"
    print(f"deposit    {dollars(found['deposit'])}, {spent}")
    print(f"available  {dollars(found['available'])} for the next answer\nstate      {_state(found)}")


def _state(found: dict[str, Any]) -> str:
    back = found["refund"]
    if back["state"] in ("closed", "forfeited"):
        return f"{back['state']}, {dollars(back['amount'])} went back"
    if back["state"] == "closing":
        return f"closing, {dollars(back['amount'])} come back after {back['available_at']} (Unix time)"
    return "ending" if found["ending"] else "open"


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr, flush=True)


def _print_json(found: Any) -> None:
    import json

    print(json.dumps(found, indent=2))
