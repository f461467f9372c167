"""How a service runs as a process: until it ends, or is told to stop, or its supervisor is gone."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop

_LAST_RESORT_SECONDS = 20.0
_log = structlog.get_logger()


def run_service(main: Coroutine[Any, Any, None], *, parent_sentinel: int | None = None) -> None:
    """Run ``main`` to its end; SIGINT, SIGTERM or a readable ``parent_sentinel`` cancel it, so that it cleans up.

    A service that does not end within 20 seconds of being told so is ended. Errors of ``main`` are raised.
    """
    with contextlib.suppress(asyncio.CancelledError):
        uvloop.run(_until_stopped(main, parent_sentinel))


def log_to_stderr() -> None:
    """Structured logs, a line each, on standard error: readable at a terminal, JSON in a file."""
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def _until_stopped(main: Coroutine[Any, Any, None], parent_sentinel: int | None) -> None:
    loop = asyncio.get_running_loop()
    service = asyncio.ensure_future(main)

    def stop() -> None:
        service.cancel()
        loop.call_later(_LAST_RESORT_SECONDS, os._exit, 1)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if parent_sentinel is not None:

        def orphaned() -> None:
            loop.remove_reader(parent_sentinel)
            _log.warning("the supervisor is gone; stopping")
            stop()

        loop.add_reader(parent_sentinel, orphaned)
    await service
