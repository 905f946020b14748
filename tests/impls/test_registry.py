"""The table of attentions: complete, honest about what runs, and readable without torch."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

import attention_impls
from attention_impls import (
    AttentionSpec,
    InvalidArgument,
    Problem,
    Recurrence,
    UnknownAttention,
    requirements,
)
from attention_impls.registry import ATTENTIONS

every_spec = pytest.mark.parametrize(
    "spec", [attention_impls.get(name) for name in attention_impls.names()], ids=lambda spec: spec.name
)

CPU = Problem(1, 2, 64, 8)


def test_the_public_names_are_these() -> None:
    assert attention_impls.__all__ == [
        "QK_NORMS",
        "AttentionLayer",
        "AttentionSpec",
        "Backend",
        "Cost",
        "Hyperparameter",
        "InvalidArgument",
        "Paper",
        "Problem",
        "Recurrence",
        "TransformerBlock",
        "UnknownAttention",
        "Unsupported",
        "get",
        "names",
    ]
    assert all(hasattr(attention_impls, name) for name in attention_impls.__all__)
    assert dir(attention_impls) == sorted(attention_impls.__all__)
    with pytest.raises(AttributeError, match="no attribute 'AttentionLayr'"):
        _ = attention_impls.AttentionLayr


def test_the_attentions_are_these() -> None:
    assert attention_impls.names() == [
        "softmax",
        "perceiver",
        "s2",
        "element-wise",
        "ea-series",
        "hadamard",
        "aft-full",
        "aft-local",
        "aft-simple",
        "poly-nl",
        "efficient",
        "linear",
        "mean",
        "multi-resolution",
        "taylor-linear",
        "taylor-shift",
        "sata",
        "based",
        "retention",
        "mamba-2",
        "gla",
        "gated-delta",
    ]


def test_specs_costs_and_reasons_are_there_without_torch() -> None:
    script = """
import sys, attention_impls
from dataclasses import replace
problem = attention_impls.Problem(1, 2, 64, 8)
for name in attention_impls.names():
    spec = attention_impls.get(name)
    spec.cost(problem), spec.layer_params(problem, True), spec.core_params(problem)
    spec.projected_widths(problem), spec.best_backend(problem), str(spec.paper)
    [spec.unsupported_reasons(backend, problem) for backend in spec.backends]
    spec.state_bytes and spec.state_bytes(problem)
    spec.decode_cost and spec.decode_cost(problem)
    [spec.unsupported_reasons(backend, replace(problem, decode=True)) for backend in spec.backends]
    spec.check_hyperparameters({knob.name: knob.default for knob in spec.hyperparameters.values()})
assert "torch" not in sys.modules, "torch was imported"
attention_impls.AttentionLayer
assert "torch" in sys.modules
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr


@every_spec
def test_every_named_callable_exists_and_takes_what_the_table_says(spec: AttentionSpec) -> None:
    knobs = {name: knob.default for name, knob in spec.hyperparameters.items()}
    for op in [backend.op for backend in spec.backends.values()] + [spec.oracle]:
        keywords = {
            name: parameter.default
            for name, parameter in inspect.signature(op).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        assert keywords == {"causal": False, **knobs, **dict.fromkeys(spec.operands(CPU))}
        assert op.__doc__
    assert spec.op is spec.backends[spec.plain].op
    assert spec.has_decode == (spec.state_bytes is not None) == (spec.decode_cost is not None)


every_recurrence = pytest.mark.parametrize(
    ("spec", "recurrence"),
    [
        pytest.param(spec, backend.recurrence, id=f"{name}/{label}")
        for name, spec in ATTENTIONS.items()
        for label, backend in spec.backends.items()
        if backend.recurrence
    ],
)


@every_recurrence
def test_every_recurrent_form_takes_what_the_table_says(spec: AttentionSpec, recurrence: Recurrence) -> None:
    knobs = {name: knob.default for name, knob in spec.hyperparameters.items()}
    token = ["query", "key", "value", "state"]
    for function, first in (
        (recurrence.init_state, ["problem"]),
        (recurrence.prefill, token),
        (recurrence.step, token),
    ):
        parameters = inspect.signature(function).parameters.values()
        keywords = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
        assert [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY] == first
        operands = dict.fromkeys(spec.operands(dataclasses.replace(CPU, causal=True)))
        assert keywords == ({} if first == ["problem"] else {**knobs, **operands})
        assert function.__doc__
    # A cache is written in place, and grows; nothing else does either.
    assert recurrence.in_place == spec.state_grows
    assert recurrence.merge is None or list(inspect.signature(recurrence.merge).parameters) == [
        "earlier",
        "later",
    ]


DECODE = Problem(1, 2, 64, 8, decode=True)


def test_an_attention_without_a_recurrent_form_cannot_decode_and_says_why() -> None:
    known = attention_impls.get("linear")
    spec = dataclasses.replace(
        known, backends={"eager": dataclasses.replace(known.backends["eager"], recurrence=None)}
    )
    assert spec.unsupported_reasons("eager", DECODE) == [
        "linear has no recurrent form here: neither sums over the tokens so far nor a cache of them"
    ]


def test_a_backend_without_a_recurrent_form_names_one_that_has_it() -> None:
    (*_, reason) = attention_impls.get("ea-series").unsupported_reasons("compile", DECODE)
    assert reason == "ea-series/compile has no recurrent form; use fused or eager"


def test_the_best_backend_to_decode_is_one_that_can() -> None:
    spec = attention_impls.get("ea-series")
    reversed_spec = dataclasses.replace(spec, backends=dict(reversed([*spec.backends.items()])))
    assert next(iter(reversed_spec.backends)) == "compile"
    assert reversed_spec.best_backend(DECODE) == "eager"


@every_spec
def test_the_row_s_name_is_the_spec_s_and_its_defaults_keep_their_rules(spec: AttentionSpec) -> None:
    assert attention_impls.get(spec.name) is spec
    spec.check_hyperparameters({name: knob.default for name, knob in spec.hyperparameters.items()})
    with pytest.raises(InvalidArgument, match=f"{spec.name} has no hyperparameter 'colour'"):
        spec.check_hyperparameters({"colour": 1})


@every_spec
def test_the_plain_form_runs_everywhere(spec: AttentionSpec) -> None:
    for device in ("cpu", "cuda"):
        for dtype in ("float64", "float32", "float16"):
            problem = Problem(1, 2, 64, 8, dtype=dtype, device=device, causal=spec.causal_only)
            assert spec.unsupported_reasons(spec.plain, problem) == []


@pytest.mark.parametrize(
    ("misspelt", "meant"), [("ea-serie", "ea-series"), ("softmx", "softmax"), ("elementwise", "element-wise")]
)
def test_an_unknown_name_lists_the_known_and_suggests_the_nearest(misspelt: str, meant: str) -> None:
    with pytest.raises(UnknownAttention) as caught:
        attention_impls.get(misspelt)
    assert str(caught.value) == (
        f"no attention is named '{misspelt}' (did you mean '{meant}'?); "
        f"known: {', '.join(attention_impls.names())}"
    )


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(UnknownAttention, match=r"no attention is named 'x'; known: softmax"):
        attention_impls.get("x")


def test_an_unknown_backend_lists_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match=r"no backend 'compiled' \(did you mean 'compile'\?\)"):
        attention_impls.get("ea-series").backend("compiled")


def test_gpu_kernels_say_that_they_need_a_gpu() -> None:
    softmax = attention_impls.get("softmax")
    assert softmax.unsupported_reasons("efficient", CPU) == ["the memory-efficient kernel runs on cuda only"]
    assert softmax.unsupported_reasons("cudnn", CPU) == ["the cuDNN kernel runs on cuda only"]
    assert softmax.best_backend(CPU) == "sdpa"


def test_all_reasons_come_at_once() -> None:
    problem = Problem(1, 1, 64, 300, dtype="float32", device="cuda")
    softmax = attention_impls.get("softmax")
    flash, cudnn = (softmax.unsupported_reasons(name, problem) for name in ("flash", "cudnn"))
    for reasons, limit in ((flash, "up to 256"), (cudnn, "up to 128")):
        assert any("float16 or bfloat16" in reason for reason in reasons)
        assert any(limit in reason for reason in reasons)


def test_memory_efficient_attention_needs_rows_of_16_bytes() -> None:
    softmax = attention_impls.get("softmax")
    narrow, wide = (Problem(1, 1, 64, head_dim, device="cuda") for head_dim in (2, 4))
    assert any("16 bytes" in reason for reason in softmax.unsupported_reasons("efficient", narrow))
    assert not softmax.unsupported_reasons("efficient", wide)


def test_compiling_needs_a_compiler_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    reasons = attention_impls.get("ea-series").unsupported_reasons("compile", CPU)
    assert any("C++ compiler" in reason and "not on PATH" in reason for reason in reasons)
    monkeypatch.setenv("CXX", sys.executable)
    assert not any("C++ compiler" in reason for reason in requirements.compiler(CPU))


def test_the_fused_kernel_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = dataclasses.replace(CPU, device="cuda")
    monkeypatch.setattr(requirements, "find_spec", lambda name: True)
    monkeypatch.setattr(requirements, "_installed", lambda name: "3.2.1")
    assert requirements.own_kernels(on_gpu) == [
        "the fused kernel needs triton 3.3 or newer, which has tuples; this is 3.2.1"
    ]
    monkeypatch.setattr(requirements, "_installed", lambda name: "3.10.0")
    assert requirements.own_kernels(on_gpu) == []
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    assert "pip install triton" in requirements.own_kernels(on_gpu)[0]
    assert "pip install llvmlite" in requirements.own_kernels(CPU)[0]


def test_an_unknown_dtype_is_a_reason() -> None:
    problem = Problem(1, 1, 8, 4, dtype="int8")
    assert "dtype 'int8' is unknown" in attention_impls.get("linear").unsupported_reasons("eager", problem)[0]
