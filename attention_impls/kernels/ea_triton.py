"""EA-series attention in Triton: forward, backward and decode with moments that never leave the registers.

Formulas as in ``attention_impls.ea_series.eager``; the fused passes and their derivatives:

    forward, full      chunk totals of S_n, Z_n | their sum over chunks | outputs
    forward, causal    chunk totals             | their running sum     | outputs, row by row
    backward, full     queries: dq, adjoint totals G_n, H_n | their sum | keys: dk, dv
    backward, causal   queries: dq, alpha, y, totals | their running sum in reverse | keys, in reverse

Work O(t L D); parallel over channels and over chunks of rows, so that few channels do not idle a GPU.
No atomics: the same inputs give the same bits.

Traffic in bytes per element of one [batch, heads, seq_len, head_dim] tensor, with b bytes of the inputs,
a = 4 of the sums (8 in float64), t = order and C = rows of a chunk, so that m = 2 a (t + 1) / C is a set
of moments:

    =================  ============  ====================================================
    full forward       4 b + 2 m     key, value | query, output
    causal forward     6 b + 4 m     key, value | query, key, value, output; totals and
                                     prefixes are written and read once each
    full backward      7 b + 2 m     query, upstream, dq | key, value, dk, dv
    causal backward    10 b + 4 a    query, key, value, upstream, dq, alpha, y |
                       + 5 m         query, key, value, alpha, y, dk, dv
    decode, a channel  4 b + 4 a (t + 1) + 2 a
    =================  ============  ====================================================

alpha and y (2 a bytes an element, in the memory of dk and dv where the dtypes allow) are the price of the
causal backward: its second pass runs in reverse, where prefix sums cannot be had again without the
cancellation of subtracting. Issued instructions are about 6 t + 25 an element of a causal forward pass,
so that at 16 bits and t = 6 the arithmetic and the traffic of an H100 take about the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from attention_impls.chunks import accumulator_dtype
from attention_impls.kernels import ea_triton_backward, ea_triton_forward

MINIMUM_TRITON = "3.3"  # the first with tuples that a loop can carry

MIN_CHUNK_ROWS = 32  # below, the moments of chunks are more traffic than their rows
PROGRAMS = 2048  # 16 warps for each of 132 multiprocessors: enough to hide the latency of memory
SCAN_ROWS = 16  # chunks whose loads are under way at once


class Tiles(NamedTuple):
    lanes: int
    rows: int
    warps: int


def tiles(kernel: str, order: int, dtype: torch.dtype) -> Tiles:
    return Tiles(64, 8, 1)
