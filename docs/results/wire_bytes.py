"""What crosses the wire beside what is counted as received: the bytes of the loopback, for docs/ranks.md.

unshare -n sh -c 'ip link set lo up && python docs/results/wire_bytes.py'

In a network of its own (``unshare -n``, as root; else ``unshare -rn``) nothing else uses the loopback. Without it
the machine's own loopback is read: what it carries while idle stands in the first line, and should be nothing.
"""

from __future__ import annotations

import os
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

WORLDS = (2, 4)
CALLS = 20  # averaged over
SETTLE = 0.3  # s, until the kernel has counted what was sent
SHAPE = (1, 8, 1024, 64)  # batch, heads, positions of all ranks, channels of a head
HEAD = "| ranks | attention | mask | mode | counted, all ranks | loopback | ratio |\n|---:|---|---|---|---:|---:|---:|"


class Case(NamedTuple):
    """One attention, as it is called on every rank."""

    attention: str
    causal: bool
    train: bool

    def __str__(self) -> str:
        return f"{self.attention} | {'causal' if self.causal else 'full'} | {'train' if self.train else 'forward'}"


CASES = [Case(*each) for each in product(("ea-series", "linear", "softmax"), (False, True), (False, True))]


def sent_over_loopback() -> int:
    """Bytes that the loopback has carried, packet headers included, by the kernel's count (Linux)."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    counts = next(line.split(":")[1].split() for line in lines if line.strip().startswith("lo:"))
    return int(counts[8])  # proc(5): bytes transmitted come ninth


def rank_of(rank: int, world: int, meeting: str) -> None:
    """A rank's life: it joins, and calls every case; the first prints a row of each."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    for case in CASES:
        carried, counted = measured(case)
        if rank == 0:
            print(
                f"| {world} | {case} | {counted:,.0f} | {carried:,.0f} | {carried / counted:.2f} |",
                flush=True,
            )
    dist.destroy_process_group()


def measured(case: Case) -> tuple[float, float]:
    """Bytes of one call: what the loopback carried, and what all ranks together counted as received."""
    import torch
    import torch.distributed as dist

    from attention_impls.sharded import Exchange, attend

    exchange = Exchange()
    batch, heads, length, channels = SHAPE
    shape = (batch, heads, length // exchange.size, channels)
    query, key, value = (torch.randn(shape).requires_grad_(case.train) for _ in range(3))

    def call() -> None:
        with torch.set_grad_enabled(case.train):
            output = attend(case.attention, query, key, value, exchange, causal=case.causal)
        if case.train:
            output.sum().backward()  # type: ignore[no-untyped-call]

    call()  # connections are made in the first
    settle()
    before, counted = sent_over_loopback(), exchange.traffic.received_bytes
    for _ in range(CALLS):
        call()
    time.sleep(SETTLE)
    carried = sent_over_loopback() - before
    total = torch.tensor(float(exchange.traffic.received_bytes - counted))
    settle()  # the sum below belongs to no case
    dist.all_reduce(total)
    return carried / CALLS, float(total) / CALLS


def settle() -> None:
    """Wait until all ranks are here and what they sent has been counted."""
    import torch.distributed as dist

    dist.barrier()
    time.sleep(SETTLE)


def main() -> None:
    """Print the table as Markdown."""
    from torch.multiprocessing.spawn import spawn

    before = sent_over_loopback()
    time.sleep(1.0)
    print(f"idle: {sent_over_loopback() - before:,} bytes in a second\n")
    print(HEAD)
    for world in WORLDS:
        with tempfile.TemporaryDirectory() as folder:
            spawn(rank_of, (world, (Path(folder) / "store").as_uri()), nprocs=world)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
