"""Lists by pages, as OpenAI's clients follow them: ``limit``, ``after`` the last one seen."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from tristrata.router.openai.parameters import RequestInvalid, integer


def page_of(request: Request, data: Sequence[dict[str, Any]], *, most: int, default: int) -> dict[str, Any]:
    """The page of ``data`` that the query asks for. Raises `RequestInvalid`."""
    given = request.query_params.get("limit", str(default))
    limit: Any = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else given
    limit = integer(1, most)(limit, "limit")
    after = request.query_params.get("after")
    if after is not None:
        place = next((number for number, each in enumerate(data) if each["id"] == after), None)
        if place is None:
            raise RequestInvalid(f"Invalid 'after': there is no '{after[:64]}' in this list.", "after", "invalid_value")
        data = data[place + 1 :]
    page = data[:limit]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return {"object": "list", "data": page, "has_more": len(data) > limit, **ends}
