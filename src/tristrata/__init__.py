"""Tristrata: an open network for AI inference on layered blockchains."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tristrata.client.sdk import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in ("AsyncClient", "Client"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tristrata.client import sdk

    return getattr(sdk, name)
