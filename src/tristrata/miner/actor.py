"""The miner as a process: keys, model, registration on its hubs, fabric, and then tasks."""

import asyncio
import os
from contextlib import AsyncExitStack

import structlog

from tristrata.bindings.hub import open_hubs
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionWriter
from tristrata.config.actor import ActorSettings
from tristrata.config.network import MinerSettings, Network
from tristrata.config.paths import cache_home
from tristrata.custody.keystore import load_key, load_secret, read_password
from tristrata.fabric.connection import connect
from tristrata.fabric.frames import Offer
from tristrata.fabric.keys import public_bytes
from tristrata.inference.probe import probe
from tristrata.inference.runtime import BackendUnavailable, Runtime
from tristrata.inference.weights import PINNED, path_of
from tristrata.miner.registration import Wanted, register
from tristrata.miner.service import MinerService
from tristrata.miner.vouchers import VoucherKeeper
from tristrata.protocol.signing import address_of
from tristrata.protocol.units import Amount
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents
from tristrata.storage.vouchers import Vouchers

BACKEND_API_KEY = "TRISTRATA_BACKEND_API_KEY"
"""Environment variable with the key of an OpenAI-compatible backend that wants one."""

_RETRY_SECONDS = 2.0
_log = structlog.get_logger()


def miner_keystores(name: str) -> tuple[str, str, str]:
    """A miner's keystores: its account, the key that signs receipts, its NATS seed."""
    return name, f"{name}-signing", f"{name}-nats"


async def run(settings: ActorSettings, miner: MinerSettings) -> None:
    """Register where needed, then serve until cancelled."""
    network, home = settings.network, settings.home
    password = read_password(home.password_file)
    account, signing, nats = (home.keystore(name) for name in miner_keystores(settings.name))
    key, signing_key, seed = load_key(account, password), load_key(signing, password), load_secret(nats, password)
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        intents = Intents(database)
        served = {network.chains[name].caip2 for name in miner.hubs}
        hubs = [hub for caip2, hub in open_hubs(network, settings.manifest, chains).items() if caip2 in served]
        model_id = PINNED[network.models[miner.model].weights].model_id
        wanted = Wanted(
            signing_key=address_of(signing_key.public_key),
            nats_key=public_bytes(seed),
            slots=miner.slots,
            bond=Amount(network.parameters.min_bond),
            model_id=model_id,
            prompt_price=miner.prompt_price,
            output_price=miner.output_price,
        )
        runtime = _runtime(network, miner)
        stack.push_async_callback(runtime.close)
        writers = [TransactionWriter(hub.chain, key, intents) for hub in hubs]
        starting = asyncio.ensure_future(_start(runtime))
        registering = (register(hub, writer, wanted) for hub, writer in zip(hubs, writers, strict=True))
        await asyncio.gather(starting, *registering)
        features = starting.result()
        account_address = address_of(key.public_key)
        keeper = VoucherKeeper(account_address, {hub.caip2: hub for hub in hubs}, Vouchers(database))
        stack.push_async_callback(keeper.drain)
        connection = await connect(settings.fabric, seed, settings.name)
        stack.push_async_callback(connection.close)
        await MinerService(
            connection,
            runtime,
            miner=account_address,
            on_voucher=keeper.on_notice,
            key=signing_key,
            separators={hub.caip2: hub.settlement_domain.separator for hub in hubs},
            offers=[Offer(hub.caip2, model_id, miner.prompt_price, miner.output_price, features) for hub in hubs],
            slots=miner.slots,
            region=miner.region,
        ).run()


def _runtime(network: Network, miner: MinerSettings) -> Runtime:
    # A model runtime is loaded where a model runs, and nowhere else.
    if miner.url is not None:
        from tristrata.inference.openai_backend import OpenAiRuntime

        api_key = os.environ.get(BACKEND_API_KEY)
        return OpenAiRuntime(miner.url, model=miner.backend_model or miner.model, api_key=api_key)
    model = network.models[miner.model]
    pinned = PINNED[model.weights]
    weights = path_of(pinned, cache_home())
    if pinned.tokenizer is not None:
        from tristrata.inference.minilm import MiniLmRuntime

        tokenizer = path_of(pinned.tokenizer, cache_home())
        return MiniLmRuntime(weights, tokenizer, context_length=model.context_length, threads=miner.threads or 1)
    from tristrata.inference.embedded import EmbeddedRuntime

    return EmbeddedRuntime(weights, slots=miner.slots, context_length=model.context_length, threads=miner.threads)


async def _start(runtime: Runtime) -> tuple[str, ...]:
    """Wait for a backend that is not there yet, and give its features; a miner outlives its backend's restarts."""
    while True:
        try:
            await runtime.start()
            features = await probe(runtime)
            _log.info("model ready", features=features)
            return features
        except BackendUnavailable as error:
            _log.warning("backend not ready", reason=error.message, remedy=error.remedy)
            await asyncio.sleep(_RETRY_SECONDS)
