"""Nonces of sign-in messages that were used: each signs in once, also after a restart."""

from sqlalchemy import BigInteger, Column, String, Table, delete, insert
from sqlalchemy.exc import IntegrityError

from tristrata.protocol.units import Timestamp
from tristrata.storage.database import METADATA, Database

_USED = Table(
    "used_nonces",
    METADATA,
    Column("nonce", String(128), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
)


class UsedNonces:
    """The used nonces that have not expired; an expired one is refused for that."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def use(self, nonce: str, expires_at: Timestamp, now: Timestamp) -> bool:
        """Use a nonce up; on disk when this returns. False if it was used before."""
        try:
            async with self._database.begin() as connection:
                await connection.execute(delete(_USED).where(_USED.c.expires_at < now))
                await connection.execute(insert(_USED), {"nonce": nonce, "expires_at": expires_at})
        except IntegrityError:
            return False
        return True
