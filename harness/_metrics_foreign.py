"""Metrics from elsewhere: the `evaluate` library, and functions of the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakeven.harness._answers import answer_text, match_choice
from breakeven.harness._metric_parts import mean
from breakeven.harness.contracts import Example, Json, Prediction, Score, Services
from breakeven.harness.errors import UserError
from breakeven.harness.registry import locate

# --- a function ------------------------------------------------------------------------------


@dataclass(eq=False)
class FunctionMetric:
    """A user's `function(example, output, **options)`, which returns a number, a bool or a Score."""

    name: str
    function: Callable[..., float | bool | Score]
    options: Mapping[str, Json]
    range: tuple[float, float] | None = (0.0, 1.0)
    higher_is_better: bool = True
    additive: bool = True

    def score(self, example: Example, prediction: Prediction, services: Services | None) -> Score:
        try:
            result = self.function(example, prediction.output, **self.options)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"metric '{self.name}' failed on example '{example.id}': {type(error).__name__}: {error}",
                **_where(error),
            ) from error
        score = result if isinstance(result, Score) else Score(_number(result, self.name, example.id))
        _number(score.value, self.name, example.id)
        if self.range is not None and not self.range[0] <= score.value <= self.range[1]:
            low, high = self.range
            raise UserError(
                f"metric '{self.name}' gave {score.value:g} on example '{example.id}', "
                f"outside {low:g} to {high:g}",
                hint="give the metric its `range: [lowest, highest]`, or `range: null` where it is open",
            )
        return Score(float(score.value), score.detail)

    def aggregate(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]
    ) -> float:
        return mean(examples, predictions, scores)


def from_function(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    range: tuple[float, float] | None = (0.0, 1.0),
    higher_is_better: bool = True,
    **options: Any,
) -> FunctionMetric:
    """A metric from `function(example, output, **options)`; the aggregate is the mean.

    `range` is checked on every score; null leaves it open.
    """
    return FunctionMetric(
        name=str(name or getattr(function, "__name__", "function")),
        function=function,
        options=options,
        range=range,
        higher_is_better=higher_is_better,
    )


def _number(value: Any, name: str, example: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        raise UserError(
            f"metric '{name}' gave {value!r} on example '{example}'",
            hint="it should give a number, a bool or a Score",
        )
    return number


def _where(error: Exception) -> dict[str, Any]:
    """File and line in which an exception arose."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return {} if trace is None else {"file": trace.tb_frame.f_code.co_filename, "line": trace.tb_lineno}


# --- the evaluate library --------------------------------------------------------------------


@dataclass(eq=False)
class EvaluateMetric:
    """A metric of the `evaluate` library: computed on one example for a score, on all as aggregate.

    `encode(output)` and `encode_reference(reference)` give what the metric's features ask for; `together`
    says that it takes the references of an example as a list, else the best one counts.
    """

    name: str
    compute: Callable[..., Mapping[str, Any] | None]
    options: Mapping[str, Json]
    key: str | None
    together: bool
    encode: Callable[[str], Any]
    encode_reference: Callable[[Json], Any]
    range: tuple[float, float] | None = None
    higher_is_better: bool = True
    additive: bool = False

    def score(self, example: Example, prediction: Prediction, services: Services | None) -> Score:
        output = [self.encode(prediction.output)]
        return Score(self._value(output, [self._reference(example, output)]))

    def aggregate(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]
    ) -> float:
        if self.additive:
            return mean(examples, predictions, scores)
        outputs = [self.encode(p.output) for p in predictions]
        pairs = zip(examples, outputs, strict=True)
        return self._value(outputs, [self._reference(e, [output]) for e, output in pairs])

    def _reference(self, example: Example, output: list[Any]) -> Any:
        """What stands for the example's references: all of them, or the one that scores best."""
        if not example.references:
            raise UserError(
                f"example '{example.id}' has no reference", hint=f"{self.name} needs at least one"
            )
        encoded = [self.encode_reference(r) for r in example.references]
        if self.together:
            return encoded
        if len(encoded) == 1:
            return encoded[0]
        best = max if self.higher_is_better else min
        return best(encoded, key=lambda reference: self._value(output, [reference]))

    def _value(self, outputs: list[Any], references: list[Any]) -> float:
        result = self.compute(predictions=outputs, references=references, **self.options) or {}
        known = ", ".join(result)
        key = self.key or next((k for k in (self.name, "score") if k in result), None)
        if key is None and len(result) == 1:
            key = next(iter(result))
        if key is None or key not in result:
            wrong = f"has no '{key}'" if key else "gives several numbers"
            raise UserError(
                f"metric 'evaluate:{self.name}' {wrong}", field="key", hint=f"choose `key` from {known}"
            )
        try:
            return float(result[key])
        except (TypeError, ValueError):
            raise UserError(
                f"'{key}' of metric 'evaluate:{self.name}' is {result[key]!r}, no number", field="key"
            ) from None


def from_evaluate(
    target: str,
    *,
    choices: tuple[str, ...] | None,
    folder: Path | None,
    key: str | None = None,
    config_name: str | None = None,
    name: str | None = None,
    range: tuple[float, float] | None = None,
    higher_is_better: bool = True,
    additive: bool = False,
    **options: Any,
) -> EvaluateMetric:
    """`evaluate:NAME_OR_PATH`; what is not named here goes to the metric's `compute`.

    Loading a metric runs its script: a name fetches it from the Hub, a path (of a script, or of a folder with
    a script of the same name) works offline.

    Args:
        key: which of the numbers that it computes, where there are several.
        additive: True if the aggregate is the mean of the scores (saves computing it again).
    """
    import evaluate

    local = locate(target, folder)
    try:
        module = evaluate.load(str(local.resolve()) if local else target, config_name, keep_in_memory=True)
    except Exception as error:  # the library raises nearly anything: offline, no such name, missing package
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the metric 'evaluate:{target}' cannot be loaded: {reason}",
            hint="without the Hub, name the folder of its script, or use a built-in metric",
        ) from error
    together, kind = _features(target, module.features)
    encode: Callable[[str], Any] = str
    encode_reference: Callable[[Json], Any] = answer_text
    if kind != "string":
        encode, encode_reference = _by_index(target, choices)
    return EvaluateMetric(
        name=name or Path(target).stem,
        compute=module.compute,
        options=options,
        key=key,
        together=together,
        encode=encode,
        encode_reference=encode_reference,
        range=range,
        higher_is_better=higher_is_better,
        additive=additive,
    )


def _features(target: str, features: Any) -> tuple[bool, str]:
    """Whether references go in as a list, and "string" or "int": the form that fits best."""
    forms = features if isinstance(features, list) else [features]
    fitting = []
    for form in forms:
        if set(form) != {"predictions", "references"}:
            continue
        prediction, reference = form["predictions"], form["references"]
        inner = getattr(reference, "feature", reference)
        kinds = {_kind(prediction), _kind(inner)}
        if len(kinds) == 1 and kinds <= {"string", "int"}:
            fitting.append((inner is not reference, kinds.pop()))
    if not fitting:
        raise UserError(
            f"the metric 'evaluate:{target}' compares neither texts nor labels",
            hint="wrap it in a function of your own: file.py:name",
        )
    return max(fitting, key=lambda f: (f[1] == "string", f[0]))


def _kind(feature: Any) -> str:
    dtype = str(getattr(feature, "dtype", ""))
    return (
        "int"
        if dtype.startswith(("int", "uint"))
        else "string"
        if dtype in ("string", "large_string")
        else dtype
    )


def _by_index(
    target: str, choices: tuple[str, ...] | None
) -> tuple[Callable[[str], int], Callable[[Json], int]]:
    """Labels as numbers: the position among the choices, -1 for an output that names none."""
    if not choices:
        raise UserError(f"the metric 'evaluate:{target}' compares labels, so it needs a task with choices")

    def encode(output: str) -> int:
        answered = match_choice(output, choices)
        return -1 if answered is None else choices.index(answered)

    def encode_reference(reference: Json) -> int:
        number = encode(answer_text(reference))
        if number < 0:
            raise UserError(f"the reference '{answer_text(reference)}' is none of the task's choices")
        return number

    return encode, encode_reference
