"""Answers texts on several workers: a Ray Data stage with one model per worker.

A worker computes answers as this process would, and returns them. The ledger, the calibration and
the decoding of answers stay in this process. Ray restarts a worker that dies, and repeats the
chunks that it had not returned.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from nbllm._warnings import warn_user
from nbllm.engine.runner import BatchResult
from nbllm.errors import FrameError
from nbllm.frame.running.local import answer_locally, renumbered
from nbllm.models.flops import TokenCounts
from nbllm.models.memory.budget import held_bytes
from nbllm.models.memory.placement import placement
from nbllm.wording import byte_size, counted

if TYPE_CHECKING:
    from types import ModuleType

    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model

__all__ = ["Pool", "answer_on_workers", "pool_of_workers"]

# A chunk is what Ray repeats when a worker dies. Several per worker balance the load at the end.
_CHUNK_SIZE = 256  # texts, at most
_CHUNKS_PER_WORKER = 4  # at least


def answer_on_workers(
    texts: Sequence[tuple[str, ...]],
    task: Task,
    model: Model,
    record: Mapping[str, Any],
    offset: list[float] | None,
    *,
    workers: int | None = None,
) -> Iterator[BatchResult]:
    """Answer texts on a pool of workers.

    Args:
        texts: The texts, one string per field of the task's template.
        task: The task.
        model: The model, which each worker loads again from its provenance.
        record: The record of the run.
        offset: The calibration offset, subtracted from the scores.
        workers: The number of workers; by default one per GPU, or one per four CPU cores.

    Yields:
        The result of each batch, by index in `texts`, in the order in which chunks finish.

    Raises:
        FrameError: Ray is not installed, or there are not enough GPUs.
    """
    import pyarrow

    with pool_of_workers(workers, model) as pool:
        size = min(_CHUNK_SIZE, math.ceil(len(texts) / (_CHUNKS_PER_WORKER * pool.size)))
        # Chunks of texts of similar length need less padding; the longest first, as in a local run.
        order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        # As JSON, since Arrow cannot store lone surrogates.
        tables = [
            pyarrow.table({"n": chunk, "text": [json.dumps(texts[n]) for n in chunk]})
            for chunk in chunks
        ]
        for batch in pool.stream(
            pool.data.from_arrow(tables),
            _Answering,
            (task, model.provenance(), record["limit"], record["truncate"], offset),
            parts=len(chunks),
        ):
            for done in batch["done"]:
                yield _from_json(json.loads(done))


class _Answering:
    """A worker that answers chunks of texts."""

    def __init__(
        self,
        task: Task,
        provenance: Mapping[str, str],
        limit: int,
        truncate: bool,
        offset: list[float] | None,
    ) -> None:
        from nbllm.models.loader import reload

        self.model = reload(provenance)
        self.bound = task.bind(self.model, limit)
        self.bound.calibrate(offset)
        self.task = task
        self.truncate = truncate

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        numbers = batch["n"].tolist()
        texts = [tuple(json.loads(text)) for text in batch["text"]]
        batches = answer_locally(texts, self.task, self.model, self.bound, truncate=self.truncate)
        return {"done": [json.dumps(asdict(renumbered(done, numbers))) for done in batches]}


def _from_json(fields: Mapping[str, Any]) -> BatchResult:
    """Return the result of a worker, whose integer keys JSON turned into strings."""
    by_index = {
        name: {int(n): value for n, value in fields[name].items()} for name in ("answers", "errors")
    }
    return BatchResult(**{**fields, **by_index, "read": TokenCounts(**fields["read"])})


@dataclass(frozen=True)
class Pool:
    """Ray workers, each with its own copy of the model."""

    data: ModuleType  # ray.data
    size: int
    cpus: float  # per worker
    gpus: int | None  # per worker

    def stream(
        self, dataset: Any, worker: type, arguments: tuple[Any, ...], *, parts: int
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the outputs of the workers for each block of a data set, as they finish.

        Args:
            dataset: The Ray data set.
            worker: A callable class, created once per worker.
            arguments: The arguments of its constructor.
            parts: The number of blocks.
        """
        stage = dataset.map_batches(
            worker,
            fn_constructor_args=arguments,
            batch_size=None,
            batch_format="numpy",
            compute=self.data.ActorPoolStrategy(
                size=min(self.size, parts), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=self.cpus,
            num_gpus=self.gpus,
        )
        yield from stage.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)


@contextmanager
def pool_of_workers(workers: int | None, model: Model) -> Iterator[Pool]:
    """Yield a pool of Ray workers; starts Ray unless it runs, and hides its progress bars.

    Args:
        workers: The number of workers; by default one per GPU, or one per four CPU cores.
        model: The model that each worker will load.

    Raises:
        FrameError: Ray is not installed, or there are not enough GPUs.
    """
    # Ray reports usage statistics over the network by default.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise FrameError(
            "engine='ray' needs Ray, which is not installed. Install it with "
            "pip install 'nbllm[ray]'."
        ) from error
    if not ray.is_initialized():
        _start(ray)
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, gpus = resources.get("CPU", 1), int(resources.get("GPU", 0))
    per_worker = _gpus_per_worker(model)
    size = workers or (gpus // per_worker if per_worker else int(cores // 4)) or 1
    if size * per_worker > gpus:
        required = "a GPU" if per_worker == 1 else f"{per_worker} GPUs"
        raise FrameError(
            f"{counted(size, 'worker wants', 'workers want')} {required} each, and Ray has {gpus}. "
            + ("Pass fewer." if size > 1 else "Answer without engine='ray'.")
        )
    if per_worker and size * per_worker == gpus and len(ray.nodes()) == 1:  # type: ignore[no-untyped-call]
        warn_user(
            f"engine='ray': {model.name} is loaded once more for each worker, and one of them "
            f"shares a GPU with the {byte_size(held_bytes(model.network))} that it takes here. "
            "Where that is too much, answer without engine='ray', which is as fast on one GPU; "
            "other models give their memory back with unload()."
        )
    # Ray's own tasks, which split the data, require part of a core too.
    cpus = max(0.5, (cores - 0.5) / size)
    context = ray.data.DataContext.get_current()
    previous = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield Pool(ray.data, size, math.floor(cpus) if cpus >= 1 else cpus, per_worker or None)
    finally:
        context.enable_progress_bars, context.print_on_execution_start = previous


def _gpus_per_worker(model: Model) -> int:
    """Return the number of GPUs that a worker must see to place the model as it is placed here."""
    if model.device.type != "cuda":
        return 0
    numbers = [
        int(place.partition(":")[2])
        for place in placement(model.network).values()
        if place.startswith("cuda:")
    ]
    return max(numbers, default=0) + 1


def _start(ray: ModuleType) -> None:
    """Start Ray on this machine, with a retry, since it times out after 30 s on a busy machine."""
    start = partial(
        ray.init, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING
    )
    try:
        start()
    except Exception as error:
        if "timed out" not in str(error):
            raise
        ray.shutdown()
        start()
