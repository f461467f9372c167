"""API keys over HTTP: made, listed, changed, rotated and revoked by their owner, or granted by a signature."""

import secrets
from hashlib import sha256

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import SessionId, parse_bytes32, show
from tristrata.protocol.signing import digest, require_signer
from tristrata.protocol.terms import ApiKeyGrant
from tristrata.protocol.units import Amount, Timestamp
from tristrata.router.accounts.bodies import body_of, decode, parse_amount, parse_limit, parse_signature, parse_time
from tristrata.router.accounts.describe import describe_key
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.callers import Caller
from tristrata.router.http import json_response, read_body
from tristrata.storage.api_keys import ApiKey, Scope, parse_scopes

KEY_PREFIX = "sk-tri-"
DEFAULT_GRACE_SECONDS = 3_600
MAX_GRACE_SECONDS = 7 * 86_400
_SECRET_BYTES = 32


class _GrantBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hub: str
    session: str
    key_hash: str
    deadline: int
    signature: str


class _NewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    scopes: tuple[str, ...] = ("inference", "read")
    budget: str = "0"
    expires_at: int = 0
    sessions: list[str] | None = None


class _ChangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str | None = None
    budget: str | None = None
    expires_at: int | None = None


class _RotateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    grace_seconds: int = DEFAULT_GRACE_SECONDS


class _LinkBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: str


class KeysApi:
    """API keys over a desk."""

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/api-keys", self._list),
            Route("/v1/api-keys", self._make, methods=["POST"]),
            Route("/v1/api-keys/{key}", self._show),
            Route("/v1/api-keys/{key}", self._change, methods=["POST"]),
            Route("/v1/api-keys/{key}", self._revoke, methods=["DELETE"]),
            Route("/v1/api-keys/{key}/rotate", self._rotate, methods=["POST"]),
            Route("/v1/api-keys/{key}/sessions", self._link, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        caller = self._desk.caller(request, Scope.ADMIN)
        limit, after = parse_limit(request), request.query_params.get("after")
        newest_first = list(reversed(self._desk.keys.of(caller.owner)))
        if after is not None:
            newest_first = newest_first[newest_first.index(self._desk.keys.get(after, caller.owner)) + 1 :]
        data = [describe_key(key) for key in newest_first[:limit]]
        return json_response({"object": "list", "data": data, "has_more": len(newest_first) > limit})

    async def _make(self, request: Request) -> Response:
        """A grant brings its own signature; a key without one is made by a caller that may."""
        if "authorization" not in request.headers:
            return await self._grant(await body_of(request, _GrantBody))
        body = await read_body(request)
        if b'"key_hash"' in body:
            return await self._grant(decode(body, _GrantBody))
        caller = self._desk.caller(request, Scope.ADMIN)
        return await self._new(caller, decode(body, _NewBody) if body else _NewBody())

    async def _new(self, caller: Caller, body: _NewBody) -> Response:
        sessions = caller.sessions
        if body.sessions is not None:
            named = [SessionId(parse_bytes32(session, "session")) for session in body.sessions]
            sessions = tuple(caller.session(session).book.session for session in named)
        else:
            live = {served.book.session for served in caller.all_sessions() if not served.book.ending}
            sessions = tuple(session for session in sessions if session in live)
        secret = _new_secret()
        key = await self._desk.keys.create(
            caller.owner,
            _hash(secret),
            self._desk.now,
            name=body.name,
            scopes=parse_scopes(body.scopes),
            budget=Amount(parse_amount(body.budget, "budget")),
            expires_at=parse_time(body.expires_at, "expires_at"),
            sessions=sessions,
        )
        return json_response({**describe_key(key), "secret": secret}, headers={"cache-control": "no-store"})

    async def _grant(self, body: _GrantBody) -> Response:
        desk = self._desk
        follower = desk.hub(body.hub)
        grant = ApiKeyGrant(
            SessionId(parse_bytes32(body.session, "session")),
            parse_bytes32(body.key_hash, "key_hash"),
            parse_time(body.deadline, "deadline"),
        )
        if grant.deadline < desk.now:
            raise InvalidValue(f"the grant's deadline is {grant.deadline}; it is {desk.now} already")
        served = desk.sessions.get(grant.session)
        separator = follower.hub.sessions_domain.separator
        require_signer(digest(separator, grant.struct_hash), parse_signature(body.signature), served.owner, "the grant")
        key = await desk.keys.grant(grant.key_hash, served.owner, grant.session, desk.now)
        return json_response({"id": key.id, "session": show(grant.session)})

    async def _show(self, request: Request) -> Response:
        return json_response(describe_key(self._key(request)))

    async def _change(self, request: Request) -> Response:
        key, body = self._key(request), await body_of(request, _ChangeBody)
        budget = None if body.budget is None else parse_amount(body.budget, "budget")
        expires_at: Timestamp | None = None
        if body.expires_at is not None:
            expires_at = parse_time(body.expires_at, "expires_at")
        await self._desk.keys.change(key, self._desk.now, name=body.name, budget=budget, expires_at=expires_at)
        return json_response(describe_key(key))

    async def _revoke(self, request: Request) -> Response:
        key = self._key(request)
        await self._desk.keys.revoke(key, self._desk.now)
        return json_response(describe_key(key))

    async def _rotate(self, request: Request) -> Response:
        key, raw = self._key(request), await read_body(request)
        grace = decode(raw, _RotateBody).grace_seconds if raw else DEFAULT_GRACE_SECONDS
        if not 0 <= grace <= MAX_GRACE_SECONDS:
            raise InvalidValue(f"grace_seconds is {grace}; it must lie between 0 and {MAX_GRACE_SECONDS}")
        secret, now = _new_secret(), self._desk.now
        await self._desk.keys.rotate(key, _hash(secret), now, grace)
        told = {**describe_key(key), "secret": secret, "old_secret_until": now + grace}
        return json_response(told, headers={"cache-control": "no-store"})

    async def _link(self, request: Request) -> Response:
        key, body = self._key(request), await body_of(request, _LinkBody)
        session = SessionId(parse_bytes32(body.session, "session"))
        served = self._desk.sessions.get(session)
        await self._desk.keys.link(key, served.owner, session)
        return json_response(describe_key(key))

    def _key(self, request: Request) -> ApiKey:
        caller = self._desk.caller(request, Scope.ADMIN)
        return self._desk.keys.get(request.path_params["key"], caller.owner)


def _new_secret() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
