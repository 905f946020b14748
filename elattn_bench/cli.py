"""The command line. Each command gathers its options and hands over; heavy imports wait until then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from elattn_bench import __version__, live_options, options, projection_options, quality_cli
from elattn_bench.errors import ElattnError, Interrupted, UsageError

app = typer.Typer(
    name="elattn-bench",
    help="Measure where linear-cost attention overtakes softmax attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(quality_cli.app, name="quality")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"elattn-bench {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool | None,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = None,
) -> None:
    """Measure where linear-cost attention overtakes softmax attention: latency, memory, parameters, error."""


@app.command()
def sweep(
    config: options.ConfigFile = None,
    impl: options.Impls = None,
    seq_len: options.SeqLen = None,
    dim: options.Dim = None,
    order: options.Order = None,
    hp: options.Hp = None,
    batch: options.Batch = None,
    heads: options.Heads = None,
    dtype: options.Dtype = None,
    causal: options.Causal = None,
    mode: options.Mode = None,
    level: options.Level = None,
    cache: options.Cache = None,
    ranks: options.Ranks = None,
    device_type: options.DeviceType = None,
    device: options.Device = None,
    threads: options.Threads = None,
    quick: options.Quick = False,
    rigorous: options.Rigorous = False,
    timeout: options.Timeout = None,
    memory_limit: options.MemoryLimit = None,
    seed: options.Seed = None,
    input_std: options.InputStd = None,
    launcher: options.Launcher = "local",
    address: options.Address = None,
    output: options.Output = None,
    resume: options.Resume = False,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    strict: options.Strict = False,
) -> None:
    """Measure every case of a grid and write results.csv, samples.jsonl and run.json."""
    from elattn_bench.commands import sweep as body

    flags = _given(
        impl=impl, seq_len=seq_len, dim=dim, order=order, hp=hp, batch=batch, heads=heads, dtype=dtype, causal=causal,
        mode=mode, level=level, cache=cache, ranks=ranks, device_type=device_type, device=device, threads=threads,
        quick=quick, rigorous=rigorous, timeout=timeout, memory_limit=memory_limit, seed=seed, input_std=input_std,
    )  # fmt: skip
    body.sweep(
        config, flags, output, launcher=launcher, address=address, resume=resume, force=force, dry_run=dry_run,
        strict=strict,
    )  # fmt: skip


@app.command()
def compare(
    run: options.Compared,
    other_runs: options.OthersCompared = None,
    reference: options.Reference = None,
    metric: options.Metrics = None,
    where: options.Where = None,
    absolute: options.Absolute = False,
    threshold: options.Threshold = "5%",
    fail_on: options.FailOn = None,
    format: options.FormatOption = options.Format.TABLE,
    force: options.ForceCompare = False,
    live: live_options.Live = False,
    seq_len: live_options.SeqLen = None,
    dim: live_options.Dim = None,
    order: live_options.Order = None,
    hp: live_options.Hp = None,
    batch: live_options.Batch = None,
    heads: live_options.Heads = None,
    dtype: live_options.Dtype = None,
    causal: live_options.Causal = None,
    mode: live_options.Mode = None,
    level: live_options.Level = None,
    cache: live_options.Cache = None,
    device: live_options.Device = None,
    threads: live_options.Threads = None,
    quick: live_options.Quick = False,
    rigorous: live_options.Rigorous = False,
    timeout: live_options.Timeout = None,
    memory_limit: live_options.MemoryLimit = None,
    seed: live_options.Seed = None,
    input_std: live_options.InputStd = None,
) -> None:
    """Compare each implementation with the reference, runs case by case, or two implementations live."""
    from elattn_bench.commands import compare as body

    axes = _given(
        seq_len=seq_len, dim=dim, order=order, hp=hp, batch=batch, heads=heads, dtype=dtype, causal=causal, mode=mode,
        level=level, cache=cache, device=device, threads=threads, quick=quick, rigorous=rigorous,
        timeout=timeout, memory_limit=memory_limit, seed=seed, input_std=input_std,
    )  # fmt: skip
    of_one_run = _given(reference=reference, metric=metric, where=where, absolute=absolute)
    of_runs = {**of_one_run, **_given(force=force)}
    others = other_runs or []
    if live:
        _refuse(
            of_runs, "is for runs; --live measures the latency of two impls, the second against the first"
        )
        body.compare_live([run, *others], axes, threshold, fail_on, format.value)
        return
    _refuse(axes, "is for --live; a run has the cases that it was measured with")
    if others:
        _refuse(of_one_run, "is for one run; several runs are compared case by case, in all they have")
        body.compare_runs(Path(run), list(map(Path, others)), threshold, fail_on, format.value, force=force)
    elif absolute:
        compared = _given(reference=reference, fail_on=fail_on)
        _refuse(compared, "compares with a reference; --absolute shows each impl for itself")
        body.absolute(Path(run), metric, format.value, where or ())
    else:
        body.compare(Path(run), reference, metric, threshold, fail_on, format.value, where or ())


def _given(**values: object) -> dict[str, object]:
    """The options that were given, by their names on the command line."""
    return {
        name.replace("_", "-"): value
        for name, value in values.items()
        if value is not None and value is not False and value != []
    }


def _refuse(given: Iterable[str], reason: str) -> None:
    for name in given:
        raise UsageError(f"--{name} {reason}")


@app.command()
def plot(
    run: options.RunPath,
    kind: options.Kinds = None,
    where: options.Where = None,
    format: options.ImageFormats = "png",
    output: options.PlotDir = None,
    style: options.FigureStyle = "paper",
    size: options.FigureSize = None,
    title: options.FigureTitle = None,
) -> None:
    """Draw a run: latency and memory against length, order and dim; fitted growth, winners, errors, the roofline."""
    from elattn_bench.commands import plot as body

    body.plot(run, kind, format, output, style, size, title, where or ())


@app.command()
def project(
    run: options.RunPath,
    tokens: projection_options.Tokens = "1M,1G",
    ranks: projection_options.ProjectedRanks = "1,8,64,512",
    where: options.Where = None,
    link: projection_options.AssumedLink = None,
    memory: projection_options.RankMemory = None,
    format: options.FormatOption = options.Format.TABLE,
    figure: options.FigureFormats = "png",
    output: options.PlotDir = None,
    style: options.FigureStyle = "paper",
    size: options.FigureSize = None,
    title: options.FigureTitle = None,
) -> None:
    """Project a run with ranks to more tokens and ranks: time, memory, traffic; checked on its rows first."""
    from elattn_bench.commands import project as body

    body.project(
        run, tokens, ranks, where or (), link, memory, format.value, figure, output, style, size, title
    )


@app.command()
def history(
    directory: options.HistoryDir,
    metric: options.HistoryMetric = "latency",
    threshold: options.Threshold = "5%",
    fail_on: options.FailOn = None,
    format: options.FormatOption = options.Format.TABLE,
    figure: options.FigureFormats = "png",
    output: options.HistoryPlotDir = None,
    style: options.FigureStyle = "paper",
    size: options.FigureSize = None,
    title: options.FigureTitle = None,
    force: options.ForceHistory = False,
) -> None:
    """Show what became of each case over many runs of one machine: steps, drifts, and which run brought them."""
    from elattn_bench.commands import history as body

    body.history(
        directory, metric, threshold, fail_on, format.value, figure, output, style, size, title, force=force
    )


@app.command()
def report(
    run: options.RunPath,
    output: options.ReportFile = None,
    reference: options.Reference = None,
    force: options.ForceReport = False,
) -> None:
    """Write a run as one HTML file: verdicts, interactive charts, the table, the machine; needs no network."""
    from elattn_bench.commands import report as body

    body.report(run, output, reference, force=force)


@app.command("list")
def list_(as_json: options.AsJson = False) -> None:
    """Show the attentions and their backends, and which can run here."""
    from elattn_bench.commands import looking as body

    body.list_attentions(as_json=as_json)


@app.command()
def env(device: options.Device = None, as_json: options.AsJson = False) -> None:
    """Show the machine, the device and the versions that a run would record."""
    from elattn_bench.commands import looking as body

    body.env(device or "auto", as_json=as_json)


@app.command()
def selftest(
    device: options.Device = None, threads: options.Threads = None, as_json: options.AsJson = False
) -> None:
    """Measure attentions whose truth is known: times, bytes, refusals, and survival of every fault."""
    from elattn_bench.commands import looking as body

    body.selftest(device or "auto", threads, as_json=as_json)


def main() -> None:
    """The entry point: errors become one clear message and the exit code of their kind."""
    try:
        app()
    except ElattnError as error:
        typer.echo(f"elattn-bench: {error}", err=True)
        sys.exit(error.exit_code)
    except (Interrupted, KeyboardInterrupt) as interrupt:
        typer.echo(f"elattn-bench: interrupted; {interrupt}".rstrip("; "), err=True)
        sys.exit(Interrupted.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as in: elattn-bench list | head
        sys.stderr.close()
        sys.exit(1)
