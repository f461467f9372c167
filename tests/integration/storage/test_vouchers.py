from pathlib import Path

from msgspec.structs import replace

from tests.unit.protocol.test_codec import make_voucher
from tristrata.protocol.ids import Address, eip155
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import SignedVoucher
from tristrata.storage.database import Database
from tristrata.storage.vouchers import Vouchers

HUB, OTHER = eip155(31_339), eip155(31_340)
PAYEE = Address(b"\x01" * 20)


def voucher(count: int) -> SignedVoucher:
    signed = make_voucher({PAYEE: Amount(10 * count)})
    return replace(signed, voucher=replace(signed.voucher, count=count))


async def test_keep__in_any_order__the_newest_stays_over_a_restart(location: Path | str) -> None:
    database = await Database.open(location)
    vouchers = Vouchers(database)
    for count in (2, 5, 3):
        await vouchers.keep(HUB, voucher(count))
    await database.close()

    database = await Database.open(location)
    newest = voucher(5)
    assert await Vouchers(database).of(HUB) == {newest.voucher.session: newest}
    assert await Vouchers(database).of(OTHER) == {}
    await database.close()
