"""The validator set, down: published on L1 in good time, and told to every hub.

Until bridges exist the hubs take a set from the relayer's key; the outgoing set can always hand over without it
(`Outbox.advance`).
"""

from typing import Any

import structlog
from msgspec.structs import replace

from tristrata.bindings.hub import Hub
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionWriter
from tristrata.protocol.ids import Address
from tristrata.protocol.stake import Staker, next_signers
from tristrata.protocol.units import Timestamp

_RENEW_AT = 0.5
_log = structlog.get_logger()


class ValidatorSets:
    """Keeps the set of L1 valid and the hubs' the same."""

    def __init__(
        self, security: Security, writer: TransactionWriter, routes: list[tuple[Hub, TransactionWriter]], validity: int
    ) -> None:
        self._security = security
        self._writer = writer
        self._routes = routes
        self._validity = validity
        self._next_block = security.first_block
        self._members: dict[int, list[int]] = {}
        self._stakers: dict[Address, Staker] = {}

    async def carry(self) -> None:
        """Publish a new set when validators changed or half of the validity is over; tell it to hubs that lack it."""
        block = await self._security.chain.block(Level.SOFT)
        await self._follow(block.number)
        current = await self._security.current_set(at=block.number)
        signers = list(next_signers(self._stakers, Timestamp(block.timestamp)))
        known = {packed >> 96 for packed in self._members.get(current.number, [])}
        changed = known != {int.from_bytes(signer, "big") for signer in signers}
        if signers and (changed or current.valid_until - block.timestamp < self._validity * _RENEW_AT):
            purpose = f"publish validator set {current.number + 1}, from block {block.number}"
            await self._security.validators.write(self._writer, purpose, "publish", signers)
            return  # told to the hubs at the next turn
        if current.number:
            for hub, writer in self._routes:
                await self._tell(hub, writer, current.number, current.valid_until)

    async def _tell(self, hub: Hub, writer: TransactionWriter, number: int, valid_until: int) -> None:
        head = (await hub.chain.block(Level.SOFT)).number
        # L1's word goes above a set that signed its own succession.
        if await hub.outbox.read("number_from_l1", at=head) < number:
            arguments = (number, valid_until, self._members[number])
            await hub.outbox.write(writer, f"validator set {number} from L1", "set_from_l1", *arguments)
            _log.info("validator set told", hub=hub.name, number=number)

    async def _follow(self, head: int) -> None:
        if head < self._next_block:
            return
        for event in await self._security.events(self._next_block, head):
            values = event.values
            match event.name:
                case "ValidatorRegistered":
                    self._stakers[values["account"]] = Staker(values["signer"])
                case "SignerChanged":
                    self._change(values["account"], signer=values["signer"])
                case "StakeChanged":
                    stake = {name: values[name] for name in ("stake", "pending", "active_from")}
                    self._change(values["account"], **stake)
                case "SeatTaken":
                    self._change(values["account"], seated=True)
                case "ExitRequested":
                    self._change(values["account"], seated=False, exit_at=values["exit_at"])
                case "SetPublished":
                    self._members[values["number"]] = list(values["members"])
        self._next_block = head + 1

    def _change(self, account: Address, **changes: Any) -> None:
        self._stakers[account] = replace(self._stakers[account], **changes)
