"""Vector code for the CPU: its arithmetic against numpy's and torch's, and the cache of machine code."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("llvmlite", reason="vector code is written through llvmlite")

from llvmlite import ir

from attention_impls.kernels import jit
from attention_impls.kernels.vectors import I64, POINTER, Code, Lanes, Vector
from attention_impls.nouns import ELEMENT_SIZE

WIDTH = 8


def apply(operation: Callable[[Code, Vector], Vector], x: Tensor, dtype: str | None = None) -> Tensor:
    """The operation on all elements, whose number is a multiple of the width, stored in the dtype."""
    double = x.dtype == torch.float64
    stored = dtype or str(x.dtype).removeprefix("torch.")
    result = torch.empty(x.shape, dtype=getattr(torch, stored))
    jit.load(_written(operation, Lanes(double, WIDTH), str(x.dtype).removeprefix("torch."), stored)).function(
        "apply", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
    )(x.data_ptr(), result.data_ptr(), x.numel())
    return result


def _written(operation: Callable[[Code, Vector], Vector], lanes: Lanes, dtype: str, stored: str) -> str:
    module = ir.Module(name="test")
    kind = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, I64])
    function = ir.Function(module, kind, name="apply")
    code = Code(function, lanes)
    source, target, count = function.args

    def place(pointer: Any, index: Any, size: int) -> Any:
        start = code.builder.ptrtoint(pointer, I64)
        return code.builder.add(start, code.builder.mul(index, code.integer(size)))

    with code.loop(code.integer(0), count, code.integer(lanes.width)) as index:
        x = code.load(place(source, index, ELEMENT_SIZE[dtype]), dtype)
        code.store(operation(code, x), place(target, index, ELEMENT_SIZE[stored]), stored)
    code.builder.ret_void()
    return str(module)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_powers_of_two_are_right_to_two_units_in_the_last_place(dtype: torch.dtype) -> None:
    lowest = -126.0 if dtype == torch.float32 else -1022.0
    x = torch.cat((torch.linspace(lowest, 0, 8 * 10_000, dtype=dtype), -torch.arange(8, dtype=dtype)))
    found = apply(lambda code, vector: code.exp2(vector), x).numpy().astype(np.longdouble)
    truth = np.exp2(x.numpy().astype(np.longdouble))
    assert float(np.abs(found / truth - 1).max()) <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_powers_below_the_range_are_zero_and_a_nan_stays_one(dtype: torch.dtype) -> None:
    below = -127.0 if dtype == torch.float32 else -1023.0
    x = torch.tensor([below, 2 * below, -1e30, -torch.inf, torch.nan, 0, -1, -2], dtype=dtype)
    found = apply(lambda code, vector: code.exp2(vector), x)
    assert not found[:4].any()
    assert found[4].isnan()
    assert found[5:].tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_widened_and_rounded_as_torch_does(dtype: str) -> None:
    if dtype == "float16" and not jit.features().get("f16c", True):
        pytest.skip("this CPU does not convert float16")
    kind = getattr(torch, dtype)
    every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(kind)
    same = apply(lambda code, vector: vector, every, "float32")
    finite = ~every.isnan()
    assert torch.equal(same[finite], every.float()[finite])
    assert same[~finite].isnan().all()
    wide = torch.randn(8 * 4096) * torch.logspace(-8, 6, 8 * 4096)
    ties = (every.float()[finite][:-1] + every.float()[finite].roll(-1)[:-1]) / 2
    for x in (wide, ties[: len(ties) // 8 * 8], torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0] * 2)):
        expected = x.to(kind)
        found = apply(lambda code, vector: vector, x.contiguous(), dtype)
        assert torch.equal(found[~expected.isnan()], expected[~expected.isnan()])
        assert found[expected.isnan()].isnan().all()


def test_the_larger_of_two_ignores_a_nan_on_the_left() -> None:
    x = torch.tensor([torch.nan, 1, 2, 3, 4, 5, 6, -torch.inf])
    assert apply(lambda code, v: code.larger(v, 2.5), x).tolist() == [2.5, 2.5, 2.5, 3, 4, 5, 6, 2.5]
    assert apply(lambda code, v: code.smaller(v, 2.5), x).tolist()[:3] == [2.5, 1, 2]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


TEXT = _written(lambda code, vector: vector * 3.0, Lanes(False, WIDTH), "float32", "float32")


def tripled(loaded: jit.Loaded) -> float:
    x = torch.ones(WIDTH)
    function = loaded.function("apply", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    function(x.data_ptr(), x.data_ptr(), WIDTH)
    return float(x.mean())


def test_machine_code_is_compiled_once_and_then_read_from_the_disk(cache: Path) -> None:
    first, second = jit.load(TEXT), jit.load(TEXT)
    assert (first.compiled, second.compiled) == (True, False)
    assert len(list(cache.iterdir())) == 1
    assert tripled(first) == tripled(second) == 3


def test_a_damaged_file_is_compiled_again(cache: Path) -> None:
    jit.load(TEXT)
    (stored,) = cache.iterdir()
    stored.write_bytes(stored.read_bytes()[:-100])
    again = jit.load(TEXT)
    assert again.compiled
    assert tripled(again) == 3
    assert not jit.load(TEXT).compiled


def test_a_cache_that_cannot_be_written_costs_a_compilation_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert jit.load(TEXT).compiled
    monkeypatch.setenv(jit.CACHE_VARIABLE, "")
    assert jit.cache_directory() is None
    assert tripled(jit.load(TEXT)) == 3
