"""What is trained: models by their names, jobs of suites, refusals that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_data import FOLDERS

from attention_impls.nouns import QkNorm
from elattn_bench.errors import MissingData, UsageError
from elattn_bench.quality import data, estimate, models, plan, tasks
from elattn_bench.quality.nets import counts
from elattn_bench.quality.nouns import Model
from elattn_bench.quality.suites import SUITES


def parse(
    text: str, orders: tuple[int, ...] = (2, 6), knobs: str = "", norms: tuple[QkNorm, ...] = ()
) -> list[Model]:
    return models.parse(text.split(","), orders, knobs, norms)


def test_an_order_is_an_axis_of_attentions_that_have_one_alone() -> None:
    assert [model.label for model in parse("softmax,ea-series")] == [
        "softmax",
        "ea-series t=2",
        "ea-series t=6",
    ]


def test_networks_are_sized_by_a_percentage_in_their_name() -> None:
    small, half = parse("hadamard-net-3,hadamard-net-50")
    assert (small.share, half.share) == (0.03, 0.5)
    assert (small.label, half.label) == ("hadamard-net-3", "hadamard-net-50")


def test_labels_tell_models_apart() -> None:
    found = parse(
        "softmax,softmax/eager,ea-series,vgg,conv-3,conv-50",
        knobs="ea-series.scale=0.5,1",
        norms=("rms", "tanh"),
    )
    assert len({model.label for model in found}) == len(found) == 2 * 2 + 2 * 2 * 2 + 3


def test_what_projects_no_query_has_no_norm_of_it() -> None:
    assert [model.qk_norm for model in parse("mean", norms=("rms",))] == [None]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("softmaks", "did you mean 'softmax'"),
        ("vg", "did you mean 'vgg'"),
        ("hadamard-net", "hadamard-net-3"),
        ("conv-0", "above 0 and at most 100"),
        ("conv-101", "above 0 and at most 100"),
        ("softmax/nothing", "nothing"),
    ],
)
def test_a_word_that_names_nothing_is_refused_with_what_would(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        parse(text)


def test_an_odd_order_is_refused() -> None:
    with pytest.raises(UsageError, match="--order 3"):
        parse("ea-series", orders=(3,))


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_names_tasks_and_models_that_exist(name: str) -> None:
    for task, entry in SUITES[name].entries.items():
        found = models.parse(entry.models, (2, 6), "", ())
        assert all(models.can_do(model, tasks.find(task).kind) for model in found)
        assert set(entry.causal) <= set(tasks.forms(tasks.find(task)))


def test_the_standard_suite_has_every_task() -> None:
    assert set(SUITES["standard"].entries) == set(tasks.TASKS)


def test_every_floor_of_a_task_is_a_network_that_can_do_it() -> None:
    for task in tasks.TASKS.values():
        floors = models.parse(task.floors, (), "", ())
        assert all(models.can_do(model, task.kind) for model in floors)
        assert all((network := models.network_of(model)) and network.is_floor for model in floors)


def made(**given: object) -> plan.QualityPlan:
    return plan.make_plan({"tasks": ["mqar"], "seeds": 2, "impl": "softmax,linear", **given})


def test_all_models_get_a_seed_before_any_gets_the_next() -> None:
    assert [(job.seed, job.model.label) for job in made().jobs] == [
        (0, "softmax"), (0, "linear"), (1, "softmax"), (1, "linear"),
    ]  # fmt: skip


def test_epochs_and_examples_overrule_the_recipe() -> None:
    recipes = {(job.recipe.epochs, job.recipe.train_examples) for job in made(epochs=3, examples=10).jobs}
    assert recipes == {(3, 10)}


def test_networks_without_attention_are_trained_once_where_attentions_are_trained_in_both_forms(
    tmp_path: Path,
) -> None:
    for part in ("TRAIN", "TEST"):
        (tmp_path / f"BasicMotions_{part}.ts").write_text("")
    given = {
        "tasks": ["basic-motions"],
        "impl": "softmax,mlp",
        "data-dir": [str(tmp_path)],
        "causal": [True, False],
    }
    found = plan.make_plan({**given, "seeds": 1}).jobs
    trained = [(job.model.label, job.causal) for job in found]
    assert sorted(trained) == [("mlp", False), ("softmax", False), ("softmax", True)]


def test_a_task_that_looks_ahead_cannot_be_asked_not_to() -> None:
    with pytest.raises(UsageError, match="mqar is causal"):
        made(causal=[False])


def test_a_model_that_cannot_do_any_of_the_tasks_is_refused() -> None:
    with pytest.raises(UsageError, match="vgg: none of these can do mqar"):
        made(impl="vgg")


def test_a_named_task_without_data_is_an_error_and_names_what_gives_it(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"ETTh1.*--data-dir|ETTh1\.csv"):
        plan.make_plan({"tasks": ["etth1-96"], "data-dir": [str(tmp_path)]})


def test_a_suite_goes_on_without_a_task_that_has_no_data_and_says_so(tmp_path: Path) -> None:
    found = plan.make_plan({"data-dir": [str(tmp_path)]})
    assert {"etth1-96", "cifar10"} <= set(found.missing)
    assert {"mqar", "selective-copy"} <= {job.task for job in found.jobs}
    assert not {job.task for job in found.jobs} & set(found.missing)


def test_a_task_outside_of_a_suite_is_refused() -> None:
    with pytest.raises(UsageError, match="shakespeare is not in --suite paper"):
        plan.make_plan({"tasks": ["shakespeare"], "suite": "paper"})


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_table_of_tasks_says_what_the_data_is(name: str) -> None:
    training = pytest.importorskip("elattn_bench.quality.training")
    task = tasks.find(name)
    try:
        found = data.load(task, FOLDERS)
    except MissingData as error:
        pytest.skip(f"{error} (folders for tests: ELATTN_BENCH_DATA)")
    assert training.form_of(task, found) == task.form
    assert (len(found.train), len(found.test)) == (task.train_examples, task.test_examples)


def test_a_plan_counts_the_parameters_that_are_trained() -> None:
    build = pytest.importorskip("elattn_bench.quality.nets.build").build
    suite = SUITES["standard"]
    for name, entry in suite.entries.items():
        form = tasks.find(name).form
        for model in parse(",".join(entry.models), norms=("rms",)):
            net = build(model, form, entry.recipe, causal=True)
            assert counts.params(model, form, entry.recipe) == sum(each.numel() for each in net.parameters())


def test_more_of_everything_is_guessed_to_take_longer() -> None:
    short, *_ = made(epochs=1, examples=1000).jobs
    longer = [made(epochs=2, examples=1000).jobs[0], made(epochs=1, examples=2000).jobs[0]]
    assert all(estimate.seconds(job) > estimate.seconds(short) > 0 for job in longer)


def test_an_unknown_norm_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UsageError, match="did you mean 'rms'"):
        made(**{"qk-norm": "rmsnorm"})


def test_all_is_every_attention_of_the_library() -> None:
    import attention_impls

    labels = {job.model.attention for job in made(impl="all", seeds=1).jobs}
    assert labels == set(attention_impls.names())


def test_a_module_with_its_own_projections_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UsageError, match="module with projections of its own"):
        parse("own_module:Layer")
