"""A hub's contracts together: sessions, settlement, miners, models, and the asset they are paid in."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tristrata.bindings.contract import Contract, Event
from tristrata.chains.evm import EvmChain, Level
from tristrata.chains.pool import Chains
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.config.manifest import Manifest
from tristrata.config.network import Network
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.authorization import Asset, Authorization
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, Caip2, ChainRef, ModelId, SessionId
from tristrata.protocol.orders import RequestClose, TopUp
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.signing import Domain, compact
from tristrata.protocol.terms import OpenSession, Terms
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import SignedVoucher, Split


class SessionRecord(msgspec.Struct, frozen=True):
    """A session as the hub keeps it. ``closing_at`` is 0 while nobody has asked to close it.

    ``replaced_key`` is the session key before the present one; its vouchers can be charged until ``replaced_until``.
    """

    owner: Address
    terms: Terms
    deposit: Amount
    opened_at: int
    closing_at: int
    closed: bool
    replaced_key: Address
    replaced_until: int


class MinerRecord(msgspec.Struct, frozen=True):
    """A miner as the registry keeps it; ``exit_at`` is 0 while it stays.

    Of its ``bond``, ``reserved`` stands for open tasks of contracts and ``withdrawing`` leaves at ``withdraw_at``;
    ``weight`` is what counts when miners are drawn.
    """

    signing_key: Address
    nats_key: bytes
    hpke_key: bytes
    slots: int
    bond: Amount
    exit_at: int
    active: bool
    reserved: Amount
    withdrawing: Amount
    withdraw_at: int
    jailed_until: int
    weight: Amount


class OfferRecord(msgspec.Struct, frozen=True):
    """A miner's offer for one model. Prices are base units per 1,000,000 tokens."""

    prompt_price: int
    output_price: int
    active: bool


# Count and splits of a session's last charge; 0 and none before the first.
LastCharge = tuple[int, Sequence[Split]]

MAX_CHARGES = 16
"""How many sessions one transaction charges at most."""

MAX_CHARGED_SPLITS = 128
"""How many splits their vouchers may have together."""


class Hub:
    """One hub: its contracts, and their reads and writes as typed values."""

    def __init__(self, network: Network, manifest: Manifest, name: str, chain: EvmChain) -> None:
        self.name = name
        self.chain = chain
        self.caip2: Caip2 = network.chains[name].caip2
        self.ref: ChainRef = network.ref(name)
        self.first_block = min(contract.block for contract in manifest.chains[self.caip2].values())

        def contract(kind: str) -> Contract:
            return Contract(kind, manifest.address(self.caip2, kind), chain)

        self.asset = contract("TestDollar")
        self.models = contract("ModelRegistry")
        self.miners = contract("MinerRegistry")
        self.sessions = contract("Sessions")
        self.routers = contract("RouterRegistry")
        self.settlement = contract("Settlement")
        self.outbox = contract("Outbox")
        self.sessions_domain = Domain(self.caip2, self.ref, self.sessions.address)
        self.settlement_domain = Domain(self.caip2, self.ref, self.settlement.address)
        self.outbox_domain = Domain(self.caip2, self.ref, self.outbox.address)

    async def session(self, session: SessionId, *, at: int) -> SessionRecord | None:
        """The session's record at a block; `None` when there is none."""
        owner, terms, deposit, *rest = await self.sessions.read("session", session, at=at)
        if not any(owner):
            return None
        return SessionRecord(owner, _terms(terms), Amount(deposit), *rest)

    async def charged(self, session: SessionId, *, at: int) -> Amount:
        """What was charged of the session at a block, in all."""
        return Amount(await self.settlement.read("charged_amount", session, at=at))

    async def miner(self, account: Address, *, at: int) -> MinerRecord:
        """The miner's record at a block; not active for an account that is none."""
        return MinerRecord(*await self.miners.read("miner", account, at=at))

    async def offer(self, account: Address, model: ModelId, *, at: int) -> OfferRecord:
        """The miner's offer for a model at a block."""
        return OfferRecord(*await self.miners.read("offer_of", account, model, at=at))

    async def balance(self, account: Address, *, at: int) -> Amount:
        """What the account holds of the hub's asset."""
        return Amount(await self.asset.read("balanceOf", account, at=at))

    async def asset_domain(self) -> Asset:
        """The asset's EIP-712 domain as the asset itself states it (EIP-5267)."""
        head = (await self.chain.block(Level.SOFT)).number
        _, name, version, chain_id, contract, _, _ = await self.asset.read("eip712Domain", at=head)
        return Asset(chain_id, contract, name, version)

    async def permit_nonce(self, account: Address) -> int:
        """The nonce of the account's next permit of the asset."""
        head = (await self.chain.block(Level.SOFT)).number
        return int(await self.asset.read("nonces", account, at=head))

    async def transfer_authorized(
        self, writer: TransactionWriter, authorization: Authorization, signature: bytes
    ) -> Inclusion:
        """Carry an owner's authorized transfer of the asset (EIP-3009)."""
        v, r, s = signature[64], signature[:32], signature[32:64]
        each = msgspec.structs.astuple(authorization)
        purpose = f"transfer authorized by {authorization.owner.hex()} with {authorization.nonce.hex()}"
        return await self.asset.write(writer, purpose, "transferWithAuthorization", *each, v, r, s)

    async def open_for(
        self, writer: TransactionWriter, session: SessionId, order: OpenSession, signature: bytes, permit: Any
    ) -> Inclusion:
        """Carry an owner's signed order. ``permit`` has ``deadline`` and a 65-byte ``signature``."""
        v, r, s = permit.signature[64], permit.signature[:32], permit.signature[32:64]
        return await self.sessions.write(
            writer,
            f"open session {session.hex()}",
            "open_for",
            order.owner,
            order.nonce,
            order.deposit,
            order.deadline,
            msgspec.structs.astuple(order.terms),
            signature,
            permit.deadline,
            v,
            r,
            s,
        )

    async def top_up_for(self, writer: TransactionWriter, order: TopUp, signature: bytes) -> Inclusion:
        """Carry a payer's top-up: ``signature`` is its EIP-3009 authorization, whose nonce is the order's digest."""
        v, r, s = signature[64], signature[:32], signature[32:64]
        purpose = f"top up session {order.session.hex()} by order {order.struct_hash.hex()}"
        arguments = (order.session, order.payer, order.amount, order.salt, order.deadline, v, r, s)
        return await self.sessions.write(writer, purpose, "top_up_with_authorization", *arguments)

    async def request_close_for(self, writer: TransactionWriter, order: RequestClose, signature: bytes) -> Inclusion:
        """Carry a party's signed request to close."""
        purpose = f"request close of session {order.session.hex()}"
        arguments = (order.session, order.sender, order.deadline, signature)
        return await self.sessions.write(writer, purpose, "request_close_for", *arguments)

    async def close(self, writer: TransactionWriter, session: SessionId) -> Inclusion:
        """Close a session whose time has come: what was not charged goes back to its owner."""
        return await self.sessions.write(writer, f"close session {session.hex()}", "close", session)

    async def charge(self, writer: TransactionWriter, signed: SignedVoucher, before: LastCharge) -> Inclusion:
        """Charge a session up to a voucher, after its last charge."""
        voucher = signed.voucher
        (call,), splits, splits_before = charge_arguments([(signed, before)])
        purpose = f"charge session {voucher.session.hex()} up to receipt {voucher.count}"
        return await self.settlement.write(writer, purpose, "charge", call, splits, splits_before)

    async def settle(
        self,
        writer: TransactionWriter,
        charges: Sequence[tuple[SignedVoucher, LastCharge]],
        epoch: Epoch,
        signatures: Sequence[bytes],
    ) -> Inclusion:
        """Charge sessions, each after its last charge, and seal an epoch, in one transaction."""
        # What it charges is a part of the purpose: another list of charges is another transaction.
        charged = keccak(b"".join(signed.signature for signed, _ in charges))[:4].hex()
        return await self.settlement.write(
            writer,
            f"settle epoch {epoch.epoch} {epoch.struct_hash[:8].hex()} charging {charged}",
            "settle",
            *charge_arguments(charges),
            msgspec.structs.astuple(epoch),
            [compact(signature) for signature in signatures],
        )

    async def quorum_of(self, signatures: Mapping[Address, bytes], *, at: int) -> tuple[bytes, ...]:
        """Of these signatures by signer, those of the hub's current validators in order; empty without a quorum."""
        return await quorum_of(self.outbox, signatures, at=at)

    async def events(self, first: int, last: int) -> list[Event]:
        """Everything that happened on the hub in blocks ``first`` to ``last``, in order."""
        contracts = (self.sessions, self.settlement, self.miners, self.outbox)
        logs = await self.chain.logs([contract.address for contract in contracts], first, last)
        found = (contract.event(log) for log in logs for contract in contracts)
        return [event for event in found if event is not None]


def charge_arguments(charges: Sequence[tuple[SignedVoucher, LastCharge]]) -> tuple[list[Any], list[int], list[int]]:
    """Vouchers, each with its session's last charge, as ``Settlement`` takes them: charges, splits, what was before."""
    calls, splits, before = [], [], []
    for signed, (count_before, splits_before) in charges:
        voucher = signed.voucher
        calls.append(
            (
                voucher.session,
                voucher.count,
                voucher.head,
                count_before,
                len(signed.splits),
                *compact(signed.signature),
            )
        )
        had = {split.payee: split.amount for split in splits_before}
        splits += [split.packed for split in signed.splits]
        before += [had.get(split.payee, 0) for split in signed.splits]
    return calls, splits, before


async def quorum_of(validators: Contract, signatures: Mapping[Address, bytes], *, at: int) -> tuple[bytes, ...]:
    """Of these signatures by signer, those that the current set of ``validators`` counts, in order of signer.

    Empty unless they weigh two thirds. ``validators`` is an ``Outbox``, or the ``ValidatorSet`` on L1.
    """
    if not signatures:
        return ()
    number, _, total, _ = await validators.read("current", at=at)
    signers = sorted(signatures)
    weights = await asyncio.gather(*(validators.read("member_weight", number, signer, at=at) for signer in signers))
    counted = [signer for signer, weight in zip(signers, weights, strict=True) if weight]
    return tuple(signatures[signer] for signer in counted) if 3 * sum(weights) >= 2 * total > 0 else ()


def open_hubs(network: Network, manifest: Manifest, chains: Chains) -> dict[Caip2, Hub]:
    """Every hub of the network, by its chain's CAIP-2 name."""
    hubs = (Hub(network, manifest, name, chains[name]) for name in network.roles.hubs)
    return {hub.caip2: hub for hub in hubs}


def _terms(values: tuple[Any, ...]) -> Terms:
    terms = Terms(*values)
    return msgspec.structs.replace(terms, assurance=Assurance(terms.assurance))
