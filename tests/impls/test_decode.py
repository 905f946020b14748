"""The recurrent forms: one token at a time gives what the parallel causal form gives at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import attention_impls
from attention_impls import Problem, Recurrence, Unsupported, chunks

from .support import DTYPES, SHAPE, Form, decoding_forms, draw, error, rounding

every_decoder = pytest.mark.parametrize("form", decoding_forms(), ids=str)


every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def recurrence(form: Form) -> Recurrence:
    found = form.spec.backends[form.backend].recurrence
    assert found is not None
    return found


def held(form: Form, state: Any) -> list[Tensor]:
    """The tensors that the state stands for, without a cache's spare rows."""
    return recurrence(form).held(state)


def empty_state(form: Form, dtype: torch.dtype) -> Any:
    return recurrence(form).init_state(form.problem(dtype=str(dtype).removeprefix("torch.")))


def prefill(form: Form, inputs: Sequence[Tensor], state: Any = None, start: int = 0) -> tuple[Tensor, Any]:
    """Of the tokens from position ``start`` on: what every token brings belongs to its position."""
    query, key, value = inputs
    keywords = {**form.hyperparameters, **form.operands(value, causal=True, start=start)}
    return recurrence(form).prefill(query, key, value, state, **keywords)


def token_operands(form: Form, value: Tensor, position: int, start: int = 0) -> dict[str, Tensor]:
    """The operands of a step: what is learned, and what that token brings."""
    known = form.spec.operands(form.problem(causal=True))
    return {
        name: x if known[name].learned else x[:, :, position]
        for name, x in form.operands(value, causal=True, start=start).items()
    }


def step_through(form: Form, inputs: Sequence[Tensor], state: Any, start: int = 0) -> tuple[Tensor, Any]:
    """The outputs of one step per token from position ``start`` on, and the state after the last."""
    outputs = []
    for position, (query, key, value) in enumerate(zip(*(x.unbind(2) for x in inputs), strict=True)):
        keywords = {**form.hyperparameters, **token_operands(form, inputs[2], position, start)}
        output, state = recurrence(form).step(query, key, value, state, **keywords)
        outputs.append(output)
    return torch.stack(outputs, 2), state


@every_decoder
@every_dtype
def test_stepping_through_the_tokens_is_the_parallel_causal_form(form: Form, dtype: torch.dtype) -> None:
    inputs = draw(dtype=dtype)
    stepped, _ = step_through(form, inputs, empty_state(form, dtype))
    assert stepped.dtype == dtype
    assert error(stepped, form(*inputs, causal=True).double()) <= 2 * rounding(form, dtype, inputs[2])


@every_decoder
@every_dtype
def test_filling_in_the_tokens_at_once_is_the_causal_op(form: Form, dtype: torch.dtype) -> None:
    inputs = draw(dtype=dtype)
    output, _ = prefill(form, inputs)
    assert output.dtype == dtype
    assert error(output, form(*inputs, causal=True).double()) <= rounding(form, dtype, inputs[2])


@every_decoder
@every_dtype
@pytest.mark.parametrize("context", [1, 16, SHAPE[2] - 1])
def test_filling_in_a_context_and_stepping_on_is_the_parallel_form(
    form: Form, dtype: torch.dtype, context: int
) -> None:
    inputs = draw(dtype=dtype)
    first, state = prefill(form, [x[:, :, :context] for x in inputs])
    rest, _ = step_through(form, [x[:, :, context:] for x in inputs], state, start=context)
    whole = form(*inputs, causal=True).double()
    assert error(torch.cat((first, rest), 2), whole) <= 2 * rounding(form, dtype, inputs[2])


@every_decoder
@every_dtype
def test_a_context_may_be_filled_in_part_by_part(
    form: Form, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 1)  # chunks of 16 rows, so that parts hold several
    inputs = draw(1, 2, 150, 4, dtype=dtype)
    state, outputs, start = None, [], 0
    for part in zip(*(torch.split(x, [1, 40, 64, 45], 2) for x in inputs), strict=True):
        output, state = prefill(form, part, state, start)
        outputs.append(output)
        start += output.shape[2]
    whole, expected = prefill(form, inputs)
    assert error(torch.cat(outputs, 2), whole.double()) <= 2 * rounding(form, dtype, inputs[2])
    assert_alike(form, dtype, state, expected)


@every_decoder
@every_dtype
def test_the_state_after_a_context_is_that_after_stepping_through_it(form: Form, dtype: torch.dtype) -> None:
    inputs = draw(dtype=dtype)
    assert_alike(
        form, dtype, prefill(form, inputs)[1], step_through(form, inputs, empty_state(form, dtype))[1]
    )


def assert_alike(form: Form, dtype: torch.dtype, state: Any, expected: Any) -> None:
    """Every part within rounding, relative to its largest entry: sums over tokens cancel in part."""
    wide = chunks.accumulator_dtype(dtype)
    tolerance = SHAPE[2] * torch.finfo(wide).eps
    numbers, others = ([x for x in each if not isinstance(x, Tensor)] for each in (state, expected))
    assert numbers == others
    for part, like in zip(held(form, state), held(form, expected), strict=True):
        assert (part.shape, part.dtype) == (like.shape, like.dtype)
        if like.numel():
            assert error(part, like.double()) <= tolerance * float(like.abs().max()) + tolerance


@every_decoder
@every_dtype
@pytest.mark.parametrize("context", [1, 20])
def test_two_states_merge_into_that_of_all_their_tokens(form: Form, dtype: torch.dtype, context: int) -> None:
    inputs = draw(dtype=dtype)
    merge = recurrence(form).merge
    if merge is None:
        pytest.skip("its states cannot be merged")
    earlier = prefill(form, [x[:, :, :context] for x in inputs])[1]
    later = prefill(form, [x[:, :, context:] for x in inputs], start=context)[1]
    before = [x.clone() for x in held(form, earlier) + held(form, later)]
    assert_alike(form, dtype, merge(earlier, later), prefill(form, inputs)[1])
    assert all(map(torch.equal, held(form, earlier) + held(form, later), before))


@every_decoder
def test_filling_in_from_the_empty_state_is_filling_in_from_none(form: Form) -> None:
    inputs = draw()
    from_none, from_empty = prefill(form, inputs), prefill(form, inputs, empty_state(form, torch.float64))
    assert error(from_empty[0], from_none[0]) <= rounding(form, torch.float64, inputs[2])
    assert_alike(form, torch.float64, from_empty[1], from_none[1])


@every_decoder
def test_neither_stepping_nor_filling_in_changes_the_state_passed_in(form: Form) -> None:
    inputs = draw()
    _, state = prefill(form, inputs)
    before = [x.clone() for x in held(form, state)]
    step_through(form, [2 * x for x in inputs], state)
    prefill(form, [2 * x for x in inputs], state)
    assert all(torch.equal(x, old) for x, old in zip(held(form, state), before, strict=True))


@every_decoder
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("filled", [False, True], ids=["stepped", "filled"])
def test_state_bytes_are_what_the_state_holds_after_any_number_of_tokens(
    form: Form, dtype: str, filled: bool
) -> None:
    problem = form.problem(dtype=dtype)
    inputs, tokens = draw(dtype=getattr(torch, dtype)), SHAPE[2] if filled else 0
    state = prefill(form, inputs)[1] if filled else recurrence(form).init_state(problem)
    assert form.spec.state_bytes is not None
    for position in range(3):
        # Of a state that grows the tokens so far; of others the problem's own seq_len, which must not matter.
        so_far = replace(problem, seq_len=tokens + position) if form.spec.state_grows else problem
        found = sum(x.numel() * x.element_size() for x in held(form, state))
        assert form.spec.state_bytes(so_far) == found
        query, key, value = (x[:, :, position] for x in inputs)
        keywords = {**form.hyperparameters, **token_operands(form, inputs[2], position)}
        _, state = recurrence(form).step(query, key, value, state, **keywords)


@every_decoder
def test_a_state_keeps_nothing_of_the_context_alive(form: Form) -> None:
    for part in prefill(form, draw())[1]:
        if isinstance(part, Tensor):
            assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


@pytest.mark.parametrize("name", ["ea-series", "efficient", "aft-simple"])
def test_one_great_key_does_not_ruin_the_state(name: str) -> None:
    form = Form(name, "eager", {})
    query, key, value = draw(dtype=torch.float32)
    key[:, :, 0] = 12.0 if name == "ea-series" else -200.0
    key[:, :, 5] = 200.0
    truth = form.oracle(query, key, value, causal=True)
    stepped, _ = step_through(form, (query, key, value), empty_state(form, torch.float32))
    assert error(stepped, truth) <= rounding(form, torch.float32, value)
    for context in (1, 3, 8):  # before and after the key
        _, state = prefill(form, [x[:, :, :context] for x in (query, key, value)])
        rest, _ = prefill(form, [x[:, :, context:] for x in (query, key, value)], state)
        assert error(rest, truth[:, :, context:]) <= rounding(form, torch.float32, value)


def test_the_spec_s_own_functions_are_those_of_the_eager_form() -> None:
    form = Form("linear", "eager", {})
    query, key, value = draw()
    output, state = form.spec.prefill(query, key, value)
    assert torch.equal(output, prefill(form, (query, key, value))[0])
    token = query[:, :, 0], key[:, :, 0], value[:, :, 0]
    assert torch.equal(form.spec.step(*token, state)[0], recurrence(form).step(*token, state)[0])
    assert form.spec.init_state(form.problem()).context.shape == state.context.shape


def test_an_attention_without_a_recurrent_form_says_so() -> None:
    known = attention_impls.get("softmax")
    spec = replace(known, backends={"eager": replace(known.backends["eager"], recurrence=None)})
    assert not spec.has_decode
    with pytest.raises(Unsupported, match="softmax has no recurrent form"):
        spec.init_state(Problem(*SHAPE))
    with pytest.raises(Unsupported, match="softmax has no recurrent form"):
        spec.prefill(*draw())
