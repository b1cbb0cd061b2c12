"""Connections to a ledger's file, and the schema that it has: created, checked, migrated.

`PRAGMA user_version` names the schema. Files that were written before it was set have 0 there,
and are told apart by their tables:

1. answers under the question's and the row's hash as text
2. questions numbered, rows under 16 bytes of a hash, errors that asking again would not change
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from pathlib import Path

from nbllm.engine.ledger_file import check_bytes, check_tables, ledger_error, table_columns
from nbllm.home import private_folder

__all__ = ["FAULTS", "LARGE_LOG", "PATIENCE", "VERSION", "connect", "connect_read_only", "row_hash"]

VERSION = 2

# SQLite's message may quote damaged bytes, which Python then cannot read.
FAULTS = (sqlite3.Error, UnicodeDecodeError)

PATIENCE = 30.0  # seconds to wait for another process that writes

# Bytes of the write-ahead log, above which it is moved into the file: an open reader or several
# writers keep SQLite from doing so by itself.
LARGE_LOG = 32_000_000

# Bytes of one value. No record or answer has as many, and SQLite reads none that has more.
_LARGEST_VALUE = 50_000_000

_SCHEMA = {
    "runs": "(id text primary key, record text not null, started real not null) without rowid",
    "questions": "(id integer primary key, question text not null unique)",
    "answers": (
        "(question integer not null, key blob not null, answer text not null,"
        " primary key (question, key)) without rowid"
    ),
    "failures": (
        "(question integer not null, key blob not null, error text not null,"
        " primary key (question, key)) without rowid"
    ),
    "reports": "(id integer primary key, run text not null, report text not null)",
}
_COLUMNS = {
    "runs": "id,record,started",
    "questions": "id,question",
    "answers": "question,key,answer",
    "failures": "question,key,error",
    "reports": "id,run,report",
}
# From schema 1. An nbllm of schema 2 that opened such a file wrote to its table of answers too,
# which made its numbers text and left its hashes as they were.
_NUMBER_QUESTIONS = (
    "insert or ignore into questions (question)"
    " select distinct question from answers_1 where typeof(key) = 'text'",
    "insert or ignore into answers select questions.id, row_hash(key), answer"
    " from answers_1 join questions using (question) where typeof(key) = 'text'",
    "insert or replace into answers select cast(question as integer), key, answer"
    " from answers_1 where typeof(key) = 'blob'",
    "drop table answers_1",
)


def row_hash(key: str) -> bytes:
    """Return the 16 bytes under which a row's answer is stored.

    Args:
        key: the hash of the row's texts, in hex.
    """
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def connect(path: Path | None) -> sqlite3.Connection:
    """Return a connection that reads and writes a ledger, which is created or migrated if need be.

    Args:
        path: the file; None for a database in memory.

    Raises:
        LedgerError: the file is damaged, another program's, or of a newer nbllm. It is unchanged.
        OSError: its folder or it cannot be written.
        sqlite3.Error: SQLite cannot open or write it.
    """
    if path is not None:
        private_folder(path.parent)
        check_bytes(path)
        # For its owner alone, and so are the files that SQLite puts beside it.
        path.touch(mode=0o600)
    database = sqlite3.connect(path or ":memory:", timeout=PATIENCE)
    try:
        _limit(database)
        if path is not None:
            _check(database, path)
        # WAL with NORMAL loses nothing that was committed when the process is killed.
        _switch_to_wal(database)
        database.execute("pragma synchronous = normal")
        database.execute("pragma cell_size_check = on")  # notices more damage
        database.execute(f"pragma journal_size_limit = {LARGE_LOG}")
        _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection to a ledger that cannot be written, as on a read-only disk.

    SQLite locks nothing there. A file of an older schema is copied into memory and migrated there.

    Args:
        path: the file.

    Raises:
        LedgerError: it cannot be read, is damaged, another program's, or of a newer nbllm.
    """
    try:
        check_bytes(path)
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        database = sqlite3.connect(uri, uri=True)
        _limit(database)
        _check(database, path)
        if _schema_of(database) == VERSION:
            return database
        copied = sqlite3.connect(":memory:")
        with database:
            database.backup(copied)
        database.close()
        _limit(copied)
        _migrate(copied)
    except FAULTS as error:
        raise ledger_error(path, error) from error
    return copied


def _limit(database: sqlite3.Connection) -> None:
    """Keep a file that may be anybody's from filling the memory, and from running code."""
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
    database.execute("pragma trusted_schema = off")


def _check(database: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerError for a ledger of a newer nbllm, or a database of another program."""
    version = _user_version(database)
    # Another program may number its schemas too.
    if version > VERSION and {"runs", "answers"} <= table_columns(database).keys():
        raise ledger_error(
            path,
            f"a newer nbllm wrote it, in format {version}; this one reads formats up to {VERSION}",
            "Update nbllm",
        )
    check_tables(database, path, _COLUMNS)


def _user_version(database: sqlite3.Connection) -> int:
    return int(database.execute("pragma user_version").fetchone()[0])


def _schema_of(database: sqlite3.Connection) -> int:
    """The number of a file's schema; 0 where it has no answers yet."""
    if version := _user_version(database):
        return version
    types = dict(database.execute("select name, type from pragma_table_info('answers')").fetchall())
    if not types:
        return 0
    return 1 if types["question"].lower() == "text" else 2


def _migrate(database: sqlite3.Connection) -> None:
    """Bring the schema to the present one in one transaction; an error leaves it as it was."""
    if _user_version(database) == VERSION:
        return
    database.create_function("row_hash", 1, row_hash, deterministic=True)
    with database:
        database.execute("begin immediate")
        found = _schema_of(database)  # another process may have migrated it meanwhile
        if found == 1:
            database.execute("alter table answers rename to answers_1")
        for table, columns in _SCHEMA.items():
            database.execute(f"create table if not exists {table} {columns}")
        if found == 1:
            for statement in _NUMBER_QUESTIONS:
                database.execute(statement)
        database.execute(f"pragma user_version = {VERSION}")


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """Once for a file; while another process does it, SQLite does not wait but refuses."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            database.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
