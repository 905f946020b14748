"""What one call holds at its peak above its inputs, in bytes, by formula. No torch.

Counted is what torch's allocator gives out: the output, what waits for the backward pass, gradients and
temporaries. Every formula was read off the family's code and holds for its default hyperparameters and any
order; where PyTorch's internals decide, it has their leading terms, as of torch 2.13. On a CPU it is within
25 % of a measured peak above 1 MiB; on a GPU no test compares it with a measurement.

With ``projected`` a call is an ``AttentionLayer``'s: query, key and value are then held by the
call, their rows lie apart in memory (some operations copy such tensors, and keep the copy for backward),
and the projections' own temporaries and gradients are added. In the formulas

    n, w            one tensor [batch, heads, seq_len, head_dim] in its dtype, and in that of sums
    half            whether the two differ, so that query, key and value are converted first
"""

from __future__ import annotations

import math
import os

from attention_impls.hyperparameters import ORDER
from attention_impls.nouns import Problem

# These repeat constants of modules that import torch; tests/impls/test_workspaces.py keeps them equal.
CHUNK_ELEMENTS = {"cpu": 2**17, "cuda": 2**23}  # chunks.py
LEAST_CHUNK_ROWS = 16  # chunks.py, chunk_rows
BLOCK_ELEMENTS = {"cpu": 2**20, "cuda": 2**24}  # element_wise.py
BLOCK_ROWS = 32  # element_wise.py
SDPA_WIDTH = {"cpu": 2, "cuda": 8}  # element_wise.py
SWEEP_ELEMENTS = {"cpu": 2**18, "cuda": 2**23}  # blocks.py, BLOCK_ELEMENTS
LEAST_BLOCKS = {"cpu": 4, "cuda": 1}  # blocks.py
LEAST_CAUSAL_BLOCKS = {"cpu": 8, "cuda": 1}  # blocks.py
MIN_CHUNK_ROWS = 64  # blocks.py
FUSED_BLOCK = 128  # kernels/ea_cpu_code.py
FUSED_LANES, FUSED_PROGRAMS, FUSED_ROWS = 64, 2048, (32, 256)  # kernels/ea_triton_launch.py

FLASH_TILES = ((768, 256), (192, 64), (0, 32))
"""Least seq_len -> queries of a tile of PyTorch's CPU flash kernel (FlashAttentionKernel.cpp)."""
FLASH_KEYS = 512  # keys of such a tile

FLOAT32 = 4  # bytes; what GPU kernels keep their row statistics in


def softmax_eager(problem: Problem, projected: bool = False) -> int:
    """Two matrices of weights, with gradients three; half precision holds a narrow one as well.

    Where seq_len is below head_dim, tensors of the inputs' size outweigh a matrix.
    """
    n, weights = _narrow(problem), _matrix(problem, _wide_size(problem))
    mask = problem.seq_len**2 if problem.causal else 0
    if problem.backward:
        core = max(3 * weights + 3 * n, weights + 5 * n) + mask
        return _layer(problem, projected, core, train=1)
    narrow = weights // 2
    core = max(2 * weights + narrow, narrow + 2 * n) if _is_half(problem) else 2 * weights + n
    return _layer(problem, projected, core)


def softmax_math(problem: Problem, projected: bool = False) -> int:
    """As ``softmax_eager``, with a mask of fully masked rows, and the causal bias, in the forward pass."""
    n, w, weights = _narrow(problem), _wide(problem), _matrix(problem, _wide_size(problem))
    half = _is_half(problem)
    if problem.backward:
        return _layer(problem, projected, max(3 * weights + n + 3 * w, weights + 6 * w + half * n))
    bias = problem.seq_len**2 * _wide_size(problem) if problem.causal else 0
    scaled = 4 * w if half else n
    core = max(2 * weights + _matrix(problem, 1) + scaled, weights + 2 * n)
    return _layer(problem, projected, core + bias)


def softmax_fused(problem: Problem, projected: bool = False) -> int:
    """Output and log-sum-exp of every row; with gradients those, and the upstream gradient's copy.

    On a CPU also a tile of weights (two backward) for one thread per core that this process may use. On
    a GPU the backward pass sums the query's gradient of half precision in float32.
    """
    if problem.device == "cuda":
        if problem.dtype == "float64":
            return softmax_math(problem, projected)  # no fused kernel takes it
        return _layer(problem, projected, _fused_on_gpu(problem, _narrow(problem)), train=4, least=5)
    held = (5 if problem.backward else 1) * _narrow(problem) + _rows(problem) * _wide_size(problem)
    return _layer(problem, projected, held + _flash_scratch(problem, problem.head_dim), train=4, least=5)


def efficient(problem: Problem, projected: bool = False) -> int:
    """The output, with gradients three more tensors, and the temporaries of one block of positions. Causal:
    also the sums [head_dim, head_dim] of every chunk of a block, with gradients those before every block."""
    n, half, (block, products, sums, copied, count) = _narrow(problem), _is_half(problem), _sweep(problem)
    head = _head_matrices(problem, _wide_size(problem))
    if not problem.causal:
        core = 4 * n + (4 + half) * block + 3 * head if problem.backward else n + 3 * block + head
    elif problem.backward:
        temporaries = (11 + 2 * copied) * block + 2 * products + 2 * sums
        core = 4 * n + temporaries + (count + 3) * head
    else:
        core = n + (4 + copied) * block + sums + max(block + products, sums) + 2 * head
    return _layer(problem, projected, core, train=4, least=5)


def linear(problem: Problem, projected: bool = False) -> int:
    """As ``efficient``; causal with gradients the output waits for the backward pass."""
    n, half, (block, products, sums, copied, count) = _narrow(problem), _is_half(problem), _sweep(problem)
    head = _head_matrices(problem, _wide_size(problem))
    if not problem.causal:
        blocks = 5 + 2 * half if problem.backward else 3 + half
        core = 4 * n + blocks * block + 2 * head if problem.backward else n + blocks * block + head
    elif problem.backward:
        temporaries = (10 + 5 * copied) * block + 2 * products + 2 * sums
        core = 4 * n + temporaries + (count + 3) * head
    else:
        core = n + (5 + 3 * copied) * block + products + sums + 2 * head
    return _layer(problem, projected, core, train=4 + problem.causal, least=5)


def mean(problem: Problem, projected: bool = False) -> int:
    """The output, with gradients the value's; causal also the temporaries of one block of positions."""
    block, _, _, copied, _ = _sweep(problem)
    core = (1 + problem.backward) * _narrow(problem) + problem.causal * (2 + copied) * block
    return _layer(problem, projected, core, forward=1, train=1, least=3, last=3, matrices=2)


def _sweep(problem: Problem) -> tuple[int, int, int, bool, int]:
    """Bytes of a block of one tensor, of the products and of the sums of its chunks; whether cutting a block
    into chunks copies it, and how many blocks there are."""
    chunk = min(problem.seq_len, max(MIN_CHUNK_ROWS, problem.head_dim))
    row = problem.batch * problem.dim
    least = (LEAST_CAUSAL_BLOCKS if problem.causal else LEAST_BLOCKS)[problem.device]
    elements = min(SWEEP_ELEMENTS[problem.device], problem.elements // least)
    rows = min(problem.seq_len, max(1, elements // (row * chunk)) * chunk)
    block = row * rows * _wide_size(problem)
    sums = rows // chunk * _head_matrices(problem, _wide_size(problem))
    copied = rows > chunk or _is_half(problem)
    return block, block * chunk // problem.head_dim, sums, copied, _count(problem, rows)


def element_wise_eager(problem: Problem, projected: bool = False) -> int:
    """Query, key, value and output by channel (with gradients ten tensors), and a block's weights (two)."""
    n, w, half = _narrow(problem), _wide(problem), _is_half(problem)
    length, channels = problem.seq_len, problem.batch * problem.dim
    limit = BLOCK_ELEMENTS[problem.device]
    rows = min(length, max(1, min(BLOCK_ROWS, limit // length)))
    parts = min(channels, max(1, limit // (rows * length)))
    buffer = parts * rows * length * _wide_size(problem)
    if problem.backward:
        sums = 2 * parts * length * _wide_size(problem)
        return _layer(problem, projected, 9 * w + n + 2 * buffer + 2 * sums, train=1)
    return _layer(problem, projected, max(4 * w + buffer, (6 if half else 5) * w))


def element_wise_sdpa(problem: Problem, projected: bool = False) -> int:
    """Query, key, value and output with a few columns per channel, a log-sum-exp per channel and position;
    with gradients also those of the wide tensors, and the copies that they are cut and joined through."""
    w, half, width = _wide(problem), _is_half(problem), SDPA_WIDTH[problem.device]
    scratch = _flash_scratch(problem, width, converted=True) if problem.device == "cpu" else 0
    if problem.backward:
        return _layer(problem, projected, (9 * width + 2) * w + half * _narrow(problem) + scratch, train=1)
    return _layer(problem, projected, (4 * width + (4 if half else 1)) * w + scratch)


def ea_series_eager(problem: Problem, projected: bool = False) -> int:
    """Powers of one chunk; the outputs of all and their joint copy; the moments of every chunk. Gradients:
    3 t + 5 tensors. Causal: prefix sums of one chunk; gradients 3 t + 7 tensors."""
    if problem.causal:
        return _ea_series_causal(problem, projected)
    order, n, w, half = _order(problem), _narrow(problem), _wide(problem), _is_half(problem)
    chunk, count = _ea_chunk(problem)
    row = problem.batch * problem.dim * _wide_size(problem)
    moments = (2 * order + 3) * (count + 1) * row
    if problem.backward:
        kept = (3 * order + 6) * w + 2 * n if half else (3 * order + 5) * n
        kept += 0 if order else 2 * n
        return _layer(problem, projected, kept + max(0, 4 - count) * chunk + moments, train=3)
    joined = max(2 * n, n + 3 * chunk) if count > 1 else n
    return _layer(problem, projected, max((order + 2 + 2 * half) * chunk, 4 * chunk, joined) + moments)


def _ea_series_causal(problem: Problem, projected: bool) -> int:
    order, n, w, half = _order(problem), _narrow(problem), _wide(problem), _is_half(problem)
    chunk, count = _ea_chunk(problem)
    if problem.backward:
        kept = (3 * order + 8) * w + 2 * n if half else (3 * order + 7) * n
        kept += 0 if order else 2 * n
        return _layer(problem, projected, kept + (2 * order + 1) * chunk, train=3)
    prefixes = 3 * (order + 1) + (4 if order else 3) + 2 * half
    whole_chunks = w // chunk
    outputs = max(0, whole_chunks - 1) * chunk * n // w
    joined = 2 * n if count > 1 else 0
    return _layer(problem, projected, max(prefixes * chunk + outputs, joined))


def ea_series_fused(problem: Problem, projected: bool = False) -> int:
    """The output and sums; with gradients the output, three gradients and, causal, the sums before every block.
    On a GPU the sums of every chunk, twice when causal, and of a causal half's backward two wide tensors."""
    order, n = _order(problem), _narrow(problem)
    sums = (2 * order + 3) * problem.batch * problem.dim * _wide_size(problem)
    if problem.device == "cuda":
        chunks = _count(problem, fused_gpu_rows(problem)) * (1 + problem.causal)
        gradients = 3 * n + 2 * _wide(problem) * (problem.causal and _is_half(problem))
        core = n + chunks * sums + gradients * problem.backward
        return _layer(problem, projected, core, train=3)
    if not problem.backward:
        return _layer(problem, projected, n + 2 * sums)
    kept = _count(problem, FUSED_BLOCK) if problem.causal else 2
    return _layer(problem, projected, 4 * n + kept * sums, train=3)


def fused_gpu_rows(problem: Problem) -> int:
    """Rows of a chunk of the fused kernel on a GPU: ``chunk_rows`` of kernels/ea_triton_launch.py."""
    blocks = _ceil(problem.batch * problem.dim, FUSED_LANES)
    parallel = min(problem.seq_len * blocks // FUSED_PROGRAMS, FUSED_ROWS[1])
    rows = max(parallel, math.isqrt(problem.seq_len) // 2, FUSED_ROWS[0])
    return 1 << (rows - 1).bit_length()


def hadamard(problem: Problem, projected: bool = False) -> int:
    """Scores, weights and output; with gradients six tensors, fifteen when causal (half: one more)."""
    n, w, half = _narrow(problem), _wide(problem), _is_half(problem)
    if not problem.backward:
        return _layer(problem, projected, (4 if half else 3) * w, matrices=0)
    if problem.causal:
        core, kept = (14 * w + 2 * n if half else 15 * n), 1
    else:
        core, kept = (7 * w + n if half else 6 * n), 2
    return _layer(problem, projected, core, train=kept - half, matrices=0)


def _layer(
    problem: Problem,
    projected: bool,
    core: int,
    *,
    forward: int = 3,
    train: int = 0,
    least: int = 6,
    last: int = 5,
    matrices: int = 4,
) -> int:
    """The core's bytes, and those of the projections around it if there are any.

    forward, train: tensors that the projections add at the core's peak, without and with gradients.
    least: tensors held when the output is projected: query, key, value, the core's output, its copy with
        heads side by side, the result.
    last: tensors held at the end of the backward pass.
    matrices: weights [dim, dim]; the output's gradient is there at the core's peak, all four at the end.
    """
    if not projected:
        return core
    n, weight = _narrow(problem), bool(matrices) * problem.dim**2 * problem.element_size
    if problem.backward:
        return max(core + train * n + weight, last * n + matrices * weight)
    return max(core + forward * n, least * n)


def _fused_on_gpu(problem: Problem, tensor: int) -> int:
    statistics = _rows(problem) * FLOAT32
    if not problem.backward:
        return tensor + statistics
    accumulator = problem.elements * FLOAT32 if _is_half(problem) else 0
    return 4 * tensor + accumulator + 2 * statistics


def _flash_scratch(problem: Problem, width: int, converted: bool = False) -> int:
    """Tiles of PyTorch's CPU flash kernel on heads of that width, for all threads."""
    queries = min(problem.seq_len, next(rows for least, rows in FLASH_TILES if problem.seq_len >= least))
    tile = queries * min(problem.seq_len, FLASH_KEYS)
    wide = 2 * tile if problem.backward else tile + queries * (width + 2)
    narrow = tile * (1 + problem.backward) if _is_half(problem) and not converted else 0
    return _threads() * (wide * _wide_size(problem) + narrow * problem.element_size)


def _threads() -> int:
    """What torch uses unless told otherwise, where no core runs two hardware threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ea_chunk(problem: Problem) -> tuple[int, int]:
    """Bytes of one tensor's chunk of positions, and how many chunks there are."""
    channels = problem.batch * problem.dim
    rows = min(problem.seq_len, max(LEAST_CHUNK_ROWS, CHUNK_ELEMENTS[problem.device] // channels))
    return rows * channels * _wide_size(problem), _count(problem, rows)


def _count(problem: Problem, rows: int) -> int:
    return _ceil(problem.seq_len, rows)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _order(problem: Problem) -> int:
    order: int = problem.knob(ORDER)
    return order


def _is_half(problem: Problem) -> bool:
    return problem.element_size < FLOAT32


def _wide_size(problem: Problem) -> int:
    """Bytes per element of sums over positions: float64 for float64, else float32."""
    return max(FLOAT32, problem.element_size)


def _narrow(problem: Problem) -> int:
    return problem.elements * problem.element_size


def _wide(problem: Problem) -> int:
    return problem.elements * _wide_size(problem)


def _rows(problem: Problem) -> int:
    """Queries of all heads."""
    return problem.batch * problem.heads * problem.seq_len


def _matrix(problem: Problem, size: int) -> int:
    """All pairs of positions of all heads."""
    return _rows(problem) * problem.seq_len * size


def _head_matrices(problem: Problem, size: int) -> int:
    """A matrix [head_dim, head_dim] per head."""
    return problem.batch * problem.dim * problem.head_dim * size
