"""Charging sessions by the vouchers that one holds, as any payee may when no settler does."""

from collections.abc import Mapping

from tristrata.bindings.history import HubHistory
from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.protocol.ids import SessionId
from tristrata.protocol.voucher import SignedVoucher


async def charge_kept(
    hub: Hub, writer: TransactionWriter, vouchers: Mapping[SessionId, SignedVoucher]
) -> list[Inclusion]:
    """Charge every session whose voucher says more than the hub has charged; the transactions that did."""
    history = HubHistory(hub)
    charged = history.charged_at(await history.catch_up(Level.SOFT))
    done = []
    for session, signed in vouchers.items():
        before = charged.get(session)
        if before is None or before.cumulative < signed.voucher.cumulative:
            done.append(await hub.charge(writer, signed, history.last_charge(session)))
    return done
