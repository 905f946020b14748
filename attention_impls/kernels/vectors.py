"""Vector code for the CPU, written through LLVM: Python loops unroll, ``Code.loop`` emits a loop.

A kernel is a Python function that writes instructions when it runs: what Python knows (an order, a dtype)
is specialised away, a list of variables becomes registers, and every value is a vector of ``Lanes.width``
neighbouring channels. This leaves nothing to an auto-vectoriser's mood, and needs no compiler on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from attention_impls.nouns import ELEMENT_SIZE

I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
POINTER = ir.PointerType()


@dataclass(frozen=True)
class Lanes:
    """A vector of sums: how many, and of which type.

    double: whether the lanes are float64, else float32.
    width: lanes of one vector.
    """

    double: bool
    width: int

    @property
    def size(self) -> int:
        """Bytes per lane."""
        return 8 if self.double else 4

    @property
    def type(self) -> Any:
        """The vector's type in LLVM."""
        return ir.VectorType(ir.DoubleType() if self.double else ir.FloatType(), self.width)

    @property
    def bits(self) -> Any:
        """The vector of integers of the same size."""
        return ir.VectorType(I64 if self.double else I32, self.width)


class Vector:
    """All lanes of one value, or of several that are worked on side by side: ``parts``, of several rows, say.

    Neighbouring instructions then do not wait for each other, which a CPU's window of instructions rewards.
    Operations work part by part; a single part meets all parts of the other.
    """

    def __init__(self, code: Code, *parts: Any) -> None:
        self.code, self.parts = code, parts

    @property
    def only(self) -> Any:
        """The single part."""
        (part,) = self.parts
        return part

    def split(self) -> list[Vector]:
        """Every part as a vector of its own."""
        return [Vector(self.code, part) for part in self.parts]

    def spread_over(self, count: int) -> Vector:
        """As many parts: a single one is repeated."""
        return self if len(self.parts) == count else Vector(self.code, *self.parts * count)

    def __add__(self, other: Vector | float) -> Vector:
        return self.code.each(self.code.builder.fadd, self, other)

    def __sub__(self, other: Vector | float) -> Vector:
        return self.code.each(self.code.builder.fsub, self, other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self.code.each(self.code.builder.fmul, self, other)

    def __truediv__(self, other: Vector | float) -> Vector:
        return self.code.each(self.code.builder.fdiv, self, other)

    def __neg__(self) -> Vector:
        return self.code.each(self.code.builder.fneg, self)


class Variable:
    """A vector that changes while the code runs; LLVM keeps it in a register where there is one."""

    def __init__(self, code: Code, start: Vector) -> None:
        self.code, self._slot = code, code.allocate(code.lanes.type)
        self.value = start

    @property
    def value(self) -> Vector:
        """The vector now."""
        return Vector(self.code, self.code.builder.load(self._slot, typ=self.code.lanes.type))

    @value.setter
    def value(self, new: Vector) -> None:
        self.code.builder.store(new.only, self._slot)


class Array:
    """Vectors in a row, on the stack."""

    def __init__(self, code: Code, pointer: Any) -> None:
        self.code, self._pointer = code, pointer

    def store(self, index: Any, vector: Vector) -> None:
        """Write the vector at the index."""
        self.code.builder.store(vector.only, self._at(index))

    def load(self, index: Any) -> Vector:
        """The vector at the index."""
        return Vector(self.code, self.code.builder.load(self._at(index), typ=self.code.lanes.type))

    def _at(self, index: Any) -> Any:
        return self.code.builder.gep(self._pointer, [index], source_etype=self.code.lanes.type)


class Code:
    """Writes one function.

    Args:
        function: without a block yet.
        lanes: of every vector.
    """

    def __init__(self, function: Any, lanes: Lanes) -> None:
        self.lanes, self._module = lanes, function.module
        self._entry = function.append_basic_block("entry")
        start = function.append_basic_block("start")
        self._leave = ir.IRBuilder(self._entry).branch(start)
        self.builder = ir.IRBuilder(start)

    # Numbers

    def each(self, instruction: Callable[..., Any], *operands: Vector | float) -> Vector:
        """The instruction on every part of its operands; those of one part meet all parts of the others."""
        vectors = [self.of(operand) for operand in operands]
        count = max(len(vector.parts) for vector in vectors)
        columns = (vector.spread_over(count).parts for vector in vectors)
        return Vector(self, *(instruction(*parts) for parts in zip(*columns, strict=True)))

    def of(self, number: Vector | float) -> Vector:
        """The same number in all lanes."""
        if isinstance(number, Vector):
            return number
        return Vector(self, ir.Constant(self.lanes.type, [float(number)] * self.lanes.width))

    def join(self, vectors: Iterable[Vector]) -> Vector:
        """The parts of all, side by side."""
        return Vector(self, *(part for vector in vectors for part in vector.parts))

    def spread(self, scalar: Any) -> Vector:
        """A double that is known when the code runs, in all lanes."""
        if not self.lanes.double:
            scalar = self.builder.fptrunc(scalar, ir.FloatType())
        return Vector(self, self._everywhere(scalar, self.lanes.type))

    def fma(self, one: Vector, two: Vector | float, added: Vector | float) -> Vector:
        """one * two + added, fused where the machine can."""
        kind = self.lanes.type
        function = self._declare(f"llvm.fmuladd.{_suffix(kind)}", ir.FunctionType(kind, [kind] * 3))
        return self.each(lambda *operands: self.builder.call(function, operands), one, two, added)

    def larger(self, one: Vector, other: Vector | float) -> Vector:
        """The larger of the two; ``other`` where ``one`` is not a number."""
        return self.each(lambda a, b: self.builder.select(self._exceeds(a, b), a, b), one, other)

    def smaller(self, one: Vector, other: Vector | float) -> Vector:
        """The smaller of the two; ``other`` where ``one`` is not a number."""
        return self.each(lambda a, b: self.builder.select(self._exceeds(b, a), a, b), one, other)

    def choose(self, condition: Any, one: Vector, other: Vector) -> Vector:
        """One vector or the other, in all lanes."""
        return self.each(lambda a, b: self.builder.select(condition, a, b), one, other)

    def exp2(self, x: Vector) -> Vector:
        """2^x for x <= 0, to about one unit in the last place; 0 where that is no normal number.

        2^n 2^r with n the whole number nearest to x: adding 1.5 * 2^mantissa rounds, and leaves n in the
        lowest bits, where a shift makes it an exponent.
        """
        builder, double = self.builder, self.lanes.double
        mantissa, bias = (52, 1023) if double else (23, 127)
        bounded = self.larger(self.of(-bias), x)
        shift = 1.5 * 2.0**mantissa + bias
        shifted = bounded + shift
        rest = bounded - (shifted - shift)
        places = ir.Constant(self.lanes.bits, [mantissa] * self.lanes.width)

        def power_of_two(part: Any) -> Any:
            # Of n = -bias the exponent is zero, and so is the number.
            bits = builder.shl(builder.bitcast(part, self.lanes.bits), places)
            return builder.bitcast(bits, self.lanes.type)

        return self._polynomial(rest, _exp2_coefficients(double)) * self.each(power_of_two, shifted)

    def any_exceeds(self, one: Vector, limit: float) -> Any:
        """Whether a lane is greater than the limit."""
        exceeds = self._exceeds(one.only, self.of(limit).only)
        bits = self.builder.bitcast(exceeds, ir.IntType(self.lanes.width))
        return self.builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    def _exceeds(self, one: Any, other: Any) -> Any:
        return self.builder.fcmp_ordered(">", one, other)

    def _polynomial(self, x: Vector, coefficients: list[float]) -> Vector:
        result = self.of(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.fma(result, x, coefficient)
        return result

    def _everywhere(self, scalar: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes.width), [0] * self.lanes.width)
        return self.builder.shuffle_vector(first, undefined, zeros)

    # Memory

    def load(self, address: Any, dtype: str, mask: Any = None) -> Vector:
        """As many neighbouring elements of a tensor as there are lanes, widened; 0 outside the mask."""
        raw = self._load_raw(address, self._stored_type(dtype), ELEMENT_SIZE[dtype], mask)
        if dtype == "bfloat16":
            wide = self.builder.zext(raw, self.lanes.bits)
            places = ir.Constant(self.lanes.bits, [16] * self.lanes.width)
            return Vector(self, self.builder.bitcast(self.builder.shl(wide, places), self.lanes.type))
        if dtype == "float16":
            half = self.builder.bitcast(raw, ir.VectorType(ir.HalfType(), self.lanes.width))
            return Vector(self, self.builder.fpext(half, self.lanes.type))
        return Vector(self, raw)

    def store(self, vector: Vector, address: Any, dtype: str, mask: Any = None) -> None:
        """Round to the tensor's dtype (to nearest, ties to even) and write."""
        value = vector.only
        if dtype == "bfloat16":
            value = self._to_bfloat16(value)
        elif dtype == "float16":
            half = self.builder.fptrunc(value, ir.VectorType(ir.HalfType(), self.lanes.width))
            value = self.builder.bitcast(half, ir.VectorType(I16, self.lanes.width))
        self._store_raw(value, address, ELEMENT_SIZE[dtype], mask)

    def prefetch(self, address: Any) -> None:
        """Ask for a cache line that will be read later; any address will do."""
        signature = ir.FunctionType(ir.VoidType(), [POINTER, I32, I32, I32])
        function = self._declare("llvm.prefetch.p0", signature)
        read, second_level, data = (ir.Constant(I32, number) for number in (0, 2, 1))
        self.builder.call(function, [self.builder.inttoptr(address, POINTER), read, second_level, data])

    def allocate(self, kind: Any, count: int = 1) -> Any:
        """Room on the stack, once per call of the function."""
        entry = ir.IRBuilder(self._entry)
        entry.position_before(self._leave)
        return entry.alloca(kind, count)

    def array(self, count: int) -> Array:
        """Room for that many vectors."""
        return Array(self, self.allocate(self.lanes.type, count))

    def load_integer(self, pointer: Any, index: int) -> Any:
        """A 64-bit integer of an array."""
        place = self.builder.gep(pointer, [self.integer(index)], source_etype=I64)
        return self.builder.load(place, typ=I64)

    def _stored_type(self, dtype: str) -> Any:
        return ir.VectorType(I16, self.lanes.width) if ELEMENT_SIZE[dtype] == 2 else self.lanes.type

    def _load_raw(self, address: Any, kind: Any, alignment: int, mask: Any) -> Any:
        pointer = self.builder.inttoptr(address, POINTER)
        if mask is None:
            return self.builder.load(pointer, align=alignment, typ=kind)
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        function = self._declare(name, ir.FunctionType(kind, [POINTER, I32, mask.type, kind]))
        nothing = ir.Constant(kind, None)
        return self.builder.call(function, [pointer, ir.Constant(I32, alignment), mask, nothing])

    def _store_raw(self, value: Any, address: Any, alignment: int, mask: Any) -> None:
        pointer = self.builder.inttoptr(address, POINTER)
        if mask is None:
            self.builder.store(value, pointer, align=alignment)
            return
        name = f"llvm.masked.store.{_suffix(value.type)}.p0"
        function = self._declare(name, ir.FunctionType(ir.VoidType(), [value.type, POINTER, I32, mask.type]))
        self.builder.call(function, [value, pointer, ir.Constant(I32, alignment), mask])

    def _to_bfloat16(self, value: Any) -> Any:
        builder, bits = self.builder, self.lanes.bits

        def everywhere(number: int) -> Any:
            return ir.Constant(bits, [number] * self.lanes.width)

        raw = builder.bitcast(value, bits)
        odd = builder.and_(builder.lshr(raw, everywhere(16)), everywhere(1))
        rounded = builder.add(raw, builder.add(odd, everywhere(0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", value, value)
        kept = builder.select(is_nan, everywhere(0x7FC00000), rounded)
        return builder.trunc(builder.lshr(kept, everywhere(16)), ir.VectorType(I16, self.lanes.width))

    def _declare(self, name: str, kind: Any) -> Any:
        known = self._module.globals.get(name)
        return known if known is not None else ir.Function(self._module, kind, name=name)

    # Flow

    def integer(self, number: int) -> Any:
        """A 64-bit constant."""
        return ir.Constant(I64, number)

    def smaller_integer(self, one: Any, other: Any) -> Any:
        """The smaller of two integers."""
        return self.builder.select(self.builder.icmp_signed("<", one, other), one, other)

    def first_lanes(self, count: Any) -> Any:
        """Mask of that many lanes from the first."""
        numbers = ir.Constant(ir.VectorType(I64, self.lanes.width), list(range(self.lanes.width)))
        return self.builder.icmp_signed("<", numbers, self._everywhere(count, numbers.type))

    @contextmanager
    def loop(self, start: Any, stop: Any, step: Any = None, *, backwards: bool = False) -> Iterator[Any]:
        """``for index in range(start, stop, step)``; backwards the same indices from the last to the first.

        Backwards the step is 1.
        """
        builder, function = self.builder, self.builder.function
        step = self.integer(1) if step is None else step
        counter = self.allocate(I64)
        builder.store(builder.sub(stop, step) if backwards else start, counter)
        head, body, end = (function.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.load(counter, typ=I64)
        inside = (
            builder.icmp_signed(">=", index, start) if backwards else builder.icmp_signed("<", index, stop)
        )
        builder.cbranch(inside, body, end)
        builder.position_at_end(body)
        yield index
        builder.store(builder.sub(index, step) if backwards else builder.add(index, step), counter)
        builder.branch(head)
        builder.position_at_end(end)


def _exp2_coefficients(double: bool) -> list[float]:
    """Taylor's for 2^r = e^(r ln 2), lowest first; for |r| <= 1/2 they leave 4e-18 and 5e-9 of the value."""
    return [math.log(2) ** n / math.factorial(n) for n in range(14 if double else 8)]


def _suffix(kind: Any) -> str:
    """How LLVM spells a vector's type in an intrinsic's name."""
    spelt = {"float": "f32", "double": "f64", "i16": "i16"}[str(kind.element)]
    return f"v{kind.count}{spelt}"
