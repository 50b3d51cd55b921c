"""Metrics by name: what a task's `metrics:` may say, and how it becomes a `contracts.Metric`.

The metrics themselves are in the private modules beside this one; each is a function here and there, with
its options as keywords.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from breakeven.harness._answers import answer_text, match_choice, parse_list
from breakeven.harness.contracts import Metric
from breakeven.harness.errors import UserError

__all__ = ["Spec", "answer_text", "build", "build_all", "known", "match_choice", "parse_list"]

#: A name, {"metric": name, **options}, a function (example, output) -> number, or a metric itself.
Spec = str | Mapping[str, Any] | Callable[..., Any] | Metric

_MODULES = {
    "exact_match": "_metrics_text",
    "normalised_match": "_metrics_text",
    "accuracy": "_metrics_choices",
    "macro_f1": "_metrics_choices",
    "token_f1": "_metrics_text",
    "set_f1": "_metrics_structured",
    "json_field_f1": "_metrics_structured",
    "rouge_l": "_metrics_text",
    "bleu": "_metrics_text",
    "chrf": "_metrics_text",
    "numeric_match": "_metrics_structured",
    "regex_match": "_metrics_structured",
    "sql_match": "_metrics_code",
    "sql_execution": "_metrics_code",
    "python_parses": "_metrics_code",
}


def build(spec: Spec, *, choices: Sequence[str] | None = None, folder: Path | None = None) -> Metric:
    """The metric that a task's `metrics:` entry means.

    Args:
        spec: a built-in name; "evaluate:NAME_OR_PATH"; "file.py:name" (a function, a metric, or a class that
            makes one); {"metric": any of these, "name": what to call it, **options}; a function; a metric.
        choices: the task's, for metrics that need them.
        folder: what relative paths are relative to, before the current folder.

    Raises UserError for an unknown name (with the nearest ones) and an unknown or ill-typed option.
    """
    if not isinstance(spec, str | Mapping):
        return _from_object(spec, {})
    options = dict(spec) if isinstance(spec, Mapping) else {"metric": spec}
    target = options.pop("metric", None)
    if not isinstance(target, str):
        if callable(target):
            return _from_object(target, options)
        raise UserError("a metric is a name, or has a key `metric`", field="metrics", hint=f"not {spec!r}")
    closed = tuple(choices) if choices is not None else None
    if target.startswith("evaluate:"):
        from breakeven.harness._metrics_foreign import from_evaluate

        fixed = {"target": target.removeprefix("evaluate:"), "choices": closed, "folder": folder}
        return _called(target, from_evaluate, options, fixed)
    if ".py:" in target:
        from breakeven.harness.registry import load_from_file

        return _from_object(load_from_file(target, folder), options)
    factory = _factory(target)
    name = options.pop("name", None)
    takes_choices = "choices" in inspect.signature(factory).parameters
    metric = _called(target, factory, options, {"choices": closed} if takes_choices else {})
    if name is not None:
        metric.name = str(name)
    return metric


def build_all(
    specs: Spec | Sequence[Spec], *, choices: Sequence[str] | None = None, folder: Path | None = None
) -> tuple[Metric, ...]:
    """Several metrics, the first of which decides. Raises UserError for none, or two of one name."""
    several: Sequence[Any] = specs if isinstance(specs, list | tuple) else [specs]
    metrics = tuple(build(spec, choices=choices, folder=folder) for spec in several)
    if not metrics:
        raise UserError(
            "a task needs at least one metric", field="metrics", hint=f"known: {', '.join(_MODULES)}"
        )
    names = [m.name for m in metrics]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two metrics are called '{name}'", field="metrics", hint="give one of them a `name`"
            )
    return metrics


def known() -> dict[str, str]:
    """Built-in names, each with a line on what it is."""
    return {name: (_factory(name).__doc__ or "").strip().splitlines()[0] for name in _MODULES}


def _factory(name: str) -> Callable[..., Metric]:
    if name not in _MODULES:
        close = difflib.get_close_matches(name, _MODULES, n=3)
        raise UserError(
            f"there is no metric called '{name}'",
            field="metrics",
            hint=f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(_MODULES)}",
        )
    module = importlib.import_module(f"breakeven.harness.{_MODULES[name]}")
    factory: Callable[..., Metric] = getattr(module, name)
    return factory


def _from_object(thing: Any, options: dict[str, Any]) -> Metric:
    """A metric from a user's function, class or metric."""
    if isinstance(thing, type):
        made = thing(**options)
        if not isinstance(made, Metric):
            raise UserError(
                f"'{thing.__name__}' makes no metric", hint="it lacks one of contracts.Metric's members"
            )
        return made
    if isinstance(thing, Metric):
        if options:
            raise UserError(f"metric '{thing.name}' takes no options", field=next(iter(options)))
        return thing
    if not callable(thing):
        raise UserError(
            f"{thing!r} is no metric", field="metrics", hint="give a name, or a function (example, output)"
        )
    from breakeven.harness._metrics_foreign import from_function

    return _called(getattr(thing, "__name__", "function"), from_function, options, {"function": thing})


def _called(name: str, factory: Callable[..., Any], options: dict[str, Any], fixed: dict[str, Any]) -> Metric:
    """`factory(**options, **fixed)`, with its annotations checked."""
    from pydantic import ValidationError, validate_call

    own = set(inspect.signature(factory).parameters) - set(fixed) - {"options", "choices"}
    clash = set(options) & set(fixed)
    try:
        if clash:
            raise UserError(f"metric '{name}' takes no option '{clash.pop()}'", field="metrics")
        metric: Metric = validate_call(factory)(**options, **fixed)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0])
        if first["type"] == "unexpected_keyword_argument":
            takes = f"it takes {', '.join(sorted(own))}" if own else "it takes none"
            raise UserError(f"metric '{name}' has no option '{option}'", field=option, hint=takes) from error
        raise UserError(f"metric '{name}': {first['msg']}, not {first['input']!r}", field=option) from error
    return metric
