"""From a false payout that somebody refutes on a hub to L1, which then knows whom to slash."""

import asyncio

from coincurve import PrivateKey

from tests.support.deployment import Deployed
from tristrata.bindings.history import HubHistory
from tristrata.bindings.hub import Hub
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.protocol.attestation import Epoch, make_set
from tristrata.protocol.hashing import address_word, keccak
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.payouts import Payouts
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher import Split
from tristrata.relayer.evidence import Evidence

VALIDATORS = sorted(
    (PrivateKey(keccak(b"validator %d" % n)) for n in range(3)), key=lambda key: address_of(key.public_key)
)
SESSION, STRANGER = SessionId(b"\x5e" * 32), Address(b"\x66" * 20)


async def test_carry__a_refuted_epoch__is_known_for_false_on_l1_and_told_once(deployed: Deployed) -> None:
    network, writer = deployed.network, deployed.writers["arbitrum"]
    hub = Hub(network, deployed.manifest, "arbitrum", deployed.chains["arbitrum"])
    security, l1 = Security(network, deployed.manifest, deployed.chains), deployed.writers["ethereum"]
    facts = (hub.ref, security.ref, hub.outbox_domain.separator, address_word(hub.settlement.address))
    await security.ledger.write(l1, "add chain", "add_chain", *facts)
    now = (await hub.chain.block(Level.SOFT)).timestamp
    validators = make_set(1, {address_of(key.public_key): Amount(1) for key in VALIDATORS}, Timestamp(now + 10_000))
    await hub.outbox.write(writer, "set", "set_from_l1", 1, validators.valid_until, list(validators.packed))

    false = Payouts({SESSION: (Split(STRANGER, Amount(60)),)})
    epoch = Epoch(1, (await hub.chain.block(Level.SOFT)).number, keccak(b"none"), false.root, keccak(b"content"))
    message = digest(hub.outbox_domain.separator, epoch.struct_hash)
    await hub.settle(writer, [], epoch, [sign(key, message) for key in VALIDATORS])
    await _refute(hub, deployed, epoch, false)

    evidence = Evidence(hub, security, l1)
    async with asyncio.timeout(60):
        while not await _false_since(security, hub, epoch):
            await evidence.carry()
            await asyncio.sleep(0.2)
    sent = await security.chain.nonce(l1.address)
    await Evidence(hub, security, l1).carry()
    assert await security.chain.nonce(l1.address) == sent


async def _refute(hub: Hub, deployed: Deployed, epoch: Epoch, false: Payouts) -> None:
    history = HubHistory(hub)
    await history.catch_up(Level.SOFT)
    sealed = history.last_sealed
    assert sealed is not None
    leaf = false.leaf(STRANGER)
    amount, proof = false.prove_entry(STRANGER, SESSION)
    entry = (amount, proof.sides, [(node.digest, node.total) for node in proof.siblings])
    await hub.settlement.write(
        deployed.writers["arbitrum"],
        "refute",
        "refute",
        (epoch.epoch, sealed.root, epoch.struct_hash),
        (leaf.packed, leaf.sums),
        list(false.prove(STRANGER)),
        SESSION,
        [entry],
        0,
        [],
    )


async def _false_since(security: Security, hub: Hub, epoch: Epoch) -> int:
    head = (await security.chain.block(Level.SOFT)).number
    return int(await security.validators.read("false_since", hub.ref, epoch.struct_hash, at=head))
