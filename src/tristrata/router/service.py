"""The router as a process: its chains, its fabric connection, its book, its API."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from coincurve import PrivateKey
from nats.aio.client import Client

from tristrata.bindings.hub import Hub, open_hubs
from tristrata.bindings.security import Security
from tristrata.bindings.welcome import Welcome
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionWriter
from tristrata.client.paths import PathFinder
from tristrata.config.actor import ActorSettings
from tristrata.config.network import Network
from tristrata.custody.keystore import load_key, load_secret, read_password
from tristrata.fabric.connection import ReplyInbox, connect
from tristrata.inference.weights import PINNED
from tristrata.process import LOOPBACK
from tristrata.protocol.ids import Address, Caip2
from tristrata.protocol.signing import address_of
from tristrata.protocol.units import Amount, BasisPoints
from tristrata.router.accounts import AccountDesk, RouterRules, account_routes
from tristrata.router.accounts.tokens import SignInTokens
from tristrata.router.agents import AgentsApi, Messages
from tristrata.router.app import create_app
from tristrata.router.callers import Callers
from tristrata.router.gauges import router_checks, watch_router
from tristrata.router.hubs import HubFollower
from tristrata.router.limits import Limiter
from tristrata.router.metrics import Metrics
from tristrata.router.openai.api import OpenAiApi
from tristrata.router.openai.batching import open_batching
from tristrata.router.openai.catalogue import Catalogue, ServedModel
from tristrata.router.operations import operations_app
from tristrata.router.own_keys import OwnKeyDesk
from tristrata.router.pay_per_call import HouseSessions, PayPerCall
from tristrata.router.presence import Presence
from tristrata.router.receipts_api import ReceiptsApi, ReceiptStages
from tristrata.router.server import serve
from tristrata.router.serving import Desk
from tristrata.router.state import open_state
from tristrata.router.voucher_notices import VoucherNotices
from tristrata.router.waiting import WaitingRoom
from tristrata.storage.content_store import ContentStore
from tristrata.storage.intents import Intents
from tristrata.storage.payments import Payments

ROUTER, SESSION_MASTER, ROUTER_NATS = "router", "router-sessions", "router-nats"
"""Keystores: the account that pays gas and earns, the master of managed session keys, the NATS seed."""


async def run(settings: ActorSettings) -> None:
    """Serve until cancelled."""
    network, home = settings.network, settings.home
    password = read_password(home.password_file)
    key = load_key(home.keystore(ROUTER), password)
    master = load_secret(home.keystore(SESSION_MASTER), password)
    address = address_of(key.public_key)
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        state = await stack.enter_async_context(open_state(settings.database, settings.name, settings.router))
        book, sessions, awaiting = state.book, state.sessions, state.awaiting
        connection, inbox, presence = await _join_fabric(stack, settings, password)
        tokens, serving, metrics = SignInTokens(master), network.serving, Metrics()
        room = WaitingRoom(serving.queue_length, serving.queue_seconds)
        callers = Callers(state.keys, sessions, tokens.read_token, limiter=Limiter(serving))
        hubs = open_hubs(network, settings.manifest, chains)
        followers = {caip2: HubFollower(hub, address, master, sessions, book, awaiting) for caip2, hub in hubs.items()}
        await asyncio.gather(*(follower.catch_up() for follower in followers.values()))
        state.keys.count_awaiting(sessions.awaiting())
        welcome = _welcome(settings, chains)
        written = [welcome.chain, *(hub.chain for hub in hubs.values())]
        writers = {chain.caip2: TransactionWriter(chain, key, Intents(state.database)) for chain in written}
        models = served_models(network)
        notices = VoucherNotices(connection)
        own_keys = OwnKeyDesk(book, awaiting, notices.tell, Amount(network.parameters.unvouchered_limit))
        desk = Desk(
            connection,
            inbox,
            presence,
            book,
            own_keys,
            notices,
            state.fleet,
            settings.name,
            room=room,
            metrics=metrics,
            hedge_seconds=serving.hedge_seconds,
        )
        stack.push_async_callback(desk.drain)
        rules = _rules(settings, address, tuple(models))
        accounts = AccountDesk(rules, welcome, followers, writers, callers, tokens, own_keys, state)
        till = await _till(stack, settings, key, accounts, desk)
        chat = OpenAiApi(desk, callers, Catalogue(models), till.sell if till else None)
        batching, batches = open_batching(state, connection, desk, chat.calls, callers)
        finder = _finder(settings, chains, hubs)
        stages = ReceiptStages(finder, hubs)
        receipts = ReceiptsApi(callers, book, stages, till.house.owner if till else None)

        agents = AgentsApi(
            network.agents,
            settings.router,
            address,
            models,
            followers=followers,
            presence=presence,
            finder=finder,
            callers=callers,
            messages=Messages(desk, chat.calls, chat.catalogue),
            takes_x402=till is not None,
        )
        routes = [*chat.routes, *batching, *account_routes(accounts), *receipts.routes, *agents.routes]
        app = create_app(routes, _health(connection, presence), state.forwarder, metrics=metrics, serving=serving)
        async with asyncio.TaskGroup() as group:
            url = urlsplit(settings.router)
            works = [follower.run() for follower in followers.values()]
            works += [stages.run(), state.fleet.run(), batches.run()]
            works += [serve(app, url.hostname or LOOPBACK, url.port or 80, serving)]
            works += [till.house.run()] if till else []
            works += [state.keys.follow()] if state.database.is_shared else []
            if serving.operations is not None:
                watch_router(metrics, state, presence, room, connection, followers)
                host, _, port = serving.operations.rpartition(":")
                operations = operations_app(metrics, router_checks(state, connection, followers))
                works += [serve(operations, host, int(port))]
            for work in works:
                group.create_task(work)


async def _join_fabric(
    stack: AsyncExitStack, settings: ActorSettings, password: str
) -> tuple[Client, ReplyInbox, Presence]:
    seed = load_secret(settings.home.keystore(ROUTER_NATS), password)
    connection = await connect(settings.fabric, seed, settings.name)
    stack.push_async_callback(connection.close)
    inbox, presence = ReplyInbox(connection, settings.name), Presence(connection)
    await inbox.start()
    await presence.start()
    return connection, inbox, presence


def _welcome(settings: ActorSettings, chains: Chains) -> Welcome:
    onboarding = settings.network.roles.onboarding[0]
    return Welcome(settings.network, settings.manifest, onboarding, chains[onboarding])


def _finder(settings: ActorSettings, chains: Chains, hubs: dict[Caip2, Hub]) -> PathFinder:
    security = Security(settings.network, settings.manifest, chains)
    return PathFinder(settings.network, hubs, security, ContentStore(settings.home.content))


def _rules(settings: ActorSettings, address: Address, models: tuple[ServedModel, ...]) -> RouterRules:
    parameters = settings.network.parameters
    return RouterRules(
        address,
        BasisPoints(parameters.router_bps),
        Amount(parameters.unsecured_limit),
        Amount(parameters.unvouchered_limit),
        parameters.sponsored_per_day,
        urlsplit(settings.router).netloc,
        models,
    )


async def _till(
    stack: AsyncExitStack, settings: ActorSettings, key: PrivateKey, accounts: AccountDesk, desk: Desk
) -> PayPerCall | None:
    """What sells single calls, where the network file says that this is done."""
    network = settings.network
    if network.pay_per_call is None:
        return None
    hubs = [network.chains[name].caip2 for name in network.roles.orchestration]
    house = HouseSessions(network.pay_per_call, accounts, key, hubs)
    payments = Payments(accounts.database)
    if not accounts.database.is_shared:
        await payments.leave_all()
    till = PayPerCall(network.pay_per_call, house, accounts, desk, payments)
    stack.push_async_callback(till.drain)
    return till


def _health(connection: Client, presence: Presence) -> Callable[[], dict[str, Any]]:
    return lambda: {"status": "ok", "fabric": connection.is_connected, "miners": len(presence.market)}


def served_models(network: Network) -> list[ServedModel]:
    """The models of the network file, with the ids that their pinned weights have."""
    return [
        ServedModel(name, PINNED[model.weights].model_id, model.context_length, PINNED[model.weights].embeds)
        for name, model in network.models.items()
    ]
