"""The vouchers that pay a miner: checked against the session's key on chain, and kept."""

import asyncio

import structlog
from nats.aio.msg import Msg

from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.fabric.frames import FrameInvalid, VoucherNotice, decode
from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidValue, TristrataError
from tristrata.protocol.ids import Address, Caip2, SessionId, show
from tristrata.protocol.signing import digest, recover, require_signer
from tristrata.storage.vouchers import Vouchers

_DRAIN_SECONDS = 5.0
_log = structlog.get_logger()


class VoucherKeeper:
    """Takes notices of one miner's vouchers from the fabric. Nothing of a notice is believed."""

    def __init__(self, miner: Address, hubs: dict[Caip2, Hub], vouchers: Vouchers) -> None:
        self._miner = miner
        self._hubs = hubs
        self._vouchers = vouchers
        self._session_keys: dict[SessionId, Address] = {}
        self._keeping: set[asyncio.Task[None]] = set()

    async def on_notice(self, message: Msg) -> None:
        """Keep the voucher in a notice, or say in the log why not; if this is cancelled, `drain` waits for that."""
        # Shielded: closing the NATS connection cancels this, and aiosqlite may wait for ever for what was cancelled.
        keeping = asyncio.create_task(self._take(message))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        await asyncio.shield(keeping)

    async def drain(self) -> None:
        """Wait until what has come is kept, for five seconds at most; before the database is closed."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=_DRAIN_SECONDS)

    async def _take(self, message: Msg) -> None:
        try:
            await self._keep(decode(message.data, VoucherNotice))
        except (FrameInvalid, TristrataError) as error:
            _log.warning("voucher refused", reason=error.message)

    async def _keep(self, notice: VoucherNotice) -> None:
        hub = self._hubs.get(Caip2(notice.chain))
        if hub is None:
            raise InvalidValue(f"hub {notice.chain!r} is none of this miner's")
        signed = codec.voucher_from_json(codec.decode(notice.voucher))
        if self._miner not in {split.payee for split in signed.splits}:
            raise InvalidValue("the voucher does not pay this miner")
        session = signed.voucher.session
        message_digest = digest(hub.settlement_domain.separator, signed.voucher.struct_hash)
        if recover(message_digest, signed.signature) != self._session_keys.get(session):
            # Not known yet, or replaced since.
            self._session_keys[session] = await _session_key(hub, session)
        require_signer(message_digest, signed.signature, self._session_keys[session], "the voucher")
        await self._vouchers.keep(hub.caip2, signed)


async def _session_key(hub: Hub, session: SessionId) -> Address:
    head = (await hub.chain.block(Level.SOFT)).number
    record = await hub.session(session, at=head)
    if record is None:
        raise InvalidValue(f"session {show(session)} is not on {hub.name}")
    return record.terms.session_key
