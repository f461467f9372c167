"""Receipts over HTTP: what a miner signed, the voucher that pays for it, and how far both have come to Ethereum."""

import asyncio
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.bindings.hub import Hub
from tristrata.client.paths import Climb, PathFinder
from tristrata.protocol import codec
from tristrata.protocol.epoch import EpochWrong, Lane
from tristrata.protocol.errors import InvalidValue, TristrataError
from tristrata.protocol.ids import Address, Caip2, RequestId, SessionId, parse_bytes32, show
from tristrata.protocol.proof import ReceiptProof, proof_to_json
from tristrata.router.accounts.bodies import parse_limit
from tristrata.router.callers import Caller, Callers
from tristrata.router.http import Refusal, json_response
from tristrata.router.openai.receipts import signed_receipt
from tristrata.router.sessions import ServedSession
from tristrata.storage.api_keys import Scope
from tristrata.storage.awaiting import AwaitingReceipt
from tristrata.storage.content_store import ContentMissing
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

_FOLLOW_SECONDS = 2.0
_LANES = {Lane.ATTESTED: "attested", Lane.FINAL: "final"}
_log = structlog.get_logger()


class ReceiptStages:
    """Follows how receipts climb to Ethereum, in the background; what it says may be a few seconds old."""

    def __init__(self, finder: PathFinder, hubs: dict[Caip2, Hub]) -> None:
        self._finder = finder
        self._hubs = hubs

    async def run(self) -> None:
        """Follow until cancelled; chains that do not answer are asked again."""
        while True:
            try:
                await self.refresh()
            except TristrataError as error:
                _log.warning("receipts not followed", reason=error.message)
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def refresh(self) -> None:
        """Ask the chains now."""
        await self._finder.catch_up()

    async def climb(self, entry: BookEntry) -> Climb:
        """How far an entry has come. Asks no chain."""
        try:
            return await self._finder.climb(self._hubs[entry.chain], entry.receipt.session, entry.position)
        except (ContentMissing, EpochWrong, InvalidValue):  # not known then; the proof says what is missing
            return Climb()

    async def prove(self, entry: BookEntry) -> ReceiptProof:
        """The receipt with its path to Ethereum, as the chains have it now."""
        return await self._finder.prove(self._hubs[entry.chain], entry.receipt, entry.signature, entry.position)


class ReceiptsApi:
    """The receipts of a caller's sessions; those of ``house``, which pays for others' calls, for all who know an id."""

    def __init__(
        self, callers: Callers, book: ReceiptBook, stages: ReceiptStages, house: Address | None = None
    ) -> None:
        self._house = house
        self._callers = callers
        self._book = book
        self._stages = stages

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/receipts", self._list),
            Route("/v1/receipts/{request_id}", self._receipt),
            Route("/v1/receipts/{request_id}/proof", self._proof),
        ]

    async def _list(self, request: Request) -> Response:
        caller, limit = self._caller(request), parse_limit(request)
        sessions = [served.book.session for served in reversed(caller.all_sessions())]
        if (chosen := request.query_params.get("session")) is not None:
            sessions = [caller.session(SessionId(parse_bytes32(chosen, "session"))).book.session]
        before: int | None = None
        if (after := request.query_params.get("after")) is not None:
            last = await self._entry(caller, RequestId(parse_bytes32(after, "after")))
            if last.receipt.session not in sessions:
                raise Refusal(404, "receipt_not_found", f"receipt {after} is not one of these", "after")
            sessions, before = sessions[sessions.index(last.receipt.session) :], last.position
        found: list[BookEntry] = []
        for session in sessions:
            found += await self._book.newest(session, limit + 1 - len(found), before)
            before = None
            if len(found) > limit:
                break
        page = found[:limit]
        data = [
            _describe(entry, caller.session(entry.receipt.session), await self._stages.climb(entry)) for entry in page
        ]
        return json_response({"object": "list", "data": data, "has_more": len(found) > limit})

    async def _receipt(self, request: Request) -> Response:
        """Straight from memory and disk; with ``?fresh=true`` the chains are asked first."""
        caller, request_id = self._knower(request), _request_id(request)
        for session in caller.all_sessions():
            if (awaiting := session.awaiting.get(request_id)) is not None:
                return json_response(_describe_awaiting(awaiting))
        entry = await self._entry(caller, request_id)
        if request.query_params.get("fresh") == "true":
            await self._stages.refresh()
        served = caller.session(entry.receipt.session)
        return json_response(_describe(entry, served, await self._stages.climb(entry)))

    async def _proof(self, request: Request) -> Response:
        entry = await self._entry(self._knower(request), _request_id(request))
        return json_response(proof_to_json(await self._stages.prove(entry)))

    def _caller(self, request: Request) -> Caller:
        caller = self._callers.authenticate(request)
        caller.require(Scope.READ)
        return caller

    def _knower(self, request: Request) -> Caller:
        """Who asks for one receipt by its id: 256 random bits, which only whoever got the answer knows."""
        if self._house is not None and "authorization" not in request.headers:
            return self._callers.later(self._house, "")
        return self._caller(request)

    async def _entry(self, caller: Caller, request_id: RequestId) -> BookEntry:
        entry = await self._book.entry(request_id)
        if entry is None or entry.receipt.session not in caller.sessions:
            raise Refusal(404, "receipt_not_found", f"your sessions have no receipt {show(request_id)}")
        return entry


def _request_id(request: Request) -> RequestId:
    return RequestId(parse_bytes32(request.path_params["request_id"], "receipt id"))


def _describe(entry: BookEntry, served: ServedSession, climb: Climb) -> dict[str, Any]:
    return {
        "object": "receipt",
        "id": show(entry.receipt.request_id),
        **signed_receipt(entry),
        "salts": {"prompt": show(entry.prompt_salt), "output": show(entry.output_salt)},
        "position": entry.position,
        "voucher": codec.voucher_to_json(entry.voucher),
        "vouchered_at": entry.appended_at,
        "api_key": entry.key_id or None,
        "stage": _stage(entry, served, climb),
        "epoch": climb.epoch,
        "ledger_epoch": climb.ledger_epoch,
    }


def _stage(entry: BookEntry, served: ServedSession, climb: Climb) -> str:
    if climb.lane is not Lane.NONE:
        return _LANES[climb.lane]
    if climb.epoch is not None:
        return "settled"
    return "charged" if served.book.charged >= entry.voucher.voucher.cumulative else "vouchered"


def _describe_awaiting(awaiting: AwaitingReceipt) -> dict[str, Any]:
    return {
        "object": "receipt",
        "id": show(awaiting.receipt.request_id),
        **signed_receipt(awaiting),
        "position": None,
        "voucher": None,
        "api_key": awaiting.key_id or None,
        "stage": "signed",
        "epoch": None,
        "ledger_epoch": None,
    }
