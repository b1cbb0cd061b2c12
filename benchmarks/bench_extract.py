"""Extraction by a model of 135M parameters: how many of 200 answers fit their schema.

Each answer is checked by jsonschema, not by what wrote it. Beside it, in the same run, what the
same model writes when it is only told the schema, on the first 40 rows.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import jsonschema
import pandas as pd
from meter import Meter

import nbllm

ROWS = 200
FREE_ROWS = 40
SCHEMA = {
    "type": "object",
    "properties": {
        "opinion": {"enum": ["good", "bad", "mixed"]},
        "subject": {"type": "string", "maxLength": 40},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "recommended": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"type": "string", "maxLength": 60}, "maxItems": 3},
    },
    "required": ["opinion", "subject", "stars", "recommended", "reasons"],
    "additionalProperties": False,
}


def run() -> list[dict[str, Any]]:
    reviews = nbllm.data.load("reviews")
    # As many again as it takes, each with something in it that JSON has to escape.
    again = reviews.assign(text='"' + reviews["text"] + '"\n\\ no. 2')
    frame = pd.concat([reviews, again], ignore_index=True).head(ROWS)
    model = nbllm.load()
    meter = Meter(model.device)
    options: dict[str, Any] = {"model": model, "ledger": False}
    shown = json.dumps(SCHEMA).replace("{", "{{").replace("}", "}}")
    asked = f"Answer with JSON that fits this schema, and nothing else: {shown}\n\n{{text}}"
    works = {
        "extract": (frame, lambda f: f.llm.extract("text", SCHEMA, keep=("value",), **options)),
        "prompt that shows the schema": (
            frame.head(FREE_ROWS),
            lambda f: f.llm.prompt(asked, into="text_extract", max_new_tokens=150, **options),
        ),
    }
    rows = []
    for name, (some, work) in works.items():
        answered, spent = meter.spent(partial(work, some))
        answers = answered["text_extract"]
        rows.append(
            {
                "way": name,
                "rows": len(some),
                "answered": int(answers.notna().sum()),
                "valid": sum(map(fits, answers)),
                "rows / CPU s": len(some) / spent.cpu,
            }
        )
    return rows


def fits(answer: Any) -> bool:
    """Whether an answer is what the schema asks for."""
    try:
        jsonschema.validate(json.loads(answer) if isinstance(answer, str) else answer, SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
