"""The page decides as Python does: the same numbers, the same words, at whatever its knobs are turned to."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from browsing import Opened, opened
from run_fixture import write_run
from run_fixture_data import HOSTILE

from breakeven.harness import cases, evidence, volumes, wording
from breakeven.harness.decision import Case, Threshold, decide, thresholds, worth_that_overturns
from breakeven.harness.evidence import Evidence, Name, Sentence
from breakeven.harness.ownership import Knobs
from breakeven.harness.results import load
from breakeven.reports.html import html

pytestmark = pytest.mark.browser

#: Settings that differ in everything the rule looks at.
SETTINGS: dict[str, tuple[str, ...]] = {
    "by cost, nothing in service": (),
    "by value, something in service, a floor": (
        "value_per_correct=0.05",
        "incumbent=zero-shot",
        "quality_floor=0.12",
        "growth_per_month=0.03",
    ),
    "dedicated machines, retraining": (
        "serving=dedicated",
        "peak_per_second=3",
        "adapters_per_machine=2",
        "retrain_every_months=5",
        "incumbent=few-shot-similar",
        "hardware=cpu-2",
    ),
    "an API, today as stated": (
        "value_per_correct=0.002",
        "incumbent={name: today, quality: 0.6, cost_per_1000: 1.2}",
        "margin=0.05",
    ),
}
TASKS = ("support_intents", "handbook_qa")
TURNS = 4  # of the knobs, for each setting and task


def write(folder: Path, setting: str) -> Path:
    """The page of a run at a setting; what an API serves where the setting says so."""
    run = write_run(folder / "run", tasks=TASKS, failing=False, examples=40, seeds=(0, 1))
    if setting.startswith("an API"):
        info = json.loads((run / "run.json").read_text(encoding="utf-8"))
        info["models"]["default"] |= {"data_goes_to": "api.example.org", "price_as": "example/small"}
        info["price_book"]["tokens"] = {
            "example/small": {"input": 0.15, "output": 0.6, "currency": "USD", "date": "2026-10-01",
                              "source": "https://example.org/api"}
        }  # fmt: skip
        (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(html(load(run, changes=SETTINGS[setting])), encoding="utf-8")
    return page


@dataclass(frozen=True)
class Page:
    """A page that is open in the browser, and what Python knows of the same run."""

    opened: Opened
    cases: dict[str, tuple[Case, Evidence]]

    def ask(self, task: str, script: str, **arguments: Any) -> Any:
        """The value of a script in which `c` is the task's case."""
        position = list(self.cases).index(task)
        code = (
            f"([k, given]) => {{ const c = breakeven.decisions[k].case; {FINITE} return finite({script}); }}"
        )
        return self.opened.page.evaluate(code, [position, arguments])


#: JSON has no infinity.
FINITE = """const finite = (x) => x === Infinity ? "inf" : ArrayBuffer.isView(x) ? [...x].map(finite)
  : Array.isArray(x) ? x.map(finite)
  : x && typeof x === "object" ? Object.fromEntries(Object.entries(x).map(([k, v]) => [k, finite(v)])) : x;"""


@pytest.fixture(scope="module", params=SETTINGS)
def page(request: pytest.FixtureRequest, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Page:
    file = write(tmp_path_factory.mktemp("decision"), request.param)
    results = load(file.parent / "run", changes=SETTINGS[request.param])
    known = {}
    for name in results.tasks:
        case = cases.of_task(results, name)
        assert case is not None
        known[name] = (case, evidence.of_task(results, name, case))
    return Page(opened(browser, file), known)


def turned(seed: str) -> list[Knobs]:
    """Settings of the knobs at random."""
    rng = random.Random(seed)

    def between(low: float, high: float) -> float:
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")

    return [
        Knobs(
            between(10, 1e8),
            rng.randint(1, 48),
            None if rng.random() < 0.4 else between(1e-5, 2),
            between(0.05, 20),
            between(0.05, 20),
        )
        for _ in range(TURNS)
    ]


def near(found: Any, wanted: Any, where: str = "", scale: float = 0.0) -> None:
    """Equal to 1e-9, relative; of money that is a difference, relative to what it is the difference of."""
    if isinstance(wanted, dict):
        assert set(found) == set(wanted), where
        for key, value in wanted.items():
            near(found[key], value, f"{where}.{key}", scale)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), (where, found, wanted)
        for k, value in enumerate(wanted):
            near(found[k], value, f"{where}[{k}]", scale)
    elif isinstance(wanted, bool) or wanted is None or isinstance(wanted, str):
        assert found == wanted, where
    elif wanted == math.inf:
        assert found == "inf", where
    else:
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9 * scale), where


def parts(sentence: Sentence) -> list[Any]:
    return [[str(p)] if isinstance(p, Name) else p for p in sentence if p != ""]


def said(sentences: Sequence[Sentence]) -> list[list[Any]]:
    return [parts(s) for s in sentences]


def threshold(x: Threshold) -> dict[str, Any]:
    return {k: getattr(x, k) for k in ("knob", "side", "at", "to", "low", "high", "never")}


# --- the same numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_draws_are_the_same_doubles(page: Page, task: str) -> None:
    case, _ = page.cases[task]
    for kind in ("score", "worth", "tokens", "seconds"):
        assert page.ask(task, f"c.{kind}.map((x) => [...x])") == getattr(case.draws, kind).tolist()


@pytest.mark.parametrize("task", TASKS)
def test_the_verdict_has_the_same_numbers(page: Page, task: str) -> None:
    case, _ = page.cases[task]
    for knobs in turned(f"verdict {task}"):
        wanted = asdict(decide(case, knobs))
        found = page.ask(task, "breakeven.decide(c, given.knobs)", knobs=asdict(knobs))
        scale = max((abs(m) for m in wanted["mean"] if m is not None), default=0.0)
        near(found, wanted, str(knobs), scale if knobs.value is not None else 0.0)


@pytest.mark.parametrize("task", TASKS)
def test_what_overturns_it_has_the_same_numbers(page: Page, task: str) -> None:
    case, _ = page.cases[task]
    for knobs in turned(f"thresholds {task}"):
        choice = decide(case, knobs).choice
        assert choice is not None
        given = {"knobs": asdict(knobs), "choice": choice}
        found = page.ask(task, "breakeven.thresholds(c, given.choice, given.knobs)", **given)
        near(found, [threshold(x) for x in thresholds(case, choice, knobs)], str(knobs))
        worth = worth_that_overturns(case, choice, knobs)
        found = page.ask(task, "breakeven.worthThatOverturns(c, given.choice, given.knobs)", **given)
        near(found, None if worth is None else threshold(worth), str(knobs))


@pytest.mark.parametrize("task", TASKS)
def test_costs_and_break_even_volumes_have_the_same_numbers(page: Page, task: str) -> None:
    case, _ = page.cases[task]
    everyone = range(len(case.candidates))
    for knobs in turned(f"volumes {task}"):
        found = page.ask(
            task, "c.candidates.map((_, i) => breakeven.cost(c, i, given.knobs))", knobs=asdict(knobs)
        )
        near(found, [case.cost(i, knobs) for i in everyone], str(knobs))
        pairs = [(i, j) for i in everyone for j in everyone if i != j][:: TURNS + 2]
        found = page.ask(
            task,
            "given.pairs.map(([i, j]) => breakeven.cheaper(c.candidates[i], c.candidates[j], c.economics,"
            " given.knobs))",
            knobs=asdict(knobs),
            pairs=pairs,
        )
        owned = [c.ownership for c in case.candidates]
        wanted = [volumes.cheaper(owned[i], owned[j], case.economics, knobs).intervals for i, j in pairs]
        near(found, wanted, str(knobs))


# --- the same words --------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_words_are_the_same_string_by_string(page: Page, task: str) -> None:
    case, known = page.cases[task]
    for knobs in [case.knobs, *turned(f"words {task}")]:
        told = wording.told(case, known, knobs)
        found = page.ask(task, "breakeven.told(c, given.knobs)", knobs=asdict(knobs))
        assert found["answer"] == told.answer
        for key in ("headline", "basis"):
            assert [p for p in found[key] if p != ""] == parts(getattr(told, key))
        for key in ("why", "flips", "testing"):
            assert found[key] == said(getattr(told, key))
        assert found["overview"] == list(told.overview)


def test_one_strategy_alone_is_said_alike(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tasks=TASKS[:1], strategies=("logistic-regression",), failing=False)
    results, file = load(run), tmp_path / "report.html"
    file.write_text(html(results), encoding="utf-8")
    found = opened(browser, file).page.evaluate(
        "() => breakeven.told(breakeven.decisions[0].case, breakeven.decisions[0].knobs)"
    )
    told = wording.of_task(results, TASKS[0])
    assert [p for p in found["headline"] if p != ""] == parts(told.headline)
    assert (found["basis"], found["flips"], found["testing"]) == (parts(told.basis), [], [])
    assert (found["answer"], found["overview"]) == (told.answer, list(told.overview))


def test_turning_nothing_changes_nothing_on_the_page(page: Page) -> None:
    look = """() => [...document.querySelectorAll("[data-case], [data-overview]")].map((root) => {
      const copy = root.cloneNode(true);
      for (const node of copy.querySelectorAll(".knobs, [role=status]")) node.remove();
      const drawn = [...copy.querySelectorAll("svg.figure, .headline, ul")];
      return [copy.textContent.replace(/\\s+/g, " "), drawn.map((x) => x.outerHTML)];
    })"""
    before = page.opened.page.evaluate(look)
    page.opened.page.evaluate("() => breakeven.decisions.forEach((d) => d.update())")
    after = page.opened.page.evaluate(look)
    for (text, drawn), (text_after, drawn_after) in zip(before, after, strict=True):
        assert re.sub(r"\s", "", text) == re.sub(r"\s", "", text_after)
        assert drawn_after == drawn


@pytest.mark.parametrize(
    "value", [0.0, 0.5, 1.5, 2.5, 0.125, 0.996, 99.995, 1234.5, 1e-7, 0.00034, -2.5, 1e9, 0.25, 7.0, 12.3]
)
def test_numbers_are_said_alike(page: Page, value: float) -> None:
    from breakeven.harness import formats as f

    found = page.ask(
        "support_intents",
        "[breakeven.money(c, given.x), breakeven.count(given.x), breakeven.percent(given.x),"
        " given.x > 0 ? breakeven.times(given.x) : '', given.x > 0 ? breakeven.volume(given.x) : '']",
        x=value,
    )
    positive = [f.times(value), f.volume(value)] if value > 0 else ["", ""]
    assert found == [f.money(value, "USD"), f.count(value), f.percent(value), *positive]


# --- knobs -----------------------------------------------------------------------------------


def slider(report: Opened, knob: str) -> Any:
    return report.page.locator(f'[data-case="0"] input[data-knob="{knob}"]')


def push(report: Opened, knob: str, key: str, times: int = 1) -> None:
    slider(report, knob).focus()
    for _ in range(times):
        report.page.keyboard.press(key)


@pytest.fixture
def plain(browser: Any, tmp_path: Path) -> Opened:
    quality = {"zero-shot": 0.2, "few-shot-similar": 0.5, "lora": 0.95}
    run = write_run(
        tmp_path / "run",
        tasks=["support_intents"],
        strategies=tuple(quality),
        examples=100,
        failing=False,
        quality={name: {"support_intents": share} for name, share in quality.items()},
    )
    file = tmp_path / "report.html"
    changes = ["value_per_correct=0.2", "requests_per_month=20000"]
    file.write_text(html(load(run, changes=changes)), encoding="utf-8")
    return opened(browser, file)


def headline(report: Opened) -> str:
    return str(report.page.locator('[data-case="0"] [data-role="headline"]').inner_text())


def test_moving_a_slider_moves_the_verdict(plain: Opened) -> None:
    from playwright.sync_api import expect

    assert headline(plain).startswith("YES, at 20,000 requests a month. Take lora")
    push(plain, "requests", "Home")
    expect(plain.page.locator('[data-case="0"] [data-role="headline"]')).to_have_text(
        re.compile(r"^NO\. Take zero-shot")
    )
    assert plain.page.locator('[data-case="0"] .small-table tr.chosen bdi').first.inner_text() == "zero-shot"


def test_a_slider_says_its_value_in_words(plain: Opened) -> None:
    push(plain, "value", "Home")
    assert slider(plain, "value").get_attribute("aria-valuetext") == "not said"
    push(plain, "months", "ArrowRight")
    assert plain.page.locator('[data-said="months"]').inner_text() == "13 months"
    push(plain, "machine", "End")
    assert "1,000 times its price" in str(slider(plain, "machine").get_attribute("aria-valuetext"))


def test_every_slider_has_a_name(plain: Opened) -> None:
    for name in ("Requests a month", "Worth of a correct answer", "Horizon", "An hour of cpu-2"):
        assert plain.page.get_by_role("slider", name=name).count() == 1


def test_the_new_answer_is_announced_politely(plain: Opened) -> None:
    from playwright.sync_api import expect

    push(plain, "requests", "Home")
    status = plain.page.locator('[data-case="0"] [role="status"]')
    expect(status).to_have_text(re.compile("^NO. Take zero-shot"))
    assert status.get_attribute("aria-live") == "polite"


def test_tables_and_figures_follow(plain: Opened) -> None:
    from playwright.sync_api import expect

    decision = plain.page.locator('[data-case="0"]')
    before = [
        decision.locator(f'[data-role="{role}"] svg.wide').inner_html() for role in ("quality", "volume")
    ]
    push(plain, "months", "ArrowRight", 12)
    expect(decision.locator('.costs [data-role="months"]')).to_have_text("24 months")
    after = [
        decision.locator(f'[data-role="{role}"] svg.wide').inner_html() for role in ("quality", "volume")
    ]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_back_to_the_settings_of_the_run_restores_the_answer(plain: Opened) -> None:
    from playwright.sync_api import expect

    before = headline(plain)
    push(plain, "requests", "Home")
    push(plain, "value", "End")
    plain.page.get_by_role("button", name="Back to the settings of the run").click()
    expect(plain.page.locator('[data-case="0"] [data-role="headline"]')).to_have_text(before)


def test_printed_sliders_are_text(plain: Opened) -> None:
    push(plain, "months", "ArrowRight")
    plain.page.emulate_media(media="print")
    assert not slider(plain, "months").is_visible()
    assert plain.page.locator('[data-said="months"]').is_visible()
    assert plain.page.locator('[data-said="months"]').inner_text() == "13 months"


def test_the_answer_of_one_task_prints_on_the_first_page(plain: Opened) -> None:
    plain.page.emulate_media(media="print")
    plain.page.set_viewport_size({"width": 703, "height": 1016})  # what A4 leaves inside its margins
    bottom = plain.page.evaluate("document.querySelector('.knobs').getBoundingClientRect().bottom")
    assert bottom < 1016


def test_a_strategy_with_a_hostile_name_stays_text_when_knobs_are_turned(
    browser: Any, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", tasks=["support_intents"], failing=False, hostile=True)
    for k, name in enumerate(("zero-shot", "lora--s0", "logistic-regression")):
        cell = run / "cells" / f"support_intents--{name}" / "cell.json"
        spec = json.loads(cell.read_text(encoding="utf-8"))
        cell.write_text(json.dumps({**spec, "strategy": HOSTILE[k if k < 2 else 3]}), encoding="utf-8")
    file = tmp_path / "report.html"
    file.write_text(html(load(run, changes=["value_per_correct=0.01"])), encoding="utf-8")
    report = opened(browser, file)
    for knob in ("requests", "value", "machine"):
        for key in ("Home", "End"):
            push(report, knob, key)
            report.page.evaluate("() => breakeven.decisions[0].update()")
    assert report.page.evaluate("window.hacked") is None
    assert report.page.locator("[data-case] script, [data-case] img").count() == 0
    assert HOSTILE[0] in report.page.locator(".small-table").inner_text()
    assert report.complaints == []


def test_turning_knobs_asks_for_nothing_and_complains_of_nothing(page: Page) -> None:
    for knob in ("requests", "value", "months", "machine"):
        push(page.opened, knob, "End")
        push(page.opened, knob, "Home")
    page.opened.page.wait_for_timeout(400)
    assert page.opened.complaints == []
    assert [u for u in page.opened.requests if not u.startswith(("file:", "data:"))] == []


def test_without_javascript_the_verdict_of_the_run_stands(browser: Any, tmp_path: Path) -> None:
    file = write(tmp_path, "by value, something in service, a floor")
    report = opened(browser, file, java_script_enabled=False)
    assert report.page.locator('[data-role="headline"]').first.is_visible()
    assert report.page.locator('[data-case="0"] svg.wide').count() == 3
    assert not report.page.locator('input[type="range"]').first.is_visible()
    assert report.page.locator('[data-said="requests"]').first.inner_text() == "50,000"
