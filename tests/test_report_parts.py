"""The parts of a report: numbers and texts for readers, scales, marks, labels, packed examples."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run
from run_fixture_data import HOSTILE

from breakeven.harness import formats as f
from breakeven.harness.results import Cost, MetricInfo, Row, load
from breakeven.harness.stats import Interval
from breakeven.reports import _examples, _plots, _provenance, _svg

ACCURACY = MetricInfo("accuracy", (0.0, 1.0), True, True)
BLEU = MetricInfo("bleu", (0.0, 100.0), True, False)


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0.0, "$0"),
        (0.00000003, "under $0.000001"),
        (0.000341, "$0.00034"),
        (0.996, "$1.00"),
        (0.12, "$0.12"),
        (12.3, "$12.30"),
        (1847.4, "$1,847"),
        (-2.5, "−$2.50"),
        (None, "unknown"),
    ],
)
def test_money_keeps_two_digits_that_matter(amount: float | None, said: str) -> None:
    assert f.money(amount, "USD") == said


def test_a_currency_without_a_sign_is_written_out() -> None:
    assert f.money(12.3, "CHF") == "12.30 CHF"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0004, "0.4 ms"),
        (0.012, "12 ms"),
        (0.45, "0.45 s"),
        (8.24, "8.2 s"),
        (81.2, "81 s"),
        (252, "4 min 12 s"),
        (7500, "2 h 5 min"),
        (None, "unknown"),
    ],
)
def test_seconds_come_in_the_unit_that_reads_best(value: float | None, said: str) -> None:
    assert f.seconds(value) == said


def test_scores_have_the_digits_of_their_range() -> None:
    assert (f.quality(0.8934, ACCURACY), f.quality(34.56, BLEU)) == ("0.893", "34.6")


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    assert f.signed(-0.0002, ACCURACY) == "0.000"


def test_a_negative_difference_has_a_real_minus() -> None:
    assert f.signed_interval(-0.05, 0.1, ACCURACY) == "−0.050 to +0.100"


@pytest.mark.parametrize(("ratio", "said"), [(1.84, "1.8"), (68.2, "68"), (1234, "1,200")])
def test_ratios_are_said_to_two_digits(ratio: float, said: str) -> None:
    assert f.times(ratio) == said


# --- texts -----------------------------------------------------------------------------------


def test_a_control_character_is_shown_as_its_picture() -> None:
    assert f.clean("a\x07b\x1b[31m\r\nc\td") == "a␇b␛[31m\nc\td"


def test_an_override_that_would_turn_a_file_name_round_is_shown_as_what_it_is() -> None:
    assert f.clean("invoice \u202etxt.exe") == "invoice ⟨U+202E⟩txt.exe"


def test_what_utf8_cannot_hold_is_replaced() -> None:
    assert f.clean("a\ud800b").encode("utf-8") == "a\ufffdb".encode()


def test_a_list_of_short_items_is_one_line_and_of_long_ones_several() -> None:
    assert f.plain(["egg", "flour"]) == "egg, flour"
    assert f.plain(["400 g of the very best flour", "egg"]) == "400 g of the very best flour\negg"


def test_chat_messages_are_shown_by_role() -> None:
    assert f.plain([{"role": "user", "content": "hi"}]) == "user: hi"


# --- figures ---------------------------------------------------------------------------------


def row(label: str, quality: float, cost: float | None, *, model: str | None = "m", status: str = "") -> Row:
    return Row(
        label=label,
        strategy=label,
        model=model,
        train_size=1,
        state="done",
        reason="",
        cells=(),
        quality=quality,
        interval=Interval(max(0.0, quality - 0.1), min(1.0, quality + 0.1), "t"),
        input_tokens=100.0,
        output_tokens=5.0,
        cost_per_1000=Cost(cost, status or ("unknown" if cost is None else "measured")),
    )


def texts(drawing: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(drawing).iter("text")]


def test_labels_of_crowded_points_do_not_overlap() -> None:
    labels = [_svg.Label(300 + 3 * i, 200 + 2 * i, f"strategy-number-{i}") for i in range(10)]
    placed = _svg.place(labels, [], _svg.Box(0, 0, 700, 400), 12)
    assert all(a.box.overlap(b.box) == 0 for a, b in itertools.combinations(placed, 2))


def test_labels_stay_within_the_drawing() -> None:
    frame = _svg.Box(0, 0, 300, 200)
    placed = _svg.place([_svg.Label(298, 2, "in-the-corner")], [], frame, 12)
    assert placed[0].box.outside(frame) == 0


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.31, 0.34), (0.0, 100.0), (-3.0, 12.0)])
def test_linear_ticks_are_round_and_within_the_axis(low: float, high: float) -> None:
    ticks = _svg.linear_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-9 <= t <= high + 1e-9 for t in ticks)


@pytest.mark.parametrize(("low", "high"), [(0.001, 0.002), (1e-5, 1e3), (3.0, 40.0)])
def test_log_ticks_are_few_and_within_the_axis(low: float, high: float) -> None:
    ticks = _svg.log_ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert all(low * 0.99 <= t <= high * 1.01 for t in ticks)


def test_a_cost_of_zero_and_an_unknown_one_have_columns_of_their_own() -> None:
    rows = [row("free", 0.5, 0.0), row("dear", 0.7, 0.02), row("unpriced", 0.6, None)]
    wide, _ = _plots.quality_against_cost(rows, ACCURACY, "USD")
    assert {"$0", "unknown", "free", "dear", "unpriced"} <= set(texts(wide))


def test_without_any_price_the_plot_shows_tokens_and_says_so() -> None:
    wide, _ = _plots.quality_against_cost([row("a", 0.5, None), row("b", 0.7, None)], ACCURACY, "USD")
    assert "tokens per request (no strategy has a price), log scale" in texts(wide)


def test_a_mark_on_an_estimated_cost_is_hollow() -> None:
    wide, _ = _plots.quality_against_cost([row("a", 0.5, 0.1, status="estimated")], ACCURACY, "USD")
    assert 'class="mark prompting hollow"' in wide


def test_families_differ_in_shape_not_only_in_colour() -> None:
    shapes = [_svg.mark(k, 0, 0) for k in ("no-model", "prompting", "retrieval", "tuned", "tuned-retrieval")]
    outlines = {m.split("points=")[-1] if "points" in m else "circle" for m in shapes}
    assert len(outlines) == 5


def test_the_narrow_plot_numbers_the_strategies_of_the_table() -> None:
    _, narrow = _plots.quality_against_cost([row("a", 0.5, 0.1), row("b", 0.7, 0.2)], ACCURACY, "USD")
    assert {"1", "2"} <= set(texts(narrow))
    assert "a" not in texts(narrow)


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_scores_that_are_all_equal_can_be_drawn(quality: float) -> None:
    same = replace(row("a", quality, 0.1), interval=Interval(quality, quality, "t"))
    for drawing in _plots.quality_against_cost([same, replace(same, label="b")], ACCURACY, "USD"):
        assert "nan" not in drawing


def test_a_label_that_is_markup_is_drawn_as_text() -> None:
    wide, _ = _plots.quality_against_cost([row(HOSTILE[0], 0.5, 0.1)], ACCURACY, "USD")
    assert ElementTree.fromstring(wide).find(".//script") is None


def test_a_long_training_curve_is_thinned(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["support_intents"], failing=False)
    cell = next(c for c in load(tmp_path).cells.values() if c.training)
    losses = [[i, 1.0 / (i + 1)] for i in range(20_000)]
    drawing = _plots.training_curve(
        [replace(cell, training={**(cell.training or {}), "losses": losses})], "t"
    )
    assert drawing is not None
    assert len(drawing) < 6000


# --- packed examples -------------------------------------------------------------------------


def packed(folder: Path, **options: Any) -> dict[str, Any]:
    write_run(folder, tasks=["handbook_qa"], failing=False, **options)
    return _examples.packed(load(folder), "handbook_qa")


def test_every_strategy_with_a_result_has_an_output_for_every_example(tmp_path: Path) -> None:
    found = packed(tmp_path, examples=20)
    assert [r["label"] for r in found["rows"]] == [
        "nearest-neighbour",
        "zero-shot",
        "few-shot-similar",
        "rag",
        "lora",
        "rag+lora",
    ]
    assert all(
        len(s["out"]) == len(s["score"]) == len(s["right"]) == 20 for r in found["rows"] for s in r["seeds"]
    )


def test_right_and_wrong_follow_the_score_that_counts_as_correct(tmp_path: Path) -> None:
    for r in packed(tmp_path)["rows"]:
        for seed in r["seeds"]:
            assert [x == "1" for x in seed["right"]] == [x >= 0.8 for x in seed["score"]]


def test_shown_passages_point_at_their_documents(tmp_path: Path) -> None:
    found = packed(tmp_path)
    rag = next(r for r in found["rows"] if r["label"] == "rag")
    shown = [found["documents"][k][0] for k in rag["seeds"][0]["passages"][0]]
    assert shown == list(load(tmp_path).cells["handbook_qa--rag"].predictions[0].meta["passages"])  # type: ignore[arg-type]


def test_a_long_output_is_cut_with_its_full_length(tmp_path: Path) -> None:
    found = packed(tmp_path, strategies=("zero-shot", "rag"), extra_output=50_000)
    start, length = found["rows"][0]["seeds"][0]["out"][0]
    assert len(start) == _examples.LONGEST
    assert length > 50_000


# --- provenance ------------------------------------------------------------------------------


def test_an_artifact_that_two_cells_share_counts_once_in_what_the_run_consumed(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], strategies=("zero-shot", "rag", "rag+lora"), failing=False)
    index = next(line for line in _provenance.ledger_of_run(load(tmp_path)).lines if line.phase == "index")
    assert "4.2 s" in index.amounts


def test_an_unknown_amount_is_listed_as_unknown_with_its_reason(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], failing=False)
    assert any("energy in 5 of 6 cells: no meter" in s for s in _provenance.unknowns(load(tmp_path)))


def test_a_price_is_shown_with_its_date_and_source(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], failing=False)
    origin, used = _provenance.prices(load(tmp_path))
    assert "copied into the run" in origin
    assert ("cpu-2", "0.09296 EUR per hour", "2026-10-28") in [(p.what, p.price, p.date) for p in used]


def test_how_often_a_model_said_the_same_in_another_batch_stands_with_its_card(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], strategies=("zero-shot", "rag", "majority"), failing=False)
    ((_, facts),) = _provenance.models(load(tmp_path))
    asked = dict(facts)
    assert asked["asked one by one"] == (
        "14 of 16 texts equal between the batch-of-one pass and the batched pass"
    )
    assert asked["asked together"].startswith("12 of 16 texts equal")


def test_a_run_that_counted_no_equal_texts_says_nothing_of_them(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], strategies=("zero-shot", "rag"), failing=False)
    for timing in tmp_path.glob("cells/*/timing.json"):
        passes = json.loads(timing.read_text())
        for counted in passes.values():
            del counted["equal"]
        timing.write_text(json.dumps(passes))
    ((_, facts),) = _provenance.models(load(tmp_path))
    assert not {"asked one by one", "asked together"} & {name for name, _ in facts}
