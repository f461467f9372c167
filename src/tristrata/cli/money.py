"""`tristrata where-is-my-money` and `tristrata claim`: what an account has, and how it gets it."""

from typing import Annotated, Any

import typer

from tristrata.cli.options import DEFAULT_NETWORK, AsJson, NetworkName, dollars


def where_is_my_money(
    account: Annotated[str, typer.Argument(help="An address, or the name of a keystore of this network.")],
    network: NetworkName = DEFAULT_NETWORK,
    as_json: AsJson = False,
) -> None:
    """Show an account's money on every hub: wallet, deposits, earnings, and what of those can be claimed when."""
    import asyncio

    import msgspec

    found = asyncio.run(_look(account, network))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode([_as_json(money) for money in found]), indent=2).decode())
        return
    for money in found:
        print(f"{money.hub}: wallet {dollars(money.wallet)}")
        for session in money.sessions:
            left = dollars(session.deposit - session.charged)
            closing = f", closes at {session.closing_at}" if session.closing_at else ""
            print(f"  session 0x{session.session.hex()[:8]}…: {left} left of {dollars(session.deposit)}{closing}")
        if money.earned:
            print(
                f"  earned {dollars(money.earned)}: {dollars(money.claimed)} claimed, {dollars(money.claimable)} "
                f"claimable now, {dollars(money.maturing)} after the veto delay, {dollars(money.unsealed)} unsealed"
            )


def claim(
    name: Annotated[str, typer.Argument(help="The keystore whose account earned, and pays the gas.")],
    network: NetworkName = DEFAULT_NETWORK,
    direct: Annotated[
        bool, typer.Option("--direct", help="By the vouchers it keeps: needs no settler, epoch or validator; more gas.")
    ] = False,
) -> None:
    """Claim what an account has earned, on every hub."""
    import asyncio

    for hub, amount, gas in asyncio.run(_claim(name, network, direct)):
        print(f"{hub}: {dollars(amount)} claimed, {gas:,} gas" if gas else f"{hub}: nothing to claim now")


async def _look(account: str, network: str) -> list[Any]:
    from tristrata.bindings.hub import open_hubs
    from tristrata.chains.pool import Chains
    from tristrata.cli.options import home_of
    from tristrata.client.money import Treasurer
    from tristrata.config.actor import read_actor
    from tristrata.custody.keystore import load_key, read_password
    from tristrata.protocol.ids import parse_address
    from tristrata.protocol.signing import address_of
    from tristrata.storage.content_store import ContentStore

    home = home_of(network)
    settings = read_actor(home, "owner")
    if home.keystore(account).exists():
        address = address_of(load_key(home.keystore(account), read_password(home.password_file)).public_key)
    else:
        address = parse_address(account)
    async with Chains(settings.network) as chains:
        hubs = open_hubs(settings.network, settings.manifest, chains).values()
        return [await Treasurer(hub, ContentStore(home.content)).money(address) for hub in hubs]


async def _claim(name: str, network: str, direct: bool) -> list[tuple[str, int, int]]:
    from contextlib import AsyncExitStack

    from tristrata.bindings.hub import open_hubs
    from tristrata.chains.pool import Chains
    from tristrata.chains.writer import TransactionWriter
    from tristrata.cli.options import home_of
    from tristrata.client.charging import charge_kept
    from tristrata.client.money import Treasurer
    from tristrata.config.actor import read_actor
    from tristrata.custody.keystore import load_key, read_password
    from tristrata.protocol.signing import address_of
    from tristrata.storage.content_store import ContentStore
    from tristrata.storage.database import Database
    from tristrata.storage.intents import Intents
    from tristrata.storage.vouchers import Vouchers

    home = home_of(network)
    settings = read_actor(home, name)
    key = load_key(home.keystore(name), read_password(home.password_file))
    address = address_of(key.public_key)
    outcomes: list[tuple[str, int, int]] = []
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(settings.network))
        database = await Database.open(home.actor(name) / "claims.sqlite")
        stack.push_async_callback(database.close)
        own = await Database.open(settings.database)  # a miner's own, where it keeps the vouchers that pay it
        stack.push_async_callback(own.close)
        kept = Vouchers(own)
        for hub in open_hubs(settings.network, settings.manifest, chains).values():
            treasurer = Treasurer(hub, ContentStore(home.content))
            writer = TransactionWriter(hub.chain, key, Intents(database))
            before = (await treasurer.money(address)).claimed
            if direct:
                done = await charge_kept(hub, writer, await kept.of(hub.caip2))
                done += await treasurer.claim_direct(writer, address)
            else:
                one = await treasurer.claim(writer, address)
                done = [one] if one else []
            after = (await treasurer.money(address)).claimed
            outcomes.append((hub.name, after - before, sum(each.gas_used for each in done)))
    return outcomes


def _as_json(money: Any) -> dict[str, Any]:
    amounts = ("wallet", "earned", "claimed", "claimable", "maturing", "unsealed")
    sessions = [
        {"session": f"0x{each.session.hex()}", "deposit": str(each.deposit), "charged": str(each.charged)}
        for each in money.sessions
    ]
    return {"hub": money.hub, **{name: str(getattr(money, name)) for name in amounts}, "sessions": sessions}
