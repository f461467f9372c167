"""The vouchers that come to a miner while it stops."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from coincurve import PrivateKey

from tristrata.fabric.frames import VoucherNotice, encode
from tristrata.miner.vouchers import VoucherKeeper
from tristrata.protocol import codec
from tristrata.protocol.ids import Address, SessionId, chain_ref, eip155
from tristrata.protocol.signing import Domain, address_of, digest, sign
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import SignedVoucher, Voucher, make_splits, splits_hash
from tristrata.storage.database import Database
from tristrata.storage.vouchers import Vouchers

HUB = eip155(31_339)
DOMAIN = Domain(HUB, chain_ref(HUB), Address(b"\x0c" * 20))
MINER, SESSION = Address(b"\x0d" * 20), SessionId(b"\x05" * 32)
KEY = PrivateKey(b"\x07" * 32)


def signed_voucher() -> SignedVoucher:
    splits = make_splits({MINER: Amount(5)})
    voucher = Voucher(SESSION, 1, Amount(5), b"\x01" * 32, splits_hash(splits))
    return SignedVoucher(voucher, splits, sign(KEY, digest(DOMAIN.separator, voucher.struct_hash)))


class SlowHub:
    """What the keeper asks of a hub, where the chain takes its time."""

    name, caip2, settlement_domain = "hub", HUB, DOMAIN

    def __init__(self) -> None:
        self.chain = SimpleNamespace(block=self._block)
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def _block(self, _: object) -> SimpleNamespace:
        self.asked.set()
        await self.answers.wait()
        return SimpleNamespace(number=1)

    async def session(self, _: SessionId, *, at: int) -> SimpleNamespace:
        return SimpleNamespace(terms=SimpleNamespace(session_key=address_of(KEY.public_key)))


async def test_on_notice__cancelled_as_the_connection_closes__is_kept_by_the_end_of_drain(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "miner.sqlite")
    vouchers, hub = Vouchers(database), SlowHub()
    hubs: Any = {HUB: hub}
    keeper = VoucherKeeper(MINER, hubs, vouchers)
    notice = encode(VoucherNotice(HUB, codec.voucher_document(signed_voucher())))
    message: Any = SimpleNamespace(data=notice)

    delivering = asyncio.create_task(keeper.on_notice(message))
    await hub.asked.wait()
    delivering.cancel()
    await asyncio.wait([delivering])
    hub.answers.set()
    await keeper.drain()

    assert delivering.cancelled()
    assert await vouchers.of(HUB) == {SESSION: signed_voucher()}
    await database.close()
