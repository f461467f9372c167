"""The SDK: what an application or a person does on the network."""

from tristrata.client.api import (
    AnswerDone,
    ReceiptArrived,
    RouterApi,
    RouterRefused,
    RouterTerms,
    RouterUnreachable,
    TextDelta,
)

__all__ = [
    "AnswerDone",
    "ReceiptArrived",
    "RouterApi",
    "RouterRefused",
    "RouterTerms",
    "RouterUnreachable",
    "TextDelta",
]
