"""The bodies of ``list``, ``env`` and ``selftest``: what there is, where, and whether it measures right."""

from __future__ import annotations

import typer

from elattn_bench.commands import screen


def list_attentions(*, as_json: bool) -> None:
    """Every attention and backend, and whether it can run here."""
    from elattn_bench import catalogue
    from elattn_bench.tables import listings, render

    entries = catalogue.attentions()
    if as_json:
        typer.echo(render.to_json(entries), nl=False)
    else:
        render.show(listings.attentions_report(entries), "table", screen.stdout())


def env(device: str, *, as_json: bool) -> None:
    """The machine and its ceilings as a run would record them."""
    from elattn_bench import catalogue
    from elattn_bench.tables import listings, render

    described = catalogue.machine(device)
    if as_json:
        typer.echo(render.to_json(described), nl=False)
    else:
        render.show(listings.environment_report(described), "table", screen.stdout())


def selftest(device: str, threads: int | None, *, as_json: bool) -> None:
    """The tool measured by attentions whose truth is known."""
    from elattn_bench import runner
    from elattn_bench import selftest as known
    from elattn_bench.tables import render

    with runner.interruptible():
        checks = known.run(device, threads, screen.stderr())
    render.show(known.report(checks), "json" if as_json else "table", screen.stdout())
    if not all(check.passed for check in checks):
        raise typer.Exit(1)
