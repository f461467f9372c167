"""Where an account's money is on a hub, and how it gets out: from deposits by closing, from earnings by claiming."""

import msgspec

from tristrata.bindings.history import HubHistory, SealedContents
from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.protocol.epoch import EpochWrong, payouts_of
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.standard_tree import StandardTree, payout_leaf
from tristrata.protocol.units import Amount
from tristrata.storage.content_store import ContentMissing, ContentStore


class OwnedSession(msgspec.Struct, frozen=True):
    """A session of the account's that is not closed: what it put in, and what is charged of it."""

    session: SessionId
    deposit: Amount
    charged: Amount
    closing_at: int


class Payout(msgspec.Struct, frozen=True):
    """What an account can claim from the payouts root of ``epoch``: ``cumulative``, proven by ``proof``."""

    epoch: int
    cumulative: Amount
    proof: tuple[bytes, ...]


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
        earned = payouts_of(charge.splits for charge in charges).get(account, Amount(0))
        claimed = Amount(await hub.settlement.read("claimed", account, at=head))
        mature, sealed = await self._sealed_for(account)
        paid_or_mature = max(claimed, mature)
        return Money(
            hub=hub.name,
            wallet=await hub.balance(account, at=head),
            sessions=await self._sessions_of(account, head),
            earned=earned,
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
        for record in reversed(self._history.sealed):
            _, _, sealed_at = await hub.outbox.read("sealed", record.epoch, at=head)
            if sealed_at + delay > now or await hub.settlement.read("vetoed", record.epoch, at=head):
                continue
            payouts = await self._payouts_at(record.epoch)
            if account not in payouts:
                return None
            tree = StandardTree([payout_leaf(payee, cumulative) for payee, cumulative in payouts.items()])
            return Payout(record.epoch, payouts[account], tree.prove(list(payouts).index(account)))
        return None

    async def claim(self, writer: TransactionWriter, account: Address) -> Inclusion | None:
        """Claim for ``account`` from the newest mature epoch; `None` when there is nothing new to claim.

        Raises `ContentMissing` as `payout` does; `claim_direct` needs no content.
        """
        payout = await self.payout(account)
        head = self._history.head
        if payout is None or payout.cumulative <= await self._hub.settlement.read("claimed", account, at=head):
            return None
        purpose = f"claim for {account.hex()} up to {payout.cumulative}"
        arguments = (account, payout.cumulative, payout.epoch, list(payout.proof))
        return await self._hub.settlement.write(writer, purpose, "claim", *arguments)

    async def claim_direct(self, writer: TransactionWriter, account: Address) -> list[Inclusion]:
        """Claim for ``account`` out of every session that was charged for it: needs no epoch and no validator."""
        head = await self._history.catch_up(Level.SOFT)
        done = []
        for session, charge in self._history.charged_at(head).items():
            words = [split.packed for split in charge.splits]
            for index, split in enumerate(charge.splits):
                if split.payee == account and split.amount:
                    purpose = f"claim for {account.hex()} from {session.hex()} up to {split.amount}"
                    arguments = (session, words, index)
                    done.append(await self._hub.settlement.write(writer, purpose, "claim_direct", *arguments))
        return done

    async def _sealed_for(self, account: Address) -> tuple[int, int]:
        """What is the account's in the newest mature epoch, and in the newest one; nothing where that is not known."""
        try:
            payout = await self.payout(account)
            last = self._history.last_sealed
            payouts = await self._payouts_at(last.epoch) if last else {}
        except (ContentMissing, EpochWrong, InvalidValue):
            return 0, 0
        return payout.cumulative if payout else 0, payouts.get(account, 0)

    async def _payouts_at(self, epoch: int) -> dict[Address, Amount]:
        progress = await self._contents.progress(epoch)
        return payouts_of(each.splits for each in progress.values())

    async def _sessions_of(self, account: Address, head: int) -> tuple[OwnedSession, ...]:
        charged, found = self._history.charged_at(head), []
        for session in self._history.owned_by(account):
            record = await self._hub.session(session, at=head)
            if record is not None and not record.closed:
                spent = charged[session].cumulative if session in charged else Amount(0)
                found.append(OwnedSession(session, record.deposit, spent, record.closing_at))
        return tuple(found)
