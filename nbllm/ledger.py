"""The ledger of answers: its path, its contents, and how to delete from it.

Answers are stored on disk, so that no row is computed twice. Prompts, their examples and generated
answers are stored too; of the texts of the rows, only hashes.

    >>> import nbllm
    >>> nbllm.ledger.path()  # doctest: +SKIP
    PosixPath('/home/ada/.cache/nbllm/ledger.sqlite')
    >>> nbllm.ledger.contents()  # doctest: +SKIP
    [VerbContents(verb='sentiment', runs=2, answers=124, started=1796045131.4)]
    >>> nbllm.ledger.purge(older_than_days=30)  # doctest: +SKIP
    0
"""

from __future__ import annotations

from pathlib import Path

from nbllm.engine.ledger import Ledger, VerbContents, ledger_path

__all__ = ["Ledger", "VerbContents", "contents", "path", "purge", "size"]


def path() -> Path:
    """Return the path of the ledger, which may not exist yet.

    Returns:
        The path in the environment variable `NBLLM_LEDGER`, or `ledger.sqlite` in nbllm's home.

    Example:
        >>> path().is_absolute()
        True
    """
    return ledger_path()


def size() -> int:
    """Return the size of the ledger on disk in bytes; 0 if it does not exist yet.

    Raises:
        LedgerError: The file is damaged, another program's, or of a newer nbllm.
    """
    if not path().exists():
        return 0
    with Ledger(path()) as ledger:
        return ledger.size


def contents() -> list[VerbContents]:
    """Return the contents of the ledger by verb.

    Returns:
        One entry per verb; answers of runs that were killed are the last entry, "?".

    Raises:
        LedgerError: The file is damaged, another program's, or of a newer nbllm.
    """
    if not path().exists():
        return []
    with Ledger(path()) as ledger:
        return ledger.contents()


def purge(*, older_than_days: float | None = None) -> int:
    """Delete answers and the records of their runs, and shrink the file.

    Args:
        older_than_days: Delete only runs that started longer ago, and answers that no later run of
            the same question uses; by default everything.

    Returns:
        The number of answers deleted.

    Raises:
        LedgerError: The file cannot be read or written, and is unchanged.
    """
    if not path().exists():
        return 0
    with Ledger(path()) as ledger:
        return ledger.purge(
            older_than=None if older_than_days is None else older_than_days * 86_400
        )
