"""Logs that are kept with the project: collected once from real engines, see README.md beside them."""

from __future__ import annotations

from pathlib import Path

from rheostat.data.errors import DatasetError

HERE = Path(__file__).resolve().parent


def kept_log(name: str) -> Path:
    """The Parquet file of a kept log, `pocket` or `smol`.

    Raises:
        DatasetError: there is none of that name.
    """
    path = HERE / f"{name}.parquet"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in HERE.glob("*.parquet"))) or "none"
        raise DatasetError(f"no kept log {name!r}; there are: {known}")
    return path
