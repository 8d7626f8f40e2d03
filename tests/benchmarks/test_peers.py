"""The table of peers on a fake engine: tokens are the engine's, whoever is missing is named with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers import run as peers
from benchmarks.peers.run import Bench, Row, learned_rule, section, unseen
from rheostat.data.errors import DatasetError
from rheostat.data.schema import Query
from rheostat.data.tasks import load_tasks
from rheostat.policies.engine import EngineState
from rheostat.policies.learned_stop import PriorRule
from rheostat.policies.processes import Process
from rheostat.training.sample_log import SampleLog
from tests.rheostat.test_ask import fake_engine
from tests.training.fitting import simulated_log

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


def log_of(texts: list[str]) -> SampleLog:
    n = len(texts)
    return SampleLog(samplers={}, query_ids=tuple(map(str, range(n))), texts=tuple(texts), datasets=("d",) * n, levels=(1,) * n)


def test_no_question_of_the_log_is_asked_and_too_few_others_are_refused(tmp_path) -> None:
    asked = [query.text for query in load_tasks("pocket", n=30, seed=1)]
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(f'{{"id": "{n}", "question": "{text}", "answer": "1"}}\n' for n, text in enumerate(asked[:12])))

    assert [query.text for query in unseen("pocket", log_of(asked[:10]), 20, seed=1)] == asked[10:]
    with pytest.raises(DatasetError, match="has 2 questions that the log does not hold, 5 are needed"):
        unseen(str(mine), log_of(asked[:10]), 5, seed=1)


def test_differences_are_to_the_first_row_question_by_question() -> None:
    first = Row(name="first", right=[1.0, 0.0], generated=10, reported=10)
    other = Row(name="other", right=[1.0, 1.0], generated=5, reported=5)
    page = section("it", [first, other], k=2, model="m", load=0.0, seed=0)

    assert "| first | 0.500 (0.000-1.000) | - | 10 |" in page
    assert "| other | 1.000 (1.000-1.000) | +0.500 (+0.000 to +1.000) | 5 |" in page


def test_a_learned_rule_is_for_the_action_that_is_run() -> None:
    shape = "self_consistency(k=8,stop=learned)"
    rule = learned_rule("small", shape, 8, simulated_log(), seed=0)

    assert isinstance(rule, PriorRule)
    assert rule.policy.n_prior == 0
