"""The recurrent forms: one token at a time gives what the parallel causal form gives at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import Problem, Unsupported

from .support import DTYPES, SHAPE, Form, decoding_forms, draw, error, rounding

every_decoder = pytest.mark.parametrize("form", decoding_forms(), ids=str)


def tensors(state: tuple[object, ...]) -> list[Tensor]:
    return [part for part in state if isinstance(part, Tensor)]


@every_decoder
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_stepping_through_the_tokens_is_the_parallel_causal_form(form: Form, dtype: torch.dtype) -> None:
    inputs = draw(dtype=dtype)
    state = form.spec.init_state(form.problem(dtype=str(dtype).removeprefix("torch.")))
    outputs = []
    for query, key, value in zip(*(x.unbind(2) for x in inputs), strict=True):
        output, state = form.spec.step(query, key, value, state, **form.hyperparameters)
        outputs.append(output)
    stepped = torch.stack(outputs, 2)
    assert stepped.dtype == dtype
    assert error(stepped, form(*inputs, causal=True).double()) <= 2 * rounding(form, dtype, inputs[2])


@every_decoder
def test_the_state_passed_in_is_not_changed(form: Form) -> None:
    query, key, value = (x[:, :, 0] for x in draw())
    _, state = form.spec.step(
        query, key, value, form.spec.init_state(form.problem(dtype="float64")), **form.hyperparameters
    )
    before = [x.clone() for x in tensors(state)]
    first, _ = form.spec.step(query, 2 * key, value, state, **form.hyperparameters)
    assert all(torch.equal(x, old) for x, old in zip(tensors(state), before, strict=True))
    again, _ = form.spec.step(query, 2 * key, value, state, **form.hyperparameters)
    assert torch.equal(first, again)


@every_decoder
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_state_bytes_are_what_the_state_holds_after_any_number_of_tokens(form: Form, dtype: str) -> None:
    problem = form.problem(dtype=dtype)
    inputs = draw(dtype=getattr(torch, dtype))
    state = form.spec.init_state(problem)
    assert form.spec.state_bytes is not None
    for position in range(3):
        assert form.spec.state_bytes(problem) == sum(x.numel() * x.element_size() for x in tensors(state))
        query, key, value = (x[:, :, position] for x in inputs)
        _, state = form.spec.step(query, key, value, state, **form.hyperparameters)


@pytest.mark.parametrize("name", ["ea-series", "efficient"])
def test_one_great_key_does_not_ruin_the_state(name: str) -> None:
    form = Form(name, "eager", {})
    query, key, value = draw(dtype=torch.float32)
    key[:, :, 0] = 12.0 if name == "ea-series" else -200.0
    key[:, :, 5] = 200.0
    state = form.spec.init_state(form.problem())
    truth = form.oracle(query, key, value, causal=True)
    for position in range(SHAPE[2]):
        token = query[:, :, position], key[:, :, position], value[:, :, position]
        output, state = form.spec.step(*token, state)
        assert error(output, truth[:, :, position]) <= rounding(form, torch.float32, value)


def test_an_attention_without_a_recurrent_form_says_so() -> None:
    spec = attention_impls.get("softmax")
    assert not spec.has_decode
    with pytest.raises(Unsupported, match="softmax has no recurrent form"):
        spec.init_state(Problem(*SHAPE))
