"""Accuracy, precision, recall and F1 of labels, by scikit-learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from nbllm.stats import proportion

__all__ = ["label_metrics"]


def label_metrics(
    truth: Sequence[str], found: Sequence[str | None], labels: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy, precision, recall and F1, of all rows and by label, with a baseline.

    Args:
        truth: The true labels.
        found: The answers; None where a row has none, which counts as wrong.
        labels: All labels.

    Returns:
        Figures by name; the baseline is the accuracy of the commonest label.
    """
    from sklearn.metrics import precision_recall_fscore_support

    answered = ["" if label is None else str(label) for label in found]
    how: dict[str, Any] = {"labels": list(labels), "zero_division": 0}
    precision, recall, f1, rows = precision_recall_fscore_support(truth, answered, **how)
    over = precision_recall_fscore_support(truth, answered, average="macro", **how)
    right = sum(a == b for a, b in zip(truth, answered, strict=True))
    accuracy = proportion(right, len(truth), 0.95)
    return {
        "accuracy": accuracy.value,
        "accuracy, 95 % interval": [accuracy.low, accuracy.high],
        "accuracy of the commonest label": max(Counter(truth).values()) / len(truth),
        "precision": float(over[0]),
        "recall": float(over[1]),
        "f1": float(over[2]),
        "labels": {
            label: {
                "precision": float(precision[n]),
                "recall": float(recall[n]),
                "f1": float(f1[n]),
                "rows": int(rows[n]),
            }
            for n, label in enumerate(labels)
        },
    }
