from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from rheostat.data import migrations
from rheostat.data.errors import StoreError
from rheostat.data.migrations import connect


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_new_store_has_the_current_version_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.db"
    for _ in range(2):
        connect(path, create=True).close()
        assert version(path) == len(migrations.MIGRATIONS)


def test_an_older_store_is_brought_forward_and_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    with contextlib.closing(connect(path, create=True)) as old:
        old.execute("INSERT INTO decisions VALUES ('d', 1.0, 'a', x'00')")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, ("ALTER TABLE decisions ADD COLUMN host TEXT",)))
    with contextlib.closing(connect(path, create=False)) as new:
        assert new.execute("SELECT decision_id, host FROM decisions").fetchall() == [("d", None)]
    assert version(path) == len(migrations.MIGRATIONS)


def test_a_failed_step_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    connect(path, create=True).close()
    before = version(path)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, ("CREATE TABLE extra (x)", "nonsense")))
        with pytest.raises(StoreError, match="cannot open the store"):
            connect(path, create=True)
    assert version(path) == before
    with contextlib.closing(connect(path, create=False)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connect(path, create=True).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"version 99.*upgrade rheostat"):
        connect(path, create=True)


def test_other_files_are_refused_and_not_touched(tmp_path: Path) -> None:
    foreign, text = tmp_path / "other.db", tmp_path / "text.db"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    text.write_text("this is no database at all, but a longer text " * 20)
    before = [foreign.read_bytes(), text.read_bytes()]
    with pytest.raises(StoreError, match="database of something else"):
        connect(foreign, create=True)
    with pytest.raises(StoreError, match="cannot open"):
        connect(text, create=True)
    assert [foreign.read_bytes(), text.read_bytes()] == before


def test_a_missing_store_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        connect(tmp_path / "none.db", create=False)
    with pytest.raises(StoreError, match="cannot open"):
        connect(tmp_path, create=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open"):
        connect(tmp_path / "file" / "store.db", create=True)
