"""Receipts over HTTP: what a miner signed, the voucher that pays for it, and how far both have come."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.protocol import codec
from tristrata.protocol.ids import RequestId, parse_bytes32, show
from tristrata.protocol.proof import ReceiptProof, proof_to_json
from tristrata.router.http import Refusal, authenticate, json_response
from tristrata.router.openai_api import signed_receipt
from tristrata.router.sessions import ServedSession, ServedSessions
from tristrata.storage.api_keys import ApiKeys
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

Prove = Callable[[BookEntry], Awaitable[ReceiptProof]]


class ReceiptsApi:
    """The receipts of an API key's session. ``prove`` finds the way of one to Ethereum."""

    def __init__(self, sessions: ServedSessions, keys: ApiKeys, book: ReceiptBook, prove: Prove) -> None:
        self._sessions = sessions
        self._keys = keys
        self._book = book
        self._prove = prove

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/receipts/{request_id}", self._receipt),
            Route("/v1/receipts/{request_id}/proof", self._proof),
        ]

    async def _receipt(self, request: Request) -> Response:
        entry, served = await self._find(request)
        return json_response(_describe(entry, served))

    async def _proof(self, request: Request) -> Response:
        entry, _ = await self._find(request)
        return json_response(proof_to_json(await self._prove(entry)))

    async def _find(self, request: Request) -> tuple[BookEntry, ServedSession]:
        served = authenticate(request, self._keys, self._sessions)
        request_id = RequestId(parse_bytes32(request.path_params["request_id"], "receipt id"))
        entry = await self._book.entry(request_id)
        if entry is None or entry.receipt.session != served.book.session:
            raise Refusal(404, "receipt_not_found", f"this key's session has no receipt {show(request_id)}")
        return entry, served


def _describe(entry: BookEntry, served: ServedSession) -> dict[str, Any]:
    charged = served.book.charged >= entry.voucher.voucher.cumulative
    return {
        "object": "receipt",
        "id": show(entry.receipt.request_id),
        **signed_receipt(entry),
        "salts": {"prompt": show(entry.prompt_salt), "output": show(entry.output_salt)},
        "position": entry.position,
        "voucher": codec.voucher_to_json(entry.voucher),
        "vouchered_at": entry.appended_at,
        "stage": "charged" if charged else "vouchered",
    }
