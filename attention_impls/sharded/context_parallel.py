"""Softmax attention over ranks by PyTorch's own context parallelism: ring attention, on GPUs.

A prototype in torch 2.6 to 2.13: its context manager replaces ``F.scaled_dot_product_attention`` while it is open.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from attention_impls.autocast import under_autocast
from attention_impls.sharded.anchor import anchor
from attention_impls.sharded.exchange import Exchange
from attention_impls.softmax import checked_scale
from attention_impls.softmax import flash as plain_flash

FLOAT32 = 4  # bytes: gradients of keys and values go round in it


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    exchange: Exchange,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """The output of ``softmax.flash`` over all ranks' positions, at this rank's own, by ring attention.

    Keys and values come from one rank after another, backward their gradients go round all ranks; each step's
    outputs are joined by their log-sum-exps (Liu et al. 2023, arXiv 2310.01889). Shards are contiguous, so
    PyTorch's balancing of causal work, which deals the positions out otherwise, is off. PyTorch exchanges by
    itself: the traffic is noted as its code says, not counted. Every rank takes part in backward.

    Args:
        query, key, value: this rank's shard, of one length on all ranks.
        causal, scale: as ``softmax.flash``.

    Raises:
        InvalidArgument: the tensors or the scale break their rules.
    """
    if exchange.size == 1:
        return plain_flash(query, key, value, causal=causal, scale=scale)
    query, key, value = under_autocast(query, key, value)
    checked_scale(query, key, value, scale)
    output: Tensor = _Ring.apply(query, key, value, anchor(query), exchange, causal, scale)  # type: ignore[no-untyped-call]
    return output


class _Ring(torch.autograd.Function):
    """PyTorch's own graph kept apart: its backward pass, too, must run while the context is open."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        anchored: Tensor,
        exchange: Exchange,
        causal: bool,
        scale: float | None,
    ) -> Tensor:
        record = anchored.requires_grad
        leaves = [x.detach().contiguous().requires_grad_(record) for x in (query, key, value)]
        with (
            torch.set_grad_enabled(record),
            _open(exchange, query.device),
            sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        ):
            output = F.scaled_dot_product_attention(
                leaves[0], leaves[1], leaves[2], is_causal=causal, scale=scale
            )
        _note(exchange, 2 * (exchange.size - 1) * key.nbytes)
        ctx.exchange, ctx.leaves, ctx.output = exchange, leaves, output
        return output.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        with _open(ctx.exchange, upstream.device):
            gradients = torch.autograd.grad(ctx.output, ctx.leaves, upstream.contiguous())
        key, size = ctx.leaves[1], ctx.exchange.size
        _note(ctx.exchange, 2 * (size - 1) * key.nbytes + 2 * size * key.numel() * FLOAT32)
        return *gradients, None, None, None, None


@contextmanager
def _open(exchange: Exchange, device: torch.device) -> Generator[None]:
    """PyTorch's context of contiguous shards, in which its attention goes over the ranks."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor.experimental import _attention, context_parallel

    assert exchange.group is not None
    mesh = DeviceMesh.from_group(exchange.group, device.type)
    unused = torch.zeros(2 * exchange.size, device=device)  # torch 2.13 asks for a buffer to cut
    options, balanced = _attention._cp_options, _attention._cp_options.enable_load_balance
    options.enable_load_balance = False
    try:
        with context_parallel(mesh, buffers=[unused], buffer_seq_dims=[0]):
            yield
    finally:
        options.enable_load_balance = balanced


def _note(exchange: Exchange, received: int) -> None:
    """What PyTorch's code passes to this rank."""
    exchange.traffic.received_bytes += received
    exchange.traffic.exchanges += 1
