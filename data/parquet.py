"""Parquet files that are there whole or not at all, with text metadata and the same bytes for the same rows."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rheostat.data.errors import DatasetError
from rheostat.data.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import polars as pl

VERSION_KEY = "rheostat.schema_version"

T = TypeVar("T")


def write_parquet(path: Path, frame: pl.DataFrame, metadata: dict[str, str]) -> None:
    """Write a frame with zstd; the file appears by a rename, after it is on disk.

    Raises:
        OSError: the disk is full, the folder cannot be written, or the path is a folder.
    """
    import polars as pl
    import pyarrow.parquet as pq

    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = table.replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION), **metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            pq.write_table(table, file, compression="zstd", compression_level=9)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_parquet(path: Path) -> pl.DataFrame:
    """All columns and rows of a file, whoever wrote it.

    Raises:
        DatasetError: it cannot be read, or was written by a newer version of this program.
    """
    import polars as pl

    return _checked(path, lambda: pl.read_parquet(path, glob=False))


def parquet_columns(path: Path) -> list[str]:
    """The names of a file's columns, without reading its rows; errors as above."""
    import polars as pl

    return _checked(path, lambda: pl.scan_parquet(path, glob=False).collect_schema().names())


def _checked(path: Path, read: Callable[[], T]) -> T:
    """What `read` finds in a file of a version that this program knows."""
    import polars as pl

    try:
        version = pl.read_parquet_metadata(path).get(VERSION_KEY, "0")
        found = read()
    except (OSError, pl.exceptions.PolarsError) as error:
        what = str(error).splitlines()[0]
        raise DatasetError(f"cannot read {path}: {what}: give a complete Parquet file; rheostat import makes one of other logs") from error
    if not version.isdigit() or int(version) > SCHEMA_VERSION:
        raise DatasetError(f"{path} has schema version {version}, this program knows {SCHEMA_VERSION}: upgrade rheostat")
    return found
