"""Every option once, as an Annotated alias: the same words, the same help, wherever it appears."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from elattn_bench.defaults import AXIS_DEFAULTS, DEFAULT_ORDERS, RUN_DEFAULTS

_GRID = "What to sweep"
_RUN = "How to measure"
_OUT = "Where to"


class Format(str, Enum):
    """How a comparison is written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


AXIS = "512 | 1k,2k,1M | 256:64k:x2 | 16:128:16; k = 1024, M = 1024 k, G = 1024 M"

ConfigFile = Annotated[
    Path | None,
    Argument(
        metavar="CONFIG.toml", help="A file with the options by their names, and grids.", show_default=False
    ),
]
Impls = Annotated[
    str | None,
    Option(
        "--impl",
        "-i",
        metavar="IMPLS",
        help="Attentions, attention/backend, all, or module:name of your own, with commas. "
        "See: elattn-bench list",
        show_default="the papers' attentions and softmax",
        rich_help_panel=_GRID,
    ),
]
SeqLen = Annotated[
    str | None,
    Option(
        "--seq-len",
        metavar="AXIS",
        help=f"Sequence lengths, of the context when decoding: {AXIS}.",
        show_default=AXIS_DEFAULTS["seq-len"],
        rich_help_panel=_GRID,
    ),
]
Dim = Annotated[
    str | None,
    Option(
        "--dim",
        metavar="AXIS",
        help="Feature dimensions, all heads together.",
        show_default=AXIS_DEFAULTS["dim"],
        rich_help_panel=_GRID,
    ),
]
Order = Annotated[
    str | None,
    Option(
        "--order",
        metavar="AXIS",
        help="Polynomial orders (even), of ea-series and sata.",
        show_default=DEFAULT_ORDERS,
        rich_help_panel=_GRID,
    ),
]
Hp = Annotated[
    list[str] | None,
    Option(
        "--hp",
        metavar="NAME=VALUES",
        help="Values of the attentions' own knobs: latents=64,256, or perceiver.latents=64. Repeatable.",
        show_default="each knob's own",
        rich_help_panel=_GRID,
    ),
]
Batch = Annotated[
    str | None,
    Option(
        "--batch",
        metavar="AXIS",
        help="Batch sizes.",
        show_default=AXIS_DEFAULTS["batch"],
        rich_help_panel=_GRID,
    ),
]
Heads = Annotated[
    str | None,
    Option(
        "--heads",
        metavar="AXIS",
        help="Numbers of heads.",
        show_default=AXIS_DEFAULTS["heads"],
        rich_help_panel=_GRID,
    ),
]
Dtype = Annotated[
    str | None,
    Option(
        "--dtype",
        metavar="NAMES",
        help="float32, bfloat16, float16, float64.",
        show_default=AXIS_DEFAULTS["dtype"],
        rich_help_panel=_GRID,
    ),
]
Causal = Annotated[
    list[bool] | None,
    Option(
        "--causal/--no-causal",
        metavar="",
        help="Give both to measure both. Decoding is causal.",
        show_default="no-causal",
        rich_help_panel=_GRID,
    ),
]
Mode = Annotated[
    str | None,
    Option(
        "--mode",
        metavar="NAMES",
        help="forward, train (forward + backward), decode (one token after seq-len others).",
        show_default=AXIS_DEFAULTS["mode"],
        rich_help_panel=_GRID,
    ),
]
Level = Annotated[
    str | None,
    Option(
        "--level",
        metavar="NAMES",
        help="op, layer (with projections), block (with norms and MLP).",
        show_default=AXIS_DEFAULTS["level"],
        rich_help_panel=_GRID,
    ),
]
Cache = Annotated[
    str | None,
    Option(
        "--cache",
        metavar="NAMES",
        help="hot, cold (the last-level cache is flushed before every call).",
        show_default=AXIS_DEFAULTS["cache"],
        rich_help_panel=_GRID,
    ),
]
Ranks = Annotated[
    str | None,
    Option(
        "--ranks",
        metavar="AXIS",
        help="Spread the sequence over so many processes: 1,2,4. Each has --threads threads, or a GPU.",
        show_default="one piece",
        rich_help_panel=_GRID,
    ),
]
DeviceType = Annotated[
    str | None,
    Option(
        "--device-type",
        metavar="NAMES",
        help="With --launcher ray: kinds of device to measure on, each on its own: H100,A100.",
        show_default="any",
        rich_help_panel=_GRID,
    ),
]
Launcher = Annotated[
    str,
    Option(
        "--launcher",
        metavar="NAME",
        help="local: this machine; ray: a Ray cluster, every device a case at a time.",
        rich_help_panel=_RUN,
    ),
]
Address = Annotated[
    str | None,
    Option(
        "--address",
        metavar="ADDRESS",
        help="Of the Ray cluster: host:port of its head, or auto on a node of it.",
        show_default="a cluster of this machine alone",
        rich_help_panel=_RUN,
    ),
]
Device = Annotated[
    str | None,
    Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda.",
        show_default=RUN_DEFAULTS["device"],
        rich_help_panel=_RUN,
    ),
]
Threads = Annotated[
    int | None,
    Option(
        "--threads", metavar="N", help="CPU threads.", show_default="torch's choice", rich_help_panel=_RUN
    ),
]
Quick = Annotated[
    bool, Option("--quick", help="Fewer samples, 15 s per case: a first look.", rich_help_panel=_RUN)
]
Rigorous = Annotated[
    bool,
    Option(
        "--rigorous",
        help="Seven times the effort, spread over the sweep: intervals that hold between runs.",
        rich_help_panel=_RUN,
    ),
]
Timeout = Annotated[
    float | None,
    Option(
        "--timeout",
        metavar="SECONDS",
        help="Time limit per case.",
        show_default=RUN_DEFAULTS["timeout"],
        rich_help_panel=_RUN,
    ),
]
MemoryLimit = Annotated[
    str | None,
    Option(
        "--memory-limit",
        metavar="SIZE",
        help="Share or amount: 80%, 8GiB.",
        show_default=RUN_DEFAULTS["memory-limit"],
        rich_help_panel=_RUN,
    ),
]
Seed = Annotated[
    int | None,
    Option(
        "--seed",
        metavar="N",
        help="Of inputs and of the order of cases.",
        show_default=RUN_DEFAULTS["seed"],
        rich_help_panel=_RUN,
    ),
]
InputStd = Annotated[
    float | None,
    Option(
        "--input-std",
        metavar="STD",
        help="Standard deviation of q, k, v: small ones suit the series.",
        show_default=RUN_DEFAULTS["input-std"],
        rich_help_panel=_RUN,
    ),
]
Output = Annotated[
    Path | None,
    Option(
        "--output",
        "-o",
        metavar="RUN_DIR",
        help="Run directory.",
        show_default="runs/<time>",
        rich_help_panel=_OUT,
    ),
]
Resume = Annotated[bool, Option("--resume", help="Complete an interrupted run.", rich_help_panel=_OUT)]
Force = Annotated[bool, Option("--force", help="Replace an earlier run.", rich_help_panel=_OUT)]
DryRun = Annotated[
    bool, Option("--dry-run", help="Show the cases and an estimate, measure nothing.", rich_help_panel=_OUT)
]
Strict = Annotated[
    bool, Option("--strict", help="Exit with 4 if a case failed with an error.", rich_help_panel=_OUT)
]
AsJson = Annotated[bool, Option("--json", help="One JSON document and nothing else.")]

RunPath = Annotated[Path, Argument(metavar="RUN", help="A run directory.", show_default=False)]
Compared = Annotated[
    str, Argument(metavar="RUN", help="A run directory; with --live, impl A.", show_default=False)
]
OthersCompared = Annotated[
    list[str] | None,
    Argument(
        metavar="OTHER_RUN",
        help="Other runs, each compared with the first case by case; with --live, impl B.",
        show_default=False,
    ),
]
Reference = Annotated[
    str | None,
    Option(
        "--reference", metavar="IMPL", help="What speed-ups are relative to.", show_default="softmax/sdpa"
    ),
]
Metrics = Annotated[
    str | None,
    Option("--metric", metavar="NAMES", help="latency, memory, params.", show_default="all three"),
]
Absolute = Annotated[
    bool,
    Option("--absolute", help="Latencies with their uncertainty, bytes and parameters; no reference."),
]
Where = Annotated[
    list[str] | None,
    Option(
        "--where",
        metavar="AXIS=VALUES",
        help="These cases alone: level=op, dim=64,512, seq-len=1k:8k:x2, latents=64. Repeatable.",
        show_default="all of the run",
    ),
]
Threshold = Annotated[
    str, Option("--threshold", help="Smallest change that counts, between runs and for --fail-on.")
]
FailOn = Annotated[
    str | None,
    Option(
        "--fail-on",
        metavar="NAMES",
        help="slower, memory, failed, error: exit with 3 when one of these was found.",
    ),
]
FormatOption = Annotated[
    Format, Option("--format", "-f", help="How to write the comparison.", case_sensitive=False)
]
ForceCompare = Annotated[bool, Option("--force", help="Compare runs of different devices all the same.")]
Kinds = Annotated[
    str | None,
    Option(
        "--kind",
        metavar="NAMES",
        help="scaling, latency, memory, decode, order, dim, fits, winners, pareto, roofline.",
        show_default="all that the run has data for",
    ),
]
ImageFormats = Annotated[str, Option("--format", "-f", help="png, svg, pdf; comma-separated.")]
PlotDir = Annotated[
    Path | None,
    Option("--output", "-o", metavar="DIR", help="Where the figures go; RUN/plots if not given."),
]
ReportFile = Annotated[
    Path | None,
    Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the report goes; RUN/report.html if not given.",
        show_default=False,
    ),
]
ForceReport = Annotated[bool, Option("--force", help="Replace a file outside of the run's directory.")]
HistoryDir = Annotated[
    Path,
    Argument(
        metavar="DIR", help="A directory of run directories, one or two levels deep.", show_default=False
    ),
]
HistoryMetric = Annotated[str, Option("--metric", metavar="NAME", help="latency or memory.")]
FigureFormats = Annotated[str, Option("--figure", metavar="NAMES", help="png, svg, pdf; comma-separated.")]
HistoryPlotDir = Annotated[
    Path | None,
    Option("--output", "-o", metavar="DIR", help="Where the figure goes; DIR/plots if not given."),
]
ForceHistory = Annotated[bool, Option("--force", help="Take runs of different machines all the same.")]
FigureStyle = Annotated[
    str, Option("--style", help="paper, slides (large letters) or dark (light letters on a dark ground).")
]
FigureSize = Annotated[
    str | None,
    Option(
        "--size",
        help="readme (8 in), single (a column, 3.35 in), double (two, 6.9 in), slide (13.33 x 7.5 in).",
        show_default="slide of slides, else readme",
    ),
]
FigureTitle = Annotated[
    str | None, Option("--title", metavar="TEXT", help="Above every figure, instead of its own; '' for none.")
]
