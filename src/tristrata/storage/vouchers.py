"""A payee's newest voucher of each session: with it, it charges the session without anyone's help."""

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, delete, insert, select

from tristrata.protocol import codec
from tristrata.protocol.ids import Caip2, SessionId
from tristrata.protocol.voucher import SignedVoucher
from tristrata.storage.database import METADATA, Database

_VOUCHERS = Table(
    "vouchers",
    METADATA,
    Column("session", LargeBinary(32), primary_key=True),
    Column("chain", String(41), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("voucher", LargeBinary, nullable=False),
)


class Vouchers:
    """The vouchers of one payee. What is given to `keep` has been checked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, chain: Caip2, signed: SignedVoucher) -> None:
        """Keep a voucher if it is newer than what is kept of its session; on disk when this returns."""
        session, count = signed.voucher.session, signed.voucher.count
        async with self._database.begin() as connection:
            query = select(_VOUCHERS.c.count).where(_VOUCHERS.c.session == session)
            kept = (await connection.execute(query)).scalar()
            if kept is not None and kept >= count:
                return
            document = codec.encode(codec.voucher_to_json(signed))
            await connection.execute(delete(_VOUCHERS).where(_VOUCHERS.c.session == session))
            values = {"session": session, "chain": chain, "count": count, "voucher": document}
            await connection.execute(insert(_VOUCHERS), values)

    async def of(self, chain: Caip2) -> dict[SessionId, SignedVoucher]:
        """The newest voucher of every session on a hub."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(_VOUCHERS).where(_VOUCHERS.c.chain == chain))).mappings()
            return {SessionId(row["session"]): codec.voucher_from_json(codec.decode(row["voucher"])) for row in rows}
