"""The report in a real Chromium: it draws, filters, and asks nobody for anything; it fits, and it can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile_run import HOSTILE, make_hostile

from elattn_bench.analysis import Facet
from elattn_bench.html import page, sections
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(Path.exists, map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
REFERENCE = "softmax/sdpa"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium at /usr/bin: apt install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(wide_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(wide_run, tmp_path_factory.mktemp("report"))


def write(run: Run, directory: Path) -> Path:
    verdicts = [
        sections.Verdict(facet, "latency", "linear/eager", f"linear/eager in {facet.text}")
        for facet in dict.fromkeys(map(Facet.of, run.rows))
    ]
    target = directory / "report.html"
    target.write_text(page.render(run, sections.Verdicts(verdicts), REFERENCE), encoding="utf-8")
    return target


class Opened:
    """A report on a screen, and all that it said and asked for."""

    def __init__(self, browser: Browser, file: Path, *, width: int = 1200, scheme: str = "light") -> None:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.set_default_timeout(15_000)
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-table=ready]", state="attached")

    def choose(self, **values: str) -> None:
        """Set controls, and wait for the chart that each of them makes."""
        for name, value in values.items():
            drawn = self.drawings
            self.page.select_option(
                f"#{name.replace('_scale', '-scale').replace('held_', 'held-')}", label=value
            )
            self.page.wait_for_function(f"Number(document.documentElement.dataset.chart) > {drawn}")

    def untick(self, line: str) -> None:
        drawn = self.drawings
        self.page.get_by_role("checkbox", name=line, exact=True).uncheck()
        self.page.wait_for_function(f"Number(document.documentElement.dataset.chart) > {drawn}")

    @property
    def drawings(self) -> int:
        return int(self.page.evaluate("Number(document.documentElement.dataset.chart)"))

    @property
    def lines(self) -> int:
        return self.page.locator("#chart .mark-line path").count()

    def color(self, selector: str, name: str) -> str:
        return str(self.page.locator(selector).first.evaluate(f"each => getComputedStyle(each)['{name}']"))


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    report = Opened(browser, file)
    yield report
    assert report.said == []
    assert {url.partition(":")[0] for url in report.asked} == {"file", "blob"}
    assert sum(url.startswith("file:") for url in report.asked) == 1
    report.page.context.close()


def test_the_chart_has_a_line_per_ticked_implementation_and_a_text_for_it(opened: Opened) -> None:
    assert opened.lines == opened.page.locator("#lines input:checked").count() == 7
    name = (
        opened.page.locator("#chart [role=graphics-document], #chart[role=graphics-document]").get_attribute(
            "aria-label"
        )
        or ""
    )
    assert "Latency against sequence length" in name
    assert "linear/eager" in name


def test_unticking_a_line_takes_it_from_the_chart_and_keeps_the_keyboard_there(opened: Opened) -> None:
    opened.untick("linear/eager")
    assert opened.lines == 6
    assert opened.page.evaluate("document.activeElement.value") == "linear/eager"
    opened.page.get_by_role("button", name="none").click()
    opened.page.wait_for_function("document.querySelectorAll('#chart .mark-line path').length == 0")
    opened.page.get_by_role("button", name="all", exact=True).click()
    opened.page.wait_for_function("document.querySelectorAll('#chart .mark-line path').length == 7")


def test_axes_and_scales_are_chosen_by_controls(opened: Opened) -> None:
    opened.choose(y="peak memory")
    assert "MiB" in opened.page.locator("#chart").inner_text()
    opened.choose(x="dimension")
    assert opened.page.locator("#chart-title").inner_text() == "Peak memory against dimension"
    assert opened.page.locator("#held-dim").is_hidden()
    opened.choose(x="polynomial order", y_scale="linear", x_scale="linear")
    assert opened.page.locator("#lines").inner_text().split() == ["▲", "ea-series/eager"] or opened.lines == 1


def test_a_combination_that_was_measured_is_always_shown(opened: Opened) -> None:
    opened.choose(held_mode="train")
    opened.choose(held_level="layer")
    assert opened.lines == 7
    assert opened.page.locator("#chart-setting").inner_text().startswith("layer, train")


def test_hovering_a_point_shows_its_numbers(opened: Opened) -> None:
    opened.page.locator("#chart .mark-symbol").last.locator("path").first.hover(force=True)
    shown = opened.page.locator("#vg-tooltip-element")
    shown.wait_for()
    assert re.search(r"median latency\s+[\d.]+ (µs|ms|s)", shown.inner_text())
    assert "quartiles" in shown.inner_text()


def test_the_table_sorts_and_filters(opened: Opened, wide_run: Run) -> None:
    info = opened.page.locator(".dt-info")
    assert f"of {len(wide_run.rows)} entries" in info.inner_text()
    opened.page.get_by_label("Search:").fill("linear/eager")
    opened.page.wait_for_function("document.querySelector('.dt-info').textContent.includes('filtered')")
    count = sum(row.attention == "linear" for row in wide_run.rows)
    assert f"of {count} entries" in info.inner_text()
    heading = opened.page.locator("#rows thead th", has_text="median, ms")
    place = opened.page.locator("#rows thead th").all_inner_texts().index(heading.inner_text())
    for _ in range(2):
        heading.locator(".dtcc-button").first.click()
    cells = opened.page.locator(f"#rows tbody td:nth-child({place + 1})").all_inner_texts()
    numbers = [float(cell) for cell in cells if cell]
    assert len(numbers) > 10
    assert numbers in (sorted(numbers), sorted(numbers, reverse=True))


def test_a_column_has_a_filter_of_its_own(opened: Opened, wide_run: Run) -> None:
    heading = opened.page.locator("#rows thead th", has_text="mode")
    heading.locator(".dtcc-button_dropdown").click()
    opened.page.locator(".dtcc-dropdown").get_by_text("train", exact=True).click()
    opened.page.wait_for_function("document.querySelector('.dt-info').textContent.includes('filtered')")
    count = sum(row.mode == "train" for row in wide_run.rows)
    assert f"of {count} entries" in opened.page.locator(".dt-info").inner_text()


def test_the_other_verdicts_open_as_a_table(opened: Opened) -> None:
    opened.page.locator("#more-verdicts summary").click()
    opened.page.locator("#verdicts tbody td").first.wait_for()
    assert "of 23 entries" in opened.page.locator("#more-verdicts .dt-info").inner_text()


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_never_scrolls_sideways(browser: Browser, file: Path, width: int) -> None:
    opened = Opened(browser, file, width=width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    box = opened.page.locator("#chart svg").bounding_box()
    assert box is not None
    assert box["width"] <= width
    opened.page.context.close()


def test_a_dark_page_turns_light_on_paper_without_a_new_chart(browser: Browser, file: Path) -> None:
    opened = Opened(browser, file, scheme="dark")
    line = "#chart .mark-line path"
    assert opened.color("body", "backgroundColor") == "rgb(20, 23, 28)"
    on_dark = opened.color(line, "stroke")
    opened.page.emulate_media(media="print")
    assert opened.color("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert opened.color(line, "stroke") != on_dark
    assert opened.page.locator("#controls").is_hidden()
    assert opened.page.locator("#chart svg").is_visible()
    opened.page.context.close()


def test_every_control_can_be_reached_by_the_keyboard(opened: Opened) -> None:
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(40):
        opened.page.keyboard.press("Tab")
        reached.add(opened.page.evaluate("document.activeElement.id || document.activeElement.value"))
    visible = "[...document.querySelectorAll('#controls select')].filter(each => each.offsetParent)"
    controls = opened.page.evaluate(f"{visible}.map(each => each.id)")
    assert len(controls) == 8
    assert {*controls, "linear/eager", "all-lines"} <= reached


def test_a_hostile_run_is_shown_as_text(browser: Browser, run: Run, tmp_path: Path) -> None:
    opened = Opened(browser, write(make_hostile(run), tmp_path))
    assert opened.said == []
    assert opened.page.title() == f"{run.name} - elattn-bench"
    assert opened.page.locator("img").count() == 0
    assert HOSTILE[:20] in opened.page.locator("#lines").inner_text()
    opened.page.get_by_label("Search:").fill("onerror")
    opened.page.wait_for_function("document.querySelector('.dt-info').textContent.includes('filtered')")
    assert HOSTILE[:20] in opened.page.locator("#rows tbody").inner_text()
    opened.page.locator("#rows thead .dtcc-button_dropdown").first.click()
    assert HOSTILE[:20] in opened.page.locator(".dtcc-dropdown").inner_text()
    assert opened.page.title() == f"{run.name} - elattn-bench"
    assert opened.page.locator("img").count() == 0
    opened.page.context.close()
