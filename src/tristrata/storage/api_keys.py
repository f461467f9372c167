"""API keys: whose they are, what they may do and spend, and which sessions they use.

Only the SHA-256 of a key's secret is kept. A secret is 256 random bits, so nobody can find it by trying; a slow
password hash would protect nothing more, and cost its time before every first token.
"""

import asyncio
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice

import msgspec
import structlog
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from tristrata.protocol.errors import InvalidValue, TristrataError
from tristrata.protocol.ids import SessionId, show
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher_book import BudgetExhausted
from tristrata.storage.awaiting import AwaitingReceipt
from tristrata.storage.database import METADATA, Database
from tristrata.storage.usage import spent_by_key

MAX_NAME = 100
MAX_KEYS = 1_000
"""How many keys an owner may have that are not revoked."""
MAX_SESSIONS = 256
"""How many sessions a key may use."""
MAX_BUDGET = Amount(2**63 - 1)
_NO_BUDGET, _NEVER = Amount(0), Timestamp(0)

_KEYS = Table(
    "keys",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("owner", LargeBinary(32), nullable=False),
    Column("name", String(MAX_NAME), nullable=False),
    Column("scopes", String(100), nullable=False),
    Column("budget", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
)
_SECRETS = Table(
    "key_secrets",
    METADATA,
    Column("secret_hash", LargeBinary(32), primary_key=True),
    Column("key_id", String(40), nullable=False),
    Column("valid_until", BigInteger, nullable=False),
)
_SESSIONS = Table(
    "key_sessions",
    METADATA,
    Column("key_id", String(40), primary_key=True),
    Column("session", LargeBinary(32), primary_key=True),
    Column("number", Integer, nullable=False),
)
Index("key_secrets_by_key", _SECRETS.c.key_id)
Index("keys_by_version", _KEYS.c.version)
# What another router's transaction wrote may be seen after what a later one wrote.
_VERSIONS_AGAIN = 100
_NEXT_VERSION = select(func.coalesce(func.max(_KEYS.c.version), 0) + 1).scalar_subquery()
_REFRESH_SECONDS = 1.0
_KEYS_AT_ONCE = 500
_TIMES = ("created_at", "expires_at", "revoked_at")
_log = structlog.get_logger()


class Scope(StrEnum):
    """What a key may do: ask models, read receipts and usage, or manage keys and sessions."""

    INFERENCE = "inference"
    READ = "read"
    ADMIN = "admin"


class KeyBudgetExhausted(BudgetExhausted):
    """The key's own budget does not cover the request."""


class KeyUnknown(TristrataError):
    """The owner has no such key."""


class KeyRefused(TristrataError):
    """A change of a key that is not allowed: another owner's, a revoked one, or one too many."""


class ApiKey(msgspec.Struct):
    """One key in memory. Amounts are base units; ``budget`` 0 is none, ``expires_at`` and ``revoked_at`` 0 are never.

    ``owner`` is the raw account, 20 bytes (EVM) or 32 (Solana). ``sessions`` are those that it uses, the newest last.
    ``spent`` is what its acknowledged answers cost, ``held`` what its open ones may cost at most.
    ``tokens`` are those of prompts and answers since this process began.
    """

    id: str
    owner: bytes
    name: str
    scopes: frozenset[Scope]
    budget: Amount
    created_at: Timestamp
    expires_at: Timestamp = Timestamp(0)
    revoked_at: Timestamp = Timestamp(0)
    sessions: tuple[SessionId, ...] = ()
    spent: Amount = Amount(0)
    held: Amount = Amount(0)
    tokens: int = 0

    def hold(self, amount: Amount) -> None:
        """Set aside what a request may cost at most. Raises `KeyBudgetExhausted`."""
        if self.budget and self.spent + self.held + amount > self.budget:
            left = max(0, self.budget - self.spent - self.held)
            raise KeyBudgetExhausted(
                f"the request may cost {amount}; of the key's budget of {self.budget}, {left} is left",
                remedy="raise the key's budget, use another key, or ask for fewer tokens (max_tokens)",
            )
        self.held = Amount(self.held + amount)

    def release(self, amount: Amount) -> None:
        """Give back what was set aside."""
        self.held = Amount(self.held - amount)

    def spend(self, amount: Amount, tokens: int = 0) -> None:
        """Count what an answer cost and used; the receipt book does so on disk."""
        self.spent = Amount(self.spent + amount)
        self.tokens += tokens


class _Secret(msgspec.Struct):
    key: ApiKey
    valid_until: Timestamp


class ApiKeys:
    """The keys of one router: in memory for every request, on disk for the next start."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[str, ApiKey] = {}
        self._secrets: dict[bytes, _Secret] = {}
        self._version = 0

    @classmethod
    async def open(cls, database: Database) -> "ApiKeys":
        """The keys that are on disk, with what each has spent by the receipt book."""
        keys = cls(database)
        await keys.refresh()
        return keys

    async def follow(self) -> None:
        """Take in what other routers on the same database change, a second later at most, until cancelled."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError) as error:
                _log.warning("keys not refreshed", reason=str(error))

    async def refresh(self) -> None:
        """Take in what is on disk: all of it at first, then what has changed, and what was spent at other routers."""
        async with self._database.read() as connection:
            query = select(_KEYS.c.id).where(_KEYS.c.version > self._version - _VERSIONS_AGAIN)
            changed = list((await connection.execute(query)).scalars())
            for ids in _batched(changed, _KEYS_AT_ONCE):
                await self._take_in(connection, ids)
            limited = [key.id for key in self._keys.values() if key.budget and not key.revoked_at]
            for ids in _batched(dict.fromkeys((*changed, *limited)), _KEYS_AT_ONCE):
                for key_id, amount in (await spent_by_key(connection, ids)).items():
                    # What is answered here is counted in memory first.
                    self._keys[key_id].spent = max(self._keys[key_id].spent, amount)

    async def _take_in(self, connection: AsyncConnection, ids: Sequence[str]) -> None:
        rows = (await connection.execute(select(_KEYS).where(_KEYS.c.id.in_(ids)))).mappings().all()
        query = select(_SESSIONS).where(_SESSIONS.c.key_id.in_(ids)).order_by(_SESSIONS.c.number)
        links = (await connection.execute(query)).all()
        hashes = (await connection.execute(select(_SECRETS).where(_SECRETS.c.key_id.in_(ids)))).all()
        sessions: dict[str, list[SessionId]] = {}
        for link in links:
            sessions.setdefault(link.key_id, []).append(SessionId(link.session))
        for row in rows:
            fields = {name: row[name] for name in ("id", "owner", "name", "budget", *_TIMES)}
            key = ApiKey(**fields, scopes=_scopes(row["scopes"]), sessions=tuple(sessions.get(row["id"], ())))
            known = self._keys.setdefault(key.id, key)
            for field in ("name", "budget", "expires_at", "sessions"):
                setattr(known, field, getattr(key, field))  # requests that run now hold on to it
            known.revoked_at = known.revoked_at or key.revoked_at  # for ever, even while it is being written
            self._version = max(self._version, row["version"])
        for secret in hashes:
            self._secrets[secret.secret_hash] = _Secret(self._keys[secret.key_id], Timestamp(secret.valid_until))

    def count_awaiting(self, receipts: Iterable[AwaitingReceipt]) -> None:
        """Count what receipts that await vouchers cost, once after a start: the book does not have them yet."""
        for awaiting in receipts:
            if (key := self._keys.get(awaiting.key_id)) is not None:
                key.spend(awaiting.receipt.price)

    def find(self, secret_hash: bytes, now: float) -> ApiKey | None:
        """The key whose secret has this SHA-256, unless it was revoked, has expired or was replaced."""
        secret = self._secrets.get(secret_hash)
        if secret is None or 0 < secret.valid_until <= now:
            return None
        return self.valid(secret.key.id, now)

    def valid(self, key_id: str, now: float) -> ApiKey | None:
        """A key by its id, unless it was revoked or has expired."""
        key = self._keys.get(key_id)
        return None if key is None or key.revoked_at or 0 < key.expires_at <= now else key

    def get(self, key_id: str, owner: bytes) -> ApiKey:
        """One of the owner's keys. Raises `KeyUnknown`."""
        key = self._keys.get(key_id)
        if key is None or key.owner != owner:
            raise KeyUnknown(f"you have no API key {key_id!r}", remedy="list them: GET /v1/api-keys")
        return key

    def of(self, owner: bytes) -> list[ApiKey]:
        """All of an owner's keys, the oldest first."""
        return [key for key in self._keys.values() if key.owner == owner]

    async def create(
        self,
        owner: bytes,
        secret_hash: bytes,
        now: Timestamp,
        *,
        name: str = "",
        scopes: frozenset[Scope] = frozenset((Scope.INFERENCE, Scope.READ)),
        budget: Amount = _NO_BUDGET,
        expires_at: Timestamp = _NEVER,
        sessions: tuple[SessionId, ...] = (),
    ) -> ApiKey:
        """A new key; on disk when this returns. Raises `KeyRefused` or `InvalidValue`."""
        _check(name, scopes, budget, expires_at, now)
        if sum(not key.revoked_at for key in self.of(owner)) >= MAX_KEYS:
            raise KeyRefused(f"there are {MAX_KEYS} keys already, the most of one owner", remedy="revoke some first")
        if secret_hash in self._secrets:
            raise KeyRefused("this secret is in use already", remedy="make another one")
        if len(sessions) > MAX_SESSIONS:
            raise KeyRefused(f"a key uses at most {MAX_SESSIONS} sessions, not {len(sessions)}")
        key_id = f"key_{secrets.token_hex(12)}"
        key = ApiKey(key_id, owner, name, scopes, budget, now, expires_at, sessions=tuple(dict.fromkeys(sessions)))
        async with self._database.begin() as connection:
            await connection.execute(insert(_KEYS).values(**_to_row(key), version=_NEXT_VERSION))
            await _insert_secret(connection, key_id, secret_hash)
            for number, session in enumerate(key.sessions):
                await connection.execute(insert(_SESSIONS), _link(key_id, session, number))
        self._keys[key_id] = key
        self._secrets[secret_hash] = _Secret(key, Timestamp(0))
        return key

    async def grant(self, secret_hash: bytes, owner: bytes, session: SessionId, now: Timestamp) -> ApiKey:
        """Let a key use one more session of its owner's, from now on the first choice for its model.

        A secret that is not known becomes a new key. Saying it again changes nothing, so that an old grant cannot be
        replayed to any effect. Raises `KeyRefused` for another owner's key, a revoked one, or too many sessions.
        """
        secret = self._secrets.get(secret_hash)
        if secret is None:
            return await self.create(owner, secret_hash, now, sessions=(session,))
        if 0 < secret.valid_until <= now:
            raise KeyRefused(f"key {secret.key.id} has another secret now", remedy="use that one")
        await self.link(secret.key, owner, session)
        return secret.key

    async def link(self, key: ApiKey, owner: bytes, session: SessionId) -> None:
        """Let a key use one more session, which is ``owner``'s. Raises `KeyRefused` as `grant` does."""
        if key.owner != owner:
            raise KeyRefused("key and session belong to different owners", remedy="use a key of your own")
        _require_live(key)
        if session in key.sessions:
            return
        if len(key.sessions) >= MAX_SESSIONS:
            raise KeyRefused(f"key {key.id} uses {MAX_SESSIONS} sessions already", remedy="use another key")
        async with self._database.begin() as connection:
            await connection.execute(insert(_SESSIONS), _link(key.id, session, len(key.sessions)))
            await _touch(connection, key.id)
        key.sessions = (*key.sessions, session)

    async def change(
        self,
        key: ApiKey,
        now: Timestamp,
        *,
        name: str | None = None,
        budget: Amount | None = None,
        expires_at: Timestamp | None = None,
    ) -> None:
        """Change a key's name, budget or expiry. Raises `KeyRefused` when it is revoked, or `InvalidValue`."""
        _require_live(key)
        name = key.name if name is None else name
        budget = key.budget if budget is None else budget
        expires_at = key.expires_at if expires_at is None else expires_at
        _check(name, key.scopes, budget, expires_at, now)
        values = {"name": name, "budget": budget, "expires_at": expires_at}
        async with self._database.begin() as connection:
            await _touch(connection, key.id, **values)
        key.name, key.budget, key.expires_at = name, budget, expires_at

    async def rotate(self, key: ApiKey, secret_hash: bytes, now: Timestamp, grace_seconds: int) -> None:
        """Give a key another secret; the ones before stay valid for ``grace_seconds`` at most.

        Raises `KeyRefused` when the key is revoked, or the secret in use.
        """
        _require_live(key)
        if secret_hash in self._secrets:
            raise KeyRefused("this secret is in use already", remedy="make another one")
        until = Timestamp(now + grace_seconds)
        current = (_SECRETS.c.key_id == key.id) & ((_SECRETS.c.valid_until == 0) | (_SECRETS.c.valid_until > until))
        async with self._database.begin() as connection:
            await connection.execute(update(_SECRETS).where(current).values(valid_until=until))
            await _insert_secret(connection, key.id, secret_hash)
            await _touch(connection, key.id)
        for secret in self._secrets.values():
            if secret.key is key and (secret.valid_until == 0 or secret.valid_until > until):
                secret.valid_until = until
        self._secrets[secret_hash] = _Secret(key, Timestamp(0))

    async def revoke(self, key: ApiKey, now: Timestamp) -> None:
        """End a key at once and for ever. Saying it again changes nothing."""
        if key.revoked_at:
            return
        key.revoked_at = now  # before it is on disk: from here on nobody gets in with it
        async with self._database.begin() as connection:
            await _touch(connection, key.id, revoked_at=now)


def parse_scopes(names: Collection[str]) -> frozenset[Scope]:
    """Scopes by name. Raises `InvalidValue` for an unknown one, or none."""
    known = ", ".join(Scope)
    for name in names:
        if name not in Scope.__members__.values():
            raise InvalidValue(f"scope {name!r} must be one of {known}")
    if not names:
        raise InvalidValue(f"scopes must name at least one of {known}")
    return frozenset(Scope(name) for name in names)


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """The items, ``size`` at a time: a statement takes some 32,000 values at most."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _check(name: str, scopes: frozenset[Scope], budget: int, expires_at: int, now: int) -> None:
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidValue(f"name must have at most {MAX_NAME} printable characters")
    if not scopes:
        raise InvalidValue("a key must have at least one scope")
    if not 0 <= budget <= MAX_BUDGET:
        raise InvalidValue(f"budget is {budget}; it must lie between 0 (none) and {MAX_BUDGET} base units")
    if expires_at and not now < expires_at < 2**40:
        raise InvalidValue(f"expires_at is {expires_at}; it must be a time to come, in Unix seconds, or 0 for never")


def _require_live(key: ApiKey) -> None:
    if key.revoked_at:
        raise KeyRefused(f"key {key.id} was revoked; it stays so", remedy="make a new key")


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(Scope(name) for name in text.split(","))


def _to_row(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "owner": key.owner,
        "name": key.name,
        "scopes": ",".join(sorted(key.scopes)),
        "budget": key.budget,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def _link(key_id: str, session: SessionId, number: int) -> dict[str, object]:
    return {"key_id": key_id, "session": session, "number": number}


async def _touch(connection: AsyncConnection, key_id: str, **values: object) -> None:
    """Change a key, and have the other routers see that it has changed."""
    await connection.execute(update(_KEYS).where(_KEYS.c.id == key_id).values(**values, version=_NEXT_VERSION))


async def _insert_secret(connection: AsyncConnection, key_id: str, secret_hash: bytes) -> None:
    if len(secret_hash) != 32:
        raise InvalidValue(f"key_hash {show(secret_hash)} must be the 32 bytes of a SHA-256")
    await connection.execute(insert(_SECRETS), {"secret_hash": secret_hash, "key_id": key_id, "valid_until": 0})
