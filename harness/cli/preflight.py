"""`breakeven preflight`: what would spoil a training, found before it is paid for.

Looks at every strategy that tunes weights: one rendered example with its loss mask, the end token, prompts as
serving will send them, rows that do not fit, duplicates with test, a provider's rules; then what it would
cost. The task itself is `breakeven validate`'s; how costs are predicted is `breakeven estimate`'s.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from breakeven.harness import single, store
from breakeven.harness.cli.validate import Finding
from breakeven.harness.contracts import Input, Request
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.single import Single
from breakeven.harness.training import TrainingPair

if TYPE_CHECKING:
    from breakeven.harness.splits import Leakage

#: Of OpenAI's and Azure's fine-tuning guides; the last unless `weights.max_example_tokens` says otherwise.
LEAST_EXAMPLES, MOST_BYTES, MOST_TOKENS = 10, 512 * 1024**2, 65_536
#: Training examples whose serving prompt is compared.
COMPARED = 8


@dataclass(frozen=True, slots=True)
class Looked:
    """One training before it happens.

    `mask` is one example: its pieces, and whether each is learned; `text` the same of a plain text, where the
    training has both.
    """

    cell: str
    findings: tuple[Finding, ...]
    mask: tuple[tuple[str, bool], ...] = ()
    text: tuple[tuple[str, bool], ...] = ()

    @property
    def fails(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Encoded:
    pair: TrainingPair
    prompt: array[int]
    answer: array[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def _packed(ids: Sequence[int]) -> array[int]:
    """Token ids in four bytes each: all examples are held at once."""
    return array("i", ids)


def preflight(
    what: str,
    strategy: str = "lora",
    model: str = "",
    only: Sequence[str] = (),
    changes: Sequence[str] = (),
    prices: Path | None = None,
    cost: bool = True,
    max_money: float | None = None,
    yes: bool = False,
    console: Console | None = None,
) -> int:
    """Print what is found; the exit code is 2 if something would spoil a training, else 0.

    Raises:
        UserError: also when more than `max_money` (in the suite's currency; its `limits.ask_above` unless
            said) is predicted, or nobody knows how much, without `yes`.
    """
    console = console or Console()
    suite = single.as_suite(what, strategy, model, changes)
    with single.tuned(suite, only, prices) as found:
        if not found:
            raise UserError("no strategy tunes weights here: nothing would be trained", field="strategies")
        looked = [examine(one) for one in found]
    for one in looked:
        show(one, console)
    if cost:
        most = suite.limits.ask_above if max_money is None else max_money
        _cost(suite, [one.cell for one in looked], prices, most, yes, console)
    return 2 if any(one.fails for one in looked) else 0


def examine(one: Single, leakage_of: Callable[[Single], Leakage] | None = None) -> Looked:
    """Everything that can be seen of a training without doing it. Loads a tokenizer, no weights.

    Args:
        leakage_of: finds duplicates between test and the rest; for whoever knows them already.
    """
    try:
        return look(one, leakage_of)
    except NotApplicable as error:
        return Looked(one.spec.id, (Finding("error", "training", str(error)),))


def look(one: Single, leakage_of: Callable[[Single], Leakage] | None = None) -> Looked:
    """The same of a training that there is. Raises NotApplicable where there is none."""
    from breakeven.harness import plan

    services = one.services()
    brief, validation = one.task.brief, one.task.validation
    train = plan.training_rows(one.world.tasks, one.spec)
    try:
        pairs, _ = one.strategy.training_pairs(brief, train, validation, services)
    except UserError as error:
        return Looked(one.spec.id, (Finding("error", "training", str(error)),))
    if not pairs:
        return Looked(one.spec.id, (Finding("error", "training", "there are no training examples"),))
    inputs = [Input(e.id, e.input, e.group) for e in train[:COMPARED]]
    requests = one.strategy.requests(brief, train, validation, services, inputs)
    findings = [*_served(pairs, requests)]
    assert services.engine is not None
    engine: Any = services.engine.raw
    card = services.engine.describe()
    mask: tuple[tuple[str, bool], ...] = ()
    text: tuple[tuple[str, bool], ...] = ()
    if hasattr(engine, "encode"):
        encoded = [_Encoded(p, *map(_packed, engine.encode(p.messages, p.answer))) for p in pairs]
        longest = min(card.context or 2**31, _max_length(one) or 2**31)
        prompts = _learns_prompts(one)
        findings += [*_learned(encoded, engine.end_id, prompts), *_room(encoded, longest)]
        asked = {r.id: services.engine.count_tokens(r) for r in requests}
        findings += _same_tokens(encoded, asked)
        chats, texts = ([e for e in encoded if e.pair.is_text == is_text] for is_text in (False, True))
        mask, text = (_mask(some, engine, prompts) for some in ((chats, texts) if chats else (texts, [])))
    else:
        findings.append(Finding("ok", "mask", f"{card.data_goes_to} masks: all but the last answer is shown"))
        last = pairs[len(pairs) // 2]
        mask = (*((f"[{m['role']}] {m['content']}\n", False) for m in last.messages), (last.answer, True))
    findings += _duplicates((leakage_of or _leakage)(one))
    if card.data_goes_to != "this machine":
        sizes = [pair.tokens(services.engine.count_tokens) for pair in pairs]
        findings += providers_rules(pairs, sizes, card.data_goes_to, _most_tokens(one))
    return Looked(one.spec.id, tuple(findings), mask, text)


def _weights(one: Single) -> dict[str, Any]:
    return one.spec.settings.get("weights") or {}


def _learns_prompts(one: Single) -> bool:
    """Whether the trainer has no loss mask, as its factory says (`learns_prompts`)."""
    from breakeven.harness import registry

    name = _weights(one).get("trainer", "peft")
    known = registry.providers("trainers").get(name)  # one in a user's file is taken to mask prompts
    return known is not None and bool(getattr(known.load(), "learns_prompts", False))


def _mask(encoded: Sequence[_Encoded], engine: Any, prompts: bool) -> tuple[tuple[str, bool], ...]:
    """An example of middle length, spelled; nothing where there is none. `prompts` are learned, too."""
    if not encoded:
        return ()
    shown = sorted(encoded, key=len)[len(encoded) // 2]
    return (engine.spelled(shown.prompt), prompts), (engine.spelled(shown.answer), True)


def _max_length(one: Single) -> int | None:
    """What the trainer cuts examples to; of several that are tried, the shortest."""
    weights = _weights(one)
    tried = ((weights.get("search") or {}).get("settings") or {}).get("max_length") or ()
    lengths = tried or (weights.get("max_length"),)
    return min((n for n in lengths if isinstance(n, int)), default=None)


def _most_tokens(one: Single) -> int:
    """What the provider takes of one example, prompt and answer, as far as the settings say."""
    most = _weights(one).get("max_example_tokens")
    return most if isinstance(most, int) else MOST_TOKENS


def _served(pairs: Sequence[TrainingPair], requests: Sequence[Request]) -> Iterator[Finding]:
    trained = {pair.id: pair for pair in pairs if not pair.is_text}
    if texts := len(pairs) - len(trained):
        alone = "" if trained else ", and no prompt: nothing here teaches it to answer what serving asks"
        what = f"{texts:,} texts of documents are trained as they stand{alone}"
        yield Finding("ok" if trained else "warning", "documents", what)
    if not trained:
        return
    other = [f"example '{r.id}'" for r in requests if not _is_served(trained.get(r.id), r)]
    differ = [p.otherwise for p in trained.values() if p.otherwise is not None]
    compared = f"({len(requests)} of {len(trained):,} compared)"
    if other:
        yield Finding("error", "prompt", "training prompts are not what serving would send", tuple(other))
    elif differ:
        what = f"on purpose, {len(differ):,} training prompts show {differ[0].what}"
        yield Finding("ok", "prompt", f"{what}; the rest of them is what serving sends {compared}")
    else:
        yield Finding("ok", "prompt", f"training prompts are what serving sends {compared}")


def _is_served(pair: TrainingPair | None, request: Request) -> bool:
    """Whether a training prompt is what serving sends, but for what is otherwise on purpose."""
    if pair is None or pair.otherwise is None:
        return pair is not None and pair.messages == request.messages
    rest = pair.otherwise.rest
    if not len(rest) == len(pair.messages) == len(request.messages):
        return False
    return all(
        left["role"] == trained["role"] == served["role"]
        and all(left["content"] in message["content"] for message in (trained, served))
        and (left != trained or left == served)
        for left, trained, served in zip(rest, pair.messages, request.messages, strict=True)
    )


def _same_tokens(encoded: Sequence[_Encoded], asked: dict[str, int]) -> Iterator[Finding]:
    other = [
        f"example '{e.pair.id}': {len(e.prompt):,} tokens trained, {asked[e.pair.id]:,} served"
        for e in encoded
        if e.pair.id in asked and e.pair.otherwise is None and asked[e.pair.id] != len(e.prompt)
    ]
    if other:
        yield Finding("error", "template", "the chat template differs in training and serving", tuple(other))


def _learned(encoded: Sequence[_Encoded], end_id: int, prompts: bool) -> Iterator[Finding]:
    empty = [f"example '{e.pair.id}'" for e in encoded if len(e.answer) < 2]
    if empty:
        yield Finding("error", "mask", "answers without a token that is learned", tuple(empty))
    learned, total = sum(len(e.answer) for e in encoded), sum(map(len, encoded))
    texts = sum(e.pair.is_text for e in encoded)
    first = "the texts but for their first token, which nothing stands before"
    of = {0: "the answers alone", len(encoded): first}.get(texts, f"the answers, and {first}")
    if prompts:
        what = f"all {total:,} tokens are learned, the prompts too; {learned / total:.1%} are answers"
        yield Finding("warning", "mask", f"this trainer has no loss mask: {what}")
    else:
        share = f"{learned:,} of {total:,} tokens are learned ({learned / total:.1%})"
        yield Finding("ok", "mask", f"{share}: {of}")
    endless = [f"example '{e.pair.id}'" for e in encoded if not e.answer or e.answer[-1] != end_id]
    if endless:
        what = "answers do not end in the end token: the tuned model would never stop"
        yield Finding("error", "end", f"{len(endless):,} {what}", tuple(endless))
    else:
        which = "text" if texts == len(encoded) else "answer and every text" if texts else "answer"
        yield Finding("ok", "end", f"every {which} ends in the end token, which is learned")


def _room(encoded: Sequence[_Encoded], longest: int) -> Iterator[Finding]:
    lengths = sorted(map(len, encoded))
    cut = [f"example '{e.pair.id}': {len(e):,} tokens" for e in encoded if len(e) > longest > len(e.answer)]
    lost = [f"example '{e.pair.id}': {len(e.answer):,} tokens" for e in encoded if len(e.answer) >= longest]
    middle, top = lengths[len(lengths) // 2], lengths[-1]
    if not cut and not lost:
        yield Finding("ok", "length", f"median {middle:,}, longest {top:,} tokens; {longest:,} fit")
    if cut:
        what = f"of {len(encoded):,} examples lose the beginning of their prompt: {longest:,} tokens fit"
        yield Finding("warning", "length", f"{len(cut):,} {what}", tuple(cut))
    if lost:
        what = f"examples are dropped: their answer alone fills {longest:,} tokens"
        yield Finding("error" if len(lost) == len(encoded) else "warning", "length", f"{len(lost):,} {what}",
                      tuple(lost))  # fmt: skip


def _leakage(one: Single) -> Leakage:
    from breakeven.harness.splits import leakage

    return leakage(one.task)


def _duplicates(found: Leakage) -> Iterator[Finding]:
    if found.exact or found.near:
        what = f"{found.exact:,} test inputs are in train or validation too, {found.near:,} nearly so"
        yield Finding("warning", "duplicates", f"{what}; see `breakeven validate`")
    else:
        yield Finding("ok", "duplicates", "no test input is among the rows that are trained on")


def providers_rules(
    pairs: Sequence[TrainingPair], sizes: Sequence[int], host: str, most: int = MOST_TOKENS
) -> Iterator[Finding]:
    """What OpenAI and Azure refuse a file for. `sizes` are the tokens of prompt and answer, `most` so many as
    an example may have."""
    if len(pairs) < LEAST_EXAMPLES:
        yield Finding("error", "provider", f"{host} wants {LEAST_EXAMPLES} examples, there are {len(pairs)}")
    size = sum(len(store.dumps([dict(m) for m in p.messages])) + len(p.answer) + 64 for p in pairs)
    if size > MOST_BYTES:
        yield Finding("error", "provider", f"{host} takes {MOST_BYTES:,} bytes, the rows have {size:,}")
    long = [f"example '{p.id}': about {n:,}" for p, n in zip(pairs, sizes, strict=True) if n > most]
    if long:
        what = f"examples of more than {most:,} tokens, which {host} may cut off"
        yield Finding("warning", "provider", f"{len(long):,} {what}", tuple(long))
    if len(pairs) >= LEAST_EXAMPLES and size <= MOST_BYTES and not long:
        yield Finding("ok", "provider", f"{len(pairs):,} examples, {size:,} bytes: within {host}'s rules")


# --- showing ---------------------------------------------------------------------------------


def show(looked: Looked, console: Console) -> None:
    """The findings, the worst first; then the example, what is learned of it coloured and between ⟦ ⟧."""
    console.print(Text(f"\n{looked.cell}", style="bold"))
    styles = {"error": "red", "warning": "yellow", "ok": "green"}
    for level, style in styles.items():
        for finding in looked.findings:
            if finding.level == level:
                line = f"{level:>7}  {finding.check}: {finding.what}"
                console.print(Text(line, style=style), soft_wrap=True)
                for instance in finding.instances[:3]:
                    console.print(Text(f"         - {instance}"), soft_wrap=True)
    for what, mask in (("example", looked.mask), ("text", looked.text)):
        if not mask:
            continue
        console.print(Text(f"one {what}, what is learned of it between ⟦ and ⟧:", style="bold"))
        shown = Text()
        for piece, learned in mask:
            shown.append(f"⟦{piece}⟧" if learned else piece, style="bold green" if learned else "dim")
        console.print(shown, soft_wrap=True)


def _cost(
    suite: Any, cells: Sequence[str], prices: Path | None, most: float, yes: bool, console: Console
) -> None:
    from breakeven.harness.estimate import estimate

    found = estimate(suite, only=cells, prices=prices, seconds=5.0)
    total = found.totals()
    tokens = f"{total.training_tokens:,.0f} training tokens in {total.trainings} trainings"
    money = f"{total.money:,.4f} {found.currency}" if total.money is not None else "unknown"
    console.print(
        Text(f"\npredicted, training and answering: {tokens}, {total.seconds / 60:.1f} min, {money}")
    )
    if yes or (total.money is not None and total.money <= most):
        return
    raise UserError(
        f"the predicted cost is {money}, and more than {most:g} {found.currency} wants to be accepted",
        field="--max-money",
        hint="say --yes, or a higher --max-money",
    )
