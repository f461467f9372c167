"""Receipts over HTTP: what a miner signed, the voucher that pays for it, and how far both have come."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.protocol import codec
from tristrata.protocol.ids import RequestId, parse_bytes32, show
from tristrata.protocol.proof import ReceiptProof, proof_to_json
from tristrata.router.callers import Callers
from tristrata.router.http import Refusal, json_response
from tristrata.router.openai_api import signed_receipt
from tristrata.router.sessions import ServedSession
from tristrata.storage.api_keys import Scope
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

Prove = Callable[[BookEntry], Awaitable[ReceiptProof]]


class ReceiptsApi:
    """The receipts of an API key's session. ``prove`` finds the way of one to Ethereum."""

    def __init__(self, callers: Callers, book: ReceiptBook, prove: Prove) -> None:
        self._callers = callers
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
        caller = self._callers.authenticate(request)
        caller.require(Scope.READ)
        request_id = RequestId(parse_bytes32(request.path_params["request_id"], "receipt id"))
        entry = await self._book.entry(request_id)
        if entry is None or entry.receipt.session not in caller.sessions:
            raise Refusal(404, "receipt_not_found", f"your sessions have no receipt {show(request_id)}")
        return entry, caller.session(entry.receipt.session)


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
