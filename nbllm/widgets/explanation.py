"""Explanation of a row's label: attribution, logit lens and attention."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cached_property

import pandas as pd
from IPython.display import DisplayHandle, display

from nbllm.attention.analysis.attribution import Attribution, attribute
from nbllm.attention.analysis.lens import logit_lens
from nbllm.attention.analysis.logit_parts import direct_logit_attribution
from nbllm.attention.analysis.rank_agreement import agreement, attended, top_shared
from nbllm.attention.recording.generated import append_tokens
from nbllm.attention.recording.recording import Recording
from nbllm.attention.recording.word_alignment import word_numbers
from nbllm.display.table import Table
from nbllm.engine.prompt import Prompt
from nbllm.errors import NbllmError, SelectionError
from nbllm.escaping import escape, visible
from nbllm.frame.explanation.contrast import Contrast
from nbllm.frame.explanation.evidence import passages, source_of
from nbllm.frame.explanation.quotes import Quote
from nbllm.models.model import Model
from nbllm.widgets.attention.view import AttentionView, inspect
from nbllm.widgets.attribution_html import attribution_html
from nbllm.widgets.quotes_html import quotes_html
from nbllm.wording import counted

__all__ = ["Explanation"]

_WAITING = "Which words speak for it is being computed …"


class Explanation:
    """The evidence for an answer: attribution, logit lens and attention; see `df.llm.explain`.

    Each part is computed when it is first read. A notebook shows the attention first, and the
    coloured words of the row once their scores are computed.

    - `attention`: the AttentionView of the prompt that answered the row
    - `attribution`: attribution of the label's logit less the other's, by token of the row
    - `parts`: the contribution of each head and layer to the difference of the two logits
    - `lens`: the log-probabilities of the two labels after each layer
    - `agreement`: the agreement of each head's attention with the attribution
    - `words()`, `frame()`: attribution and attention by word and by token
    - `quotes`: what the answer quotes from its text, as character offsets in the prompt
    - `evidence()`: the sentences of an answer about a text, with the sentence that shows each

    All but `attention`, `quotes` and `evidence` compare labels, and raise SelectionError if the
    answer is a generated text; `parts` and `lens` require a causal model, and raise
    UnsupportedModelError for a classifier.

        why = answered.llm.explain(3)
        why.words().nlargest(5, "attribution")
        why.attention.layer = 12
    """

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        contrast: Contrast | None,
        quotes: Sequence[Quote] = (),
    ) -> None:
        self.model = model
        self.quotes = quotes
        self.contrast = contrast
        shared = contrast.shared if contrast else ()
        self.prompt: Prompt = append_tokens(prompt, shared, model.tokenizer) if shared else prompt

    def __repr__(self) -> str:
        tokens = f"{self.model.name}, {counted(len(self.prompt.ids), 'token')}"
        if self.contrast is None:
            return visible(f"Explanation(attention of {tokens})")
        contrast = self.contrast
        return visible(
            f"Explanation({contrast.label!r} {contrast.probability:.2f}, not {contrast.other!r} "
            f"{contrast.other_probability:.2f}, {tokens})"
        )

    @cached_property
    def attention(self) -> AttentionView:
        """The attention viewer on the prompt that answered the row."""
        return inspect(self.model, self.prompt)

    @property
    def recording(self) -> Recording:
        """The recording that `attention` shows."""
        return self.attention.recording

    @cached_property
    def attribution(self) -> Attribution:
        """Integrated gradients of the label's logit less the other's, over the row's own tokens."""
        contrast = self._labels()
        return attribute(self.model, self.prompt, target=contrast.target, against=contrast.against)

    @cached_property
    def parts(self) -> pd.DataFrame:
        """Direct logit attribution of the label less the other, one row per model component."""
        contrast = self._labels()
        return direct_logit_attribution(self.model, self.prompt, contrast.target, contrast.against)

    @cached_property
    def lens(self) -> pd.DataFrame:
        """The logit lens on both labels: layer, label, token and log_probability.

        The token is the first in which the two labels differ. Layer 0 is the embeddings.
        """
        contrast = self._labels()
        tokens = [contrast.target, contrast.against]
        logs = logit_lens(self.model, self.prompt, positions=[-1]).log_probabilities(tokens)[:, 0]
        layers = len(logs)
        return pd.DataFrame(
            {
                "layer": [layer for layer in range(layers) for _ in tokens],
                "label": [contrast.label, contrast.other] * layers,
                "token": [self.model.tokenizer.decode([token]) for token in tokens] * layers,
                "log_probability": logs.ravel(),
            }
        )

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Rank correlation and overlap of attention with attribution, one row per head."""
        return agreement(self.recording, self.attribution)

    def frame(self) -> pd.DataFrame:
        """Return attribution and attention, one row per token of the row's own text.

        Returns:
            The columns token, start and stop (character range in `prompt.text`), attribution (in
            logits) and attention (from the token that the answer is read at, averaged over heads).
        """
        tokens = self.attribution.frame().rename(columns={"score": "attribution"})
        tokens["attention"] = attended(self.recording)
        return tokens[tokens["varied"]].drop(columns="varied").reset_index(drop=True)

    def words(self) -> pd.DataFrame:
        """Return `frame()` by word: tokens are added up, and the column word has the text."""
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

    def evidence(self) -> pd.DataFrame:
        """Return the sentences of a summary, with the sentence of the text nearest to each.

        Returns:
            A frame with one row per sentence and the columns sentence and evidence (by BM25;
            missing if the text has no word of it), attention (of the attention to the text with
            which the sentence is read, the share on its evidence, as the mean of all heads; missing
            for an encoder-decoder), and share (of the text's tokens that the evidence has, which
            attention to all alike would give). Empty where the answer is not about a text.
        """
        rows = []
        for passage in passages(self.prompt):
            attention, share = math.nan, 0.0
            if passage.evidence is not None:
                text, found = self._tokens(passage.source), self._tokens(passage.evidence)
                share = len(found) / len(text)
                # An encoder-decoder reads text and answer apart.
                if self.model.kind == "causal":
                    # The token before is the one from which a token is predicted.
                    read = [n - 1 for n in self._tokens(passage.sentence) if n > 0]
                    weights = attended(self.recording, read)
                    attention = float(weights[found].sum() / max(weights[text].sum(), 1e-12))
            spans = (passage.sentence, passage.evidence)
            texts = [None if span is None else self.prompt.text[slice(*span)] for span in spans]
            rows.append((*texts, attention, share))
        return pd.DataFrame(rows, columns=["sentence", "evidence", "attention", "share"])

    def evidence_html(self) -> str:
        """Return the text with the answer's quotations marked, else `evidence()` as a table.

        Empty where there is neither.
        """
        source = source_of(self.prompt)
        if self.quotes and source is not None:
            start, end = source
            quotes = [Quote(q.name, q.start - start, q.end - start) for q in self.quotes]
            return quotes_html(self.prompt.text[start:end], quotes)
        found = self.evidence()
        if not found["evidence"].notna().any():
            return ""
        cells = [
            (sentence, evidence, "" if math.isnan(weight) else f"{weight:.0%}", f"{share:.0%}")
            for sentence, evidence, weight, share in found.fillna({"evidence": ""}).to_numpy()
        ]
        return Table(
            cells,
            head=("sentence", "nearest in the text", "attention to it", "its share of the text"),
            columns=("long", "long", "number", "number"),
            label="The sentences of the answer and their evidence",
        ).html()

    def _tokens(self, characters: tuple[int, int]) -> list[int]:
        """Return the positions of the tokens that have some of these characters of the prompt."""
        start, stop = characters
        return [n for n, (a, b) in enumerate(self.prompt.spans) if a < stop and b > start and a < b]

    def _labels(self) -> Contrast:
        if self.contrast is None:
            raise SelectionError(
                "This answer is no choice between labels, so there is no other one to hold it "
                "against; `.attention` shows what the model looked at. To attribute a single "
                "token, use nbllm.attention.attribute(model, text, target=...)."
            )
        return self.contrast

    def _ipython_display_(self) -> None:
        """Show the attention viewer and, once computed, the coloured words above it."""
        if self.contrast is None:
            table = self.evidence_html()
            if table:
                display({"text/plain": repr(self), "text/html": table}, raw=True)  # type: ignore[no-untyped-call]
            self.attention._ipython_display_()
            return
        place = DisplayHandle()  # type: ignore[no-untyped-call]
        place.display({"text/plain": _WAITING, "text/html": f"<p>{_WAITING}</p>"}, raw=True)  # type: ignore[no-untyped-call]
        self.attention._ipython_display_()
        place.update({"text/plain": repr(self), "text/html": self.words_html()}, raw=True)  # type: ignore[no-untyped-call]

    def words_html(self) -> str:
        """Return the words coloured by attribution as HTML, or the error that prevents it."""
        contrast = self._labels()
        try:
            with warnings.catch_warnings():
                # About the completeness gap, which the HTML reports.
                warnings.simplefilter("ignore", UserWarning)
                attribution, words = self.attribution, self.words()
        except NbllmError as error:
            return f"<p>{escape(repr(self))}</p><p>No attribution: {escape(str(error))}</p>"
        shared = top_shared(words["attribution"].abs(), words["attention"])
        return attribution_html(contrast, words, attribution.gap, attribution.steps, shared)
