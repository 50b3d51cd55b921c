"""Puts what a command measured between its marks in a Markdown page."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`; SystemExit where there are none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    if before.count(begin) != 1 or before.count(end) != 1:
        raise SystemExit(f"{page}: there is no place for the table; put {begin} and {end} where it belongs")
    head, rest = before.split(begin)
    page.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")
