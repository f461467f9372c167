"""How a service runs as a process: until it ends, or is told to stop, or its parent is gone; and on which port."""

import asyncio
import contextlib
import ctypes
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog
import uvloop

from tristrata.redaction import RedactingFormatter, redact_event

LOOPBACK = "127.0.0.1"
_LAST_RESORT_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_NESTING = 1_000
_log = structlog.get_logger()


def run_service(main: Coroutine[Any, Any, None], *, parent_sentinel: int | None = None) -> None:
    """Run ``main`` to its end; SIGINT, SIGTERM or a readable ``parent_sentinel`` cancel it, so that it cleans up.

    A service that does not end within 20 seconds of being told so is ended. Errors of ``main`` are raised.
    """
    _bound_nesting()
    _calm_collector()
    with contextlib.suppress(asyncio.CancelledError):
        uvloop.run(_until_stopped(main, parent_sentinel))


def log_to_stderr() -> None:
    """Structured logs, a line each, on standard error: readable at a terminal, JSON in a file, secrets in none."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            redact_event,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the thread that started it is gone (Linux's ``prctl``)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def remembered_port(file: Path) -> int:
    """The loopback port in ``file`` if it is free, else a fresh one, which is written there for the next start."""
    if file.exists() and _is_free(port := int(file.read_text())):
        return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = int(probe.getsockname()[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _bound_nesting() -> None:
    """Have Python notice deep nesting while there is stack left.

    py_ecc, which the chains' libraries import, raises the limit to 100,000: with that, a few kilobytes of nested JSON
    from anybody overflow the stack and end the process. It is imported first, so that it does so before, and only once.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("py_ecc")
    sys.setrecursionlimit(_NESTING)


def _calm_collector() -> None:
    """Keep the garbage collector from what was imported, which lives as long as the process, and from running often.

    What an answer leaves behind is freed by counting references; a tenth of a router's time went into looking for more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _until_stopped(main: Coroutine[Any, Any, None], parent_sentinel: int | None) -> None:
    loop = asyncio.get_running_loop()
    service = asyncio.ensure_future(main)
    stopping = asyncio.Event()

    def stop() -> None:
        # Once: a second cancellation would break into the cleaning up after the first.
        if not stopping.is_set():
            stopping.set()
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
