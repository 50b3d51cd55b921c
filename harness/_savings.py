"""What a cheaper plan would drop, and what that saves: computed from an estimate, nothing is tried again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from breakeven.harness.estimate import CellEstimate, Estimate, Saving
from breakeven.harness.suite import Suite


def savings(made: Estimate, suite: Suite) -> tuple[Saving, ...]:
    """What each cheaper plan would save, most first; those that save less than a hundredth are left out."""
    whole = made.totals(made.cells)
    found = []
    for what, change, kept in _cheaper(made.cells, suite):
        left = made.totals(kept)
        money = None if whole.money is None or left.money is None else whole.money - left.money
        seconds = whole.seconds - left.seconds
        if seconds > whole.seconds / 100 or (money or 0.0) > (whole.money or 0.0) / 100:
            found.append(Saving(what, change, seconds, money, whole.tokens - left.tokens))
    return tuple(sorted(found, key=lambda s: (-s.seconds, -(s.money or 0.0))))


def _cheaper(
    cells: Sequence[CellEstimate], suite: Suite
) -> Iterator[tuple[str, str, Sequence[CellEstimate]]]:
    """(what is dropped, how to say so, the cells that are left)."""
    seeds = {c.seed for c in cells if c.seed is not None}
    if len(seeds) > 1:
        one = suite.seeds[0]
        yield (
            f"one seed instead of {len(seeds)}",
            f"--set 'seeds=[{one}]'",
            [c for c in cells if c.seed in (None, one)],
        )
    largest = {c.task: max(o.train_size for o in cells if o.task == c.task) for c in cells}
    sizes = {(c.task, c.train_size) for c in cells}
    if len(sizes) > len(largest):
        yield (
            "the largest training set only",
            f"--set 'train_sizes=[{max(suite.train_sizes, key=_size)}]'",
            [c for c in cells if c.train_size == largest[c.task]],
        )
    for name in dict.fromkeys(c.strategy for c in cells):
        if name != suite.reference:
            yield f"without {name}", "", [c for c in cells if c.strategy != name]
    for models in [dict.fromkeys(c.model for c in cells if c.model is not None)]:
        for model in models if len(models) > 1 else ():
            yield f"without the model {model}", "", [c for c in cells if c.model != model]
    for tasks in [dict.fromkeys(c.task for c in cells)]:
        for task in tasks if len(tasks) > 1 else ():
            yield f"without the task {task}", "", [c for c in cells if c.task != task]
    half = max((c.examples for c in cells), default=0) // 2
    if half:
        yield (
            f"at most {half} test examples per task",
            f"--limit {half}",
            [_limited(c, half) for c in cells],
        )


def _size(size: int | str) -> float:
    return float("inf") if size == "all" else float(size)


def _limited(cell: CellEstimate, examples: int) -> CellEstimate:
    """The cell with at most so many test examples."""
    if cell.examples <= examples:
        return cell
    share = examples / cell.examples
    seconds = cell.seconds
    return replace(
        cell,
        examples=examples,
        input_tokens=cell.input_tokens * share,
        output_tokens=cell.output_tokens * share,
        seconds=replace(seconds, answering=seconds.answering * share) if seconds is not None else None,
        token_money=cell.token_money * share if cell.token_money is not None else None,
    )
