"""YAML that people type: read with line numbers, so that an error can point at the line.

Duplicate keys are errors (YAML would silently keep the last). `validated` turns pydantic's findings into
one `UserError` with file, line and field.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from breakeven.harness.errors import UserError

M = TypeVar("M", bound=BaseModel)
Location = tuple[str | int, ...]


class YamlFile:
    """A parsed file: `data`, and `line(location)` for the 1-based line of a nested key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise UserError("no such file", file=path) from None
        except IsADirectoryError:
            raise UserError("is a folder; a YAML file is needed", file=path) from None
        except UnicodeDecodeError as error:
            raise UserError(f"not UTF-8 text (byte {error.start})", file=path) from error
        try:
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "cannot be read"
            raise UserError(
                f"not valid YAML: {problem}", file=path, line=mark.line + 1 if mark else None
            ) from error
        except (ValueError, RecursionError) as error:  # a date like 2026-13-40, an alias of itself
            raise UserError(f"not valid YAML: {error}", file=path) from error
        if self._root is not None:
            self._refuse_duplicates(self._root, set())

    def line(self, location: Sequence[str | int]) -> int | None:
        """Line of the key at `location`, or of the nearest enclosing one."""
        node, line = self._root, 1 if self._root is not None else None
        for part in location:
            if isinstance(node, yaml.MappingNode):
                pair = next((kv for kv in node.value if kv[0].value == str(part)), None)
                if pair is None:
                    return line
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                return line
        return line

    def _refuse_duplicates(self, node: yaml.Node, visited: set[int]) -> None:
        if id(node) in visited:  # an alias
            return
        visited.add(id(node))
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if key.value in seen:
                    raise UserError(
                        "the key stands here twice",
                        file=self.path,
                        line=key.start_mark.line + 1,
                        field=str(key.value),
                    )
                seen.add(key.value)
                children.append(value)
        elif isinstance(node, yaml.SequenceNode):
            children = list(node.value)
        for child in children:
            self._refuse_duplicates(child, visited)


def flow_style(value: Any) -> str:
    """A list or a mapping on one line, as YAML writes it: {k: 3, select: similar}."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.strip()


def validated(model: type[M], data: Any, source: YamlFile | None = None) -> M:
    """`data` as `model`. Raises UserError for the first finding, with nearest key for a misspelt one."""
    if not isinstance(data, Mapping):
        raise UserError(
            "should hold keys and values", file=source.path if source else None, line=1 if source else None
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # Of a union's complaints, "should be a string" says nothing about keys and values.
        first = next((e for e in found if not _is_other_branch(e)), found[0])
        first = next((e for e in found if _is_misspelt(e, first)), first)
        location = _location(first, data)
        hint = None
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, location[:-1])
            close = difflib.get_close_matches(str(location[-1]), known, n=2)
            what = "unknown key"
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        elif first["type"] == "missing":
            what = "is required"
        else:
            what = str(first["msg"]).removeprefix("Value error, ")
            if not isinstance(first["input"], dict | list) and f"{first['input']}" not in what:
                what += f" (found {first['input']!r})"
        raise UserError(
            what[0].lower() + what[1:],
            file=source.path if source else None,
            line=source.line(location) if source else None,
            field=".".join(map(str, location)) or None,
            hint=hint,
        ) from error


def _is_other_branch(error: Any) -> bool:
    plain = error["type"] in {"string_type", "float_type", "int_type", "bool_type"}
    return plain and isinstance(error["input"], Mapping)


def _is_misspelt(error: Any, missing: Any) -> bool:
    """Whether an unknown key is nearly the one that is missing beside it: then that is the mistake."""
    if (missing["type"], error["type"]) != ("missing", "extra_forbidden"):
        return False
    (*there, key), (*here, wanted) = error["loc"], missing["loc"]
    return there == here and bool(difflib.get_close_matches(str(key), [str(wanted)]))


def _location(error: Any, data: Any) -> Location:
    """The keys that lead to the mistake; pydantic puts the tried branch of a union among them."""
    current, kept = data, []
    parts = error["loc"]
    for i, part in enumerate(parts):
        if _has(current, part):
            current = current[part]
            kept.append(part)
        elif error["type"] == "missing" and i == len(parts) - 1:
            kept.append(part)
    return tuple(kept)


def _has(container: Any, part: str | int) -> bool:
    if isinstance(container, Mapping):
        return part in container
    return isinstance(container, list) and isinstance(part, int) and 0 <= part < len(container)


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Field names of the model that `location` leads into, through dict values and optional models."""
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", None)
        if fields is None or part not in fields:
            continue  # a key of a dict of models
        current = _model_in(fields[part].annotation) or current
    return list(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
