"""All of batches, put together: what is kept, the queue, who runs them, and their API."""

from nats.aio.client import Client
from starlette.routing import Route

from tristrata.fabric.work_queue import WorkQueue
from tristrata.router.callers import Callers
from tristrata.router.openai.batch_lines import LineDesk
from tristrata.router.openai.batch_runner import BatchRunner
from tristrata.router.openai.batches_api import BatchesApi
from tristrata.router.openai.calls import Calls
from tristrata.router.openai.files_api import FilesApi
from tristrata.router.serving import Desk
from tristrata.router.state import RouterState

QUEUE = "batches"


def open_batching(
    state: RouterState, connection: Client, desk: Desk, calls: Calls, callers: Callers
) -> tuple[list[Route], BatchRunner]:
    """The routes of files and batches, and what runs these."""
    queue = WorkQueue(connection, QUEUE)
    lines = LineDesk(desk, calls, callers, state.book, state.batches)
    files, batches = FilesApi(state.files, callers), BatchesApi(state.batches, state.files, queue, callers)
    return [*files.routes, *batches.routes], BatchRunner(queue, state.batches, state.files, lines)
