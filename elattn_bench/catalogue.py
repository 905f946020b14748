"""What ``list`` and ``env`` know: the attentions, and whether they can run here; the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import attention_impls as impls
from attention_impls import AttentionSpec, Problem, UnknownAttention, plugins
from elattn_bench import device, environment
from elattn_bench.results import Skipped
from elattn_bench.roofline import CEILINGS_TIMEOUT
from elattn_bench.stats import BUDGETS

# A small ordinary problem; on a GPU in the half precision that its kernels are made for.
_TYPICAL = {"cpu": "float32", "cuda": "bfloat16"}

SIZES = Problem(batch=1, heads=8, seq_len=1024, head_dim=64)
"""Where a list counts parameters and states: float32, dim 512, one sequence, every hyperparameter's default."""


def attentions() -> list[dict[str, Any]]:
    """One entry per attention and backend, with all reasons why it cannot run here, whatever the mask."""
    here = device.detect("auto")
    problem = replace(SIZES, dtype=_TYPICAL[here], device=here, causal=True)
    ours = [
        _entry(spec, backend, problem) for spec in map(impls.get, impls.names()) for backend in spec.backends
    ]
    like = dict.fromkeys(ours[0])
    return ours + [{**like, **entry} for name in plugins.names() for entry in _installed(name, problem)]


def _installed(name: str, problem: Problem) -> list[dict[str, Any]]:
    """The entries of another package's attention; where it cannot be loaded, one with the reason."""
    origin = plugins.origins(name)
    if name in impls.names():
        return [_broken(name, origin, f"'{name}' is one of ours; use module:name")]
    try:
        spec = impls.get(name)
    except UnknownAttention as error:
        return [_broken(name, origin, str(error))]
    return [_entry(spec, backend, problem) for backend in spec.backends]


def _broken(name: str, origin: str, reason: str) -> dict[str, Any]:
    """What is known of an attention that cannot be loaded."""
    return {
        "attention": name,
        "runs_here": False,
        "reasons": [reason],
        "default": False,
        "recurrent": False,
        "over_ranks": None,
        "origin": origin,
    }


def _entry(spec: AttentionSpec, backend: str, problem: Problem) -> dict[str, Any]:
    reasons = spec.unsupported_reasons(backend, problem)
    return {
        "attention": spec.name,
        "backend": backend,
        "runs_here": not reasons,
        "reasons": reasons,
        "default": backend == spec.best_backend(problem),
        "package": spec.backends[backend].package or None,
        "package_version": environment.version_of(spec.backends[backend].package),
        "summary": spec.summary,
        "backend_summary": spec.backends[backend].summary,
        "formula": spec.formula,
        "time": spec.time,
        "memory": spec.memory,
        "growth": spec.growth_of(backend),
        "growth_of_attention": spec.growth,
        **sizes(spec),
        "causal": spec.causal_form,
        "full": None if spec.causal_only else spec.full_form,
        "causal_only": spec.causal_only,
        "recurrent": spec.backends[backend].recurrence is not None,
        "over_ranks": form.summary if (form := spec.backends[backend].sharding) else None,
        "hyperparameters": {
            name: {"default": knob.default, "description": knob.description}
            for name, knob in spec.hyperparameters.items()
        },
        "paper": str(spec.paper),
        "arxiv": spec.paper.arxiv,
        "title": spec.paper.title,
        "notes": spec.notes,
        "origin": spec.origin or None,
    }


def sizes(spec: AttentionSpec) -> dict[str, Any]:
    """Numbers of an attention at ``SIZES``: parameters of its layer and of its core, bytes of its state."""
    return {
        "layer_params": spec.layer_params(SIZES),
        "core_params": spec.core_params(SIZES),
        "state_bytes": spec.state_bytes(SIZES) if spec.state_bytes else None,
        "sizes": {"dim": SIZES.dim, "heads": SIZES.heads, "seq_len": SIZES.seq_len, "dtype": SIZES.dtype},
    }


def machine(wanted: str) -> dict[str, Any]:
    """What a run on that device would record: its environment, and under ``ceilings`` what the device reaches.

    Asks a worker, which imports torch. Where the ceilings cannot be measured, ``ceilings_missing`` says why.
    """
    from elattn_bench.worker import Settings, Worker

    found = device.detect(wanted)
    with Worker(Settings(found, BUDGETS["quick"])) as worker:
        described = environment.of_run(found, worker.environment())
        ceilings = worker.call("elattn_bench.ceilings:measure", timeout=CEILINGS_TIMEOUT)
    if isinstance(ceilings, Skipped):
        return {**described, "ceilings": {}, "ceilings_missing": ceilings.reason}
    return {**described, "ceilings": ceilings}
