"""Why a row got this label and not the other: attribution, layers and attention in one place."""

from __future__ import annotations

import warnings
from functools import cached_property

import pandas as pd
from IPython.display import DisplayHandle

from nbllm.attention.analysis.attribution import Attribution, attribute
from nbllm.attention.analysis.lens import logit_lens
from nbllm.attention.analysis.logit_parts import direct_logit_attribution
from nbllm.attention.analysis.rank_agreement import agreement, attended, top_shared
from nbllm.attention.recording.generated import append_tokens
from nbllm.attention.recording.recording import Recording
from nbllm.attention.recording.word_alignment import word_numbers
from nbllm.engine.prompt import Prompt
from nbllm.errors import NbllmError, SelectionError
from nbllm.escaping import escape, visible
from nbllm.frame.explanation.contrast import Contrast
from nbllm.models.model import Model
from nbllm.widgets.attention.view import AttentionView, inspect
from nbllm.widgets.attribution_html import attribution_html
from nbllm.wording import counted

__all__ = ["Explanation"]

_WAITING = "Which words speak for it is being computed …"


class Explanation:
    """The evidence for an answer: attribution, layers and attention. Returned by `df.llm.explain`.

    Each part is computed when it is first read; shown in a notebook, the attention comes
    first and the words of the row are coloured when their scores are there.

    - `attention`: the AttentionView of the prompt that answered the row
    - `attribution`: which of the row's tokens speak for the label and which for the other
    - `parts`: what each head and layer adds to the difference of the two logits
    - `lens`: the two labels after each layer
    - `agreement`: how far each head looks at what the answer depends on
    - `words()`, `frame()`: scores and attention by word and by token

    All but `attention` are about labels, and raise SelectionError where an answer was written;
    `parts` and `lens` read causal models, and raise UnsupportedModelError for a classifier.

        why = answered.llm.explain(3)
        why.words().nlargest(5, "attribution")
        why.attention.layer = 12
    """

    def __init__(self, model: Model, prompt: Prompt, contrast: Contrast | None) -> None:
        self.model = model
        self.contrast = contrast
        shared = contrast.shared if contrast else ()
        self.prompt: Prompt = append_tokens(prompt, shared, model.tokenizer) if shared else prompt

    def __repr__(self) -> str:
        tokens = f"{self.model.name}, {counted(len(self.prompt.ids), 'token')}"
        if self.contrast is None:
            return visible(f"Explanation(attention of {tokens})")
        found = self.contrast
        return visible(
            f"Explanation({found.label!r} {found.probability:.2f}, not {found.other!r} "
            f"{found.other_probability:.2f}, {tokens})"
        )

    @cached_property
    def attention(self) -> AttentionView:
        """The view of the attention, whose layer, head and token can be read and set."""
        return inspect(self.model, self.prompt)

    @property
    def recording(self) -> Recording:
        """The attention itself."""
        return self.attention.recording

    @cached_property
    def attribution(self) -> Attribution:
        """Integrated gradients of the label's logit less the other's, over the row's own words."""
        found = self._labels()
        return attribute(self.model, self.prompt, target=found.target, against=found.against)

    @cached_property
    def parts(self) -> pd.DataFrame:
        """Direct logit attribution of the label less the other, one row a part of the model."""
        found = self._labels()
        return direct_logit_attribution(self.model, self.prompt, found.target, found.against)

    @cached_property
    def lens(self) -> pd.DataFrame:
        """The model's prediction after each layer: layer, label, token and log_probability.

        The token is the first one that tells the labels apart. Layer 0 is the embeddings.
        """
        found = self._labels()
        tokens = [found.target, found.against]
        logs = logit_lens(self.model, self.prompt, positions=[-1]).log_probabilities(tokens)[:, 0]
        layers = len(logs)
        return pd.DataFrame(
            {
                "layer": [layer for layer in range(layers) for _ in tokens],
                "label": [found.label, found.other] * layers,
                "token": [self.model.tokenizer.decode([token]) for token in tokens] * layers,
                "log_probability": logs.ravel(),
            }
        )

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """One row a head: rank correlation and overlap of its attention with the attribution."""
        return agreement(self.recording, self.attribution)

    def frame(self) -> pd.DataFrame:
        """One row a token of the row's own: token, start, stop, attribution and attention.

        Start and stop are its character range in `prompt.text`. Attribution is in logits;
        attention is what the token that the answer is read at gives it, the mean of all heads.
        """
        found = self.attribution.frame().rename(columns={"score": "attribution"})
        found["attention"] = attended(self.recording)
        return found[found["varied"]].drop(columns="varied").reset_index(drop=True)

    def words(self) -> pd.DataFrame:
        """As `frame`, with the tokens of a word added up: word, start, stop and so on."""
        tokens = self.frame()
        spans = list(zip(tokens["start"], tokens["stop"], strict=True))
        joined = tokens.groupby(word_numbers(self.prompt.text, spans)).agg(
            start=("start", "min"),
            stop=("stop", "max"),
            attribution=("attribution", "sum"),
            attention=("attention", "sum"),
        )
        joined.insert(
            0,
            "word",
            [
                self.prompt.text[start:stop].strip()
                for start, stop in zip(joined["start"], joined["stop"], strict=True)
            ],
        )
        return joined

    def _labels(self) -> Contrast:
        if self.contrast is None:
            raise SelectionError(
                "This answer is no choice between labels, so there is no other one to hold it "
                "against; `.attention` shows what the model looked at. To attribute a single "
                "token, use nbllm.attention.attribute(model, text, target=...)."
            )
        return self.contrast

    def _ipython_display_(self) -> None:
        """Show the view, and the coloured words above it as soon as they are there."""
        if self.contrast is None:
            self.attention._ipython_display_()
            return
        place = DisplayHandle()  # type: ignore[no-untyped-call]
        place.display({"text/plain": _WAITING, "text/html": f"<p>{_WAITING}</p>"}, raw=True)  # type: ignore[no-untyped-call]
        self.attention._ipython_display_()
        place.update({"text/plain": repr(self), "text/html": self.words_html()}, raw=True)  # type: ignore[no-untyped-call]

    def words_html(self) -> str:
        """Return the row's words coloured by their attribution, as HTML, or why there are none."""
        found = self._labels()
        try:
            with warnings.catch_warnings():
                # Of the gap, which is shown.
                warnings.simplefilter("ignore", UserWarning)
                attribution, words = self.attribution, self.words()
        except NbllmError as error:
            return f"<p>{escape(repr(self))}</p><p>No attribution: {escape(str(error))}</p>"
        shared = top_shared(words["attribution"].abs(), words["attention"])
        return attribution_html(found, words, attribution.gap, attribution.steps, shared)
