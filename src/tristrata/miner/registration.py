"""A miner's place on a hub: its bond, its keys, its offers. Everything is checked first and changed only if wrong."""

import msgspec
import structlog

from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionWriter
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, ModelId, checksum
from tristrata.protocol.units import Amount

_NO_HPKE_KEY = bytes(32)
_log = structlog.get_logger()


class MinerUnfunded(TristrataError):
    """The miner's account cannot pay its bond or its gas."""


class MinerLeaving(TristrataError):
    """The miner has asked to leave the hub."""


class Wanted(msgspec.Struct, frozen=True):
    """How the miner should stand on a hub. Prices are base units per 1,000,000 tokens; the bond is base units."""

    signing_key: Address
    nats_key: bytes
    slots: int
    bond: Amount
    model_id: ModelId
    prompt_price: int
    output_price: int


async def register(hub: Hub, writer: TransactionWriter, wanted: Wanted) -> None:
    """Make the hub's registry say what is wanted. Raises `MinerUnfunded`, `MinerLeaving`, or a contract's refusal."""
    account = writer.address
    head = (await hub.chain.block(Level.SOFT)).number
    record = await hub.miner(account, at=head)
    if record.exit_at:
        raise MinerLeaving(
            f"miner {checksum(account)} leaves {hub.name} at {record.exit_at}",
            remedy="wait until then, take the bond back, and register again",
        )
    # A purpose names one transaction for ever, so each one that may be wanted again says from which block on.
    if not record.active:
        await _check_funds(hub, account, wanted.bond, head)
        allowance = (hub.miners.address, wanted.bond)
        await hub.asset.write(writer, f"approve the bond, from block {head}", "approve", *allowance)
        keys = (wanted.signing_key, wanted.nats_key, _NO_HPKE_KEY)
        await hub.miners.write(writer, f"register, from block {head}", "register", *keys, wanted.slots, wanted.bond)
        _log.info("registered", hub=hub.name, miner=checksum(account), bond=wanted.bond)
    elif (record.signing_key, record.nats_key) != (wanted.signing_key, wanted.nats_key):
        keys = (wanted.signing_key, wanted.nats_key, record.hpke_key)
        await hub.miners.write(writer, f"set keys, from block {head}", "set_keys", *keys)
    if record.active and record.slots != wanted.slots:
        await hub.miners.write(writer, f"set slots, from block {head}", "set_slots", wanted.slots)
    offer = await hub.offer(account, wanted.model_id, at=head)
    if (offer.active, offer.prompt_price, offer.output_price) != (True, wanted.prompt_price, wanted.output_price):
        prices = (wanted.model_id, wanted.prompt_price, wanted.output_price)
        await hub.miners.write(writer, f"offer {wanted.model_id.hex()}, from block {head}", "offer", *prices)


async def _check_funds(hub: Hub, account: Address, bond: Amount, head: int) -> None:
    balance = await hub.balance(account, at=head)
    if balance < bond:
        raise MinerUnfunded(
            f"miner {checksum(account)} has {balance} base units of the asset on {hub.name}; its bond is {bond}",
            remedy=f"send the difference to {checksum(account)} on {hub.name}",
        )
    gas_money = int(await hub.chain.rpc("eth_getBalance", "0x" + account.hex(), "latest"), 16)
    if gas_money == 0:
        raise MinerUnfunded(
            f"miner {checksum(account)} has no ether on {hub.name} to pay for gas",
            remedy=f"send some to {checksum(account)} on {hub.name}",
        )
