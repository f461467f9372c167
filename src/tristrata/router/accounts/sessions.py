"""Sessions over HTTP: open, list, look at, top up, close, refund."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.chains.writer import Inclusion
from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import SessionId, checksum, parse_address, parse_bytes32, session_id, show
from tristrata.protocol.orders import RequestClose, TopUp
from tristrata.protocol.signing import address_of, digest, require_signer
from tristrata.protocol.terms import OpenSession
from tristrata.protocol.units import Amount
from tristrata.router.accounts.bodies import (
    PermitBody,
    body_of,
    parse_amount,
    parse_limit,
    parse_permit,
    parse_signature,
    parse_time,
)
from tristrata.router.accounts.describe import describe_session
from tristrata.router.accounts.desk import CARRIED_PER_DAY, AccountDesk
from tristrata.router.http import json_response
from tristrata.router.hubs import HubFollower
from tristrata.storage.api_keys import Scope

_CARRIED = "top-ups, closes and refunds of one owner"


class _SessionKeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hub: str
    owner: str
    nonce: str


class _OrderBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hub: str
    order: dict[str, Any]
    signature: str
    permit: PermitBody


class _TopUpBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payer: str
    amount: str
    salt: str
    deadline: int
    signature: str


class _CloseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sender: str
    deadline: int
    signature: str


class SessionsApi:
    """Sessions over a desk."""

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/session-keys", self._session_key, methods=["POST"]),
            Route("/v1/sessions", self._list),
            Route("/v1/sessions", self._open, methods=["POST"]),
            Route("/v1/sessions/{session}", self._session),
            Route("/v1/sessions/{session}/top-up", self._top_up, methods=["POST"]),
            Route("/v1/sessions/{session}/close", self._close, methods=["POST"]),
            Route("/v1/sessions/{session}/refund", self._refund, methods=["POST"]),
        ]

    async def _session_key(self, request: Request) -> Response:
        body = await body_of(request, _SessionKeyBody)
        follower = self._desk.hub(body.hub)
        if not body.nonce.isascii() or not body.nonce.isdigit() or int(body.nonce[:80]) >= 2**256:
            raise InvalidValue("nonce must be a decimal number below 2**256, as text")
        session = session_id(follower.hub.ref, parse_address(body.owner), int(body.nonce))
        key = follower.session_key(session)
        return json_response({"session": show(session), "session_key": checksum(address_of(key.public_key))})

    async def _open(self, request: Request) -> Response:
        body = await body_of(request, _OrderBody)
        follower = self._desk.hub(body.hub)
        order = codec.order_from_json(body.order)
        session = session_id(follower.hub.ref, order.owner, order.nonce)
        self._check_order(order, follower, session)
        permit, writer = parse_permit(body.permit), await self._desk.writer(follower.hub.caip2)
        done = await follower.hub.open_for(writer, session, order, parse_signature(body.signature), permit)
        await follower.catch_up()
        self._desk.sessions.get(session)
        return json_response({"session": show(session), **_told(done)})

    async def _list(self, request: Request) -> Response:
        caller = self._desk.caller(request, Scope.READ)
        limit, after = parse_limit(request), request.query_params.get("after")
        newest_first = list(reversed(caller.all_sessions()))
        if after is not None:
            last = caller.session(SessionId(parse_bytes32(after, "after")))
            newest_first = newest_first[newest_first.index(last) + 1 :]
        page = newest_first[:limit]
        data = [describe_session(self._desk, served) for served in page]
        return json_response({"object": "list", "data": data, "has_more": len(newest_first) > limit})

    async def _session(self, request: Request) -> Response:
        caller = self._desk.caller(request, Scope.READ)
        return json_response(describe_session(self._desk, await self._desk.session_of(request, caller)))

    async def _top_up(self, request: Request) -> Response:
        desk, caller = self._desk, self._desk.callers.authenticate(request)
        served = desk.known_session(request, caller)
        body = await body_of(request, _TopUpBody)
        order = TopUp(
            served.book.session,
            parse_address(body.payer),
            parse_amount(body.amount, "amount"),
            parse_bytes32(body.salt, "salt"),
            parse_time(body.deadline, "deadline"),
        )
        signature = parse_signature(body.signature)
        if order.amount == 0:
            raise InvalidValue("amount is 0; a top-up adds at least 1 base unit")
        if order.deadline <= desk.now:
            raise InvalidValue(f"the authorization's deadline is {order.deadline}; it is {desk.now} already")
        if served.key is not None:
            desk.require_unsecured(order.amount)
        follower = desk.hub(served.hub.chain)
        writer = await desk.writer(follower.hub.caip2)
        with desk.sponsor.pays(served.owner, CARRIED_PER_DAY, _CARRIED):
            done = await follower.hub.top_up_for(writer, order, signature)
        await follower.catch_up()
        return json_response({**describe_session(desk, served), **_told(done)})

    async def _close(self, request: Request) -> Response:
        # No key is needed: the signature is the session's own party's, and the hub takes one such request a session.
        desk = self._desk
        body = await body_of(request, _CloseBody)
        served = desk.sessions.get(SessionId(parse_bytes32(request.path_params["session"], "session")))
        follower = desk.hub(served.hub.chain)
        sender = parse_address(body.sender)
        order = RequestClose(served.book.session, sender, parse_time(body.deadline, "deadline"))
        signature = parse_signature(body.signature)
        if sender not in (served.owner, served.book.terms.session_key):
            raise InvalidValue(f"{body.sender} is no party of this session: its owner or its session key must ask")
        if order.deadline <= desk.now:
            raise InvalidValue(f"the order's deadline is {order.deadline}; it is {desk.now} already")
        message = digest(follower.hub.sessions_domain.separator, order.struct_hash)
        require_signer(message, signature, sender, "the close request")
        writer = await desk.writer(follower.hub.caip2)
        with desk.sponsor.pays(served.owner, CARRIED_PER_DAY, _CARRIED):
            done = await follower.hub.request_close_for(writer, order, signature)
        await follower.catch_up()
        return json_response({**describe_session(desk, served), **_told(done)})

    async def _refund(self, request: Request) -> Response:
        desk, caller = self._desk, self._desk.callers.authenticate(request)
        served = desk.known_session(request, caller)
        follower = desk.hub(served.hub.chain)
        if served.life.refund is not None:
            return json_response(describe_session(desk, served))
        writer = await desk.writer(follower.hub.caip2)
        with desk.sponsor.pays(served.owner, CARRIED_PER_DAY, _CARRIED):
            done = await follower.hub.close(writer, served.book.session)
        await follower.catch_up()
        return json_response({**describe_session(desk, served), **_told(done)})

    def _check_order(self, order: OpenSession, follower: HubFollower, session: SessionId) -> None:
        rules, terms = self._desk.rules, order.terms
        if terms.router != rules.address or terms.router_bps != rules.router_bps:
            raise InvalidValue(
                f"the order names router {checksum(terms.router)} at {terms.router_bps} basis points; this is "
                f"{checksum(rules.address)} at {rules.router_bps}"
            )
        routers_key = address_of(follower.session_key(session).public_key)
        if terms.managed and terms.session_key != routers_key:
            raise InvalidValue("the order's session_key is not the one that this router holds for the session")
        if not terms.managed and terms.session_key == routers_key:
            raise InvalidValue(
                "the order names this router's session_key; say that the session is managed, or use yours"
            )
        if terms.model_id not in {model.model_id for model in rules.models}:
            raise InvalidValue(f"model {show(terms.model_id)} is not served here")
        if order.deadline <= self._desk.now:
            raise InvalidValue(f"the order's deadline is {order.deadline}; it is {self._desk.now} already")
        if terms.managed and self._desk.sessions.find(session) is None:
            self._desk.require_unsecured(Amount(order.deposit))


def _told(done: Inclusion) -> dict[str, Any]:
    return {"tx": show(done.tx_hash), "block": done.block, "gas": done.gas_used}
