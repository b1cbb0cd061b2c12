"""Encoders and classifier heads: one vector per text, in one forward pass.

Rows are padded on the right, whatever the tokenizer prefers: absolute positions then start
at the text, the first token is at the same place in each row, and transformers' classifiers
of decoder type find the last token by the padding's id on either side.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear, log_softmax, logsigmoid, normalize

from nbllm.engine.locks import FORWARD_LOCK, TOKENIZER_LOCK
from nbllm.engine.logits import onloaded
from nbllm.engine.padding import pad_rows
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, enclosed
from nbllm.engine.sharing import Batching, batching, groups
from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.models.kind import Kind
from nbllm.models.model import Model
from nbllm.models.sizes import largest, text_config
from nbllm.storage.json_file import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HeadScorer", "TextEncoder", "fine_logits", "framed"]

_FIELD = "text"
_KINDS: Mapping[Kind, str] = {
    "encoder": "an encoder, such as nbllm.load('minilm')",
    "classifier": "a classifier (…ForSequenceClassification)",
}


class _TextEngine(ABC):
    """Runs whole texts, between the special tokens that the model was trained with."""

    batching: Batching  # which texts may lie in one batch

    def __init__(self, model: Model, kind: Kind) -> None:
        if model.kind != kind:
            raise UnsupportedModelError(
                f"{model.name} is of kind {model.kind}, and this needs {_KINDS[kind]}."
            )
        self.model = model
        self._template = framed(model)
        config = model.network.config.get_text_config()
        self._padding: int = getattr(config, "pad_token_id", None) or 0
        parameters = inspect.signature(model.network.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in parameters else {}

    def _batching(self) -> Batching:
        """Return `sharing.batching` of this network, measured with the vectors computed here."""
        words = "a short text"
        read = self.encode([words, " ".join([words] * 5)], limit=2**62, truncate=False)
        short, longer = (prompt for prompt in read if isinstance(prompt, Prompt))
        return batching(
            self.model, lambda: self._vectors([short])[0], lambda: self._vectors([short, longer])[0]
        )

    def encode(
        self, texts: Sequence[str], *, limit: int, truncate: bool
    ) -> list[Prompt | Exception]:
        """Tokenize texts.

        Args:
            texts: any strings.
            limit: tokens that a text may have, special tokens included.
            truncate: cut the end of a text that is longer, instead of failing it.

        Returns:
            As many as texts: a `Prompt` whose field span "text" covers the text's own tokens, or
            the exception that the text raised (`TextTooLongError` where it does not fit).
        """
        encoded = self._template.encode([(text,) for text in texts], limit=limit, truncate=truncate)
        # The first special token is read anew in each row: no encoder shares it as a prefix.
        return [replace(p, prefix_length=0) if isinstance(p, Prompt) else p for p in encoded]

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        """Return the outputs of one batch; a row whose output is not finite is its error."""
        answers: dict[int, list[float] | Exception] = {}
        lengths = [len(prompt.ids) for prompt in prompts]
        for group in groups(lengths, self.batching):
            answers.update(zip(group, self._rows([prompts[n] for n in group]), strict=True))
        return [answers[n] for n in range(len(prompts))]

    def _rows(self, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        vectors = self._vectors(prompts)
        finite = vectors.isfinite().all(dim=-1).tolist()
        return [
            row if ok else ModelError("the model's output is not a finite number")
            for row, ok in zip(vectors.tolist(), finite, strict=True)
        ]

    def _vectors(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Return the vectors of one batch, shape (rows, width)."""
        ids, seen = pad_rows([prompt.ids for prompt in prompts], self._padding)
        with torch.inference_mode():
            return self._compute(ids.to(self.model.device), seen.to(self.model.device))

    def _forward(self, ids: torch.Tensor, seen: torch.Tensor) -> Any:
        return self.model.network(input_ids=ids, attention_mask=seen.long(), **self._options)

    @abstractmethod
    def _compute(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return a float32 vector per row, of ids and which are no padding, (rows, tokens)."""


class TextEncoder(_TextEngine):
    """Embeddings, pooled and scaled as the checkpoint's sentence-transformers files say.

    A checkpoint without such files gives the mean of its tokens, with no change of its length.

    Args:
        model: an encoder.

    Raises:
        UnsupportedModelError: the model is of another kind, has a pooling or module that is not
            supported, or its tokenizer gives token types.

    Example:
        >>> encoder = TextEncoder(nbllm.load("minilm"))  # doctest: +SKIP
        >>> [vector] = encoder(encoder.encode(["A quiet film."], limit=256, truncate=True))
        ... # doctest: +SKIP
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model, "encoder")
        pooling = _pooling_of(model)
        self.pooling: tuple[str, ...] = pooling.modes  # vectors of several are joined end to end
        self.normalized: bool = pooling.normalized
        self.batching: Batching = self._batching()
        hidden = largest(text_config(model.network.config), "hidden_size")
        self.dimensions: int = hidden * len(self.pooling)

    def _compute(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        hidden = self._forward(ids, seen).last_hidden_state.float()
        seen = seen.to(hidden.device)
        pooled = torch.cat([_POOLINGS[mode](hidden, seen) for mode in self.pooling], dim=-1)
        return normalize(pooled, dim=-1) if self.normalized else pooled


class HeadScorer(_TextEngine):
    """Log-probabilities of the labels that a classifier was trained on.

    Those of one row sum to 1, unless the head allows several labels per text
    (`multi_label_classification`): then each is independent.

    Args:
        model: a classifier.

    Raises:
        UnsupportedModelError: the model is of another kind, its head gives a number instead of
            labels, or its tokenizer gives token types.

    Example:
        >>> scorer = HeadScorer(nbllm.load("owner/name"))  # doctest: +SKIP
        >>> [row] = scorer(scorer.encode(["A quiet film."], limit=512, truncate=True))
        ... # doctest: +SKIP
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model, "classifier")
        config: Any = model.network.config
        multiple = config.problem_type == "multi_label_classification"
        if config.problem_type == "regression" or (config.num_labels == 1 and not multiple):
            raise UnsupportedModelError(
                f"{model.name} has a regression head: it gives a number ({config.num_labels} a "
                "text) and not the probability of labels. Take a classifier with two labels or "
                "more."
            )
        self.labels: tuple[str, ...] = tuple(
            str(config.id2label[n]) for n in range(config.num_labels)
        )
        self._log_probabilities = logsigmoid if multiple else partial(log_softmax, dim=-1)
        self.batching: Batching = self._batching()

    def _compute(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        with fine_logits(self.model.network):
            logits = self._forward(ids, seen).logits
        return self._log_probabilities(logits.float())


def framed(model: Model) -> CompiledTemplate:
    """Return a template: a text between the special tokens that the tokenizer writes around it.

    With a template, special tokens spelled out in the text stay text.

    Args:
        model: an encoder or a classifier.

    Raises:
        UnsupportedModelError: the tokenizer does more than that, or gives token types.
    """
    tokenizer = model.tokenizer
    with TOKENIZER_LOCK:
        whole: Any = tokenizer("a")
    ids = whole["input_ids"]
    template = CompiledTemplate(enclosed(tokenizer, [Part("field", _FIELD)]), tokenizer)
    [framed] = template.encode([("a",)], limit=len(ids))
    if not isinstance(framed, Prompt) or list(framed.ids) != ids:
        raise UnsupportedModelError(
            f"the tokenizer of {model.name} does not simply write its special tokens around a "
            "text, so nbllm cannot mark which tokens are the text's. Take another model."
        )
    if any(whole.get("token_type_ids", ())):
        raise UnsupportedModelError(
            f"{model.name} wants token types other than 0 for a single text, as XLNet and Funnel "
            "do, which nbllm does not give. Take another model."
        )
    return template


@dataclass(frozen=True)
class _Pooling:
    """How the vectors of a text's tokens become one vector."""

    modes: tuple[str, ...] = ("mean",)
    normalized: bool = False


# Vectors of tokens, (rows, tokens, width), and which are no padding, to (rows, width); in the
# order in which sentence-transformers joins several.
_POOLINGS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cls": lambda hidden, seen: hidden[:, 0],
    "max": lambda hidden, seen: hidden.masked_fill(~seen[..., None], -torch.inf).amax(1),
    # Not by a product with the mask: what is not finite in the padding would stay.
    "mean": lambda hidden, seen: (
        hidden.masked_fill(~seen[..., None], 0).sum(1) / seen.sum(1, keepdim=True)
    ),
    "lasttoken": lambda hidden, seen: hidden[
        torch.arange(len(hidden), device=hidden.device), seen.sum(1) - 1
    ],
}


def _pooling_of(model: Model) -> _Pooling:
    """Return the pooling that the checkpoint's modules.json and its configuration ask for.

    The files are those of sentence-transformers: its `Pooling.config_keys` names the modes.
    """
    listed = None if model.folder is None else model.folder / "modules.json"
    if listed is None or not listed.is_file():
        return _Pooling()
    pooling = _Pooling()
    for module in read_json(listed, error=ModelError):
        kind = module["type"].rpartition(".")[2]
        if kind == "Pooling":
            file = listed.parent / module["path"] / "config.json"
            config = read_json(file, error=ModelError)
            pooling = replace(pooling, modes=_modes(config, model.name))
        elif kind == "Normalize":
            pooling = replace(pooling, normalized=True)
        elif kind != "Transformer":
            raise UnsupportedModelError(
                f"{model.name} puts a module {kind} after its network (modules.json), which nbllm "
                "cannot run: only Pooling and Normalize. Take another encoder."
            )
    return pooling


def _modes(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    stated = config.get("pooling_mode")
    if stated is None:
        switches = [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
        stated = [
            key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for key in switches
        ]
    asked = [stated] if isinstance(stated, str) else list(stated)
    unknown = [mode for mode in asked if mode not in _POOLINGS]
    if unknown or not asked:
        raise UnsupportedModelError(
            f"{name} pools its tokens by {', '.join(unknown) or 'no mode at all'}, which nbllm "
            f"cannot do: only by {', '.join(_POOLINGS)}. Take another encoder."
        )
    return tuple(mode for mode in _POOLINGS if mode in asked)


@contextmanager
def fine_logits(network: PreTrainedModel) -> Iterator[None]:
    """Have the network's last layer compute in float32 while the context is open.

    A bf16 logit of 5 is rounded to steps of 1/32, which would put the scores on a coarse grid.
    A head that is quantized, or is no linear layer, is left as it is.

    Args:
        network: with a head for labels or spans.
    """

    def again(
        head: torch.nn.Linear, inputs: tuple[torch.Tensor], logits: torch.Tensor
    ) -> torch.Tensor:
        with onloaded(head) as there:
            if not there:
                return logits
            bias = None if head.bias is None else head.bias.float()
            states = inputs[0].to(head.weight.device).float()
            return linear(states, head.weight.float(), bias).to(logits.device)

    heads = [
        module
        for module in network.modules()
        if type(module) is torch.nn.Linear
        and module.out_features == network.config.num_labels
        and type(module.weight) is torch.nn.Parameter
    ]
    with FORWARD_LOCK:
        hooks = [head.register_forward_hook(again) for head in heads[-1:]]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
