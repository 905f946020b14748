"""What AFT-full and AFT-local share: means of values with weights exp(k_j + w_ij), per channel.

The weights are products, exp(k_j - top) exp(w_ij - top_i), so that the sums over j are matrix products of
[seq_len, seq_len] or a band of it by [seq_len, batch * heads * head_dim]. A product may vanish although its
pair is the greatest of its row and channel: where a row's greatest w meets keys far below the channel's
top, and the channel's greatest keys meet a w far below the row's top. The greatest pair then lies below
both tops, and the sum of the weights tells how far. Rows where a sum is below ``FLOOR`` are computed again,
relative to the greatest pair itself. It takes spans of both k and w above 55, or 25 when causal, where the
top of k may lie 30 above what a row sees (460 and 160 in float64).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from attention_impls.chunks import CHUNK_ELEMENTS, accumulator_dtype
from attention_impls.nouns import InvalidArgument

FLOOR = {torch.float32: 1e-24, torch.float64: 1e-200}
"""Least sum of weights that is trusted. What vanished is below the dtype's least normal number, 1e-38 and
1e-308: no more than rounding beside the sum. Gradients divide by the sum, and stay in range."""


def check_bias(
    attention: str,
    bias: Tensor | None,
    least: tuple[int, int],
    rule: str,
    exact_columns: bool = False,
) -> Tensor:
    """The bias, cut to its first rows and columns.

    Args:
        least: rows and columns that it must have.
        rule: its shape in words.
        exact_columns: whether it must have no more columns.

    Raises:
        InvalidArgument: there is none, or it has another shape.
    """
    rows, width = least
    wanted = f"{attention}: position_bias must be {rule}, here {list(least)}" + " or larger" * (
        not exact_columns
    )
    if bias is None:
        raise InvalidArgument(f"{wanted}; it is None")
    sizes = list(bias.shape)
    if len(sizes) != 2 or sizes[0] < rows or sizes[1] < width or (exact_columns and sizes[1] > width):
        raise InvalidArgument(f"{wanted}; it has shape {sizes}")
    return bias[:rows, :width]


def gated(query: Tensor, means: Tensor) -> Tensor:
    """The gates sigmoid(query) times the means, in the dtype of the query."""
    return (torch.sigmoid(query.to(means.dtype)) * means).to(query.dtype)


def columns(x: Tensor) -> Tensor:
    """[batch, heads, seq_len, head_dim] -> [seq_len, batch * heads * head_dim], wide."""
    return x.permute(2, 0, 1, 3).flatten(1).to(accumulator_dtype(x.dtype))


def uncolumns(x: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of ``columns``, as a view."""
    batch, heads, length, head_dim = shape
    return x.view(length, batch, heads, head_dim).permute(1, 2, 0, 3)


def terms(key: Tensor, value: Tensor, top: Tensor) -> Tensor:
    """Weighted values and weights side by side, exp(k - top) v and exp(k - top): [rows, 2 * columns]."""
    count = key.shape[1]
    both = key.new_empty(len(key), 2 * count)
    weights = torch.sub(key, top, out=both[:, count:]).exp_()
    torch.mul(weights, value, out=both[:, :count])
    return both


def add_through_terms(both: Tensor, gradient: Tensor, grad_key: Tensor, grad_value: Tensor) -> None:
    """Add to the gradients of key and value what the gradient of ``terms`` passes on."""
    (weighted, weights), (of_weighted, of_weights) = both.chunk(2, 1), gradient.chunk(2, 1)
    grad_value.addcmul_(weights, of_weighted)
    grad_key.addcmul_(weighted, of_weighted).addcmul_(weights, of_weights)


def divided(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums and totals side by side -> means (in place) and totals."""
    weighted, totals = sums.chunk(2, 1)
    return weighted.div_(totals), totals


def gradient_of_sums(upstream: Tensor, means: Tensor, totals: Tensor) -> Tensor:
    """The gradient of the sums that ``divided`` takes; 0 where the total is not trusted."""
    of_weighted = torch.where(is_low(totals), 0, upstream / totals)
    return torch.cat((of_weighted, of_weighted.mul(means).neg_()), 1)


def is_low(totals: Tensor) -> Tensor:
    """Where a sum of weights is not trusted."""
    return totals < FLOOR[totals.dtype]


def repair(
    means: Tensor, totals: Tensor, key: Tensor, value: Tensor, bias_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Compute the means again, in place, where their totals are not trusted; return the rows of which.

    Args:
        means, totals, key, value: [seq_len, columns].
        bias_of: of indices of rows -> their w, [rows, seq_len], -inf where a row does not see.

    Complexity: O(L D) time for a row. On a GPU this waits for the device once.
    """
    low = is_low(totals)
    rows = low.any(1).nonzero()[:, 0]
    for part in _parts(rows, key):
        weights = torch.softmax(bias_of(part)[:, :, None] + key, 1)
        exact = torch.einsum("ijc,jc->ic", weights, value)
        means[part] = torch.where(low[part], exact, means[part])
    return rows


def repaired_gradients(
    rows: Tensor, upstream: Tensor, means: Tensor, totals: Tensor, key: Tensor, value: Tensor,
    bias_of: Callable[[Tensor], Tensor], grad_key: Tensor, grad_value: Tensor,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Add to the gradients of key and value what the repaired means pass on; give those of their bias.

    Yields:
        Indices of rows, and the gradient of their w, [rows, seq_len].
    """
    for part in _parts(rows, key):
        weights = torch.softmax(bias_of(part)[:, :, None] + key, 1)
        passed = torch.where(is_low(totals[part]), upstream[part], 0)
        weights *= passed[:, None]
        grad_value += weights.sum(0)
        of_scores = weights.mul_(value - means[part, None])
        grad_key += of_scores.sum(0)
        yield part, of_scores.sum(2)


def future(rows: Tensor, length: int) -> Tensor:
    """Which positions lie after each of the rows, [rows, seq_len]."""
    return torch.arange(length, device=rows.device) > rows[:, None]


def _parts(rows: Tensor, key: Tensor) -> tuple[Tensor, ...]:
    """Rows in parts whose weights, [rows, seq_len, columns], are a few chunks, or one row."""
    if not len(rows):
        return ()
    elements = 8 * CHUNK_ELEMENTS.get(key.device.type, CHUNK_ELEMENTS["cpu"])
    return torch.split(rows, max(1, elements // key.numel()))
