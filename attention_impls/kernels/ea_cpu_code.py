"""What the CPU kernels of EA-series share: how a call's rows and channels become vectors, and where sums lie.

Every kernel has the signature ``(numbers, scale, first_unit, last_unit, first_row, last_row, part)``. ``numbers``
is an array of 64-bit integers: sizes, the address and strides of every tensor, the address of every array of
sums, in the order of ``Kernel.numbers``. A unit is a (batch, head) plane or a segment of its channels; rows are
positions. Rows are taken in blocks, and each block's vectors of channels one after the other, so that a block
comes from memory once while the 2 (order + 1) sums of one vector stay in registers and the nearest cache.
The kernels themselves are in ``ea_cpu_forward`` and ``ea_cpu_backward``.

In memory sums are [slots, 2 (order + 1) + 1, columns]: S_0..S_t, Z_0..Z_t (backward: G and H) and the reference
(``top``) that they are relative to, a binary logarithm; a slot is a part of the rows, or a block; a column is a
channel of a plane. ``docs/kernels.md`` derives the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from attention_impls.kernels.vectors import I64, POINTER, Array, Code, Lanes, Variable, Vector
from attention_impls.nouns import ELEMENT_SIZE

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

    def block(self, start: Any) -> Any:
        """The number of the block that begins at the row."""
        return self.code.builder.sdiv(start, self.code.integer(BLOCK))

    def array(self) -> Array:
        """Room for a vector of every row of a block."""
        return self.code.array(BLOCK)

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
