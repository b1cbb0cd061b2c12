"""The operations that reading takes, against those that torch counts."""

import pytest
import torch
from torch.nn import Embedding
from torch.utils.flop_counter import FlopCounterMode

from nbllm.models import flops
from nbllm.models.flops import TokenCounts, matrix_rate, operation_counter, operations
from tests.conftest import tiny_model


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_operations_are_those_that_torch_counts(kind, request):
    model = request.getfixturevalue({"causal": "tiny_llama", "encoder": "tiny_encoder"}[kind])
    model.network.set_attn_implementation("eager")  # whose products torch sees one by one
    ids = torch.randint(5, 50, (1, 12))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.network(input_ids=ids, **({"logits_to_keep": 1} if kind == "causal" else {}))

    # Eager attention computes the upper triangle too, only to mask it.
    read = TokenCounts(tokens=12, attended=12 * 12, scored=1)

    # What are no matrices, such as norms and position embeddings, we count as if they were.
    assert operations(model.network, read) == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_a_table_under_several_names_is_taken_off_once():
    network = tiny_model("seq2seq").network
    sizes = {id(m.weight): m.weight.numel() for m in network.modules() if isinstance(m, Embedding)}
    assert len(sizes) == 3  # of tokens, for encoder, decoder and output; and of two positions
    matrices = network.num_parameters() - sum(sizes.values())
    assert operations(network, TokenCounts(tokens=1)) == 2 * matrices


def test_a_text_looks_at_what_stands_before_each_of_its_tokens():
    assert TokenCounts.text(3) == TokenCounts(tokens=3, attended=1 + 2 + 3, scored=1)
    assert TokenCounts.text(2, 10) + TokenCounts.text(1) == TokenCounts(
        tokens=3, attended=11 + 12 + 1, scored=2
    )


def test_the_rate_is_measured_once():
    cpu = torch.device("cpu")

    assert matrix_rate(cpu, torch.float32) == matrix_rate(cpu, torch.float32) > 1e8


def test_a_counter_counts_the_same(tiny_llama):
    count, read = operation_counter(tiny_llama.network), TokenCounts(70, 900, 3)
    assert count(read) == operations(tiny_llama.network, read)


def test_on_a_gpu_products_grow_until_they_take_long_enough(monkeypatch):
    sizes, taken = [], {1024: 0.0001, 2048: 0.0002, 4096: 0.001, 8192: 0.004}

    def timed(size, device, dtype):
        sizes.append(size)
        return taken[size]

    monkeypatch.setattr(flops, "_seconds_for", timed)
    rate = flops._rate_of_gpu(torch.device("cuda"), torch.bfloat16)
    assert sizes == [1024, 2048, 4096, 8192]
    assert rate == 10 * 2 * 8192**3 / 0.004

    # A slow one is not kept busy for seconds to find that out.
    sizes.clear()
    taken[2048] = 0.06
    assert flops._rate_of_gpu(torch.device("cuda"), torch.float32) == 10 * 2 * 1024**3 / 0.0001
    assert sizes == [1024, 2048]


def test_a_full_gpu_is_measured_with_what_has_room(monkeypatch):
    def timed(size, device, dtype):
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.001

    monkeypatch.setattr(flops, "_seconds_for", timed)
    most = 2048
    assert flops._rate_of_gpu(torch.device("cuda"), torch.float32) == 10 * 2 * 2048**3 / 0.001
    most = 0
    with pytest.raises(RuntimeError):
        flops._rate_of_gpu(torch.device("cuda"), torch.float32)


def test_ten_products_are_timed_between_two_waits(monkeypatch):
    counter = FlopCounterMode(display=False)
    with counter:
        seconds = flops._seconds_for(64, torch.device("cpu"), torch.float32)
    assert seconds > 0 and counter.get_total_flops() == 11 * 2 * 64**3
    assert flops._PRODUCTS == 10
