"""When to leave a replica alone, and how often to try again elsewhere. Knows no HTTP and no engine.

The breaker is the usual one (closed, open, half open); the retry budget bounds what retries add to an overload, since a
failing fleet whose every call is tried three times carries three times its load.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES_TO_OPEN = 5  # in a row, as Envoy's outlier detection: one call in four failing is no outage, and three in a row happen
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
EARLY_S = 0.1  # between two calls that try a replica although the pause it earned is not over
# So that the first failures of a quiet process may be retried, and a long quiet time does not save up a storm.
RETRIES_AT_START = 10.0
MOST_RETRIES_SAVED = 50.0

Clock = Callable[[], float]


class Breaker:
    """Opens after failures in a row, for pauses that double; after a pause one call at a time may prove the replica well.

    A pause is a guess, or the replica's own wish: `may_be_tried` says whether a call may go ahead of one that was earned
    by failures, where there is no other replica to turn to.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._earned_until_s = 0.0
        self._asked_until_s = 0.0
        self._try_at_s = 0.0
        self._trials = 0

    @property
    def is_open(self) -> bool:
        """Whether calls are held back: for a pause, and after one that was earned while a call is on trial."""
        return self._trials > 0 or self.left_s > 0

    @property
    def has_tripped(self) -> bool:
        """Whether it failed too often in a row, and has not succeeded since."""
        return self._failures >= FAILURES_TO_OPEN

    @property
    def may_be_tried(self) -> bool:
        """Whether another call may be tried on a replica that has tripped, pause or not."""
        return self._clock() >= self._try_at_s

    @property
    def left_s(self) -> float:
        """Seconds until a call may be tried; 0 when one may be now."""
        until_s = max(self._earned_until_s, self._asked_until_s)
        return max(0.0, until_s - self._clock()) if until_s else 0.0

    def begin(self) -> bool:
        """Note that a call starts; whether it is a trial."""
        if not self.has_tripped:
            return False
        self._trials += 1
        self._try_at_s = self._clock() + EARLY_S
        return True

    def end(self, *, trial: bool) -> None:
        """Note that a call is over, however it ended."""
        self._trials -= trial

    def succeeded(self, *, trial: bool) -> None:
        """A call ended well: its failures are forgotten, and a trial ends the pause that they earned."""
        self._failures = 0
        if trial:
            self._earned_until_s = self._clock()

    def failed(self) -> None:
        """A call failed by the replica's fault; in an earned pause that is nothing new: many calls may have begun before it."""
        now_s = self._clock()
        if now_s < self._earned_until_s:
            return
        self._failures += 1
        beyond = self._failures - FAILURES_TO_OPEN
        if beyond >= 0:
            self._earned_until_s = now_s + min(FIRST_PAUSE_S * 2.0 ** min(beyond, 10), LONGEST_PAUSE_S)
            self._try_at_s = now_s + EARLY_S

    def pause(self, seconds: float) -> None:
        """Hold calls back for that long at least, as the replica asks."""
        self._asked_until_s = max(self._asked_until_s, self._clock() + min(seconds, LONGEST_PAUSE_S))


class RetryBudget:
    """Retries as a share of calls: every call puts `share` in, every retry takes one out.

    Args:
        share: retries per call, in [0, 1].
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = RETRIES_AT_START if share > 0 else 0.0

    def called(self) -> None:
        """Note a first try."""
        self._saved = min(self._saved + self._share, MOST_RETRIES_SAVED)

    def take(self) -> bool:
        """Take one retry out; False where none is left."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
