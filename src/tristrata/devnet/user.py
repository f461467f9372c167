"""The embedded network's own user: registered, funded with test dollars, with a session and an API key on every hub."""

from contextlib import AsyncExitStack

from tristrata.bindings.hub import Hub, open_hubs
from tristrata.bindings.welcome import Welcome
from tristrata.chains.pool import Chains
from tristrata.client.account import Account, Budget
from tristrata.client.api import RouterApi, RouterRefused
from tristrata.config.actor import ActorSettings
from tristrata.custody.api_keys import KeptKey, keep_api_key, read_api_keys
from tristrata.custody.keystore import load_or_create_secret, read_password
from tristrata.devnet.treasury import give_dollars
from tristrata.protocol.signing import parse_key
from tristrata.protocol.units import Amount, PricePerMillion

USER = "user"
"""Keystore: the account that `tristrata ask` and the printed commands use."""

DEPOSIT = Amount(5_000_000)
_LEAST_AVAILABLE = Amount(100_000)
BUDGET = Budget(
    deposit=DEPOSIT,
    exposure_cap=Amount(1_000_000),
    max_prompt_price=PricePerMillion(1_000_000),
    max_output_price=PricePerMillion(1_000_000),
)


async def provide_user(settings: ActorSettings) -> dict[str, KeptKey]:
    """See to it that the user has an API key on every hub, whose sessions can still pay; gives them by hub."""
    home, network = settings.home, settings.network
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        router = await stack.enter_async_context(RouterApi(settings.router))
        hubs = open_hubs(network, settings.manifest, chains)
        lacking = [hub for hub in hubs.values() if not await _can_pay(settings, hub)]
        if lacking:
            key = parse_key(load_or_create_secret(home.keystore(USER), read_password(home.password_file)))
            name = network.roles.onboarding[0]
            account = Account(key, router, Welcome(network, settings.manifest, name, chains[name]), hubs)
            known = await router.hubs_that_know(account.address)
            if any(hub.caip2 not in known for hub in lacking):
                await account.register()
            money = Amount(DEPOSIT * len(network.models))
            await give_dollars(settings, chains, [(hub.name, account.address, money) for hub in lacking])
            for hub in lacking:
                await account.wait_until_known(hub)
                first, *others = network.models
                opened = await account.open_session(hub, first, BUDGET)
                for model in others:  # one key for all models, a session for each
                    await account.open_session(hub, model, BUDGET, api_key=opened.api_key)
                keep_api_key(home.api_keys_file, hub.name, opened.api_key, opened.session)
    return read_api_keys(home.api_keys_file)


async def _can_pay(settings: ActorSettings, hub: Hub) -> bool:
    kept = read_api_keys(settings.home.api_keys_file).get(hub.name)
    if kept is None:
        return False
    async with RouterApi(settings.router, kept.api_key) as api:
        try:
            sessions = (await api.sessions())["data"]
        except RouterRefused:
            return False
    able = {
        session["model"]
        for session in sessions
        if not session["ending"] and int(session["available"]) >= _LEAST_AVAILABLE
    }
    return able >= set(settings.network.models)
