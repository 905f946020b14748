"""What attentions with polynomial weights hold: never the features of all tokens, never all weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import blocks

from .support import draw, tracked
from .test_memory import LargestTensor

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])

CASES: Mapping[str, dict[str, Any]] = {
    "taylor-linear/eager": {},
    "taylor-shift/efficient": {"temperature": torch.ones(2)},
    "taylor-shift/direct": {"temperature": torch.ones(2)},
    "sata/eager": {"order": 4},
    "based/eager": {},
}
every_case = pytest.mark.parametrize("impl", CASES)

HEAD_DIM = 8
BUDGET = 2**14  # elements of a block


def attend(impl: str, causal: bool, inputs: list[Tensor]) -> Tensor:
    name, backend = impl.split("/")
    output: Tensor = attention_impls.get(name).backends[backend].op(*inputs, causal=causal, **CASES[impl])
    return output


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", BUDGET)


def saved_elements(impl: str, length: int, causal: bool) -> int:
    """Elements that autograd keeps for backward, each storage once."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    inputs = tracked(*draw(1, 2, length, HEAD_DIM, dtype=torch.float32))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        attend(impl, causal, inputs)
    return sum(kept.values())


@every_case
@both_masks
def test_what_a_token_leaves_for_backward_is_a_few_numbers_a_channel(impl: str, causal: bool) -> None:
    short, long = (saved_elements(impl, length, causal) for length in (512, 1024))
    tensors = (long - short) / (512 * 2 * HEAD_DIM)  # of one token, what depends on no length left out
    # Query, key, value, output, the sums of weights; of those normalised also the rows as they were, their
    # lengths and, of queries, before the temperature. One token's features would be 45 to 495 numbers.
    assert tensors < (10 if impl.startswith("taylor") else 5)


@every_case
@both_masks
def test_nothing_is_larger_than_a_block_or_an_input(impl: str, causal: bool) -> None:
    length = 2048
    inputs = tracked(*draw(1, 2, length, HEAD_DIM, dtype=torch.float32))
    largest = LargestTensor()
    with largest:
        torch.autograd.grad(attend(impl, causal, inputs).sum(), inputs)
    # The shortest block is of 64 rows, or 16 of all weights; values have a 1 beside them.
    features = {"sata/eager": 495}.get(impl, 73)
    direct = blocks.STRIP_ROWS * length
    shortest = max(direct if impl.endswith("direct") else 0, blocks.MIN_CHUNK_ROWS * max(features, 64))
    assert largest.elements <= max(BUDGET, shortest, 2 * length * (HEAD_DIM + 1))
    assert largest.elements < length * features
