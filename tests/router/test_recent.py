"""What is kept for a moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rheostat.router.recent import Recent


@given(st.lists(st.text(max_size=2), max_size=30, unique=True), st.integers(1, 10))
def test_the_last_ones_are_kept_each_until_it_is_taken(keys, size):
    recent: Recent[str] = Recent(size)
    for key in keys:
        recent.keep(key, key * 2)
    kept = keys[-size:]
    assert [recent.take(key) for key in keys] == [key * 2 if key in kept else None for key in keys]
    assert [recent.take(key) for key in keys] == [None] * len(keys)


def test_what_is_found_is_still_there():
    recent = Recent(2)
    recent.keep("a", 1)
    assert (recent.find("a"), recent.find("a"), recent.take("a"), recent.find("a")) == (1, 1, 1, None)
