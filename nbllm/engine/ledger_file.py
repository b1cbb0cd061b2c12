"""Checks that a file is a whole ledger, before anything is written to it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from nbllm.errors import LedgerError
from nbllm.wording import counted

__all__ = [
    "bytes_of", "check_bytes", "check_tables", "is_damage", "is_full", "ledger_error",
    "table_columns",
]  # fmt: skip

_MAGIC = b"SQLite format 3\x00"
_SETTLING = 0.1  # seconds, in which another process ends moving its pages

# Primary codes of https://www.sqlite.org/rescode.html that tell of the place and not of the file:
# PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN, AUTH.
_NOT_THE_FILE = {3, 5, 6, 7, 8, 10, 13, 14, 23}


def ledger_error(path: Path | None, what: object, remedy: str | None = None) -> LedgerError:
    """Return the error for a ledger that cannot be used.

    Args:
        path: the file; None for one in memory.
        what: what is wrong, in words or as SQLite's error.
        remedy: what to do, as an imperative without its full stop; without it, what helps where
            a file is damaged or its disk is.

    >>> print(ledger_error(Path("l.sqlite"), "cut short"))  # doctest: +ELLIPSIS
    The ledger l.sqlite cannot be used (cut short). It is left as it is. Move it away, ...
    """
    if isinstance(what, UnicodeError):  # met where SQLite quotes what it read
        what = "bytes stand in it that are no text"
    if remedy is not None:
        pass
    elif isinstance(what, Exception) and not is_damage(what):
        remedy = "Try again when no other program is at it or its disk has room"
    else:
        name = "it" if path is None else path.name
        remedy = (
            f"Move it away, together with {name}-wal and {name}-shm where they are there, and a "
            "new one is begun"
        )
    return LedgerError(
        f"The ledger {path} cannot be used ({what}). It is left as it is. {remedy}; or set "
        "NBLLM_LEDGER to another file, or pass ledger=False."
    )


def is_damage(error: Exception) -> bool:
    """Return whether SQLite finds fault with the file itself, not its folder, disk or a lock.

    Args:
        error: raised while a file was opened, read or written.
    """
    return not isinstance(error, OSError) and _primary_code(error) not in _NOT_THE_FILE


def is_full(error: Exception) -> bool:
    """Return whether SQLite found no room on the disk.

    Args:
        error: raised while a file was written.
    """
    return _primary_code(error) == sqlite3.SQLITE_FULL


def _primary_code(error: Exception) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def check_bytes(path: Path) -> None:
    """Refuse a file that is no database, or that was cut short.

    SQLite is not asked: it would take an empty file for a new one, delete the log beside it, and
    notice a missing page only when that page is read.

    Args:
        path: the file, which need not exist.

    Raises:
        LedgerError: what is wrong with it.
    """
    # What looks cut short may be a file that another process is changing right now.
    found = _fault(path)
    if found and path.stat().st_size:
        time.sleep(_SETTLING)
        found = _fault(path)
    if found:
        raise ledger_error(path, found)


def _fault(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        header = file.read(100)
    log = bytes_of(path, "-wal")
    # Pages may be in the log alone, or a journal may be about to undo what is there.
    whole = log == 0 and bytes_of(path, "-journal") == 0
    size = path.stat().st_size
    if not header:
        return "the file is empty, but not the log beside it" if log else None
    if not header.startswith(_MAGIC):
        return "the file is not a database"
    page = int.from_bytes(header[16:18], "big")
    expected = int.from_bytes(header[28:32], "big") * (1 << 16 if page == 1 else page)
    if whole and size < expected:
        return (
            f"the file was cut short: {size:,} of {counted(expected, 'byte is', 'bytes are')} there"
        )
    return None


def bytes_of(path: Path, suffix: str = "") -> int:
    """Return the size of a ledger, or of the file that SQLite puts beside it; 0 where none is.

    Args:
        path: the ledger.
        suffix: of the file beside it, such as "-wal".
    """
    try:
        return Path(f"{path}{suffix}").stat().st_size
    except OSError:
        return 0


def table_columns(database: sqlite3.Connection) -> dict[str, str]:
    """Return each table's columns, in order, joined by commas.

    Args:
        database: an open connection.
    """
    return dict(
        database.execute(
            "select name, (select group_concat(name) from pragma_table_info(tables.name))"
            " from sqlite_master as tables where type = 'table' and name not like 'sqlite\\_%'"
            " escape '\\'"
        ).fetchall()
    )


def check_tables(database: sqlite3.Connection, path: Path, ours: Mapping[str, str]) -> None:
    """Refuse the database of another program.

    Args:
        database: an open connection to `path`.
        path: the file.
        ours: a ledger's tables, as `table_columns` has them; some may be missing.

    Raises:
        LedgerError: naming the tables that are not a ledger's.
    """
    strange = [
        name for name, columns in table_columns(database).items() if ours.get(name) != columns
    ]
    # These are run by whoever reads or writes a table.
    strange += [
        name
        for (name,) in database.execute(
            "select name from sqlite_master where type in ('trigger', 'view')"
        )
    ]
    if strange:
        raise ledger_error(
            path, f"its tables are not a ledger's: {', '.join(map(repr, strange[:5]))}"
        )
