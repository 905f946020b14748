"""``elattn-bench quality``: train and judge; ``quality report``: what came of it. Heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from elattn_bench import options

_WHAT = "What to train"
_HOW = "How to train"
RUN = "run"


class RunByDefault(TyperGroup):
    """``quality fashion-mnist`` is short for ``quality run fashion-mnist``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the command's name before arguments that begin with none."""
        if not args or args[0] not in self.commands:
            args = [RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RunByDefault, help="Train small networks that differ in their attention alone, on real data."
)

Tasks = Annotated[
    list[str] | None,
    Argument(
        metavar="TASK",
        help="fashion-mnist, cifar10, japanese-vowels, basic-motions, etth1-96, etth1-192, etth2-96, etth2-192, "
        "shakespeare, mqar, selective-copy.",
        show_default="all of the suite",
    ),
]
SuiteName = Annotated[
    str | None,
    Option(
        "--suite",
        metavar="NAME",
        help="smoke (a minute or two), standard (every task), paper (all images, 10 epochs): recipes, models, seeds.",
        show_default="standard",
        rich_help_panel=_WHAT,
    ),
]
Impls = Annotated[
    str | None,
    Option(
        "--impl",
        "-i",
        metavar="IMPLS",
        help="Attentions, and networks: vgg, hadamard-net-3 (at 3 % of vgg's parameters), conv-3, mlp, logistic, "
        "nlinear, repeat-last, bigram.",
        show_default="the suite's",
        rich_help_panel=_WHAT,
    ),
]
Order = Annotated[
    str | None,
    Option(
        "--order", metavar="AXIS", help="Polynomial orders (even).", show_default="2,6", rich_help_panel=_WHAT
    ),
]
QkNorm = Annotated[
    str | None,
    Option(
        "--qk-norm",
        metavar="NAMES",
        help="What is done to queries and keys: none, layer, rms, tanh.",
        show_default="none",
        rich_help_panel=_WHAT,
    ),
]
Hp = Annotated[
    list[str] | None,
    Option(
        "--hp",
        metavar="NAME=VALUES",
        help="Values of the attentions' own knobs: scale=0.5,1. Repeatable.",
        show_default="each knob's own",
        rich_help_panel=_WHAT,
    ),
]
Causal = Annotated[
    list[bool] | None,
    Option(
        "--causal/--no-causal",
        metavar="",
        help="Of tasks that may be either. Give both to train both.",
        show_default="the suite's",
        rich_help_panel=_WHAT,
    ),
]
Seeds = Annotated[
    int | None,
    Option(
        "--seeds",
        metavar="N",
        min=1,
        help="Seeds 0 to N-1.",
        show_default="the suite's",
        rich_help_panel=_HOW,
    ),
]
Epochs = Annotated[
    int | None,
    Option("--epochs", metavar="N", min=1, help="Epochs.", show_default="the suite's", rich_help_panel=_HOW),
]
ExampleCount = Annotated[
    int | None,
    Option(
        "--examples",
        metavar="N",
        min=1,
        help="At most so many training examples.",
        show_default="the suite's",
        rich_help_panel=_HOW,
    ),
]
LearningRate = Annotated[
    float | None,
    Option(
        "--learning-rate",
        metavar="RATE",
        min=0.0,
        help="The highest, of AdamW after its warm-up.",
        show_default="the suite's",
        rich_help_panel=_HOW,
    ),
]
SplitName = Annotated[
    str | None,
    Option(
        "--split",
        metavar="NAME",
        help="Judge on test, or on validation: what to use while you choose.",
        show_default="test",
        rich_help_panel=_HOW,
    ),
]
DataDirs = Annotated[
    list[Path] | None,
    Option(
        "--data-dir",
        metavar="DIR",
        help="Where data sets lie, beside installed packages. Repeatable.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]
Jobs = Annotated[
    int | None,
    Option(
        "--jobs",
        "-j",
        metavar="N",
        min=1,
        help="Train so many models at once, each on its share of the cores. Times are then of a busy machine.",
        show_default="1",
        rich_help_panel=_HOW,
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Show what would be trained, train nothing.")]
Resume = Annotated[
    bool, Option("--resume", help="Complete an interrupted run; with --seeds N, up to N seeds.")
]
Strict = Annotated[bool, Option("--strict", help="Exit with 4 if a model failed, or a task had no data.")]


@app.command(RUN, epilog="Then: elattn-bench quality report RUN_DIR")
def run(
    task: Tasks = None,
    suite: SuiteName = None,
    impl: Impls = None,
    order: Order = None,
    qk_norm: QkNorm = None,
    hp: Hp = None,
    causal: Causal = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    examples: ExampleCount = None,
    learning_rate: LearningRate = None,
    split: SplitName = None,
    data_dir: DataDirs = None,
    device: options.Device = None,
    threads: options.Threads = None,
    jobs: Jobs = None,
    output: options.Output = None,
    resume: Resume = False,
    force: options.Force = False,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """Train small networks that differ in their attention alone on real data; write quality.csv and curves.csv."""
    from elattn_bench.commands import quality as body

    given = {
        "tasks": task, "suite": suite, "impl": impl, "order": order, "qk-norm": qk_norm,
        "hp": ",".join(hp) if hp else None, "causal": causal, "seeds": seeds, "epochs": epochs,
        "examples": examples, "learning-rate": learning_rate, "split": split,
        "data-dir": [str(folder.resolve()) for folder in data_dir or ()], "device": device, "threads": threads,
        "jobs": jobs,
    }  # fmt: skip
    flags = {name: value for name, value in given.items() if value not in (None, [])}
    body.run(flags, output, resume=resume, force=force, dry_run=dry_run, strict=strict)


QualityRun = Annotated[Path, Argument(metavar="RUN", help="A quality run's directory.", show_default=False)]
Reference = Annotated[
    str | None,
    Option(
        "--reference",
        metavar="MODEL",
        help="What scores are a share of.",
        show_default="softmax, else vgg",
    ),
]
Sweep = Annotated[
    Path | None,
    Option(
        "--sweep", metavar="SWEEP_RUN", help="Show each attention's latency in this sweep beside its score."
    ),
]
Kinds = Annotated[
    str | None,
    Option(
        "--kind",
        metavar="NAMES",
        help="Figures: overview, quality, curves, orders, lengths.",
        show_default="all that the run has data for",
    ),
]


@app.command()
def report(
    run: QualityRun,
    reference: Reference = None,
    sweep: Sweep = None,
    format: options.FormatOption = options.Format.TABLE,
    kind: Kinds = None,
    figure: options.FigureFormats = "png",
    output: options.PlotDir = None,
    style: options.FigureStyle = "paper",
    size: options.FigureSize = None,
    title: options.FigureTitle = None,
) -> None:
    """Judge the papers' claims by a run; show scores against parameters, time and memory; draw the figures."""
    from elattn_bench.commands import quality as body

    body.report(run, reference, sweep, format.value, kind, figure, output, style, size, title)
