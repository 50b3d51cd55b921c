"""The HTML report as a file: self-contained, escaped, complete without JavaScript, small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run
from run_fixture_data import HOSTILE, STRATEGIES

from breakeven.harness.results import Results, load
from breakeven.reports.html import html

VOID = {"meta", "link", "input", "br", "wbr", "img", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, the text of each kind, and whether tags are balanced."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts.setdefault(tag, []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str = "body") -> str:
        return " ".join("".join(self.texts.get(tag, [])).split())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return html(load(write_run(tmp_path_factory.mktemp("plain"))))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = write_run(tmp_path_factory.mktemp("hostile"), hostile=True, seeds=(0, 1), extra_output=5000)
    return html(load(run))


def made(folder: Path, **options: Any) -> Results:
    return load(write_run(folder, **options))


# --- a file of its own -----------------------------------------------------------------------


def test_the_page_is_balanced_html(plain: str) -> None:
    page = Page(plain)
    assert (page.unbalanced, page.open) == ([], [])


def test_nothing_is_loaded_from_anywhere(plain: str) -> None:
    page = Page(plain)
    assert [a for _, a in page.elements if "src" in a] == []
    assert {a["href"] for tag, a in page.elements if tag == "link"} == {"data:,"}
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))
    assert "@import" not in plain
    assert "url(" not in plain


def test_the_security_policy_allows_only_the_pages_own_style_and_script(plain: str) -> None:
    (policy,) = (m["content"] for m in Page(plain).all("meta") if m.get("http-equiv"))
    assert policy is not None
    style = re.search(r"<style>(.*?)</style>", plain, re.DOTALL)
    script = re.search(r"<script>(.*?)</script>", plain, re.DOTALL)
    assert style is not None
    assert script is not None
    for kind, match in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(match.group(1).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_needs_an_inline_style_or_handler_that_the_policy_forbids(plain: str) -> None:
    assert [a for _, a in Page(plain).elements if any(k == "style" or k.startswith("on") for k in a)] == []


def test_eight_strategies_on_three_tasks_of_100_examples_stay_under_a_megabyte(tmp_path: Path) -> None:
    quality = {
        name: dict.fromkeys(("support_intents", "handbook_qa", "recipe_ingredients"), 0.5)
        for name in STRATEGIES
    }
    results = made(tmp_path, examples=100, failing=False, quality=quality, extra_output=1000)
    assert sum(len(c.predictions) for c in results.cells.values()) == 8 * 3 * 100
    assert len(html(results).encode()) < 1_000_000


# --- what came from data or a model ----------------------------------------------------------


def test_hostile_text_opens_no_element_of_its_own(plain: str, hostile: str) -> None:
    assert Page(hostile).all("img") == []
    assert len(Page(hostile).all("script")) == len(Page(plain).all("script"))


def test_hostile_text_is_shown_as_text(hostile: str) -> None:
    assert HOSTILE[0] in Page(hostile).text("noscript")


def test_no_direction_override_is_left_in_the_page(hostile: str) -> None:
    assert not set("\u202d\u202e") & set(hostile)


def test_a_page_with_broken_surrogates_can_be_written(hostile: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(hostile, encoding="utf-8")


def test_a_small_data_block_cannot_be_closed_from_within(tmp_path: Path) -> None:
    page = html(
        made(tmp_path, tasks=["recipe_ingredients"], strategies=("zero-shot",), examples=6, hostile=True)
    )
    block = re.search(r'<script type="application/json" id="examples-0">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    assert json.loads(block.group(1))["inputs"][3][0] == HOSTILE[3]


def test_templates_in_data_are_not_rendered(hostile: str) -> None:
    assert "{{ 7 * 7 }}" in Page(hostile).text("noscript")


def test_without_examples_the_page_holds_no_text_of_the_test_data(tmp_path: Path) -> None:
    results = made(tmp_path)
    page = html(results, examples=False)
    assert not any(str(v) in page for t in results.tasks.values() for v in t.test[0].input.values())
    assert 'id="examples-' not in page
    assert 'id="case-0"' in page


# --- what is said ----------------------------------------------------------------------------


def test_every_table_has_a_caption_and_scoped_headings(plain: str) -> None:
    page = Page(plain)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") for a in page.all("th"))


def test_each_task_has_its_question_and_answer_in_words(plain: str) -> None:
    asked = Page(plain).text("h2")
    assert "Should we fine-tune support_intents?" in asked
    assert "Should we fine-tune handbook_qa?" in asked
    assert "What should answer recipe_ingredients?" in asked  # nothing that was tuned has a result
    answers = re.findall(r'data-role="headline"><b class="answer [a-z-]*">([A-Z ]*)</b>', plain)
    assert len(answers) == 3
    assert set(answers) <= {"YES", "NO", "UNDECIDED", ""}


def test_several_tasks_have_an_overview_with_a_line_for_each(plain: str) -> None:
    lines = re.findall(r'<tr role="row" data-overview="(\d)">', plain)
    assert lines == ["0", "1", "2"]


def test_one_task_needs_no_overview(tmp_path: Path) -> None:
    assert "data-overview" not in html(made(tmp_path, tasks=["handbook_qa"])).split("<script>")[0]


def test_every_cost_line_says_what_it_rests_on_and_what_is_assumed(plain: str) -> None:
    lines = [re.sub(r"(<[^>]+>)+", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", plain)]
    assert "|writing the prompt|up front|$240|$240|assumed|4 h x 60 USD an hour|" in lines
    assert any(
        re.match(r"\|machine time\|each request\|\$[\d.]+\|\$[\d.]+\|estimated\|[\d.]+ s x", x) for x in lines
    )


def test_every_setting_of_the_economics_is_shown_with_whether_it_was_given(plain: str) -> None:
    rows = dict(
        re.findall(r"<th scope=\"row\"><code>([\w.]+)</code>.*?<span class=\"known ([\w-]+)\">", plain)
    )
    assert rows["requests_per_month"] == "given"
    assert rows["people.hourly_rate"] == "assumed"
    assert rows["margin"] == "assumed"
    assert rows["quality_floor"] == "not-given"


def test_flops_and_joules_are_in_the_appendix_and_nowhere_else(plain: str) -> None:
    before, after = plain.split('id="appendix"')
    assert "FLOPs</th>" not in before
    assert "FLOPs</th>" in after


def test_changed_settings_are_said_at_the_top(tmp_path: Path) -> None:
    page = html(load(write_run(tmp_path), changes=["requests_per_month=2e6"]))
    assert "Priced again with requests_per_month=2e6." in Page(page).text("header")
    assert "2,000,000" in Page(page).text("output")


def test_a_run_without_any_price_still_has_a_report_without_knobs(tmp_path: Path) -> None:
    run = write_run(tmp_path, tasks=["support_intents"], failing=False)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    suite = (run / "suite.yaml").read_text(encoding="utf-8").replace("hardware: cpu-2", "hardware: nobody-s")
    (run / "suite.yaml").write_text(suite, encoding="utf-8")
    (run / "run.json").write_text(json.dumps(info | {"price_book": {}}), encoding="utf-8")
    page = html(load(run))
    assert "NOT KNOWN" in Page(page).text("p")
    assert "tokens per request (no strategy has a price)" in Page(page).text("svg")
    assert Page(page).all("input") != []
    assert not any(a.get("type") == "range" for a in Page(page).all("input"))


def test_a_strategy_that_failed_is_shown_with_its_reason(plain: str) -> None:
    assert "the adapter did not fit: 9.1 GB needed" in Page(plain).text()


def test_a_strategy_that_does_not_apply_is_shown_with_its_reason(plain: str) -> None:
    line = re.search(r"<tr><th scope=\"row\"><bdi>rag</bdi></th>.*?</tr>", plain)
    assert line is not None
    assert "not applicable" in line.group()
    assert "the task has no documents" in line.group()


def test_differences_are_tested_and_the_test_is_named(plain: str) -> None:
    said = " ".join(Page(plain).texts["p"])
    assert "(exact McNemar, adjusted for " in said
    assert re.search(r"a difference of 0\.\d+ to the reference is found four times in five", said)
    assert 'data-label="won–lost, p"' in plain


def test_one_seed_is_marked_as_excluding_seed_variance(plain: str) -> None:
    assert "excludes seed variance" in Page(plain).text("ol")


def test_an_unfinished_run_says_so_first(tmp_path: Path) -> None:
    write_run(tmp_path)
    status = tmp_path / "cells" / "handbook_qa--rag" / "status.json"
    status.write_text(json.dumps({"state": "stopped", "reason": "interrupted"}), encoding="utf-8")
    assert "not finished: 1 of 24 cells have no result yet" in Page(html(load(tmp_path))).text("header")


def test_where_data_goes_and_the_licence_are_said_for_each_strategy(tmp_path: Path) -> None:
    run = write_run(tmp_path, tasks=["support_intents"], failing=False)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    info["models"]["default"]["data_goes_to"] = "api.example.org"
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    lines = [re.sub(r"(<[^>]+>)+", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", html(load(run)))]
    assert "|lora|smollm2-135m-instruct|Apache-2.0|sent to api.example.org|" in lines
    assert "|majority|no language model|–|in-house|" in lines


def test_prices_models_data_and_commands_are_in_the_provenance(plain: str) -> None:
    text = Page(plain).text("section")
    for fact in (
        "2026-10-28",
        "https://example.org/prices",
        "b179c9523d0e",
        "9f1c0a3b5d7e2468",
        "0 exact, 2 near",
    ):
        assert fact in text
    assert "/suite.yaml" in Page(plain).text("code")


def test_a_use_case_becomes_the_title(tmp_path: Path) -> None:
    write_run(tmp_path)
    suite = tmp_path / "suite.yaml"
    text = suite.read_text(encoding="utf-8")
    suite.write_text(
        text.replace("economics:", "economics:\n  use_case: Sort our mail <b>fast</b>"), encoding="utf-8"
    )
    assert Page(html(load(tmp_path))).text("h1") == "Sort our mail <b>fast</b>"


def test_a_run_in_which_nothing_finished_still_has_a_report(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["support_intents"], strategies=("zero-shot",))
    status = tmp_path / "cells" / "support_intents--zero-shot" / "status.json"
    status.write_text(json.dumps({"state": "failed", "reason": "no memory"}), encoding="utf-8")
    text = Page(html(load(tmp_path))).text()
    assert "No strategy has a result." in text
    assert "no memory" in text


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert html(load(tmp_path)) == html(load(tmp_path))
