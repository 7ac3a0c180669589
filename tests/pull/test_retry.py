from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.pull.retry import RetryPolicy, retry_after_seconds


@given(st.integers(1, 50), st.floats(0, 1))
def test_a_wait_is_bounded_and_never_zero(attempt: int, die: float) -> None:
    policy = RetryPolicy(attempts=100, dice=lambda: die)
    wait = policy.wait_seconds(attempt, None)
    assert wait is not None
    assert 0.5 <= wait <= policy.longest_wait_seconds


def test_waits_double_until_the_last_try() -> None:
    policy = RetryPolicy(attempts=4, dice=lambda: 1.0)
    assert [policy.wait_seconds(attempt, None) for attempt in range(1, 5)] == [1.0, 2.0, 4.0, None]


def test_the_server_decides_within_reason() -> None:
    policy = RetryPolicy(dice=lambda: 1.0)
    assert policy.wait_seconds(1, 0.0) == 0.0
    assert policy.wait_seconds(1, 300.0) == 300.0
    assert policy.wait_seconds(1, 301.0) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("17", 17.0), (" 3 ", 3.0), ("", None), ("soon", None), ("-1", None), ("1e9", None)]
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": text}) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0.0),
        ("Sun, 99 Nov 1994 08:48:37 GMT", None),
    ],
)
def test_retry_after_as_a_date_counts_from_the_answer(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": text, "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}) == seconds


def test_a_date_without_the_servers_own_says_nothing() -> None:
    assert retry_after_seconds({"Retry-After": "Sun, 06 Nov 1994 08:50:37 GMT"}) is None
