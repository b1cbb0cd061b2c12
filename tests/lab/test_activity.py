"""What the panel is told, and what its cancel does: with real kernels on a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from nbllm.activity.jobs import Job
from nbllm.activity.owner import this_process
from nbllm.activity.processes import DeviceMemory, HeldModel, ProcessRecord, announce
from nbllm.lab.devices import HostMemory, devices, host_memory
from nbllm.lab.status import Status
from tests.lab.conftest import Running, as_json

GB = 10**9

# In a kernel: holds a model, as far as others can tell, and works until it is told to stop.
HOLDS = """
from nbllm.activity.processes import HeldModel, announce
announce([HeldModel("k1", "smollm2", "nf4", "bfloat16", "cpu", 7, 2, {"cpu": 7})])
"""
WORKS = """
import time
from nbllm.activity.jobs import Job
job = Job.begin(verb="filter", output="kept", model="smollm2", rows=12, texts=9)
while not job.cancelled:
    job.update(answered=3, known=1, failed=1, share=0.5, rows_per_second=2.5, seconds_left=4.0)
    time.sleep(0.02)
job.end("cancelled")
"""


def begin() -> Job:
    return Job.begin(verb="sentiment", output="r_sentiment", model="smollm2", rows=10, texts=8)


def held(name: str, spread: dict[str, int], shares: int = 1) -> HeldModel:
    return HeldModel(
        key="k",
        name=name,
        quantization="none",
        dtype="bfloat16",
        device=next(iter(spread)),
        bytes=sum(spread.values()),
        shares=shares,
        bytes_by_device=spread,
    )


@pytest.fixture
def notebook(page: httpx.Client, server: Running) -> Iterator[tuple[str, BlockingKernelClient]]:
    """The kernel of `work/a.ipynb`, which is running, and a client of it."""
    (server.root / "work").mkdir(exist_ok=True)
    asked = {
        "path": "work/a.ipynb",
        "name": "a.ipynb",
        "type": "notebook",
        "kernel": {"name": "python3"},
    }
    session = as_json(page.post("api/sessions", json=asked), 201)
    kernel = session["kernel"]["id"]
    file = Path(server.app.kernel_manager.get_kernel(kernel).connection_file)
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    wait_for(client)
    yield session["id"], client
    client.stop_channels()
    page.delete(f"api/sessions/{session['id']}")


def wait_for(client: BlockingKernelClient) -> None:
    """Until the kernel answers. A busy machine starts it late, and its heart is taken for still."""
    end = time.monotonic() + 60
    while True:
        try:
            client.wait_for_ready(timeout=60)
            return
        except RuntimeError:
            if time.monotonic() > end:
                raise


def until(ask: Callable[[], dict[str, Any]], good: Callable[[dict[str, Any]], Any]) -> Any:
    """The first answer that is good."""
    end = time.monotonic() + 20
    while not good(answer := ask()):
        assert time.monotonic() < end, answer
        time.sleep(0.02)
    return answer


def test_a_notebook_from_its_first_model_to_the_death_of_its_kernel(
    page: httpx.Client, notebook: tuple[str, BlockingKernelClient]
) -> None:
    session, client = notebook

    def activity() -> Any:
        return as_json(page.get("nbllm/activity"))

    assert activity()["processes"] == activity()["jobs"] == []
    client.execute(HOLDS, reply=True, timeout=60)
    (process,) = activity()["processes"]
    assert process["notebook"] == "work/a.ipynb"
    (kernel,) = (k["id"] for k in as_json(page.get("api/kernels")))
    assert process["kernel"] == kernel
    (model,) = process["models"]
    assert model.pop("bytes_by_device") == {"cpu": 7}
    assert model == {
        "key": "k1",
        "name": "smollm2",
        "quantization": "nf4",
        "dtype": "bfloat16",
        "device": "cpu",
        "bytes": 7,
        "shares": 2,
    }
    (machine,) = activity()["devices"]
    assert machine["device"] == "cpu"
    assert machine["models"] == [{"name": "smollm2", "process": process["process"], "bytes": 7}]

    # Renamed while its kernel lives, as JupyterLab tells the server.
    renamed = {"path": "work/b.ipynb", "name": "b.ipynb", "type": "notebook"}
    as_json(page.patch(f"api/sessions/{session}", json=renamed))
    client.execute(WORKS)
    seen = until(activity, lambda seen: [job for job in seen["jobs"] if job["answered"]])
    (job,) = seen["jobs"]
    assert job == {
        "id": job["id"],
        "verb": "filter",
        "output": "kept",
        "model": "smollm2",
        "state": "running",
        "unit": "text",
        "rows": 12,
        "texts": 9,
        "answered": 3,
        "known": 1,
        "failed": 1,
        "share": 0.5,
        "rows_per_second": 2.5,
        "seconds_left": 4.0,
        "started": pytest.approx(time.time(), abs=30),
        "updated": pytest.approx(time.time(), abs=30),
        "cancelling": False,
        "notebook": "work/b.ipynb",
        "kernel": kernel,
        "error": "",
    }
    assert page.post(f"nbllm/jobs/{job['id']}/cancel").status_code == 204
    seen = until(activity, lambda seen: seen["jobs"][0]["state"] != "running")
    assert (seen["jobs"][0]["state"], seen["jobs"][0]["cancelling"]) == ("cancelled", False)

    client.execute(WORKS)
    seen = until(activity, lambda seen: seen["jobs"][0]["state"] == "running")
    psutil.Process(seen["processes"][0]["pid"]).kill()
    seen = until(activity, lambda seen: seen["jobs"][0]["state"] != "running")
    assert [job["state"] for job in seen["jobs"]] == ["lost", "cancelled"]
    assert seen["processes"] == [] and seen["devices"][0]["models"] == []


def test_what_cannot_be_cancelled_says_why(page: httpx.Client) -> None:
    job = begin()
    job.end("done")
    said = as_json(page.post(f"nbllm/jobs/{job.id}/cancel"), 409)["message"]
    assert "is not running: it is done" in said and "nothing to cancel" in said
    for name in ("none", "..%2f..%2fx", "%2e%2e", "100%25", "%3Cb%3E", "%00", "%ff"):
        answer = page.post(f"nbllm/jobs/{name}/cancel")
        assert answer.status_code in (400, 404), name
        assert answer.headers["content-type"].startswith("application/json")
    said = as_json(page.post("nbllm/jobs/100%25/cancel"), 404)["message"]
    assert said.startswith("There is no job '100%'.")


def test_damaged_files_and_infinities_do_not_break_the_list(
    page: httpx.Client, activity: Path
) -> None:
    job = begin()
    announce([held("smollm2", {"cpu": 5})])
    for folder in ("jobs", "processes"):
        (good,) = (activity / folder).glob("*.json")
        name = f"{'0' * 12}-{'0' * 8}.json" if folder == "jobs" else "bad-1.json"
        for text in ("{", '{"rows": NaN}', good.read_text().replace('": 0.0', '": Infinity')):
            (activity / folder / name).write_text(text)
            seen = as_json(page.get("nbllm/activity"))
            assert [seen["id"] for seen in seen["jobs"]] == [job.id]
            assert [process["models"][0]["name"] for process in seen["processes"]] == ["smollm2"]


def test_a_home_that_cannot_be_read_is_an_empty_list(page: httpx.Client, activity: Path) -> None:
    activity.write_text("")
    seen = as_json(page.get("nbllm/activity"))
    assert (seen["jobs"], seen["processes"]) == ([], [])
    assert seen["devices"][0]["total"] > 0


def test_text_of_a_user_stays_text(page: httpx.Client) -> None:
    job = Job.begin(
        verb="prompt", output="<script>alert(1)</script>", model="é 🙂", rows=1, texts=1
    )
    job.end("failed", "</script><img src=x onerror=alert(1)>")
    answer = page.get("nbllm/activity")
    assert answer.headers["content-type"].startswith("application/json")
    (seen,) = answer.json()["jobs"]
    assert (seen["output"], seen["model"]) == ("<script>alert(1)</script>", "é 🙂")
    assert seen["error"] == "</script><img src=x onerror=alert(1)>"


def test_a_notebook_is_named_from_the_servers_folder(tmp_path: Path) -> None:
    owner = replace(this_process(), kernel="k", notebook=str(tmp_path / "a" / "b.ipynb"))
    process = ProcessRecord(owner, (), (), 0.0)

    def name(sessions: dict[str, str | None], root: Path) -> Any:
        (told,) = Status([process], [], []).payload(sessions, root)["processes"]
        return told["notebook"]

    assert name({}, tmp_path) == "a/b.ipynb"
    assert name({}, tmp_path / "a") == "b.ipynb"
    assert name({}, tmp_path / "other") is None
    assert name({}, tmp_path / "a" / "b") is None
    assert name({"k": "renamed.ipynb"}, tmp_path) == "renamed.ipynb"
    assert name({"k": None}, tmp_path) is None


def test_a_list_of_200_jobs_is_told_in_little_time(page: httpx.Client) -> None:
    for _ in range(200):
        begin().end("done")
    page.get("nbllm/activity")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        answer = page.get("nbllm/activity")
        times.append(time.perf_counter() - start)
        assert len(answer.json()["jobs"]) == 200
    assert min(times) < 0.1
    # Over a line to a hub, several times a second.
    assert answer.num_bytes_downloaded < 20_000 < len(answer.content)
    plain = page.get("nbllm/activity", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.json()["jobs"] == answer.json()["jobs"]


# -- memory -----------------------------------------------------------------------------------


def record(pid: int, models: list[HeldModel], seen: list[DeviceMemory], at: float) -> ProcessRecord:
    owner = replace(this_process(), pid=pid)
    return ProcessRecord(owner, tuple(models), tuple(seen), at)


def gpu(name: str, identity: str, free: int) -> DeviceMemory:
    return DeviceMemory(name, identity, total=80 * GB, free=free)


def test_the_machines_memory_is_that_of_psutil_or_of_the_container() -> None:
    told = host_memory()
    assert 0 < told.used < told.total <= psutil.virtual_memory().total


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    for module in ("nbllm.models.memory.budget", "nbllm.lab.devices"):
        monkeypatch.setattr(f"{module}._CGROUP", tmp_path)
    assert host_memory() == HostMemory(total=1000, used=450)
    (tmp_path / "memory.stat").unlink()
    assert host_memory().total == 1000 >= host_memory().used


def test_models_are_counted_where_they_lie() -> None:
    told = devices(
        [
            record(1, [held("a", {"cuda:0": 3, "cpu": 1})], [gpu("cuda:0", "G0", 50 * GB)], 1.0),
            record(2, [held("b", {"cuda:0": 9})], [gpu("cuda:0", "G0", 40 * GB)], 2.0),
            record(3, [held("c", {"mps": 2})], [], 3.0),
        ],
        HostMemory(100, 60),
    )
    assert told == [
        {
            "device": "cpu",
            "total": 100,
            "used": 60,
            "models": [
                {"name": "a", "process": record(1, [], [], 0).id, "bytes": 1},
                {"name": "c", "process": record(3, [], [], 0).id, "bytes": 2},
            ],
        },
        {
            "device": "cuda:0",
            "total": 80 * GB,
            "used": 40 * GB,  # as the second saw it, later
            "models": [
                {"name": "a", "process": record(1, [], [], 0).id, "bytes": 3},
                {"name": "b", "process": record(2, [], [], 0).id, "bytes": 9},
            ],
        },
    ]


def test_two_accelerators_that_are_both_called_the_first_stay_two() -> None:
    told = devices(
        [
            record(1, [held("a", {"cuda:0": 3})], [gpu("cuda:0", "aaaaaaaa-1", 1)], 1.0),
            record(2, [held("b", {"cuda:0": 9})], [gpu("cuda:0", "bbbbbbbb-2", 2)], 2.0),
        ],
        HostMemory(100, 60),
    )
    assert [
        (device["device"], [model["name"] for model in device["models"]]) for device in told
    ] == [
        ("cpu", []),
        ("cuda:0 (aaaaaaaa)", ["a"]),
        ("cuda:0 (bbbbbbbb)", ["b"]),
    ]
    assert json.dumps(told)
