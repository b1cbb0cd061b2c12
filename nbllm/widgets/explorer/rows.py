"""Formats rows for the table, and a single row in full."""

from __future__ import annotations

from collections.abc import Sequence

from nbllm.frame.columns import is_missing
from nbllm.widgets.explorer.answers import Answers
from nbllm.widgets.explorer.column import CELL_LENGTH, cell_text
from nbllm.widgets.protocol.explorer import Role, RowDetails, RowText, RowWindow

__all__ = ["index_name", "row_details", "row_name", "row_window", "shown_columns"]

_FULL_TEXT = 20_000  # characters of a text of the row in focus
_MAX_COLUMNS = 40


def row_window(answers: Answers, rows: Sequence[int], start: int, total: int) -> RowWindow:
    """Return the table's cells of some rows.

    Args:
        answers: The answered frame.
        rows: The positions of the rows in the frame.
        start: The place of the first row in the query.
        total: The number of rows that match the query.
    """
    rows = [int(row) for row in rows]
    return RowWindow(
        start=start,
        total=total,
        rows=rows,
        index=[row_name(answers, row) for row in rows],
        cells=[answers.columns[name].cells(rows) for name in shown_columns(answers)],
        corrections=[answers.corrections.get(row) for row in rows],
        wrong=[bool(answers.wrong[row]) for row in rows],
        failed=[bool(answers.failed[row]) for row in rows],
    )


def shown_columns(answers: Answers) -> tuple[str, ...]:
    """Return the columns of the table, at most 40."""
    return tuple(answers.roles)[:_MAX_COLUMNS]


def index_name(answers: Answers) -> str:
    """Return the heading of the row labels: the names of the index, or "row"."""
    index = getattr(answers.frame, "index", None)
    names = [] if index is None else [str(name) for name in index.names if name is not None]
    return ", ".join(names) or "row"


def row_name(answers: Answers, row: int) -> str:
    """Return the index label of a row as text."""
    label = answers.index[row]
    if isinstance(label, tuple):
        return ", ".join(cell_text(part) or "" for part in label)
    return cell_text(None if is_missing(label) else label) or ""


def row_details(answers: Answers, row: int) -> RowDetails:
    """Return one row in full: its texts, and the known probabilities of its labels."""
    roles: tuple[Role, ...] = ("text", "error") if answers.labels else ("text", "answer", "error")
    texts = []
    for name, role in answers.roles.items():
        if role in roles or (role in ("other", "field") and _is_long(answers, name, row)):
            text = answers.columns[name].cells([row], _FULL_TEXT)[0]
            if text is not None:
                texts.append(RowText(name=name, role=role, text=text))
    return RowDetails(
        row=row,
        index=row_name(answers, row),
        texts=texts,
        probabilities=_probabilities(answers, row),
        answer=cell_text(answers.answer(row)),
        truth=None if answers.truth is None else answers.truth.cells([row])[0],
    )


def _is_long(answers: Answers, name: str, row: int) -> bool:
    cell = answers.columns[name].cells([row], CELL_LENGTH)[0]
    return cell is not None and len(cell) > CELL_LENGTH


def _probabilities(answers: Answers, row: int) -> list[tuple[str, float]]:
    names = {label: f"{answers.output}_{label}" for label in answers.labels}
    if names and all(name in answers.columns for name in names.values()):
        values = {label: answers.columns[name].values([row])[0] for label, name in names.items()}
    else:
        score, answer = answers.score, answers.answer(row)
        value = None if score is None else score.values([row])[0]
        if value is None or answer not in names:
            return []
        values = {answer: value}
        if len(names) == 2:
            [other] = [label for label in names if label != answer]
            values[other] = 1 - value
    return [(label, float(value)) for label, value in values.items() if value is not None]
