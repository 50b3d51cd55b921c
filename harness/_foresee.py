"""A suite's cells before any of them runs: prompts rendered, training counted, no language model asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from breakeven.harness import plan, store
from breakeven.harness.contracts import Embedder, Engine, Input, Request, Services, Task, take
from breakeven.harness.energy import EnergyMeter
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.plan import CellSpec
from breakeven.harness.previews import Previewed, TrainingOutlook
from breakeven.harness.session import Journal, Session
from breakeven.harness.suite import Suite

#: Test examples of a task that are all rendered; of more, so many as `RENDERED`.
ALL_RENDERED, RENDERED = 256, 128
#: Training examples and documents looked at.
LOOKED_AT = 512
#: Cells that are all looked at; in a larger suite, further seeds are taken to be like the first.
ALL_SEEDS = 64

Kind = tuple[str, str, str]


@dataclass(frozen=True)
class Foreseen:
    """A cell as far as it is known without a language model.

    `requests` are those of the test examples that were rendered, `sizes` the tokens of their prompts, `timed`
    those that the timing passes ask again; `fitting` and `rendering` the seconds that fitting (without
    training) and rendering all test examples take; `trials` and `judged_on` as in `Preview`.
    """

    spec: CellSpec
    state: str
    reason: str = ""
    examples: int = 0
    requests: tuple[Request, ...] = ()
    sizes: tuple[int, ...] = ()
    timed: tuple[Request, ...] = ()
    fitting: float = 0.0
    rendering: float = 0.0
    training: TrainingOutlook | None = None
    trials: tuple[TrainingOutlook, ...] = ()
    judged_on: int = 0

    @property
    def trainings(self) -> tuple[TrainingOutlook, ...]:
        """Its own and those of its search."""
        return (self.training, *self.trials) if self.training is not None else ()

    @property
    def kind(self) -> Kind:
        """Cells of a kind ask alike: they differ in seed and training size only."""
        return self.spec.task, self.spec.strategy, self.spec.model or ""

    @property
    def is_asked(self) -> bool:
        """Whether only asking tells how long the answers are: a tuned model answers as it was taught."""
        return bool(self.requests) and (self.training is None or self._scores)

    @property
    def _scores(self) -> bool:
        return self.requests[0].choices is not None


@dataclass(frozen=True)
class World:
    """What looking ahead needs of a run: suite, tasks, engines, embedding model, and a scratch folder.

    `loading` gathers the seconds that loading the embedding model takes, once one is asked for. At most
    `sample` training examples and documents are looked at; `meter` makes a meter for what is indexed.
    """

    suite: Suite
    tasks: Mapping[str, Task]
    engine_of: Callable[[str], Engine]
    embedder_of: Callable[[Ledger], Embedder]
    folder: Path
    say: Callable[[str], None] = lambda text: None
    loading: list[float] = field(default_factory=list)
    sample: int = LOOKED_AT
    meter: Callable[[], EnergyMeter | None] = lambda: None

    def embedder(self, ledger: Ledger) -> Embedder:
        if not self.loading:
            start = time.perf_counter()
            self.embedder_of(Ledger()).encode(["loaded"], phase="index")
            self.loading.append(time.perf_counter() - start)
        return self.embedder_of(ledger)

    def services(self, spec: CellSpec, ledger: Ledger) -> Services:
        engine = self.engine_of(spec.model) if spec.model is not None else None
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return Services(
            seed=spec.seed if spec.seed is not None else self.suite.seeds[0],
            ledger=ledger,
            scratch=scratch,
            artifacts=store.ArtifactStore(self.folder / "artifacts", ledger, self.meter),
            engine=Session(engine, Journal(None), ledger, "serve") if engine is not None else None,
            embedder=lambda: self.embedder(ledger),
        )


def foresee(spec: CellSpec, world: World) -> Foreseen:
    """Render a cell's prompts, count its training; nothing is asked."""
    task = plan.task_of(world.tasks, spec)
    strategy = plan.make_strategy(spec.strategy, spec.factory, spec.settings)
    if not isinstance(strategy, Previewed):
        return Foreseen(spec, "unknown", "this strategy says nothing before it runs", len(task.test))
    chosen = take(task.test, len(task.test) if len(task.test) <= ALL_RENDERED else RENDERED)
    loaded = sum(world.loading)
    try:
        start = time.perf_counter()
        services = world.services(spec, Ledger())
        train = plan.training_rows(world.tasks, spec)
        preview = strategy.preview(task.brief, train, task.validation, services, world.sample)
        fitted = time.perf_counter()
        start += sum(world.loading) - loaded
        requests = tuple(preview.requests([Input(e.id, e.input) for e in chosen]))
        rendered = time.perf_counter()
    except NotApplicable as error:
        return Foreseen(spec, "not-applicable", error.reason)
    except UserError as error:
        return Foreseen(spec, "fails", str(error), len(task.test))
    engine = services.engine
    again = {e.id for e in take(task.test, world.suite.timing.examples)}
    return Foreseen(
        spec,
        "runs",
        "",
        len(task.test),
        requests,
        tuple(engine.count_tokens(r) for r in requests) if engine is not None else (),
        tuple(r for r in requests if r.id in again),
        (fitted - start) * preview.scale,
        (rendered - fitted) * len(task.test) / max(len(chosen), 1),
        preview.training,
        preview.trials,
        preview.judged_on,
    )


def like(other: Foreseen, spec: CellSpec) -> Foreseen:
    """A cell of another seed, taken to be like one that was looked at; its training is one of its own."""
    trainings = tuple(replace(t, key=f"{t.key}/{spec.seed}") for t in other.trainings)
    first = trainings[0] if trainings else None
    return replace(other, spec=spec, training=first, trials=trainings[1:], fitting=0.0)


def look(specs: Sequence[CellSpec], world: World) -> list[Foreseen]:
    """Every cell; in a large suite, only the first seed of cells that differ in nothing else."""
    looked: list[Foreseen] = []
    first: dict[tuple[Kind, int], Foreseen] = {}
    for number, spec in enumerate(specs, 1):
        key = (spec.task, spec.strategy, spec.model or ""), spec.train_size
        if len(specs) > ALL_SEEDS and key in first:
            looked.append(like(first[key], spec))
            continue
        world.say(f"[{number}/{len(specs)}] {spec.id}")
        looked.append(foresee(spec, world))
        first.setdefault(key, looked[-1])
    return looked
