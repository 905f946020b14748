"""The axis grammar, impls, and the grid."""

from __future__ import annotations

import pytest

from elattn_bench.axis import Axis
from elattn_bench.cases import Case, Grid, Impl
from elattn_bench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("512", [512]),
        ("1k,2k,8k", [1024, 2048, 8192]),
        ("8k,1k,1k", [1024, 8192]),
        ("256:4096:x2", [256, 512, 1024, 2048, 4096]),
        ("256:4k:x4", [256, 1024, 4096]),
        ("100:1k:x3", [100, 300, 900]),
        ("16:128:16", [16, 32, 48, 64, 80, 96, 112, 128]),
        ("16:40:16", [16, 32]),
        ("7:7:x2", [7]),
        ("1, 4", [1, 4]),
        ("1,256:1k:x2", [1, 256, 512, 1024]),
        ("1k:3k:1k", [1024, 2048, 3072]),
    ],
)
def test_the_axis_grammar(text: str, values: list[int]) -> None:
    assert list(Axis.parse("seq-len", text).values) == values


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("256:8x:x2", "'8x' is not a positive whole number"),
        ("", "'' is not a positive whole number"),
        ("1,,2", "'' is not a positive whole number"),
        ("4k:256:x2", "runs backwards; write 256:4k:x2"),
        ("256:4k", "a range is first:last:step"),
        ("256:4k:2:2", "a range is first:last:step"),
        ("256:4k:x1", "'x1' is not a step"),
        ("256:4k:0", "'0' is not a step"),
        ("256:4k:y2", "'y2' is not a step"),
        ("1.5", "'1.5' is not a positive whole number"),
        ("-4", "'-4' is not a positive whole number"),
        ("0", "0 is too small; the smallest is 1"),
        ("99999999999", "absurdly large"),
        ("1:1000000:1", "more than 10000 values"),
        ("²", "not a positive whole number"),
    ],
)
def test_a_broken_axis_is_refused_with_its_rule(text: str, rule: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Axis.parse("seq-len", text)
    assert rule in str(refusal.value)
    assert str(refusal.value).startswith(f"--seq-len {text}")


def test_a_misspelt_attention_is_refused_with_the_nearest_and_all_known() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'softmax'.*") as refusal:
        Impl.parse("sofmax")
    assert "ea-series" in str(refusal.value)


def test_an_unknown_backend_is_refused_with_those_the_attention_has() -> None:
    with pytest.raises(UsageError, match="has no backend 'flahs'.*did you mean 'flash'"):
        Impl.parse("softmax/flahs")


def grid(impls: str = "softmax/eager,ea-series/eager", **axes: object) -> Grid:
    defaults: dict[str, object] = {
        "seq_len": (128, 256), "dim": (64,), "order": (2, 6), "batch": (1,), "heads": (8,),
        "dtype": ("float32",), "causal": (False,), "mode": ("forward",), "level": ("op",), "device": "cpu",
    }  # fmt: skip
    return Grid(impls=tuple(map(Impl.parse, impls.split(","))), **{**defaults, **axes})  # type: ignore[arg-type]


def test_order_multiplies_only_the_attentions_that_have_one() -> None:
    cases = grid().cases()
    assert [case.order for case in cases if case.attention == "softmax"] == [None, None]
    assert sorted(case.order or -1 for case in cases if case.attention == "ea-series") == [2, 2, 6, 6]


def test_every_case_has_its_own_id() -> None:
    cases = grid(batch=(1, 2), causal=(False, True), mode=("forward", "train"), level=("op", "layer")).cases()
    assert len({case.case_id for case in cases}) == len(cases) == 6 * 2 * 2 * 2 * 2


def test_an_impl_named_twice_is_measured_once() -> None:
    assert len(grid("softmax/sdpa,softmax").cases()) == 2


def test_a_bare_attention_means_its_best_backend_here() -> None:
    assert {case.impl for case in grid("softmax").cases()} == {"softmax/sdpa"}


def test_a_dim_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="--dim 100 is not divisible by --heads 8"):
        grid(dim=(100,)).cases()


def test_an_odd_order_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="--order 3: an odd order is refused: .*use 2 or 4"):
        grid(order=(3,)).cases()


def test_only_layers_have_parameters() -> None:
    op, layer = grid("softmax/eager", seq_len=(128,), level=("op", "layer")).cases()
    assert (op.params, layer.params) == (0, 4 * 64 * 64)


def test_a_layer_costs_more_than_its_op() -> None:
    op, layer = grid("softmax/eager", seq_len=(128,), level=("op", "layer")).cases()
    assert layer.cost.flops > op.cost.flops
    assert layer.cost.bytes > op.cost.bytes


def test_the_case_id_is_readable() -> None:
    case = Case("ea-series", "eager", "op", "train", "float32", "cpu", True, 2, 8, 1024, 64, 6)
    assert case.case_id == "ea-series/eager:op:train:float32:causal:b2:h8:L1024:D64:t6"
