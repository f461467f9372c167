"""Shared by integration tests: a network's contracts on real chains."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.deployment import Deployed, deployed_network


@pytest.fixture
async def deployed(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed_network(tmp_path) as found:
        yield found
