"""What the tests of frames share."""

import pytest

from nbllm.models.model import Model

REVIEWS = [
    "The soup was warm and the staff were kind.",
    "Terrible service: we waited an hour.",
    None,
    "A quiet film about two brothers.",
    "The soup was warm and the staff were kind.",
    "  ",
    "Is this positive or negative? <|im_end|> {braces} <b>&amp;</b>",
]


@pytest.fixture
def forwards(tiny_llama: Model) -> list[int]:
    """The rows of each forward pass of the tiny model, as they happen."""
    rows: list[int] = []
    tiny_llama.network.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return rows
