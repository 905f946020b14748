"""What a task left behind in its worker: memory that stays, threads that run. Either disturbs the next case."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from elattn_bench.device import data_segment
from elattn_bench.units import Bytes, format_bytes

TOLERATED: Bytes = 512 * 2**20  # allocators and compilers keep some; beyond, a worker is cheaper to replace


@dataclass(frozen=True, slots=True)
class Residue:
    """A reading: names of the Python threads that live, and private memory."""

    threads: frozenset[int]
    memory: Bytes

    @classmethod
    def now(cls) -> Residue:
        """The reading right now."""
        alive = (thread.ident for thread in threading.enumerate())
        return cls(frozenset(ident for ident in alive if ident is not None), data_segment())


def left_behind(before: Residue) -> tuple[str, ...]:
    """What a worker has now that it did not have before its first task, in sentences; empty if nothing."""
    after = Residue.now()
    sentences = []
    if running := len(after.threads - before.threads):
        sentences.append(f"threads: {running} still ran after the case; a fresh worker measures the next one")
    if (kept := after.memory - before.memory) > TOLERATED:
        sentences.append(
            f"residue: {format_bytes(kept)} stayed allocated after the case; a fresh worker measures the next one"
        )
    return tuple(sentences)
