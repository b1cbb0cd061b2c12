"""Search: the rows whose text fits a query best, by words, by meaning, or by both.

By words is BM25 (Robertson et al. 1994) as bm25s computes it. By meaning is the cosine of the
embeddings, exact. Both together is reciprocal rank fusion, which needs no scale in common
(Cormack, Clarke and Büttcher 2009, https://doi.org/10.1145/1571941.1572114).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import bm25s
import narwhals as nw
import numpy as np
import regex

from nbllm.engine.batching import TokenBudget
from nbllm.engine.runner import run
from nbllm.errors import ModelError
from nbllm.frame import KEEP
from nbllm.frame.columns import read_rows, refuse_taken, write_columns
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.running.provenance import attach, find_record, run_ids
from nbllm.frame.running.run import answer_frame
from nbllm.frame.tasks.vector import unit_vectors
from nbllm.frame.verbs.embed import choose_encoder, embed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.running.progress import Watch
    from nbllm.models.model import Model, ModelLike

__all__ = [
    "How",
    "Vectors",
    "WordIndex",
    "best",
    "fuse",
    "read_queries",
    "search_frame",
    "take",
    "terms",
]

How = Literal["fused", "dense", "bm25"]

_FUSION = 60  # as Cormack et al. chose it

# Scripts without spaces, and Korean, whose words change their ends.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
_RUN = regex.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+", regex.VERSION1
)


def search_frame(
    frame: Any,
    column: str,
    query: str | Sequence[str],
    *,
    k: int,
    how: How,
    model: ModelLike | None,
    into: str,
    keep: Sequence[str] = KEEP,
    use_ledger: bool = True,
    truncate: bool = False,
    watch: Watch | None = None,
) -> Any:
    """The rows that fit a query best, or those of each query in turn, best first.

    Stopped, it ranks what was embedded until then, for the queries that were.

    Args:
        frame: a pandas or polars DataFrame, left as it is.
        into: the column of a row's rank, and the beginning of the others' names.
        watch: that of the verb's call.

    Raises:
        TextTooLongError: a query that does not fit the encoder.
    """
    queries = read_queries(query)
    rows = read_rows(frame, [column])
    several = not isinstance(query, str)
    names = [into, *(f"{into}_{part}" for part in ("score", "query", "run"))]
    refuse_taken(frame, names, ours=f"{into}_score")
    by_words = by_meaning = None
    if how != "bm25":
        encoder = choose_encoder(model, "search")
        # First, since it is quick and may be refused.
        asked = _embed(queries, encoder, truncate=truncate, watch=watch)
        by_meaning = Vectors(
            answer_frame(
                nw.from_native(frame, eager_only=True).select(column).to_native(),
                embed(encoder),
                encoder,
                {TEXT: column},
                output=into,
                keep=("value", "run"),
                use_ledger=use_ledger,
                truncate=truncate,
                watch=watch,
            ),
            into,
        )
    if how != "dense":  # after the vectors, whose progress is shown
        by_words = WordIndex([None if i is None else rows.texts[i][0] for i in rows.position])
    hits: list[tuple[int, int, float, str]] = []  # row, rank, score, query
    for n, text in enumerate(queries):
        if by_meaning is not None and n not in asked:
            continue
        if by_meaning is None and watch is not None and watch.cancelled:
            break
        scores = []
        if by_words is not None:
            scores.append(by_words.scores(text))
        if by_meaning is not None:
            scores.append(by_meaning.cosines(asked[n]))
        total = fuse(scores) if how == "fused" else scores[0]
        found = enumerate(best(total, k), start=1)
        hits += [(row, rank, float(total[row]), text) for rank, row in found]
    columns: dict[str, tuple[list[Any], Any]] = {}
    if "value" in keep:
        columns[into] = ([hit[1] for hit in hits], nw.Int64)
    if "score" in keep:
        columns[f"{into}_score"] = ([hit[2] for hit in hits], nw.Float64)
    if several:
        columns[f"{into}_query"] = ([hit[3] for hit in hits], nw.String)
    if by_meaning is not None and by_meaning.record is not None and "run" in keep:
        columns[f"{into}_run"] = ([by_meaning.record["id"]] * len(hits), nw.Categorical)
    return take(frame, [hit[0] for hit in hits], columns, names, by_meaning)


class Vectors:
    """The vectors of a frame's rows, and the run that made them.

    Args:
        answered: what `answer_frame` made with `embed`, its value and its run.
        output: the column of vectors.
    """

    def __init__(self, answered: Any, output: str) -> None:
        cells = list(answered[output])
        self.rows = len(cells)
        present = [row for row, cell in enumerate(cells) if cell is not None]
        self.place = {row: n for n, row in enumerate(present)}  # of a row in `unit`
        self._present = np.array(present, dtype=int)
        self.unit = unit_vectors([cells[row] for row in present])
        ids = run_ids(answered, f"{output}_run")
        self.record = find_record(ids[0], answered) if ids else None

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of each row with a vector of length 1; -inf where the row has none."""
        scores = np.full(self.rows, -np.inf)
        if self.place:
            scores[self._present] = np.clip(self.unit @ vector, -1.0, 1.0)
        return scores


def fuse(rankings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Scores of several searches as one: the sum of 1 / (60 + rank).

    Args:
        rankings: the score of each row in each search; -inf where it was not found.
    """
    total = np.zeros_like(rankings[0])
    for scores in rankings:
        order = best(scores, len(scores))
        total[order] += 1 / (_FUSION + np.arange(1, len(order) + 1))
    return np.where(total > 0, total, -np.inf)


def best(scores: NDArray[np.float64], k: int) -> list[int]:
    """The rows of the k best scores, best first and the earlier row where they are equal.

    Example:
        >>> best(np.array([0.2, -np.inf, 0.7, 0.2]), 5)
        [2, 0, 3]
    """
    rows = np.flatnonzero(scores > -np.inf)
    if 0 < k < len(rows):
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    found: list[int] = rows[np.argsort(-scores[rows], kind="stable")[:k]].tolist()
    return found


def terms(text: str) -> list[str]:
    """What of a text is counted: words, and characters and their pairs in unspaced scripts.

    Example:
        >>> terms("Café 上海站")
        ['café', '上', '海', '站', '上海', '海站']
    """
    found: list[str] = []
    for match in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        run = match.group()
        if match["unspaced"]:
            found += [*run, *(run[n : n + 2] for n in range(len(run) - 1))]
        else:
            found.append(run)
    return found


def take(
    frame: Any,
    rows: Sequence[int],
    columns: Mapping[str, tuple[list[Any], Any]],
    names: Sequence[str],
    vectors: Vectors | None,
) -> Any:
    """These rows of a frame, in this order, with these columns and the record of their vectors.

    Args:
        names: the columns that an earlier search may have left, which would be out of date.
    """
    data = nw.from_native(frame, eager_only=True).drop(names, strict=False)
    taken = write_columns(data[np.array(rows, dtype=int)].to_native(), columns)
    if vectors is not None and vectors.record is not None:
        attach(taken, vectors.record)
    return taken


class WordIndex:
    """BM25 over the terms of texts.

    Args:
        texts: None where a row has none.
    """

    def __init__(self, texts: Sequence[str | None]) -> None:
        self.rows = len(texts)
        self.present = [row for row, text in enumerate(texts) if text is not None]
        found = [terms(text) for text in texts if text is not None]
        self.index = None
        if any(found):  # texts of punctuation alone have no terms, and bm25s no such index
            self.index = bm25s.BM25(backend="numpy")
            self.index.index(found, show_progress=False)

    def scores(self, query: str) -> NDArray[np.float64]:
        """Of each row; -inf where it has none of the query's terms."""
        scores = np.full(self.rows, -np.inf)
        if self.index is not None and (ids := self.index.get_tokens_ids(terms(query))):
            scores[self.present] = self.index.get_scores_from_ids(ids)
        return np.where(scores > 0, scores, -np.inf)


def _embed(
    texts: Sequence[str], model: Model, *, truncate: bool, watch: Watch | None
) -> dict[int, NDArray[np.float32]]:
    """Vectors of length 1, shape (dimensions,), by text; of those before a cancel.

    Raises:
        TextTooLongError: a text does not fit the encoder.
        ModelError: the encoder fails on a text.
    """
    task = embed(model)
    asked = task.on(model, model.context_length)
    prompts = []
    for prompt in asked.encode([(text,) for text in texts], truncate=truncate):
        if isinstance(prompt, Exception):
            raise prompt
        prompts.append(prompt)
    vectors: dict[int, Any] = {}
    for done in run(prompts, asked, budget=TokenBudget.of(model, decodes=False)):
        if done.errors:
            raise ModelError(f"a text could not be embedded: {next(iter(done.errors.values()))}")
        answers = list(done.answers.values())
        vectors |= dict(zip(done.answers, task.values(answers, None)[0], strict=True))
        if watch is not None and watch.cancelled:
            break
    return dict(zip(vectors, unit_vectors(list(vectors.values())), strict=True))


def read_queries(query: str | Sequence[str]) -> list[str]:
    """One query or several as a list."""
    return [query] if isinstance(query, str) else list(query)
