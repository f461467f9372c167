"""The gas that a task may cost in all, on a real anvil: the design's targets."""

import pytest
from benchmarks.gas import TARGETS, settle
from benchmarks.settling import Epochs


async def test_settle__a_thousand_tasks_of_five_sessions_and_miners__stay_within_the_target() -> None:
    settled = await settle(Epochs(1_000, 5, 5, at_once=True))

    assert settled.gas_per_task <= TARGETS[1_000]


@pytest.mark.timeout(300)
async def test_settle__a_million_tasks_of_a_thousand_sessions_and_miners__stay_within_the_target() -> None:
    settled = await settle(Epochs(1_000_000, 1_000, 1_000))

    assert settled.gas_per_task <= TARGETS[1_000_000]
