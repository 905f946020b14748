"""Linear, efficient and softmax attention over real ranks: the single process's results, and what is exchanged."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attention_impls import InvalidArgument, Problem, workspaces
from attention_impls.sharded import Exchange, attend, context_parallel, softmax
from attention_impls.sharding import Sharding, shard_lengths
from attention_impls.softmax import flash, sdpa
from elattn_bench import memory

from . import ranks
from .support import Form, draw, error, rounding

FORMS = [
    Form("linear", "eager", {}),
    Form("efficient", "eager", {}),
    Form("efficient", "eager", {"normalisation": "scaling"}),
    Form("softmax", "sdpa", {}),
    Form("softmax", "sdpa", {"scale": 0.3}),
]
WITHOUT_LENGTH = FORMS[:3]  # their exchange does not depend on seq_len

Op = Form | Callable[..., Tensor]

SHAPE = (2, 3, 23, 4)
CUTS: Mapping[int, list[list[int]]] = {
    1: [[23]],
    2: [[12, 11], [1, 22]],
    3: [[8, 8, 7], [21, 1, 1]],
    4: [[6, 6, 6, 5], [1, 1, 20, 1]],
}

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")

every_form = pytest.mark.parametrize("form", FORMS, ids=str)
both_masks = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    ranks.end()


def inputs_of(*shape: int, dtype: torch.dtype = torch.float64, spread: float = 0.7) -> list[Tensor]:
    """Query, key, value and the gradient of the output."""
    return [*draw(*shape, dtype=dtype, spread=spread), draw(*shape, dtype=dtype, seed=1)[2]]


def shard(
    exchange: Exchange, form: Form, causal: bool, inputs: Sequence[Tensor], cut: Sequence[int], apart: bool
) -> tuple[list[Tensor], int]:
    """Output and gradients of this rank's shard, and what it has received.

    ``apart``: the rows of a head lie apart in memory, as a layer's projections leave them.
    """
    query, key, value, upstream = (torch.split(x, list(cut), 2)[exchange.rank].clone() for x in inputs)
    if apart:
        query, key, value = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (query, key, value))
    leaves = [x.requires_grad_() for x in (query, key, value)]
    output = attend(form.attention, query, key, value, exchange, causal=causal, **form.hyperparameters)
    gradients = torch.autograd.grad(output, leaves, upstream)
    return [output.detach(), *gradients], exchange.traffic.received_bytes


def over_ranks(
    form: Form, causal: bool, inputs: Sequence[Tensor], cut: Sequence[int], apart: bool = False
) -> list[Tensor]:
    """Output and gradients of all shards, joined."""
    given = (form, causal, inputs, cut, apart)
    found = ranks.run(len(cut), shard, *given) if len(cut) > 1 else [shard(Exchange(), *given)]
    return [torch.cat(parts, 2) for parts in zip(*(tensors for tensors, _ in found), strict=True)]


def with_gradients(op: Op, causal: bool, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Output and gradients of one process with all tokens."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs[:3]]
    output = op(*leaves, causal=causal)
    return [output.detach(), *torch.autograd.grad(output, leaves, inputs[3].to(output.dtype))]


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-10) -> None:
    for result, truth in zip(found, expected, strict=True):
        assert result.isfinite().all()
        assert error(result, truth) <= tolerance * float(truth.abs().max())


@every_form
@both_masks
@pytest.mark.parametrize("world", CUTS)
def test_every_number_of_ranks_and_every_cut_gives_what_one_process_gives(
    world: int, causal: bool, form: Form
) -> None:
    inputs = inputs_of(*SHAPE)
    for cut in CUTS[world]:
        assert_close(over_ranks(form, causal, inputs, cut), with_gradients(form, causal, inputs))


@every_form
@both_masks
def test_shards_of_many_blocks_whose_rows_lie_apart_do_too(causal: bool, form: Form) -> None:
    inputs = inputs_of(1, 2, 900, 8)
    expected = with_gradients(form, causal, inputs)
    assert_close(over_ranks(form, causal, inputs, [333, 1, 566], apart=True), expected)


@every_form
@both_masks
def test_the_gradient_of_a_sum_which_is_broadcast_is_right(causal: bool, form: Form) -> None:
    inputs = inputs_of(*SHAPE)
    expected = with_gradients(form, causal, [*inputs[:3], torch.ones(SHAPE, dtype=torch.float64)])
    found = ranks.run(2, shard_of_sum, form, causal, inputs[:3])
    assert_close([torch.cat(parts, 2) for parts in zip(*found, strict=True)], expected[1:])


def shard_of_sum(exchange: Exchange, form: Form, causal: bool, inputs: Sequence[Tensor]) -> list[Tensor]:
    """This rank's gradients of the sum of all outputs."""
    leaves = [torch.tensor_split(x, exchange.size, 2)[exchange.rank].clone().requires_grad_() for x in inputs]
    query, key, value = leaves
    output = attend(form.attention, query, key, value, exchange, causal=causal, **form.hyperparameters)
    return list(torch.autograd.grad(output.sum(), leaves))


@every_form
@both_masks
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_ranks_are_as_exact_as_one_process(dtype: torch.dtype, causal: bool, form: Form) -> None:
    inputs = inputs_of(1, 2, 150, 8, dtype=dtype)
    doubles = [x.double() for x in inputs]
    truths = with_gradients(form.oracle, causal, doubles)
    alone = with_gradients(form, causal, inputs)
    for found, single, truth in zip(over_ranks(form, causal, inputs, [70, 80]), alone, truths, strict=True):
        assert found.dtype == dtype
        assert error(found, truth) <= max(2 * error(single, truth), rounding(form, dtype, truth))


@both_masks
@pytest.mark.parametrize("rising", [True, False], ids=["rising", "falling"])
def test_keys_whose_weights_one_rank_cannot_hold_beside_anothers_are_weighed_right(
    rising: bool, causal: bool
) -> None:
    form = Form("efficient", "eager", {})
    query, key, value, upstream = inputs_of(1, 2, 30, 4, dtype=torch.float32)
    steps = torch.arange(3.0).repeat_interleave(10)[:, None] * 200  # exp(200) is beyond float32
    inputs = [query, key + (steps if rising else -steps), value, upstream]
    expected = with_gradients(form, causal, [x.double() for x in inputs])
    assert_close(over_ranks(form, causal, inputs, [10, 10, 10]), expected, tolerance=1e-4)


@every_form
@both_masks
def test_in_a_world_of_one_the_bits_are_those_of_the_ordinary_form(causal: bool, form: Form) -> None:
    inputs = inputs_of(*SHAPE, dtype=torch.float32)
    found, received = shard(Exchange(), form, causal, inputs, [SHAPE[2]], False)
    assert received == 0
    alone = with_gradients(form, causal, inputs)
    assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))


def on_the_first_rank_alone(
    exchange: Exchange, form: Form, causal: bool, inputs: Sequence[Tensor], asked: int
) -> list[Tensor] | None:
    """The first rank's gradient of query, key or value, the only tensor of all ranks that requires any."""
    query, key, value, upstream = (x.chunk(exchange.size, 2)[exchange.rank].clone() for x in inputs)
    tensors = query, key, value
    tensors[asked].requires_grad_(exchange.rank == 0)
    output = attend(form.attention, query, key, value, exchange, causal=causal, **form.hyperparameters)
    if exchange.rank == 0:
        return list(torch.autograd.grad(output, tensors[asked], upstream))
    torch.autograd.backward(output, upstream)
    assert all(x.grad is None for x in tensors)
    return None


@every_form
@both_masks
@pytest.mark.parametrize("asked", [0, 1, 2], ids=["query", "key", "value"])
def test_a_rank_without_gradients_of_its_own_takes_part_in_those_of_others(
    asked: int, causal: bool, form: Form
) -> None:
    inputs = inputs_of(*SHAPE)
    found = ranks.run(2, on_the_first_rank_alone, form, causal, inputs, asked)
    expected = with_gradients(form, causal, inputs)[1 + asked]
    assert_close(found[0], [expected.chunk(2, 2)[0]])


def some_asked_for(exchange: Exchange, form: Form, causal: bool, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of the query on the first rank, of key and value on the second; all tensors require any."""
    query, key, value, upstream = (x.chunk(exchange.size, 2)[exchange.rank].clone() for x in inputs)
    leaves = [x.requires_grad_() for x in (query, key, value)]
    output = attend(form.attention, query, key, value, exchange, causal=causal, **form.hyperparameters)
    asked = leaves[:1] if exchange.rank == 0 else leaves[1:]
    return list(torch.autograd.grad(output, asked, upstream))


@every_form
@both_masks
def test_ranks_may_ask_for_the_gradients_of_different_tensors(causal: bool, form: Form) -> None:
    inputs = inputs_of(*SHAPE)
    first, second = ranks.run(2, some_asked_for, form, causal, inputs)
    expected = with_gradients(form, causal, inputs)[1:]
    assert_close(first, [expected[0].chunk(2, 2)[0]])
    assert_close(second, [x.chunk(2, 2)[1] for x in expected[1:]])


def under_autocast(exchange: Exchange, *given: Any) -> list[Tensor]:
    """As ``shard``, both passes under autocast to bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        return shard(exchange, *given)[0]


@every_form
@both_masks
def test_under_autocast_ranks_compute_what_they_do_of_rounded_inputs(causal: bool, form: Form) -> None:
    inputs = [x.bfloat16().float() for x in inputs_of(1, 2, 150, 8)]  # so that gradients know of no rounding
    cut = [70, 80]
    found = ranks.run(2, under_autocast, form, causal, [*inputs[:3], inputs[3].bfloat16()], cut, False)
    halves = over_ranks(form, causal, [x.bfloat16() for x in inputs], cut)
    joined = [torch.cat(parts, 2).bfloat16() for parts in zip(*found, strict=True)]
    # The full form with scaling leaves its backward pass to autograd, whose products autocast rounds.
    by_autograd = form is FORMS[2] and not causal
    assert_close(joined, halves, tolerance=torch.finfo(torch.bfloat16).eps if by_autograd else 0.0)
    assert found[0][0].dtype == torch.bfloat16


def compiled(exchange: Exchange, attention: str, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Output and gradients of this rank's shard by a function that torch.compile has traced around ``attend``."""
    query, key, value, upstream = (x.chunk(exchange.size, 2)[exchange.rank].clone() for x in inputs)
    leaves = [x.requires_grad_() for x in (query, key, value)]

    @torch.compile(backend="eager")  # the tracing is what may fail; generating code takes long
    def doubled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return 2 * attend(attention, query, key, value, exchange)

    doubled(*leaves)
    first = exchange.traffic.exchanges
    output = doubled(*leaves)
    assert exchange.traffic.exchanges == 2 * first > 0  # counted each time, not once as it is traced
    return [output.detach() / 2, *torch.autograd.grad(output, leaves, upstream / 2)]


@pytest.mark.parametrize("attention", ["ea-series", "linear"])
def test_what_torch_compile_traces_around_a_call_goes_over_ranks_as_before(attention: str) -> None:
    inputs = inputs_of(*SHAPE)
    found = ranks.run(2, compiled, attention, inputs)
    expected = with_gradients(Form(attention, "eager", {}), False, inputs)
    assert_close([torch.cat(parts, 2) for parts in zip(*found, strict=True)], expected)


def received(exchange: Exchange, problems: Sequence[tuple[str, Problem]]) -> list[int]:
    """What this rank receives in a call of each."""
    return [_received(Exchange(), attention, problem) for attention, problem in problems]


def _received(exchange: Exchange, attention: str, problem: Problem) -> int:
    length = shard_lengths(problem.seq_len, exchange.size)[exchange.rank]
    dtype = getattr(torch, problem.dtype)
    shape = (problem.batch, problem.heads, length, problem.head_dim)
    query, key, value = (torch.randn(shape, dtype=dtype).requires_grad_() for _ in range(3))
    with nullcontext() if problem.backward else torch.no_grad():
        output = attend(
            attention, query, key, value, exchange, causal=problem.causal, **problem.hyperparameters
        )
    if problem.backward:
        torch.autograd.grad(output.sum(), (query, key, value))
    return exchange.traffic.received_bytes


def sharding(form: Form) -> Sharding:
    known = form.spec.backends[form.backend].sharding
    assert known is not None
    return known


@pytest.mark.parametrize("world", [2, 3, 4, 5])
def test_what_is_received_is_the_formula(world: int) -> None:
    cases = [
        (form, form.problem((2, 3, length, 4), causal=causal, backward=backward, dtype=dtype))
        for form, causal, backward, length, dtype in product(
            FORMS, (False, True), (False, True), (60, 63), ("float32", "bfloat16")
        )
    ]
    found = ranks.run(world, received, [(form.attention, problem) for form, problem in cases])
    for (form, problem), *counted in zip(cases, *found, strict=True):
        assert max(counted) == sharding(form).received(problem, world), (str(form), problem)


@every_form
@both_masks
def test_only_softmax_exchanges_more_of_a_longer_sequence(causal: bool, form: Form) -> None:
    short, long = (
        sharding(form).received(form.problem((1, 8, length, 64), causal=causal, backward=True), 8)
        for length in (2**20, 2**21)
    )
    assert long == (short if form in WITHOUT_LENGTH else 2 * short)


@every_form
def test_one_rank_receives_nothing(form: Form) -> None:
    for causal, backward in product((False, True), repeat=2):
        assert sharding(form).received(form.problem(SHAPE, causal=causal, backward=backward), 1) == 0


def refusal(exchange: Exchange, attention: str, knobs: dict[str, Any], sizes: Sequence[int]) -> str:
    """How the call is refused, before anything is exchanged."""
    query = torch.zeros(1, 2, sizes[0], 4)
    key = value = torch.zeros(1, 2, sizes[1], 4)
    with pytest.raises((InvalidArgument, TypeError)) as caught:
        attend(attention, query, key, value, exchange, **knobs)
    assert exchange.traffic.exchanges == 0
    return str(caught.value)


@pytest.mark.parametrize(
    ("attention", "knobs", "sizes", "rule"),
    [
        ("efficient", {"normalisation": "none"}, (3, 3), "it is one of: softmax, scaling"),
        ("softmax", {"scale": -1.0}, (3, 3), "a finite number above 0"),
        ("linear", {"scale": 1.0}, (3, 3), "unexpected keyword argument"),
        ("linear", {}, (3, 4), "must have the same shape"),
        ("efficient", {}, (0, 0), "must be 1 or more"),
        ("softmax", {"causal": True}, (3, 4), "must have the same shape"),
    ],
)
def test_what_an_attention_cannot_honour_is_refused_on_every_rank(
    attention: str, knobs: dict[str, Any], sizes: tuple[int, int], rule: str
) -> None:
    assert all(rule in message for message in ranks.run(2, refusal, attention, knobs, sizes))


def peaks(exchange: Exchange, problems: Sequence[tuple[str, Problem]]) -> list[int]:
    """Bytes above its inputs that this rank holds in a call of each."""
    gc.freeze()  # measuring collects garbage first: keep torch's hundred thousand objects out of it
    return [_peak(exchange, attention, problem) for attention, problem in problems]


def _peak(exchange: Exchange, attention: str, problem: Problem) -> int:
    length = shard_lengths(problem.seq_len, exchange.size)[exchange.rank]
    shape = (problem.batch, problem.heads, length, problem.head_dim)
    query, key, value, upstream = (torch.randn(shape, dtype=getattr(torch, problem.dtype)) for _ in range(4))
    leaves = [x.requires_grad_(problem.backward) for x in (query, key, value)]

    def call() -> None:
        with torch.set_grad_enabled(
            problem.backward
        ):  # else what backward needs is kept, for the sake of others
            output = attend(attention, query, key, value, exchange, causal=problem.causal)
        if problem.backward:
            torch.autograd.grad(output, leaves, upstream)

    call()  # first calls allocate more
    return memory.measure(call, "cpu").above_inputs


@pytest.mark.parametrize(
    ("world", "shape", "dtype"),
    [
        (2, (4, 2, 257, 256), "float32"),
        (2, (2, 4, 1200, 32), "bfloat16"),
        (3, (2, 4, 1800, 32), "float32"),
    ],
)
def test_a_rank_holds_what_the_formula_says(
    world: int, shape: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "_threads", lambda: 1)  # as many as a rank has
    cases = [
        (form, form.problem(shape, causal=causal, backward=backward, dtype=dtype))
        for form, causal, backward in product((FORMS[0], FORMS[1], FORMS[3]), (False, True), (False, True))
    ]
    found = ranks.run(world, peaks, [(form.attention, problem) for form, problem in cases])
    for (form, problem), *measured in zip(cases, *found, strict=True):
        workspace = sharding(form).workspace
        assert workspace is not None
        assert workspace(problem, world) / max(measured) == pytest.approx(1, abs=0.25), (str(form), problem)


def test_softmax_over_ranks_holds_no_matrix_of_all_pairs() -> None:
    form = Form("softmax", "sdpa", {})
    cases = [
        ("softmax", form.problem((1, 1, length, 8), causal=causal, backward=True))
        for causal in (False, True)
        for length in (2**12, 2**13)
    ]
    short, long, short_causal, long_causal = map(max, zip(*ranks.run(2, peaks, cases), strict=True))
    assert long < 2.2 * short
    assert long_causal < 2.2 * short_causal


def test_the_last_queries_of_all_keys_are_the_last_rows_of_the_causal_form() -> None:
    query, key, value, _ = inputs_of(1, 2, 20, 4)
    found = softmax._lower_right(query[:, :, 13:], key, value, 0.3)
    assert_close([found], [sdpa(query, key, value, causal=True, scale=0.3)[:, :, 13:]])


def test_pytorchs_context_parallelism_says_what_it_needs() -> None:
    form = Form("softmax", "flash", {})
    assert sharding(form).requires(form.problem((1, 1, 9, 4)), 1) == []
    on_cpu = sharding(form).requires(form.problem((1, 1, 9, 4)), 2)
    assert any("runs on cuda only" in reason for reason in on_cpu)
    assert any("9 is no multiple of 2 ranks" in reason for reason in on_cpu)
    assert sharding(form).requires(form.problem((1, 1, 8, 4), device="cuda"), 2) == []


def opened(exchange: Exchange) -> tuple[bool, bool, bool]:
    """Whether the context replaces PyTorch's attention, and then leaves both it and the balance as they were."""
    from torch.distributed.tensor.experimental import _attention

    options = _attention._cp_options
    ordinary, balanced = F.scaled_dot_product_attention, options.enable_load_balance
    with context_parallel._open(exchange, torch.device("cpu")):
        replaced = F.scaled_dot_product_attention is not ordinary and not options.enable_load_balance
    return replaced, F.scaled_dot_product_attention is ordinary, options.enable_load_balance == balanced


def test_pytorchs_context_opens_with_contiguous_shards_and_closes_behind_itself() -> None:
    assert ranks.run(2, opened) == [(True, True, True)] * 2


@both_masks
def test_gradients_pass_through_the_graph_that_the_ring_keeps_apart(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_parallel, "_open", lambda exchange, device: nullcontext())
    exchange = Exchange()
    exchange.size = 2  # of another rank's keys nothing arrives: PyTorch's context is not open

    def ring(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        return context_parallel.flash(query, key, value, exchange, causal=causal, scale=0.3)

    def alone(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        return flash(query, key, value, causal=causal, scale=0.3)

    inputs = inputs_of(*SHAPE)
    assert_close(with_gradients(ring, causal, inputs), with_gradients(alone, causal, inputs))


def ring_shard(exchange: Exchange, causal: bool, inputs: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """As ``shard``, by PyTorch's ring, each rank on a GPU of its own."""
    torch.cuda.set_device(exchange.rank)
    over_nccl = Exchange(torch.distributed.new_group(backend="nccl"))
    query, key, value, upstream = (x.chunk(exchange.size, 2)[exchange.rank].cuda() for x in inputs)
    leaves = [x.requires_grad_() for x in (query, key, value)]
    output = attend("softmax", query, key, value, over_nccl, backend="flash", causal=causal)
    gradients = torch.autograd.grad(output, leaves, upstream)
    return [x.detach().cpu() for x in (output, *gradients)], over_nccl.traffic.received_bytes


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="ring attention over two ranks needs two GPUs")
@both_masks
def test_the_ring_gives_what_one_gpu_gives(causal: bool) -> None:
    form = Form("softmax", "flash", {})
    inputs = inputs_of(1, 2, 256, 64, dtype=torch.bfloat16)
    found = ranks.run(2, ring_shard, causal, inputs)
    joined = [torch.cat(parts, 2) for parts in zip(*(tensors for tensors, _ in found), strict=True)]
    truths = with_gradients(form.oracle, causal, [x.double() for x in inputs])
    for result, truth in zip(joined, truths, strict=True):
        assert error(result, truth) <= 4 * rounding(form, torch.bfloat16, truth)
    problem = form.problem((1, 2, 256, 64), causal=causal, backward=True, dtype="bfloat16", device="cuda")
    assert max(noted for _, noted in found) == sharding(form).received(problem, 2)


def test_formulas_of_ranks_need_no_torch() -> None:
    code = (
        "import sys, attention_impls as a; "
        "problem = a.Problem(1, 8, 1000, 64, causal=True, backward=True); "
        "forms = [b.sharding for n in ('linear', 'efficient', 'softmax') for b in a.get(n).backends.values()]; "
        "known = [form for form in forms if form]; assert len(known) == 4; "
        "assert all(form.received(problem, 3) > 0 for form in known); "
        "assert all(form.workspace(problem, 3) > 0 for form in known if form.workspace); "
        "assert known[3].requires(problem, 3); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
