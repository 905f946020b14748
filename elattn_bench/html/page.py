"""The page itself: one file, all code and data inside, the same bytes for the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from elattn_bench.analysis import in_order
from elattn_bench.html import charts, colours, data, sections, table
from elattn_bench.html.colours import LineLook
from elattn_bench.html.sections import Verdicts
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "report.html.j2"
# Vega's bundle hands its parts to this; the page's script finds them there.
_HAND_OVER = "window.vegaEmbed = vegaEmbed;"


def render(run: Run, verdicts: Verdicts, reference: str) -> str:
    """The page, complete.

    Args:
        run: what was measured.
        verdicts: of it, as ``sections.judge`` makes them.
        reference: what speed-ups are relative to.
    """
    facts = {**_facts(run, verdicts, reference), **_code()}
    return _environment().get_template(TEMPLATE).render(facts)


def _facts(run: Run, verdicts: Verdicts, reference: str) -> dict[str, Any]:
    rows = in_order(run.rows)
    columns = data.columns_of(rows, data.speed_ups(run, reference))
    looks = colours.line_looks(data.lines_of(rows))
    failures = sections.failures(rows)
    return {
        "name": run.name,
        "about": sections.about(run),
        "counts": sections.counts(rows),
        "verdicts": verdicts,
        "reference": reference,
        "failures": failures[: sections.MOST_FAILURES],
        "more_failures": len(failures) - sections.MOST_FAILURES,
        "command": sections.command(run),
        "config": json.dumps(run.info.get("config") or {}, indent=1),
        "tables": sections.machine(run),
        "warnings": run.warnings,
        "looks": looks,
        "grounds": {"light": colours.LIGHT_GROUND, "dark": colours.DARK_GROUND},
        "digits": data.DIGITS,
        "table_caption": table.caption(columns),
        **_chart_facts(rows, columns, looks, verdicts),
    }


def _chart_facts(
    rows: Sequence[Row], columns: Mapping[str, data.Column], looks: Sequence[LineLook], verdicts: Verdicts
) -> dict[str, Any]:
    axes, quantities = charts.axes_of(rows), charts.quantities_of(columns)
    held = [name for name in data.HELD if len(columns[name]["words"]) > 1]
    document = {
        "count": len(rows),
        "columns": columns,
        "start": data.start_of(rows),
        "held": held,
        "fixed": data.HELD,
        "table": table.shown(columns),
        "looks": [
            {
                "color": f"var(--line-{number})",
                "shape": look.shape,
                "letter": look.letter,
                "dashes": look.dashes,
            }
            for number, look in enumerate(looks)
        ],
        "featured": data.featured(rows),
        "chart": charts.parts(axes, quantities),
        "verdicts": [[each.facet.text, each.metric, each.line, each.sentence] for each in verdicts.rest()],
    }
    return {
        "axes": axes, "quantities": quantities, "held": held, "held_words": table.WORDS,
        "unasked": data.UNASKED, "document": document,
    }  # fmt: skip


def _code() -> dict[str, str]:
    """The code of others that the page needs, as it came with their packages."""
    import vl_convert

    tables = resources.files("itables") / "html"
    return {
        "vega": vl_convert.javascript_bundle(_HAND_OVER),
        "datatables": (tables / "dt_bundle.js").read_text(encoding="utf-8"),
        "datatables_css": (tables / "dt_bundle.css").read_text(encoding="utf-8"),
    }


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("elattn_bench.html", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["json_in_script"] = json_in_script
    environment.filters["code_in_script"] = code_in_script
    environment.filters["code_in_style"] = code_in_style
    return environment


def json_in_script(document: Mapping[str, Any]) -> Any:
    """JSON that stays data within ``<script>``, whatever its strings hold: no end tag, no comment, ASCII alone."""
    from markupsafe import Markup

    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def code_in_script(code: str) -> Any:
    """Code of a library that does not end its own ``<script>``; the escapes mean the same in its strings."""
    from markupsafe import Markup

    return Markup(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def code_in_style(code: str) -> Any:
    """Style sheets of a library that do not end their own ``<style>``."""
    from markupsafe import Markup

    return Markup(code.replace("</style", "<\\/style"))
