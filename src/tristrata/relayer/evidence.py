"""Evidence, up: what a hub's settlement proved against its validators, told to the validator set on L1.

Until bridges exist L1 believes the relayer's own key. What can be slashed by it is only what a validator allocated to
that hub's chain.
"""

import structlog

from tristrata.bindings.contract import Event
from tristrata.bindings.hub import Hub
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionReverted, TransactionWriter
from tristrata.protocol.hashing import address_word

_log = structlog.get_logger()


class Evidence:
    """The messages of a hub's ``Settlement`` to the ``ValidatorSet``."""

    def __init__(self, hub: Hub, security: Security, writer: TransactionWriter) -> None:
        self._hub = hub
        self._security = security
        self._writer = writer
        self._next_block = hub.first_block

    async def carry(self) -> None:
        """Carry every message up to the newest finalized block."""
        head = (await self._hub.chain.block(Level.FINALIZED)).number
        if head < self._next_block:
            return
        for event in await self._hub.events(self._next_block, head):
            if event.name == "Sent" and self._is_evidence(event):
                await self._carry(event)
        self._next_block = head + 1

    def _is_evidence(self, event: Event) -> bool:
        values = event.values
        return bool(
            values["destination"] == self._security.ref
            and values["receiver"] == address_word(self._security.validators.address)
            and values["sender"] == self._hub.settlement.address
        )

    async def _carry(self, event: Event) -> None:
        message = (self._hub.ref, address_word(event.values["sender"]), event.values["payload"])
        purpose = f"carry message {event.values['index']} of {self._hub.ref.hex()}"
        try:
            await self._security.validators.write(self._writer, purpose, "on_message", *message)
        except TransactionReverted as error:  # L1 will not take it, now or later: others must not wait for it
            _log.error("evidence refused on L1", hub=self._hub.name, reason=error.message)
            return
        _log.info("evidence carried to L1", hub=self._hub.name)
