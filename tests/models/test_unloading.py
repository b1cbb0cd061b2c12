"""Memory that a load and an unload give back, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import byte_tokenizer, seeded

# Bytes of anonymous memory and of files that this process holds, before, with and without the
# model. A first, tiny one brings in whatever the libraries keep for themselves.
MEASURE = """
import json, os, sys, torch
from nbllm.models.loader import load

def resident():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {key: int(status[key].split()[0]) * 1024 for key in ("RssAnon", "RssFile")}

def use(model):
    tokens = model.tokenizer(["The soup was warm."] * 4, return_tensors="pt")
    with torch.inference_mode():
        model.network(**tokens)

tiny, large, *choices = sys.argv[1:]
for quantize in choices:
    with load(tiny, quantize=quantize, dtype="bf16") as model:
        use(model)
    before = resident()
    model = load(large, quantize=quantize, dtype="bf16")
    loaded = resident()
    use(model)
    used = resident()
    size = model.network.get_memory_footprint()
    model.unload()
    moments = {"before": before, "loaded": loaded, "used": used, "after": resident()}
    print(json.dumps({"size": size, **moments}))
"""


def write(folder: Path, width: int, layers: int) -> Path:
    """A random LLaMA in bf16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    seeded(LlamaForCausalLM, config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.long
def test_unloading_gives_the_memory_back(tmp_path: Path) -> None:
    folders = write(tmp_path / "tiny", 64, 2), write(tmp_path / "large", 1024, 6)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, folders), "none", "int8", "nf4"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(measured) == 3
    for moments in measured:
        size = moments["size"]
        assert size > 50e6
        before = sum(moments["before"].values())
        assert sum(moments["used"].values()) - before > 0.9 * size
        assert sum(moments["after"].values()) - before < 0.1 * size
        # What a quantized layer was made from is given back at once; pages of the file that it
        # was read from do not count, since the system takes them back whenever it needs them.
        grown = moments["loaded"]["RssAnon"] - moments["before"]["RssAnon"]
        assert grown < 1.25 * size
