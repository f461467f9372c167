import pytest

from tristrata.config.network import Serving
from tristrata.router.http import Refusal
from tristrata.router.limits import Limiter


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def headers_of(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in pairs}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_admit__within_limits__tells_what_is_left(clock: Clock) -> None:
    limiter = Limiter(Serving(requests_per_minute=60, tokens_per_minute=600), clock)

    headers = headers_of(limiter.admit("key", 0))

    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-requests"] == "1s"
    assert headers["x-ratelimit-remaining-tokens"] == "600"


def test_admit__more_requests_than_a_minute_allows__is_429_until_there_is_one_again(clock: Clock) -> None:
    limiter = Limiter(Serving(requests_per_minute=2), clock)
    for _ in range(2):
        limiter.admit("key", 0)
        limiter.leave("key")

    with pytest.raises(Refusal, match="2 requests per minute") as caught:
        limiter.admit("key", 0)
    assert caught.value.status == 429
    assert headers_of(caught.value.headers)["retry-after"] == "30"
    limiter.admit("another key", 0)
    clock.now += 30
    limiter.admit("key", 0)


def test_admit__tokens_of_the_last_answers__count_against_the_next(clock: Clock) -> None:
    limiter = Limiter(Serving(tokens_per_minute=600), clock)
    limiter.admit("key", 5_000)  # used before this router counted

    with pytest.raises(Refusal, match="600 tokens per minute"):
        limiter.admit("key", 6_200)
    clock.now += 61
    limiter.admit("key", 6_200)


def test_admit__too_many_at_once__is_429_until_one_ends(clock: Clock) -> None:
    limiter = Limiter(Serving(requests_at_once=1), clock)
    limiter.admit("key", 0)

    with pytest.raises(Refusal, match="at once"):
        limiter.admit("key", 0)
    limiter.leave("key")
    limiter.admit("key", 0)
