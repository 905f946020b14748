"""What this device reaches in simple work: streaming through memory and caches, square products. In the worker."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import psutil
import torch
from torch import Tensor

from attention_impls.nouns import ELEMENT_SIZE
from elattn_bench import device, environment
from elattn_bench.neighbours import DISTURBED, CpuTimes, others_share
from elattn_bench.roofline import TF32, Ceilings
from elattn_bench.sampling import Call
from elattn_bench.timers import clock_for
from elattn_bench.tries import FEWEST_TRIES, Job, Tries, best_of_rounds
from elattn_bench.units import Bytes, Seconds
from elattn_bench.worker_process import Context

PRODUCT_TIME: Seconds = 0.1  # for all sizes of a product, in a round

CACHE_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # some rates peak where inner caches help
MEMORY_CACHES = 8  # working set in memory: two arrays of four caches each, as STREAM's rule asks
FEWEST_CACHES = 2  # with less the cache serves half of the working set and more: nothing to learn of memory
LARGEST_SET: Bytes = 2 * 2**30  # unless the caches are so large; touching more takes seconds
SMALLEST_PRODUCT, LARGEST_PRODUCT = 128, 8192  # rows; 128 takes 0.1 s at 0.04 GFLOP/s

Product: TypeAlias = Callable[[int], Call]
"""Makes the product of two square matrices of so many rows."""


WorkingSet: TypeAlias = Sequence[Tensor]
"""Pieces of one size, streamed through in turns."""


class Stream(NamedTuple):
    """One way to go through a working set, and the bytes that it reads and writes."""

    name: str
    call: Call
    bytes: Bytes


class Route(NamedTuple):
    """One way to multiply, and the rate that it counts for."""

    name: str
    product: Product


def measure(context: Context) -> dict[str, Any]:
    """The ceilings of the worker's device, as ``Ceilings.from_json`` reads them.

    Takes about two seconds; three times that on a busy machine. What cannot be measured (a dtype
    that the device does not multiply, memory that the limit does not grant) is left out.
    """
    settings = context.settings
    room = _room(settings.device, settings.memory_limit)
    cache = device.cache_bytes(settings.device)
    sets = working_sets(_buffer(working_set(cache, room // 2), settings.device), cache)
    routes, largest = _routes(settings.device), largest_product(room // 4)

    def best() -> Ceilings:
        tries = Tries.with_clock(clock_for(settings.device))
        return best_of_rounds(_jobs(sets, routes, largest, tries), tries)

    found = best() if settings.device == "cuda" else _beside_others(best)
    return replace(found, cache_bytes=cache).to_json()


def _beside_others(best: Callable[[], Ceilings]) -> Ceilings:
    """The ceilings of a CPU, and how much of it other processes used meanwhile."""
    before = CpuTimes.read()
    found, others = best(), others_share(before, CpuTimes.read())
    if others > DISTURBED:
        # Threads that wait for each other on a core that is taken reach a thousandth of what one reaches.
        with _one_thread():
            found = found.best_of(best())
    return replace(found, others_share=others)


def _jobs(
    sets: Mapping[str, Sequence[WorkingSet]], routes: Sequence[Route], largest: int, tries: Tries
) -> list[Job]:
    return [
        *(Job(functools.partial(_bandwidth, place, each, tries)) for place, each in sets.items()),
        *(Job(functools.partial(_rate, route, tries, largest)) for route in routes),
    ]


def working_set(cache: Bytes, room: Bytes) -> Bytes:
    """How many bytes to stream through: many times the cache, or less where there is no room."""
    wanted = max(FEWEST_CACHES * cache, min(MEMORY_CACHES * cache, LARGEST_SET))
    return max(0, min(wanted, room))


def largest_product(room: Bytes) -> int:
    """Rows of the largest product that fits; a power of two."""
    widest = max(ELEMENT_SIZE.values())
    rows = math.isqrt(max(1, room // (2 * widest)))  # one matrix, multiplied by itself, and the result
    return int(min(LARGEST_PRODUCT, 2 ** (rows.bit_length() - 1)))


def working_sets(buffer: Tensor, cache: Bytes) -> dict[str, list[WorkingSet]]:
    """What to stream through: all of the buffer if that is more than the cache holds, and parts that it holds.

    From memory, at once and piece by piece: large kernels start seldom, short ones are seldom disturbed.
    """
    sizes = [size for share in CACHE_SHARES if (size := int(cache * share)) <= buffer.nbytes]
    parts: list[WorkingSet] = [[_part(buffer, size)] for size in sizes]
    whole: list[WorkingSet] = (
        [[buffer], _pieces(buffer, cache // 2)] if buffer.nbytes >= FEWEST_CACHES * cache else []
    )
    return {place: sets for place, sets in (("dram", whole), ("cache", parts)) if sets}


def _part(buffer: Tensor, size: Bytes) -> Tensor:
    return buffer[: size // buffer.element_size()]


def _pieces(buffer: Tensor, size: Bytes) -> WorkingSet:
    rows = size // buffer.element_size()
    return buffer[: buffer.numel() // rows * rows].view(-1, rows).unbind()


def _bandwidth(place: str, sets: Sequence[WorkingSet], tries: Tries) -> Ceilings:
    rates = [_stream_rates(each, tries) for each in sets]
    best = max(max(each.values()) for each in rates)
    copying = {place: max(each["copy"] for each in rates)}
    if place == "dram":
        return Ceilings(dram_bytes_per_s=best, copy_bytes_per_s=copying)
    return Ceilings(cache_bytes_per_s=best, copy_bytes_per_s=copying)


def _stream_rates(pieces: WorkingSet, tries: Tries) -> dict[str, float]:
    rates = {}
    for kind in zip(*map(_streams, pieces), strict=True):
        # Once around first: the pieces come in turns, and whatever ran before may have left some in the cache.
        for stream in kind:
            stream.call()
        turns = itertools.cycle(kind)
        rates[kind[0].name] = kind[0].bytes / tries.best(lambda turns=turns: next(turns).call())  # type: ignore[misc]
    return rates


def _streams(part: Tensor) -> tuple[Stream, ...]:
    """Three ways, for none is the fastest everywhere.

    On a CPU a copy first reads the lines that it writes, which nobody counts: a kernel that writes less,
    or around the caches, moves more counted bytes per second. Updating in place has no such reads.
    """
    half = part.numel() // 2
    source, target = part[:half], part[half : 2 * half]
    return (
        Stream("copy", lambda: target.copy_(source), 2 * source.nbytes),
        Stream("update", part.neg_, 2 * part.nbytes),
        Stream("sum", part.sum, part.nbytes),
    )


def _rate(route: Route, tries: Tries, largest: int) -> Ceilings:
    with _float32_precision("high" if route.name == TF32 else "highest"):
        rate = product_rate(route.product, tries, largest)
    return Ceilings(matmul_flops_per_s={route.name: rate})


def product_rate(product: Product, tries: Tries, largest: int) -> float:
    """The best FLOP/s over sizes that double until the next is likely to take too long.

    Args:
        largest: rows of the largest product to try.
    """
    start, rows, best = tries.spent, SMALLEST_PRODUCT, 0.0
    while True:
        took = tries.best(product(rows))
        best = max(best, 2 * rows**3 / took)
        rows *= 2
        ahead = FEWEST_TRIES * 8 * took  # each of eight times the work
        if rows > largest or tries.spent - start + ahead > PRODUCT_TIME:
            return best


def _routes(device: str) -> list[Route]:
    routes = [
        Route(dtype, functools.partial(_matmul, dtype, device))
        for dtype in ELEMENT_SIZE
        if _multiplies(dtype, device)
    ]
    if device == "cuda":
        return [*routes, Route(TF32, functools.partial(_matmul, "float32", device))]
    # torch's matmul is MKL's, which on CPUs not of Intel's make uses half the vector width; convolutions
    # are oneDNN's. Kernels that use all of it are not implausible.
    return [*routes, Route("float32", _convolution)]


def _multiplies(dtype: str, device: str) -> bool:
    try:
        _matmul(dtype, device, 16)()
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        return False
    return True


def _matmul(dtype: str, device: str, rows: int) -> Call:
    matrix = _matrix(dtype, device, rows)
    result = torch.empty_like(matrix)
    return lambda: torch.mm(matrix, matrix, out=result)


def _convolution(rows: int) -> Call:
    matrix = _matrix("float32", "cpu", rows)
    weight, signal = matrix[:, :, None], matrix[None]
    return lambda: torch.conv1d(signal, weight)


def _matrix(dtype: str, device: str, rows: int) -> Tensor:
    # Numbers at hand rather than random ones: drawing those takes longer than multiplying them.
    return torch.linspace(-1, 1, rows * rows, dtype=getattr(torch, dtype), device=device).view(rows, rows)


def _buffer(size: Bytes, device: str) -> Tensor:
    # Ones are written: pages that nobody wrote share one page of zeros.
    return torch.ones(size // ELEMENT_SIZE["float32"], dtype=torch.float32, device=device)


@contextlib.contextmanager
def _float32_precision(wanted: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _room(device_name: str, limit: Bytes | None) -> Bytes:
    """How much may still be allocated."""
    if device_name == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return min(int(free), limit or int(free))
    total = environment.total_memory()
    allowed = min(total, limit or total) - device.data_segment()
    return min(allowed, int(psutil.virtual_memory().available))
