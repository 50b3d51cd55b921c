"""`breakeven validate`: what would make a task's numbers wrong, found before anything is measured.

`examine` looks at a task and makes a `Report`; `show` prints it. Which model the prompts must fit is said by
a callable that counts tokens, so that nothing here loads one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from breakeven.harness.contracts import Example, Json, Message, Request, Task
from breakeven.harness.errors import UserError

Level = Literal["error", "warning", "ok"]
SPLITS = ("train", "validation", "test")
_SHOWN = 3  # instances shown of each finding
_LONGEST = 200  # prompts whose tokens are counted: the longest in characters


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found (or found right). `instances` are examples of it, for the reader."""

    level: Level
    check: str
    what: str
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All findings on a task, and the plain prompt of its first test example."""

    task: Task
    findings: tuple[Finding, ...]
    prompt: tuple[Message, ...] = ()

    def worst(self) -> Level:
        levels = {finding.level for finding in self.findings}
        return "error" if "error" in levels else "warning" if "warning" in levels else "ok"

    def exit_code(self, strict: bool = False) -> int:
        """0 when all is well, 1 for warnings under `strict`, 2 for errors."""
        return {"error": 2, "warning": 1 if strict else 0, "ok": 0}[self.worst()]


def examine(
    task: Task, *, count_tokens: Callable[[Request], int] | None = None, context: int | None = None
) -> Report:
    """Everything that can be checked without running a strategy.

    Args:
        count_tokens: input tokens of a request, as an engine counts them; without it, no lengths.
        context: the model's context in tokens; None where it is unknown.
    """
    checks = (_splits, _ids, _labels, _leakage, _contradictions, _references, _damage, _documents, _seen)
    findings = [finding for check in checks for finding in check(task)]
    prompts, faults = _prompts(task)
    findings += faults or [Finding("ok", "template", "fits every example")]
    if count_tokens is not None and not faults:
        findings += _lengths(task, prompts, count_tokens, context)
    first = prompts.get(task.test[0].id, ()) if task.test else ()
    return Report(task, tuple(findings), first)


def show(report: Report, console: Console) -> None:
    """The findings with their instances, the worst first, then one prompt."""
    task = report.task
    sizes = ", ".join(f"{split} {len(getattr(task, split)):,}" for split in SPLITS)
    _say(console, f"{task.name}: {sizes}, documents {len(task.documents):,}", "bold")
    marks = {"error": ("error", "red"), "warning": ("warning", "yellow"), "ok": ("ok", "green")}
    for level, (mark, style) in marks.items():
        for finding in report.findings:
            if finding.level == level:
                _say(console, f"{mark:>7}  {finding.check}: {finding.what}", style)
                for instance in finding.instances[:_SHOWN]:
                    _say(console, f"         - {instance}")
                if len(finding.instances) > _SHOWN:
                    _say(console, f"         - and {len(finding.instances) - _SHOWN:,} more")
    if report.prompt:
        _say(console, "\nthe prompt of the first test example, without demonstrations and passages:", "bold")
        for message in report.prompt:
            _say(console, f"[{message['role']}]", "dim")
            _say(console, message["content"])


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


# --- the checks ------------------------------------------------------------------------------


def _all(task: Task) -> Iterator[tuple[str, Example]]:
    for split in SPLITS:
        for example in getattr(task, split):
            yield split, example


def _finding(check: str, level: Level, instances: Sequence[str], wrong: str, right: str) -> Finding:
    """`wrong` with its count when there are instances, else `right`."""
    if not instances:
        return Finding("ok", check, right)
    return Finding(level, check, f"{len(instances):,} {wrong}", tuple(instances))


def _splits(task: Task) -> Iterator[Finding]:
    if not task.test:
        yield Finding("error", "splits", "the test split is empty, nothing could be scored")
    for split in ("train", "validation"):
        if not getattr(task, split):
            what = "nothing can be learned" if split == "train" else "settings cannot be chosen"
            yield Finding("warning", "splits", f"the {split} split is empty, {what}")
    if task.test and len(task.test) < 100:
        text = f"{len(task.test)} test examples: only large differences will show"
        yield Finding("warning", "splits", text)
    groups = [{e.group for e in getattr(task, s) if e.group is not None} for s in SPLITS]
    shared = (groups[0] | groups[1]) & groups[2]
    if any(groups):
        instances = [str(group) for group in sorted(shared, key=str)]
        yield _finding("groups", "warning", instances, "groups are in test and outside it", "none is divided")


def _ids(task: Task) -> Iterator[Finding]:
    counts = Counter(e.id for _, e in _all(task))
    twice = [f"'{name}' {n} times" for name, n in counts.items() if n > 1]
    yield _finding("ids", "error", twice, "ids are given more than once", "all different")


def _labels(task: Task) -> Iterator[Finding]:
    if task.choices is None:
        return
    outside = [
        f"{_short(r)} in {split} example '{e.id}'"
        for split, e in _all(task)
        for r in e.references
        if r not in task.choices
    ]
    yield _finding("labels", "error", outside, "answers are not among the choices", "all among the choices")
    seen = {r for e in task.train for r in e.references}
    unseen = [choice for choice in task.choices if choice not in seen]
    if task.train:
        yield _finding("choices", "warning", unseen, "choices never occur in train", "all occur in train")


def _leakage(task: Task) -> Iterator[Finding]:
    from breakeven.harness.splits import leakage

    found = leakage(task)
    texts = {e.id: _short(list(e.input.values())) for _, e in _all(task)}
    pairs = [f"{texts[a]} | {texts[b]} ({cosine:.2f})" for a, b, cosine in found.pairs]
    if not pairs:
        yield Finding("ok", "leakage", "no test input is in train or validation, exactly or nearly")
        return
    what = (
        f"of {len(task.test):,} test inputs {found.exact:,} are in train or validation too "
        f"and {found.near:,} nearly so"
    )
    yield Finding("warning", "leakage", what, tuple(pairs))


def _contradictions(task: Task) -> Iterator[Finding]:
    """The same input (with choices: nearly the same) with different answers."""
    from breakeven.harness.splits import near_pairs, text_of

    examples = [e for _, e in _all(task)]
    texts = [text_of(e.input) for e in examples]
    pairs: list[tuple[int, int]] = []
    if task.choices is not None:
        pairs = [(i, j) for i, j, _ in near_pairs(texts)]
    else:
        same: dict[str, list[int]] = defaultdict(list)
        for i, text in enumerate(texts):
            same[text].append(i)
        pairs = [(members[0], j) for members in same.values() for j in members[1:]]
    found = [
        f"{_short(list(examples[i].input.values()))}: {_short(examples[i].references[0])} | "
        f"{_short(list(examples[j].input.values()))}: {_short(examples[j].references[0])}"
        for i, j in pairs
        if not _answers(examples[i]) & _answers(examples[j])
    ]
    nearly = "nearly " if task.choices is not None else ""
    wrong = f"pairs of {nearly}the same input have different answers"
    yield _finding("contradictions", "warning", found, wrong, f"{nearly}the same input, the same answer")


def _answers(example: Example) -> set[str]:
    from breakeven.harness.metrics import answer_text

    return {answer_text(r).strip().casefold() for r in example.references}


def _references(task: Task) -> Iterator[Finding]:
    empty = [
        f"{split} example '{e.id}'"
        for split, e in _all(task)
        if not e.references or any(r is None or r == [] or not str(r).strip() for r in e.references)
    ]
    yield _finding("references", "warning", empty, "examples have an empty answer", "none is empty")


def _damage(task: Task) -> Iterator[Finding]:
    from breakeven.harness.data import damage

    places: list[tuple[str, Json]] = [("the instructions", task.instructions)]
    for split, e in _all(task):
        places.append((f"{split} example '{e.id}'", [*e.input.values(), *e.references]))
    places += [(f"document '{d.id}'", d.text) for d in task.documents]
    found = [f"{where}: {problem}" for where, value in places if (problem := damage(_text(value)))]
    yield _finding("encoding", "warning", found, "texts are damaged", "no mojibake, no byte-order marks")


def _documents(task: Task) -> Iterator[Finding]:
    """For questions over documents: does any document say the answer?"""
    from breakeven.harness.splits import text_of

    asked = [e for e in task.test if any(isinstance(r, str) for r in e.references)]
    if not task.documents or task.choices is not None or not asked:
        return
    texts = [text_of({"text": d.text}) for d in task.documents]
    missing = [
        f"{_short(e.references[0])} (test example '{e.id}')"
        for e in asked
        if not any(text_of({"text": r}) in text for r in e.references if isinstance(r, str) for text in texts)
    ]
    share = 1 - len(missing) / len(asked)
    what = f"{share:.0%} of the test answers stand word for word in a document"
    yield Finding("ok" if share >= 0.5 else "warning", "documents", what, tuple(missing))


def _seen(task: Task) -> Iterator[Finding]:
    """The smallest difference between two strategies that so many test examples show."""
    from breakeven.harness import power

    n, metric = len(task.test), task.primary
    if not n:
        return
    scale = metric.range
    if getattr(metric, "binary", False):
        least = {share: power.detectable_discordant(n, share) for share in power.ASSUMED_DISCORDANT}
        seen = {f"{100 * share:.0f}": f"{100 * d:.1f}" for share, d in least.items() if d is not None}
        unit = "points" if metric.additive else "points of right answers"
        what = (
            f"show a difference of {_listed(list(seen.values()))} {unit} between two strategies that "
            f"disagree on {_listed(list(seen))} % of them"
            if seen
            else f"are too few for strategies that disagree on {100 * max(least):.0f} % of them or less"
        )
    elif scale is not None:
        span = scale[1] - scale[0]
        from_here = power.minimum_detectable_effect(n, power.ASSUMED_VARIANCE * span**2)
        what = (
            f"show a difference of {from_here:.3g} on the scale from {scale[0]:g} to {scale[1]:g}, "
            f"if the differences of two strategies vary as assumed by Miller (2024), 1/9 of its square"
        )
    else:
        from_here = power.minimum_detectable_effect(n, 1.0)
        what = f"show a difference of {from_here:.2f} standard deviations of the paired differences"
    what += " (80 % power, 5 % level)"
    groups = len({e.group for e in task.test if e.group is not None})
    if groups:
        what += f"; only larger ones if the examples of a group ({groups:,} groups) are alike"
    yield Finding("ok", "detectable", f"{n:,} test examples {what}")


def _listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# --- prompts ---------------------------------------------------------------------------------


def _prompts(task: Task) -> tuple[dict[str, tuple[Message, ...]], list[Finding]]:
    """The plain prompt of every example by id, and what keeps one from being rendered."""
    from breakeven.harness.templating import render

    system = task.instructions
    if task.choices is not None:
        system += "\n\nThe answers to choose from:\n" + "\n".join(f"- {choice}" for choice in task.choices)
    prompts: dict[str, tuple[Message, ...]] = {}
    broken, blank = [], []
    for split, example in _all(task):
        try:
            turns = _turns(task, example) or [
                {"role": "user", "content": render(task.input_template, example.input)}
            ]
        except UserError as error:
            broken.append(f"{split} example '{example.id}': {error}")
            continue
        if not "".join(turn["content"] for turn in turns).strip():
            blank.append(f"{split} example '{example.id}'")
        prompts[example.id] = ({"role": "system", "content": system}, *turns)
    faults = {"prompts cannot be rendered": broken, "prompts are empty": blank}
    return prompts, [_finding("template", "error", who, what, "") for what, who in faults.items() if who]


def _turns(task: Task, example: Example) -> list[Message]:
    """The messages of a chat input; nothing for inputs that a template renders."""
    messages = example.input.get("messages")
    if task.input_template.strip() or not isinstance(messages, list):
        return []
    return [{"role": str(m["role"]), "content": str(m["content"])} for m in messages if isinstance(m, dict)]


def _lengths(
    task: Task,
    prompts: dict[str, tuple[Message, ...]],
    count_tokens: Callable[[Request], int],
    context: int | None,
) -> Iterator[Finding]:
    from breakeven.harness.metrics import answer_text

    longest = sorted(prompts.items(), key=lambda p: -sum(len(m["content"]) for m in p[1]))[:_LONGEST]
    counted = {
        name: count_tokens(Request(name, messages=messages, max_tokens=task.max_tokens))
        for name, messages in longest
    }
    top = max(counted.values(), default=0)
    room = f"the longest prompt has {top:,} tokens, an answer may take {task.max_tokens:,}"
    if context is None:
        yield Finding("ok", "length", f"{room}; the model's context is not known")
    else:
        over = [f"example '{n}': {t:,} tokens" for n, t in counted.items() if t + task.max_tokens > context]
        level: Level = "error" if over else "ok"
        yield Finding(level, "length", f"{room}, the context is {context:,}", tuple(over))
    answers = {e.id: answer_text(e.references[0]) for _, e in _all(task) if e.references}
    by_length = sorted(answers.items(), key=lambda pair: -len(pair[1]))[:_LONGEST]
    sizes = {name: count_tokens(Request(name, text=answer)) + 1 for name, answer in by_length if answer}
    cut_off = [f"example '{name}': {n:,} tokens" for name, n in sizes.items() if n > task.max_tokens]
    yield _finding(
        "answers",
        "warning",
        cut_off,
        f"answers need more than max_tokens ({task.max_tokens}) with their end token",
        f"the longest takes {max(sizes.values(), default=0):,} of max_tokens ({task.max_tokens})",
    )


# --- words -----------------------------------------------------------------------------------


def _text(value: Json) -> str:
    if isinstance(value, list):
        return "\n".join(_text(v) for v in value)
    if isinstance(value, dict):
        return "\n".join(_text(v) for v in value.values())
    return str(value)


def _short(value: Json, limit: int = 70) -> str:
    text = " ".join(_text(value).split())
    return f"'{text[: limit - 1]}…'" if len(text) > limit else f"'{text}'"
