"""Mode decode in the harness: one step after a context, gated, measured and reported as that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import made_up
import pytest
import torch

from attention_impls import Unsupported, kv_cache, linear
from elattn_bench import config, gate, sweep, workload
from elattn_bench.cases import Case, Grid, Impl
from elattn_bench.defaults import AXIS_DEFAULTS, RUN_DEFAULTS
from elattn_bench.estimate import call_seconds
from elattn_bench.gate import Gate
from elattn_bench.prediction import Predictor, input_bytes
from elattn_bench.results import Measurement, Skipped, make_row
from elattn_bench.stats import BUDGETS
from elattn_bench.worker import Settings, Worker

SUMS = ["efficient/eager", "ea-series/eager", "hadamard/eager", "linear/eager"]
CACHES = ["softmax/sdpa", "softmax/eager", "element-wise/eager", "element-wise/sdpa"]
every_impl = pytest.mark.parametrize("impl", [*SUMS, *CACHES])
every_cache = pytest.mark.parametrize("impl", CACHES)
LONG = 2**20


def case(impl: str = "linear/eager", **axes: Any) -> Case:
    order = 6 if impl.startswith("ea-series") else None
    usual = {"mode": "decode", "causal": True, "order": order, "heads": 2, "dim": 16, "seq_len": 100}
    return made_up.case(impl, **{**usual, **axes})


def faulty(name: str, **axes: Any) -> Case:
    return case(f"faulty_steps:{name}/eager", **axes)


def output(result: Any) -> torch.Tensor:
    found, _ = result
    assert isinstance(found, torch.Tensor)
    return found


class TestCases:
    def grid(self, impl: str = "linear/eager", **axes: Any) -> list[Case]:
        usual: dict[str, Any] = {
            "seq_len": (64,), "dim": (16,), "order": (6,), "batch": (1,), "heads": (2,), "dtype": ("float32",),
            "causal": (False, True), "mode": ("decode",), "level": ("op",), "device": "cpu",
        }  # fmt: skip
        return Grid(impls=(Impl.parse(impl),), **{**usual, **axes}).cases()

    @pytest.mark.parametrize("causal", [(False,), (True,), (False, True)], ids=str)
    def test_a_decode_case_is_causal_and_there_once(self, causal: tuple[bool, ...]) -> None:
        (only,) = self.grid(causal=causal)
        assert only.causal
        assert only.case_id == "linear/eager:op:decode:float32:causal:b1:h2:L64:D16"

    def test_other_modes_keep_both_masks(self) -> None:
        modes = [(each.mode, each.causal) for each in self.grid(mode=("forward", "decode"))]
        assert modes == [("forward", False), ("forward", True), ("decode", True)]

    @every_impl
    def test_a_bare_attention_decodes_with_a_backend_that_can(self, impl: str) -> None:
        (found,) = self.grid(impl.split("/")[0])
        assert found.unsupported_reasons() == []

    @pytest.mark.parametrize(
        ("impl", "axes", "reason"),
        [
            ("faulty_steps:forgetful/eager", {}, "faulty_steps:forgetful has no recurrent form"),
            ("softmax/cudnn", {}, "softmax/cudnn has no recurrent form; use sdpa or flash or math or eager"),
            ("ea-series/compile", {}, "ea-series/compile has no recurrent form; use fused or eager"),
            ("linear/eager", {"level": "layer"}, "without the layer around it; use --level op"),
            ("linear/eager", {"level": "block"}, "without the block around it; use --level op"),
        ],
    )
    def test_what_cannot_decode_says_why(self, impl: str, axes: dict[str, Any], reason: str) -> None:
        found = case(impl, **axes)
        assert reason in found.unsupported_reasons()[-1]
        assert Gate().refusal(found) == Skipped("unsupported", "; ".join(found.unsupported_reasons()))

    @pytest.mark.parametrize("impl", SUMS)
    def test_a_step_costs_the_same_after_any_context(self, impl: str) -> None:
        short, long = case(impl), case(impl, seq_len=LONG)
        assert short.cost == long.cost
        assert 0 < short.cost.flops < replace(short, mode="forward").cost.flops
        assert short.analytic_memory_bytes == long.analytic_memory_bytes
        assert call_seconds(short) == call_seconds(long)

    @every_cache
    def test_a_step_on_a_cache_costs_more_after_a_longer_context_and_holds_the_same(self, impl: str) -> None:
        short, long = case(impl, seq_len=LONG // 64), case(impl, seq_len=LONG)
        assert 60 < long.cost.flops / short.cost.flops < 64
        assert 60 < long.cost.bytes / short.cost.bytes < 64
        assert call_seconds(long) > call_seconds(short)
        assert long.state_bytes == 2 * LONG * 16 * 4
        assert long.analytic_memory_bytes == short.analytic_memory_bytes == 16 * 4


class TestWorkload:
    @every_impl
    def test_inputs_are_the_token_and_the_state(self, impl: str) -> None:
        of = case(impl, dtype="bfloat16")
        load = workload.build(of)
        assert of.state_bytes is not None
        spare = 2 * 16 * 2 if of.spec.state_grows else 0
        assert load.input_bytes == 3 * 16 * 2 + of.state_bytes + spare == input_bytes(of)

    @every_impl
    def test_every_call_is_the_same_step(self, impl: str) -> None:
        load = workload.build(case(impl))
        versions, result = load.versions(), load.call()
        assert load.broken(result, versions) is None
        first, again = output(result), output(load.call())
        assert torch.equal(first, again)
        assert not first.requires_grad
        assert list(first.shape) == [1, 2, 8]

    @every_impl
    @pytest.mark.parametrize("length", [1, 7, 32, 33, 77])
    def test_a_long_context_is_its_first_segment_again_and_again(
        self, impl: str, length: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        of = case(impl, seq_len=length, dtype="float64")
        whole = workload.fill_context(replace(of, seq_len=16))
        monkeypatch.setattr(workload, "SEGMENT", 16 * of.dim)
        recurrence = workload.recurrence_of(of)
        assert all(map(torch.equal, recurrence.held(whole), self.state(replace(of, seq_len=16))))
        generator = torch.Generator().manual_seed(1)
        shape = (1, 2, min(length, 16), 8)
        segment = [workload._draw(of, shape, generator, 1.0) for _ in range(3)]
        query, key, value = (torch.cat([x] * 5, 2)[:, :, :length] for x in segment)
        _, expected = recurrence.prefill(query, key, value, **of.problem.hyperparameters)
        for found, like in zip(self.state(of), recurrence.held(expected), strict=True):
            torch.testing.assert_close(found, like, rtol=1e-12, atol=1e-12)

    def state(self, of: Case) -> list[torch.Tensor]:
        return workload.recurrence_of(of).held(workload.fill_context(of))

    def test_states_that_cannot_be_merged_are_filled_in_to_the_same_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workload, "SEGMENT", 16 * 16)
        merged, filled = (
            self.state(of)
            for of in (
                case(seq_len=77, dtype="float64"),
                faulty("right_without_merging", seq_len=77, dtype="float64"),
            )
        )
        for one, other in zip(merged, filled, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)

    def test_a_million_tokens_take_a_segment_s_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows: list[int] = []
        prefill = linear.prefill

        def counted(query: torch.Tensor, *rest: Any, **knobs: Any) -> Any:
            rows.append(query.shape[2])
            return prefill(query, *rest, **knobs)

        recurrence = workload.recurrence_of(case())
        monkeypatch.setitem(recurrence.__dict__, "prefill", counted)
        context = workload.fill_context(case(seq_len=LONG, dim=512, heads=8))
        assert sum(rows) == workload.SEGMENT // 512
        assert float(context.normaliser.min()) > LONG / 10  # of a feature map above 0

    @every_cache
    @pytest.mark.parametrize("seq_len", [1, 15, 16, 100, 2**16, 2**16 + 5])
    def test_a_cache_is_filled_in_with_a_few_tokens_work_and_one_copy(
        self, impl: str, seq_len: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        of = case(impl, seq_len=seq_len, dim=8)
        recurrence, rows, written = workload.recurrence_of(of), [], []
        prefill, write = recurrence.prefill, kv_cache._written

        def counted(query: torch.Tensor, *rest: Any, **knobs: Any) -> Any:
            rows.append(query.shape[2])
            return prefill(query, *rest, **knobs)

        def noted(state: Any, key: torch.Tensor, value: torch.Tensor) -> Any:
            written.append(key.shape[2])
            return write(state, key, value)

        monkeypatch.setitem(recurrence.__dict__, "prefill", counted)
        monkeypatch.setattr(kv_cache, "_written", noted)
        context = workload.fill_context(of)
        assert sum(rows) <= 2 * workload.LEAST_ROWS  # attention is quadratic in these
        assert sum(written) <= seq_len + workload.LEAST_ROWS
        assert (context.tokens, context.capacity) == (seq_len, seq_len + 1)

    @every_cache
    def test_a_step_that_is_timed_does_not_grow_the_buffers(self, impl: str) -> None:
        of = case(impl)
        context = workload.fill_context(of)
        for load in (workload.build(of), workload.build(of, context=context)):
            before = {x.data_ptr() for x in load.inputs}
            for _ in range(3):
                result: Any = load.call()
                state = result[1]
                assert state.tokens == 101
                assert {x.data_ptr() for x in workload.tensors_of(state)} <= before

    @pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
    @pytest.mark.parametrize("row", [0, 57, 99])
    def test_a_row_written_over_shows_and_a_spare_row_does_not(
        self, dtype: str, row: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workload, "SEGMENT", 16 * 10)  # ten blocks
        load = workload.build(case("softmax/sdpa", dtype=dtype))
        sums, versions = load.sums(), load.versions()
        assert load.broken(load.call(), versions) is None
        assert torch.equal(load.sums(), sums)
        keys, _ = load.kept
        keys[:, :, row] = keys[:, :, row - 1]
        assert not torch.equal(load.sums(), sums)

    def test_a_copy_of_a_context_lies_elsewhere_and_steps_alike(self) -> None:
        context = workload.fill_context(case())
        made, copied = workload.build(case()), workload.build(case(), context=context)
        assert torch.equal(output(made.call()), output(copied.call()))
        pointers = {x.data_ptr() for x in workload.tensors_of(context)}
        assert not pointers & {x.data_ptr() for x in copied.inputs}

    def test_only_decode_cases_have_a_context(self) -> None:
        assert workload.fill_context(case(mode="forward")) is None

    def test_a_backend_without_a_recurrent_form_has_no_workload(self) -> None:
        with pytest.raises(Unsupported, match="softmax/cudnn has no recurrent form"):
            workload.build(case("softmax/cudnn"))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("without_a_state", "a step returns a Tensor, not an output and a state"),
            ("with_a_sequence", r"the result is \[2, 2, 1, 8\] torch.float32, expected \[2, 2, 8\]"),
            ("changes_its_state_later", "the call modifies its inputs"),
        ],
    )
    def test_what_breaks_the_contract_at_the_case_s_own_size_is_named(self, name: str, message: str) -> None:
        load = workload.build(faulty(name, batch=2))
        versions = load.versions()
        with pytest.raises(AssertionError, match=f"at the case's own length {message}"):
            raise AssertionError(load.broken(load.call(), versions))


class TestGate:
    @every_impl
    @pytest.mark.parametrize("seq_len", [1, 2, 63, 4096])
    @pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
    def test_a_right_step_passes_after_any_context(self, impl: str, seq_len: int, dtype: str) -> None:
        of = case(impl, seq_len=seq_len, dtype=dtype)
        checked = Gate()
        assert checked.refusal(of) is None
        assert checked.check(of).rel_rms is not None

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("off_by_one_per_cent", "output differs from the float64 oracle: relative RMS error 0.01"),
            ("without_the_context", "output differs from the float64 oracle"),
            ("changes_its_state", "the call modifies its inputs"),
            ("without_a_state", "a step returns a Tensor, not an output and a state"),
            ("with_a_sequence", "output has shape [1, 2, 1, 8], the inputs have [1, 2, 8]"),
            ("over_the_last_row", "the call modifies its inputs"),
        ],
    )
    def test_a_step_that_misbehaves_is_refused(self, name: str, message: str) -> None:
        refused = Gate().refusal(faulty(name))
        assert refused is not None
        assert refused.status == "error"
        assert message in refused.reason

    def test_contexts_of_all_lengths_are_one_kind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kinds: list[Case] = []
        compare = gate._compare_step

        def noted(kind: Case, drawn: gate.Drawn) -> gate.GateError:
            kinds.append(kind)
            return compare(kind, drawn)

        monkeypatch.setattr(gate, "_compare_step", noted)
        checked = Gate()
        for seq_len in (64, 4096, LONG):
            checked.check(case(seq_len=seq_len))
        assert [kind.seq_len for kind in kinds] == [gate.MATRIX_LENGTH - 1]

    def test_the_price_of_the_order_is_that_of_the_causal_form(self) -> None:
        step = Gate().check(case("ea-series/eager"))
        causal = Gate().check(case("ea-series/eager", mode="forward"))
        assert step.approximation_rel_rms == causal.approximation_rel_rms
        assert step.outside_band == causal.outside_band


class TestRows:
    def test_a_step_makes_one_token_per_sequence_of_the_batch(self) -> None:
        row = make_row(case(batch=4), made_up.measured(2.0))
        assert row.tokens_per_s == pytest.approx(4 / 2e-3)
        assert row.state_bytes == case(batch=4).state_bytes
        energy = replace(made_up.measured(2.0), energy_j=8.0)
        assert make_row(case(batch=4), energy).energy_j_per_token == pytest.approx(2.0)

    def test_work_is_that_of_the_step(self) -> None:
        row = make_row(case(seq_len=LONG), made_up.measured(1.0))
        state = 16 * (8 + 1) * 4
        assert (row.flops, row.bytes_moved) == (4 * 8 * 16, 4 * 16 * 4 + 2 * state)
        assert row.analytic_memory_bytes == state + 16 * 4
        assert row.gflops_per_s == pytest.approx(4 * 8 * 16 / 1e-3 / 1e9)

    def test_work_on_a_cache_is_reading_it(self) -> None:
        of = case("softmax/sdpa", seq_len=1024, batch=3, dtype="bfloat16")
        row, token = make_row(of, made_up.measured(2.0)), 3 * 16 * 2
        assert row.state_bytes == 1024 * 2 * token
        assert (row.flops, row.bytes_moved) == (4 * 1025 * 3 * 16, 1024 * 2 * token + 6 * token)
        assert row.analytic_memory_bytes == token
        assert row.tokens_per_s == pytest.approx(3 / 2e-3)

    def test_what_cannot_decode_has_no_work(self) -> None:
        row = make_row(case("faulty_steps:forgetful/eager"), made_up.UNSUPPORTED)
        assert (row.flops, row.bytes_moved, row.state_bytes, row.analytic_memory_bytes) == (None,) * 4


class TestSweep:
    def test_no_context_is_too_long_to_fit(self) -> None:
        assert Predictor(memory_limit=2**20).verdict(case(seq_len=2**30)) is None

    def test_a_state_that_cannot_fit_is_foreseen(self) -> None:
        verdict = Predictor(memory_limit=2**20).verdict(case(heads=1, dim=1024))
        assert verdict is not None
        assert verdict.status == "predicted_oom"

    @every_cache
    def test_a_cache_that_cannot_fit_is_foreseen(self, impl: str) -> None:
        huge = case(impl, batch=64, seq_len=LONG, dim=256, heads=8)
        verdict = Predictor(memory_limit=32 * 2**30).verdict(huge)
        assert verdict is not None
        assert verdict.status == "predicted_oom"
        assert "128 GiB inputs" in verdict.reason
        assert Predictor(memory_limit=32 * 2**30).verdict(replace(huge, batch=8)) is None

    def test_a_context_that_has_to_be_filled_in_counts_where_cases_are_ordered(self) -> None:
        lengths = [2**n for n in range(4, 21, 4)]
        ordered = sweep.in_order([faulty("right_without_merging", seq_len=length) for length in lengths], 0)
        assert [each.seq_len for each in ordered] == lengths
        merged = {
            tuple(each.seq_len for each in sweep.in_order([case(seq_len=length) for length in lengths], seed))
            for seed in range(5)
        }
        assert len(merged) > 1

    def test_what_ran_out_of_time_after_a_context_is_not_tried_after_a_longer_one(self) -> None:
        exhausted = sweep.Exhausted()
        exhausted.note(case(seq_len=1024), "timeout")
        assert exhausted.verdict(case(seq_len=512)) is None
        assert exhausted.verdict(case(seq_len=2048)) is not None
        assert exhausted.verdict(case(seq_len=2048, mode="forward")) is None

    def test_the_default_sweep_does_not_decode(self) -> None:
        settings = {**AXIS_DEFAULTS, **RUN_DEFAULTS, "device": "cpu"}
        assert {each.mode for each in config.make_plan(settings).cases} == {"forward", "train"}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(Settings("cpu", BUDGETS["quick"], threads=1)) as worker:
        yield worker


@pytest.mark.parametrize("impl", SUMS)
def test_a_step_comes_back_measured(worker: Worker, impl: str) -> None:
    of = case(impl, seq_len=LONG, dim=256)
    outcome = worker.measure(of, timeout=60)
    assert isinstance(outcome, Measurement), outcome
    assert outcome.rel_rms_error is not None
    assert 0 < outcome.rel_rms_error < 1e-5
    assert outcome.warnings == ()
    least, peak = of.analytic_memory_bytes, outcome.peak_memory_bytes
    assert least is not None
    assert peak is not None
    assert of.state_bytes is not None
    # The new state and the output, and of temporaries no more than a few states.
    assert least <= peak <= 4 * least
    assert outcome.total_memory_bytes == peak + of.state_bytes + 3 * 256 * 4


@every_cache
def test_a_step_on_a_cache_comes_back_measured(worker: Worker, impl: str) -> None:
    of = case(impl, seq_len=8192, dim=64)
    outcome = worker.measure(of, timeout=60)
    assert isinstance(outcome, Measurement), outcome
    assert outcome.rel_rms_error is not None
    assert 0 < outcome.rel_rms_error < 1e-5
    assert outcome.warnings == ()
    assert outcome.peak_memory_bytes is not None
    assert outcome.peak_memory_bytes >= (of.analytic_memory_bytes or 0) > 0
    assert outcome.total_memory_bytes == outcome.peak_memory_bytes + input_bytes(of)
    if impl.startswith("softmax"):  # no copy of the cache
        assert outcome.peak_memory_bytes < input_bytes(of) / 8


def test_a_cache_written_over_at_the_case_s_own_length_is_an_error(worker: Worker) -> None:
    outcome = worker.measure(faulty("over_the_last_row_later", batch=2), timeout=60)
    assert isinstance(outcome, Skipped), outcome
    assert (outcome.status, outcome.reason) == ("error", workload.MODIFIES)


def test_what_cannot_decode_comes_back_unsupported(worker: Worker) -> None:
    outcome = worker.measure(case("faulty_steps:forgetful/eager"), timeout=60)
    assert isinstance(outcome, Skipped)
    assert outcome.status == "unsupported"
    assert outcome.reason.startswith("faulty_steps:forgetful has no recurrent form")


def test_two_steps_are_timed_in_turns(worker: Worker) -> None:
    from elattn_bench.pairs import Paired

    a, b = case(seq_len=LONG), case("hadamard/eager", seq_len=LONG)
    firsts = tuple(worker.call("elattn_bench.pair_task:try_out", each, timeout=60) for each in (a, b))
    found = worker.call("elattn_bench.pair_task:compare", a, b, firsts, 0.1, 50.0, timeout=60)
    assert isinstance(found, Paired), found
