"""The rate limit of a token: a burst of one minute's worth, then the rate; nobody else is hurt."""

import pytest

from loopat_jupyter.api.rate_limit import RateLimiter
from loopat_jupyter.loops.errors import TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_rate_of_zero_is_no_limit(clock: Clock) -> None:
    limiter = RateLimiter(0, clock)
    for _ in range(10_000):
        limiter.check("tok_a")


def test_a_minute_s_worth_may_come_at_once_and_then_no_more(clock: Clock) -> None:
    limiter = RateLimiter(60, clock)
    for _ in range(60):
        limiter.check("tok_a")
    with pytest.raises(TooManyRequests) as refused:
        limiter.check("tok_a")
    assert refused.value.retry_after == 1


def test_after_the_time_in_retry_after_one_request_passes(clock: Clock) -> None:
    limiter = RateLimiter(4, clock)
    for _ in range(4):
        limiter.check("tok_a")
    with pytest.raises(TooManyRequests) as refused:
        limiter.check("tok_a")
    assert refused.value.retry_after == 15
    clock.now += 14.5
    with pytest.raises(TooManyRequests) as refused:
        limiter.check("tok_a")
    assert refused.value.retry_after == 1
    clock.now += 1
    limiter.check("tok_a")


def test_a_refused_request_costs_nothing(clock: Clock) -> None:
    limiter = RateLimiter(1, clock)
    limiter.check("tok_a")
    for _ in range(100):
        with pytest.raises(TooManyRequests):
            limiter.check("tok_a")
    clock.now += 60
    limiter.check("tok_a")


def test_a_steady_stream_at_the_rate_is_never_refused(clock: Clock) -> None:
    limiter = RateLimiter(30, clock)
    for _ in range(500):
        limiter.check("tok_a")
        clock.now += 2


def test_rest_saves_up_one_minute_s_worth_and_no_more(clock: Clock) -> None:
    limiter = RateLimiter(3, clock)
    limiter.check("tok_a")
    clock.now += 86_400
    for _ in range(3):
        limiter.check("tok_a")
    with pytest.raises(TooManyRequests):
        limiter.check("tok_a")


def test_tokens_do_not_share_a_bucket(clock: Clock) -> None:
    limiter = RateLimiter(1, clock)
    limiter.check("tok_a")
    limiter.check("tok_b")
    with pytest.raises(TooManyRequests):
        limiter.check("tok_a")


def test_what_is_remembered_of_idle_tokens_is_bounded_and_limits_still_hold(clock: Clock) -> None:
    limiter = RateLimiter(1, clock)
    for number in range(10_000):
        limiter.check(f"tok_{number}")
    clock.now += 61
    limiter.check("tok_new")
    assert len(limiter._buckets) == 1
    with pytest.raises(TooManyRequests):
        limiter.check("tok_new")
