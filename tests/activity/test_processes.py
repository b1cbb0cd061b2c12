"""Which process holds which model, as the others read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbllm.activity.jobs import Job
from nbllm.activity.owner import this_process
from nbllm.activity.processes import DeviceMemory, HeldModel, announce, processes
from nbllm.errors import ModelError

MODEL = HeldModel(
    key="k",
    name="smollm2",
    quantization="none",
    dtype="float32",
    device="cpu",
    bytes=100,
    shares=1,
    bytes_by_device={"cpu": 100},
)

# Announces a model, says so, waits to be told to end, and says that it ends.
HOLDER = """
import sys
from nbllm.activity.processes import HeldModel, announce
announce([HeldModel("k", "gemma", "nf4", "bfloat16", "cpu", 7, 1, {"cpu": 7})])
print("announced", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(*options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *options],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "announced\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "processes").iterdir())


def test_what_is_announced_is_read(folder: Path) -> None:
    device = DeviceMemory("cuda:0", "GPU-1", total=1000, free=600)
    announce([MODEL], [device])
    (record,) = processes()
    assert (record.models, record.devices) == ((MODEL,), (device,))
    assert record.owner == this_process()
    assert record.owner.pid == os.getpid()
    announce([])
    assert processes() == [] and files(folder) == []


def test_two_notebooks_with_one_model_are_two_processes() -> None:
    with holder("-f", "/run/kernel-aa-1.json", JPY_SESSION_NAME="/home/me/a.ipynb"):
        with holder("--f=/run/kernel-bb-2.json", JPY_SESSION_NAME="/home/me/b.ipynb"):
            first, second = processes()
        assert [record.owner.kernel for record in (first, second)] == ["aa-1", "bb-2"]
        assert [r.owner.notebook for r in (first, second)] == [
            "/home/me/a.ipynb",
            "/home/me/b.ipynb",
        ]
        assert first.models == second.models
        assert first.id != second.id


def test_one_that_ends_takes_its_record_along(folder: Path) -> None:
    with holder() as process:
        assert len(files(folder)) == 1
        process.communicate("\n")
        assert files(folder) == []


def test_one_that_was_killed_is_left_out_and_cleaned_up(folder: Path) -> None:
    with holder() as process:
        process.kill()
        process.wait()
        assert len(files(folder)) == 1
        assert processes() == []
        assert files(folder) == []


def test_a_damaged_record_is_left_out(folder: Path) -> None:
    announce([MODEL])
    (mine,) = files(folder)
    record = json.loads(mine.read_text())
    for i, bad in enumerate(
        [
            "{",
            "[]",
            json.dumps(record | {"models": [{}]}),
            json.dumps(record | {"models": [record["models"][0] | {"bytes_by_device": 3}]}),
            json.dumps(record | {"announced": float("nan")}),
        ]
    ):
        mine.with_name(f"bad-{i}.json").write_text(bad)
    assert [seen.owner.pid for seen in processes()] == [os.getpid()]
    assert files(folder) == [mine]


def test_a_record_of_another_machine_is_neither_shown_nor_removed(folder: Path) -> None:
    announce([MODEL])
    (mine,) = files(folder)
    record = json.loads(mine.read_text())
    elsewhere = replace(this_process(), space="another machine")
    record["owner"] = asdict(elsewhere)
    other = mine.with_name(f"{elsewhere.id}.json")
    other.write_text(json.dumps(record))
    assert len(processes()) == 1 and other.exists()
    other.write_text(json.dumps(record | {"announced": 0}))
    assert len(processes()) == 1 and not other.exists()


def test_a_home_that_cannot_be_written_stops_nothing(folder: Path) -> None:
    folder.write_text("")
    announce([MODEL])
    announce([])
    assert processes() == []


def test_a_forked_child_leaves_the_record_of_its_parent(folder: Path) -> None:
    code = (
        "import os, sys\n"
        "from nbllm.activity.processes import HeldModel, announce, processes\n"
        "announce([HeldModel('k', 'gemma', 'nf4', 'bfloat16', 'cpu', 7, 1, {'cpu': 7})])\n"
        "child = os.fork()\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n"
        "    print(len(processes()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_process_is_the_same_when_someone_sets_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere the system itself keeps the time at which a process started")
    import psutil

    announce([MODEL])
    create_time, boot_time = psutil.Process.create_time, psutil.boot_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + 7200)
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time() + 7200)
    assert len(processes()) == 1


# -- what loading announces -----------------------------------------------------------------


@pytest.fixture
def tiny(tiny_folder: Callable[[Any], Path]) -> Iterator[str]:
    from nbllm.models.in_memory import loaded

    kept = loaded()
    yield str(tiny_folder("causal"))
    for model in loaded():
        if model not in kept:
            model.unload()


def announced(name: str) -> tuple[HeldModel, ...]:
    """What this process says that it holds of one model; other tests may hold others."""
    return tuple(m for record in processes() for m in record.models if m.name == name)


def test_loading_and_unloading_are_announced(tiny: str) -> None:
    from nbllm.models.loader import load
    from nbllm.models.memory.budget import held_bytes

    model = load(tiny, dtype="fp32", device="cpu")
    (held,) = announced(tiny)
    assert (held.quantization, held.dtype, held.device) == ("none", "float32", "cpu")
    # Two layers of a LLaMA in 32 bits, counted by torch.
    assert held.bytes == held_bytes(model.network) == model.network.get_memory_footprint()
    assert held.bytes_by_device == {"cpu": held.bytes}
    assert held.shares == 1
    with load(tiny, dtype="fp32", device="cpu"):
        (twice,) = announced(tiny)
        assert (twice.shares, twice.bytes, twice.key) == (2, held.bytes, held.key)
    assert [seen.shares for seen in announced(tiny)] == [1]
    model.unload()
    assert announced(tiny) == ()


def test_a_model_is_unloaded_by_its_key_whoever_shares_it(tiny: str) -> None:
    from nbllm.models.in_memory import unload
    from nbllm.models.loader import load

    shared = [load(tiny, dtype="fp32", device="cpu") for _ in range(2)]
    other = load(tiny, dtype="bf16", device="cpu")
    keys = {held.dtype: held.key for held in announced(tiny)}
    unload(keys["float32"])
    assert [model.loaded for model in (*shared, other)] == [False, False, True]
    assert [held.dtype for held in announced(tiny)] == ["bfloat16"]
    with pytest.raises(ModelError, match="No model with the key"):
        unload(keys["float32"])


def test_a_model_that_answers_in_the_background_is_not_unloaded_by_its_key(tiny: str) -> None:
    from nbllm.models.in_memory import unload
    from nbllm.models.loader import load

    model = load(tiny, dtype="fp32", device="cpu")
    (held,) = announced(tiny)
    job = Job.begin(verb="sentiment", output="o", model=tiny, rows=1, texts=1)
    with pytest.raises(ModelError, match=r"answers 'sentiment' in the background\. Cancel"):
        unload(held.key)
    assert model.loaded
    job.end("cancelled")
    unload(held.key)
    assert not model.loaded


def test_a_home_that_cannot_be_written_stops_no_load(tiny: str, folder: Path) -> None:
    from nbllm.models.loader import load

    folder.write_text("")
    with load(tiny, dtype="fp32", device="cpu") as model:
        assert model.loaded
    assert processes() == []


def test_what_lies_on_several_devices_is_counted_on_each() -> None:
    import torch

    from nbllm.models.memory.budget import held_by_device, held_bytes

    network: Any = torch.nn.Sequential(
        torch.nn.Linear(4, 4, bias=False, device="cpu"),
        torch.nn.Linear(4, 8, bias=False, device="meta"),
    )
    assert held_by_device(network) == {"cpu": 64}
    assert held_bytes(network) == 64


def test_an_accelerators_memory_is_announced_where_something_lies_on_it(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from nbllm.models import in_memory
    from nbllm.models.loader import load

    asked = []

    def memory(device: str) -> tuple[int, int]:
        asked.append(device)
        return 600, 1000  # free and total, in torch's order

    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-7")
    )
    with load(tiny, dtype="fp32", device="cpu"):
        assert asked == []
        monkeypatch.setattr(in_memory, "held_by_device", lambda network: {"cpu": 1, "cuda:1": 2})
        with load(tiny, dtype="fp32", device="cpu"):
            (record,) = processes()
    assert record.devices == (DeviceMemory("cuda:1", "GPU-7", total=1000, free=600),)
    assert record.models[-1].bytes_by_device == {"cpu": 1, "cuda:1": 2}
    assert set(asked) == {"cuda:1"}
