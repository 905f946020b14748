"""The GPU's paths: every backend against its oracle, and one sweep. Skipped where there is no GPU."""

from __future__ import annotations

from dataclasses import replace

import pynvml
import pytest
import torch

import attention_impls
from attention_impls import AttentionSpec, Problem
from attention_impls.layer import squashed
from elattn_bench import device, memory, nvml
from elattn_bench.cases import Case
from elattn_bench.monitor import Monitor
from elattn_bench.pairs import Paired
from elattn_bench.quality.nouns import Epoch, Job, Model, Recipe, Trained
from elattn_bench.results import Measurement, Place, Skipped, make_row
from elattn_bench.roofline import CEILINGS_TIMEOUT, Ceilings
from elattn_bench.stats import BUDGETS
from elattn_bench.timers import CudaClock, clock_for
from elattn_bench.worker import Settings, Worker

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"
)

IMPLS = [
    (name, backend) for name in attention_impls.names() for backend in attention_impls.get(name).backends
]
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
CASE = Case("softmax", "sdpa", "op", "forward", "bfloat16", "cuda", False, 1, 8, 1024, 512)


def operands_of(spec: AttentionSpec, problem: Problem, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What the op takes beside query, key and value, drawn anew."""
    generator = torch.Generator("cuda").manual_seed(2)
    drawn = {
        name: operand.mean + operand.spread * torch.randn(operand.shape, generator=generator, device="cuda")
        for name, operand in spec.operands(problem).items()
    }
    return {name: squashed(spec.operands(problem)[name], x).to(dtype) for name, x in drawn.items()}


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    return float((value.double() - truth).square().mean().sqrt() / truth.square().mean().sqrt())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "backend"), IMPLS, ids="/".join)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_output_and_gradients_agree_with_the_oracle(
    name: str, backend: str, causal: bool, dtype: torch.dtype
) -> None:
    spec = attention_impls.get(name)
    problem = Problem(2, 4, 160, 64, str(dtype).removeprefix("torch."), "cuda", causal, backward=True)
    if reasons := spec.unsupported_reasons(backend, problem):
        pytest.skip("; ".join(reasons))
    generator = torch.Generator("cuda").manual_seed(0)
    # Narrow inputs: the oracle is what is tested against, not the conditioning of the series.
    shape = (problem.batch, problem.heads, problem.seq_len, problem.head_dim)
    inputs = [0.5 * torch.randn(shape, generator=generator, device="cuda") for _ in range(4)]
    *leaves, upstream = (tensor.to(dtype) for tensor in inputs)
    mine = [tensor.clone().requires_grad_() for tensor in leaves]
    theirs = [tensor.double().requires_grad_() for tensor in leaves]
    operands = operands_of(spec, problem, dtype)
    output = spec.backends[backend].op(*mine, causal=causal, **operands)
    doubles = {name: operand.double() for name, operand in operands.items()}
    truth = spec.oracle(*theirs, causal=causal, **doubles)
    assert (output.dtype, output.device.type) == (dtype, "cuda")
    assert relative_error(output, truth) <= TOLERANCES[dtype]
    gradients = torch.autograd.grad(output, mine, upstream)
    for gradient, expected in zip(
        gradients, torch.autograd.grad(truth, theirs, upstream.double()), strict=True
    ):
        assert relative_error(gradient, expected) <= 2 * TOLERANCES[dtype]


@pytest.mark.parametrize(
    "name", [name for name in attention_impls.names() if attention_impls.get(name).has_decode]
)
def test_step_equals_the_parallel_causal_form(name: str) -> None:
    spec = attention_impls.get(name)
    problem = Problem(2, 4, 9, 16, "float32", "cuda", causal=True)
    query, key, value = torch.randn(3, 2, 4, 9, 16, device="cuda").unbind()
    operands, state, outputs = operands_of(spec, problem, torch.float32), spec.init_state(problem), []
    gates = {name for name, operand in spec.operands(problem).items() if not operand.learned}

    def of(rows: slice | int) -> dict[str, torch.Tensor]:
        return {name: x[:, :, rows] if name in gates else x for name, x in operands.items()}

    for token in range(problem.seq_len):
        row = query[:, :, token], key[:, :, token], value[:, :, token]
        output, state = spec.step(*row, state, **of(token))
        outputs.append(output)
    truth = spec.op(query, key, value, causal=True, **operands).double()
    assert relative_error(torch.stack(outputs, 2), truth) <= 1e-4
    (q1, q2), (k1, k2), (v1, v2) = (torch.split(x, [5, 4], 2) for x in (query, key, value))
    _, state = spec.prefill(q1, k1, v1, **of(slice(0, 5)))
    rest, _ = spec.prefill(q2, k2, v2, state, **of(slice(5, None)))
    assert relative_error(rest, truth[:, :, 5:]) <= 1e-4


def test_peak_memory_is_exact_to_the_allocators_block() -> None:
    size = 4 * 2**20
    assert (
        memory.measure(lambda: torch.empty(size, dtype=torch.uint8, device="cuda"), "cuda").above_inputs
        == size
    )


def test_the_clock_waits_for_the_device() -> None:
    matrix = torch.randn(4096, 4096, device="cuda")
    clock = CudaClock()
    clock.time(lambda: matrix @ matrix, 3)
    # A launch takes microseconds; 2 * 4096^3 operations take longer than that on any GPU.
    assert clock.time(lambda: matrix @ matrix, 10) > 5 * clock.time(lambda: None, 10)


def test_the_worker_measures_on_the_gpu_and_survives_its_memory_running_out() -> None:
    with Worker(Settings("cuda", BUDGETS["quick"], memory_limit=4 * 2**30)) as worker:
        assert worker.environment()["device_name"]
        assert isinstance(worker.measure(CASE, timeout=120), Measurement)
        huge = worker.measure(replace(CASE, backend="eager", batch=8, seq_len=32_768), timeout=120)
        assert isinstance(huge, Skipped)
        assert huge.status == "oom", huge
        assert isinstance(worker.measure(CASE, timeout=120), Measurement)


def test_a_step_after_a_long_context_is_measured_on_the_gpu() -> None:
    with Worker(Settings("cuda", BUDGETS["quick"])) as worker:
        for name in attention_impls.names():
            if not attention_impls.get(name).has_decode:
                continue
            order = 6 if name == "ea-series" else None
            length = 2**14 if attention_impls.get(name).state_grows else 2**20
            case = Case(name, "eager", "op", "decode", "bfloat16", "cuda", True, 8, 8, length, 512, order)
            outcome = worker.measure(case, timeout=120)
            assert isinstance(outcome, Measurement), outcome
            assert (outcome.peak_memory_bytes or 0) >= (case.analytic_memory_bytes or 0) > 0


def test_a_cold_clock_flushes_the_l2_cache() -> None:
    clock = clock_for("cuda", "cold", device.cache_bytes("cuda"))
    small = torch.randn(2**20, device="cuda")  # 4 MiB: within the L2 of any GPU that torch supports
    hot = CudaClock()
    hot.time(lambda: small.sum(), 3)
    assert clock.time(lambda: small.sum(), 50) > 0
    assert clock.min_block == 0.0


def test_the_drivers_gpu_is_the_one_that_torch_uses() -> None:
    gpu = nvml.current_gpu()
    assert gpu is not None
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    if uuid is None:
        pytest.skip("this torch does not tell the GPU's UUID")
    assert str(uuid) in str(pynvml.nvmlDeviceGetUUID(gpu.handle))


def test_a_working_gpu_is_watched() -> None:
    matrix = torch.randn(8192, 8192, device="cuda")
    with Monitor(CudaClock(), "cuda") as monitor:
        monitor.time(lambda: matrix @ matrix, 1)  # the first call is not watched
        spent = 0.0
        while spent < 1.5:
            spent += monitor.time(lambda: matrix @ matrix, 10)
    seen = monitor.observed
    assert seen.clock_mhz is None or 100 < seen.clock_mhz < 5000
    assert seen.power_w is None or 10 < seen.power_w < 2000
    assert seen.temperature_c is None or 10 < seen.temperature_c < 120
    if seen.energy_j is not None and seen.power_w is not None:
        # Two instruments of the driver: the counter, and the power it shows.
        assert seen.energy_j / seen.seconds == pytest.approx(seen.power_w, rel=0.5)


def test_the_drivers_memory_of_this_process_holds_the_allocators() -> None:
    size = 256 * 2**20
    kept = torch.empty(size, dtype=torch.uint8, device="cuda")
    peak = memory.measure(lambda: torch.empty(size, dtype=torch.uint8, device="cuda"), "cuda")
    if peak.device is None:
        pytest.skip("the driver knows this process by another number (container)")
    assert peak.device >= kept.numel() + size


def test_a_measurement_on_the_gpu_has_its_conditions() -> None:
    with Worker(Settings("cuda", BUDGETS["rigorous"])) as worker:
        outcome = worker.measure(CASE, timeout=120)
    assert isinstance(outcome, Measurement)
    assert outcome.clock_mhz is not None
    assert outcome.temperature_c is not None
    assert (outcome.stability_reason is None) == (outcome.stability == "stable")


def test_the_ceilings_of_the_gpu_are_measured_and_no_case_exceeds_them() -> None:
    with Worker(Settings("cuda", BUDGETS["quick"])) as worker:
        found = worker.call("elattn_bench.ceilings:measure", timeout=CEILINGS_TIMEOUT)
        assert not isinstance(found, Skipped), found
        ceilings = Ceilings.from_json(found)
        outcome = worker.measure(CASE, timeout=120)
    assert ceilings.dram_bytes_per_s
    assert ceilings.matmul_flops_per_s["bfloat16"] > ceilings.matmul_flops_per_s["float32"]
    row = make_row(CASE, outcome, Place(ceilings=ceilings))
    assert row.ceiling_fraction is not None
    assert 0 < row.ceiling_fraction < 1.05


def test_two_impls_are_compared_live_on_the_gpu() -> None:
    with Worker(Settings("cuda", BUDGETS["quick"])) as worker:
        first = worker.call("elattn_bench.pair_task:try_out", CASE, timeout=120)
        found = worker.call(
            "elattn_bench.pair_task:compare", CASE, CASE, (first, first), 0.1, 60.0, timeout=120
        )
    assert isinstance(found, Paired), found
    assert len(found.rounds) >= 6


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("attention", ["softmax", "linear", "efficient", "ea-series", "hadamard", "mean"])
def test_a_network_is_trained_on_the_gpu_and_its_memory_is_seen(attention: str) -> None:
    order = 6 if attention == "ea-series" else None
    recipe = Recipe(epochs=1, batch=16, train_examples=64, test_examples=32, dim=32)
    job = Job("mqar", Model("transformer", attention, order=order), True, 0, recipe)
    epochs: list[Epoch] = []
    with Worker(Settings("cuda", BUDGETS["quick"])) as worker:
        found = worker.call("elattn_bench.quality.training:train", job, timeout=300, on_note=epochs.append)
    assert isinstance(found, Trained), found
    assert found.peak_memory_bytes > 0
    assert [epoch.number for epoch in epochs] == [0, 1]
