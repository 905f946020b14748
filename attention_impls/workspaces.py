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
from attention_impls.spec import Problem

# These repeat constants of modules that import torch; tests/impls/test_workspaces.py keeps them equal.
CHUNK_ELEMENTS = {"cpu": 2**17, "cuda": 2**23}  # chunks.py
LEAST_CHUNK_ROWS = 16  # chunks.py, chunk_rows
BLOCK_ELEMENTS = {"cpu": 2**20, "cuda": 2**24}  # element_wise.py
BLOCK_ROWS = 32  # element_wise.py
SDPA_WIDTH = {"cpu": 2, "cuda": 8}  # element_wise.py
MIN_CHUNK_ROWS = 64  # efficient.py, linear.py
FUSED_BLOCK = 128  # kernels/ea_cpu_code.py
FUSED_LANES, FUSED_PROGRAMS, FUSED_ROWS = 64, 2048, (32, 256)  # kernels/ea_triton.py

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
    """Both normalised tensors and the output; with gradients eight tensors, where the sums [head_dim,
    head_dim] are small. Causal: also the chunks at work, and with gradients every chunk's products."""
    n, w, half = _narrow(problem), _wide(problem), _is_half(problem)
    if problem.causal:
        return _efficient_causal(problem, projected)
    sums = _head_matrices(problem, problem.element_size)
    copies = problem.batch > 1 and problem.heads > 1
    if problem.backward:
        core = max(5 * w + 3 * n, 2 * w + 4 * n + 2 * sums) if half else max(8 * n, 4 * n + 2 * sums)
        return _layer(problem, projected, core, train=int(copies and not half))
    core = max(2 * w + n, 3 * n + sums) if half else 3 * n + sums
    return _layer(problem, projected, core, forward=5 if half and problem.heads > 1 else 3)


def _efficient_causal(problem: Problem, projected: bool) -> int:
    w, copied = _wide(problem), 3 * _is_half(problem)
    sums = _head_matrices(problem, _wide_size(problem))
    rows = min(problem.seq_len, max(MIN_CHUNK_ROWS, problem.head_dim))
    chunk = w * rows // problem.seq_len
    if not problem.backward:
        last = w * (problem.seq_len - rows * (_count(problem, rows) - 1)) // problem.seq_len
        core = max(2 * w + 3 * chunk + 3 * sums, 3 * w + 3 * last + sums)
        return _layer(problem, projected, copied * w + core)
    products = w * rows // problem.head_dim + _count(problem, rows) * sums
    copies = problem.batch > 1 and problem.heads > 1
    core = (6 + copied) * w + products + sums + chunk
    return _layer(problem, projected, core, train=(11 if copied else 8) if copies else 3)


def linear(problem: Problem, projected: bool = False) -> int:
    """Both features, the weighted sums and the output; with gradients eight tensors (half: twelve).
    Causal: query, key and value padded to whole chunks, and per chunk its sums [head_dim, head_dim] and
    its products [rows, rows]."""
    n, w, half = _narrow(problem), _wide(problem), _is_half(problem)
    if problem.causal:
        return _linear_causal(problem, projected)
    sums = _head_matrices(problem, _wide_size(problem))
    if problem.backward:
        core = max(11 * w + sums, 8 * w + 2 * sums) + n if half else max(8 * n + sums, 6 * n + 2 * sums)
        return _layer(problem, projected, core, train=1 if half else 5)
    return _layer(problem, projected, max(5 * w, 4 * w + sums) if half else max(4 * n, 3 * n + sums))


def _linear_causal(problem: Problem, projected: bool) -> int:
    n, w, half = _narrow(problem), _wide(problem), _is_half(problem)
    rows = min(problem.seq_len, max(MIN_CHUNK_ROWS, problem.head_dim))
    count = _count(problem, rows)
    padded = w * count * rows // problem.seq_len
    sums = count * _head_matrices(problem, _wide_size(problem))
    products = padded * rows // problem.head_dim
    if not problem.backward:
        temporaries = max(3 * sums, sums + 2 * products, sums + products + 3 * padded)
        return _layer(problem, projected, 2 * w + 3 * padded + temporaries)
    narrow = 2 * w + n - padded if half else 0
    core = max(2 * products + sums + 7 * padded, products + sums + 10 * padded, 3 * sums + 5 * padded)
    # Padding makes the rows contiguous; where there is nothing to pad, the products copy.
    copies = problem.seq_len % rows == 0 and problem.heads > 1
    return _layer(problem, projected, core + narrow, train=(12 if half else 8) if copies else 1)


def element_wise_eager(problem: Problem, projected: bool = False) -> int:
    """Query, key, value and output by channel (with gradients nine tensors), and two buffers of a block."""
    n, w, half = _narrow(problem), _wide(problem), _is_half(problem)
    length, channels = problem.seq_len, problem.batch * problem.dim
    limit = BLOCK_ELEMENTS[problem.device]
    rows = min(length, max(1, min(BLOCK_ROWS, limit // length)))
    parts = min(channels, max(1, limit // (rows * length)))
    buffers = 2 * parts * rows * length * _wide_size(problem)
    if problem.backward:
        sums = 2 * parts * length * _wide_size(problem)
        return _layer(problem, projected, 8 * w + n + buffers + 2 * sums, train=1)
    return _layer(problem, projected, max(4 * w + buffers, (6 if half else 5) * w))


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
    3 t + 5 tensors. Causal: prefix sums of this chunk and the last; gradients 3 t + 7 tensors."""
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
    # The carried moments are views that keep the whole prefix sums of the chunk before.
    prefixes = (5 if count > 1 else 3) * (order + 1) + (4 if order else 3) + 2 * half
    whole_chunks = w // chunk
    outputs = max(0, whole_chunks - 1) * chunk * n // w
    joined = 2 * n + 2 * (order + 1) * chunk if count > 1 else 0
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
    """Rows of a chunk of the fused kernel on a GPU: ``chunk_rows`` of kernels/ea_triton.py."""
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
    matrices: int = 4,
) -> int:
    """The core's bytes, and those of the projections around it if there are any.

    forward, train: tensors that the projections add at the core's peak, without and with gradients.
    least: tensors held when the output is projected: query, key, value, the core's output, its copy with
        heads side by side, the result.
    matrices: weights [dim, dim]; the output's gradient is there at the core's peak, all four at the end.
    """
    if not projected:
        return core
    n, weight = _narrow(problem), bool(matrices) * problem.dim**2 * problem.element_size
    if problem.backward:
        return max(core + train * n + weight, 5 * n + matrices * weight)
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
    order: int = problem.hyperparameters.get("order", ORDER.default)
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
