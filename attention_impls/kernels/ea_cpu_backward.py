"""The backward kernels of EA-series on the CPU: adjoint moments and gradients, in closed form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attention_impls.kernels.ea_cpu_code import TILE, Group, Kernel, Sums
from attention_impls.kernels.ea_cpu_forward import Series, Strides, accumulate_rows, add_keys, series_of
from attention_impls.kernels.vectors import Vector


def _query_gradient(group: Group, start: Any, stop: Any) -> None:
    """dq of a block from the moments of all keys, and its share of the adjoint moments G and H."""
    code = group.code
    pairs = group.sums("moments", code.integer(0)).pairs
    adjoint = group.sums("adjoint", group.part)

    def differentiate(rows: Sequence[Any]) -> None:
        steps = group.steps(group.stream("query", *rows))
        series = series_of(code, pairs, steps)
        alpha, output = _query_part(group, rows, series)
        for _ in _add_queries(group, adjoint, alpha, output, steps):
            pass

    group.tiles(start, stop, differentiate)
    group.keep("adjoint", group.part, adjoint)


def _query_part(group: Group, rows: Sequence[Any], series: Series) -> tuple[Vector, Vector]:
    """Write dq = 2 s alpha (P' - y R') with alpha = g / R; return alpha and y = P / R."""
    inverse = group.code.of(1.0) / series.denominator
    alpha, output = group.stream("upstream", *rows) * inverse, series.numerator * inverse
    slope = series.numerator_slope - output * series.denominator_slope
    group.store("query_gradient", rows, group.unit.twice_scale * alpha * slope)
    return alpha, output.spread_over(len(rows))


def _add_queries(
    group: Group, adjoint: Sums, alpha: Vector, output: Vector, steps: Sequence[Vector]
) -> Iterator[tuple[Vector, Vector]]:
    """G_n += x^n / n! alpha and H_n -= x^n / n! alpha y, row by row; for every n both after each row."""
    code, term = group.code, alpha
    for n, (value_sum, weight_sum) in enumerate(zip(adjoint.values, adjoint.weights, strict=True)):
        # The second sum holds the plain terms, as in the forward pass.
        minus_h, g = accumulate_rows(code, (weight_sum, value_sum), term, output)
        yield g, minus_h
        if n < group.form.order:
            term = term * steps[n]


def _key_gradient(group: Group, start: Any, stop: Any) -> None:
    """dk and dv of a block from the adjoint moments of all queries."""
    adjoint = group.sums("adjoint", group.code.integer(0))

    def differentiate(rows: Sequence[Any]) -> None:
        _key_part(group, rows, adjoint.top.value, adjoint.pairs)

    group.tiles(start, stop, differentiate)


def _key_part(group: Group, rows: Sequence[Any], top: Vector, pairs: Iterable[tuple[Vector, Vector]]) -> None:
    """Write dv = u A and dk = u (v A' + B' - 2 s k (v A + B)) with A = sum G_n k^n and B = sum H_n k^n."""
    code = group.code
    key, value = group.stream("key", *rows), group.stream("value", *rows)
    power = group.weight(key, top)
    zero = code.of(0.0)
    a = b = a_slope = b_slope = zero
    for n, (g, minus_h) in enumerate(pairs):
        if n > 0:
            slope = power * float(n) if n > 1 else power
            a_slope, b_slope = code.fma(slope, g, a_slope), code.fma(slope, minus_h, b_slope)
            power = power * key
        a, b = code.fma(power, g, a), code.fma(power, minus_h, b)
    group.store("value_gradient", rows, a)
    reach = group.unit.twice_scale * key * (value * a - b)
    group.store("key_gradient", rows, value * a_slope - b_slope - reach)


def _causal_gradient(group: Group, start: Any, stop: Any) -> None:
    """All gradients of a block: its rows forward again from the kept moments, then back with the adjoint's."""
    code = group.code
    sums = group.sums("kept", group.block(start))
    strides = Strides(group, sums.top.value, start, stop)
    alphas, outputs, tops = (group.array() for _ in range(3))

    def forward(rows: Sequence[Any]) -> None:
        query, key, value = (group.stream(name, *rows) for name in ("query", "key", "value"))
        series = series_of(code, add_keys(group, sums, key, value), group.steps(query))
        for array, vector in zip((alphas, outputs), _query_part(group, rows, series), strict=True):
            for row, part in zip(rows, vector.spread_over(len(rows)).split(), strict=True):
                array.store(code.builder.sub(row, start), part)

    with strides.each(sums) as (first, last):
        tops.store(code.builder.sub(first, start), sums.top.value)
        group.tiles(first, last, forward)

    adjoint = group.sums("adjoint", group.part)

    def backward(rows: Sequence[Any]) -> None:
        places = [code.builder.sub(row, start) for row in rows]
        alpha, output = (code.join(array.load(place) for place in places) for array in (alphas, outputs))
        steps = group.steps(group.load("query", *rows))
        _key_part(group, rows, adjoint.top.value, _add_queries(group, adjoint, alpha, output, steps))

    with strides.backwards() as (first, last):
        if group.form.stabiliser:
            adjoint.refer_to(tops.load(code.builder.sub(first, start)))
        group.tiles(first, last, backward, backwards=True)
    group.keep("adjoint", group.part, adjoint)


_GRADIENTS = ("query_gradient", "key_gradient", "value_gradient")
_CAUSAL_INPUTS = ("query", "key", "value", "upstream")

QUERY_GRADIENT = Kernel(
    "query_gradient",
    ("query", "upstream", "query_gradient"),
    ("moments", "adjoint"),
    _query_gradient,
    tile=TILE,
)
KEY_GRADIENT = Kernel(
    "key_gradient", ("key", "value", "key_gradient", "value_gradient"), ("adjoint",), _key_gradient, tile=TILE
)
CAUSAL_GRADIENT = Kernel(
    "causal_gradient", (*_CAUSAL_INPUTS, *_GRADIENTS), ("kept", "adjoint"), _causal_gradient, backwards=True
)
CAUSAL_ADJOINT = Kernel(  # what the rows of a part add to the adjoint, and no gradient
    "causal_adjoint", _CAUSAL_INPUTS, ("kept", "adjoint"), _causal_gradient, backwards=True
)
