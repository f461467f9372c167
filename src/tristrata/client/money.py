"""Where an account's money is on a hub, and how it gets out: from deposits by closing, from earnings by claiming."""

from typing import Any

import msgspec

from tristrata.bindings.history import HubHistory, SealedContents, SealedEpoch
from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.epoch import EpochWrong, payouts_after
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.payouts import PayoutLeaf, Payouts
from tristrata.protocol.units import Amount
from tristrata.storage.content_store import ContentMissing, ContentStore


class OwnedSession(msgspec.Struct, frozen=True):
    """A session of the account's that is not closed: what it put in, and what is charged of it."""

    session: SessionId
    deposit: Amount
    charged: Amount
    closing_at: int


class Payout(msgspec.Struct, frozen=True):
    """What an account can claim from a sealed epoch: ``leaf``, whose path to the payouts root is ``proof``.

    ``root`` is the epoch's root, ``signed`` the struct hash of what the quorum signed; by both the hub knows the epoch.
    """

    epoch: int
    root: bytes
    signed: bytes
    leaf: PayoutLeaf
    proof: tuple[bytes, ...]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arguments of ``Settlement.claim``."""
        return (self.epoch, self.root, self.signed), (self.leaf.packed, self.leaf.sums), list(self.proof)


class Money(msgspec.Struct, frozen=True):
    """An account's money on one hub, in base units.

    ``earned`` was charged for it, ``claimed`` of that was paid. ``claimable`` can be claimed from a sealed epoch now,
    ``maturing`` is in epochs whose veto delay is not over, ``unsealed`` in none yet, or in none whose content is known
    (`claim_direct` pays it now).
    """

    hub: str
    wallet: Amount
    sessions: tuple[OwnedSession, ...]
    earned: Amount
    claimed: Amount
    claimable: Amount
    maturing: Amount
    unsealed: Amount


class Treasurer:
    """One hub's money, as its chain and the contents of its epochs tell it."""

    def __init__(self, hub: Hub, store: ContentStore) -> None:
        self._hub = hub
        self._history = HubHistory(hub)
        self._contents = SealedContents(self._history, store)

    async def money(self, account: Address) -> Money:
        """Where the account's money is now."""
        hub = self._hub
        head = await self._history.catch_up(Level.SOFT)
        charges = self._history.charged_at(head).values()
        earned = sum(split.amount for charge in charges for split in charge.splits if split.payee == account)
        claimed = Amount(await hub.settlement.read("claimed", account, at=head))
        mature, sealed = await self._sealed_for(account)
        paid_or_mature = max(claimed, mature)
        return Money(
            hub=hub.name,
            wallet=await hub.balance(account, at=head),
            sessions=await self._sessions_of(account, head),
            earned=Amount(earned),
            claimed=claimed,
            claimable=Amount(max(0, mature - claimed)),
            maturing=Amount(max(0, sealed - paid_or_mature)),
            unsealed=Amount(max(0, earned - max(paid_or_mature, sealed))),
        )

    async def payout(self, account: Address) -> Payout | None:
        """What the account can claim from the newest epoch whose veto delay is over.

        Raises `ContentMissing` when the store does not hold that epoch, or one before it.
        """
        hub = self._hub
        head = await self._history.catch_up(Level.SOFT)
        now = (await hub.chain.block(Level.SOFT)).timestamp
        delay = await hub.settlement.read("payout_delay", at=head)
        kept = await hub.outbox.read("kept_epochs", at=head)
        for record in reversed(self._history.sealed[-kept:]):
            _, is_vetoed, sealed_at = await hub.outbox.read("sealed", record.epoch, at=head)
            if is_vetoed or sealed_at + delay > now:
                continue
            payouts = await self._payouts_at(record.epoch)
            if account not in payouts.cumulative:
                return None
            signed = _signed(record).struct_hash
            return Payout(record.epoch, record.root, signed, payouts.leaf(account), payouts.prove(account))
        return None

    async def claim(self, writer: TransactionWriter, account: Address) -> Inclusion | None:
        """Claim for ``account`` from the newest mature epoch; `None` when there is nothing new to claim.

        Raises `ContentMissing` as `payout` does; `claim_direct` needs no content.
        """
        payout = await self.payout(account)
        head = self._history.head
        if payout is None or payout.leaf.cumulative <= await self._hub.settlement.read("claimed", account, at=head):
            return None
        purpose = f"claim for {account.hex()} up to {payout.leaf.cumulative}"
        return await self._hub.settlement.write(writer, purpose, "claim", *payout.arguments)

    async def claim_direct(self, writer: TransactionWriter, account: Address) -> list[Inclusion]:
        """Claim for ``account`` out of every session that was charged for it: needs no epoch and no validator."""
        head = await self._history.catch_up(Level.SOFT)
        done = []
        for session, charge in self._history.charged_at(head).items():
            words = [split.packed for split in charge.splits]
            for index, split in enumerate(charge.splits):
                if split.payee == account and split.amount:
                    purpose = f"claim for {account.hex()} from {session.hex()} up to {split.amount}"
                    arguments = (session, charge.count, words, index)
                    done.append(await self._hub.settlement.write(writer, purpose, "claim_direct", *arguments))
        return done

    async def _sealed_for(self, account: Address) -> tuple[int, int]:
        """What is the account's in the newest mature epoch, and in the newest one; nothing where that is not known."""
        try:
            payout = await self.payout(account)
            last = self._history.last_sealed
            payouts = (await self._payouts_at(last.epoch)).cumulative if last else {}
        except (ContentMissing, EpochWrong, InvalidValue):
            return 0, 0
        return payout.leaf.cumulative if payout else 0, payouts.get(account, 0)

    async def _payouts_at(self, epoch: int) -> Payouts:
        return payouts_after(await self._contents.progress(epoch))

    async def _sessions_of(self, account: Address, head: int) -> tuple[OwnedSession, ...]:
        charged, found = self._history.charged_at(head), []
        for session in self._history.owned_by(account):
            record = await self._hub.session(session, at=head)
            if record is not None and not record.closed:
                spent = charged[session].cumulative if session in charged else Amount(0)
                found.append(OwnedSession(session, record.deposit, spent, record.closing_at))
        return tuple(found)


def _signed(record: SealedEpoch) -> Epoch:
    """What the quorum signed of an epoch that is sealed."""
    return Epoch(record.epoch, record.block, record.receipts_root, record.payouts_root, record.content)
