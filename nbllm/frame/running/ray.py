"""The same questions on several workers: a Ray Data stage with a pool of models.

A worker answers as this process would, and hands its answers back. What is filed, calibrated and
read out of them stays here: workers write no SQLite. One that dies is started anew by Ray, and
asked again for what it had not handed back.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nbllm._warnings import warn_user
from nbllm.engine.runner import BatchResult
from nbllm.errors import FrameError
from nbllm.frame.running.local import answer_locally
from nbllm.models.flops import TokenCounts
from nbllm.models.memory.budget import held_bytes
from nbllm.models.memory.placement import placement
from nbllm.wording import byte_size, counted

if TYPE_CHECKING:
    from types import ModuleType

    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model

__all__ = ["Pool", "answer_on_workers", "pool_of_workers"]

# Rows handed to a worker at once: what is asked again when it dies. Several a worker, so that
# none waits at the end while another has all that is left.
_CHUNK = 256
_CHUNKS_A_WORKER = 4


def answer_on_workers(
    texts: Sequence[tuple[str, ...]],
    task: Task,
    model: Model,
    record: Mapping[str, Any],
    offset: list[float] | None,
    *,
    workers: int | None = None,
) -> Iterator[BatchResult]:
    """Answer texts on a pool of workers, in chunks, as they come back.

    Args:
        model: as each worker will load it, from its provenance.
        record: the run's.
        offset: what calibration takes off the scores.
        workers: how many; by default one a GPU, else one for every four processor cores.

    Yields:
        One `BatchResult` a chunk, by index in `texts`.

    Raises:
        FrameError: Ray is not installed, or no such number of workers.
    """
    import pyarrow

    with pool_of_workers(workers, model) as pool:
        size = min(_CHUNK, math.ceil(len(texts) / (_CHUNKS_A_WORKER * pool.size)))
        # Rows of like length in one chunk pad less; the longest first, as in a run of its own.
        order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        # As JSON, which writes what Arrow has no room for: a surrogate without its other half.
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
                yield _answered(json.loads(done))


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
        told = []
        for done in answer_locally(
            texts, self.task, self.model, self.bound, truncate=self.truncate
        ):
            answers = {numbers[i]: value for i, value in done.answers.items()}
            errors = {numbers[i]: error for i, error in done.errors.items()}
            lasting = [numbers[i] for i in done.lasting]
            done = replace(done, answers=answers, errors=errors, lasting=lasting)
            told.append(json.dumps(asdict(done)))
        return {"done": told}


def _answered(told: Mapping[str, Any]) -> BatchResult:
    """What a worker wrote down; JSON made texts of the indices."""
    by_index = {
        part: {int(n): value for n, value in told[part].items()} for part in ("answers", "errors")
    }
    return BatchResult(**{**told, **by_index, "read": TokenCounts(**told["read"])})


@dataclass(frozen=True)
class Pool:
    """Workers that hold a model each."""

    data: ModuleType  # ray.data
    size: int
    cpus: float  # of each
    gpus: int | None

    def stream(
        self, dataset: Any, worker: type, arguments: tuple[Any, ...], *, parts: int
    ) -> Iterator[Mapping[str, Any]]:
        """What workers make of each block of a data set, as they are done with it.

        Args:
            worker: a class that is made of `arguments` once a worker.
            parts: how many blocks there are.
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
    """Ray, started here where no cluster is named, and without its progress bars.

    Raises:
        FrameError: Ray is not installed, or no such number of workers.
    """
    # It would report its use over the network.
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
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, gpus = there.get("CPU", 1), int(there.get("GPU", 0))
    each = _gpus(model)
    size = workers or (gpus // each if each else int(cores // 4)) or 1
    if size * each > gpus:
        wanted = "a GPU" if each == 1 else f"{each} GPUs"
        raise FrameError(
            f"{counted(size, 'worker wants', 'workers want')} {wanted} each, and Ray has {gpus}. "
            + ("Pass fewer." if size > 1 else "Answer without engine='ray'.")
        )
    if each and size * each == gpus and len(ray.nodes()) == 1:  # type: ignore[no-untyped-call]
        warn_user(
            f"engine='ray': {model.name} is loaded once more for each worker, and one of them "
            f"shares a GPU with the {byte_size(held_bytes(model.network))} that it takes here. "
            "Where that is too much, answer without engine='ray', which is as fast on one GPU; "
            "other models give their memory back with unload()."
        )
    # Ray's own tasks, which cut the data up, want a little of a core too.
    cpus = max(0.5, (cores - 0.5) / size)
    context = ray.data.DataContext.get_current()
    kept = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield Pool(ray.data, size, math.floor(cpus) if cpus >= 1 else cpus, each or None)
    finally:
        context.enable_progress_bars, context.print_on_execution_start = kept


def _gpus(model: Model) -> int:
    """How many GPUs a worker has to see, so that the model finds those that it is spread over."""
    if model.device.type != "cuda":
        return 0
    numbers = [
        int(place.partition(":")[2])
        for place in placement(model.network).values()
        if place.startswith("cuda:")
    ]
    return max(numbers, default=0) + 1


def _start(ray: ModuleType) -> None:
    """Start Ray here, a second time where a busy machine exceeds the half minute that it waits."""
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
