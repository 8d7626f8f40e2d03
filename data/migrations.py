"""The store's tables, as a list of steps that only go forward, and the connections to them.

A store file knows its own version (`user_version`); whoever opens an older one brings it up to date in one
transaction, and a newer one is refused. Times are Unix seconds; bodies are records as MessagePack.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rheostat.data.errors import StoreError

APPLICATION_ID = 0x52484F53  # "RHOS": tells a store from any other SQLite file
BUSY_TIMEOUT_S = 5.0

# An event is an outcome or a reward. Events are numbered in the order of commits, by one writer, so that whoever has
# read up to a number has seen everything before it: segments are ranges of that number.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE decisions (
            decision_id TEXT PRIMARY KEY,
            created_s REAL NOT NULL,
            action TEXT NOT NULL,
            body BLOB NOT NULL
        )""",
        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL CHECK (kind IN ('outcome', 'reward')),
            decision_id TEXT NOT NULL,
            source TEXT NOT NULL,
            body BLOB NOT NULL,
            UNIQUE (decision_id, kind, source)
        )""",
        """CREATE TABLE samples (
            seq INTEGER PRIMARY KEY,
            dataset TEXT NOT NULL,
            query_id TEXT NOT NULL,
            model TEXT NOT NULL,
            strategy TEXT NOT NULL,
            temperature REAL NOT NULL,
            sample_index INTEGER NOT NULL,
            body BLOB NOT NULL,
            UNIQUE (dataset, query_id, model, strategy, temperature, sample_index)
        )""",
        """CREATE TABLE segments (
            segment_id TEXT PRIMARY KEY,
            first_seq INTEGER NOT NULL UNIQUE,
            last_seq INTEGER NOT NULL UNIQUE,
            rows INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('closed', 'shipped')),
            run_id TEXT
        )""",
    ),
)


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """A connection in WAL mode to a store of the current version; usable from any one thread at a time.

    Raises:
        StoreError: there is no store, it is newer than this program, or it is no store at all.
    """
    if not create and not path.exists():
        raise StoreError(f"there is no store at {path}: serve or collect writes one")
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open the store {path}: {error}: check the folder and its permissions") from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"cannot open the store {path}: {error}: check that it is a store and can be written") from error
    except StoreError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _refuse_strangers(connection, path)
    if _pragma(connection, "user_version") < len(MIGRATIONS):
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection)
    connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut, not only a kill


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    version = _pragma(connection, "user_version")
    if version > len(MIGRATIONS):
        raise StoreError(f"the store {path} has version {version}, this program knows {len(MIGRATIONS)}: upgrade rheostat")
    has_tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    if has_tables and _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreError(f"{path} is a database of something else: give the path of a store, or of no file yet")


def _migrate(connection: sqlite3.Connection) -> None:
    """Run the missing steps in one transaction; whoever comes second finds nothing left to do."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in MIGRATIONS[_pragma(connection, "user_version") :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
