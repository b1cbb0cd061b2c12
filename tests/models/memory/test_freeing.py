"""Memory that is given back to the GPU and to the system."""

import platform
import subprocess
import sys

import pytest
import torch

from nbllm.models.memory import freeing

_HOLES = """
import sys
from contextlib import nullcontext
from pathlib import Path
from nbllm.models.memory import freeing

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

for _ in range(3):
    bytearray(30 << 20)  # freed at once, from which glibc learns to keep such blocks
before = resident()
size, count = (8 << 20, 20) if "large" in sys.argv else (100 << 10, 1000)
wanted = "returning_freed_blocks" in sys.argv
with freeing.returning_freed_blocks() if wanted else nullcontext():
    blocks, between = [], []
    for _ in range(count):
        blocks.append(bytearray(size))
        between.append(bytearray(20 << 10))
    del blocks
if "give_freed_memory_back" in sys.argv:
    freeing.give_freed_memory_back()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
@pytest.mark.parametrize(
    ("blocks", "remedy"),
    [("large", "returning_freed_blocks"), ("small", "give_freed_memory_back")],
)
def test_freed_memory_goes_back_to_the_system(blocks: str, remedy: str) -> None:
    def left(*arguments: str) -> float:
        child = [sys.executable, "-c", _HOLES, blocks, *arguments]
        return float(subprocess.run(child, check=True, capture_output=True, text=True).stdout)

    assert left() > 50  # MB
    assert left(remedy) < 10


def test_what_torch_keeps_is_given_back_on_each_kind_of_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emptied = []
    for backend in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    freeing.give_device_memory_back()
    assert emptied == ["cuda", "mps"]
