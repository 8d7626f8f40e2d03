from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from rheostat.data.errors import DatasetError, StoreError
from rheostat.data.ledger import Ledger
from rheostat.data.samples import samples_frame, write_samples
from rheostat.data.schema import Decision, Outcome, Reward, Sample
from rheostat.data.segment_files import ADDED, DECISION, LEDGER, OUTCOME, export_segment, import_parquet, read_segments, with_rewards
from rheostat.data.segments import Segment
from rheostat.data.store import OutcomeStore


@pytest.fixture
def shipped(
    store: OutcomeStore, decision: Callable[[int], Decision], outcome: Callable[..., Outcome], reward: Callable[..., Reward], tmp_path: Path
) -> list[Path]:
    """Two segment files of 40 decisions, an orphaned outcome and some later rewards; the first decision came with its own."""
    for i in range(40):
        store.put(decision(i))
        store.put(outcome(i, 0.5 if i == 0 else None))
    store.put(outcome(99))
    for i in range(0, 40, 4):
        store.put(reward(i, 1.0, "late", created_s=9.0))
        store.put(reward(i, 0.0, "early", created_s=8.0))
    assert store.flush()
    paths = []
    while segment := store.close_segment(max_rows=33):
        paths.append(tmp_path / f"{segment.segment_id}.parquet")
        export_segment(store, segment, paths[-1])
    return paths


def test_a_segment_goes_to_parquet_and_back_without_loss(store: OutcomeStore, shipped: list[Path], tmp_path: Path) -> None:
    with OutcomeStore(tmp_path / "copy.db", max_queued=10) as copy:
        assert sum(import_parquet(copy, path) for path in shipped) == 40 + 41 + 20
        assert copy.rows_after(0, 1_000) == store.rows_after(0, 1_000)
        assert sum(import_parquet(copy, path) for path in shipped) == 101
        assert copy.counts() == store.counts().__class__(decisions=40, outcomes=41, rewards=20, samples=0, segments=0, unfinished=0)


def test_exporting_again_gives_the_same_bytes(store: OutcomeStore, shipped: list[Path]) -> None:
    before = shipped[0].read_bytes()
    export_segment(store, store.segments()[0], shipped[0])
    assert shipped[0].read_bytes() == before
    assert pl.read_parquet_metadata(shipped[0])["rheostat.sha256"] == store.segments()[0].sha256


def test_a_row_a_decision_has_its_own_reward_or_else_the_earliest(shipped: list[Path]) -> None:
    frame = with_rewards(read_segments([*shipped, shipped[0]]))
    assert frame["decision_id"].to_list() == [*(f"d-{i:06d}" for i in range(40)), "d-000099"]
    rewards = dict(zip(frame["decision_id"], frame.select("reward", "reward_source").iter_rows(), strict=True))
    assert rewards["d-000000"] == (0.5, "verifier")
    assert rewards["d-000004"] == (0.0, "early")
    assert rewards["d-000005"] == (None, None)


def test_tokens_and_cost_are_plain_columns(shipped: list[Path]) -> None:
    frame = with_rewards(read_segments(shipped))
    assert frame.select("completion_tokens", "verifier_tokens", "wasted_tokens").unique().row(0) == (50, 3, 4)
    assert frame["cost_usd"][0] == 57e-6
    assert frame["predicted_cost_usd"][0] == 1e-6


def test_every_field_of_a_record_has_its_column() -> None:
    assert {field for field, _ in DECISION.values()} == set(Decision.__struct_fields__) - {"decision_id"}
    assert {field for field, _ in OUTCOME.values()} == set(Outcome.__struct_fields__) - {"decision_id", "ledger"}
    assert {field for field, _ in LEDGER.values()} == set(Ledger.__struct_fields__)


def test_a_segment_of_before_a_column_was_added_reads_as_null(shipped: list[Path], tmp_path: Path) -> None:
    old = tmp_path / "old.parquet"
    pl.read_parquet(shipped[0]).drop(*ADDED).write_parquet(old)
    assert read_segments(old).select(ADDED).null_count().row(0) == (len(read_segments(old)),) * len(ADDED)


def test_a_segment_whose_rows_are_gone_is_not_exported(store: OutcomeStore, tmp_path: Path) -> None:
    lost = Segment(segment_id="seg-x", first_seq=1, last_seq=9, rows=9, sha256="", state="closed")
    with pytest.raises(StoreError, match="9 rows, the store 0"):
        export_segment(store, lost, tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_a_sample_log_is_imported_too(store: OutcomeStore, sample: Callable[..., Sample], tmp_path: Path) -> None:
    expected = [sample(i, answer=None, correct=0.0) for i in range(5)]
    write_samples(tmp_path / "log.parquet", samples_frame(expected))
    assert import_parquet(store, tmp_path / "log.parquet") == 5
    assert list(store.samples()) == expected


def test_files_that_are_no_segment_are_refused(store: OutcomeStore, shipped: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no segment was given"):
        read_segments([])
    with pytest.raises(DatasetError, match="cannot read"):
        read_segments(tmp_path / "none.parquet")
    frame = pl.read_parquet(shipped[0])
    frame.drop("action").write_parquet(tmp_path / "missing.parquet")
    with pytest.raises(DatasetError, match="missing columns action"):
        read_segments(tmp_path / "missing.parquet")
    frame.with_columns(propensity=pl.lit("much")).write_parquet(tmp_path / "type.parquet")
    with pytest.raises(DatasetError, match="another type"):
        read_segments(tmp_path / "type.parquet")
    frame.with_columns(attempts=pl.lit("{")).write_parquet(tmp_path / "json.parquet")
    with pytest.raises(DatasetError, match="row 0"):
        import_parquet(store, tmp_path / "json.parquet")


def test_an_import_into_a_closed_store_is_refused(shipped: list[Path], tmp_path: Path) -> None:
    closed = OutcomeStore(tmp_path / "closed.db")
    closed.close()
    with pytest.raises(StoreError, match="takes no rows"):
        import_parquet(closed, shipped[0])
