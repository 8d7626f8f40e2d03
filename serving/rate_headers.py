"""What a key may still use in this minute, as headers in OpenAI's words: clients slow down before they are refused.

Names and forms: OpenAI's guide to rate limits ("x-ratelimit-remaining-requests: 59", "x-ratelimit-reset-tokens: 6m0s").
"""

from __future__ import annotations

import math

from rheostat.serving.limits import Allowance, Window

PREFIX = "x-ratelimit"


def rate_headers(allowance: Allowance) -> dict[str, str]:
    """Limit, remaining and reset of requests and of generated tokens; nothing for what is not limited.

    What requests in flight have set aside counts as used.
    """
    headers: dict[str, str] = {}
    for name, window in (("requests", allowance.requests), ("tokens", allowance.tokens)):
        if window.cap < math.inf:
            headers |= _of(name, window)
    return headers


def _of(name: str, window: Window) -> dict[str, str]:
    return {
        f"{PREFIX}-limit-{name}": f"{window.cap:.0f}",
        f"{PREFIX}-remaining-{name}": str(math.floor(window.left)),
        f"{PREFIX}-reset-{name}": duration(window.ends_in_s),
    }


def duration(seconds: float) -> str:
    """Whole seconds, rounded up, as `6m0s` or `59s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
