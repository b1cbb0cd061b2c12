"""GPUs by name, so that a load can be planned for a machine that is not at hand.

`Where` is what planning asks about: a device of this machine, which is asked itself, or a `Card`,
of which this table says the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from nbllm.errors import ArgumentError

if TYPE_CHECKING:
    import torch

__all__ = ["CARDS", "Card", "Where", "called", "card_named", "is_of_torch"]

_GB, _GIB = 10**9, 2**30
_CUDA_CONTEXT = 500 * 10**6  # bytes that CUDA takes for a process, its kernels among them

# The CUDA compute capability that a kernel requires. bitsandbytes: its installation guide
# (https://huggingface.co/docs/bitsandbytes/v0.50.0/installation); int4: torchao's
# Int4TilePackedTo4dTensor; published formats: transformers' quantizer of each.
_REQUIRED = {
    "int8": (7, 5), "nf4": (6, 0), "fp4": (6, 0), "int4": (8, 0),
    "mxfp4": (7, 5), "fp8": (8, 9), "fbgemm_fp8": (9, 0),
}  # fmt: skip
_ON_A_MAC = ("none", "int8", "nf4", "fp4", "int8wo")


@dataclass(frozen=True)
class Card:
    """A GPU, or several alike in one machine."""

    family: str
    size: int  # GB, as it is sold
    memory: int  # bytes of each, as torch counts them
    bandwidth: int  # bytes a second that it reads from its memory
    capability: tuple[int, int] | None = None  # of CUDA; None for Apple's GPUs
    count: int = 1
    also: tuple[str, ...] = ()  # what else its family is called

    @property
    def name(self) -> str:
        """The name that `nbllm.estimate` takes."""
        return f"{self.family} {self.size} GB"

    @property
    def type(self) -> str:
        """The type of its torch device: "cuda" or "mps"."""
        return "mps" if self.capability is None else "cuda"

    @property
    def free(self) -> int:
        """The bytes of each that are free while nothing else runs on it."""
        return self.memory if self.capability is None else self.memory - _CUDA_CONTEXT

    @property
    def computes_in_bf16(self) -> bool:
        """Whether it multiplies in bf16: NVIDIA's from Ampere on, Apple's since macOS 14."""
        return self.capability is None or self.capability >= (8, 0)

    def kernel_problem(self, quantization: str, dtype: torch.dtype) -> str | None:
        """Return why it cannot run a quantization, by the documentation; None where it can.

        Args:
            quantization: as `load` takes it.
            dtype: that products are computed in.
        """
        if self.capability is None:
            return None if quantization in _ON_A_MAC else "there is no kernel for Apple's GPUs"
        least = _REQUIRED.get(quantization, (0, 0))
        if self.capability < least:
            return (
                f"its kernel requires compute capability {_dotted(least)}, and the {self.name} has "
                f"{_dotted(self.capability)}"
            )
        if quantization == "int4" and str(dtype) != "torch.bfloat16":
            return "its kernel computes in bfloat16 only"
        return None


# A device of this machine, or a card that need not be there. Both have a `type`.
Where: TypeAlias = "torch.device | Card"


def _nvidia(
    family: str, size: int, gib: float, bandwidth: int, capability: tuple[int, int], *also: str
) -> Card:
    return Card(family, size, int(gib * _GIB), bandwidth * _GB, capability, also=also)


def _apple(family: str, size: int, bandwidth: int) -> Card:
    # What Metal recommends as the most for a GPU: two thirds of the machine's memory, and three
    # quarters from 36 GB on.
    return Card(family, size, int(size * _GIB * (3 / 4 if size >= 36 else 2 / 3)), bandwidth * _GB)


# Memory as torch's messages about it state it, in GiB, which is less than what is advertised;
# bandwidth in GB/s and compute capability as their makers publish them. A card whose PCIe version
# has another bandwidth is there twice; one whose versions read alike is there once.
CARDS: tuple[Card, ...] = (
    _nvidia("T4", 16, 14.56, 320, (7, 5)),
    _nvidia("V100", 16, 15.77, 900, (7, 0), "V100 PCIe"),
    _nvidia("V100", 32, 31.73, 900, (7, 0), "V100 PCIe"),
    _nvidia("RTX 3060", 12, 11.75, 360, (8, 6)),
    _nvidia("RTX 3080", 10, 9.77, 760, (8, 6)),
    _nvidia("RTX 3080", 12, 11.75, 912, (8, 6)),
    _nvidia("RTX 3090", 24, 23.56, 936, (8, 6)),
    _nvidia("RTX 3090 Ti", 24, 23.56, 1008, (8, 6)),
    _nvidia("RTX 4070 Ti Super", 16, 15.58, 672, (8, 9)),
    _nvidia("RTX 4080", 16, 15.69, 717, (8, 9)),
    _nvidia("RTX 4080 Super", 16, 15.69, 736, (8, 9)),
    _nvidia("RTX 4090", 24, 23.51, 1008, (8, 9)),
    _nvidia("RTX 5090", 32, 31.35, 1792, (12, 0)),
    _nvidia("RTX A6000", 48, 47.40, 768, (8, 6)),
    _nvidia("RTX 6000 Ada", 48, 47.40, 960, (8, 9)),
    _nvidia("A10", 24, 21.99, 600, (8, 6)),
    _nvidia("A10G", 24, 21.99, 600, (8, 6)),
    _nvidia("L4", 24, 22.03, 300, (8, 9)),
    _nvidia("L40", 48, 44.39, 864, (8, 9)),
    _nvidia("L40S", 48, 44.39, 864, (8, 9)),
    _nvidia("A100", 40, 39.38, 1555, (8, 0), "A100 PCIe"),
    _nvidia("A100", 80, 79.14, 2039, (8, 0)),
    _nvidia("A100 PCIe", 80, 79.14, 1935, (8, 0)),
    _nvidia("H100", 80, 79.10, 3350, (9, 0)),
    _nvidia("H100 PCIe", 80, 79.10, 2000, (9, 0)),
    _nvidia("H100 NVL", 94, 93.10, 3900, (9, 0)),
    # nvidia-smi names it by the memory of its processor.
    _nvidia("GH200", 96, 94.50, 4000, (9, 0), "GH200 480 GB"),
    _nvidia("H200", 141, 139.72, 4800, (9, 0), "H200 NVL"),
    _nvidia("B200", 180, 178.35, 8000, (10, 0)),
    _apple("M1", 16, 68),
    _apple("M4", 16, 120),
    _apple("M4 Pro", 48, 273),
    _apple("M1 Max", 64, 400),
    _apple("M4 Max", 64, 546),
)

# Words of a name, as nvidia-smi and torch print it, that say nothing of which card it is.
_IDLE = re.compile(r"nvidia|geforce|tesla|apple|rtx|gpu|generation|sxm\d?|hbm\d?e?|[^a-z0-9]")
_SIZE = re.compile(r"\b(\d+)[\s-]*(?:gib|gb|g)\b")
_TIMES = re.compile(r"^(\d{1,2})\s*[x×*]\s*(?=\S)|\s*[x×*]\s*(\d{1,2})$")


def card_named(text: str) -> Card:
    """Return the card of a name, such as "T4", "rtx-4090", "a100 80gb" or "2x4090".

    Args:
        text: such a name, or what nvidia-smi and `torch.cuda.get_device_name` print, such as
            "NVIDIA A100-SXM4-80GB".

    Raises:
        ArgumentError: there is none of that name, or more than one.

    Example:
        >>> card_named("rtx-4090").name
        'RTX 4090 24 GB'
    """
    times = _TIMES.search(text.strip().lower())
    count = int(times[1] or times[2]) if times else 1
    wanted = _compact(_TIMES.sub("", text.strip().lower()))
    found = [card for card in CARDS if wanted in _spellings(card)]
    if len(found) == 1 and count > 0:
        return replace(found[0], count=count)
    if found and count > 0:
        named = " or ".join(repr(card.name) for card in found)
        raise ArgumentError(f"device={text!r} comes in several sizes. Pass {named}.")
    raise ArgumentError(
        f"device={text!r} is neither a device that torch knows nor a card that is on record. Pass "
        f"'auto', 'cpu', 'cuda', or one of {', '.join(card.name for card in CARDS)}; several as "
        "'2x RTX 4090'."
    )


def is_of_torch(device: str | torch.device) -> bool:
    """Return whether a device is one of torch's, and not a card by its name.

    Args:
        device: as `nbllm.estimate` takes it.

    Example:
        >>> is_of_torch("cuda:0"), is_of_torch("4090")
        (True, False)
    """
    import torch

    if not isinstance(device, str) or device == "auto":
        return True
    try:
        torch.device(device)
    except RuntimeError:
        return False
    return True


def called(where: Where) -> str:
    """Return a device as messages name it: "cpu", "cuda", "RTX 4090 24 GB", "2 x T4 16 GB".

    Args:
        where: a device of torch, or a card.
    """
    if not isinstance(where, Card):
        return where.type
    return where.name if where.count == 1 else f"{where.count} x {where.name}"


def _spellings(card: Card) -> set[str]:
    families = map(_compact, (card.family, *card.also))
    return {f"{family}{size}" for family in families for size in ("", card.size, f"{card.size}gb")}


def _compact(text: str) -> str:
    """Return a name without what it may be written without, its size last."""
    text = text.lower()
    sizes = "".join(f"{size}gb" for size in _SIZE.findall(text))
    return _IDLE.sub("", _SIZE.sub(" ", text)) + sizes


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
