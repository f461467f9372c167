"""What a router's metrics read when somebody looks, and what it needs to be ready."""

import time
from collections import Counter
from collections.abc import Mapping

from nats.aio.client import Client
from sqlalchemy import text

from tristrata.protocol.ids import Caip2, show
from tristrata.router.hubs import HubFollower
from tristrata.router.metrics import Metrics
from tristrata.router.operations import Check
from tristrata.router.presence import Presence
from tristrata.router.state import RouterState
from tristrata.router.waiting import WaitingRoom

_FOLLOWED_WITHIN_SECONDS = 30.0


def watch_router(
    metrics: Metrics,
    state: RouterState,
    presence: Presence,
    room: WaitingRoom,
    connection: Client,
    followers: Mapping[Caip2, HubFollower],
) -> None:
    """Add the gauges of one router."""

    def miners() -> dict[tuple[str, ...], float]:
        counts: Counter[tuple[str, ...]] = Counter()
        for chain, model, number in presence.market.counts():
            counts[chain, show(model)] += number
        return dict(counts)

    def exposure() -> dict[tuple[str, ...], float]:
        sums: dict[tuple[str, ...], float] = dict.fromkeys(((caip2,) for caip2 in followers), 0.0)
        for served in state.sessions.all():
            sums[(served.hub.chain,)] = sums.get((served.hub.chain,), 0.0) + served.book.exposure
        return sums

    metrics.watch("tristrata_miners", "Miners that are there, by hub and model.", ("hub", "model"), miners)
    metrics.watch("tristrata_exposure_base_units", "Answered or reserved, not yet charged.", ("hub",), exposure)
    metrics.watch("tristrata_sessions", "Sessions that are served.", (), lambda: {(): len(state.sessions.all())})
    metrics.watch("tristrata_requests_waiting", "Requests that wait for a miner.", (), lambda: {(): len(room)})
    metrics.watch("tristrata_fabric_connected", "1 while NATS is.", (), lambda: {(): float(connection.is_connected)})
    metrics.watch(
        "tristrata_hub_blocks_behind",
        "Blocks of a hub that were not taken in yet.",
        ("hub",),
        lambda: {(caip2,): follower.behind for caip2, follower in followers.items()},
    )


def router_checks(state: RouterState, connection: Client, followers: Mapping[Caip2, HubFollower]) -> list[Check]:
    """What a router needs to serve."""

    async def fabric() -> str:
        return "" if connection.is_connected else "NATS is not connected"

    async def database() -> str:
        try:
            async with state.database.read() as opened:
                await opened.execute(text("SELECT 1"))
        except Exception as error:  # whatever it is, the router is not ready
            return f"the database does not answer: {type(error).__name__}"
        return ""

    async def hubs() -> str:
        oldest = time.monotonic() - _FOLLOWED_WITHIN_SECONDS
        late = [caip2 for caip2, follower in followers.items() if follower.followed_at < oldest]
        return f"not followed for {_FOLLOWED_WITHIN_SECONDS:.0f} s: {', '.join(late)}" if late else ""

    return [Check("fabric", fabric), Check("database", database), Check("hubs", hubs)]
