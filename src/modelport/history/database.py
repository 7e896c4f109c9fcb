"""The file under the history: opened, its tables made, its transactions, its errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..errors import FormatError, OutputError

SCHEMA_VERSION = 1
_WAIT_S = 10.0  # for another writer, whose transactions are some milliseconds long
_SCHEMA = """
CREATE TABLE entries (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, started TEXT NOT NULL, recorded TEXT NOT NULL, name TEXT NOT NULL, model TEXT,
    onnx_sha256 TEXT, verdict TEXT, place TEXT, machine TEXT, environment TEXT, document BLOB NOT NULL
);
CREATE INDEX entries_started ON entries (started);
CREATE TABLE speeds (
    entry TEXT NOT NULL REFERENCES entries (id) ON DELETE CASCADE, configuration TEXT NOT NULL, engine TEXT NOT NULL,
    precision TEXT NOT NULL, batch_size INTEGER NOT NULL, throughput REAL NOT NULL, median_ms REAL, doubtful TEXT
);
CREATE INDEX speeds_entry ON speeds (entry);
CREATE INDEX speeds_configuration ON speeds (configuration);
CREATE TABLE accuracies (
    entry TEXT NOT NULL REFERENCES entries (id) ON DELETE CASCADE, target TEXT NOT NULL, engine TEXT NOT NULL,
    precision TEXT NOT NULL, top1 REAL, top5 REAL, images INTEGER, e2e REAL, passed INTEGER
);
CREATE INDEX accuracies_entry ON accuracies (entry);
CREATE TABLE choices (
    entry TEXT NOT NULL REFERENCES entries (id) ON DELETE CASCADE, target TEXT NOT NULL, images TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (entry, target)
);
"""


class Database:
    """An open database; `open_database` makes it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path

    def ask(self, sql: str, values: Any = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with reporting(self.path):
            return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, values: Any = ()) -> int:
        """Change something.

        Returns:
            How many rows were changed.
        """
        with reporting(self.path):
            return self._connection.execute(sql, values).rowcount

    def insert(self, table: str, rows: list[tuple[Any, ...]]) -> int:
        """Add whole rows; one whose key is there already is left out.

        Returns:
            How many were added.
        """
        if not rows:
            return 0
        marks = ", ".join("?" * len(rows[0]))
        with reporting(self.path):
            return self._connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. IMMEDIATE waits for another writer at the beginning, where waiting is allowed, and not in the middle."""
        self.change("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.change("ROLLBACK")
            raise
        self.change("COMMIT")


@contextmanager
def open_database(path: Path, *, create: bool) -> Iterator[Database]:
    """Open a database of this schema.

    Raises:
        FormatError: it was written by a newer version, or by another program.
        OutputError: it cannot be made, or is locked.
    """
    with reporting(path):
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    with closing(connection):
        connection.row_factory = sqlite3.Row
        with reporting(path):
            connection.execute("PRAGMA foreign_keys = ON")
            _write_ahead(connection)
        database = Database(connection, path)
        _prepare(database)
        yield database


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers do not wait for writers then. Where another process is switching too, or the place cannot do it, it works without."""
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) and "readonly" not in str(error):
            raise


def _prepare(database: Database) -> None:
    """Make the tables where there are none. Whoever comes second waits, and finds them."""
    if _version(database) == SCHEMA_VERSION:
        return
    with database.transaction():
        version = _version(database)
        if version == 0:
            if database.ask("SELECT name FROM sqlite_master"):
                raise FormatError(f"{database.path}: is a database of another program; give another --history")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                database.change(statement)
            database.change(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise FormatError(
                f"{database.path}: was written by a newer modelport (schema {version}, this one knows {SCHEMA_VERSION}): update "
                "modelport, or give another --history"
            )


def _version(database: Database) -> int:
    return int(database.ask("PRAGMA user_version")[0][0])


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """SQLite's errors, and the system's, in our words."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(f"{path}: the history cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise FormatError(f"{path}: is not a history: {error}") from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
