"""What `breakeven validate` finds in a task, and what it calls it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from breakeven.harness.cli.validate import Finding, Report, examine, show
from breakeven.harness.contracts import Document, Example, Request, Task
from breakeven.harness.metrics import build
from breakeven.harness.taskfile import make_task

PLACES = ["river", "lamp", "winter", "paper", "engine", "coffee", "tower", "garden", "mirror", "window"]


def rows(n: int) -> list[dict[str, str]]:
    return [
        {"text": f"{PLACES[i % 10]}{i * 7919} and {PLACES[i // 10 % 10]}{i * 104729}", "label": "ab"[i % 2]}
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def sound() -> Task:
    """A task with nothing wrong."""
    return make_task(
        "sound",
        instructions="Say a or b.",
        data=rows(400),
        columns={"input": "text", "reference": "label"},
        choices="from data",
        metrics=["accuracy"],
        sizes={"train": 200, "validation": 50, "test": 150},
    )


def found(task: Task, check: str) -> Finding:
    """The worst finding of one check."""
    findings = [f for f in examine(task).findings if f.check == check]
    return min(findings, key=lambda f: ("error", "warning", "ok").index(f.level))


def len_of_output(example: Example, output: str) -> float:
    return float(len(output))


def with_test(task: Task, *examples: Example) -> Task:
    return replace(task, test=(*examples, *task.test))


def test_a_sound_task_has_no_findings_but_good_ones(sound: Task) -> None:
    assert {f.level for f in examine(sound).findings} == {"ok"}


def test_an_empty_test_split_is_an_error(sound: Task) -> None:
    assert found(replace(sound, test=()), "splits").level == "error"


def test_an_empty_train_split_is_a_warning(sound: Task) -> None:
    assert found(replace(sound, train=()), "splits").level == "warning"


def test_few_test_examples_are_a_warning(sound: Task) -> None:
    assert "40 test examples" in found(sound.limited(test=40), "splits").what


def test_validate_says_which_difference_the_test_examples_show(sound: Task) -> None:
    finding = found(sound, "detectable")
    assert finding.level == "ok"
    assert "150 test examples show a difference of 7.1, 10.0 or 12.2 points" in finding.what
    assert "disagree on 10, 20 or 30 %" in finding.what


def test_a_difference_that_no_disagreement_can_make_is_not_promised(sound: Task) -> None:
    assert "a difference of 29.1 points" in found(sound.limited(test=20), "detectable").what
    assert "too few" in found(sound.limited(test=8), "detectable").what


def test_graded_scores_get_their_detectable_difference_on_their_scale(sound: Task) -> None:
    graded = replace(sound, metrics=(build("token_f1"),))
    assert "0.0762 on the scale from 0 to 1" in found(graded, "detectable").what
    open_range = replace(sound, metrics=(build({"metric": len_of_output, "range": None}),))
    assert "0.23 standard deviations" in found(open_range, "detectable").what


def test_groups_are_said_to_hide_differences(sound: Task) -> None:
    grouped = replace(sound, test=tuple(replace(e, group=e.id[:1]) for e in sound.test))
    assert "groups) are alike" in found(grouped, "detectable").what


def test_a_test_input_that_train_has_too_is_leakage(sound: Task) -> None:
    leaked = replace(sound.train[0], id="again")
    finding = found(with_test(sound, leaked), "leakage")
    assert finding.level == "warning"
    assert "1 are in train" in finding.what
    assert str(leaked.input["text"])[:20] in finding.instances[0]


def test_the_same_input_with_another_answer_is_a_contradiction(sound: Task) -> None:
    other = "a" if sound.train[0].references == ("b",) else "b"
    wrong = replace(sound.train[0], id="again", references=(other,))
    assert found(with_test(sound, wrong), "contradictions").what.startswith("1 pairs")


def test_the_same_input_with_the_same_answer_is_no_contradiction(sound: Task) -> None:
    assert found(with_test(sound, replace(sound.train[0], id="again")), "contradictions").level == "ok"


def test_nearly_the_same_question_with_another_answer_is_fine_without_choices(sound: Task) -> None:
    asked = "Which colour has the {} gate at the river near the old paper mill?"
    pair = [Example(f"q{n}", {"text": asked.format(n)}, (f"colour {n}",)) for n in (1, 2)]
    assert found(replace(sound, choices=None, test=tuple(pair)), "contradictions").level == "ok"


def test_a_label_outside_the_choices_is_an_error(sound: Task) -> None:
    assert found(with_test(sound, Example("x", {"text": "new"}, ("c",))), "labels").level == "error"


def test_a_choice_that_train_never_shows_is_a_warning(sound: Task) -> None:
    assert found(replace(sound, choices=("a", "b", "c")), "choices").instances == ("c",)


def test_an_id_in_two_splits_is_an_error(sound: Task) -> None:
    assert found(with_test(sound, sound.train[0]), "ids").level == "error"


def test_an_empty_answer_is_a_warning(sound: Task) -> None:
    finding = found(
        replace(with_test(sound, Example("x", {"text": "new"}, (" ",))), choices=None), "references"
    )
    assert finding.instances == ("test example 'x'",)


def test_mojibake_is_a_warning_that_says_where(sound: Task) -> None:
    finding = found(with_test(sound, Example("x", {"text": "un cafÃ©"}, ("a",))), "encoding")
    assert "test example 'x'" in finding.instances[0]


def test_a_template_that_an_example_does_not_fit_is_an_error(sound: Task) -> None:
    finding = found(replace(sound, input_template="{{ text }} {{ more }}"), "template")
    assert finding.level == "error"
    assert "more" in finding.instances[0]


def test_a_group_on_both_sides_is_a_warning(sound: Task) -> None:
    grouped = replace(sound, train=tuple(replace(e, group="g") for e in sound.train))
    assert found(with_test(grouped, Example("x", {"text": "new"}, ("a",), "g")), "groups").instances == ("g",)


def test_answers_that_no_document_holds_are_a_warning(sound: Task) -> None:
    asked = tuple(Example(f"q{i}", {"text": f"q {i}"}, (f"fact {i}",)) for i in range(4))
    task = replace(sound, choices=None, test=asked, documents=(Document("d", "here is Fact 1"),))
    assert found(task, "documents").level == "warning"
    assert found(task, "documents").what.startswith("25%")


# --- lengths ---------------------------------------------------------------------------------


def words(request: Request) -> int:
    text = request.text or " ".join(m["content"] for m in request.messages)
    return len(text.split())


def lengths(task: Task, context: int | None) -> dict[str, Finding]:
    return {f.check: f for f in examine(task, count_tokens=words, context=context).findings}


def test_a_prompt_beyond_the_context_is_an_error(sound: Task) -> None:
    long = with_test(sound, Example("long", {"text": "word " * 500}, ("a",)))
    finding = lengths(long, 512)["length"]
    assert finding.level == "error"
    assert "'long'" in finding.instances[0]


def test_a_prompt_that_fits_is_not(sound: Task) -> None:
    assert lengths(sound, 512)["length"].level == "ok"


def test_an_unknown_context_is_said_to_be_unknown(sound: Task) -> None:
    assert "not known" in lengths(sound, None)["length"].what


def test_an_answer_beyond_max_tokens_is_a_warning(sound: Task) -> None:
    task = with_test(
        replace(sound, choices=None, max_tokens=4), Example("x", {"text": "t"}, ("one two three four",))
    )
    assert lengths(task, None)["answers"].instances == ("example 'x': 5 tokens",)


# --- the report ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "strict", "code"),
    [
        (["ok"], False, 0),
        (["ok", "warning"], False, 0),
        (["ok", "warning"], True, 1),
        (["warning", "error"], False, 2),
    ],
)
def test_the_exit_code_follows_the_worst_finding(
    sound: Task, levels: list[str], strict: bool, code: int
) -> None:
    report = Report(sound, tuple(Finding(level, "x", "y") for level in levels))  # type: ignore[arg-type]
    assert report.exit_code(strict) == code


def test_the_report_shows_one_prompt_and_every_finding(sound: Task) -> None:
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    report = examine(with_test(sound, Example("x", {"text": "[red]caf\ufffd[/red]"}, ("a",))))
    show(report, console)
    text = console.export_text()
    assert "[red]caf\ufffd[/red]" in text
    assert "Say a or b." in text
    assert all(finding.what in text for finding in report.findings)
