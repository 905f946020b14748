"""Compile the Triton kernels for an H100, with no GPU, and print as JSON what registers they take.

The registers are read from the binary that Triton's own assembler made: which of the assemblers that ship
with it that is depends on its version.

A process of its own, because in the tests' process the kernels may be bound to Triton's interpreter:
``python tests/impls/triton_registers.py --orders 2,6`` prints one line for each kernel and dtype.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attention_impls.kernels import (
    ea_triton_backward,
    ea_triton_causal_backward,
    ea_triton_forward,
    ea_triton_launch,
    ea_triton_scans,
)

H100 = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
DTYPES = {"float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "float16": "fp16"}

KERNELS = {
    name: kernel
    for module in (ea_triton_forward, ea_triton_backward, ea_triton_causal_backward, ea_triton_scans)
    for name, kernel in vars(module).items()
    if getattr(kernel, "__module__", "") == module.__name__ and not name.startswith("_")
}
IN_SUMS = {  # pointers to the dtype of sums; all others are to that of the inputs
    *("moments", "chunk_tops", "initial", "final", "state", "new_state"),
    *("adjoints", "tops_of_all", "alphas", "outputs"),
}
SCALARS = {"seq_len", "chunk_rows", "heads", "chunks", "rows"}
MULTIPLES_OF_16 = {"head_dim", "channels"}


def compile_kernel(name: str, dtype: str, order: int, tiles: Any) -> Any:
    """The kernel as a benchmark calls it: dense tensors, a head_dim that 16 divides."""
    sums = "fp64" if dtype == "float64" else "fp32"
    knobs = {
        **{"ORDER": order, "SCALE": 1.0, "STABILISED": True, "KEEP": True},
        **{"LANES": tiles.lanes, "ROWS": tiles.rows},
    }
    divisible = [["tt.divisibility", 16]]
    signature: dict[str, Any] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}
    for index, argument in enumerate(KERNELS[name].arg_names):
        if argument in knobs:
            signature[argument] = "constexpr"
            constants[index,] = knobs[argument]
        elif argument.endswith("strides"):
            signature[argument] = ("i32", "i32", "i32", "constexpr")
            constants[index, 3] = 1
            attributes.update({(index, axis): divisible for axis in range(3)})
        elif argument in SCALARS:
            signature[argument] = "i32"
        else:
            pointer = "*" + (sums if argument in IN_SUMS else DTYPES[dtype])
            signature[argument] = "i32" if argument in MULTIPLES_OF_16 else pointer
            attributes[index,] = divisible
    source = ASTSource(KERNELS[name], signature, constants, attributes)
    return triton.compile(source, target=H100, options={"num_warps": tiles.warps, "enable_fp_fusion": True})


def registers(cubin: bytes) -> dict[str, int]:
    """Registers a thread and bytes of its stack, which is where spilled registers go, from the binary."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(cubin)
        command = [str(CUOBJDUMP), "-res-usage", str(binary)]
        report = subprocess.run(command, capture_output=True, text=True, check=True)
    used = dict(re.findall(r"(REG|STACK):(\d+)", report.stdout + report.stderr))
    return {"registers": int(used["REG"]), "spilled": int(used["STACK"])}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", default="2,6")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--kernels", default=",".join(KERNELS))
    parser.add_argument("--tiles", help="lanes,rows,warps instead of the kernels' own")
    parser.add_argument("--keep", type=Path, help="a folder for the binaries")
    options = parser.parse_args()
    for name in options.kernels.split(","):
        for dtype in options.dtypes.split(","):
            for order in map(int, options.orders.split(",")):
                tiles = ea_triton_launch.tiles(name, order, getattr(torch, dtype))
                if options.tiles:
                    tiles = ea_triton_launch.Tiles(*map(int, options.tiles.split(",")))
                compiled = compile_kernel(name, dtype, order, tiles)
                if options.keep:
                    (options.keep / f"{name}.{dtype}.{order}.cubin").write_bytes(compiled.asm["cubin"])
                row = {"kernel": name, "dtype": dtype, "order": order, **tiles._asdict()}
                print(json.dumps({**row, **registers(compiled.asm["cubin"])}), flush=True)


if __name__ == "__main__":
    main()
