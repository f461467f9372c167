"""The SDK: what an application or a person does on the network. Names are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tristrata.client.api import (
        AnswerDone,
        ReceiptArrived,
        RouterApi,
        RouterRefused,
        RouterTerms,
        RouterUnreachable,
        TextDelta,
    )
    from tristrata.client.sdk import Answer, AsyncClient, Client, Verdict

__all__ = [
    "Answer",
    "AnswerDone",
    "AsyncClient",
    "Client",
    "ReceiptArrived",
    "RouterApi",
    "RouterRefused",
    "RouterTerms",
    "RouterUnreachable",
    "TextDelta",
    "Verdict",
]
_OF_SDK = frozenset(("Answer", "AsyncClient", "Client", "Verdict"))


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("tristrata.client.sdk" if name in _OF_SDK else "tristrata.client.api"), name)
