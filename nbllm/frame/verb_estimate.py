"""What each verb will take, also those that ask several things of a row or no model at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.frame.call_checks import check_call
from nbllm.frame.columns import check_columns, read_rows, write_columns
from nbllm.frame.masking.masker import Masker
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.prompts.reply import MESSAGE, SOURCES, draft
from nbllm.frame.running.estimate import RunEstimate, StepsEstimate, estimate_run
from nbllm.frame.verbs.embed import cells_of, choose_encoder, embed
from nbllm.frame.verbs.recommend import read_histories
from nbllm.frame.verbs.registry import choose_model, make_task, verb_columns
from nbllm.frame.verbs.reply import check_reply, find_sources, read_sources, reply_tasks
from nbllm.frame.verbs.search import WordIndex, read_queries

if TYPE_CHECKING:
    from nbllm.models.model import Model, ModelLike

__all__ = ["estimate_verb"]

_TRIAL = 64  # texts that are tried where no model is asked


def estimate_verb(
    frame: Any,
    verb: str,
    subject: str,
    options: Mapping[str, Any],
    *,
    model: ModelLike | None,
    truncate: bool,
) -> RunEstimate | StepsEstimate:
    """What a verb will take.

    Args:
        subject: the verb's first argument: a column, or a prompt.
        options: its other arguments.
        model: by default the one that the verb would ask.
        truncate: cut what does not fit, instead of failing its row.

    Raises:
        ColumnError: the column is not there, or no text.
        FrameError: no such verb, or arguments that it refuses.
    """
    if verb == "mask":
        return _mask(frame, subject, **options)
    if verb == "search":
        return _search(frame, subject, model, truncate, **options)
    if verb == "recommend":
        return _recommend(frame, subject, model, truncate, **options)
    if verb == "reply":
        return _reply(frame, subject, model, truncate, **options)
    check_call(frame, verb, subject, options)
    columns = verb_columns(verb, subject, options)
    model = choose_model(verb, model)
    if verb == "embed":
        options = {"cells": cells_of(frame), **options}
    return estimate_run(
        frame,
        make_task(verb, subject, model, options),
        model,
        columns,
        any_type=verb == "prompt",
        truncate=truncate,
    )


def _mask(
    frame: Any, column: str, *, entities: Sequence[str] | None = None, language: str = "en"
) -> RunEstimate:
    masker = Masker(entities, language)
    masker.find("")  # what is loaded once

    def find(texts: Sequence[str]) -> None:
        for text in texts:
            masker.find(text)

    return _without_model("mask", frame, column, find)


def _search(
    frame: Any,
    column: str,
    model: ModelLike | None,
    truncate: bool,
    *,
    query: str | Sequence[str],
    k: int = 10,
    how: str = "fused",
) -> RunEstimate | StepsEstimate:
    queries = read_queries(query)

    def find(texts: Sequence[str]) -> None:
        index = WordIndex(texts)
        for asked in queries:
            index.scores(asked)

    by_words = None if how == "dense" else _without_model("search", frame, column, find)
    if how == "bm25" and by_words is not None:
        return by_words
    encoder = choose_encoder(model, "search")
    by_meaning = _embedding("search", frame, column, encoder, truncate)
    if by_words is None:
        return by_meaning
    return StepsEstimate("search", {"by words": by_words, "by meaning": by_meaning})


def _recommend(
    frame: Any, column: str, model: ModelLike | None, truncate: bool, *, history: Any, k: int = 10
) -> RunEstimate:
    check_columns(frame, [column])
    read_histories(frame, history)
    encoder = choose_encoder(model, "recommend")
    return _embedding("recommend", frame, column, encoder, truncate)


def _embedding(verb: str, frame: Any, column: str, encoder: Model, truncate: bool) -> RunEstimate:
    """What embedding the rows takes; queries and cosines are not counted, which are quick."""
    task = embed(encoder)
    return replace(estimate_run(frame, task, encoder, {TEXT: column}, truncate=truncate), verb=verb)


def _reply(
    frame: Any,
    column: str,
    model: ModelLike | None,
    truncate: bool,
    *,
    sources: Any,
    intents: Sequence[str] | Mapping[str, str],
    source_column: str | None = None,
    k: int = 2,
    encoder: ModelLike | None = None,
    instruction: str | None = None,
    examples: Any = None,
    max_new_tokens: int = 96,
    threshold: float = 0.5,
) -> StepsEstimate:
    check_reply(
        frame,
        column,
        sources,
        intents=intents,
        source_column=source_column,
        examples=examples,
    )
    rows = read_rows(frame, [column])
    texts, _ = read_sources(sources, source_column)
    model = choose_model("reply", model)
    steps = {
        suffix[1:]: estimate_run(frame, task, model, {TEXT: column}, truncate=truncate)
        for suffix, task in reply_tasks(model, column, intents, examples).items()
    }
    # By words alone, which asks no encoder: about as many and as long as those of both.
    found = find_sources(texts, [text for (text,) in rows.texts], k, None, ledger=False)
    messages = [None if i is None else rows.texts[i][0] for i in rows.position]
    context = ["\n".join(texts[n] for n in found.get(m or "", ())) or None for m in messages]
    data = nw.from_native(frame, eager_only=True).select(column).to_native()
    both = write_columns(data, {SOURCES: (context, nw.String)})
    writing = draft(model, instruction=instruction, max_new_tokens=max_new_tokens)
    steps["draft"] = estimate_run(
        both, writing, model, {SOURCES: SOURCES, MESSAGE: column}, truncate=truncate
    )
    if encoder is not None:
        import pandas

        held = pandas.DataFrame({TEXT: texts}, dtype=object)
        finding = choose_encoder(encoder, "reply with encoder=")
        steps = {"sources": _embedding("reply", held, TEXT, finding, truncate=True), **steps}
    return StepsEstimate("reply", {name: replace(s, verb="reply") for name, s in steps.items()})


def _without_model(
    verb: str, frame: Any, column: str, work: Callable[[Sequence[str]], None]
) -> RunEstimate:
    """What a verb takes that asks no model: the time of some texts, for all of their characters."""
    rows = read_rows(frame, [column])
    texts = [text for (text,) in rows.texts]
    step = max(1, len(texts) // _TRIAL)
    tried = texts[::step][:_TRIAL]
    started = time.perf_counter()
    work(tried)
    spent = time.perf_counter() - started
    return RunEstimate(
        verb=verb,
        rows=len(rows.position),
        blank=sum(i is None for i in rows.position),
        texts=len(texts),
        known=0,
        failing=0,
        batches=0,
        tokens=0,
        padding=0,
        answer_tokens=0,
        seconds=spent * sum(map(len, texts)) / max(1, sum(map(len, tried))),
        weights=0,
        cache=0,
    )
