"""What the attentions hold in memory: the largest tensor ever made, and what waits for backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attention_impls import chunks, element_wise

from .support import Form, draw, tracked

both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the most elements of any tensor that an operation returned, forward or backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                # Storage, not shape: a broadcast view holds no memory of its own.
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def largest_in_training(form: Form, length: int, causal: bool, head_dim: int = 8) -> int:
    inputs = tracked(*draw(1, 2, length, head_dim, dtype=torch.float32))
    largest = LargestTensor()
    with largest:
        torch.autograd.grad(form(*inputs, causal=causal).sum(), inputs)
    return largest.elements


@both_masks
def test_the_recorder_sees_the_weights_of_softmax_attention(causal: bool) -> None:
    assert largest_in_training(Form("softmax", "eager", {}), 256, causal) == 2 * 256 * 256


@both_masks
@pytest.mark.parametrize("length", [512, 1024])
def test_ea_series_makes_nothing_larger_than_its_inputs(causal: bool, length: int) -> None:
    assert largest_in_training(Form("ea-series", "eager", {}), length, causal) == 2 * length * 8


@both_masks
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_element_wise_attention_makes_no_tensor_of_all_weights(
    causal: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(element_wise, "BLOCK_ELEMENTS", {"cpu": 2**13})
    length = 256
    inputs = 2 * length * 8
    largest = largest_in_training(Form("element-wise", backend, {}), length, causal)
    # The identity doubles the head size; a block is no larger than 2^13 weights.
    assert largest <= max(2 * inputs, 2**13)


@both_masks
@pytest.mark.parametrize("name", ["linear", "efficient"])
def test_linear_attentions_make_nothing_much_larger_than_a_chunk(causal: bool, name: str) -> None:
    length = 1024
    # Inside a causal chunk of 64 rows the products are [64, 64]: over all chunks 64 per position.
    assert largest_in_training(Form(name, "eager", {}), length, causal) <= 2 * length * 64


def saved_elements(form: Form, length: int, causal: bool) -> int:
    """Elements that autograd keeps for backward, each storage once."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    inputs = tracked(*draw(1, 2, length, 8, dtype=torch.float32))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        form(*inputs, causal=causal)
    return sum(kept.values())


@both_masks
@pytest.mark.parametrize("name", ["ea-series", "element-wise", "linear", "hadamard", "efficient"])
def test_what_waits_for_backward_doubles_with_length(
    name: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 1024)
    monkeypatch.setattr(element_wise, "BLOCK_ELEMENTS", {"cpu": 2**12})
    short, long = (saved_elements(Form(name, "eager", {}), length, causal) for length in (512, 1024))
    assert 1.9 < long / short < 2.1


def test_the_weights_of_softmax_attention_that_wait_for_backward_quadruple() -> None:
    short, long = (saved_elements(Form("softmax", "eager", {}), length, False) for length in (512, 1024))
    assert long / short > 3.5
