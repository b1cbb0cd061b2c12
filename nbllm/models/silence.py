"""Temporarily silences third-party logging."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

__all__ = ["hush_int8_casts", "quiet"]

_CHATTY = (
    "accelerate", "bitsandbytes", "compressed_tensors", "gguf", "huggingface_hub", "peft",
    "torch.utils._pytree", "torchao",
)  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, log lines and loading bars of the libraries below, then restore all."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def hush_int8_casts() -> None:
    """Drop the one line that bitsandbytes logs at every int8 matrix product."""
    logger = logging.getLogger("bitsandbytes.autograd._functions")
    if _is_not_a_cast not in logger.filters:
        logger.addFilter(_is_not_a_cast)


def _is_not_a_cast(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("MatMul8bitLt: inputs will be cast")
