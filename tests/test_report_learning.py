"""Learning curves and side effects of tuning in every report: the same numbers in all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run

from breakeven.harness import effects, learning, learning_words
from breakeven.harness import formats as f
from breakeven.harness.evidence import text
from breakeven.harness.results import Results, load
from breakeven.reports import json as json_report
from breakeven.reports.html import html
from breakeven.reports.json import json as as_json
from breakeven.reports.md import md

TASK = "support_intents"
SIZES = (20, 40, 80, 160)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("grown") / "r"
    write_run(folder, train_sizes=SIZES, transfer=True, failing=False, economics={"value_per_correct": 0.01})
    return load(folder)


@pytest.fixture(scope="module")
def page(results: Results) -> str:
    return html(results)


@pytest.fixture(scope="module")
def document(results: Results) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json(results))["tasks"][TASK]
    return found


def plain(page: str) -> str:
    """The page's text, tags taken out."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page)).replace("&nbsp;", " ")


def sentences(results: Results) -> list[str]:
    found = learning.of_task(results, TASK)
    assert found is not None
    metric = results.tasks[TASK].primary
    return [text(s) for s in learning_words.sentences(found, metric, results.economics)]


# --- learning curves -------------------------------------------------------------------------


def test_a_run_of_one_size_has_no_learning_curves(tmp_path: Path) -> None:
    one = load(write_run(tmp_path / "r", tasks=[TASK]))
    assert "<h3>Learning curves" not in html(one)
    assert "Learning curves" not in md(one)
    assert json.loads(as_json(one))["tasks"][TASK]["learning"] is None


def test_every_report_says_the_same_of_the_curves(
    results: Results, page: str, document: dict[str, Any]
) -> None:
    said = sentences(results)
    assert len(said) > 4
    assert document["learning"]["sentences"] == said
    shown, written = plain(page), md(results).replace("`", "").replace("\\", "")
    for sentence in said:
        assert sentence in shown
        assert f"- {sentence}" in written


def test_every_point_of_the_figure_is_in_the_table_beside_it(results: Results, page: str) -> None:
    section = page[page.index("<h3>Learning curves") : page.index('<ul class="told">')]
    table = section[section.index("<table") :]
    for row in results.tables[TASK]:
        if row.quality is not None and row.interval is not None:
            metric = results.tasks[TASK].primary
            between = f.interval(row.interval.low, row.interval.high, metric)
            assert f'{f.quality(row.quality, metric)} <span class="range">{between}</span>' in table
    wide = section[: section.index("</svg>")]
    grown = [r for r in results.tables[TASK] if r.quality is not None and r.strategy != "zero-shot"]
    assert len(re.findall(r'class="whisker', wide)) == len(grown)
    assert len(re.findall(r'class="mark', wide)) == len(grown) + 1


def test_the_json_report_has_the_curves_unrounded(results: Results, document: dict[str, Any]) -> None:
    curve = next(c for c in document["learning"]["curves"] if c["strategy"] == "lora")
    rows = [r for r in results.tables[TASK] if r.strategy == "lora"]
    assert [(p["train_size"], p["quality"]) for p in curve["points"]] == [
        (r.train_size, r.quality) for r in rows
    ]
    pair = document["learning"]["overtaking"][0]
    assert {"at", "low", "high", "always", "never", "several", "picked"} <= set(pair)
    more = document["learning"]["more_labels"][0]
    assert more["gain"]["extrapolated"] is True
    assert more["worth_low"] <= more["worth"] <= more["worth_high"]
    assert "`learning`" in (json_report.__doc__ or "")


# --- side effects ----------------------------------------------------------------------------


def test_every_report_shows_what_was_forgotten(results: Results, page: str, document: dict[str, Any]) -> None:
    section = page[page.index("<h3>Side effects of tuning") :]
    shown = plain(section[: section.index("</table>")])
    assert "lora n=160general questions accuracy, n=240.5000.000−0.500 −0.681 to −0.242▼ forgot" in shown
    assert "| lora n=160 | general questions | accuracy | 24 | 0.500 | 0.000 | −0.500 |" in md(results)
    found = document["side_effects"]["found"]
    x = next(x for x in found if (x["strategy"], x["on"]) == ("lora n=160", effects.GENERAL))
    assert (x["before"], x["after"], x["difference"], x["effect"]) == (0.5, 0.0, -0.5, "forgot")


def test_what_was_not_measured_has_no_section_but_a_line_of_the_checklist(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", tasks=[TASK], failing=False, transfer=True)
    (folder / effects.FILE).unlink()
    page = html(load(folder))
    assert "<h3>Side effects of tuning" not in page
    assert f"`breakeven transfer {tmp_path.name}/r` asks it" in page


def test_old_measurements_are_said_to_be_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", tasks=[TASK], failing=False, transfer=True)
    rows = json.loads((folder / effects.FILE).read_text())
    (folder / effects.FILE).write_text(json.dumps([{**r, "adapter": "adapter-old"} for r in rows]))
    page = html(load(folder))
    section = page[page.index("<h3>Side effects of tuning") :]
    assert section.index("Left out: measurements of other adapters") < section.index("</section>")
    assert 'class="plain effects"' not in page
    assert "forgot" not in md(load(folder))


# --- both ------------------------------------------------------------------------------------


def test_the_page_stays_under_a_megabyte(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", examples=100, train_sizes=SIZES, transfer=True, failing=False)
    assert len(html(load(folder)).encode()) < 1_000_000
