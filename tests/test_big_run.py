"""Large runs to measure with are what the program's own runner writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from breakeven.harness import results

ROOT = Path(__file__).parent.parent


def test_a_run_of_any_size_is_finished_scored_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import big_run

    made = big_run.write(tmp_path / "run", predictions=900, strategies=3)
    found = results.load(tmp_path / "run")
    assert made == sum(len(c.predictions) for c in found.cells.values()) == 900
    assert {c.state for c in found.cells.values()} == {"done"}
    for name, rows in found.tables.items():
        qualities = [row.quality for row in rows]
        assert len(found.tasks[name].test) == 100
        assert qualities[0] < qualities[-1]  # who is right more often scores more
        assert rows[-1].difference_interval is not None
    assert all(p.meta["passages"] for p in found.cells["handbook_qa--right-0.50"].predictions)
