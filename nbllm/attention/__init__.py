"""Attention of a model: recordings, views of them, and analyses.

    from nbllm.attention import attention_rollout, head_measures, record

    recording = record(model, "The plot was thin, but I loved it.")
    head_measures(recording).nlargest(5, "previous_token")
    attention_rollout(recording, rows=[len(recording) - 1])

Names are imported when they are first used, so that nothing heavy is loaded before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbllm.attention.analysis.ablation import head_importance
    from nbllm.attention.analysis.attribution import Attribution, attribute
    from nbllm.attention.analysis.lens import LogitLens, logit_lens
    from nbllm.attention.analysis.logit_parts import direct_logit_attribution
    from nbllm.attention.analysis.measures import head_measures, induction_scores
    from nbllm.attention.analysis.rank_agreement import agreement
    from nbllm.attention.analysis.rollout import attention_rollout
    from nbllm.attention.recording.capture import record, record_batch
    from nbllm.attention.recording.recording import EncoderDecoderRecording, Recording, TokenRow
    from nbllm.attention.views.overview import Overview, survey
    from nbllm.attention.views.tiles import (
        combined,
        dimension_scores,
        pooled,
        thumbnails,
        top_edges,
    )

__all__ = [
    "Attribution",
    "EncoderDecoderRecording",
    "LogitLens",
    "Overview",
    "Recording",
    "TokenRow",
    "agreement",
    "attention_rollout",
    "attribute",
    "combined",
    "dimension_scores",
    "direct_logit_attribution",
    "head_importance",
    "head_measures",
    "induction_scores",
    "logit_lens",
    "pooled",
    "record",
    "record_batch",
    "survey",
    "thumbnails",
    "top_edges",
]

# A name must not be that of a module here: importing the module would put it in its place.
_WHERE = {
    name: module
    for module, names in {
        "analysis.ablation": ["head_importance"],
        "analysis.attribution": ["Attribution", "attribute"],
        "analysis.lens": ["LogitLens", "logit_lens"],
        "analysis.logit_parts": ["direct_logit_attribution"],
        "analysis.measures": ["head_measures", "induction_scores"],
        "analysis.rank_agreement": ["agreement"],
        "analysis.rollout": ["attention_rollout"],
        "recording.capture": ["record", "record_batch"],
        "recording.recording": ["EncoderDecoderRecording", "Recording", "TokenRow"],
        "views.overview": ["Overview", "survey"],
        "views.tiles": ["combined", "dimension_scores", "pooled", "thumbnails", "top_edges"],
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"nbllm.attention.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'nbllm.attention' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
