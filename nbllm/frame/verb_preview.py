"""What each verb would do with one row, without asking the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.encoding import framed
from nbllm.engine.prompt import Prompt
from nbllm.frame.call_checks import check_call
from nbllm.frame.columns import index_labels, read_rows, row_position, row_values
from nbllm.frame.masking.masker import Masker, masked
from nbllm.frame.prompts.reply import MESSAGE, SOURCES, draft
from nbllm.frame.running.preview import Preview, PreviewStep, StepsPreview
from nbllm.frame.tasks.extractive_qa import ReaderTask
from nbllm.frame.tasks.prompted import compiled
from nbllm.frame.verbs.embed import choose_encoder, embed
from nbllm.frame.verbs.recommend import read_histories
from nbllm.frame.verbs.registry import choose_model, make_task, verb_columns
from nbllm.frame.verbs.reply import check_reply, find_sources, read_sources, reply_tasks
from nbllm.frame.verbs.search import read_queries, terms
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model, ModelLike

__all__ = ["preview_verb"]

_SHOWN = 3  # queries or labels that are written out


def preview_verb(
    frame: Any,
    verb: str,
    subject: str,
    options: Mapping[str, Any],
    *,
    row: Any,
    model: ModelLike | None,
    truncate: bool,
) -> Preview | StepsPreview:
    """What a verb would do with one row.

    Args:
        subject: the verb's first argument: a column, or a prompt.
        options: its other arguments.
        row: label in the index (position in polars); by default the first row.
        model: by default the one that the verb would ask.
        truncate: cut what does not fit, instead of refusing it.

    Raises:
        ColumnError: the column is not there.
        FrameError: no such verb or row, or a row without text.
        TextTooLongError: a text that does not fit.
    """
    if verb == "mask":
        return _mask(_text(frame, subject, row), **options)
    if verb == "search":
        return _search(_text(frame, subject, row), model, truncate, **options)
    if verb == "recommend":
        return _recommend(frame, _text(frame, subject, row), model, truncate, **options)
    if verb == "reply":
        return _reply(frame, subject, row, model, truncate, **options)
    check_call(frame, verb, subject, options)
    columns = verb_columns(verb, subject, options)
    texts = row_values(
        frame, list(columns.values()), row_position(frame, row), any_type=verb == "prompt"
    )
    model = choose_model(verb, model)
    return Preview(_prompt(make_task(verb, subject, model, options), model, texts, truncate))


def _prompt(task: Task, model: Model, texts: tuple[str, ...], truncate: bool) -> Prompt:
    limit = model.context_length - task.answer_tokens(model)
    if isinstance(task, ReaderTask):  # which reads a long text in pieces
        [prompt] = task.on(model, limit).encode([texts], truncate=truncate)
    else:
        template = task.template
        ready = compiled(template, model, limit) if template else framed(model)
        [prompt] = ready.encode([texts], limit=limit, truncate=truncate)
    if isinstance(prompt, Exception):
        raise prompt
    # No encoder shares its first special token, which is read anew in each row.
    return prompt if task.template else replace(prompt, prefix_length=0)


def _text(frame: Any, column: str, row: Any) -> str:
    read_rows(frame, [column])  # refuses what is no column of texts
    [text] = row_values(frame, [column], row_position(frame, row))
    return text


def _reply(
    frame: Any,
    column: str,
    row: Any,
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
) -> StepsPreview:
    check_reply(
        frame,
        column,
        sources,
        intents=intents,
        source_column=source_column,
        examples=examples,
    )
    message = _text(frame, column, row)
    model = choose_model("reply", model)
    tasks = reply_tasks(model, column, intents, examples)
    if encoder is not None:
        encoder = choose_encoder(encoder, "reply with encoder=")
    texts, labels = read_sources(sources, source_column)
    steps = [
        PreviewStep.of(
            f"{suffix[1:]}: the model's likelihood of each label",
            Preview(_prompt(task, model, (message,), truncate)),
        )
        for suffix, task in tasks.items()
    ]
    found = find_sources(texts, [message], k, encoder, ledger=False)[message]
    how = "by words" if encoder is None else "by words and by meaning"
    listed = "\n".join(f"{labels[n]}: {texts[n]}" for n in found)
    steps.append(PreviewStep(f"sources, found {how}", listed or "none matches"))
    if found:
        writing = draft(model, instruction=instruction, max_new_tokens=max_new_tokens)
        # In the order of the columns that `reply` asks about.
        fields = {SOURCES: "\n".join(texts[n] for n in found), MESSAGE: message}
        prompt = _prompt(writing, model, tuple(fields.values()), truncate)
        steps.append(PreviewStep.of("draft: what the model goes on from", Preview(prompt)))
    else:
        steps.append(PreviewStep("draft", "none, and a person is due"))
    return StepsPreview("reply", tuple(steps))


def _embedded(title: str, text: str, encoder: Model, truncate: bool) -> PreviewStep:
    return PreviewStep.of(title, Preview(_prompt(embed(encoder), encoder, (text,), truncate)))


def _search(
    text: str,
    model: ModelLike | None,
    truncate: bool,
    *,
    query: str | Sequence[str],
    k: int = 10,
    how: str = "fused",
) -> StepsPreview:
    queries = read_queries(query)
    steps = []
    if how != "dense":
        words = ", ".join(dict.fromkeys(terms(text)))
        steps.append(PreviewStep("by words: what counts of the row", words or "nothing"))
        steps += [
            PreviewStep(f"by words: what counts of {asked!r}", ", ".join(terms(asked)) or "nothing")
            for asked in queries[:_SHOWN]
        ]
    if how != "bm25":
        encoder = choose_encoder(model, "search")
        name = encoder.name
        steps.append(_embedded(f"by meaning: the row, embedded by {name}", text, encoder, truncate))
        steps += [
            _embedded(f"by meaning: a query, embedded by {name}", asked, encoder, truncate)
            for asked in queries[:_SHOWN]
        ]
    ranked = {
        "bm25": "By BM25 of the words in common. No model is asked.",
        "dense": "By the cosine of row and query.",
        "fused": "By the sum of 1 / (60 + rank) over the ranks by words (BM25) and by meaning "
        "(cosine).",
    }[how]
    many = f"The first {counted(k, 'row')}" + (
        f" of each of {counted(len(queries), 'query', 'queries')}" * (len(queries) > 1)
    )
    steps.append(PreviewStep("ranking", f"{ranked} {many}, best first."))
    return StepsPreview("search", tuple(steps))


def _recommend(
    frame: Any, text: str, model: ModelLike | None, truncate: bool, *, history: Any, k: int = 10
) -> StepsPreview:
    liked = read_histories(frame, history)
    encoder = choose_encoder(model, "recommend")
    labels = index_labels(frame)
    if nw.dependencies.is_into_dataframe(history):
        items = sum(map(len, liked.values()))
        whose = (
            f"what each of {counted(len(liked), 'user')} liked ({counted(items, 'item')} in all)"
        )
    else:
        [rows] = liked.values()
        more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        whose = ", ".join(repr(labels[row]) for row in rows[:_SHOWN]) + more
    return StepsPreview(
        "recommend",
        (
            _embedded(f"the item, embedded by {encoder.name}", text, encoder, truncate),
            PreviewStep(
                "ranking",
                f"By the cosine with the nearest of {whose}. The first {counted(k, 'item')} that "
                "were not liked before, best first.",
            ),
        ),
    )


def _mask(
    text: str, *, entities: Sequence[str] | None = None, language: str = "en"
) -> StepsPreview:
    masker = Masker(entities, language)
    found = masker.find(text)
    by = [f"{entity}: {', '.join(names)}" for entity, names in masker.recognizers().items()]
    seen = [(item.start, item.end) for item in found]
    listed = ", ".join(f"{item.entity} {item.score:.2f}" for item in found)
    return StepsPreview(
        "mask",
        (
            PreviewStep("entities, and presidio's recognizers of each", "\n".join(by)),
            PreviewStep("the row; what would be masked is marked", text, seen, listed or "nothing"),
            PreviewStep("masked", masked(text, found), note="No model is asked."),
            PreviewStep("what stays as it is", masker.not_looked_for),
        ),
    )
