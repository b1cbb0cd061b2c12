"""The ledger of answers: where it is, what it holds, and how to empty it.

Answers are stored on disk, so that no row is computed twice. The texts of the rows are not, only
hashes of them; prompts, their examples and written answers are.

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
    """Return the file of the ledger, which need not exist yet.

    Returns:
        What the environment variable `NBLLM_LEDGER` names, else `ledger.sqlite` in nbllm's home.

    Example:
        >>> path().is_absolute()
        True
    """
    return ledger_path()


def size() -> int:
    """Return the bytes that the ledger takes on disk; 0 where there is none yet.

    Raises:
        LedgerError: the file is damaged, another program's, or of a newer nbllm.
    """
    if not path().exists():
        return 0
    with Ledger(path()) as ledger:
        return ledger.size


def contents() -> list[VerbContents]:
    """Return what the ledger holds, by verb.

    Returns:
        One entry per verb; the answers of runs that were killed are the last, under "?".

    Raises:
        LedgerError: the file is damaged, another program's, or of a newer nbllm.
    """
    if not path().exists():
        return []
    with Ledger(path()) as ledger:
        return ledger.contents()


def purge(*, older_than_days: float | None = None) -> int:
    """Delete answers, and the records of their runs; the file shrinks.

    Args:
        older_than_days: delete only what belongs to runs that were first asked for that long ago;
            without it, everything.

    Returns:
        The number of answers deleted.

    Raises:
        LedgerError: the file cannot be read or written, and is unchanged.
    """
    if not path().exists():
        return 0
    with Ledger(path()) as ledger:
        return ledger.purge(
            older_than=None if older_than_days is None else older_than_days * 86_400
        )
