"""ea-series/compile: the eager form's numbers from compiled code. Few tests, for each compiles."""

from __future__ import annotations

import pytest
import torch

import attention_impls
from attention_impls import Problem, chunks, ea_compiled

from .support import Form, draw, error, rounding, tracked

REASONS = attention_impls.get("ea-series").unsupported_reasons("compile", Problem(1, 1, 8, 4))

pytestmark = [
    pytest.mark.skipif(bool(REASONS), reason="; ".join(REASONS)),
    # Importing torch's compiler uses parts of torch that torch deprecates.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    # Dynamo hides this warning of its own from people, but not from pytest.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]

COMPILED = Form("ea-series", "compile", {"order": 2})


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_compiled_outputs_and_gradients_are_the_oracle_s(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two whole chunks and a ragged one.
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 16 * 8)
    monkeypatch.setattr(ea_compiled, "COMPILED_ELEMENTS", 16 * 8)
    inputs = draw(1, 2, 40, 4, dtype=torch.float32)
    leaves, doubles = tracked(*inputs), tracked(*(x.double() for x in inputs))
    output, truth = COMPILED(*leaves, causal=causal), COMPILED.oracle(*doubles, causal=causal)
    assert error(output, truth) <= rounding(COMPILED, torch.float32, inputs[2])
    gradients = torch.autograd.grad(output, leaves, inputs[2])
    truths = torch.autograd.grad(truth, doubles, inputs[2].double())
    for gradient, exact in zip(gradients, truths, strict=True):
        assert error(gradient, exact) <= 2 * rounding(COMPILED, torch.float32, torch.cat(truths))


def test_more_shapes_than_dynamo_s_own_limit_still_run_compiled() -> None:
    # Past its limit dynamo falls back to eager in silence; this backend raises the limit.
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=1):
        for length in (3, 4, 5):
            inputs = draw(1, 1, length, 1, dtype=torch.float32)
            Form("ea-series", "compile", {"order": 0})(*inputs)
    assert graphs["unique_graphs"] == 2 * 3  # moments and ratio, for each of three lengths
