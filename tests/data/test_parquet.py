from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.parquet import VERSION_KEY, parquet_columns, read_parquet, write_parquet
from rheostat.data.schema import SCHEMA_VERSION

FRAME = pl.DataFrame({"x": [1, 2], "y": ["a", None]})


def test_rows_and_metadata_are_written(tmp_path: Path) -> None:
    write_parquet(tmp_path / "deep" / "x.parquet", FRAME, {"note": "n"})
    assert read_parquet(tmp_path / "deep" / "x.parquet").equals(FRAME)
    metadata = pl.read_parquet_metadata(tmp_path / "deep" / "x.parquet")
    assert (metadata["note"], metadata[VERSION_KEY]) == ("n", str(SCHEMA_VERSION))


def test_columns_are_told_of_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x[1].parquet", FRAME, {})
    assert parquet_columns(tmp_path / "x[1].parquet") == FRAME.columns


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, FRAME, {})
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_parquet(path, FRAME.head(1), {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", [0, 4, -3])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, FRAME, {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DatasetError, match="cannot read"):
        read_parquet(path)
    with pytest.raises(DatasetError, match="cannot read"):
        parquet_columns(path)


@pytest.mark.parametrize("version", ["99", "new"])
def test_a_newer_schema_is_refused(tmp_path: Path, version: str) -> None:
    write_parquet(tmp_path / "x.parquet", FRAME, {VERSION_KEY: version})
    with pytest.raises(DatasetError, match="upgrade rheostat"):
        read_parquet(tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match="upgrade rheostat"):
        parquet_columns(tmp_path / "x.parquet")
