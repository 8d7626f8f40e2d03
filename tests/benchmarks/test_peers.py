"""The table of peers on a fake engine: tokens are the engine's, whoever is missing is named with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers import run as peers
from benchmarks.peers.run import Bench, Row, section
from rheostat.data.schema import Query
from rheostat.policies.engine import EngineState
from rheostat.policies.processes import Process
from tests.rheostat.test_ask import fake_engine

QUERIES = [Query.of_text(f"What is {n} + {n}?", query_id=f"q{n}", kind="number", reference=str(2 * n), dataset="d") for n in range(4)]
ANSWERED = '[{"text": "The answer is 2.", "tokens": 7} for _ in json.load(sys.stdin)["questions"]]'
SILENT = f"import json, sys\njson.dump({ANSWERED}, sys.stdout)\n"
BROKEN = "import sys\nsys.exit('no such module')\n"


@pytest.fixture
def bench():
    with fake_engine() as (url, server):
        port = int(url.rsplit(":", 1)[1])
        state = EngineState(name="pocket", port=port, process=Process(pid=1, started_s=1.0), model_path="", log_path="")
        yield Bench(state, QUERIES, k=2, seed=0), server


def environment(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A peer's environment whose program is this one."""
    (folder / "its_hub" / "bin").mkdir(parents=True)
    (folder / "its_hub" / "bin" / "python").symlink_to(sys.executable)
    (folder / "ask_its_hub.py").write_text(program)
    monkeypatch.setattr(peers, "HERE", folder)
    return folder


def test_an_action_of_ours_reports_what_the_engine_generated(bench) -> None:
    row = bench[0].ours("self_consistency(k=2)")

    assert row.reported == row.generated == bench[1].generated_tokens > 0
    assert len(row.right) == len(QUERIES)


def test_a_peer_is_graded_and_its_report_set_against_the_engines_count(bench, tmp_path, monkeypatch) -> None:
    row = bench[0].peer("its_hub", "self_consistency", environment(tmp_path, SILENT, monkeypatch))

    assert row.right == [0.0, 1.0, 0.0, 0.0]
    assert (row.reported, row.generated) == (7 * len(QUERIES), 0)


def test_a_peer_that_is_missing_or_fails_is_named_with_the_reason(bench, tmp_path, monkeypatch) -> None:
    missing = bench[0].peer("optillm", "best_of_n", tmp_path)
    failed = bench[0].peer("its_hub", "adaptive", environment(tmp_path, BROKEN, monkeypatch))
    page = section("it", [Row(name="ours", right=[1.0, 0.0], generated=10, reported=10), missing, failed], k=2, model="m", load=0.0, seed=0)

    assert "| optillm, best of n | not installed |" in page
    assert "| its-hub, adaptive | failed: no such module |" in page
    assert "| ours | 0.500" in page
