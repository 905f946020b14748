"""The adapters of other people's kernels, against plain imitations of their documented interfaces.

None of the peers runs on a CPU. An imitation has the peer's layout and the peer's defaults, so that an adapter
that turns a layout wrongly, or leaves a scale or a normaliser to the library, gives wrong numbers here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import attention_impls
from attention_impls import InvalidArgument, Problem
from attention_impls.peers import flex, reasons
from elattn_bench import environment

from .support import Form, draw, error, rounding, tracked

CALLED: list[str] = []

FLA = ["linear", "retention", "mamba-2", "gla", "gated-delta"]
OF_SOFTMAX = ["flash-attn", "xformers", "flex"]

PEERS = [Form(name, "fla", {}) for name in FLA] + [Form("softmax", name, {}) for name in OF_SOFTMAX]
SCALED = [Form(form.attention, form.backend, {"scale": 0.3}) for form in PEERS if form.attention != "linear"]

every_peer = pytest.mark.parametrize("form", PEERS + SCALED, ids=str)


def scanned(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, scale: float | None, beta: Tensor | None = None
) -> tuple[Tensor, None]:
    """A recurrence in fla's layout, [batch, tokens, heads, width]; decay: factors of the state's rows."""
    assert q.shape[1] > q.shape[2], "tokens come before heads"
    state, outputs = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3]), []
    for t in range(q.shape[1]):
        state = state * decay[:, t, :, :, None]
        new = (
            v[:, t]
            if beta is None
            else beta[:, t, :, None] * (v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], state))
        )
        state = state + k[:, t, :, :, None] * new[:, :, None]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(outputs, 1) * (q.shape[3] ** -0.5 if scale is None else scale), None


def chunk_linear_attn(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, initial_state: None = None,
    output_final_state: bool = False, normalize: bool = True,
) -> tuple[Tensor, None]:  # fmt: skip
    CALLED.append("linear")
    output, state = scanned(q, k, v, torch.ones_like(k), scale)
    if normalize:
        output = output / ((q * (scale or q.shape[3] ** -0.5) * k.cumsum(1)).sum(-1, keepdim=True) + 1e-10)
    return output, state


def chunk_simple_gla(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, g_gamma: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, None]:  # fmt: skip
    CALLED.append("mamba-2")
    assert g is not None
    return scanned(q, k, v, g.exp()[..., None].expand_as(k), scale)


def chunk_retention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> tuple[Tensor, None]:
    CALLED.append("retention")
    gamma = 1 - 2 ** (-5 - torch.arange(q.shape[2], dtype=q.dtype))
    return scanned(q, k, v, gamma[None, None, :, None].expand_as(k), scale)


def chunk_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None) -> tuple[Tensor, None]:
    CALLED.append("gla")
    return scanned(q, k, v, g.exp(), scale)


def chunk_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None = None,
    initial_state: None = None, output_final_state: bool = False, use_qk_l2norm_in_kernel: bool = False,
) -> tuple[Tensor, None]:  # fmt: skip
    CALLED.append("gated-delta")
    if use_qk_l2norm_in_kernel:
        q, k = (F.normalize(x, dim=-1) for x in (q, k))
    return scanned(q, k, v, g.exp()[..., None].expand_as(k), scale, beta)


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None,
    causal: bool = False,
) -> Tensor:  # fmt: skip
    CALLED.append("flash-attn")
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    output = F.scaled_dot_product_attention(
        q, k, v, dropout_p=dropout_p, is_causal=causal, scale=softmax_scale
    )
    return output.transpose(1, 2)


class LowerTriangularMask:
    pass


def memory_efficient_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_bias: LowerTriangularMask | None = None, p: float = 0.0,
    scale: float | None = None, *, op: None = None,
) -> Tensor:  # fmt: skip
    output = flash_attn_func(query, key, value, p, scale, isinstance(attn_bias, LowerTriangularMask))
    CALLED[-1] = "xformers"
    return output


def uncompiled() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    CALLED.append("flex")
    return flex_attention


MODULES: dict[str, dict[str, Any]] = {
    "fla": {},
    "fla.ops": {},
    "fla.ops.linear_attn": {"chunk_linear_attn": chunk_linear_attn},
    "fla.ops.retention": {"chunk_retention": chunk_retention},
    "fla.ops.simple_gla": {"chunk_simple_gla": chunk_simple_gla},
    "fla.ops.gla": {"chunk_gla": chunk_gla},
    "fla.ops.gated_delta_rule": {"chunk_gated_delta_rule": chunk_gated_delta_rule},
    "flash_attn": {"flash_attn_func": flash_attn_func},
    "xformers": {},
    "xformers.ops": {
        "memory_efficient_attention": memory_efficient_attention,
        "LowerTriangularMask": LowerTriangularMask,
    },
}


@pytest.fixture
def imitations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, members in MODULES.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(flex, "_compiled", uncompiled)
    CALLED.clear()
    yield
    CALLED.clear()


def masks(form: Form) -> list[bool]:
    return [True] if form.backend == "fla" else [False, True]


# Uncompiled FlexAttention says that it is slow; here its mask and its scale matter.
quiet = pytest.mark.filterwarnings("ignore:.*flex_attention.*:UserWarning", "ignore::DeprecationWarning")


@quiet
@every_peer
def test_an_adapter_gives_the_oracle_s_numbers_in_our_layout(form: Form, imitations: None) -> None:
    inputs = draw()
    for causal in masks(form):
        output, truth = form(*inputs, causal=causal), form.oracle(*inputs, causal=causal)
        assert (output.shape, output.dtype) == (truth.shape, truth.dtype)
        assert error(output, truth) <= rounding(form, torch.float64, inputs[2])
    assert [form.backend if form.backend in OF_SOFTMAX else form.attention] * len(masks(form)) == CALLED


@quiet
@pytest.mark.parametrize("form", [form for form in PEERS if form.backend != "flex"], ids=str)
def test_gradients_pass_through_an_adapter(form: Form, imitations: None) -> None:
    inputs, upstream = draw(), draw(seed=1)[2]
    mine, theirs = tracked(*inputs), tracked(*inputs)
    gradients = torch.autograd.grad(form(*mine, causal=True), mine, upstream)
    truths = torch.autograd.grad(form.oracle(*theirs, causal=True), theirs, upstream)
    for gradient, truth in zip(gradients, truths, strict=True):
        assert error(gradient, truth) <= 2 * rounding(form, torch.float64, torch.cat(truths))


@quiet
@pytest.mark.parametrize("form", PEERS, ids=str)
def test_rows_that_are_not_contiguous_are_copied_and_inputs_left_alone(form: Form, imitations: None) -> None:
    inputs = draw()
    strided = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs]
    assert error(form(*strided, causal=True), form(*inputs, causal=True)) <= rounding(
        form, torch.float64, inputs[2]
    )
    assert all(map(torch.equal, strided, inputs))


@pytest.mark.parametrize("name", FLA)
def test_fla_refuses_what_is_not_causal(name: str, imitations: None) -> None:
    with pytest.raises(InvalidArgument, match="is causal only; use --causal"):
        Form(name, "fla", {})(*draw())
    assert not CALLED


def test_without_a_gpu_a_peer_says_so_and_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(name: str) -> None:
        raise AssertionError(f"{name} was looked up")

    monkeypatch.setattr(reasons, "find_spec", looked_up)
    for form in PEERS:
        found = form.spec.unsupported_reasons(form.backend, Problem(1, 2, 64, 8, causal=True))
        assert found == [f"{form.backend} runs on cuda only"]


def on_gpu(**changes: Any) -> Problem:
    usual = {"dtype": "bfloat16", "device": "cuda", "causal": True}
    return Problem(1, 5, changes.pop("seq_len", 64), changes.pop("head_dim", 64), **{**usual, **changes})


PACKAGES = {"fla": "flash-linear-attention", "flash-attn": "flash-attn", "xformers": "xformers"}


@pytest.mark.parametrize("form", [form for form in PEERS if form.backend != "flex"], ids=str)
def test_a_peer_that_is_not_installed_says_how_to_install_it(
    form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES[form.backend]
    assert form.spec.backends[form.backend].package == package
    monkeypatch.setattr(reasons, "find_spec", lambda name: None)
    missing = f"{form.backend} is not installed: pip install {package}"
    assert missing in form.spec.unsupported_reasons(form.backend, on_gpu())
    several = form.spec.unsupported_reasons(form.backend, on_gpu(dtype="float64", causal=False))
    assert missing in several
    assert any("float64" in reason for reason in several)
    monkeypatch.setattr(reasons, "find_spec", lambda name: SimpleNamespace())
    assert form.spec.unsupported_reasons(form.backend, on_gpu()) == []


@pytest.mark.parametrize(
    ("impl", "changes", "reason"),
    [
        ("linear/fla", {"causal": False}, "fla is causal only; use --causal"),
        ("linear/fla", {"seq_len": 4}, "fla takes as many tokens as heads or more; it is 4 by 5"),
        ("gla/fla", {"head_dim": 512}, "fla takes head_dim up to 256; it is 512"),
        (
            "gated-delta/fla",
            {"dtype": "float32"},
            "fla's gated delta rule takes float16 or bfloat16; it is float32",
        ),
        (
            "softmax/flash-attn",
            {"dtype": "float32"},
            "flash-attn takes float16 or bfloat16 on cuda; it is float32",
        ),
        ("softmax/flash-attn", {"head_dim": 512}, "flash-attn takes head_dim up to 256; it is 512"),
        (
            "softmax/xformers",
            {"dtype": "float64"},
            "xformers takes float32, float16 or bfloat16; it is float64",
        ),
        ("softmax/flex", {"head_dim": 8}, "flex takes head_dim from 16 on; it is 8"),
    ],
)
def test_what_a_peer_cannot_compute_is_a_reason(
    impl: str, changes: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "find_spec", lambda name: SimpleNamespace())
    name, backend = impl.split("/")
    assert attention_impls.get(name).unsupported_reasons(backend, on_gpu(**changes)) == [reason]


def test_no_peer_is_the_default_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "find_spec", lambda name: SimpleNamespace())
    for form in PEERS:
        assert form.spec.best_backend(on_gpu()) != form.backend


def test_no_peer_is_imported_to_list_attentions_or_to_import_an_adapter() -> None:
    script = """
import sys, attention_impls
for name in attention_impls.names():
    spec = attention_impls.get(name)
    for device in ("cpu", "cuda"):
        problem = attention_impls.Problem(1, 2, 64, 64, "float32", device, causal=True)
        [spec.unsupported_reasons(backend, problem) for backend in spec.backends]
    [backend.op for backend in spec.backends.values()]
found = {"fla", "flash_attn", "xformers"} & set(sys.modules)
assert not found, found
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr


def test_a_run_records_the_versions_of_the_peers_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"flash-attn": "2.8.3", "flash-linear-attention": "0.4.0"}
    monkeypatch.setattr(environment, "version_of", known.get)
    assert environment.peers() == {"flash_attn": "2.8.3", "flash_linear_attention": "0.4.0"}
    assert environment.peers().items() <= environment.describe().items()
