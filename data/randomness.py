"""Random digits from the system, drawn many at a time: asking it for a few takes longer than everything else about an id."""

from __future__ import annotations

import os
from collections import deque

DIGITS = 16
_DRAWN_BYTES = 4096

_ready: deque[str] = deque()  # popping is atomic, so threads never get the same


def random_hex() -> str:
    """Sixteen hexadecimal digits, 64 bits that nobody else gets or can foresee."""
    while True:
        try:
            return _ready.pop()
        except IndexError:
            drawn = os.urandom(_DRAWN_BYTES).hex()
            _ready.extend(drawn[at : at + DIGITS] for at in range(0, len(drawn), DIGITS))


# A forked process would otherwise give out the digits that its parent does.
os.register_at_fork(after_in_child=_ready.clear)
