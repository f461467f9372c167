"""Settings that every suite shares."""

import os

from hypothesis import settings

settings.register_profile("normal", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))
