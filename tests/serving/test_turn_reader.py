"""Texts read together: each gets its own, in as few goes as can be, and none fails with another."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.router.readable import MAX_CHARACTERS
from rheostat.serving.turn_reader import AT_ONCE, CHARACTERS, TurnReader


class Reads:
    """Makes of a text that text in capitals; knows no text with a `!`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def read(self, texts: list[str]) -> list[str]:
        self.batches.append(texts)
        if any("!" in text for text in texts):
            raise ValueError(f"cannot read {texts}")
        return [text.upper() for text in texts]


async def test_what_comes_in_one_turn_is_read_in_one_go_and_each_gets_its_own():
    reader, controller = TurnReader(), Reads()
    texts = [f"text {number}" for number in range(2 * AT_ONCE + 5)]
    assert await asyncio.gather(*(reader.read(controller, text) for text in texts)) == [text.upper() for text in texts]
    assert [len(batch) for batch in controller.batches] == [AT_ONCE, AT_ONCE, 5]


@given(st.lists(st.integers(0, 2 * CHARACTERS), max_size=3 * AT_ONCE))
async def test_long_texts_are_read_a_few_at_a_time(lengths):
    reader, controller = TurnReader(), Reads()
    texts = ["x" * length for length in lengths]
    assert await asyncio.gather(*(reader.read(controller, text) for text in texts)) == [text.upper() for text in texts]
    assert all(len(batch) == 1 or sum(min(len(text), MAX_CHARACTERS) for text in batch) <= CHARACTERS for batch in controller.batches)
    assert all(1 <= len(batch) <= AT_ONCE for batch in controller.batches)


async def test_nobody_waits_for_others_to_come():
    reader, controller = TurnReader(), Reads()
    assert await reader.read(controller, "one") == "ONE"
    assert await reader.read(controller, "two") == "TWO"
    assert controller.batches == [["one"], ["two"]]


async def test_a_text_that_cannot_be_read_fails_alone():
    reader, controller = TurnReader(), Reads()
    results = await asyncio.gather(*(reader.read(controller, text) for text in ("a", "b!", "c")), return_exceptions=True)
    assert results[0::2] == ["A", "C"]
    with pytest.raises(ValueError, match=r"\['b!'\]"):
        raise results[1]


@pytest.mark.parametrize("others", ["b", "b!"])
async def test_one_that_is_cancelled_leaves_the_others_alone(others):
    reader, controller = TurnReader(), Reads()
    gone, stays = asyncio.ensure_future(reader.read(controller, others)), asyncio.ensure_future(reader.read(controller, "c"))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == "C"
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_every_text_is_read_by_its_own_controller():
    reader, old, new = TurnReader(), Reads(), Reads()
    results = await asyncio.gather(reader.read(old, "a"), reader.read(old, "b"), reader.read(new, "c"), reader.read(old, "d"))
    assert results == ["A", "B", "C", "D"]
    assert (old.batches, new.batches) == ([["a", "b"], ["d"]], [["c"]])


async def test_a_controller_that_loses_one_leaves_nobody_waiting():
    class Loses(Reads):
        def read(self, texts):
            return super().read(texts)[: len(texts) // 2]

    reader, controller = TurnReader(), Loses()
    results = await asyncio.gather(*(reader.read(controller, text) for text in "abc"), return_exceptions=True)
    assert [type(each) for each in results] == [ValueError] * 3
