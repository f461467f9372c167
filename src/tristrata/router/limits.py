"""What one API key may do at once and in a minute: token buckets in memory, told in OpenAI's headers.

https://platform.openai.com/docs/guides/rate-limits. In a fleet all requests of a session come to one
router, whose limits hold for it.
"""

import time
from collections.abc import Callable

from tristrata.config.network import Serving
from tristrata.router.http import Refusal

_SECONDS = 60.0
_IDLE_SECONDS = 600.0
_SWEEP_EVERY = 1_024


class _Bucket:
    """Refills at ``per_minute`` up to as much; may go below nothing by what was not known before."""

    __slots__ = ("level", "per_minute", "seen_at")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self.seen_at = now

    def refill(self, now: float) -> None:
        self.level = min(self.per_minute, self.level + (now - self.seen_at) * self.per_minute / _SECONDS)
        self.seen_at = now

    def seconds_until(self, level: float) -> float:
        """How long until there is as much."""
        return max(0.0, (level - self.level) * _SECONDS / self.per_minute)


class _Account:
    """One caller's requests."""

    __slots__ = ("at_once", "counted", "requests", "tokens")

    def __init__(self, serving: Serving, now: float) -> None:
        self.requests = _Bucket(serving.requests_per_minute, now)
        self.tokens = _Bucket(serving.tokens_per_minute, now)
        self.counted = 0
        self.at_once = 0


class Limiter:
    """The limits of all callers of one router."""

    def __init__(self, serving: Serving, clock: Callable[[], float] = time.monotonic) -> None:
        self._serving = serving
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._admitted = 0

    def admit(self, caller: str, tokens: int) -> list[tuple[bytes, bytes]]:
        """Let one request in, until `leave`; gives its headers. Raises `Refusal` (429), which has them, too.

        ``tokens`` are all that the caller has ever used.
        """
        now = self._clock()
        account = self._accounts.get(caller)
        if account is None:
            account = self._accounts[caller] = _Account(self._serving, now)
            account.counted = tokens
        account.requests.refill(now)
        account.tokens.refill(now)
        # What an answer used is known when it ends, and counts against the next.
        account.tokens.level -= tokens - account.counted
        account.counted = tokens
        self._sweep(now)
        if account.at_once >= self._serving.requests_at_once:
            message = f"this key has {account.at_once} requests open, the most that are taken at once"
            raise _refusal("requests", message, 1.0, self._headers(account))
        for bucket, what in ((account.requests, "requests"), (account.tokens, "tokens")):
            least = 1.0 if what == "requests" else 0.0
            if bucket.level < least:
                wait = bucket.seconds_until(least)
                message = (
                    f"Rate limit reached: {bucket.per_minute} {what} per minute. Please try again in {_told(wait)}."
                )
                raise _refusal(what, message, wait, self._headers(account))
        account.requests.level -= 1
        account.at_once += 1
        return self._headers(account)

    def leave(self, caller: str) -> None:
        """A request that was let in has ended."""
        account = self._accounts.get(caller)
        if account is not None:
            account.at_once -= 1

    def _sweep(self, now: float) -> None:
        """Forget callers that have not asked for long, now and then."""
        self._admitted += 1
        if self._admitted % _SWEEP_EVERY == 0:
            self._accounts = {
                name: account
                for name, account in self._accounts.items()
                if account.at_once or account.requests.seen_at > now - _IDLE_SECONDS
            }

    def _headers(self, account: _Account) -> list[tuple[bytes, bytes]]:
        headers = []
        for bucket, what in ((account.requests, b"requests"), (account.tokens, b"tokens")):
            until_full = _told(bucket.seconds_until(bucket.per_minute))
            headers += [
                (b"x-ratelimit-limit-" + what, b"%d" % bucket.per_minute),
                (b"x-ratelimit-remaining-" + what, b"%d" % max(0, int(bucket.level))),
                (b"x-ratelimit-reset-" + what, until_full.encode()),
            ]
        return headers


def _refusal(what: str, message: str, wait: float, headers: list[tuple[bytes, bytes]]) -> Refusal:
    refusal = Refusal(429, "rate_limit_exceeded", message)
    refusal.body["error"]["type"] = what
    refusal.headers = [*headers, (b"retry-after", b"%d" % max(1, round(wait + 0.5)))]
    return refusal


def _told(seconds: float) -> str:
    """A span as OpenAI's headers have it: ``20ms``, ``1.5s``, ``6m0s``."""
    if seconds < 1:
        return f"{int(seconds * 1_000)}ms"
    if seconds < _SECONDS:
        return f"{seconds:.3g}s"
    return f"{int(seconds // 60)}m{int(seconds % 60)}s"
