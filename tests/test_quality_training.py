"""The laws of training: the schedule, the batches, seeds, padding, judging."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from elattn_bench.quality import batches, metrics, models, tasks, training  # noqa: E402
from elattn_bench.quality.data.nouns import IGNORED, DataSet, Examples  # noqa: E402
from elattn_bench.quality.nets.build import build  # noqa: E402
from elattn_bench.quality.nets.transformer import Transformer, positions  # noqa: E402
from elattn_bench.quality.nouns import (  # noqa: E402
    Epoch,
    Form,
    Job,
    Kind,
    Model,
    Recipe,
    Trained,
)
from elattn_bench.results import Skipped  # noqa: E402
from elattn_bench.stats import BUDGETS  # noqa: E402
from elattn_bench.worker_process import Context, Settings  # noqa: E402

RECIPE = Recipe(epochs=2, batch=8, dim=16, heads=2, depth=1, train_examples=24, test_examples=16)
MQAR = Job("mqar", Model("transformer", "softmax"), True, 0, RECIPE)
VOWELS = tasks.find("japanese-vowels")


def run(job: Job) -> tuple[Trained, list[Epoch]]:
    from elattn_bench.gate import Gate

    epochs: list[Epoch] = []
    trained = training.train(Context(Settings("cpu", BUDGETS["quick"]), Gate(1.0), epochs.append), job)
    assert isinstance(trained, Trained), trained
    return trained, epochs


def ragged() -> Examples:
    """Twenty series of 3 to 6 steps; what stands behind their ends is no number."""
    random = np.random.default_rng(0)
    lengths = np.arange(20) % 4 + 3
    inputs = random.standard_normal((20, 6, 12)).astype(np.float32)
    for row, length in zip(inputs, lengths, strict=True):
        row[length:] = np.nan
    return Examples(inputs, np.arange(20) % 9, lengths)


def series(model: Model, data: Examples, causal: bool = False) -> training.Trainer:
    torch.manual_seed(0)
    whole = DataSet(data, data, 9)
    net = build(model, training.form_of(VOWELS, whole), RECIPE, causal=causal)
    return training.Trainer(VOWELS, RECIPE, net, whole, "cpu", np.random.default_rng(0))


def test_the_learning_rate_rises_once_then_falls_to_nothing() -> None:
    rates = [training.rate_at(step, 200) for step in range(201)]
    top = rates.index(max(rates))
    assert max(rates) == 1.0
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.0)
    assert min(rates[:-1]) > 0


def test_an_epoch_shows_every_example_once_in_an_order_of_its_generator() -> None:
    examples = ragged()
    one, other = (batches.shuffled(examples, 4, np.random.default_rng(seed)) for seed in (0, 1))
    assert sorted(np.concatenate(one)) == list(range(20))
    assert [list(rows) for rows in one] != [list(rows) for rows in other]


def test_a_batch_of_series_holds_one_length_and_none_of_the_padding() -> None:
    examples = ragged()
    assert examples.lengths is not None
    for rows in batches.shuffled(examples, 4, np.random.default_rng(0)):
        inputs, _ = batches.tensors(examples, rows, "cpu")
        assert set(examples.lengths[rows]) == {inputs.shape[1]}
        assert torch.isfinite(inputs).all()


@pytest.mark.parametrize("attention", ["softmax", "linear", "efficient", "ea-series", "hadamard", "mean"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_reaches_no_attention_and_no_score(attention: str, causal: bool) -> None:
    order = 2 if attention == "ea-series" else None
    trainer = series(Model("transformer", attention, order=order), ragged(), causal)
    *_, last = trainer.epochs()
    assert last.loss is not None
    assert math.isfinite(last.loss)
    assert 0 <= last.metrics["accuracy"] <= 1


@pytest.mark.parametrize("attention", ["softmax", "ea-series", "mean"])
def test_a_causal_transformer_does_not_see_ahead(attention: str) -> None:
    torch.manual_seed(0)
    order = 6 if attention == "ea-series" else None
    form = Form("language", (12,), 32, longest=12)
    net = build(Model("transformer", attention, order=order), form, RECIPE, causal=True)
    tokens = torch.arange(12)[None]
    changed = tokens.clone()
    changed[0, 8:] = 31
    before, after = net(tokens), net(changed)
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])


def test_only_the_attention_differs_between_two_transformers() -> None:
    form = Form("series", (6, 12), 9, longest=6)
    nets = [build(Model("transformer", name), form, RECIPE, causal=False) for name in ("softmax", "linear")]
    shapes = [[tuple(parameter.shape) for parameter in net.parameters()] for net in nets]
    assert shapes[0] == shapes[1]


def test_a_seed_gives_the_same_figures_again_and_another_seed_others() -> None:
    (one, curve), (again, same_curve), (_, other_curve) = run(MQAR), run(MQAR), run(replace(MQAR, seed=1))
    assert one.metrics == again.metrics
    assert [each.loss for each in curve] == [each.loss for each in same_curve]
    assert [each.loss for each in curve] != [each.loss for each in other_curve]


def test_an_epoch_is_reported_before_the_first_step_and_after_each() -> None:
    trained, epochs = run(MQAR)
    assert [each.number for each in epochs] == [0, 1, 2]
    assert epochs[0].loss is None
    assert trained.metrics["accuracy"] == epochs[-1].metrics["accuracy"]
    assert trained.train_s == epochs[-1].train_s >= epochs[1].train_s > 0
    assert trained.train_examples == 24
    assert trained.backend == "sdpa"


def test_metrics_on_longer_sequences_have_a_suffix() -> None:
    trained, _ = run(MQAR)
    assert next(iter(trained.metrics)) == "accuracy"
    assert {"accuracy@128", "accuracy@256"} <= set(trained.metrics)


def test_validation_is_judged_on_what_is_not_trained_on() -> None:
    examples = Examples(np.arange(100)[:, None], np.arange(100))
    whole = DataSet(examples, examples, 2)
    job = replace(MQAR, split="validation", recipe=replace(RECIPE, train_examples=None, test_examples=None))
    parts = training._split(whole, job)
    seen, judged = set(parts.train.inputs.ravel()), set(parts.test.inputs.ravel())
    assert not seen & judged
    assert seen | judged == set(range(100))
    assert len(judged) == 10


def test_the_same_examples_are_drawn_for_every_seed() -> None:
    first, second = (
        training._split(training._loaded("mqar", ()), replace(MQAR, seed=seed)).train.inputs
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(first, second)


def test_a_loss_that_is_no_number_ends_the_training_and_says_when() -> None:
    data = ragged()
    poisoned = Examples(np.full_like(data.inputs, np.nan), data.targets, data.lengths)
    with pytest.raises(training.Diverged, match="epoch 1, step 1"):
        list(series(Model("transformer", "softmax"), poisoned).epochs())


def test_what_is_not_asked_changes_neither_loss_nor_score() -> None:
    task = tasks.find("mqar")
    torch.manual_seed(0)
    answers, targets = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    targets[:, :3] = IGNORED
    changed = answers.clone()
    changed[:, :3] = 100.0
    assert metrics.loss(task, answers, targets) == metrics.loss(task, changed, targets)
    assert metrics.sums(task, answers, targets) == metrics.sums(task, changed, targets)
    assert metrics.sums(task, answers, targets)["count"] == 4


def test_an_even_guess_among_256_bytes_costs_eight_bits() -> None:
    task = tasks.find("shakespeare")
    totals = metrics.sums(task, torch.zeros(1, 10, 256), torch.randint(0, 256, (1, 10)))
    assert metrics.means(task, totals) == {"bits_per_byte": pytest.approx(8.0)}


def test_a_forecast_is_scored_by_squared_and_absolute_error() -> None:
    task = tasks.find("etth1-96")
    totals = metrics.sums(task, torch.zeros(1, 2, 1), torch.tensor([[[1.0], [-3.0]]]))
    assert metrics.means(task, totals) == {"mse": 5.0, "mae": 2.0}


def test_a_forecast_moves_and_grows_with_its_window() -> None:
    torch.manual_seed(0)
    form = Form("forecast", (24, 3), 3, horizon=5, longest=24)
    net = build(Model("transformer", "softmax"), form, RECIPE, causal=False)
    window = torch.randn(2, 24, 3)
    torch.testing.assert_close(net(10 * window + 3), 10 * net(window) + 3, rtol=1e-3, atol=1e-3)


def test_positions_are_there_at_any_length_and_begin_alike() -> None:
    cpu = torch.device("cpu")
    torch.testing.assert_close(
        positions(100, 16, cpu, torch.float32)[:10], positions(10, 16, cpu, torch.float32)
    )


def test_patches_are_the_pixels_of_their_squares() -> None:
    form = Form("image", (8, 8, 3), 10)
    net = build(Model("transformer", "softmax"), form, RECIPE, causal=False)
    assert isinstance(net, Transformer)
    image = torch.zeros(1, 8, 8, 3)
    image[0, 4:, :4] = 1.0  # the third of four patches
    from elattn_bench.quality.nets.transformer import _patches

    assert _patches(image, 4).sum(-1).tolist() == [[0.0, 0.0, 48.0, 0.0]]


def test_peak_memory_grows_with_the_batch() -> None:
    small, _ = run(MQAR)
    large, _ = run(replace(MQAR, recipe=replace(RECIPE, batch=24)))
    assert 0 < small.peak_memory_bytes < large.peak_memory_bytes


def test_data_folders_of_a_job_need_no_data_of_a_made_task(tmp_path: Path) -> None:
    trained, _ = run(replace(MQAR, folders=(tmp_path,)))
    assert trained.params > 0


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, network in models.NETWORKS.items() for kind in network.kinds]
)
def test_every_network_answers_every_kind_of_task_that_it_names(name: str, kind: Kind) -> None:
    shape = {"image": (28, 28, 1), "series": (6, 12), "forecast": (24, 3), "language": (12,)}[kind]
    form = Form(
        kind, shape, 3, horizon=5 if kind == "forecast" else 0, longest=0 if kind == "image" else shape[0]
    )
    share = 0.5 if models.NETWORKS[name].sized else None
    net = build(Model(name, share=share), form, RECIPE, causal=False).eval()
    x = torch.zeros(2, *shape, dtype=torch.int64) if kind == "language" else torch.zeros(2, *shape)
    expected = {"image": (2, 3), "series": (2, 3), "forecast": (2, 5, 3), "language": (2, 12, 3)}[kind]
    assert tuple(net(x).shape) == expected


def test_an_attention_that_cannot_run_the_problem_is_a_value_with_its_reason() -> None:
    from elattn_bench.gate import Gate

    job = Job("japanese-vowels", Model("transformer", "gla"), False, 0, RECIPE)
    data = ragged()
    whole = DataSet(Examples(data.inputs[:, :3], data.targets), Examples(data.inputs[:, :3], data.targets), 9)
    patched = pytest.MonkeyPatch()
    patched.setattr(training, "_loaded", lambda task, folders: whole)
    try:
        outcome = training.train(Context(Settings("cpu", BUDGETS["quick"]), Gate(1.0)), job)
    finally:
        patched.undo()
    assert isinstance(outcome, Skipped)
    assert outcome.status == "unsupported"
    assert "causal only" in outcome.reason


def test_fitting_is_timed_without_the_judging(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    examples = Examples(np.arange(12).reshape(2, 6) % 5, np.arange(12).reshape(2, 6) % 5)
    whole = DataSet(examples, examples, 5)
    task = tasks.find("mqar")
    net = build(Model("bigram"), training.form_of(task, whole), RECIPE, causal=True)
    trainer = training.Trainer(task, RECIPE, net, whole, "cpu", np.random.default_rng(0))

    def slow(judged: Examples) -> dict[str, float]:
        now[0] += 100.0
        return {"accuracy": 0.0}

    monkeypatch.setattr(trainer, "evaluate", slow)
    (epoch,) = trainer.epochs()
    assert epoch.train_s == 0.0
