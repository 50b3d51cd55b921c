"""A training by another system, in a process and an environment of its own.

Our rendered examples and its configuration go into a folder, the system runs there, and its adapter is taken
over only if it is whole, says something, and fits the model. What each system is told is in `_systems`, its
environment in `_environments`; here is what all of them have in common.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from breakeven.baselines._tuning import default_lr
from breakeven.baselines.trainers import _child, _environments, _seeded, _systems
from breakeven.baselines.trainers._environments import Environment, Recipe
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness import models, store
from breakeven.harness.contracts import Json
from breakeven.harness.errors import BreakevenError, NotApplicable, OutOfMemory, UserError
from breakeven.harness.previews import TrainingOutlook
from breakeven.harness.training import TrainingPair, TrainingResult, Tunable, Usability

Progress = Callable[[float, float, str], None]

#: Tokens beyond prompt and answer that a chat template may put behind an answer.
SLACK = 8

#: What no system in a process of its own can honour as the settings mean it.
REFUSED = {
    "tokens_per_pass": "it counts examples, not tokens; set micro_batch",
    "max_tokens_total": "it has no cap of training tokens; set epochs, a fraction where it takes one",
    "checkpoint_steps": "an interrupted training starts again",
    "checkpoint_seconds": "an interrupted training starts again",
    "precision": "it computes in bfloat16 on a GPU and in float32 on a CPU",
}


@dataclass(frozen=True, slots=True)
class Own:
    """Settings that systems have and our own trainer has not.

    Attributes:
        micro_batch: examples in memory at once; must divide the batch size. None: the whole batch.
        load_in_4bit: quantise the base weights while training (QLoRA); on a GPU only.
        packing: put several examples into one row; on a GPU only.
        extra: keys of the system's own configuration, laid over ours.
    """

    micro_batch: int | None = None
    load_in_4bit: bool = False
    packing: bool = False
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """What one system is.

    Attributes:
        name: of the trainer, and of its module in `_systems`.
        recipe: of its environment.
        refused: settings it cannot honour beside `REFUSED`, with the reason; also names in `Own`.
        gpu_only: whether it refuses to run on a CPU.
        note: what to know before choosing it.
        model: (model folder, empty folder) -> the folder that it is to load the model from.
        check: (job, environment) -> None; raises UserError where the installed system knows no such option.
    """

    name: str
    recipe: Recipe
    refused: Mapping[str, str] = field(default_factory=dict)
    gpu_only: bool = False
    note: str = ""
    model: Callable[[Path, Path], Path] = lambda folder, empty: folder
    check: Callable[[_systems.Job, Environment], None] = lambda job, environment: None

    @property
    def title(self) -> str:
        return _systems.system(self.name).TITLE

    @property
    def system(self) -> str:
        return f"{self.recipe.distribution} {self.recipe.version}"


@dataclass(frozen=True, slots=True)
class OutsideTrainer:
    """A `Trainer` with its settings, over a system in a process of its own."""

    kind: Kind
    given: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Everything that can be refused before a model is there is refused now."""
        settings, own = self._parse(self.given)
        _systems.system(self.kind.name).files(_job(self.kind, settings, own, "model", 64, 64, 0, "cuda"))

    @property
    def settings(self) -> dict[str, Json]:
        """Complete, with the system and the pins it runs on, which decide the adapter too."""
        settings, own = self._parse(self.given)
        pins = self.kind.recipe.folder.name.rpartition("-")[2]
        kept = {k: v for k, v in asdict(own).items() if k not in self.kind.refused}
        return {**settings.what_matters(self._refused), **kept, "system": self.kind.system, "pins": pins}

    @property
    def refuses_text(self) -> str:
        """See `breakeven.harness.training.Trainer`."""
        return _systems.no_text(self.kind.title)

    def usable(self) -> Usability:
        """See `breakeven.harness.training.Checked`."""
        recipe, note = self.kind.recipe, self.kind.note
        state = {"ready": "made", "absent": "made on first use", "half-made": "half-made: will be made again"}
        what = f"{self.kind.system}, in an environment of its own ({state[recipe.state]})"
        if self.kind.gpu_only and not _has_gpu():
            return Usability(False, what, "it trains on a GPU only, and there is none here", note=note)
        found = _environments.obstacle(recipe)
        if found is not None:
            return Usability(False, what, *found, note=note)
        return Usability(True, what, note=note)

    def train(
        self,
        tunable: Tunable,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        folder: Path,
        scratch: Path,
        seed: int,
        settings: Mapping[str, Json],
        progress: Progress,
    ) -> TrainingResult:
        """See `breakeven.harness.training.Trainer`. Interrupted, it is trained again from the start.

        Raises:
            NotApplicable: the system trains on a GPU only, and the model is not on one.
            UserError: a setting it cannot honour, no environment, no chat template, or a bad adapter.
            OutOfMemory: it said so.
            BreakevenError: it failed; with its last lines, and where all of them are.
        """
        if self.kind.gpu_only and not tunable.device.startswith("cuda"):
            raise NotApplicable(
                f"{self.kind.title} trains on a GPU only, and this model is on the {tunable.device.upper()}"
            )
        _systems.require_chats(pairs, self.kind.title)
        parsed, own = self._parse({**self.given, **settings})
        return Attempt(self.kind, parsed, own, tunable, pairs, validation, seed, scratch, progress).train(
            folder
        )

    def outlook(
        self,
        tunable: Tunable,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        seed: int,
        settings: Mapping[str, Json],
    ) -> TrainingOutlook:
        """Tokens as `peft` counts them, in passes of as many rows as the system takes; no time is known."""
        from breakeven.baselines.trainers._outlook import outlook

        parsed, own = self._parse({**self.given, **settings})
        found = outlook(tunable, pairs, validation, seed, _as_passed(parsed, own, tunable, pairs))
        return replace(found, exact=False, work=None, validating=None, sample=None)

    @property
    def _refused(self) -> dict[str, str]:
        return {**REFUSED, **self.kind.refused}

    def _parse(self, given: Mapping[str, Any]) -> tuple[Settings, Own]:
        own = {f.name: given[f.name] for f in fields(Own) if f.name in given}
        for name, value in own.items():
            if name in self.kind.refused and value != getattr(Own(), name):
                why = self.kind.refused[name]
                raise UserError(f"the trainer '{self.kind.name}' cannot honour it: {why}", field=name)
        for name in ("load_in_4bit", "packing"):
            if not isinstance(own.get(name, False), bool):
                raise UserError(f"{own[name]!r} is not true or false", field=name)
        if not isinstance(own.get("extra", {}), Mapping):
            raise UserError(f"{own['extra']!r} is not a mapping", field="extra")
        ours = {k: v for k, v in given.items() if k not in own and k not in ("system", "pins")}
        return Settings.parse(ours, self.kind.name, self._refused), Own(**own)


@dataclass(slots=True)
class Attempt:
    """One try at one training."""

    kind: Kind
    settings: Settings
    own: Own
    tunable: Tunable
    pairs: Sequence[TrainingPair]
    validation: Sequence[TrainingPair]
    seed: int
    scratch: Path
    progress: Progress

    def train(self, folder: Path) -> TrainingResult:
        from breakeven.baselines.trainers import _returned
        from breakeven.baselines.trainers._examples import encode

        tunable, settings = self.tunable, self.settings
        limit = min(tunable.context, settings.max_length or tunable.context)
        usable = [pair for pair in self.pairs if _fits(pair, tunable, limit)]
        if not usable:
            raise UserError(
                f"none of the {len(self.pairs)} training examples fits into {limit} tokens with its answer",
                field="max_length",
            )
        model = models.resolve(tunable.card.name)
        _require_same_text(usable[:8], tunable, model, self.kind.title)
        encoded = encode(usable, tunable, limit).examples
        longest = min(limit, max(map(len, encoded)) + SLACK)
        if self.own.packing and settings.max_length is not None:
            longest = limit  # of a row, into which several examples go
        device = "cuda" if tunable.device.startswith("cuda") else "cpu"
        job = _job(
            self.kind, settings, self.own, "model", longest, len(usable), self.seed, device,
            lr=settings.lr or default_lr(tunable.card.parameters),
            chat_template=tunable.chat_template,
        )  # fmt: skip
        _systems.system(self.kind.name).files(job)  # what cannot be told is refused before anything is made
        environment = _environments.ensure(self.kind.recipe, lambda what: self.progress(0, 1, what))

        lost = self._clear()
        work = self.scratch / "work"
        work.mkdir(parents=True)
        source = self.kind.model(model, work / "model")
        job = replace(job, model=str(source.resolve()))
        self.kind.check(job, environment)
        self._write(job, usable, work)
        tokens = sum(map(len, encoded))
        whole = tokens * settings.epochs
        watch = _returned.Watch(self.kind.title, job.steps, whole, self.progress, settings.epochs)
        done = self._run(job, environment, work, watch)

        found = _returned.Adapter.read(work / _systems.system(self.kind.name).adapter(job), done)
        config = found.fitted(tunable)
        log = watch.history(work)
        held_out = encode([p for p in self.validation if _fits(p, tunable, limit)], tunable, limit).examples
        at, seconds = _returned.validation_loss(tunable, found.folder, held_out, settings)
        result = TrainingResult(
            steps=log.steps or job.steps,
            epochs=settings.epochs,
            examples=len(usable),
            truncated=0,
            dropped=len(self.pairs) - len(usable),
            training_tokens=round(tokens * settings.epochs),
            answer_tokens=round(sum(len(example.answer) for example in encoded) * settings.epochs),
            seconds=log.seconds or done.seconds,
            trainable_parameters=found.parameters,
            peak_bytes=watch.peak_bytes if device == "cpu" else None,
            losses=log.losses,
            validation_losses=((log.steps or job.steps, at),) if at is not None else (),
            settings={
                **settings.what_matters({**REFUSED, **self.kind.refused}),
                **{k: v for k, v in asdict(self.own).items() if k not in self.kind.refused},
                "system": self.kind.system,
                "alpha": job.alpha,
                "lr": job.lr,
                "arithmetic": "bfloat16" if device == "cuda" else "float32",
                "process_seconds": round(done.seconds, 1),
                "remarks": list(_systems.system(self.kind.name).remarks(job)),
            },
            lost_seconds=lost,
            validation_seconds=seconds,
            validation_tokens=sum(map(len, held_out)),
        )
        self._take_over(found, config, result, environment, done, job, folder)
        return result

    def _clear(self) -> float:
        """Remove what an interrupted attempt has left; returns the seconds that it had taken."""
        began = self.scratch / "began"
        lost = 0.0
        log = self.scratch / self._log_name
        if began.exists():
            lost = float(began.read_text(encoding="utf-8"))
            if log.exists():
                lost += max(0.0, log.stat().st_mtime - began.stat().st_mtime)
        shutil.rmtree(self.scratch / "work", ignore_errors=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        store.write_text(began, str(lost))
        return lost

    def _write(self, job: _systems.Job, usable: Sequence[TrainingPair], work: Path) -> None:
        system = _systems.system(self.kind.name)
        store.write_text(work / job.train, _systems.jsonl(system.rows(usable)))
        for name, text in system.files(job).items():
            store.write_text(work / name, text)

    def _run(self, job: _systems.Job, environment: Environment, work: Path, watch: Any) -> _child.Done:
        program, *arguments = _systems.system(self.kind.name).command(job)
        more = {**_threads(self.tunable), **_seeded.environment(work / "seeded", job.seed)}
        done = _child.run(
            [str(environment.bin / program), *arguments],
            cwd=work,
            env=_child.environment(environment.bin, work / "home", more),
            log=self.scratch / self._log_name,
            on_line=watch.line,
            alive=watch.alive,
        )
        if done.code != 0:
            said = done.last_lines()
            if "out of memory" in said.lower() or done.code == 128 + 9:
                raise OutOfMemory(f"{self.kind.title} ran out of memory: {said}")
            raise BreakevenError(
                f"{self.kind.title} ended with exit code {done.code} after {done.seconds:.0f} s. "
                f"Its last lines: {said or '(none)'}. All it said is in {done.log}."
            )
        return done

    def _take_over(
        self,
        found: Any,
        config: Mapping[str, Any],
        result: TrainingResult,
        environment: Environment,
        done: _child.Done,
        job: _systems.Job,
        folder: Path,
    ) -> None:
        """Write the adapter, what made it, and what the system was told and said; the weights come first."""
        from breakeven.baselines.trainers._model import write_origin

        store.write_bytes(folder / "adapter_model.safetensors", found.weights.read_bytes())
        kept = dict(_systems.system(self.kind.name).files(job))
        kept[done.log.name] = done.log.read_text(encoding="utf-8", errors="replace")
        places = {"MODEL": Path(job.model), "WORK": self.scratch / "work", "ENVIRONMENT": environment.folder}
        for name, text in kept.items():
            store.write_text(folder / "told" / name, _without(text, {**places, "HOME": Path.home()}))
        versions = {
            k: environment.versions.get(k, "unknown") for k in (*_MAKERS, self.kind.recipe.distribution)
        }
        write_origin(self.tunable.card, self.kind.name, result, self.seed, self.pairs, versions, folder)
        store.write_json(folder / "adapter_config.json", config)

    @property
    def _log_name(self) -> str:
        return f"{self.kind.name}.log"


def _as_passed(settings: Settings, own: Own, tunable: Tunable, pairs: Sequence[TrainingPair]) -> Settings:
    """The settings with which our own trainer's passes would be those of the system.

    A packed row holds as many examples as fit, so a batch of rows is a larger batch of examples.
    """
    sizes = [sum(map(len, tunable.encode(pair.messages, pair.answer))) for pair in pairs]
    rows, row = own.micro_batch or settings.batch_size, min(max(sizes), settings.max_length or max(sizes))
    if own.packing and settings.max_length is not None:
        row = settings.max_length
        per_row = max(1, round(row * len(sizes) / sum(sizes)))
        return replace(settings, batch_size=settings.batch_size * per_row, tokens_per_pass=rows * row)
    return replace(settings, tokens_per_pass=rows * row)


_MAKERS = ("torch", "transformers", "peft", "trl")


def _job(
    kind: Kind,
    settings: Settings,
    own: Own,
    model: str,
    max_length: int,
    examples: int,
    seed: int,
    device: Any,
    lr: float | None = None,
    chat_template: str | None = None,
) -> _systems.Job:
    return _systems.Job(
        model=model,
        settings=settings,
        lr=lr or settings.lr or 2e-4,
        max_length=max_length,
        examples=examples,
        seed=seed,
        device=device,
        chat_template=chat_template,
        **{f.name: getattr(own, f.name) for f in fields(Own)},
    )


def _fits(pair: TrainingPair, tunable: Tunable, limit: int) -> bool:
    """Whether a pair can be trained whole: these systems would cut its answer, or drop it unsaid."""
    prompt, answer = tunable.encode(pair.messages, pair.answer)
    return bool(prompt) and len(prompt) + len(answer) <= limit


def _require_same_text(pairs: Sequence[TrainingPair], tunable: Tunable, model: Path, title: str) -> None:
    """Raises UserError unless the chat template writes what serving reads, and ends answers where it does."""
    from breakeven.baselines.trainers._systems._job import conversation
    from breakeven.harness.engines._tokens import Tokens

    tokens = Tokens(model, tunable.chat_template)
    if not tokens.has_template:
        raise UserError(
            f"{title} is given chat messages, and this model has no chat template",
            field="trainer",
            hint="Set the model's `chat_template` (alpaca, chatml, a file), or train with 'peft' or 'trl'",
        )
    for pair in pairs:
        prompt, answer = tunable.encode(pair.messages, pair.answer)
        text = tokens.tokenizer.apply_chat_template(conversation(pair), tokenize=False)
        whole = tokens.tokenizer(text, add_special_tokens=False)["input_ids"]
        if list(whole[: len(prompt) + len(answer)]) != [*prompt, *answer]:
            raise UserError(
                f"the chat template writes training example {pair.id!r} otherwise once its answer stands "
                f"behind it, so {title} would train on another prompt than is asked",
                field="trainer",
                hint="Use the trainer 'peft' or 'trl'",
            )


def _without(text: str, places: Mapping[str, Path]) -> str:
    """A text in which folders of this machine go by other names."""
    for name, path in places.items():
        for form in {str(path), str(path.resolve())}:
            text = text.replace(form, name)
    return text


def _threads(tunable: Tunable) -> dict[str, str]:
    """As many threads as we compute with ourselves."""
    if tunable.device.startswith("cuda"):
        return {}
    import torch

    return {"OMP_NUM_THREADS": str(torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""}


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
