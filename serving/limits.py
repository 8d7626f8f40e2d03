"""What a key may use: requests, tokens and dollars in windows of the clock, and requests at once. Knows no HTTP.

Reserve before, settle after: a request sets its worst case aside, so that parallel requests together stay under the
limit, and gives back what it did not use. Spending over a limit can only come from a request that cost more than its
reservation, and then by no more than that one's excess.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from rheostat.data.errors import RequestError
from rheostat.serving.config import LimitsConfig

MINUTE_S = 60
DAY_S = 86_400
CHARACTERS_A_TOKEN = 3  # fewer than in any natural language that tokenizers are made for: errs on the dear side

Clock = Callable[[], float]


class LimitError(RequestError):
    """A key has used up what it may; `allowance` is what it may, `retry_after_s` when to come back, None where that helps nothing."""

    def __init__(self, message: str, *, code: str, retry_after_s: float | None, allowance: Allowance) -> None:
        super().__init__(message, status=429, code=code)
        self.retry_after_s = retry_after_s
        self.allowance = allowance


class Window:
    """Spending against a cap that is renewed with every window of the clock (a minute, a day of UTC).

    A reservation counts in whatever window it is looked at, and is settled in the one in which it ends.

    Args:
        cap: what may be spent in a window.
        length_s: of a window.
        clock: Unix seconds.
    """

    def __init__(self, cap: float, length_s: int, clock: Clock = time.time) -> None:
        self.cap = cap
        self.reserved = 0.0
        self._length_s = length_s
        self._clock = clock
        self._number = self._window()
        self._spent = 0.0

    @property
    def spent(self) -> float:
        """What was settled in this window."""
        number = self._window()
        if number > self._number:
            self._number, self._spent = number, 0.0
        return self._spent

    @property
    def left(self) -> float:
        """What may still be reserved, never below 0."""
        return max(0.0, self.cap - self.spent - self.reserved)

    @property
    def ends_in_s(self) -> float:
        """Seconds until the next window."""
        return self._length_s - self._clock() % self._length_s

    def fits(self, amount: float) -> bool:
        """Whether that much may be reserved."""
        return self.cap == math.inf or self.spent + self.reserved + amount <= self.cap

    def reserve(self, amount: float) -> None:
        """Set that much aside."""
        self.reserved += amount

    def settle(self, reserved: float, spent: float) -> None:
        """Give a reservation back, and count what it came to."""
        self.reserved = max(0.0, self.reserved - reserved)
        self._spent = self.spent + spent

    def _window(self) -> float:
        return self._clock() // self._length_s


class Hold:
    """What one request has set aside; settled exactly once, when left, with what `spent` was told."""

    def __init__(self, tokens: Window, usd: Window, reserved_tokens: int, reserved_usd: float) -> None:
        self._windows = ((tokens, reserved_tokens), (usd, reserved_usd))
        self._spent: tuple[float, float] = (0, 0.0)

    def spent(self, *, tokens: int, usd: float) -> None:
        """Say what it came to so far."""
        self._spent = (tokens, usd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for (window, reserved), spent in zip(self._windows, self._spent, strict=True):
            window.settle(reserved, spent)


class Allowance:
    """The limits of one key, and what it uses of them.

    Args:
        name: of the key, for errors.
        limits: what it may use.
        clock: Unix seconds.
    """

    def __init__(self, name: str, limits: LimitsConfig, clock: Clock = time.time) -> None:
        self.name = name
        self.in_flight = 0
        self.requests = Window(math.inf, MINUTE_S, clock)
        self.tokens = Window(math.inf, MINUTE_S, clock)
        self.usd = Window(math.inf, DAY_S, clock)
        self._max_in_flight = math.inf
        self.limit(limits)

    def limit(self, limits: LimitsConfig) -> None:
        """Take other limits; what was used stays used."""
        self.requests.cap = _or_none(limits.requests_per_minute)
        self.tokens.cap = _or_none(limits.tokens_per_minute)
        self.usd.cap = _or_none(limits.usd_per_day)
        self._max_in_flight = _or_none(limits.max_in_flight)

    def enter(self) -> None:
        """Count a request in; every one that was let in is to be counted out by `leave`.

        Raises:
            LimitError: too many in this minute, or too many at once.
        """
        if self.in_flight >= self._max_in_flight:
            raise LimitError(
                f"the key {self.name!r} has {self.in_flight} requests in flight, which is its limit: wait for one to end",
                code="rate_limit_exceeded",
                retry_after_s=1,
                allowance=self,
            )
        if not self.requests.fits(1):
            raise self._used_up(self.requests, "requests a minute", "rate_limit_exceeded")
        self.requests.settle(0, 1)
        self.in_flight += 1

    def leave(self) -> None:
        """Count a request out."""
        self.in_flight -= 1

    def hold(self, *, tokens: int, usd: float) -> Hold:
        """Set aside what a request may spend at worst, in generated tokens and dollars.

        Raises:
            LimitError: it does not fit into what is left.
        """
        less = "with max_tokens or rheostat.max_tokens_total" if tokens else "in fewer or shorter texts"
        if not self.tokens.fits(tokens):
            raise self._used_up(self.tokens, "tokens a minute", "rate_limit_exceeded", tokens, less)
        if not self.usd.fits(usd):
            raise self._used_up(self.usd, "dollars a day", "insufficient_quota", usd, less)
        self.tokens.reserve(tokens)
        self.usd.reserve(usd)
        return Hold(self.tokens, self.usd, tokens, usd)

    def _used_up(self, window: Window, what: str, code: str, asked: float | None = None, less: str = "") -> LimitError:
        need = "" if asked is None else f"; this request may need {asked:g}: ask for less {less}"
        return LimitError(
            f"the key {self.name!r} has {window.left:g} of {window.cap:g} {what} left{need}",
            code=code,
            retry_after_s=None if asked is not None and asked > window.cap else window.ends_in_s,
            allowance=self,
        )


def most_tokens(texts: Iterable[str]) -> int:
    """At most how many tokens a prompt of these texts has, by its length."""
    return sum(map(len, texts)) // CHARACTERS_A_TOKEN


def _or_none(limit: float | None) -> float:
    return math.inf if limit is None else limit
