"""Real things that integration tests share."""

from pathlib import Path

import pytest
import uv

from tristrata.config.paths import cache_home
from tristrata.inference.weights import SMOLLM2, fetch


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real model's weights, from the user's cache."""
    return fetch(SMOLLM2, cache_home(), uv.find_uv_bin())
