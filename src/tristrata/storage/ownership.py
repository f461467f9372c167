"""Which router of a fleet owns what: one owner a session at a time, and a fence that rises at each hand-over.

A router that is alive says so in the database; what it owns may be taken over once it has been silent for the lease.
Whoever writes for a session shows its fence in the same transaction, so that a router that was paused, cut off or
declared dead by mistake can write nothing more. All times are the database's own clock.
"""

from collections.abc import Collection

import msgspec
from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import show
from tristrata.storage.database import METADATA, Database

LEASE_SECONDS = 3.0
"""How long a router may be silent before others take over what it owns."""

LEADERSHIP = bytes(32)
"""The subject whose owner writes to the chains for all: one writer a key and chain owns the nonce."""

_ROUTERS = Table(
    "routers",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("address", String(200), nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
)
_OWNERSHIPS = Table(
    "ownerships",
    METADATA,
    Column("subject", LargeBinary(32), primary_key=True),
    Column("router", String(64), nullable=False),
    Column("fence", BigInteger, nullable=False),
)
_NOW = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
_START = text(
    f"INSERT INTO routers (name, address, run, heard_at) VALUES (:name, :address, 1, {_NOW}) "  # noqa: S608
    f"ON CONFLICT (name) DO UPDATE SET address = :address, run = routers.run + 1, heard_at = {_NOW} RETURNING run"
)
_BEAT = text(f"UPDATE routers SET heard_at = {_NOW} WHERE name = :name AND run = :run")  # noqa: S608
_CLAIM = text(
    "INSERT INTO ownerships (subject, router, fence) VALUES (:subject, :name, 1) "  # noqa: S608
    "ON CONFLICT (subject) DO UPDATE SET router = :name, fence = ownerships.fence + 1 "
    "WHERE ownerships.router <> :name AND NOT EXISTS (SELECT 1 FROM routers "
    f"WHERE routers.name = ownerships.router AND routers.heard_at > {_NOW} - :lease) RETURNING fence"
)


class OwnershipLost(TristrataError):
    """Another router has taken the session over; nothing was written."""


class NameTaken(TristrataError):
    """Another process runs as the router of this name."""


class Claim(msgspec.Struct, frozen=True):
    """Who owns a subject: the router's name and address, and the fence, which rises whenever the owner changes."""

    router: str
    address: str
    fence: int


class Ownerships:
    """What one router owns; ``name`` is its own, ``address`` where others reach it. The database is PostgreSQL."""

    def __init__(self, database: Database, name: str, address: str, lease: float = LEASE_SECONDS) -> None:
        self.name = name
        self._database = database
        self._address = address
        self._lease = int(lease * 1_000)
        self._run = 0
        self._fences: dict[bytes, int] = {}

    async def start(self) -> None:
        """Say that this router is there. What an earlier process of its name owned is its own, with a new fence."""
        async with self._database.begin() as connection:
            values = {"name": self.name, "address": self._address}
            self._run = int((await connection.execute(_START, values)).scalar_one())
            # An earlier process of this name, if it still runs, can write nothing from here on.
            query = update(_OWNERSHIPS).where(_OWNERSHIPS.c.router == self.name)
            await connection.execute(query.values(fence=_OWNERSHIPS.c.fence + 1))

    async def beat(self) -> None:
        """Say again that this router is there. Raises `NameTaken` when a newer process has its name."""
        async with self._database.begin() as connection:
            done = await connection.execute(_BEAT, {"name": self.name, "run": self._run})
        if done.rowcount != 1:
            raise NameTaken(
                f"another process runs as router {self.name!r}", remedy="give each router of a fleet a name of its own"
            )

    async def stop(self) -> None:
        """Let others take over at once."""
        async with self._database.begin() as connection:
            await connection.execute(
                update(_ROUTERS).where(_ROUTERS.c.name == self.name, _ROUTERS.c.run == self._run).values(heard_at=0)
            )

    async def claim(self, subject: bytes) -> Claim:
        """Own a subject that nobody owns, or whose owner is silent; gives whose it is then."""
        async with self._database.begin() as connection:
            values = {"subject": subject, "name": self.name, "lease": self._lease}
            fence = (await connection.execute(_CLAIM, values)).scalar()
            if fence is None:
                query = (
                    select(_OWNERSHIPS.c.router, _OWNERSHIPS.c.fence, _ROUTERS.c.address)
                    .join(_ROUTERS, _ROUTERS.c.name == _OWNERSHIPS.c.router)
                    .where(_OWNERSHIPS.c.subject == subject)
                )
                owner = (await connection.execute(query)).one()
                if owner.router != self.name:
                    self._fences.pop(subject, None)
                    return Claim(owner.router, owner.address, int(owner.fence))
                fence = owner.fence
        self._fences[subject] = int(fence)
        return Claim(self.name, self._address, int(fence))

    async def is_alive(self, router: str) -> bool:
        """Whether a router was heard within the lease."""
        query = text(f"SELECT heard_at > {_NOW} - :lease FROM routers WHERE name = :name")  # noqa: S608
        async with self._database.read() as connection:
            return bool((await connection.execute(query, {"name": router, "lease": self._lease})).scalar())

    async def require(self, connection: AsyncConnection, subjects: Collection[bytes]) -> None:
        """In a transaction: that all subjects are owned, until it ends. Raises `OwnershipLost`."""
        wanted = {(subject, self._fences.get(subject, 0)) for subject in subjects}
        place = tuple_(_OWNERSHIPS.c.subject, _OWNERSHIPS.c.fence)
        query = (
            select(_OWNERSHIPS.c.subject)
            .where(place.in_(wanted), _OWNERSHIPS.c.router == self.name)
            .order_by(_OWNERSHIPS.c.subject)
            .with_for_update(read=True)
        )
        owned = set((await connection.execute(query)).scalars())
        lost = [subject for subject, _ in sorted(wanted) if subject not in owned]
        if lost:
            raise OwnershipLost(
                f"session {show(lost[0])} was taken over by another router; nothing was written",
                remedy="ask again: the request goes to the session's new owner",
            )
