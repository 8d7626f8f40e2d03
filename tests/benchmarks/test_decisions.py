"""What a decision costs: every question is asked, and the page tells what was measured."""

from __future__ import annotations

from benchmarks.decisions import WARM_UP, Row, decided, measured, section, stepped
from tests.router.conftest import PlainEncoder, known_bundle


def test_everything_is_asked_once_behind_the_warm_up():
    asked: list[int] = []
    row = measured("squares", lambda number: asked.append(number), list(range(WARM_UP + 300)))
    assert asked == [*range(WARM_UP), *range(WARM_UP + 300)]
    assert 0 < row.p50_us <= row.p99_us
    assert row.core_us > 0


def test_a_router_is_measured_from_the_text_and_from_its_embedding(monkeypatch):
    read: list[str] = []

    class Reading(PlainEncoder):
        def encode(self, texts):
            read.extend(texts)
            return super().encode(texts)

    bundle = known_bundle()
    monkeypatch.setattr(type(bundle), "encoder", property(lambda self: Reading()))
    rows = decided(bundle, "constant", 50)
    assert [row.what for row in rows] == ["constant, from the text", "constant, from the embedding"]
    assert len(set(read)) == 51  # fifty questions that differ, and the one whose embedding is known


def test_a_step_is_measured_and_told_in_whole_microseconds():
    page = section([stepped(100), Row("other", 1.4, 2.6, 10.0)], 100)
    assert page.startswith("## Decisions\n")
    assert "| next of several actions |" in page
    assert "| other | 1 | 3 | 10 |" in page
