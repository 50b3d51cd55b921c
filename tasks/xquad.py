"""XQuAD (Artetxe et al. 2020, arXiv:1910.11856): questions over paragraphs, answered by a span of them.

From the Hub (`google/xquad`, CC BY-SA 4.0) or a folder with xquad.<language>.json in SQuAD v1.1 layout. The
paragraphs are the documents; splits are cut by paragraph, so nothing of a tested paragraph is trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from breakeven.harness import readers
from breakeven.harness.contracts import Document, Task
from breakeven.harness.errors import UserError
from breakeven.harness.taskfile import make_task

HUB = "google/xquad"

INSTRUCTIONS = """\
You answer questions about encyclopedia texts. Answer with the shortest span of the text that answers the \
question, copied word for word, without a sentence around it."""


def xquad(data_dir: str | Path | None = None, language: str = "en", seed: int = 0) -> Task:
    """1,190 questions over 240 paragraphs: about 480 to learn from, 120 to choose settings with, 590 to test.

    An example's group is the id of the paragraph that answers it.

    Args:
        data_dir: folder with xquad.<language>.json in place of the Hub.
        language: one of the data set's languages, ISO 639-1.
        seed: of the cut.
    """
    rows = list(_local(Path(data_dir), language) if data_dir is not None else _from_hub(language))
    paragraphs = {_paragraph_id(context): context for _, _, context, _ in rows}
    return make_task(
        "xquad" if language == "en" else f"xquad_{language}",
        description="Questions over 240 paragraphs of Wikipedia, answered by a span",
        licence="CC-BY-SA-4.0",
        instructions=INSTRUCTIONS,
        input_template="{{ question }}",
        data=[
            {"id": name, "question": question, "answers": answers, "paragraph": _paragraph_id(context)}
            for name, question, context, answers in rows
        ],
        columns={"input": "question", "references": "answers", "id": "id", "group": "paragraph"},
        documents=[Document(name, text) for name, text in paragraphs.items()],
        metrics=["token_f1", "normalised_match"],
        max_tokens=32,
        language=language,
        sizes={"test": 590, "validation": 120},
        seed=seed,
    )


Row = tuple[str, str, str, list[str]]  # id, question, context, answers


def _local(folder: Path, language: str) -> Iterator[Row]:
    path = folder / f"xquad.{language}.json"
    if not path.is_file():
        raise UserError("there is no such file", file=path, field="data_dir")
    try:
        articles: list[dict[str, Any]] = json.loads(readers.read_text(path))["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = [str(answer["text"]) for answer in question["answers"]]
                    yield str(question["id"]), str(question["question"]), str(paragraph["context"]), answers
    except (json.JSONDecodeError, KeyError, TypeError) as e:
        raise UserError(f"is not in SQuAD v1.1 layout: {e!r}", file=path) from e


def _from_hub(language: str) -> Iterator[Row]:
    for rows in readers.read(f"{HUB}:xquad.{language}").values():
        for row in rows:
            values: Any = row.values
            answers = [str(text) for text in values["answers"]["text"]]
            yield str(values["id"]), str(values["question"]), str(values["context"]), answers


def _paragraph_id(context: str) -> str:
    return "p-" + hashlib.sha256(context.encode()).hexdigest()[:10]
