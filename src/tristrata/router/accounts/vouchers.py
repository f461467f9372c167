"""Vouchers of sessions with own keys, over HTTP: what awaits one, and the owner's signatures."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import RequestId, parse_bytes32, show
from tristrata.router.accounts.bodies import body_of, parse_limit, parse_signature
from tristrata.router.accounts.describe import describe_session
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.http import json_response, refusal_of
from tristrata.router.openai.receipts import signed_receipt
from tristrata.router.own_keys import MAX_VOUCHERS, PostedVoucher, VoucherConflict
from tristrata.router.sessions import ServedSession
from tristrata.storage.api_keys import Scope
from tristrata.storage.awaiting import AwaitingReceipt


class _Voucher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    request_id: str
    signature: str


class _VouchersBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vouchers: list[_Voucher]


class VouchersApi:
    """Vouchers over a desk."""

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/sessions/{session}/awaiting", self._awaiting),
            Route("/v1/sessions/{session}/vouchers", self._take, methods=["POST"]),
        ]

    async def _awaiting(self, request: Request) -> Response:
        served = await self._own(request)
        limit = parse_limit(request)
        waiting = list(served.awaiting.values())
        data = [_describe(each) for each in waiting[:limit]]
        return json_response({"object": "list", "data": data, "has_more": len(waiting) > limit})

    async def _take(self, request: Request) -> Response:
        served = await self._own(request)
        body = await body_of(request, _VouchersBody)
        if len(body.vouchers) > MAX_VOUCHERS:
            raise InvalidValue(f"{len(body.vouchers)} vouchers were sent; at most {MAX_VOUCHERS} are taken at once")
        posted = [
            PostedVoucher(
                RequestId(parse_bytes32(each.request_id, f"vouchers.{number}.request_id")),
                parse_signature(each.signature),
            )
            for number, each in enumerate(body.vouchers)
        ]
        try:
            taken = await self._desk.own_keys.take(served, posted)
        except VoucherConflict as conflict:
            refusal = refusal_of(conflict)
            return json_response(
                {**refusal.body, "session": describe_session(self._desk, served)}, status=refusal.status
            )
        return json_response({"acknowledged": taken, "session": describe_session(self._desk, served)})

    async def _own(self, request: Request) -> ServedSession:
        served = await self._desk.session_of(request, self._desk.caller(request, Scope.READ))
        if served.key is not None:
            raise InvalidValue("the session is managed: this router signs its vouchers, and none is awaited")
        return served


def _describe(awaiting: AwaitingReceipt) -> dict[str, Any]:
    return {
        "object": "receipt",
        "id": show(awaiting.receipt.request_id),
        **signed_receipt(awaiting),
        "ended_at": awaiting.ended_at,
        "stage": "signed",
    }
