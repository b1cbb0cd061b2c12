"""Tasks that read fields from a text: each is a span of the text, one of a set of values, or null.

Nothing is generated, so nothing can be invented. All spans of a text, and "none", are scored as
the continuation of a statement about the field ('The order id is "'), all of them in one forward
pass. What counts is the likelihood for this field, less a share of that as any detail of the text
(`SHARE`), against "none". Since a model is biased for or against "none", differently for each
field, the difference is compared with its mean over texts of our own that state no details. A span
that several fields claim is the value of the one with the highest odds.

Measured with SmolLM2-135M on Bitext's customer support utterances. Training split, mean of the
rate of fields found and of absent ones left null, at the best margin: order id 1.00 without the
share and 1.00 with it, amount of money 0.93 and 0.98, city 1.00 and 1.00; at one margin for all,
0.95, 0.90, 0.94 and 0.99, 0.91, 0.99. The margin was then chosen on 120 other training messages
for the order id. Held out, 200 messages: order id found 0.90, null where there is none 0.92
(`benchmarks/bench_fields.py` draws others).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.engine.candidates import CandidateScorer
from nbllm.engine.prompt import Part, Template, plain
from nbllm.engine.scoring import probabilities
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks import bound_grounded
from nbllm.frame.tasks.base import Output, are_numbers, logistic
from nbllm.frame.tasks.bound_grounded import CALIBRATION, BoundGroundedTask, quoted, statement
from nbllm.frame.tasks.bound_prompt import compile_template
from nbllm.frame.tasks.fields import field_dtypes, parse_answer
from nbllm.frame.tasks.grounded_fields import NONE, READERS, GroundedField, grounded_fields, spell
from nbllm.frame.tasks.label import calibration_digest

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["GroundedTask", "grounded_template"]

# Written for this project. Half of the fields are not in their text.
_EXAMPLES: tuple[tuple[str, str, str | None], ...] = (
    ("The kettle from your shop in Leeds leaks, and I want a new one.", "city", "Leeds"),
    ("Please send the parcel to my sister instead.", "tracking number", None),
    ("My booking 66-4012 is for two people, can we make it three?", "booking number", "66-4012"),
    ("Do you have this jacket in green?", "name of the customer", None),
    ("I paid 40 euros for the repair in May and it broke again.", "price", "40 euros"),
    ("how do i change my password", "booking number", None),
    (
        "Hello, this is Ines Park, I would like to speak to somebody.",
        "name of the customer",
        "Ines Park",
    ),
    ("Flight BX212 was late by 3 hours.", "seat", None),
)


@dataclass(frozen=True)
class GroundedTask:
    """Choose each field's value among the spans of a text, or the values that its type has.

    An answer holds, for each field, the log-likelihoods of its choice, or of a span: its words,
    start and end (null where the text has none of the type), the logarithm of its odds against
    null, and of its share among all spans.
    """

    verb: str
    template: Template
    schema: Mapping[str, Any]  # as returned by `normalize_schema`; `can_be_grounded` is true of it
    scores: bool = False

    decodes = False

    @property
    def fields(self) -> list[GroundedField]:
        """The fields, in the order of the schema."""
        return grounded_fields(self.schema)

    @property
    def offset_length(self) -> int:
        return sum(field.numbers for field in self.fields)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The fields as JSON, then each one, with its probability on request."""
        columns = [Output("value", "", nw.String)]
        for name, dtype in field_dtypes(self.schema).items():
            columns.append(Output("field", f"_{name}", dtype))
            if self.scores:
                columns.append(Output("field", f"_{name}_score", nw.Float64))
        return tuple(columns)

    def parameters(self) -> dict[str, Any]:
        # The schema as text, because answers depend on the order of the fields.
        return {
            "schema": json.dumps(self.schema, ensure_ascii=False),
            "grounded": [bound_grounded.SHARE, bound_grounded.MARGIN, bound_grounded.MOST_STARTS],
            "calibration": calibration_digest(CALIBRATION),
        }

    def answer_tokens(self, model: Model) -> int:
        return 64

    def bind(self, model: Model, limit: int) -> BoundGroundedTask:
        template = compile_template(self.template, model, limit)
        return BoundGroundedTask(
            template, CandidateScorer(model, template.prefix_ids), limit, self.fields
        )

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: the numbers of a choice, or a span with its numbers."""
        fields = self.fields
        if not isinstance(value, list) or len(value) != len(fields):
            return False
        return all(map(_is_field_answer, fields, value))

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        fields = self.fields
        shifts = np.split(
            np.array(offset or [0.0] * self.offset_length),
            np.cumsum([field.numbers for field in fields])[:-1],
        )
        columns: list[list[Any]] = [[] for _ in self.outputs]
        for answer in answers:
            rivals = _rivals(fields, answer, shifts)
            found = [
                _decide(field, part, shift, rivals.get(n, 0.0))
                for n, (field, part, shift) in enumerate(zip(fields, answer, shifts, strict=True))
            ]
            written = json.dumps(
                {
                    field.name: value
                    for field, (value, _) in zip(fields, found, strict=True)
                    if value is not None or not field.omitted
                },
                ensure_ascii=False,
                separators=(",", ":"),
            )
            parsed = parse_answer(written, self.schema)
            row: list[Any] = [written]
            for field, (_, score) in zip(fields, found, strict=True):
                row += [parsed[field.name], score] if self.scores else [parsed[field.name]]
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        return columns


def grounded_template(
    model: Model,
    schema: Mapping[str, Any],
    instruction: str | None,
    examples: Sequence[tuple[str, str]],
) -> Template:
    """Return the prompt up to the row's text, which statements about the fields follow.

    Args:
        model: The model.
        schema: A schema from `normalize_schema`.
        instruction: The first line, if there is one.
        examples: Pairs of a text and its fields as JSON, which follow the built-in ones.
    """
    fields = grounded_fields(schema)
    blocks = [(text, label, value) for text, label, value in _EXAMPLES]
    for text, answer in examples:
        values = json.loads(answer)
        for field in fields:
            value = values.get(field.name)
            blocks.append((text, field.label, None if value is None else spell(value)))
    shots = "".join(
        f"Text: {text}{statement(label)}{quoted(NONE if value is None else value)}\n\n"
        for text, label, value in blocks
    )
    head = f"{instruction}\n\n" if instruction else ""
    return plain(model.tokenizer, [Part("text", f"{head}{shots}Text: "), Part("field", TEXT)])


def _is_field_answer(field: GroundedField, value: Any) -> bool:
    if field.kind == "choice":
        return are_numbers(value, field.numbers)
    if not isinstance(value, list) or len(value) != 5:
        return False
    words, start, end, *numbers = value
    if words is None:
        return start is None and end is None and numbers == [None, None]
    spanned = type(start) is int and type(end) is int
    read = isinstance(words, str) and READERS[field.kind](words) is not None
    return spanned and read and are_numbers(numbers, 2)


def _rivals(fields: Sequence[GroundedField], answer: Any, shifts: Any) -> dict[int, float]:
    """Return the likelihood of other fields that claim a field's span, beside its own.

    Without it, one order number is the order, the product and the customer.

    Returns:
        For fields that may be null and have a span: the share of those other fields, from 0 to 1,
        by their odds against null.
    """
    spans = {
        n: (part[1], part[2], part[3] - float(shift[0]))
        for n, (field, part, shift) in enumerate(zip(fields, answer, shifts, strict=True))
        if field.kind != "choice" and part[0] is not None
    }
    found = {}
    for n, (start, end, odds) in spans.items():
        others = [o for m, (s, e, o) in spans.items() if m != n and s < end and start < e]
        if others and fields[n].may_be_null:
            found[n] = 1 - float(np.exp(odds - np.logaddexp.reduce([odds, *others])))
    return found


def _decide(field: GroundedField, answer: Any, shift: Any, rivals: float) -> tuple[Any, float]:
    """Return the value of a field and its probability.

    Args:
        field: The field.
        answer: Its part of the row's answer.
        shift: Its part of the offset.
        rivals: The share of other fields that claim its span.
    """
    if field.kind == "choice":
        chance = probabilities(np.array([answer]), shift)[0]
        best = int(chance.argmax())
        return (*field.values, None)[best], float(chance[best])
    words, _, _, odds, share = answer
    if words is None:
        return None, 1.0
    present = logistic(odds - float(shift[0]))
    if field.may_be_null and (present < 0.5 or rivals > 0.5):
        return None, max(1 - present, rivals)
    return READERS[field.kind](words), exp(share) * (present if field.may_be_null else 1.0)
