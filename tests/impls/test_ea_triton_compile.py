"""The Triton kernels compile for an H100, which takes no GPU, and keep their moments in registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
KERNELS = 10
MOST_REGISTERS = 200  # 10 warps on a multiprocessor, which has 65,536


@pytest.mark.skipif(
    not (TOOLS / "ptxas").exists() or not (TOOLS / "cuobjdump").exists(),
    reason="this Triton does not ship ptxas and cuobjdump",
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("order", [2, 6])
def test_no_kernel_spills_registers_on_an_h100(dtype: str, order: int) -> None:
    script = Path(__file__).with_name("triton_registers.py")
    command = [sys.executable, "-W", "ignore", str(script), "--dtypes", dtype, "--orders", str(order)]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(ROOT)
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(rows) == KERNELS
    assert not [row for row in rows if row["spilled"] or row["registers"] > MOST_REGISTERS], rows
