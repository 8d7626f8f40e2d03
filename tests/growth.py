"""How the time of work grows with its size, told without a clock's absolute word: machines differ and are shared."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMES = 7


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times longer four times the size takes: about 4 for linear work, 16 for quadratic."""
    return shortest(lambda: work(4 * size)) / shortest(lambda: work(size))


def shortest(work: Callable[[], object]) -> float:
    """Seconds of this thread's work in the fastest of several runs; the time that other programs took is none of it."""

    def once() -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    return min(once() for _ in range(TIMES))
