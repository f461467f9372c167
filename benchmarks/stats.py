"""From samples to what is reported: percentiles of one round, the spread over rounds."""

import math
from collections.abc import Sequence

import msgspec

from tristrata.protocol.errors import TristrataError


class BenchmarkFailed(TristrataError):
    """A path that is measured gave no answer, or a wrong one; there is no number to report."""


class Spread(msgspec.Struct, frozen=True):
    """One quantity over several rounds, in whatever unit its rounds were."""

    low: float
    median: float
    high: float

    def text(self, digits: int = 2) -> str:
        """``median (low – high)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} – {self.high:,.{digits}f})"


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that ``percent`` of all samples do not exceed (nearest rank)."""
    if not samples:
        raise BenchmarkFailed("there are no samples: nothing was answered")
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(rounds: Sequence[float]) -> Spread:
    """Lowest, median and highest of the rounds."""
    return Spread(min(rounds), percentile(rounds, 50), max(rounds))
