"""Receipts as answers carry them: in a header, or after the last event of a stream."""

import base64
from collections.abc import Iterable
from typing import Any

import msgspec

from tristrata.protocol import codec
from tristrata.protocol.ids import show
from tristrata.storage.awaiting import AwaitingReceipt
from tristrata.storage.receipt_book import BookEntry

RECEIPT_HEADER = "x-tristrata-receipt"
RECEIPT_EVENT = "tristrata.receipt"

Entry = BookEntry | AwaitingReceipt
"""An acknowledged receipt, or with own keys one that awaits its owner's voucher."""


def signed_receipt(entry: Entry) -> dict[str, Any]:
    """A receipt as the API gives it away: its hub, its fields, the miner's signature.

    One that awaits its owner's voucher has its salts, so that the owner can check it and sign at once.
    """
    signed = {
        "chain": entry.chain,
        "receipt": msgspec.Raw(codec.receipt_document(entry.receipt)),
        "signature": show(entry.signature),
    }
    if isinstance(entry, AwaitingReceipt):
        return {**signed, "salts": {"prompt": show(entry.prompt_salt), "output": show(entry.output_salt)}}
    return signed


def receipt_header(entries: Iterable[Entry]) -> dict[str, str]:
    """The header with each receipt as base64url of its JSON; several are separated by commas, in order of choices."""
    return {RECEIPT_HEADER: ", ".join(_base64url(signed_receipt(entry)) for entry in entries)}


def receipt_event(entry: Entry) -> bytes:
    """The event of one receipt; it goes after ``[DONE]``, past which OpenAI's clients do not read."""
    return b"event: %b\ndata: %b\n\n" % (RECEIPT_EVENT.encode(), msgspec.json.encode(signed_receipt(entry)))


def _base64url(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(codec.encode(document)).rstrip(b"=").decode()
