"""Every metric against its library or a hand-checked case, and what a wrong spec is told."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breakeven.harness._metric_parts import Judged
from breakeven.harness.contracts import Example, Json, Metric, Prediction, Score
from breakeven.harness.errors import UserError
from breakeven.harness.metrics import answer_text, build, build_all, known
from breakeven.harness.scoring import resampled
from breakeven.harness.stats import DRAWS
from breakeven.harness.taskfile import make_task

CHOICES = ("card_arrival", "card_lost", "refund")


def example(*references: Json) -> Example:
    return Example("e1", {"text": "?"}, references)


def scored(spec: Any, output: str, *references: Json, choices: Sequence[str] | None = None) -> Score:
    metric = build(spec, choices=choices)
    return metric.score(example(*references), Prediction("e1", output), None)


def value(spec: Any, output: str, *references: Json, choices: Sequence[str] | None = None) -> float:
    return scored(spec, output, *references, choices=choices).value


def whole(metric: Metric, pairs: Sequence[tuple[str, tuple[Json, ...]]]) -> float:
    examples = [Example(str(i), {}, references) for i, (_, references) in enumerate(pairs)]
    predictions = [Prediction(str(i), output) for i, (output, _) in enumerate(pairs)]
    scores = [metric.score(e, p, None) for e, p in zip(examples, predictions, strict=True)]
    return metric.aggregate(examples, predictions, scores)


# --- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "right"), [("Paris", 1.0), (" Paris\n", 1.0), ("paris", 0.0), ("Paris.", 0.0)]
)
def test_exact_match_forgives_only_surrounding_white_space(output: str, right: float) -> None:
    assert value("exact_match", output, "Paris") == right


@pytest.mark.parametrize(
    ("output", "reference", "right"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        ("an U.S.A. team", "USA team", 1.0),
        ("  a  b\tc ", "b c", 1.0),
        ("theatre", "atre", 0.0),  # articles are whole words
        ("“Paris”", "Paris", 0.0),  # the official script knows ASCII punctuation only
    ],
)
def test_normalised_match_follows_the_squad_script(output: str, reference: str, right: float) -> None:
    assert value("normalised_match", output, reference) == right


@pytest.mark.parametrize(
    ("output", "references", "f1"),
    [
        ("the Denver Broncos", ("Denver Broncos",), 1.0),
        ("Denver Broncos won it", ("Denver Broncos",), 2 / 3),  # precision 2/4, recall 2/2
        ("to be to be", ("to be",), 2 / 3),  # words count as often as they occur in both
        ("Carolina", ("Denver Broncos",), 0.0),
        ("in Denver", ("Carolina", "Denver"), 2 / 3),  # the best reference
        ("", ("",), 1.0),
        ("the", ("",), 1.0),  # nothing left on either side
        ("Denver", ("",), 0.0),
    ],
)
def test_token_f1_follows_the_squad_script(output: str, references: tuple[str, ...], f1: float) -> None:
    assert value("token_f1", output, *references) == pytest.approx(f1)


def test_rouge_l_is_the_librarys() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    wanted, given = "the cat sat on the mat", "a cat was sitting on the mat"
    expected = RougeScorer(["rougeL"]).score(wanted, given)["rougeL"].fmeasure
    assert value("rouge_l", given, wanted) == pytest.approx(expected)


def test_rouge_l_refuses_a_script_that_its_tokenizer_drops() -> None:
    with pytest.raises(UserError, match="tokenizer: unicode"):
        scored("rouge_l", "кот", "кот")


def test_rouge_l_reads_any_script_when_asked() -> None:
    assert value({"metric": "rouge_l", "tokenizer": "unicode"}, "Кот сидит", "кот спит") == pytest.approx(0.5)


TEXTS: list[tuple[str, tuple[Json, ...]]] = [
    ("The cat sat on the mat today.", ("A cat sat on the mat today.", "The cat was on the mat.")),
    ("There is no milk left in the fridge.", ("There is no more milk in the fridge.",)),
    ("He went to school by bus on Monday.", ("On Monday he went to school by bus.",)),
]


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_a_corpus_score_is_sacrebleus(name: str) -> None:
    import sacrebleu

    streams = [[r[0] for _, r in TEXTS], ["The cat was on the mat.", None, None]]
    corpus = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}[name]
    expected = corpus([output for output, _ in TEXTS], streams).score / 100
    assert whole(build(name), TEXTS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_a_sentence_score_is_sacrebleus(name: str) -> None:
    import sacrebleu

    sentence = {"bleu": sacrebleu.sentence_bleu, "chrf": sacrebleu.sentence_chrf}[name]
    expected = sentence(TEXTS[0][0], list(TEXTS[0][1])).score / 100
    assert value(name, TEXTS[0][0], *TEXTS[0][1]) == pytest.approx(expected, rel=1e-12)


def test_chrf_takes_word_order_for_chrf_plus_plus() -> None:
    import sacrebleu

    expected = sacrebleu.sentence_chrf("a cat sat", ["the cat sat"], word_order=2).score / 100
    assert value({"metric": "chrf", "word_order": 2}, "a cat sat", "the cat sat") == pytest.approx(expected)


def test_corpus_scores_are_not_additive() -> None:
    assert [build(name, choices=CHOICES).additive for name in ("bleu", "chrf", "macro_f1", "accuracy")] == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("name", ["bleu", "chrf", "macro_f1"])
def test_counting_an_example_twice_is_as_good_as_repeating_it(name: str) -> None:
    sayings = (
        "my card has still not arrived",
        "somebody took my card last night",
        "please give my money back",
    )
    metric: Any = build(name, choices=sayings)
    answers = [(0, 0), (1, 0), (2, 2), (0, 1)]  # wanted, given
    examples = [Example(str(i), {}, (sayings[wanted],)) for i, (wanted, _) in enumerate(answers)]
    predictions = [Prediction(str(i), sayings[given]) for i, (_, given) in enumerate(answers)]
    chosen = [0, 0, 1, 3, 3, 3]
    repeated = metric.aggregate([examples[i] for i in chosen], [predictions[i] for i in chosen], [])
    counted = metric.weighted(examples, predictions)(np.array([2.0, 1.0, 0.0, 3.0]))
    assert counted == pytest.approx(repeated, rel=1e-12)
    assert counted != metric.aggregate(examples, predictions, [])


def test_resamples_of_a_run_are_the_same_counted_and_repeated() -> None:
    rows = [{"text": f"question {i}", "label": "ab"[i % 3 == 0]} for i in range(30)]
    columns = {"input": "text", "reference": "label"}
    sizes = {"train": 5, "validation": 5, "test": 20}
    task = make_task(
        "t",
        instructions="?",
        data=rows,
        columns=columns,
        choices=["a", "b"],
        metrics=["macro_f1"],
        sizes=sizes,
    )
    predictions = [Prediction(e.id, "ab"[i % 2]) for i, e in enumerate(task.test)]
    counted = resampled(task, predictions, [Score(0.0)] * 20)
    primary: Any = task.primary
    plain = replace(task, metrics=(Judged("macro_f1", primary.judge, whole=primary.whole),))
    assert len(counted) == DRAWS
    assert resampled(plain, predictions, [Score(0.0)] * 20) == pytest.approx(counted, rel=1e-12)


# --- choices ---------------------------------------------------------------------------------


def test_accuracy_matches_the_output_to_a_choice() -> None:
    assert value("accuracy", "Intent: card arrival", "card_arrival", choices=CHOICES) == 1.0


def test_accuracy_says_when_no_choice_matched() -> None:
    result = scored("accuracy", "I cannot help", "refund", choices=CHOICES)
    assert (result.value, result.detail) == (0.0, {"why": "no choice matched"})


def test_accuracy_says_which_choice_was_read() -> None:
    assert scored("accuracy", "Refund", "card_lost", choices=CHOICES).detail == {"matched": "refund"}


def test_accuracy_accepts_any_of_several_references() -> None:
    assert value("accuracy", "refund", "card_lost", "refund", choices=CHOICES) == 1.0


def test_accuracy_without_choices_says_what_to_use() -> None:
    with pytest.raises(UserError, match="exact_match"):
        build("accuracy")


def test_a_reference_outside_the_choices_is_an_error_not_a_miss() -> None:
    with pytest.raises(UserError, match="'e1': the reference 'typo' is none of the task's choices"):
        scored("accuracy", "refund", "typo", choices=CHOICES)


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    wanted = ["refund"] * 6 + ["card_lost"] * 3 + ["card_arrival"]
    given = ["refund"] * 5 + ["card_lost"] * 3 + ["refund"] + ["card_arrival"]
    pairs: list[tuple[str, tuple[Json, ...]]] = [(g, (w,)) for g, w in zip(given, wanted, strict=True)]
    expected = f1_score(wanted, given, average="macro")
    assert whole(build("macro_f1", choices=CHOICES), pairs) == pytest.approx(expected)


def test_an_answer_that_is_no_choice_makes_no_class_of_its_own() -> None:
    pairs: list[tuple[str, tuple[Json, ...]]] = [("refund", ("refund",)), ("sorry?", ("card_lost",))]
    assert whole(build("macro_f1", choices=CHOICES), pairs) == pytest.approx(0.5)  # (1 + 0) / 2


# --- lists, objects, numbers, patterns -------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "reference", "f1"),
    [
        ("salt, oil", ["oil", "salt"], 1.0),
        ("Salt, OIL.", ["salt", "oil"], 1.0),
        ("salt, salt, salt", ["salt"], 1.0),  # duplicates collapse
        ("salt, pepper", ["salt", "oil"], 0.5),
        ("salt", ["salt", "oil", "egg"], 0.5),  # precision 1, recall 1/3
        ("", [], 1.0),
        ("none", [], 1.0),
        ("salt", [], 0.0),
        ("", ["salt"], 0.0),
        ("salt, oil", "oil, salt", 1.0),  # a reference may be a list in words
        ("1, 2", [1, 2], 1.0),
    ],
)
def test_set_f1_by_hand(output: str, reference: Json, f1: float) -> None:
    assert value("set_f1", output, reference) == pytest.approx(f1)


def test_set_f1_says_what_is_missing_and_what_is_too_much() -> None:
    assert scored("set_f1", "salt, Pepper", ["Salt", "oil"]).detail == {
        "missing": ["oil"],
        "extra": ["Pepper"],
    }


@pytest.mark.parametrize(
    ("output", "reference", "f1"),
    [
        ('{"name": "ann", "age": 3}', {"name": "Ann", "age": 3.0}, 1.0),
        ('{"name": "Ann", "age": 4}', {"name": "Ann", "age": 3}, 0.5),
        ('Here: {"who": {"name": "Ann"}}', {"who": {"name": "Ann", "age": 3}}, 2 / 3),
        ('{"name": "Ann"}', {"who": {"name": "Ann"}}, 0.0),  # the path counts
        ('{"tags": ["b", "a"]}', {"tags": ["a", "b"]}, 1.0),  # a list in any order
        ('{"tags": ["a", "a"]}', {"tags": ["a"]}, 2 / 3),
        ('{"name": "Ann"}', {"name": "Ann", "age": None}, 1.0),  # null is absent
        ('{"ok": true}', {"ok": True}, 1.0),
        ('{"name": "Ann"}', '{"name": "Ann"}', 1.0),  # a reference may be JSON text
    ],
)
def test_json_field_f1_by_hand(output: str, reference: Json, f1: float) -> None:
    assert value("json_field_f1", output, reference) == pytest.approx(f1)


def test_an_output_without_an_object_is_wrong_and_says_so() -> None:
    result = scored("json_field_f1", "no idea", {"a": None})
    assert (result.value, result.detail) == (0.0, {"why": "no JSON object in the output"})


def test_json_field_f1_can_look_at_some_fields_only() -> None:
    spec = {"metric": "json_field_f1", "only": ["who"]}
    assert value(spec, '{"who": {"name": "Ann"}, "x": 1}', {"who": {"name": "Ann"}, "x": 2}) == 1.0


@pytest.mark.parametrize(
    ("spec", "output", "reference", "right"),
    [
        ("numeric_match", "so it is 1,234.", 1234, 1.0),
        ("numeric_match", "3 + 4 = 7", "7", 1.0),
        ("numeric_match", "3 + 4 = 8", 7, 0.0),
        ("numeric_match", "12 %", 0.12, 1.0),
        ("numeric_match", "12 %", 12, 1.0),
        ("numeric_match", "0.12", "12 %", 1.0),
        ("numeric_match", "12", 0.12, 0.0),  # no percent sign anywhere
        ("numeric_match", "3.14", 3.14159, 0.0),
        ({"metric": "numeric_match", "rel": 0.01}, "3.14", 3.14159, 1.0),
        ({"metric": "numeric_match", "abs": 0.5}, "-1.5", -1, 1.0),
        ({"metric": "numeric_match", "decimal": ","}, "1.234,5", 1234.5, 1.0),
    ],
)
def test_numeric_match_by_hand(spec: Any, output: str, reference: Json, right: float) -> None:
    assert value(spec, output, reference) == right


def test_a_reference_that_is_no_number_is_an_error() -> None:
    with pytest.raises(UserError, match="'many' is no number"):
        scored("numeric_match", "3", "many")


def test_regex_match_searches_the_output_for_its_pattern() -> None:
    assert value({"metric": "regex_match", "pattern": r"\bORD-\d{4}\b"}, "it is ORD-1234.", "unused") == 1.0


def test_regex_match_takes_the_references_as_patterns() -> None:
    assert value("regex_match", "colour", "colou?r", "hue") == 1.0


def test_a_full_match_leaves_nothing_over() -> None:
    assert value({"metric": "regex_match", "full": True}, "the colour", "colou?r") == 0.0


def test_an_invalid_pattern_is_found_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"field 'pattern': pattern '\(' is no regular expression"):
        build({"metric": "regex_match", "pattern": "("})


def test_an_invalid_pattern_in_a_reference_names_the_example() -> None:
    with pytest.raises(UserError, match="example 'e1'"):
        scored("regex_match", "x", "(")


# --- any metric ------------------------------------------------------------------------------

_FRAGMENTS = [
    "salt", "olive oil", "a", "The", "and b", "x, y", "1. z", "- dash", "[1]", "none", "“q”", "Ünï", "3.5 %",
    "a: b", '"', "'", "{", "]", "\n", ";", "O'Neil", "co-op", "привет", "猫", "null", "é́", "-", "1,000",
]  # fmt: skip


def _random_text(rng: random.Random) -> str:
    return " ".join(rng.choices(_FRAGMENTS, k=rng.randint(1, 4)))


def _random_json(rng: random.Random, depth: int = 2) -> Json:
    kind = rng.randrange(7 if depth else 5)
    if kind == 5:
        return [_random_json(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    if kind == 6:
        return {_random_text(rng): _random_json(rng, depth - 1) for _ in range(rng.randint(0, 3))}
    size = rng.uniform(-9, 9) * 10 ** rng.randint(-9, 9)
    plain: list[Json] = [_random_text(rng), rng.randint(-5000, 5000), size, True, None]
    return plain[kind]


def _references(kind: str) -> list[Json]:
    rng = random.Random(0)
    makers: Mapping[str, Any] = {
        "text": lambda: _random_text(rng),
        "list": lambda: [_random_text(rng) for _ in range(rng.randint(0, 4))],
        "object": lambda: {_random_text(rng): _random_json(rng) for _ in range(rng.randint(0, 4))},
        "number": lambda: rng.choice(
            [rng.randint(-(10**7), 10**7), rng.uniform(-1, 1) * 10 ** rng.randint(-9, 15)]
        ),
        "any": lambda: _random_json(rng),
    }
    return [makers[kind]() for _ in range(300)]


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("exact_match", "any"),
        ("normalised_match", "any"),
        ("token_f1", "any"),
        ({"metric": "rouge_l", "tokenizer": "unicode"}, "any"),
        ("bleu", "text"),
        ("chrf", "text"),
        ("set_f1", "list"),
        ("set_f1", "text"),
        ("json_field_f1", "object"),
        ("numeric_match", "number"),
    ],
)
def test_an_answer_written_by_answer_text_is_fully_right(spec: Any, kind: str) -> None:
    wrong = [r for r in _references(kind) if value(spec, answer_text(r), r) < 1 - 1e-9]
    assert wrong == []


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_every_choice_is_matched_by_its_own_text(name: str) -> None:
    choices = ("yes", "no", "3", "C", "C++", "card lost", "card", "+", "Ünï")
    assert [value(name, answer_text(c), c, choices=choices) for c in choices] == [1.0] * len(choices)


@pytest.mark.parametrize("name", list(known()))
def test_a_built_in_metric_tells_its_name_range_and_direction(name: str) -> None:
    metric = build(name, choices=CHOICES)
    assert isinstance(metric, Metric)
    assert (metric.name, metric.range, metric.higher_is_better) == (name, (0.0, 1.0), True)


def test_an_additive_metric_aggregates_by_the_mean() -> None:
    assert whole(build("exact_match"), [("a", ("a",)), ("b", ("a",)), ("c", ("c",))]) == pytest.approx(2 / 3)


def test_an_example_without_references_is_an_error_not_a_zero() -> None:
    with pytest.raises(UserError, match="'e1' has no reference"):
        scored("token_f1", "a")


# --- functions of the user's own -------------------------------------------------------------


def test_a_function_is_a_metric() -> None:
    def short(example: Example, output: str) -> bool:
        return len(output) < 5

    metric = build(short)
    assert (metric.name, value(short, "abc", "x"), value(short, "abcdef", "x")) == ("short", 1.0, 0.0)


def test_a_function_in_a_file_takes_its_options(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def near(example, output, within=1):\n    return len(output) <= within\n"
    )
    metric = build({"metric": "mine.py:near", "within": 3, "name": "brief"}, folder=tmp_path)
    assert metric.name == "brief"
    assert metric.score(example("x"), Prediction("e1", "abc"), None).value == 1.0


def test_a_function_may_explain_its_score() -> None:
    assert scored(lambda e, o: Score(0.5, {"why": "half"}), "a", "b").detail == {"why": "half"}


def test_a_failing_function_names_the_example_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(example, output):\n    return 1 / 0\n")
    metric = build("broken.py:f", folder=tmp_path)
    with pytest.raises(
        UserError, match=r"broken\.py:2: metric 'f' failed on example 'e1': ZeroDivisionError"
    ):
        metric.score(example("x"), Prediction("e1", "abc"), None)


@pytest.mark.parametrize("wrong", [None, float("nan"), "good", 3.2])
def test_a_function_that_gives_no_score_is_told_so(wrong: Any) -> None:
    with pytest.raises(UserError, match="on example 'e1'"):
        scored(lambda e, o: wrong, "a", "b")


def test_an_open_range_allows_any_number() -> None:
    assert value({"metric": lambda e, o: 3.2, "range": None}, "a", "b") == 3.2


def test_a_metric_object_is_taken_as_it_is() -> None:
    metric = build("chrf")
    assert build(metric) is metric


# --- the evaluate library --------------------------------------------------------------------

_SCRIPT = """
import datasets
import evaluate

class Metric(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({"predictions": datasets.Value("%s"), "references": %s}),
        )

    def _compute(self, predictions, references, bonus=0.0):
        same = [p == r or (isinstance(r, list) and p in r) for p, r in zip(predictions, references)]
        return {"share": sum(same) / len(same) + bonus, "right": sum(same)}
"""


def local_metric(folder: Path, name: str, kind: str = "string", references: str = "") -> str:
    (folder / name).mkdir()
    features = references or f'datasets.Value("{kind}")'
    (folder / name / f"{name}.py").write_text(_SCRIPT % (kind, features))
    return f"evaluate:{name}"


def test_a_local_evaluate_script_works_offline(tmp_path: Path) -> None:
    spec = {"metric": local_metric(tmp_path, "shared_words"), "key": "share", "bonus": 0.25}
    metric = build(spec, folder=tmp_path)
    assert metric.name == "shared_words"
    assert metric.score(example("x", "b"), Prediction("e1", "b"), None).value == 1.25  # the best reference


def test_an_evaluate_metric_aggregates_over_everything(tmp_path: Path) -> None:
    metric = build({"metric": local_metric(tmp_path, "counting"), "key": "right"}, folder=tmp_path)
    assert whole(metric, [("a", ("a",)), ("b", ("x", "b")), ("c", ("d",))]) == 2.0


def test_an_evaluate_metric_with_lists_gets_all_references(tmp_path: Path) -> None:
    spec = local_metric(tmp_path, "listing", references='datasets.Sequence(datasets.Value("string"))')
    metric = build({"metric": spec, "key": "share"}, folder=tmp_path)
    assert whole(metric, [("b", ("a", "b")), ("c", ("a",))]) == 0.5


def test_an_evaluate_metric_on_labels_gets_the_choices_numbers(tmp_path: Path) -> None:
    spec = {"metric": local_metric(tmp_path, "labelling", "int32"), "key": "share"}
    metric = build(spec, choices=CHOICES, folder=tmp_path)
    assert whole(metric, [("Refund.", ("refund",)), ("hm", ("card_lost",))]) == 0.5


def test_an_evaluate_metric_with_several_numbers_asks_for_a_key(tmp_path: Path) -> None:
    metric = build(local_metric(tmp_path, "several"), folder=tmp_path)
    with pytest.raises(UserError, match="choose `key` from share, right"):
        metric.score(example("a"), Prediction("e1", "a"), None)


def test_an_evaluate_metric_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no_such_folder' cannot be loaded"):
        build("evaluate:./no_such_folder", folder=tmp_path)


# --- what a wrong spec is told ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("exact", "did you mean exact_match"),
        ("normalized_match", "did you mean normalised_match"),
        ("zzz", "known: exact_match"),
        ({"metric": "bleu", "tokeniser": "zh"}, "field 'tokeniser': metric 'bleu' has no option 'tokeniser'"),
        ({"metric": "bleu", "tokenize": "klingon"}, "no tokenizer 'klingon'"),
        ({"metric": "numeric_match", "rel": "much"}, "field 'rel'"),
        ({"metric": "numeric_match", "abs": -1}, "field 'abs'"),
        ({"metric": "exact_match", "choices": ["a"]}, "no option 'choices'"),
        ({"name": "exact_match"}, "has a key `metric`"),
        ("nowhere.py:f", "no such file"),
        (3, "is no metric"),
    ],
)
def test_a_wrong_spec_is_told(spec: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        build(spec, choices=CHOICES)
    assert told in str(caught.value)


def test_the_first_of_several_metrics_stays_first() -> None:
    assert [m.name for m in build_all(["token_f1", "exact_match"])] == ["token_f1", "exact_match"]


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two metrics are called 'numeric_match'"):
        build_all(["numeric_match", {"metric": "numeric_match", "rel": 0.1}])


def test_a_name_tells_two_settings_of_one_metric_apart() -> None:
    names = [
        m.name for m in build_all(["numeric_match", {"metric": "numeric_match", "rel": 0.1, "name": "near"}])
    ]
    assert names == ["numeric_match", "near"]


def test_no_metric_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="at least one metric"):
        build_all([])
