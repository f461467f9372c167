"""Telling miners of the vouchers that pay them: of each session the newest, for it pays for all before it."""

import asyncio

from nats.aio.client import Client

from tristrata.fabric import subjects
from tristrata.fabric.frames import VoucherNotice, encode
from tristrata.protocol import codec
from tristrata.protocol.ids import SessionId
from tristrata.protocol.voucher import SignedVoucher
from tristrata.router.sessions import ServedSession

NOTICE_SECONDS = 0.05
"""How long a voucher may wait for a newer one. A miner checks and keeps each that it hears of."""


class VoucherNotices:
    """One router's notices. `flush` before the connection is closed."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._newest: dict[SessionId, tuple[ServedSession, SignedVoucher]] = {}
        self._telling: asyncio.Task[None] | None = None

    def tell(self, session: ServedSession, signed: SignedVoucher) -> None:
        """Tell a session's payees soon, unless a newer voucher comes before that."""
        self._newest[signed.voucher.session] = session, signed
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_soon())

    async def flush(self) -> None:
        """Tell them now."""
        told, self._newest = self._newest, {}
        for session, signed in told.values():
            notice = encode(VoucherNotice(session.hub.chain, codec.voucher_document(signed)))
            for split in signed.splits:
                if split.payee != session.book.terms.router:
                    await self._connection.publish(subjects.voucher(split.payee), notice)

    async def _tell_soon(self) -> None:
        while self._newest:
            await asyncio.sleep(NOTICE_SECONDS)
            await self.flush()
