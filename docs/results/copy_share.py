"""The rows of a run as shares of the time that a copy of their bytes takes: python docs/results/copy_share.py RUN_DIR

A copy reads and writes: bytes moved (the minimal traffic in results.csv) over the bandwidth of copying in memory
that the run measured (``copy_bytes_per_s`` of its ceilings, in run.json).
"""

from __future__ import annotations

import sys
from pathlib import Path

from elattn_bench.roofline import Ceilings
from elattn_bench.rundir import read_run


def main(path: Path) -> None:
    """Print one line per measured row."""
    run = read_run(path)
    copying = Ceilings.from_json(run.info["ceilings"]).copy_bytes_per_s["dram"]
    print(f"copying: {copying / 1e9:.1f} GB/s")
    for row in sorted(run.rows, key=lambda row: (row.mode, row.causal, row.label, row.dtype, row.seq_len)):
        if row.ok and row.bytes_moved and row.mode != "decode":
            share = row.bytes_moved / copying / (row.latency_ms_p50 / 1e3)
            mask = "causal" if row.causal else "full"
            print(
                f"{row.mode:8}{mask:7}{row.label:22}{row.dtype:9}L={row.seq_len:<6}"
                f"{row.latency_ms_p50:9.2f} ms  {share:.3f}"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
