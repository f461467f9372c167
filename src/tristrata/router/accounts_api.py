"""The account part of the HTTP API: registration, sessions, API keys. The router carries and pays the gas.

Everything here is signed by the account that it concerns; the contracts check those signatures again.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.bindings.welcome import Welcome
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionWriter
from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import (
    Address,
    Caip2,
    SessionId,
    checksum,
    parse_address,
    parse_bytes32,
    session_id,
    show,
)
from tristrata.protocol.signing import SIGNATURE_BYTES, address_of, digest, require_signer
from tristrata.protocol.terms import ApiKeyGrant, OpenSession, Registration, Role
from tristrata.protocol.units import Amount, BasisPoints, Timestamp
from tristrata.router.callers import Callers
from tristrata.router.http import Refusal, json_response, read_body
from tristrata.router.hubs import HubFollower
from tristrata.router.openai_api import ServedModel
from tristrata.router.sessions import ServedSession, ServedSessions
from tristrata.storage.api_keys import ApiKeys, Scope

_SECONDS_PER_DAY = 86_400
Body = TypeVar("Body", bound=msgspec.Struct)


class RouterRules(msgspec.Struct, frozen=True):
    """What this router agrees to. Amounts are base units; ``sponsored_per_day`` counts registrations it pays for."""

    address: Address
    router_bps: BasisPoints
    unsecured_limit: Amount
    sponsored_per_day: int
    models: tuple[ServedModel, ...]


class Permit(msgspec.Struct, frozen=True):
    """A signed allowance (EIP-2612)."""

    deadline: Timestamp
    signature: bytes


class _RegistrationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    account: str
    role: str
    deadline: int
    signature: str


class _SessionKeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hub: str
    owner: str
    nonce: str


class _PermitBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    deadline: int
    r: str
    s: str
    v: int


class _OrderBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hub: str
    order: dict[str, Any]
    signature: str
    permit: _PermitBody


class _GrantBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hub: str
    session: str
    key_hash: str
    deadline: int
    signature: str


class AccountsApi:
    """Accounts over the chains: ``writers`` has one for the Welcome Center's chain and one a hub."""

    def __init__(
        self,
        rules: RouterRules,
        welcome: Welcome,
        hubs: Mapping[Caip2, HubFollower],
        writers: Mapping[Caip2, TransactionWriter],
        sessions: ServedSessions,
        keys: ApiKeys,
        callers: Callers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._welcome = welcome
        self._hubs = hubs
        self._writers = writers
        self._sessions = sessions
        self._keys = keys
        self._callers = callers
        self._clock = clock
        self._sponsored = (0, 0)

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/router", self._terms),
            Route("/v1/registrations", self._register, methods=["POST"]),
            Route("/v1/registrations/{account}", self._registration),
            Route("/v1/session-keys", self._session_key, methods=["POST"]),
            Route("/v1/sessions", self._open_session, methods=["POST"]),
            Route("/v1/sessions/{session}", self._session),
            Route("/v1/api-keys", self._grant, methods=["POST"]),
        ]

    @property
    def managed_deposits(self) -> Amount:
        """What owners have put into sessions whose keys this router holds, over all hubs."""
        return Amount(sum(follower.managed_deposits for follower in self._hubs.values()))

    async def _terms(self, _: Request) -> Response:
        return json_response(
            {
                "address": checksum(self._rules.address),
                "router_bps": self._rules.router_bps,
                "unsecured_limit": str(self._rules.unsecured_limit),
                "managed_deposits": str(self.managed_deposits),
                "onboarding": self._welcome.caip2,
                "hubs": list(self._hubs),
                "models": {model.name: show(model.model_id) for model in self._rules.models},
            }
        )

    async def _register(self, request: Request) -> Response:
        body = _decode(await read_body(request), _RegistrationBody)
        if body.role.upper() not in Role.__members__:
            raise InvalidValue(f"role {body.role!r} must be one of user, miner")
        registration = Registration(parse_address(body.account), Role[body.role.upper()], Timestamp(body.deadline))
        self._count_sponsored()
        writer = self._writers[self._welcome.caip2]
        done = await self._welcome.register(writer, registration, _signature(body.signature))
        return json_response(
            {"chain": self._welcome.caip2, "tx": show(done.tx_hash), "block": done.block, "gas": done.gas_used}
        )

    async def _registration(self, request: Request) -> Response:
        account = parse_address(request.path_params["account"])
        known = []
        for caip2, follower in self._hubs.items():
            head = await follower.hub.chain.block(Level.SOFT)
            if await follower.hub.sessions.read("registered", account, at=head.number):
                known.append(caip2)
        return json_response({"account": checksum(account), "hubs": known})

    async def _session_key(self, request: Request) -> Response:
        body = _decode(await read_body(request), _SessionKeyBody)
        follower = self._hub(body.hub)
        if not body.nonce.isascii() or not body.nonce.isdigit() or int(body.nonce[:80]) >= 2**256:
            raise InvalidValue("nonce must be a decimal number below 2**256, as text")
        session = session_id(follower.hub.ref, parse_address(body.owner), int(body.nonce))
        key = follower.session_key(session)
        return json_response({"session": show(session), "session_key": checksum(address_of(key.public_key))})

    async def _open_session(self, request: Request) -> Response:
        body = _decode(await read_body(request), _OrderBody)
        follower = self._hub(body.hub)
        order = codec.order_from_json(body.order)
        session = session_id(follower.hub.ref, order.owner, order.nonce)
        self._check_order(order, follower, session)
        permit = _permit(body.permit)
        done = await follower.hub.open_for(
            self._writers[follower.hub.caip2], session, order, _signature(body.signature), permit
        )
        await follower.catch_up()
        self._sessions.get(session)
        return json_response(
            {"session": show(session), "tx": show(done.tx_hash), "block": done.block, "gas": done.gas_used}
        )

    async def _session(self, request: Request) -> Response:
        caller = self._callers.authenticate(request)
        caller.require(Scope.READ)
        session = SessionId(parse_bytes32(request.path_params["session"], "session"))
        return json_response(_describe(caller.session(session)))

    async def _grant(self, request: Request) -> Response:
        body = _decode(await read_body(request), _GrantBody)
        follower = self._hub(body.hub)
        grant = ApiKeyGrant(
            SessionId(parse_bytes32(body.session, "session")),
            parse_bytes32(body.key_hash, "key_hash"),
            Timestamp(body.deadline),
        )
        now = Timestamp(int(self._clock()))
        if grant.deadline < now:
            raise InvalidValue(f"the grant's deadline is {grant.deadline}; it is {now} already")
        served = self._sessions.get(grant.session)
        separator = follower.hub.sessions_domain.separator
        require_signer(digest(separator, grant.struct_hash), _signature(body.signature), served.owner, "the grant")
        key = await self._keys.grant(grant.key_hash, served.owner, grant.session, now)
        return json_response({"id": key.id, "session": show(grant.session)})

    def _hub(self, caip2: str) -> HubFollower:
        follower = self._hubs.get(Caip2(caip2))
        if follower is None:
            raise InvalidValue(f"hub {caip2!r} is not served here; there is {', '.join(self._hubs)}")
        return follower

    def _check_order(self, order: OpenSession, follower: HubFollower, session: SessionId) -> None:
        terms = order.terms
        if terms.router != self._rules.address or terms.router_bps != self._rules.router_bps:
            raise InvalidValue(
                f"the order names router {checksum(terms.router)} at {terms.router_bps} basis points; this is "
                f"{checksum(self._rules.address)} at {self._rules.router_bps}"
            )
        if not terms.managed:
            raise InvalidValue("the order must say that the session is managed: this router would hold its key")
        if terms.session_key != address_of(follower.session_key(session).public_key):
            raise InvalidValue("the order's session_key is not the one that this router holds for the session")
        if terms.model_id not in {model.model_id for model in self._rules.models}:
            raise InvalidValue(f"model {show(terms.model_id)} is not served here")
        after = self.managed_deposits + order.deposit
        if after > self._rules.unsecured_limit and self._sessions.find(session) is None:
            message = (
                f"with this deposit of {order.deposit} the router would hold the keys to {after} base units; it takes "
                f"{self._rules.unsecured_limit} beyond its bond. Deposit less, or keep your own session key"
            )
            raise Refusal(403, "managed_limit_reached", message)

    def _count_sponsored(self) -> None:
        today = int(self._clock()) // _SECONDS_PER_DAY
        day, count = self._sponsored
        count = count if day == today else 0
        if count >= self._rules.sponsored_per_day:
            message = f"this sponsor pays for {self._rules.sponsored_per_day} registrations a day; come back tomorrow"
            raise Refusal(429, "sponsor_exhausted", message)
        self._sponsored = (today, count + 1)


def _decode(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidValue(f"the body is not what is expected here: {error}") from error


def _signature(text: str) -> bytes:
    try:
        signature = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise InvalidValue("a signature must be hexadecimal") from error
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidValue(f"a signature of {len(signature)} bytes was given; it must have {SIGNATURE_BYTES}")
    return signature


def _permit(body: _PermitBody) -> Permit:
    r, s = parse_bytes32(body.r, "permit.r"), parse_bytes32(body.s, "permit.s")
    if body.v not in (27, 28):
        raise InvalidValue(f"permit.v is {body.v}; it must be 27 or 28")
    return Permit(Timestamp(body.deadline), r + s + bytes([body.v]))


def _describe(served: ServedSession) -> dict[str, Any]:
    book = served.book
    return {
        "object": "session",
        "id": show(book.session),
        "chain": served.hub.chain,
        "owner": checksum(served.owner),
        "custody": "managed",
        "deposit": str(book.deposit),
        "cumulative": str(book.cumulative),
        "charged": str(book.charged),
        "in_flight": str(book.in_flight),
        "exposure": str(book.exposure),
        "available": str(book.available),
        "receipts": book.tree.count,
        "ending": book.ending,
    }
