"""The CPU kernels of EA-series, written with ``vectors``: what happens to one vector of channels.

Every kernel has the signature ``(numbers, scale, first_unit, last_unit, first_row, last_row, part)``. ``numbers``
is an array of 64-bit integers: sizes, the address and strides of every tensor, the address of every array of
sums, in the order of ``Kernel.numbers``. A unit is a (batch, head) plane or a segment of its channels; rows are
positions. Rows are taken in blocks, and each block's vectors of channels one after the other, so that a block
comes from memory once while the 2 (order + 1) sums of one vector stay in registers and the nearest cache.

In memory sums are [slots, 2 (order + 1) + 1, columns]: S_0..S_t, Z_0..Z_t (backward: G and H) and the reference
(``top``) that they are relative to, a binary logarithm; a slot is a part of the rows, or a block; a column is a
channel of a plane. ``docs/kernels.md`` derives the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from attention_impls.kernels.vectors import ELEMENT_SIZE, I64, POINTER, Code, Lanes, Variable, Vector

BLOCK = 128
"""Rows of a block: 32 KiB per tensor of 64 channels stay in the second-level cache while its vectors take turns,
and what backward needs of every block, 2 (order + 1) + 1 sums per channel, is an eighth of a tensor at order 6."""

TILE = 2
"""Rows that kernels without a running sum per row work on side by side: one row's chain of dependent
instructions leaves the units half idle. Those with one have work enough for the registers in a row."""

MANY_TERMS = 16  # order from which a tile has one row: its code grows with rows * order, its use does not

MAX_RISE = {False: 43.0, True: 432.0}
"""By ``Lanes.double``: the rise of the reference within a block (as a binary logarithm) from which its rows are
taken one by one: beyond, weights of rows before the rise would vanish. 30 and 300 of ``chunks.MAX_RISE``."""

FINITE = {False: 3e38, True: 1e308}
"""By ``Lanes.double``: bound of the reference where a key's square is infinite, or where there is no sum yet."""

STRIDES = ("batch", "head", "row")
SIZES = ("heads", "channels", "segment", "segments", "columns")


@dataclass(frozen=True)
class Form:
    """What a kernel is specialised for.

    dtype: of the tensors; lanes: of the sums; order: t; stabiliser: whether sums have a reference.
    """

    dtype: str
    lanes: Lanes
    order: int
    stabiliser: bool


@dataclass(frozen=True)
class Kernel:
    """A kernel's name, its tensors and arrays of sums, and what it does to a vector of channels in a block.

    backwards: whether blocks are taken from the last to the first.
    tile: rows that are worked on side by side.
    """

    name: str
    tensors: Sequence[str]
    sums: Sequence[str]
    body: Callable[[Group, Any, Any], None]
    backwards: bool = False
    tile: int = 1

    @property
    def numbers(self) -> list[str]:
        """Names of the integers that the kernel is called with, in order."""
        places = [f"{tensor}.{what}" for tensor in self.tensors for what in ("address", *STRIDES)]
        return [*SIZES, *places, *self.sums]


def write(kernel: Kernel, form: Form) -> str:
    """The kernel in LLVM's assembly."""
    module = ir.Module(name=kernel.name)
    signature = ir.FunctionType(ir.VoidType(), [POINTER, ir.DoubleType(), I64, I64, I64, I64, I64])
    function = ir.Function(module, signature, name=kernel.name)
    code = Code(function, form.lanes)
    _units(kernel, form, code, function.args)
    code.builder.ret_void()
    return str(module)


class Sums:
    """S_n and Z_n of one vector of channels (backward: G_n and H_n), and their reference."""

    def __init__(self, code: Code, values: list[Variable], weights: list[Variable], top: Variable) -> None:
        self.code, self.values, self.weights, self.top = code, values, weights, top

    @property
    def pairs(self) -> list[tuple[Vector, Vector]]:
        """Both sums of every power, as they are now."""
        return [(v.value, w.value) for v, w in zip(self.values, self.weights, strict=True)]

    def refer_to(self, top: Vector) -> None:
        """Make the sums relative to another reference: forward no lower one, backward no higher one."""
        code = self.code
        change = self.top.value - top
        factor = code.exp2(code.smaller(change, -change))
        for variable in self.values + self.weights:
            variable.value = variable.value * factor
        self.top.value = top


class Group:
    """One vector of neighbouring channels of one plane: where its elements and sums are.

    part: the slot of this call's own sums.
    """

    def __init__(
        self, code: Code, form: Form, numbers: dict[str, Any], part: Any, unit: Unit, tile: int
    ) -> None:
        self.code, self.form, self.part, self.unit = code, form, part, unit
        self._numbers, self._tile = numbers, tile
        self._channel, self._mask = unit.first, None

    def at(self, channel: Any, mask: Any = None) -> Group:
        """The group that begins at the channel, of all lanes or those in the mask."""
        group = Group(self.code, self.form, self._numbers, self.part, self.unit, self._tile)
        group._channel, group._mask = channel, mask
        return group

    def load(self, tensor: str, *rows: Any) -> Vector:
        """The group's elements of the rows, side by side."""
        code, dtype = self.code, self.form.dtype
        return code.join(code.load(self._address(tensor, row), dtype, self._mask) for row in rows)

    def stream(self, tensor: str, *rows: Any) -> Vector:
        """As ``load``; the same rows of the next block are asked for, so that they are there in time."""
        for row in rows:
            ahead = self.code.builder.add(row, self.code.integer(BLOCK))
            self.code.prefetch(self._address(tensor, ahead))
        return self.load(tensor, *rows)

    def store(self, tensor: str, rows: Sequence[Any], vector: Vector) -> None:
        """Write the group's elements of the rows; nothing to a tensor that the kernel does not have."""
        if tensor not in self.unit.bases:
            return
        for row, part in zip(rows, vector.spread_over(len(rows)).split(), strict=True):
            self.code.store(part, self._address(tensor, row), self.form.dtype, self._mask)

    def tiles(
        self, start: Any, stop: Any, body: Callable[[Sequence[Any]], None], *, backwards: bool = False
    ) -> None:
        """The body on all rows, several at a time, those that are left over one at a time.

        backwards: from the last row to the first, in the order of each tile too.
        """
        code, builder = self.code, self.code.builder
        size = self._tile if self._mask is None and self.form.order < MANY_TERMS else 1
        count = builder.sdiv(builder.sub(stop, start), code.integer(size))
        whole = builder.add(start, builder.mul(count, code.integer(size)))

        def in_tiles() -> None:
            with code.loop(code.integer(0), count, backwards=backwards) as number:
                first = builder.add(start, builder.mul(number, code.integer(size)))
                rows = [builder.add(first, code.integer(n)) for n in range(size)]
                body(rows[::-1] if backwards else rows)

        def one_by_one() -> None:
            with code.loop(whole, stop, backwards=backwards) as row:
                body([row])

        for pass_ in (one_by_one, in_tiles) if backwards else (in_tiles, one_by_one):
            if size > 1 or pass_ is in_tiles:
                pass_()

    def sums(self, name: str, slot: Any) -> Sums:
        """The sums in that slot, as variables."""
        terms = self.form.order + 1
        found = [Variable(self.code, self._load_sum(name, slot, n)) for n in range(2 * terms + 1)]
        return Sums(self.code, found[:terms], found[terms : 2 * terms], found[-1])

    def keep(self, name: str, slot: Any, sums: Sums) -> None:
        """Write the sums to that slot."""
        for n, variable in enumerate([*sums.values, *sums.weights, sums.top]):
            self.code.store(variable.value, self._sum_address(name, slot, n), self._sum_dtype, self._mask)

    def log_weight(self, key: Vector) -> Vector:
        """Binary logarithm of exp(-s k^2)."""
        return self.unit.log_scale * key * key

    def weight(self, key: Vector, top: Vector) -> Vector:
        """u = exp(-s k^2), relative to the reference."""
        exponent = self.log_weight(key)
        return self.code.exp2(exponent - top if self.form.stabiliser else exponent)

    def steps(self, query: Vector) -> list[Vector]:
        """x / n for n = 1..t with x = 2 s q: the ratios of neighbouring terms x^n / n!."""
        x = self.unit.twice_scale * query
        return [x * (1 / n) if n > 1 else x for n in range(1, self.form.order + 1)]

    @property
    def finite(self) -> float:
        """The bound of a reference."""
        return FINITE[self.form.lanes.double]

    @property
    def _sum_dtype(self) -> str:
        return "float64" if self.form.lanes.double else "float32"

    def _load_sum(self, name: str, slot: Any, n: int) -> Vector:
        return self.code.load(self._sum_address(name, slot, n), self._sum_dtype, self._mask)

    def _address(self, tensor: str, row: Any) -> Any:
        builder = self.code.builder
        offset = builder.add(builder.mul(row, self._numbers[f"{tensor}.row"]), self._channel)
        size = self.code.integer(ELEMENT_SIZE[self.form.dtype])
        return builder.add(self.unit.bases[tensor], builder.mul(offset, size))

    def _sum_address(self, name: str, slot: Any, n: int) -> Any:
        builder, code = self.code.builder, self.code
        rows = builder.add(builder.mul(slot, code.integer(2 * self.form.order + 3)), code.integer(n))
        column = builder.add(self.unit.column, self._channel)
        index = builder.add(builder.mul(rows, self._numbers["columns"]), column)
        return builder.add(self._numbers[name], builder.mul(index, code.integer(self.form.lanes.size)))


@dataclass(frozen=True)
class Unit:
    """A plane, or a segment of its channels.

    bases: address of the plane's first element in every tensor; column: of its first channel among all sums.
    first, last: its channels. log_scale, twice_scale: -s log2(e) and 2 s.
    """

    bases: dict[str, Any]
    column: Any
    first: Any
    last: Any
    log_scale: Vector
    twice_scale: Vector


def _units(kernel: Kernel, form: Form, code: Code, arguments: Sequence[Any]) -> None:
    """All units, their blocks, the vectors of channels in each block."""
    pointer, scale, first_unit, last_unit, first_row, last_row, part = arguments
    builder, width = code.builder, code.integer(form.lanes.width)
    numbers = {name: code.load_integer(pointer, n) for n, name in enumerate(kernel.numbers)}
    scales = code.spread(scale)
    with code.loop(first_unit, last_unit) as index:
        unit = _unit(kernel, form, code, numbers, scales, index)
        count = builder.sdiv(builder.sub(unit.last, unit.first), width)
        whole = builder.add(unit.first, builder.mul(count, width))
        group = Group(code, form, numbers, part, unit, kernel.tile)
        with _blocks(code, first_row, last_row, kernel.backwards) as (start, stop):
            with code.loop(unit.first, whole, width) as channel:
                kernel.body(group.at(channel), start, stop)
            with builder.if_then(builder.icmp_signed("<", whole, unit.last)):
                left = builder.sub(unit.last, whole)
                kernel.body(group.at(whole, code.first_lanes(left)), start, stop)


def _unit(kernel: Kernel, form: Form, code: Code, numbers: dict[str, Any], scale: Vector, index: Any) -> Unit:
    builder = code.builder
    plane = builder.sdiv(index, numbers["segments"])
    segment = builder.srem(index, numbers["segments"])
    batch, head = builder.sdiv(plane, numbers["heads"]), builder.srem(plane, numbers["heads"])
    bases = {}
    for tensor in kernel.tensors:
        in_batch = builder.mul(batch, numbers[f"{tensor}.batch"])
        offset = builder.add(in_batch, builder.mul(head, numbers[f"{tensor}.head"]))
        size = code.integer(ELEMENT_SIZE[form.dtype])
        bases[tensor] = builder.add(numbers[f"{tensor}.address"], builder.mul(offset, size))
    first = builder.mul(segment, numbers["segment"])
    last = code.smaller_integer(builder.add(first, numbers["segment"]), numbers["channels"])
    column = builder.mul(plane, numbers["channels"])
    return Unit(bases, column, first, last, scale * -math.log2(math.e), scale * 2.0)


@contextmanager
def _blocks(code: Code, first: Any, last: Any, backwards: bool) -> Iterator[tuple[Any, Any]]:
    builder, size = code.builder, code.integer(BLOCK)
    count = builder.sdiv(builder.add(builder.sub(last, first), code.integer(BLOCK - 1)), size)
    with code.loop(code.integer(0), count, backwards=backwards) as number:
        start = builder.add(first, builder.mul(number, size))
        yield start, code.smaller_integer(builder.add(start, size), last)


# Forward


def _moments(group: Group, start: Any, stop: Any) -> None:
    """Add the block's keys to the part's moments."""
    sums = group.sums("moments", group.part)
    if group.form.stabiliser:
        sums.refer_to(_highest(group, sums.top.value, start, stop))

    def add(rows: Sequence[Any]) -> None:
        key, value = group.stream("key", *rows), group.stream("value", *rows)
        for _ in _add_keys(group, sums, key, value):
            pass

    group.tiles(start, stop, add)
    group.keep("moments", group.part, sums)


def _read(group: Group, start: Any, stop: Any) -> None:
    """The outputs of a block from the moments of all keys."""
    pairs = group.sums("moments", group.code.integer(0)).pairs

    def read(rows: Sequence[Any]) -> None:
        series = _series(group.code, pairs, group.steps(group.stream("query", *rows)))
        group.store("output", rows, series.numerator / series.denominator)

    group.tiles(start, stop, read)


def _causal(group: Group, start: Any, stop: Any) -> None:
    """Add the block's keys row by row; after each, the output of its row."""
    sums = group.sums("moments", group.part)

    def attend(rows: Sequence[Any]) -> None:
        query, key, value = (group.stream(name, *rows) for name in ("query", "key", "value"))
        series = _series(group.code, _add_keys(group, sums, key, value), group.steps(query))
        group.store("output", rows, series.numerator / series.denominator)

    strides = _Strides(group, sums.top.value, start, stop)
    with strides.each(sums) as (first, last):
        group.tiles(first, last, attend)
    group.keep("moments", group.part, sums)


def _causal_kept(group: Group, start: Any, stop: Any) -> None:
    """As ``_causal``; the moments before every block are kept for the backward pass."""
    block = group.code.builder.sdiv(start, group.code.integer(BLOCK))
    group.keep("kept", block, group.sums("moments", group.part))
    _causal(group, start, stop)


class _Strides:
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


def _add_keys(group: Group, sums: Sums, key: Vector, value: Vector) -> Iterator[tuple[Vector, Vector]]:
    """S_n += u k^n v and Z_n += u k^n, row by row; for every n both sums after each row.

    The powers are built up from u, so that a vanished u stays 0 where k^n alone overflows.
    """
    code, power = group.code, group.weight(key, sums.top.value)
    for n, pair in enumerate(zip(sums.values, sums.weights, strict=True)):
        yield _accumulate(code, pair, power, value)
        if n < group.form.order:
            power = power * key


def _accumulate(
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
class _Series:
    """P = sum x^n / n! S_n and R = sum x^n / n! Z_n, and their derivatives by x."""

    numerator: Vector
    denominator: Vector
    numerator_slope: Vector
    denominator_slope: Vector


def _series(code: Code, pairs: Iterable[tuple[Vector, Vector]], steps: Sequence[Vector]) -> _Series:
    """Both polynomials, from the lowest power up, for this is how the sums of a causal row come.

    LLVM leaves out the slopes where nobody asks for them.
    """
    zero = code.of(0.0)
    found = _Series(zero, zero, zero, zero)
    term = code.of(1.0)
    for n, (value_sum, weight_sum) in enumerate(pairs):
        if n == 0:
            found = _Series(value_sum, weight_sum, zero, zero)
            continue
        found.numerator_slope = code.fma(term, value_sum, found.numerator_slope)
        found.denominator_slope = code.fma(term, weight_sum, found.denominator_slope)
        term = term * steps[n - 1]
        found.numerator = code.fma(term, value_sum, found.numerator)
        found.denominator = code.fma(term, weight_sum, found.denominator)
    return found


# Backward


def _query_gradient(group: Group, start: Any, stop: Any) -> None:
    """dq of a block from the moments of all keys, and its share of the adjoint moments G and H."""
    code = group.code
    pairs = group.sums("moments", code.integer(0)).pairs
    adjoint = group.sums("adjoint", group.part)

    def differentiate(rows: Sequence[Any]) -> None:
        steps = group.steps(group.stream("query", *rows))
        series = _series(code, pairs, steps)
        alpha, output = _query_part(group, rows, series)
        for _ in _add_queries(group, adjoint, alpha, output, steps):
            pass

    group.tiles(start, stop, differentiate)
    group.keep("adjoint", group.part, adjoint)


def _query_part(group: Group, rows: Sequence[Any], series: _Series) -> tuple[Vector, Vector]:
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
        minus_h, g = _accumulate(code, (weight_sum, value_sum), term, output)
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
    block = code.builder.sdiv(start, code.integer(BLOCK))
    sums = group.sums("kept", block)
    strides = _Strides(group, sums.top.value, start, stop)
    alphas, outputs, tops = (code.array(BLOCK) for _ in range(3))

    def forward(rows: Sequence[Any]) -> None:
        query, key, value = (group.stream(name, *rows) for name in ("query", "key", "value"))
        series = _series(code, _add_keys(group, sums, key, value), group.steps(query))
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


_OUTPUT = ("query", "key", "value", "output")
_GRADIENTS = ("query_gradient", "key_gradient", "value_gradient")

MOMENTS = Kernel("moments", ("key", "value"), ("moments",), _moments, tile=TILE)
READ = Kernel("read", ("query", "output"), ("moments",), _read, tile=TILE)
CAUSAL = Kernel("causal", _OUTPUT, ("moments",), _causal)
CAUSAL_KEPT = Kernel("causal_kept", _OUTPUT, ("moments", "kept"), _causal_kept)
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
_CAUSAL_INPUTS = ("query", "key", "value", "upstream")
CAUSAL_GRADIENT = Kernel(
    "causal_gradient", (*_CAUSAL_INPUTS, *_GRADIENTS), ("kept", "adjoint"), _causal_gradient, backwards=True
)
CAUSAL_ADJOINT = Kernel(  # what the rows of a part add to the adjoint, and no gradient
    "causal_adjoint", _CAUSAL_INPUTS, ("kept", "adjoint"), _causal_gradient, backwards=True
)
