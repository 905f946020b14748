"""EA-series in Triton over real ranks, in Triton's interpreter: the laws of ``test_sharded_ea.py``, in small."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from attention_impls import ea_fused
from attention_impls.sharded import Exchange

from . import ranks
from .test_ea_triton import CHUNK, LAUNCH, NAMES, quicker_interpreter
from .test_sharded_ea import alone, assert_close, inputs_of, joined, shards

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")

CUT = [CHUNK + 1, 2, 2 * CHUNK + 1]  # chunks that are whole and ragged, one or several
SHAPE = (1, 1, sum(CUT), 3)


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    ranks.end()


def in_triton(exchange: Exchange, *arguments: Any) -> tuple[list[Tensor], int]:
    """As ``shards``, by the GPU's kernels in the interpreter; a rank that has run this runs nothing else."""
    os.environ["TRITON_INTERPRET"] = "1"
    module = importlib.import_module(NAMES[-1])
    ea_fused._module.cache_clear()
    small = mock.patch.object(sys.modules[LAUNCH], "MIN_CHUNK_ROWS", CHUNK)
    with small, quicker_interpreter(), mock.patch.dict(ea_fused.KERNELS, cpu=NAMES[-1]):
        assert ea_fused.kernels(arguments[0][0]) is module
        return shards(exchange, *arguments)


def found_by(inputs: Sequence[Tensor], knobs: dict[str, Any]) -> list[Tensor]:
    return joined(ranks.run(len(CUT), in_triton, inputs, CUT, "fused", knobs))


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("stabiliser", [True, False], ids=["stabilised", "plain"])
def test_shards_give_what_one_process_gives(causal: bool, stabiliser: bool) -> None:
    inputs = inputs_of(*SHAPE)
    knobs = {"causal": causal, "order": 2, "scale": 0.5, "stabiliser": stabiliser}
    assert_close(found_by(inputs, knobs), alone(inputs, "eager", knobs))


@pytest.mark.parametrize(
    ("causal", "great"), [(False, 1), (True, 0), (True, 2)], ids=["full", "causal-first", "causal-last"]
)
def test_keys_of_very_different_size_neither_under_nor_overflow(causal: bool, great: int) -> None:
    inputs, knobs = inputs_of(*SHAPE), {"causal": causal, "order": 2}
    first = sum(CUT[:great])
    inputs[1][:, :, first : first + CUT[great], 0] = 100.0
    inputs[1][:, :, first : first + CUT[great], 1] *= 60.0
    found, expected = found_by(inputs, knobs), alone(inputs, "eager", knobs)
    for channel in range(SHAPE[-1]):  # each on its own scale
        assert_close([x[..., channel] for x in found], [x[..., channel] for x in expected], 1e-9)
