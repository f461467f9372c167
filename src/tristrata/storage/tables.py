"""Every table, by importing each module that declares one: all databases have them all."""

from tristrata.storage import (  # noqa: F401 — imported for their tables
    api_keys,
    awaiting,
    batches,
    files,
    intents,
    nonces,
    ownership,
    payments,
    receipt_book,
    signed,
    usage,
    vouchers,
)
from tristrata.storage.database import METADATA

__all__ = ["METADATA"]
