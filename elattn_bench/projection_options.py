"""The options that ``project`` alone has."""

from __future__ import annotations

from typing import Annotated

from typer import Option

Tokens = Annotated[
    str,
    Option("--tokens", metavar="AXIS", help="Lengths to project: 1M,1G; k = 1024, M = 1024 k, G = 1024 M."),
]
ProjectedRanks = Annotated[
    str, Option("--ranks", metavar="AXIS", help="Numbers of ranks to spread each over: 8,64,512.")
]
AssumedLink = Annotated[
    str | None,
    Option(
        "--link",
        metavar="LATENCY,BANDWIDTH",
        help="Assume this link between ranks, as 5us,50GB/s, in place of the one that the run measured.",
        show_default="as measured",
    ),
]
RankMemory = Annotated[
    str | None,
    Option(
        "--memory",
        metavar="SIZE",
        help="What one rank's device holds: 80GiB, 50%.",
        show_default="all of the run's machine",
    ),
]
