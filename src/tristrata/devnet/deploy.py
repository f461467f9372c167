"""The embedded network's contracts and the money of its actors: made once, checked at every start."""

import asyncio
from contextlib import AsyncExitStack

from coincurve import PrivateKey

from tristrata.bindings.hub import open_hubs
from tristrata.bindings.security import Security
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionWriter
from tristrata.config.actor import ActorSettings
from tristrata.config.home import NetworkHome
from tristrata.config.manifest import Manifest, ManifestInvalid, read_manifest
from tristrata.config.network import Network
from tristrata.custody.keystore import create_password, load_or_create_secret
from tristrata.deployment.apply import DeploymentBroken, apply, check
from tristrata.deployment.plan import plan
from tristrata.devnet.admission import ADMISSION_NATS, ISSUER
from tristrata.devnet.treasury import OPERATOR, give_dollars, give_ether
from tristrata.inference.weights import PINNED
from tristrata.miner.actor import miner_keystores
from tristrata.protocol.hashing import address_word
from tristrata.protocol.ids import Address
from tristrata.protocol.signing import address_of, parse_key
from tristrata.protocol.units import Amount
from tristrata.relayer.service import RELAYER
from tristrata.router.service import ROUTER, ROUTER_NATS, SESSION_MASTER
from tristrata.settler.service import SETTLER
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

_MINE_SECONDS = 0.05


def create_keys(home: NetworkHome, network: Network) -> dict[str, bytes]:
    """Every secret of the network by the name of its keystore, made now where there is none."""
    password = create_password(home.password_file)
    names = [OPERATOR, ROUTER, SESSION_MASTER, ROUTER_NATS, RELAYER, SETTLER, ADMISSION_NATS, ISSUER]
    names += network.validators
    for miner in network.miners:
        names += miner_keystores(miner)
    return {name: load_or_create_secret(home.keystore(name), password) for name in names}


async def deploy(home: NetworkHome, network: Network, keys: dict[str, bytes]) -> bool:
    """Deploy and fund what is missing; check what stands. Gives whether anything was deployed.

    Raises `DeploymentBroken` when the chains do not hold what the manifest says.
    """
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        if _is_complete(read_manifest(home.manifest_file), network):
            try:
                await check(read_manifest(home.manifest_file), network, {name: chains[name] for name in network.chains})
            except DeploymentBroken as error:
                raise DeploymentBroken(
                    f"{error.message}. The chains of network {network.name} lost their last state, as they do when "
                    "the machine stops under them",
                    remedy="start anew (the old network is moved aside): tristrata up --fresh",
                ) from error
            return False
        mining = asyncio.create_task(_mine_on_demand(chains, network))
        stack.callback(mining.cancel)
        await _deploy(home, network, chains, keys)
        return True


async def _deploy(home: NetworkHome, network: Network, chains: Chains, keys: dict[str, bytes]) -> None:
    paying = (OPERATOR, ROUTER, RELAYER, SETTLER, *network.miners, *network.validators)
    accounts = {name: _account(keys[name]) for name in paying}
    names = [network.roles.security, *network.roles.onboarding, *network.roles.hubs]
    await asyncio.gather(*(give_ether(chains, names, account) for account in accounts.values()))
    database = await Database.open(home.actor(OPERATOR) / f"{OPERATOR}.sqlite")
    try:
        operator = PrivateKey(keys[OPERATOR])
        writers = {
            name: TransactionWriter(chains[name], operator, Intents(database), poll_seconds=0.02) for name in names
        }
        planned = plan(network, accounts[OPERATOR], accounts[RELAYER])
        manifest = await apply(planned, network, writers, home.manifest_file)
        security = Security(network, manifest, chains)
        await asyncio.gather(
            _register_models(network, manifest, chains, writers),
            _add_chains(network, manifest, chains, security, writers[security.name]),
        )
        validators = {name: PrivateKey(keys[name]) for name in network.validators}
        stake = network.parameters.min_stake
        await _bond_validators(security, writers[security.name], validators, stake, Intents(database))
        await asyncio.sleep(network.parameters.activation_seconds)
        await _publish_validators(security, writers[security.name], validators)
        await _add_children(network, manifest, chains, PrivateKey(keys[RELAYER]), Intents(database))
    finally:
        await database.close()
    settings = ActorSettings(OPERATOR, home, network, manifest)
    bond = Amount(network.parameters.min_bond)
    grants = [(hub, accounts[name], bond) for name, miner in network.miners.items() for hub in miner.hubs]
    if network.pay_per_call is not None:
        money = Amount(2 * network.pay_per_call.session_deposit * len(network.models))
        grants += [(hub, accounts[ROUTER], money) for hub in network.roles.orchestration]
    await give_dollars(settings, chains, grants)


async def _register_models(
    network: Network, manifest: Manifest, chains: Chains, writers: dict[str, TransactionWriter]
) -> None:
    hubs = open_hubs(network, manifest, chains).values()
    pinned = {name: PINNED[model.weights] for name, model in network.models.items()}
    await asyncio.gather(
        *(
            hub.models.write(
                writers[hub.name],
                f"register model {name}",
                "register",
                name,
                bytes.fromhex(weights.file_sha256),
                bytes.fromhex(weights.tokenizer_sha256),
                bytes.fromhex(weights.template_sha256),
            )
            for hub in hubs
            for name, weights in pinned.items()
        )
    )


async def _add_chains(
    network: Network, manifest: Manifest, chains: Chains, security: Security, writer: TransactionWriter
) -> None:
    """Every hub is known to the ledger; those under another hub are attested inside its epochs."""
    for hub in open_hubs(network, manifest, chains).values():
        parent = network.chains[hub.name].parent
        assert parent is not None
        facts = (hub.ref, network.ref(parent), hub.outbox_domain.separator, address_word(hub.settlement.address))
        await security.ledger.write(writer, f"add chain {hub.name}", "add_chain", *facts)


async def _bond_validators(
    security: Security, operator: TransactionWriter, keys: dict[str, PrivateKey], stake: int, intents: Intents
) -> None:
    writers = {name: TransactionWriter(security.chain, key, intents, poll_seconds=0.02) for name, key in keys.items()}
    spender = security.validators.address

    async def bond(name: str, writer: TransactionWriter) -> None:
        await security.token.write(operator, f"stake for {name}", "mint", writer.address, stake)
        await security.token.write(writer, "approve the stake", "approve", spender, stake)
        await security.validators.write(writer, "register", "register", writer.address, stake)

    await asyncio.gather(*(bond(name, writer) for name, writer in writers.items()))


async def _publish_validators(security: Security, operator: TransactionWriter, keys: dict[str, PrivateKey]) -> None:
    signers = sorted(address_of(key.public_key) for key in keys.values())
    await security.validators.write(operator, "publish the first validator set", "publish", signers)


async def _add_children(
    network: Network, manifest: Manifest, chains: Chains, relayer: PrivateKey, intents: Intents
) -> None:
    hubs = {hub.name: hub for hub in open_hubs(network, manifest, chains).values()}
    for name, hub in hubs.items():
        parent = network.chains[name].parent
        if parent in hubs:
            writer = TransactionWriter(hubs[parent].chain, relayer, intents, poll_seconds=0.02)
            await hubs[parent].outbox.write(writer, f"add child {name}", "add_child", hub.ref)


async def _mine_on_demand(chains: Chains, network: Network) -> None:
    """Blocks at once instead of at their interval, as long as there is something to deploy."""
    while True:
        for name in network.chains:
            pool = await chains[name].rpc("txpool_status")
            if int(pool["pending"], 16):
                await chains[name].rpc("evm_mine")
        await asyncio.sleep(_MINE_SECONDS)


def _is_complete(manifest: Manifest, network: Network) -> bool:
    try:
        for chain in network.roles.onboarding:
            manifest.address(network.chains[chain].caip2, "Welcome")
        for chain in network.roles.hubs:
            manifest.address(network.chains[chain].caip2, "TaskQueue")
    except ManifestInvalid:
        return False
    return True


def _account(secret: bytes) -> Address:
    return address_of(parse_key(secret).public_key)
