"""Workspace formulas: against the measured peak, and the growth that they promise."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import attention_impls
from attention_impls import Problem, blocks, chunks, element_wise, workspaces
from elattn_bench import memory, workload
from elattn_bench.cases import Case

TOLERANCE = 0.25
LEAST = 2**20  # bytes from which a formula has to be right

SAME = "softmax/flash"  # what softmax/sdpa chooses on a CPU

IMPLS = [
    f"{name}/{backend}"
    for name in attention_impls.names()
    for backend, known in attention_impls.get(name).backends.items()
    if known.workspace and not attention_impls.get(name).unsupported_reasons(backend, Problem(1, 2, 8, 4))
    if f"{name}/{backend}" != SAME
]

every_impl = pytest.mark.parametrize("impl", IMPLS)
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
both_modes = pytest.mark.parametrize("mode", ["forward", "train"])


def case(impl: str, **axes: Any) -> Case:
    usual: dict[str, Any] = {
        "level": "op", "mode": "forward", "dtype": "float32", "device": "cpu", "causal": False,
        "batch": 2, "heads": 4, "seq_len": 600, "dim": 256,
    }  # fmt: skip
    attention, backend = impl.split("/")
    if attention == "element-wise":  # the slow one
        usual |= {"seq_len": 200, "dim": 128}
    if (
        backend == "fused" or attention == "mean"
    ):  # holds so little that a formula must be right from 1 MiB on only at some length
        usual |= {"seq_len": 1200}
    return Case(attention, backend, **{**usual, "order": 6 if attention == "ea-series" else None, **axes})


def ratio(of: Case, monkeypatch: pytest.MonkeyPatch) -> float:
    """The formula over the measured peak."""
    monkeypatch.setattr(workspaces, "_threads", torch.get_num_threads)
    call = workload.build(of).call
    call()  # first calls allocate more
    measured = memory.measure(call, "cpu").above_inputs
    assert measured >= LEAST
    known = of.analytic_memory_bytes
    assert known is not None
    return known / measured


@pytest.fixture(scope="module", autouse=True)
def quick_collection() -> Iterator[None]:
    """Measuring collects garbage first: keep torch's hundred thousand objects out of it.

    Two threads, whatever the machine: the kernels that hold a tile per thread then hold enough to be measured.
    """
    gc.freeze()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)
    gc.unfreeze()


@every_impl
@both_modes
@pytest.mark.parametrize(
    "axes",
    [
        {"level": "op", "dtype": "float32", "causal": False},
        {"level": "op", "dtype": "bfloat16", "causal": True},
        {"level": "layer", "dtype": "float32", "causal": True},
        {"level": "layer", "dtype": "bfloat16", "causal": False},
    ],
    ids=["op-float32", "op-bfloat16-causal", "layer-float32-causal", "layer-bfloat16"],
)
def test_the_formula_is_what_a_call_holds(
    impl: str, mode: str, axes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ratio(case(impl, mode=mode, **axes), monkeypatch) == pytest.approx(1, abs=TOLERANCE)


@every_impl
def test_the_formula_holds_in_double_precision(impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = case(impl, mode="train", dtype="float64", batch=1)
    assert ratio(of, monkeypatch) == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("order", [2, 8])
@both_modes
@both_masks
def test_the_formula_of_ea_series_knows_the_order(
    order: int, mode: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = case("ea-series/eager", order=order, mode=mode, causal=causal)
    assert ratio(of, monkeypatch) == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("impl", "sizes"),
    [
        (SAME, {"batch": 8, "seq_len": 256, "heads": 2, "dim": 512}),
        ("softmax/eager", {"batch": 4, "heads": 1, "seq_len": 128, "dim": 512}),
        ("softmax/math", {"batch": 4, "heads": 1, "seq_len": 128, "dim": 512}),
        ("efficient/eager", {"batch": 1, "seq_len": 4096, "dim": 64}),
        ("efficient/eager", {"batch": 4, "seq_len": 128, "heads": 2, "dim": 512}),
        ("ea-series/eager", {"batch": 1, "seq_len": 8192, "dim": 64}),
        ("ea-series/eager", {"batch": 8, "seq_len": 128, "heads": 2, "dim": 512}),
        ("linear/eager", {"batch": 1, "seq_len": 4096, "dim": 64}),
        ("linear/eager", {"batch": 4, "seq_len": 128, "heads": 2, "dim": 512}),
    ],
    ids=str,
)
@both_modes
@both_masks
def test_the_formula_holds_at_other_shapes(
    impl: str, sizes: dict[str, int], mode: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = case(impl, mode=mode, causal=causal, **sizes)
    assert ratio(of, monkeypatch) == pytest.approx(1, abs=TOLERANCE)


@every_impl
@both_modes
@both_masks
@pytest.mark.parametrize("level", ["op", "layer"])
def test_the_formula_grows_with_length_as_memory_does(impl: str, mode: str, causal: bool, level: str) -> None:
    short, long = (
        case(impl, mode=mode, causal=causal, level=level, seq_len=length).analytic_memory_bytes
        for length in (2**17, 2**18)
    )
    assert short is not None
    assert long is not None
    growth = 4 if impl in ("softmax/math", "softmax/eager") else 2
    assert long / short == pytest.approx(growth, rel=0.02)


@every_impl
def test_the_formula_grows_with_every_size(impl: str) -> None:
    known = attention_impls.get(impl.split("/")[0]).backends[impl.split("/")[1]].workspace
    assert known is not None
    problem = Problem(2, 4, 600, 64)
    for name in ("batch", "heads", "seq_len", "head_dim"):
        larger = dataclasses.replace(problem, **{name: 4 * getattr(problem, name)})
        assert known(larger, False) > known(problem, False)
    assert known(dataclasses.replace(problem, backward=True), False) > known(problem, False)
    assert known(problem, True) > known(problem, False)


@pytest.mark.parametrize("name", attention_impls.names())
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_formula_is_a_whole_number_of_bytes_on_a_gpu_too(name: str, dtype: str) -> None:
    for backend in attention_impls.get(name).backends.values():
        for backward in (False, True):
            problem = Problem(2, 4, 600, 64, dtype=dtype, device="cuda", backward=backward)
            if backend.workspace:
                found = backend.workspace(problem, True)
                assert isinstance(found, int)
                assert found > problem.elements * problem.element_size


def test_the_constants_are_those_of_the_code() -> None:
    assert workspaces.CHUNK_ELEMENTS == chunks.CHUNK_ELEMENTS
    assert workspaces.BLOCK_ELEMENTS == element_wise.BLOCK_ELEMENTS
    assert workspaces.BLOCK_ROWS == element_wise.BLOCK_ROWS
    assert workspaces.SDPA_WIDTH == element_wise.SDPA_WIDTH
    assert workspaces.SWEEP_ELEMENTS == blocks.BLOCK_ELEMENTS
    assert workspaces.LEAST_BLOCKS == blocks.LEAST_BLOCKS
    assert workspaces.LEAST_CAUSAL_BLOCKS == blocks.LEAST_CAUSAL_BLOCKS
    assert workspaces.MIN_CHUNK_ROWS == blocks.MIN_CHUNK_ROWS
    assert chunks.chunk_rows(torch.empty(1, 1, 1, 2**20)) == workspaces.LEAST_CHUNK_ROWS


def test_formulas_need_no_torch() -> None:
    code = (
        "import sys, attention_impls as a; "
        "known = [b.workspace for n in a.names() for b in a.get(n).backends.values() if b.workspace]; "
        "assert all(w(a.Problem(2, 4, 600, 64, causal=True, backward=True), True) for w in known); "
        "assert len(known) > 9; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
