"""What was used: requests, tokens and cost by day, session and key, as the receipt book counted them."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import show
from tristrata.router.accounts.bodies import parse_limit
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.http import json_response
from tristrata.storage.api_keys import Scope
from tristrata.storage.usage import Usage, used

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_EPOCH = date(1970, 1, 1)
_DEFAULT_DAYS = 30
_MAX_DAYS = 366
_MAX_PAGES = 10_000
_MAX_SESSIONS = 10_000
"""Of an owner with more sessions, the newest are told; a statement takes some 32,000 values."""


class UsageApi:
    """Usage over a desk."""

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [Route("/v1/usage", self._usage)]

    async def _usage(self, request: Request) -> Response:
        caller = self._desk.caller(request, Scope.READ)
        limit, page = parse_limit(request), _page(request)
        today = datetime.fromtimestamp(self._desk.clock(), UTC).date()
        last = _day(request, "end", today)
        first = _day(request, "start", last - timedelta(days=_DEFAULT_DAYS - 1))
        if not 0 <= (last - first).days < _MAX_DAYS:
            raise InvalidValue(f"start {first} to end {last} must be 1 to {_MAX_DAYS} days")
        sessions = [served.book.session for served in caller.all_sessions()][-_MAX_SESSIONS:]
        days = (first - _EPOCH).days, (last - _EPOCH).days
        rows = await used(self._desk.database, sessions, *days, limit + 1, page * limit)
        data = [self._describe(row) for row in rows[:limit]]
        return json_response(
            {"object": "list", "start": str(first), "end": str(last), "data": data, "has_more": len(rows) > limit}
        )

    def _describe(self, row: Usage) -> dict[str, Any]:
        served = self._desk.sessions.get(row.session)
        return {
            "object": "usage",
            "day": str(_EPOCH + timedelta(days=row.day)),
            "session": show(row.session),
            "model": self._desk.model_name(served.book.terms.model_id),
            "api_key": row.key_id or None,
            "requests": row.requests,
            "prompt_tokens": row.prompt_tokens,
            "output_tokens": row.output_tokens,
            "cost": str(row.cost),
        }


def _day(request: Request, name: str, default: date) -> date:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except ValueError as error:
        raise InvalidValue(f"{name} {text[:20]!r} must be a day, as 2026-01-31") from error


def _page(request: Request) -> int:
    text = request.query_params.get("page", "0")
    if not text.isascii() or not text.isdigit() or int(text[:10]) > _MAX_PAGES:
        raise InvalidValue(f"page {text[:20]!r} must be a number from 0 to {_MAX_PAGES}")
    return int(text)
