"""All that nbllm does with a model on one GPU, against the same on the processor."""

import pytest
import torch

from nbllm.attention.recording.capture import record
from tests.attention.architectures import ARCHITECTURES, ENCODER_DECODERS, tiny, tiny_pair
from tests.pretended.device import move, on_device, pretended
from tests.pretended.jobs import (
    CAUSAL,
    OTHERS,
    TEXT,
    assert_same,
    made,
    on_the_processor,
    pictures,
)

# What sums up in float64, or would be the better for it.
FINE = [
    "scores",
    "perplexity",
    "pictures",
    "overview",
    "measures",
    "induction",
    "rollout",
    "lens",
    "ablation",
    "logit parts",
    "encoder: vectors",
    "classifier: labels",
    "extractive_qa: spans",
    "seq2seq: recording",
]


@pytest.mark.parametrize("job", [*CAUSAL, *OTHERS])
def test_a_gpu_answers_as_the_processor(job: str) -> None:
    model = made(job)
    with pretended():
        move(model.network, "cuda:0")
        assert model.device == torch.device("cuda", 0)
        found = {**CAUSAL, **OTHERS}[job](model)
    assert_same(found, on_the_processor(job))


@pytest.mark.parametrize("job", FINE)
def test_nothing_asks_for_float64_where_there_is_none(job: str) -> None:
    model = made(job)
    with pretended():
        move(model.network, "mps")
        found = {**CAUSAL, **OTHERS}[job](model)
    assert_same(found, on_the_processor(job))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_recordings_of_architectures_are_painted_alike(name: str) -> None:
    expected = pictures(record(tiny(name), TEXT))
    model = tiny(name)
    with pretended():
        move(model.network, "cuda:0")
        found = pictures(record(model, TEXT))
    assert_same(found, expected)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_recordings_of_encoder_decoders_are_painted_alike(name: str) -> None:
    expected = pictures(record(tiny_pair(name), TEXT, target=TEXT).cross)
    model = tiny_pair(name)
    with pretended():
        move(model.network, "cuda:0")
        found = pictures(record(model, TEXT, target=TEXT).cross)
    assert_same(found, expected)


# -- the pretended device itself ---------------------------------------------------------------


def here(*shape: int) -> torch.Tensor:
    return on_device(torch.ones(*shape), "cuda:0")


def index(device: str = "cuda:1") -> torch.Tensor:
    return on_device(torch.tensor([0, 1]), device)


REFUSED = {
    "a sum": lambda: here(2) + torch.ones(2),
    "a sum of two GPUs": lambda: here(2) + on_device(torch.ones(2), "cuda:1"),
    "a number of another GPU": lambda: here(2) + on_device(torch.tensor(1.0), "cuda:1"),
    "a product": lambda: torch.nn.functional.linear(here(2), torch.ones(3, 2)),
    "a row by number": lambda: here(2).index_select(0, torch.tensor([0])),
    "an index of another GPU": lambda: here(2)[index()],
    "an index that the processor lacks": lambda: torch.ones(2)[index("cuda:0")],
    "values of the processor at an index": lambda: here(2).__setitem__(
        index("cuda:0"), torch.ones(2)
    ),
    "a join": lambda: torch.cat([here(2), torch.ones(2)]),
    "a mask": lambda: here(2).masked_fill(torch.ones(2, dtype=torch.bool), 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses_is_refused(name: str) -> None:
    with pretended(), pytest.raises(RuntimeError, match="on the same device"):
        REFUSED[name]()


def test_numpy_takes_no_tensor_of_a_gpu() -> None:
    with pretended(), pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
        here(2).numpy()


def test_float64_is_refused_where_there_is_none() -> None:
    with pretended():
        here(2).double()
        with pytest.raises(TypeError, match="float64"):
            on_device(torch.ones(2), "mps").double()


def test_what_cuda_takes_is_taken() -> None:
    with pretended():
        tensor = here(3, 3)
        tensor[index("cuda:0")] = 2.0
        tensor[0] = torch.zeros(3)
        mixed = [
            tensor * torch.tensor(2.0),
            tensor[torch.tensor([0, 1])],
            tensor[[0, 1]],
            torch.arange(3, device="cuda"),
            tensor.new_zeros(2),
            torch.zeros_like(tensor),
            *tensor.topk(2),
            *tensor,
            tensor.to(torch.ones(1, dtype=torch.float16).to("cuda")),
        ]
        assert {str(part.device) for part in mixed} == {"cuda:0"}
        assert tensor.sum(1).tolist() == [0.0, 6.0, 3.0]
        assert tensor.to("cuda:1").device == torch.device("cuda", 1)
        assert tensor.cpu().device.type == torch.ones(1).to(tensor.cpu()).device.type == "cpu"


def test_a_gradient_is_where_its_tensor_is() -> None:
    with pretended():
        given = here(2).requires_grad_()
        (gradient,) = torch.autograd.grad((given * 3).sum(), given)
        assert gradient.device == given.device and gradient.tolist() == [3.0, 3.0]


WAITS = {
    "item": (lambda: here(1).item(), "item"),
    "a condition": (lambda: bool(here(1) > 0), "item"),
    "a bound": (lambda: torch.ones(3)[: on_device(torch.tensor(1), "cuda:0")], "item"),
    "a number as an index": (lambda: here(3)[on_device(torch.tensor(1), "cuda:0")], "item"),
    "a list": (lambda: here(2).tolist(), "item"),
    "a comparison": (lambda: torch.equal(here(2), here(2)), "item"),
    "a mask as an index": (lambda: here(2)[here(2) > 0], "nonzero"),
    "where": (lambda: torch.where(here(2) > 0), "nonzero"),
    "to the host": (lambda: here(2).cpu(), "copy to the host"),
    "into the host": (lambda: torch.ones(2).copy_(here(2)), "copy to the host"),
    "to the device": (lambda: torch.ones(2).to("cuda"), "copy to the device"),
    "numbers": (lambda: torch.tensor([1, 2], device="cuda"), "copy to the device"),
    "an index of the host": (lambda: here(2)[[0, 1]], "copy to the device"),
}
NO_WAITS = {
    "a sum": lambda: here(2) + 1,
    "a copy that is not waited for": lambda: torch.ones(2).to("cuda", non_blocking=True),
    "between GPUs": lambda: here(2).to("cuda:1"),
    "an index": lambda: here(2)[index("cuda:0")],
    "a slice": lambda: here(2)[:1],
    "zeros": lambda: torch.zeros(2, device="cuda"),
    "two choices": lambda: torch.where(here(2) > 0, here(2), 0),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_counted_where_it_is(name: str) -> None:
    work, why = WAITS[name]
    with pretended() as waits:
        work()
        assert [wait.why for wait in waits.seen] == [why]
        assert waits.within("tests/pretended") == 1


@pytest.mark.parametrize("name", NO_WAITS)
def test_what_runs_on_is_no_wait(name: str) -> None:
    with pretended() as waits:
        NO_WAITS[name]()
        assert len(waits) == 0


def test_nothing_is_left_behind() -> None:
    before = {name: value for name, value in vars(torch.cuda).items()}
    event = torch.Event
    with pretended():
        tensor = here(2)
    assert vars(torch.cuda) == before and torch.Event is event
    assert tensor.device.type == "cpu" and torch.tensor(1.0).device.type == "cpu"
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(2, device="cuda")
