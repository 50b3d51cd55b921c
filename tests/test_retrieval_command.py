"""`breakeven retrieval`: the numbers of every stage without a language model."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from strategy_fakes import LetterEmbedder

from breakeven.harness import embedding
from breakeven.harness import suite as suites
from breakeven.harness.cli import retrieval
from breakeven.harness.ledger import Ledger
from breakeven.harness.retrieved import MEASURES

ROWS = [
    {"question": "what colour is the winter sky", "answer": "blue", "page": "sky"},
    {"question": "what does error XK-2201 mean", "answer": "a shut valve", "page": "errors"},
    {"question": "how deep is the sea", "answer": "deep", "page": "sea"},
    {"question": "is the sea cold", "answer": "yes", "page": "sea"},
]
PAGES = {"sky": "the winter sky is blue", "sea": "the sea is deep and cold", "errors": "XK-2201: valve shut"}
TASK = """\
name: pages
instructions: Answer.
input_template: "{{ question }}"
data: {test: rows.jsonl}
columns: {input: question, reference: answer, GROUP}
documents: pages
metrics: [exact_match]
sizes: {train: 0, validation: 0}
"""
SUITE = """\
suite: pages
tasks: {pages: {task: pages.yaml}}
strategies:
  zero-shot: {}
  dense: {strategy: levers, context: {k: 1}}
  words: {strategy: levers, context: {k: 1, retriever: lexical}}
  both: {strategy: levers, context: {k: 1, retriever: hybrid}}
  oracle: {strategy: levers, context: {k: 1, retriever: oracle}}
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def letters(ledger: Ledger | None = None) -> LetterEmbedder:
        return LetterEmbedder(ledger or Ledger(), [])

    monkeypatch.setattr(embedding, "SentenceEmbedder", letters)
    (tmp_path / "pages").mkdir()
    for name, text in PAGES.items():
        (tmp_path / "pages" / f"{name}.md").write_text(text)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    (tmp_path / "pages.yaml").write_text(TASK.replace("GROUP", "group: page"))
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path / "suite.yaml"


def numbers(said: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(r["strategy"], r["stage"]): r for r in json.loads(said.out)["stages"]}


def test_every_stage_of_every_strategy_that_retrieves_has_its_numbers(
    suite: Path, breakeven: Callable[..., Any]
) -> None:
    said = breakeven("retrieval", suite, "--format", "json")
    assert said.code == 0, said.err
    assert list(numbers(said)) == [
        ("dense", "dense"), ("words", "lexical"), ("both", "dense"), ("both", "lexical"), ("both", "fused"),
    ]  # fmt: skip


def test_numbers_are_those_of_the_ranks(suite: Path, breakeven: Callable[..., Any]) -> None:
    found = numbers(breakeven("retrieval", suite, "--format", "json"))["words", "lexical"]
    assert found["ranks"] == [1, 1, 1, 1]
    value, low, high = found["recall@1"]
    assert value == 1.0
    assert low < 1.0 <= high


def test_the_table_shows_stages_and_differences_to_the_first_strategy(
    suite: Path, breakeven: Callable[..., Any], tmp_path: Path
) -> None:
    said = breakeven("retrieval", suite, "--save", tmp_path / "found.md")
    written = (tmp_path / "found.md").read_text()
    for text in (said.out, written):
        assert "pages: 4 questions about 3 documents" in text
        assert "recall@1" in text
        assert "- dense" in text
        assert "oracle on pages: a ceiling" in text
        assert "zero-shot" not in text


def test_a_file_gets_the_whole_table(suite: Path, breakeven: Callable[..., Any]) -> None:
    said = breakeven("retrieval", suite)
    head = next(line for line in said.out.splitlines() if line.startswith("strategy"))
    assert [m for m in MEASURES if m in head] == list(MEASURES)
    assert "…" not in said.out


@pytest.mark.parametrize(
    ("width", "spared"), [(160, ()), (100, ("recall@5",)), (80, ("recall@5", "recall@3"))]
)
def test_a_narrow_terminal_goes_without_columns_and_says_so(
    suite: Path, width: int, spared: tuple[str, ...]
) -> None:
    out = io.StringIO()
    found = retrieval.measure(suites.load(suite))
    retrieval.show(Console(file=out, force_terminal=True, color_system=None, width=width), found)
    text = out.getvalue()
    table = [line for line in text.splitlines() if not line.startswith(("no room", "note:"))]
    assert max(len(line) for line in table) <= width
    assert "…" not in text
    head = next(line for line in table if line.startswith("strategy"))
    assert "recall@1" in head
    for name in spared:
        assert name not in head
        assert name in text.partition("no room on this terminal for ")[2]
    assert ("no room" in text) == bool(spared)


def test_a_long_name_is_folded_and_no_figure_is_cut(suite: Path) -> None:
    name = "words-and-[nothing]-but-words-of-the-handbook"
    suite.write_text(SUITE.replace("  words:", f"  '{name}':"))
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=60)
    retrieval.show(console, retrieval.measure(suites.load(suite)))
    text = out.getvalue()
    assert "…" not in text
    firsts = [line.split(" ")[0] for line in text.splitlines()]
    assert name in "".join(firsts)


def test_json_has_what_a_narrow_terminal_goes_without(suite: Path, breakeven: Callable[..., Any]) -> None:
    found = numbers(breakeven("retrieval", suite, "--format", "json"))
    assert found["both", "fused"]["ms_a_question"] > 0
    assert found["both", "dense"]["ms_a_question"] is None
    assert "index_seconds" in found["both", "fused"]


def test_a_task_that_does_not_say_which_document_answers_is_named(
    suite: Path, breakeven: Callable[..., Any]
) -> None:
    (suite.parent / "pages.yaml").write_text(TASK.replace(", GROUP", ""))
    said = breakeven("retrieval", suite)
    assert said.code == 2
    assert "no strategy of this suite retrieves on a task that says which document answers" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--format", "xml"], "one of text, md, json"), (["--save", "x.csv"], "neither in .md")],
)
def test_wrong_options_are_named(
    suite: Path, breakeven: Callable[..., Any], arguments: list[str], says: str
) -> None:
    said = breakeven("retrieval", suite, *arguments)
    assert said.code == 2
    assert says in said.err


def test_passages_that_are_not_read_to_their_ends_are_told(
    suite: Path, breakeven: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LetterEmbedder, "context", 7, raising=False)
    monkeypatch.setattr(
        LetterEmbedder, "count_tokens", lambda self, texts: [len(t.split()) for t in texts], raising=False
    )
    said = breakeven("retrieval", suite, "--format", "json")
    told = [r for r in json.loads(said.out)["remarks"] if "longer than the 7 tokens" in r]
    assert [remark.partition(" on ")[0] for remark in told] == ["dense", "both"]


def test_documents_in_a_script_that_the_embedding_model_does_not_know_are_told(
    suite: Path, breakeven: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def english(ledger: Ledger | None = None) -> LetterEmbedder:
        return LetterEmbedder(ledger or Ledger(), [], "all-minilm-l6-v2")

    monkeypatch.setattr(embedding, "SentenceEmbedder", english)
    for page in PAGES:
        (suite.parent / "pages" / f"{page}.md").write_text("सर्दियों का आसमान नीला है")
    said = breakeven("retrieval", suite, "--format", "json")
    remark, *_ = json.loads(said.out)["remarks"]
    assert "letters of the documents are not Latin (most are Devanagari)" in remark
