import hashlib
import shutil

import numpy as np
import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Ledger
from rheostat.data.samples import samples_frame, write_samples
from rheostat.data.schema import Decision, Outcome, Reward, Sample
from rheostat.data.segment_files import export_segment, rows_frame
from rheostat.data.segments import Row
from rheostat.data.store import OutcomeStore
from rheostat.training.tables import digest_file, digests_of, live_table, load_training_data
from tests.training.conftest import write_store

ACTIONS = ("m/direct@8", "m/cot@64")


def samples(n=4, k=4):
    for i in range(n):
        for strategy, cap in (("direct", k), ("cot", k)):
            for j in range(cap):
                yield Sample(
                    dataset="d",
                    query_id=f"q{i}",
                    query_text=f"{i}?",
                    model="m",
                    strategy=strategy,
                    sample_index=j,
                    temperature=0.8,
                    answer="1",
                    gold="1",
                    correct=float(strategy == "cot"),
                    prompt_tokens=5,
                    completion_tokens=3,
                    latency_s=0.1,
                    mean_logprob=-0.1,
                )


@pytest.fixture
def log(tmp_path):
    write_samples(tmp_path / "log.parquet", samples_frame(samples()))
    return tmp_path / "log.parquet"


def row(i, **changes):
    decision = {"action": ACTIONS[i % 2], "propensity": 0.5, "prompt_text": f"live {i}", "rule": "average", "checked": False}
    outcome = {"status": "ok", "reward": 1.0}
    decision |= {name: value for name, value in changes.items() if name in decision}
    outcome |= {name: value for name, value in changes.items() if name in outcome}
    return Row(
        seq=i + 1,
        kind="outcome",
        decision_id=f"d{i}",
        decision=Decision(decision_id=f"d{i}", query_id=f"q{i}", created_s=0.0, **decision),
        outcome=Outcome(
            decision_id=f"d{i}", finished_s=1.0, ledger=Ledger(prompt=4, completion=5, wasted=2), cost_usd=0.0, latency_s=0.5, **outcome
        ),
    )


def test_a_live_row_knows_one_action_and_counts_one_over_its_propensity():
    table, counts = live_table(rows_frame([row(0, propensity=0.25), row(1, reward=0.0)]), ACTIONS)
    assert table.weight.tolist() == [[4, 0], [0, 2]]
    assert table.reward.tolist() == [[1, 0], [0, 0]]
    assert table.tokens.tolist() == [[7, 0], [0, 7]]
    assert (table.texts, counts) == (("live 0", "live 1"), {"used": 2})


def test_weights_are_clipped():
    table, _ = live_table(rows_frame([row(0, propensity=0.001)]), ACTIONS, max_weight=10)
    assert table.weight.max() == 10


def test_weighted_live_rows_estimate_the_mean_reward_of_each_action_without_bias():
    rng, truth, chance = np.random.default_rng(0), (0.3, 0.8), (0.1, 0.9)
    rows = []
    for i in range(4000):
        a = int(rng.random() < chance[1])
        rows.append(row(i, action=ACTIONS[a], propensity=chance[a], reward=float(rng.random() < truth[a])))
    table, _ = live_table(rows_frame(rows), ACTIONS)
    estimate = (table.reward * table.weight).sum(axis=0) / len(rows)
    assert estimate == pytest.approx(truth, abs=0.06)


def test_a_reward_that_arrives_later_counts():
    late = Row(seq=9, kind="reward", decision_id="d0", reward=Reward(decision_id="d0", reward=0.25, source="user", created_s=2.0))
    table, counts = live_table(rows_frame([row(0, reward=None), late]), ACTIONS)
    assert table.reward[0, 0] == 0.25
    assert counts == {"used": 1}


def test_rows_that_cannot_teach_are_counted_by_reason():
    rows = [
        row(0, status="failed"),
        row(1, reward=None),
        row(2, prompt_text=None),
        row(3, action="m/tree@9"),
        row(4),
        row(5, rule="sequential"),
        row(6, checked=True),
    ]
    orphan = Row(seq=9, kind="outcome", decision_id="x", outcome=rows[4].outcome)
    table, counts = live_table(rows_frame([*rows, orphan]), ACTIONS)
    assert len(table) == 1
    reasons = ("not answered", "no reward", "text not kept", "unknown action", "several actions", "checked", "no decision", "used")
    assert counts == dict.fromkeys(reasons, 1)


def test_no_live_row_at_all_gives_an_empty_table():
    table, counts = live_table(rows_frame([]), ACTIONS)
    assert (len(table), counts) == (0, {})


def test_samples_and_live_rows_of_logs_segments_and_stores_become_one_table(tmp_path, log):
    action = load_training_data([log]).table.actions[0]
    live, store_path, segment_path = row(0, action=action), tmp_path / "s.db", tmp_path / "segment.parquet"
    with OutcomeStore(store_path) as store:
        for record in (*list(samples(n=6))[32:], live.decision, live.outcome):
            assert record is not None
            store.put(record)
        store.flush()
        segment = store.close_segment()
        assert segment is not None
        export_segment(store, segment, segment_path)
    from_segment = load_training_data([segment_path, log])
    assert from_segment.table.texts == ("0?", "1?", "2?", "3?", "live 0")
    assert from_segment.table.weight[-1].tolist() == [2.0] + [0.0] * (len(from_segment.table.actions) - 1)
    assert from_segment.live == {"used": 1}
    from_store = load_training_data([log, store_path])
    assert from_store.table.texts == ("0?", "1?", "2?", "3?", "4?", "5?", "live 0")
    assert from_store.digests.keys() == {"log.parquet", "s.db"}


def test_digests_name_every_file_and_change_with_a_byte(log, tmp_path):
    data = load_training_data([log])
    assert data.digests == {"log.parquet": hashlib.sha256(log.read_bytes()).hexdigest()}
    other = tmp_path / "other"
    other.write_bytes(log.read_bytes() + b"x")
    assert digest_file(other) != digest_file(log)


def test_without_samples_the_error_says_to_collect(tmp_path):
    write_store(tmp_path / "s.db", 1)
    with pytest.raises(DatasetError, match="collect a log first"):
        load_training_data([tmp_path / "s.db"])
    with pytest.raises(DatasetError, match="no files"):
        load_training_data([])


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR")
    with pytest.raises(DatasetError, match=r"bad\.parquet"):
        load_training_data([tmp_path / "bad.parquet"])


def test_a_sample_in_two_logs_counts_once_and_one_that_differs_is_refused(log, tmp_path):
    once = load_training_data([log])
    shutil.copy(log, tmp_path / "copy.parquet")
    assert load_training_data([log, tmp_path / "copy.parquet"]).table.digest == once.table.digest
    changed = samples_frame(samples()).with_columns(answer=pl.lit("2"))
    write_samples(tmp_path / "other.parquet", changed)
    with pytest.raises(DatasetError, match="comes more than once"):
        load_training_data([log, tmp_path / "other.parquet"])


def test_files_of_one_name_keep_a_digest_each(tmp_path):
    paths = [tmp_path / folder / "log.parquet" for folder in ("a", "b")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        path.write_text(str(number))
    found = digests_of([*paths, paths[0]])
    assert found == {str(path): digest_file(path) for path in paths}
    assert digests_of(paths[:1]) == {"log.parquet": digest_file(paths[0])}
