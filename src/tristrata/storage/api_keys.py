"""API keys: which session each one uses. Only their SHA-256 is kept; the keys are known to their holders alone."""

from sqlalchemy import Column, Integer, LargeBinary, Table, delete, insert, select

from tristrata.protocol.ids import SessionId
from tristrata.protocol.units import Timestamp
from tristrata.storage.database import METADATA, Database

_API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("key_hash", LargeBinary(32), primary_key=True),
    Column("session", LargeBinary(32), nullable=False),
    Column("granted_at", Integer, nullable=False),
)


class ApiKeys:
    """The keys of one router: in memory for every request, on disk for the next start."""

    def __init__(self, database: Database, sessions: dict[bytes, SessionId]) -> None:
        self._database = database
        self._sessions = sessions

    @classmethod
    async def open(cls, database: Database) -> "ApiKeys":
        """The keys that are on disk."""
        async with database.read() as connection:
            rows = await connection.execute(select(_API_KEYS.c.key_hash, _API_KEYS.c.session))
            return cls(database, {row.key_hash: SessionId(row.session) for row in rows})

    def session(self, key_hash: bytes) -> SessionId | None:
        """The session that the key with this SHA-256 uses."""
        return self._sessions.get(key_hash)

    async def grant(self, key_hash: bytes, session: SessionId, now: Timestamp) -> None:
        """Let a key use a session, and no other one any more; on disk when this returns."""
        async with self._database.begin() as connection:
            await connection.execute(delete(_API_KEYS).where(_API_KEYS.c.key_hash == key_hash))
            await connection.execute(insert(_API_KEYS), {"key_hash": key_hash, "session": session, "granted_at": now})
        self._sessions[key_hash] = session
