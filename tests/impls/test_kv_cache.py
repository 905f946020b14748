"""The KV cache: what a state stands for, when buffers are shared, and when they are copied."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from attention_impls import Problem, chunks, kv_cache
from attention_impls.kv_cache import PAGE, State

from .support import SHAPE, Form, decoding_forms, draw, error, rounding

cached_forms = [form for form in decoding_forms() if form.spec.state_grows]
every_cached = pytest.mark.parametrize("form", cached_forms, ids=str)


def cache_of(tokens: int, seed: int = 0) -> tuple[State, Tensor, Tensor]:
    """A cache of so many tokens, and the keys and values that it stands for."""
    _, key, value = draw(2, 3, tokens, 4, seed=seed)
    return kv_cache.extended(None, key, value), key, value


def token(seed: int) -> tuple[Tensor, Tensor]:
    _, key, value = draw(2, 3, 4, seed=seed)
    return key, value


def stands_for(state: State, *held: Tensor) -> bool:
    return all(map(torch.equal, state.held, held))


def shared(one: State, other: State) -> bool:
    """Whether both the keys and the values lie in the same buffers."""
    pairs = ((one.keys, other.keys), (one.values, other.values))
    return all(a.data_ptr() == b.data_ptr() for a, b in pairs)


def step(form: Form, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
    recurrence = form.spec.backends[form.backend].recurrence
    assert recurrence is not None
    output, new = recurrence.step(*inputs, state, **form.hyperparameters)
    assert isinstance(new, State)
    return output, new


def filled(form: Form, inputs: tuple[Tensor, ...]) -> State:
    recurrence = form.spec.backends[form.backend].recurrence
    assert recurrence is not None
    state = recurrence.prefill(*inputs, **form.hyperparameters)[1]
    assert isinstance(state, State)
    return state


def test_the_forms_with_a_cache_are_these() -> None:
    named = {f"{form.attention}/{form.backend}" for form in cached_forms}
    assert {
        "softmax/sdpa", "softmax/flash", "softmax/math", "softmax/eager", "element-wise/eager",
        "element-wise/sdpa",
    } <= named  # fmt: skip
    assert not any(name.startswith(("linear", "ea-series", "efficient", "hadamard")) for name in named)


class TestSteps:
    def test_a_token_is_written_behind_the_others_and_the_buffers_stay(self) -> None:
        state, key, value = cache_of(10)
        new_key, new_value = token(1)
        after = kv_cache.appended(state, new_key, new_value)
        assert (state.tokens, after.tokens) == (10, 11)
        assert shared(state, after)
        assert stands_for(state, key, value)
        expected = (torch.cat((x, y[:, :, None]), 2) for x, y in ((key, new_key), (value, new_value)))
        assert stands_for(after, *expected)

    @every_cached
    def test_two_steps_from_one_state_are_both_right(self, form: Form) -> None:
        query, key, value = draw()
        other = tuple(x[:, :, -1] for x in draw(seed=5))
        state = filled(form, (query[:, :, :-1], key[:, :, :-1], value[:, :, :-1]))
        mine = query[:, :, -1], key[:, :, -1], value[:, :, -1]
        truth = form.oracle(query, key, value, causal=True)[:, :, -1]
        swapped = (
            torch.cat((x[:, :, :-1], y[:, :, None]), 2)
            for x, y in zip((query, key, value), other, strict=True)
        )
        other_truth = form.oracle(*swapped, causal=True)[:, :, -1]
        tolerance = rounding(form, torch.float64, value)
        for inputs, expected in ((mine, truth), (other, other_truth), (mine, truth)):
            assert error(step(form, inputs, state)[0], expected) <= tolerance
        assert error(truth, other_truth) > 1e-3

    def test_the_younger_branch_overwrites_the_older_and_a_copy_does_not(self) -> None:
        state, *_ = cache_of(10)
        apart = copy.deepcopy(state)
        first = kv_cache.appended(state, *token(1))
        older = [x.clone() for x in first.held]
        kv_cache.appended(apart, *token(2))
        assert stands_for(first, *older)
        kv_cache.appended(state, *token(2))
        assert not stands_for(first, *older)  # as the docstring says

    def test_full_buffers_are_copied_into_larger_ones_and_left_alone(self) -> None:
        problem = Problem(2, 3, 2, 4, dtype="float64")
        state = kv_cache.init_state(problem)
        for seed in range(3):
            state = kv_cache.appended(state, *token(seed))
        assert state.tokens == state.capacity == 3
        before = [state.keys.clone(), state.values.clone()]
        after = kv_cache.appended(state, *token(3))
        assert not shared(state, after)
        assert (after.tokens, after.capacity) == (4, PAGE)
        assert all(map(torch.equal, (state.keys, state.values), before))
        assert stands_for(after._replace(tokens=3), *before)
        assert shared(after, kv_cache.appended(after, *token(4)))

    def test_many_steps_copy_the_cache_once_a_page(self) -> None:
        state, copies = kv_cache.init_state(Problem(1, 1, 0, 2)), 0
        key = torch.ones(1, 1, 2)
        for count in range(3 * PAGE):
            after = kv_cache.appended(state, count * key, -count * key)
            copies += not shared(state, after)
            state = after
        assert copies == 3
        assert state.held[0][0, 0, :, 0].tolist() == list(range(3 * PAGE))

    @every_cached
    def test_a_step_makes_no_copy_of_the_cache_and_no_gradient(self, form: Form) -> None:
        inputs = draw(1, 2, 8, 4)
        state = filled(form, inputs)
        query, key, value = (x[:, :, 0].clone().requires_grad_() for x in inputs)
        output, after = step(form, (query, key, value), state)
        assert shared(state, after)
        assert not output.requires_grad
        assert not after.keys.requires_grad

    @every_cached
    def test_scratch_rows_are_never_read(self, form: Form) -> None:
        inputs = draw()
        state = filled(form, inputs)
        for buffer in (state.keys, state.values):
            buffer[:, :, state.tokens :] = float("nan")
        recurrence = form.spec.backends[form.backend].recurrence
        assert recurrence is not None
        assert step(form, tuple(x[:, :, 0] for x in inputs), state)[0].isfinite().all()
        assert recurrence.prefill(*inputs, state, **form.hyperparameters)[0].isfinite().all()


class TestRoom:
    @pytest.mark.parametrize("tokens", [1, PAGE - 1, PAGE, PAGE + 1])
    def test_a_row_is_free_after_filling_in(self, tokens: int) -> None:
        state, key, value = cache_of(tokens)
        assert tokens < state.capacity <= tokens + PAGE
        assert state.capacity % PAGE == 0
        assert stands_for(state, key, value)
        assert shared(state, kv_cache.appended(state, *token(1)))

    def test_the_empty_cache_has_room_for_its_tokens_and_one_more(self) -> None:
        problem = Problem(*SHAPE, dtype="bfloat16")
        state = kv_cache.init_state(problem)
        assert (state.tokens, state.capacity) == (0, SHAPE[2] + 1)
        assert state.keys.dtype == torch.bfloat16
        _, key, value = draw(dtype=torch.bfloat16)
        assert shared(state, kv_cache.extended(state, key, value))

    def test_what_does_not_fit_is_copied_with_a_row_to_spare(self) -> None:
        state, key, value = cache_of(PAGE - 1)
        for count in (1, PAGE):
            _, more_key, more_value = draw(2, 3, count, 4, seed=3)
            after = kv_cache.extended(state, more_key, more_value)
            assert not shared(state, after)
            assert after.capacity > after.tokens == PAGE - 1 + count
            assert stands_for(after, torch.cat((key, more_key), 2), torch.cat((value, more_value), 2))


class TestMerge:
    @pytest.mark.parametrize(("first", "second"), [(5, 7), (PAGE - 3, 2), (PAGE - 3, 3), (PAGE, PAGE)])
    def test_is_one_after_the_other_with_a_row_free(self, first: int, second: int) -> None:
        (earlier, key, value), (later, key_2, value_2) = cache_of(first), cache_of(second, seed=1)
        merged = kv_cache.merge(earlier, later)
        assert stands_for(merged, torch.cat((key, key_2), 2), torch.cat((value, value_2), 2))
        assert stands_for(earlier, key, value)
        assert stands_for(later, key_2, value_2)
        assert merged.capacity > merged.tokens
        assert shared(merged, earlier) == (first + second < PAGE)
        assert not shared(merged, later)

    def test_a_state_merges_with_itself(self) -> None:
        state, key, value = cache_of(5)
        merged = kv_cache.merge(state, state)
        assert stands_for(merged, torch.cat((key, key), 2), torch.cat((value, value), 2))

    def test_of_a_state_and_its_own_successor_leaves_both_alone(self) -> None:
        earlier, key, value = cache_of(3)
        later = kv_cache.extended(earlier, key + 1, value + 1)
        before = [x.clone() for x in later.held]
        assert shared(earlier, later)
        merged = kv_cache.merge(earlier, later)
        assert stands_for(merged, torch.cat((key, before[0]), 2), torch.cat((value, before[1]), 2))
        assert stands_for(later, *before)
        assert stands_for(earlier, key, value)


def test_the_state_in_blocks_is_the_state() -> None:
    state, key, value = cache_of(10)
    parts = list(kv_cache.blocks(state, 4))
    assert [keys.shape[2] for keys, _ in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([keys for keys, _ in parts], 2), key)
    assert torch.equal(torch.cat([values for _, values in parts], 2), value)


def test_a_long_cache_steps_in_blocks_to_the_same_output(monkeypatch: pytest.MonkeyPatch) -> None:
    form = Form("element-wise", "eager", {})
    query, key, value = draw(1, 2, 100, 4, spread=3)
    state = filled(form, tuple(x[:, :, :-1] for x in (query, key, value)))
    sizes: list[int] = []
    blocks = kv_cache.blocks

    def counted(cache: State, rows: int) -> list[tuple[Tensor, Tensor]]:
        parts = list(blocks(cache, rows))
        sizes.extend(keys.shape[2] for keys, _ in parts)
        return parts

    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 16 * 8)
    monkeypatch.setattr(kv_cache, "blocks", counted)
    output, _ = step(form, (query[:, :, -1], key[:, :, -1], value[:, :, -1]), state)
    assert sizes == [16] * 6 + [4]
    truth = form.oracle(query, key, value, causal=True)[:, :, -1]
    assert error(output, truth) <= rounding(form, torch.float64, value)
