"""What a sweep does when nobody says otherwise. Text, as on the command line."""

from __future__ import annotations

from collections.abc import Mapping

AXIS_DEFAULTS: Mapping[str, str] = {
    "impl": "softmax,efficient,linear,element-wise,ea-series,hadamard",
    "seq-len": "256:8k:x2",
    "dim": "256",
    "order": "",  # empty: nobody asked, so DEFAULT_ORDERS where an attention has an order
    "hp": "",  # empty: every knob at its default
    "batch": "1",
    "heads": "8",
    "dtype": "float32",
    "causal": "false",
    "mode": "forward,train",
    "level": "op",
    "cache": "hot",
    "ranks": "",  # empty: the sequence is not spread
    "device-type": "",  # empty: any that the cluster has
}
RUN_DEFAULTS: Mapping[str, str] = {
    "device": "auto",
    "threads": "",  # empty: torch's own choice
    "budget": "default",
    "timeout": "60",
    "memory-limit": "80%",
    "seed": "0",
    "input-std": "1",
}
LIVE_DEFAULTS: Mapping[str, str] = {"seq-len": "1k", "mode": "forward"}
"""Where a live comparison that nobody described differs from a sweep: one case rather than a grid."""

DEFAULT_ORDERS = "2,6"
QUICK_TIMEOUT = "15"  # seconds: --quick is for a first look, which one slow case must not hold up
