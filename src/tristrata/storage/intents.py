"""Transaction intents: what is to be sent, written down before it is sent."""

import msgspec
from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, UniqueConstraint, func, insert, select, update

from tristrata.protocol.ids import Address, Caip2
from tristrata.storage.database import METADATA, ROW_NUMBER, Database

_INTENTS = Table(
    "transaction_intents",
    METADATA,
    Column("id", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("chain", String(41), nullable=False),
    Column("sender", LargeBinary(20), nullable=False),
    Column("purpose", String(200), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("tx_hash", LargeBinary(32), nullable=False),
    Column("block", BigInteger),
    Column("gas_used", BigInteger),
    Column("succeeded", BigInteger),
    UniqueConstraint("chain", "sender", "purpose"),
)


class Intent(msgspec.Struct, frozen=True):
    """One signed transaction: ``purpose`` says what for, once and for all; ``block`` is `None` until it is included."""

    chain: Caip2
    sender: Address
    purpose: str
    nonce: int
    raw: bytes
    tx_hash: bytes
    block: int | None = None
    gas_used: int | None = None
    succeeded: bool | None = None


class Intents:
    """The intents of one actor."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, intent: Intent) -> None:
        """Write an intent down; durable when this returns."""
        async with self._database.begin() as connection:
            await connection.execute(insert(_INTENTS), msgspec.structs.asdict(intent))

    async def find(self, chain: Caip2, sender: Address, purpose: str) -> Intent | None:
        """The intent with this purpose."""
        conditions = (_INTENTS.c.chain == chain, _INTENTS.c.sender == sender, _INTENTS.c.purpose == purpose)
        async with self._database.read() as connection:
            row = (await connection.execute(select(_INTENTS).where(*conditions))).mappings().first()
        if row is None:
            return None
        values = {name: row[name] for name in Intent.__struct_fields__}
        return Intent(**{**values, "succeeded": None if row["succeeded"] is None else bool(row["succeeded"])})

    async def next_nonce(self, chain: Caip2, sender: Address) -> int:
        """One more than the highest nonce written down; 0 when none is."""
        query = select(func.max(_INTENTS.c.nonce)).where(_INTENTS.c.chain == chain, _INTENTS.c.sender == sender)
        async with self._database.read() as connection:
            highest = (await connection.execute(query)).scalar()
        return 0 if highest is None else int(highest) + 1

    async def included(self, tx_hash: bytes, *, block: int, gas_used: int, succeeded: bool) -> None:
        """Note how a transaction ended."""
        change = update(_INTENTS).where(_INTENTS.c.tx_hash == tx_hash)
        async with self._database.begin() as connection:
            await connection.execute(change.values(block=block, gas_used=gas_used, succeeded=succeeded))
