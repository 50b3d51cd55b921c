"""A reference that is chosen by the validation examples, with a language model: what that costs is search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_suite import letters, tiny_model, write_suite

from breakeven.harness import results

CHOSEN = {"zero-shot": {}, "few-shot": {"demonstrations": {"k": 2}}}


def test_choosing_the_reference_is_booked_as_search_and_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable
) -> None:
    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)
    model = tiny_model(tmp_path / "model")
    found = {}
    for reference in ("zero-shot", "best-on-validation"):
        suite = write_suite(tmp_path, model, strategies=CHOSEN, reference=reference)
        assert breakeven("run", str(suite), "--name", reference).code == 0
        found[reference] = results.load(tmp_path / "runs" / reference)
    plain, chosen = found["zero-shot"].cells, found["best-on-validation"].cells
    for id in plain:
        assert [p.output for p in chosen[id].predictions] == [p.output for p in plain[id].predictions]
        for phase, more in (("serve", 0), ("search", 1)):
            before, after = (c[id].ledger.total("input_tokens", phase).value or 0 for c in (plain, chosen))
            assert (after > before) == bool(more)
        assert set(chosen[id].validation) == {"accuracy"}
