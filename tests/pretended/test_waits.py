"""How often the host waits for a GPU: a wait of each layer or token leaves the GPU idle as often.

A wait of 20 microseconds is little beside a pass of an 8B model and much beside one kernel. So what
is bounded here is how many there are, of nbllm's own lines, and what they do not grow with.
transformers adds some of its own, a token and a pass.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import transformers

import nbllm
from nbllm.attention.analysis import measures, rank_agreement, rollout
from nbllm.attention.analysis.ablation import head_importance
from nbllm.attention.analysis.logit_parts import direct_logit_attribution
from nbllm.attention.recording.capture import record, record_batch
from nbllm.attention.recording.recording import Recording
from nbllm.attention.views import overview, tiles
from nbllm.engine.encoding import HeadScorer, TextEncoder
from nbllm.engine.generation import TextGenerator
from nbllm.engine.perplexity import perplexity
from nbllm.engine.scoring import LabelScorer
from nbllm.models.model import Model
from tests.conftest import seeded, tiny_model
from tests.pretended.device import move, pretended
from tests.pretended.jobs import SCHEMA, TEXT, TEXTS, made, prompts_of


def deep(layers: int) -> Model:
    """A causal model of so many layers."""
    model = tiny_model("causal")
    config = replace_layers(model.network.config, layers)
    return replace(model, network=seeded(transformers.LlamaForCausalLM, config))


def replace_layers(config: Any, layers: int) -> Any:
    return type(config)(**{**config.to_dict(), "num_hidden_layers": layers, "layer_types": None})


def counted(model: Model, prepare: Callable[[Model], Callable[[], object]]) -> int:
    """The waits of nbllm's own lines, on one GPU, of what `prepare` returns."""
    with pretended() as waits:
        move(model.network, "cuda:0")
        work = prepare(model)
        waits.clear()
        work()
        return waits.within("nbllm")


# -- a batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("layers", [2, 5])
def test_a_batch_of_scores(rows: int, layers: int) -> None:
    def prepare(model: Model) -> Callable[[], object]:
        prefix, prompts = prompts_of(model, TEXTS)
        scorer = LabelScorer(model, prefix, [[5], [6, 7], [6, 8]])
        return lambda: scorer.score(prompts[:rows])

    # Its tokens go there and how many of them are padding, and the likelihoods come back.
    assert counted(deep(layers), prepare) == 3


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("reader", [TextEncoder, HeadScorer])
def test_a_batch_of_vectors(reader: Any, rows: int) -> None:
    def prepare(model: Model) -> Callable[[], object]:
        read = reader(model)
        encoded = read.encode(TEXTS[:rows], limit=64, truncate=True)
        return lambda: read(encoded)

    # Tokens and mask go there; the vectors and whether they are finite come back.
    kind = "encoder: vectors" if reader is TextEncoder else "classifier: labels"
    assert counted(made(kind), prepare) <= 4


@pytest.mark.parametrize("texts", [1, 3])
def test_perplexity(texts: int) -> None:
    # Two batches at most, of which the first is a quarter: tokens, mask, what counts, the token
    # that goes through with the states, and the losses.
    alike = [TEXT] * texts
    per_batch = counted(made("perplexity"), lambda model: lambda: perplexity(model, alike))
    assert per_batch <= 2 * 6


# -- a token -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("layers", [2, 5])
def test_a_token_that_is_written(rows: int, layers: int) -> None:
    def prepare(tokens: int) -> Callable[[Model], Callable[[], object]]:
        def of(model: Model) -> Callable[[], object]:
            model.network.generation_config.eos_token_id = None
            prefix, prompts = prompts_of(model, TEXTS)
            generator = TextGenerator(model, prefix, max_new_tokens=tokens)
            return lambda: generator(prompts[:rows])

        return of

    few, more = (counted(deep(layers), prepare(tokens)) for tokens in (4, 12))
    # Whether rows are finished.
    assert (more - few) / 8 <= 1


@pytest.mark.parametrize("layers", [2, 5])
def test_a_token_of_a_schema(layers: int) -> None:
    def prepare(rows: int) -> Callable[[Model], Callable[[], object]]:
        def of(model: Model) -> Callable[[], object]:
            prefix, prompts = prompts_of(model, [TEXT] * 3)
            generator = TextGenerator(model, prefix, max_new_tokens=30, schema=SCHEMA)
            return lambda: generator(prompts[:rows])

        return of

    one, three = (counted(deep(layers), prepare(rows)) for rows in (1, 3))
    # Rows that are alike write alike: what one token waits, those beside it do not wait again.
    assert one == three <= 30 * 4 + 8


def test_a_token_that_is_recorded() -> None:
    def prepare(tokens: int) -> Callable[[Model], Callable[[], object]]:
        return lambda model: lambda: record(model, TEXT, generate=tokens)

    few, more = (counted(deep(2), prepare(tokens)) for tokens in (2, 6))
    # Which it is.
    assert more - few == 4


# -- a recording -------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [2, 5])
def test_a_recording(layers: int) -> None:
    # The tokens go there, the gaps come back: no layer is waited for.
    assert counted(deep(layers), lambda model: lambda: record(model, TEXT)) == 2


@pytest.mark.parametrize("layers", [2, 5])
def test_recordings_of_a_batch(layers: int) -> None:
    # Tokens and mask go there, and of each text the gaps come back.
    assert counted(deep(layers), lambda model: lambda: record_batch(model, TEXTS)) == 2 + 3


@pytest.mark.parametrize("layers", [2, 5])
def test_a_recording_in_a_file(layers: int) -> None:
    work = counted(deep(layers), lambda model: lambda: record(model, TEXT, offload=True))
    # Queries and keys of each layer come to the host.
    assert work == 2 + 2 * layers


# -- what is read off a recording ----------------------------------------------------------------

# Of each: what comes to the host, or goes there.
READ: dict[str, tuple[Callable[[Recording], object], int]] = {
    "a whole head": (lambda r: tiles.pooled(r, 0, 0, side=8), 1),
    "a window of a head": (lambda r: tiles.pooled(r, 0, 0, rows=(3, 9), side=8, masked=1), 1),
    "a layer": (lambda r: tiles.combined(r, 0, side=8), 1),
    "thumbnails, a group of heads at a time": (
        lambda r: tiles.thumbnails(r, 0, sink=0, size=8),
        2,
    ),
    "edges: places and weights": (lambda r: tiles.top_edges(r, 0, 0, k=5, without=0), 2),
    "weights": (lambda r: r.weights(0, 0, rows=[1, 2], columns=[4]), 1),
    "overview: what is received, and the opening": (lambda r: overview.survey(r), 2),
    "measures, after an overview": (lambda r: measures.head_measures(r), 3),
    "rollout: its rows, and itself": (lambda r: rollout.attention_rollout(r, masked=0), 2),
    "what is attended": (lambda r: rank_agreement.attended(r), 1),
}


@pytest.mark.parametrize("layers", [2, 5])
@pytest.mark.parametrize("name", READ)
def test_what_is_read_off_a_recording(name: str, layers: int) -> None:
    read, allowed = READ[name]

    def prepare(model: Model) -> Callable[[], object]:
        recording = record(model, TEXT)
        return lambda: read(recording)

    assert counted(deep(layers), prepare) == allowed


# -- what asks the model -------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [2, 5])
def test_a_lens(layers: int) -> None:
    def prepare(model: Model) -> Callable[[], object]:
        return lambda: nbllm.attention.logit_lens(model, TEXT).frame()

    # One pass, a check of the last layer, and one part of all states.
    assert counted(deep(layers), prepare) <= 12


@pytest.mark.parametrize("layers", [2, 5])
def test_an_ablation(layers: int) -> None:
    # One pass: its tokens, the answer and the falls.
    assert counted(deep(layers), lambda model: lambda: head_importance(model, TEXT[:20])) == 3


def test_a_layer_of_logit_parts() -> None:
    def prepare(model: Model) -> Callable[[], object]:
        return lambda: direct_logit_attribution(model, TEXT, 7)

    few, more = (counted(deep(layers), prepare) for layers in (2, 5))
    # Whether it is a sum, and which matrix its heads end in.
    assert more - few == 3 * 2
