"""A view of attention in the notebook: nbllm beside BertViz, in bytes and in time.

SmolLM2 reads the same text. Bytes are those that the front end stores with the cell: of nbllm
the whole output of `inspect`, still picture included, of BertViz the HTML of `head_view` with all
layers. Time is of processors, from the loaded model to the finished output, the forward pass
included: BertViz has to be given the weights of all heads, which eager attention writes down. Each
row is measured once in a process of its own, since BertViz takes gigabytes.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from typing import Any

TOKENS = (64, 256, 512)
WAYS = ("nbllm", "bertviz")


def run() -> list[dict[str, Any]]:
    if importlib.util.find_spec("bertviz") is None:
        print("bertviz is not installed, so it is left out: `make bench` installs it.")
    ways = WAYS if importlib.util.find_spec("bertviz") else WAYS[:1]
    rows = []
    for tokens in TOKENS:
        ours: dict[str, float] = {}
        for way in ways:
            done = subprocess.run(
                [sys.executable, __file__, way, str(tokens)],
                check=True,
                capture_output=True,
                text=True,
            )
            measured = json.loads(done.stdout.splitlines()[-1])
            ours = ours or measured
            rows.append(
                {
                    "tokens": tokens,
                    "viewer": way,
                    "bytes": measured["bytes"],
                    "times nbllm's bytes": measured["bytes"] / ours["bytes"],
                    "CPU s": measured["cpu"],
                    "times nbllm's time": measured["cpu"] / ours["cpu"],
                }
            )
    return rows


def measure(way: str, tokens: int) -> dict[str, float]:
    """Bytes of one view, and the seconds that it took."""
    import nbllm

    model = nbllm.load()
    text = str(model.tokenizer.decode(model.tokenizer(TEXT * tokens).input_ids[:tokens]))
    build = ours if way == "nbllm" else theirs
    build(model, " ".join(text.split()[:8]))  # imports, and what is made once
    start = time.process_time()
    size = build(model, text)
    return {"bytes": size, "cpu": time.process_time() - start}


TEXT = "The plot was thin, but the actors were a joy to watch, and I would see it again. "


def ours(model: Any, text: str) -> int:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    import nbllm

    InteractiveShell.instance()
    with capture_output() as captured:
        nbllm.inspect(model, text)._ipython_display_()
    return sum(len(json.dumps(output.data)) for output in captured.outputs)


def theirs(model: Any, text: str) -> int:
    import torch
    from bertviz import head_view

    model.network.set_attn_implementation("eager")
    ids = model.tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        said = model.network(input_ids=ids, output_attentions=True)
    attention = [layer.float() for layer in said.attentions]
    tokens = model.tokenizer.convert_ids_to_tokens(ids[0])
    return len(head_view(attention, tokens, html_action="return").data)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
