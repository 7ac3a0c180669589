"""Runs a function over many things in a few threads, and stops them all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def run_all(
    function: Callable[[T], R],
    things: Iterable[T],
    *,
    on_result: Callable[[T, Future[R]], None],
    max_workers: int,
    on_stop: Callable[[], None],
) -> None:
    """Call `on_result` in the calling thread with each thing and its future, in the order in which they finish.

    After Ctrl-C, or an error out of `on_result`, `on_stop` has to make the threads end; this returns when they have.
    """
    executor = ThreadPoolExecutor(max_workers=max_workers)
    try:
        futures = {executor.submit(function, thing): thing for thing in things}
        for future in as_completed(futures):
            on_result(futures[future], future)
    except BaseException:
        on_stop()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
