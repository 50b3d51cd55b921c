"""The HTML report in a real browser: its filters, its looks at any width, and that data stays data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsing import opened
from run_fixture import write_run
from run_fixture_data import HOSTILE

from breakeven.harness import labels
from breakeven.harness.results import load
from breakeven.reports.html import html

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("hostile"), hostile=True, seeds=(0, 1), extra_output=1_000_000)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several training sizes, and adapters that were asked what they forgot."""
    folder = tmp_path_factory.mktemp("grown")
    return written(folder, train_sizes=(20, 40, 80, 160), transfer=True, seeds=(0, 1), failing=False)


def written(folder: Path, **options: Any) -> Path:
    run = write_run(folder / "run", **options)
    file = folder / "report.html"
    file.write_text(html(load(run)), encoding="utf-8")
    return file


def wrong_and_right(run: Path, cell: str) -> list[bool]:
    results = load(run)
    task = results.tasks[results.cells[cell].task]
    return [score >= task.correct_at for score in results.cells[cell].scores(task.primary.name)]


# --- filters ---------------------------------------------------------------------------------


def test_the_first_examples_are_shown_page_by_page(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    assert report.count("examples") == "1 to 10 of 48 examples"
    report.page.click("#x-next")
    assert report.count("^11") == "11 to 20 of 48 examples"
    assert report.page.locator("#x-list article").count() == 10


def test_text_is_found_in_inputs_references_and_outputs(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    report.page.fill("#x-text", "GHENT")
    report.count("of 6 examples, 48 in all")
    assert "Ghent" in report.page.locator("#x-list article").first.inner_text()


def test_x_right_and_y_wrong_shows_exactly_those_examples(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    report.page.select_option("#x-mode", "pair")
    report.page.select_option("#x-right", "lora")
    report.page.select_option("#x-wrong", "zero-shot")
    cells = [f"support_intents--{name}" for name in ("lora--s0", "zero-shot")]
    lora, zero = (wrong_and_right(plain.parent / "run", cell) for cell in cells)
    wanted = sum(a and not b for a, b in zip(lora, zero, strict=True))
    report.count(f"of {wanted} examples")


def test_all_wrong_shows_examples_that_no_strategy_got_right(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    report.page.select_option("#x-task", "1")
    report.page.select_option("#x-mode", "wrong")
    report.count("in all")
    assert report.page.locator("#x-list .verdict.no").count() > 0
    assert report.page.locator("#x-list .verdict.yes").count() == 0


def test_examples_that_most_answer_alike_and_all_answer_otherwise_can_be_shown(
    browser: Any, plain: Path
) -> None:
    report = opened(browser, plain)
    report.count("examples")
    results = load(plain.parent / "run")
    found = labels.contradicted(results.tables["recipe_ingredients"], results.tasks["recipe_ingredients"])
    assert found.agreed
    report.page.select_option("#x-task", "2")
    report.page.select_option("#x-mode", "agree")
    report.count(f"of {len(found.agreed)} examples")
    report.page.select_option("#x-mode", "wrong")
    report.count(f"of {len(found.all)} examples")


def test_a_link_in_the_checklist_shows_what_all_contradict(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    link = report.page.locator("#task-2 .checklist a[data-mode]")
    report.page.locator("#task-2 summary", has_text="Checklist").click()
    link.click()
    report.count("in all")
    assert report.page.locator("#x-task").input_value() == "1"
    assert report.page.locator("#x-mode").input_value() == link.get_attribute("data-mode")
    assert report.page.locator("#x-list .verdict.yes").count() == 0


def test_a_label_in_the_table_of_the_worst_shows_its_examples(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    report.page.locator("#task-1 summary", has_text="Worst labels").click()
    link = report.page.locator("#task-1 a[data-label]").first
    link.click()
    report.count("in all")
    references = {a.locator("p.data").last.inner_text() for a in report.page.locator("#x-list article").all()}
    assert references == {link.get_attribute("data-label")}


def test_examples_can_be_chosen_by_their_reference(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    report.page.select_option("#x-label", "refund")
    report.count("in all")
    articles = report.page.locator("#x-list article")
    assert {"refund"} == {a.locator("p.data").last.inner_text() for a in articles.all()}


def test_all_tasks_can_be_searched_at_once(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    report.page.select_option("#x-task", "all")
    report.count("of 144 examples")


def test_a_link_in_the_table_shows_what_was_won_against_the_reference(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    link = report.page.locator('#task-2 a[data-right="rag"]')
    link.click()
    report.count("in all")
    assert report.page.locator("#x-task").input_value() == "1"
    assert report.page.locator("#x-right").input_value() == "rag"


def test_shown_passages_open_on_demand(browser: Any, plain: Path) -> None:
    from playwright.sync_api import expect

    report = opened(browser, plain)
    report.count("examples")
    report.page.select_option("#x-task", "1")
    passages = report.page.locator("#x-list details").first
    passages.locator("summary").click()
    expect(passages.locator("p")).to_have_count(3)


def test_seeds_that_answered_alike_share_a_line(browser: Any, hostile: Path) -> None:
    report = opened(browser, hostile)
    report.count("examples")
    assert "all 2 seeds" in report.page.locator("#x-list").inner_text()


def test_filters_and_pages_can_be_used_by_keyboard(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    report.count("examples")
    report.page.locator("#x-next").focus()
    report.page.keyboard.press("Enter")
    assert report.count("^11") == "11 to 20 of 48 examples"


# --- hostile data ----------------------------------------------------------------------------


def test_hostile_data_executes_nothing(browser: Any, hostile: Path) -> None:
    report = opened(browser, hostile)
    report.count("examples")
    for task in ("0", "1", "2"):
        report.page.select_option("#x-task", task)
        report.count("examples")
        for box in report.page.locator("#x-list details > summary").all()[:3]:
            box.click()
    assert report.page.evaluate("window.hacked") is None


def test_hostile_data_is_shown_as_it_is(browser: Any, hostile: Path) -> None:
    report = opened(browser, hostile)
    report.count("examples")
    assert HOSTILE[0] in report.page.locator("#x-list").inner_text()


def test_an_output_of_a_megabyte_is_cut_with_a_note(browser: Any, hostile: Path) -> None:
    report = opened(browser, hostile)
    report.count("examples")
    note = report.page.locator("#x-list .note").first.inner_text()
    assert re.search(r"99\d,\d{3} more characters in cells/.*/predictions.jsonl", note)
    assert hostile.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ["plain", "hostile", "grown"])
def test_nothing_is_requested_and_nothing_complains(
    browser: Any, name: str, request: pytest.FixtureRequest
) -> None:
    file = request.getfixturevalue(name)
    report = opened(browser, file)
    report.count("examples")
    report.page.select_option("#x-task", "1" if name == "hostile" else "all")
    report.count("examples")
    assert report.complaints == []
    assert [url for url in report.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in report.requests if url.startswith("file:")]) == 1


def test_the_policy_stops_a_request_that_something_would_make(browser: Any, plain: Path) -> None:
    report = opened(browser, plain)
    said = report.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert said == "refused"
    assert any("Content Security Policy" in line for line in report.complaints)


# --- looks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 400, 800, 1280, 1600])
@pytest.mark.parametrize("name", ["plain", "hostile", "grown"])
def test_the_page_never_scrolls_sideways(
    browser: Any, name: str, width: int, request: pytest.FixtureRequest
) -> None:
    report = opened(browser, request.getfixturevalue(name), width)
    report.count("examples")
    assert report.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "shown", "hidden"), [(400, "narrow", "wide"), (1280, "wide", "narrow")])
def test_the_plot_that_fits_is_shown(browser: Any, plain: Path, width: int, shown: str, hidden: str) -> None:
    report = opened(browser, plain, width)
    assert report.page.locator(f"svg.{shown}").first.is_visible()
    assert not report.page.locator(f"svg.{hidden}").first.is_visible()


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["plain", "grown"])
def test_labels_in_the_plots_do_not_overlap(
    browser: Any, name: str, width: int, request: pytest.FixtureRequest
) -> None:
    report = opened(browser, request.getfixturevalue(name), width)
    overlaps = report.page.evaluate(
        """() => [...document.querySelectorAll("svg.figure")].flatMap((figure) => {
            const texts = [...figure.querySelectorAll("text")];
            const boxes = texts.map((t) => [t.textContent, t.getBoundingClientRect()]);
            return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
                p.width && q.width && Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 &&
                Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3).map(([b]) => `${a} over ${b}`));
        })"""
    )
    assert overlaps == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["plain", "grown"])
def test_text_contrast_is_at_least_aa(
    browser: Any, name: str, theme: str, request: pytest.FixtureRequest
) -> None:
    report = opened(browser, request.getfixturevalue(name), color_scheme=theme)
    report.count("examples")
    poor = report.page.evaluate(CONTRAST)
    assert poor == []


@pytest.mark.parametrize(("width", "theme"), [(400, "dark"), (1600, "light")])
@pytest.mark.parametrize("report", ["plain", "grown", "hostile"])
def test_axe_finds_nothing_serious(
    browser: Any, request: pytest.FixtureRequest, report: str, width: int, theme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    seen = opened(browser, request.getfixturevalue(report), width, color_scheme=theme)
    seen.count("examples")
    seen.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = Axe().run(seen.page).response["violations"]
    serious = {v["id"]: v["nodes"][0]["html"][:200] for v in found if v["impact"] in ("serious", "critical")}
    assert not serious


def test_without_javascript_tables_plots_and_first_examples_are_there(browser: Any, plain: Path) -> None:
    report = opened(browser, plain, java_script_enabled=False)
    assert report.page.locator("table.results").count() == 3
    assert report.page.locator("svg.wide").first.is_visible()
    assert report.page.locator("article.example").count() == 30
    assert not report.page.locator("#explorer").is_visible()


def test_learning_curves_and_side_effects_need_no_script(browser: Any, grown: Path) -> None:
    report = opened(browser, grown, java_script_enabled=False)
    task = report.page.locator("#task-1")
    assert task.locator(".learning svg.wide").is_visible()
    assert task.locator(".learning tbody tr").count() == 6
    assert task.locator(".told li").first.is_visible()
    assert task.locator(".effects .effect.hurts").first.is_visible()


@pytest.mark.parametrize("width", [400, 1280])
def test_every_mark_and_bar_of_a_learning_curve_lies_within_its_picture(
    browser: Any, grown: Path, width: int
) -> None:
    report = opened(browser, grown, width)
    outside = report.page.evaluate(
        """() => [...document.querySelectorAll(".learning svg.figure")].flatMap((figure) => {
            const f = figure.getBoundingClientRect();
            return [...figure.querySelectorAll("*")].filter((n) => {
                const b = n.getBoundingClientRect();
                return f.width && (b.left < f.left - 1 || b.right > f.right + 1 || b.top < f.top - 1
                    || b.bottom > f.bottom + 1);
            }).map((n) => n.outerHTML);
        })"""
    )
    assert outside == []


@pytest.mark.parametrize("width", [400, 1600])
def test_what_tuning_did_is_seen_without_scrolling_its_table(browser: Any, grown: Path, width: int) -> None:
    report = opened(browser, grown, width)
    table = report.page.locator("#task-1 .scroll", has=report.page.locator(".effects"))
    assert table.evaluate("(box) => box.scrollWidth - box.clientWidth") <= 0


#: Texts whose contrast with their background is under 4.5 (WCAG 2.2, 1.4.3); backgrounds here are opaque.
CONTRAST = """() => {
  const channels = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = channels(c).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const c = channels(getComputedStyle(n).backgroundColor);
      if (c.length === 3 || c[3] > 0) return getComputedStyle(n).backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = new Set();
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !node.getClientRects().length) continue;
    if (node.disabled || node.closest("option, script, noscript")) continue;
    const style = getComputedStyle(node), ink = node.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.add(node.outerHTML.slice(0, 80));
  }
  return [...poor];
}"""
