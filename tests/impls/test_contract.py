"""What every attention promises, whatever it computes: each law for every variant, backend and mask."""

from __future__ import annotations

import pytest
import torch

from attention_impls import InvalidArgument, blocks, chunks, element_wise

from .support import (
    DTYPES,
    SHAPE,
    Form,
    draw,
    eager_forms,
    error,
    forms,
    masks,
    rounding,
    skip_unless_defined,
    tracked,
)

every_form = pytest.mark.parametrize("form", forms(), ids=str)
every_variant = pytest.mark.parametrize("form", eager_forms(), ids=str)
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])

LENGTH = SHAPE[2]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that every loop over blocks runs several times, the last one ragged."""
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 1)
    monkeypatch.setattr(element_wise, "BLOCK_ELEMENTS", {"cpu": 4000})
    monkeypatch.setattr(blocks, "MIN_CHUNK_ROWS", 8)
    monkeypatch.setattr(blocks, "STRIP_ROWS", 4)
    # Two chunks in a block: one row of all heads is 24 elements.
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 2 * 8 * 24)
    monkeypatch.setitem(blocks.LEAST_BLOCKS, "cpu", 1)
    monkeypatch.setitem(blocks.LEAST_CAUSAL_BLOCKS, "cpu", 1)


@pytest.fixture(autouse=True)
def only_forms_that_are_defined(request: pytest.FixtureRequest) -> None:
    """Tests of both masks test one where an attention is causal only."""
    asked = getattr(request.node, "callspec", None)
    if asked and {"form", "causal"} <= set(asked.params):
        skip_unless_defined(asked.params["form"], asked.params["causal"])


@every_form
@both_masks
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_output_has_the_query_s_shape_and_dtype_and_agrees_with_the_oracle(
    form: Form, causal: bool, dtype: torch.dtype
) -> None:
    inputs = draw(dtype=dtype)
    output = form(*inputs, causal=causal)
    truth = form.oracle(*inputs, causal=causal)
    assert (output.shape, output.dtype, truth.dtype) == (torch.Size(SHAPE), dtype, torch.float64)
    eager = Form(form.attention, form.spec.plain, form.hyperparameters)
    own_error = error(eager(*inputs, causal=causal), truth)
    assert own_error <= rounding(form, dtype, inputs[2])
    assert error(output, truth) <= 2 * own_error + 2 * torch.finfo(dtype).eps * float(inputs[2].abs().max())


@every_form
@both_masks
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradients_are_the_oracle_s(form: Form, causal: bool, dtype: torch.dtype) -> None:
    inputs, upstream = draw(dtype=dtype), draw(dtype=dtype, seed=1)[2]
    mine, theirs = tracked(*inputs), tracked(*(x.double() for x in inputs))
    gradients = torch.autograd.grad(form(*mine, causal=causal), mine, upstream)
    truths = torch.autograd.grad(form.oracle(*theirs, causal=causal), theirs, upstream.double())
    for gradient, truth in zip(gradients, truths, strict=True):
        # Backward runs twice the roundings of forward.
        assert error(gradient, truth) <= 2 * rounding(form, dtype, torch.cat(truths))


@pytest.mark.parametrize("form", [f for f in forms() if f.spec.operands(f.problem())], ids=str)
@both_masks
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradients_of_operands_are_the_oracle_s(form: Form, causal: bool, dtype: torch.dtype) -> None:
    inputs, upstream = draw(dtype=dtype), draw(dtype=dtype, seed=1)[2]
    operands = form.operands(inputs[2], causal)
    if not operands:
        pytest.skip("the causal form takes none")
    op, knobs = form.spec.backends[form.backend].op, {"causal": causal, **form.hyperparameters}
    mine = dict(zip(operands, tracked(*operands.values()), strict=True))
    theirs = dict(zip(operands, tracked(*(x.double() for x in operands.values())), strict=True))
    gradients = torch.autograd.grad(op(*inputs, **knobs, **mine), list(mine.values()), upstream)
    truth_of = form.spec.oracle(*(x.double() for x in inputs), **knobs, **theirs)
    truths = torch.autograd.grad(truth_of, list(theirs.values()), upstream.double())
    for gradient, truth in zip(gradients, truths, strict=True):
        assert truth.any()
        # An operand gathers what all positions and channels add to it.
        assert error(gradient, truth) <= 2 * LENGTH * rounding(form, dtype, truth)


@every_form
@both_masks
def test_gradients_are_those_of_finite_differences(form: Form, causal: bool) -> None:
    inputs = tracked(*draw(1, 2, 5, 2))
    assert torch.autograd.gradcheck(lambda *x: form(*x, causal=causal), inputs)


@every_form
def test_causal_output_ignores_later_tokens(form: Form) -> None:
    inputs = draw()
    for seen in (1, 16, 20, LENGTH - 1):
        changed = [torch.cat((x[:, :, :seen], 1e3 * x[:, :, seen:]), 2) for x in inputs]
        before = form(*inputs, causal=True)[:, :, :seen]
        after = form(*changed, causal=True)[:, :, :seen]
        assert error(after, before) <= rounding(form, torch.float64, inputs[2])


@every_form
def test_causal_output_passes_no_gradient_to_later_tokens(form: Form) -> None:
    inputs = tracked(*draw())
    seen = 20
    gradients = torch.autograd.grad(form(*inputs, causal=True)[:, :, :seen].sum(), inputs)
    for gradient in gradients:
        assert not gradient[:, :, seen:].any()
    assert gradients[2][:, :, :seen].any()


@pytest.mark.parametrize("form", [f for f in forms() if f.spec.causal_is_prefix], ids=str)
def test_causal_row_is_the_last_full_row_of_its_prefix(form: Form) -> None:
    inputs = draw()
    output = form(*inputs, causal=True)
    for end in (1, 2, 16, 17, LENGTH):
        prefix = form(*(x[:, :, :end] for x in inputs))
        assert error(output[:, :, end - 1], prefix[:, :, -1]) <= rounding(form, torch.float64, inputs[2])


every_placeless_form = pytest.mark.parametrize("form", [f for f in forms() if not f.spec.positional], ids=str)


@every_placeless_form
def test_permuting_all_tokens_permutes_the_output(form: Form) -> None:
    inputs = draw()
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(2))
    permuted = form(*(x[:, :, order] for x in inputs))
    assert error(permuted, form(*inputs)[:, :, order]) <= rounding(form, torch.float64, inputs[2])


@every_placeless_form
def test_permuting_keys_with_values_changes_nothing_unless_position_local(form: Form) -> None:
    query, key, value = draw()
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(2))
    change = error(form(query, key[:, :, order], value[:, :, order]), form(query, key, value))
    if form.spec.position_local:
        assert change > 0.01
    else:
        assert change <= rounding(form, torch.float64, value)


@pytest.mark.parametrize("form", [f for f in forms() if f.spec.averages and not f.hyperparameters], ids=str)
@both_masks
def test_an_average_of_equal_values_is_that_value(form: Form, causal: bool) -> None:
    query, key, value = draw()
    output = form(query, key, torch.full_like(value, 3.0), causal=causal)
    # Linear and multi-resolution add 1e-6 to their denominators, sums of products above 0.1 here; based adds
    # 1e-12 to one of weights that are 1/2 at least.
    added = {"linear": 3 * 1e-6 / 0.1, "multi-resolution": 3 * 1e-6 / 0.1, "based": 3 * 1e-12 / 0.5}
    allowed = added.get(form.attention, 0.0) + rounding(form, torch.float64, output)
    assert error(output, torch.full_like(value, 3.0)) <= allowed


@pytest.mark.parametrize("form", [f for f in forms() if not f.spec.averages], ids=str)
def test_every_attention_that_does_not_average_says_so(form: Form) -> None:
    query, key, value = draw()
    output = form(query, key, torch.ones_like(value), causal=masks(form)[0])
    assert error(output, torch.ones_like(value)) > 0.1


@every_form
@both_masks
def test_one_token_is_as_good_as_many(form: Form, causal: bool) -> None:
    inputs = draw(2, 3, 1, 4)
    output = form(*inputs, causal=causal)
    assert error(output, form.oracle(*inputs, causal=causal)) <= rounding(form, torch.float64, inputs[2])


@every_form
@both_masks
def test_strides_of_the_inputs_do_not_matter(form: Form, causal: bool) -> None:
    inputs = draw()
    expected = form(*inputs, causal=causal)
    token_major = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    channel_major = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs]
    strided = [torch.stack((x, x), -1)[..., 0] for x in inputs]
    for views in (token_major, channel_major, strided):
        assert not any(x.is_contiguous() for x in views)
        assert error(form(*views, causal=causal), expected) <= rounding(form, torch.float64, inputs[2])


@every_form
@both_masks
def test_one_sequence_with_heads_side_by_side_may_be_as_short_as_a_block(form: Form, causal: bool) -> None:
    # As a layer has it: with a batch of one, joining batch and heads copies nothing, and rows lie apart.
    inputs = draw(1, 3, blocks.MIN_CHUNK_ROWS, 4)
    views = [x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in inputs]
    assert not any(x.is_contiguous() for x in views)
    output, expected = form(*views, causal=causal), form(*inputs, causal=causal)
    assert error(output, expected) <= rounding(form, torch.float64, inputs[2])
    gradients = torch.autograd.grad(output.square().sum(), views)
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_form
@both_masks
def test_broadcast_inputs_count_as_their_copies(form: Form, causal: bool) -> None:
    query, key, value = draw()
    for broadcast in (key[:, :1].expand(SHAPE), key[..., :1].expand(SHAPE), key[:, :, :1].expand(SHAPE)):
        output = form(query, broadcast, value, causal=causal)
        copied = form(query, broadcast.clone(), value, causal=causal)
        assert error(output, copied) <= rounding(form, torch.float64, value)


@every_form
@both_masks
def test_inputs_are_not_modified(form: Form, causal: bool) -> None:
    inputs = tracked(*draw())
    before = [x.detach().clone() for x in inputs]
    torch.autograd.grad(form(*inputs, causal=causal).sum(), inputs)
    assert all(torch.equal(x, old) for x, old in zip(inputs, before, strict=True))


@every_variant
def test_batch_entries_and_heads_do_not_meet(form: Form) -> None:
    if form.hyperparameters.get("axis") == "channels":
        pytest.skip("this softmax runs over the channels of all heads")
    if any(not operand.learned for operand in form.spec.operands(form.problem()).values()):
        pytest.skip("its gates belong to tokens")
    inputs, first = draw(), 2 if form.spec.heads_alike else 0
    alone = form(*(x[1:, first:] for x in inputs))
    assert error(form(*inputs)[1:, first:], alone) <= rounding(form, torch.float64, inputs[2])


@pytest.mark.parametrize("form", [f for f in forms() if f.spec.per_channel], ids=str)
@both_masks
def test_heads_only_reshape_an_attention_per_channel(form: Form, causal: bool) -> None:
    inputs = draw()
    batch, heads, length, head_dim = SHAPE
    merged = [x.transpose(1, 2).reshape(batch, 1, length, heads * head_dim) for x in inputs]
    expected = form(*inputs, causal=causal).transpose(1, 2).reshape(batch, 1, length, heads * head_dim)
    assert error(form(*merged, causal=causal), expected) <= rounding(form, torch.float64, inputs[2])


@every_form
def test_an_argument_that_the_attention_does_not_have_is_refused(form: Form) -> None:
    op = form.spec.backends[form.backend].op
    with pytest.raises(TypeError, match="dropout"):
        op(*draw(), dropout=0.1)


@every_form
def test_tensors_that_break_the_rules_are_refused(form: Form) -> None:
    query, key, value = draw()
    refused = {
        "query must be": (query[0], key, value),
        "same shape": (query, key[:, :, :5], value),
        "same dtype": (query, key, value.float()),
        "1 or more": tuple(x[:, :, :0] for x in (query, key, value)),
        "dtype must be one of": tuple(x.long() for x in (query, key, value)),
    }
    for message, inputs in refused.items():
        with pytest.raises(InvalidArgument, match=message):
            form(*inputs)


@pytest.mark.parametrize("form", [f for f in forms() if f.spec.causal_only], ids=str)
def test_what_is_causal_only_refuses_another_mask_in_the_words_of_the_table(form: Form) -> None:
    words = f"{form.attention} is causal only; use --causal"
    assert form.spec.unsupported_reasons(form.backend, form.problem()) == [words]
    for problem in (form.problem(causal=True), form.problem(decode=True)):
        assert form.spec.unsupported_reasons(form.backend, problem) == []
    with pytest.raises(InvalidArgument, match=words):
        form(*draw())
    with pytest.raises(InvalidArgument, match=words):
        form.oracle(*draw())


@pytest.mark.parametrize(
    "form",
    [f for f in forms() if any(not each.learned for each in f.spec.operands(f.problem()).values())],
    ids=str,
)
def test_an_operand_of_every_token_that_is_missing_or_of_another_shape_is_named(form: Form) -> None:
    inputs, causal = draw(), masks(form)[0]
    op, operands = form.spec.backends[form.backend].op, form.operands(inputs[2], causal)
    for name, operand in operands.items():
        for wrong, found in ((None, "None"), (operand[:, :, 1:], "shape")):
            with pytest.raises(InvalidArgument, match=f"{name}=.*{found}"):
                op(*inputs, causal=causal, **{**operands, name: wrong})


@every_form
def test_a_hyperparameter_outside_its_rule_is_refused(form: Form) -> None:
    op = form.spec.backends[form.backend].op
    for name in form.spec.hyperparameters:
        with pytest.raises(InvalidArgument, match=f"{form.attention}: {name}="):
            op(*draw(), **{name: -1})
