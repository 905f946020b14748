"""The forward kernels of EA-series on the CPU: moments, outputs, and both row by row when causal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from attention_impls.kernels.ea_cpu_code import MAX_RISE, TILE, Group, Kernel, Sums
from attention_impls.kernels.vectors import Code, Variable, Vector


def _moments(group: Group, start: Any, stop: Any) -> None:
    """Add the block's keys to the part's moments."""
    sums = group.sums("moments", group.part)
    if group.form.stabiliser:
        sums.refer_to(_highest(group, sums.top.value, start, stop))

    def add(rows: Sequence[Any]) -> None:
        key, value = group.stream("key", *rows), group.stream("value", *rows)
        for _ in add_keys(group, sums, key, value):
            pass

    group.tiles(start, stop, add)
    group.keep("moments", group.part, sums)


def _read(group: Group, start: Any, stop: Any) -> None:
    """The outputs of a block from the moments of all keys."""
    pairs = group.sums("moments", group.code.integer(0)).pairs

    def read(rows: Sequence[Any]) -> None:
        series = series_of(group.code, pairs, group.steps(group.stream("query", *rows)))
        group.store("output", rows, series.numerator / series.denominator)

    group.tiles(start, stop, read)


def _causal(group: Group, start: Any, stop: Any) -> None:
    """Add the block's keys row by row; after each, the output of its row."""
    sums = group.sums("moments", group.part)

    def attend(rows: Sequence[Any]) -> None:
        query, key, value = (group.stream(name, *rows) for name in ("query", "key", "value"))
        series = series_of(group.code, add_keys(group, sums, key, value), group.steps(query))
        group.store("output", rows, series.numerator / series.denominator)

    strides = Strides(group, sums.top.value, start, stop)
    with strides.each(sums) as (first, last):
        group.tiles(first, last, attend)
    group.keep("moments", group.part, sums)


def _causal_kept(group: Group, start: Any, stop: Any) -> None:
    """As ``_causal``; the moments before every block are kept for the backward pass."""
    group.keep("kept", group.block(start), group.sums("moments", group.part))
    _causal(group, start, stop)


class Strides:
    """A causal block at once, or row by row where the reference rises too steeply for one reference."""

    def __init__(self, group: Group, top: Vector, start: Any, stop: Any) -> None:
        code, builder = group.code, group.code.builder
        self._group, self._start, self._stop = group, start, stop
        self._step: Any = builder.sub(stop, start)
        if group.form.stabiliser:
            bound = code.larger(top, -group.finite)
            entering = code.larger(group.log_weight(group.load("key", start)), bound)
            self._ending = _highest(group, entering, start, stop)
            limit = MAX_RISE[group.form.lanes.double]
            self._steep = code.any_exceeds(self._ending - entering, limit)
            self._step = builder.select(self._steep, code.integer(1), self._step)

    @contextmanager
    def each(self, sums: Sums) -> Iterator[tuple[Any, Any]]:
        """First and last row of every stride, the sums being relative to its reference."""
        code, group = self._group.code, self._group
        with code.loop(self._start, self._stop, self._step) as first:
            if group.form.stabiliser:
                own = code.larger(group.log_weight(group.load("key", first)), sums.top.value)
                own = code.larger(own, -group.finite)
                sums.refer_to(code.choose(self._steep, own, self._ending))
            yield first, code.builder.add(first, self._step)

    @contextmanager
    def backwards(self) -> Iterator[tuple[Any, Any]]:
        """First and last row of every stride, the last stride first."""
        builder = self._group.code.builder
        count = builder.sdiv(builder.sub(self._stop, self._start), self._step)
        with self._group.code.loop(self._group.code.integer(0), count, backwards=True) as number:
            first = builder.add(self._start, builder.mul(number, self._step))
            yield first, builder.add(first, self._step)


def _highest(group: Group, top: Vector, start: Any, stop: Any) -> Vector:
    """The highest log-weight of the rows and of those before, bounded."""
    highest = Variable(group.code, group.code.larger(top, -group.finite))

    def compare(rows: Sequence[Any]) -> None:
        for part in group.log_weight(group.load("key", *rows)).split():
            highest.value = group.code.larger(part, highest.value)

    group.tiles(start, stop, compare)
    return highest.value


def add_keys(group: Group, sums: Sums, key: Vector, value: Vector) -> Iterator[tuple[Vector, Vector]]:
    """S_n += u k^n v and Z_n += u k^n, row by row; for every n both sums after each row.

    The powers are built up from u, so that a vanished u stays 0 where k^n alone overflows.
    """
    code, power = group.code, group.weight(key, sums.top.value)
    for n, pair in enumerate(zip(sums.values, sums.weights, strict=True)):
        yield accumulate_rows(code, pair, power, value)
        if n < group.form.order:
            power = power * key


def accumulate_rows(
    code: Code, pair: tuple[Variable, Variable], weights: Vector, values: Vector
) -> tuple[Vector, Vector]:
    """Add weight * value and weight of every row to the two sums; both after each row."""
    value_sum, weight_sum = pair
    after: list[tuple[Vector, Vector]] = []
    for weight, value in zip(weights.split(), values.split(), strict=True):
        value_sum.value = code.fma(weight, value, value_sum.value)
        weight_sum.value = weight_sum.value + weight
        after.append((value_sum.value, weight_sum.value))
    return code.join(v for v, _ in after), code.join(w for _, w in after)


@dataclass
class Series:
    """P = sum x^n / n! S_n and R = sum x^n / n! Z_n, and their derivatives by x."""

    numerator: Vector
    denominator: Vector
    numerator_slope: Vector
    denominator_slope: Vector


def series_of(code: Code, pairs: Iterable[tuple[Vector, Vector]], steps: Sequence[Vector]) -> Series:
    """Both polynomials, from the lowest power up, for this is how the sums of a causal row come.

    LLVM leaves out the slopes where nobody asks for them.
    """
    zero = code.of(0.0)
    found = Series(zero, zero, zero, zero)
    term = code.of(1.0)
    for n, (value_sum, weight_sum) in enumerate(pairs):
        if n == 0:
            found = Series(value_sum, weight_sum, zero, zero)
            continue
        found.numerator_slope = code.fma(term, value_sum, found.numerator_slope)
        found.denominator_slope = code.fma(term, weight_sum, found.denominator_slope)
        term = term * steps[n - 1]
        found.numerator = code.fma(term, value_sum, found.numerator)
        found.denominator = code.fma(term, weight_sum, found.denominator)
    return found


_OUTPUT = ("query", "key", "value", "output")

MOMENTS = Kernel("moments", ("key", "value"), ("moments",), _moments, tile=TILE)
READ = Kernel("read", ("query", "output"), ("moments",), _read, tile=TILE)
CAUSAL = Kernel("causal", _OUTPUT, ("moments",), _causal)
CAUSAL_KEPT = Kernel("causal_kept", _OUTPUT, ("moments", "kept"), _causal_kept)
