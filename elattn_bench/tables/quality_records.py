"""Scores as records for programs: one per task, form, model and metric, with full precision."""

from __future__ import annotations

from typing import Any

from elattn_bench.knobs import text_of
from elattn_bench.quality.joined import Joined
from elattn_bench.quality.scores import Score, plain_ratio, ratio, share_of_params
from elattn_bench.tables.listings import interval_record


def score_record(score: Score, reference: Score | None, joined: Joined | None) -> dict[str, Any]:
    """The score, what it took, and its ratio to the reference; empty where it has none."""
    interval, measured = score.interval, None
    if reference and score.model != reference.model:
        measured = ratio(score, reference)
    return {
        "task": score.facet.task, "causal": score.facet.causal, "split": score.facet.split,
        "model": score.model, "family": score.family, "attention": score.attention, "backend": score.backend,
        "order": score.order, "qk_norm": score.qk_norm, "hyperparameters": text_of(score.hyperparameters),
        "metric": score.metric, "higher_is_better": score.higher_is_better,
        "mean": score.mean, "sd": score.sd, "seeds": len(score.values),
        "mean_low": interval.low if interval else None, "mean_high": interval.high if interval else None,
        "reference": reference.model if reference else None,
        **interval_record("ratio", measured),
        "ratio": plain_ratio(score, reference) if reference else None,
        "params": score.params, "params_ratio": share_of_params(score, reference) if reference else None,
        "epochs": score.epochs, "train_examples": score.train_examples, "test_examples": score.test_examples,
        "train_s": score.train_s, "step_ms_p50": score.step_ms_p50, "peak_memory_bytes": score.peak_memory_bytes,
        **_latency(score, joined),
    }  # fmt: skip


def _latency(score: Score, joined: Joined | None) -> dict[str, Any]:
    if joined is None:
        return {}
    row = joined.rows.get(score.model)
    return {
        "latency_ms_p50": row.latency_ms_p50 if row else None,
        "latency_impl": row.impl if row else None,
        "latency_seq_len": row.seq_len if row else None,
    }
