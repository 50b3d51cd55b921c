"""Input templates: sandboxed Jinja, where an unknown field is an error and not an empty string."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


def render(template: str, fields: Mapping[str, Json]) -> str:
    """The template filled with an input's fields.

    Raises:
        UserError: on a syntax error (with its line), a field that is not there, or anything unsafe.
    """
    try:
        return _compiled(template).render(**fields)
    except UndefinedError as error:
        known = ", ".join(sorted(fields)) or "none"
        raise UserError(
            f"the input template cannot be filled: {error.message}",
            field="input_template",
            hint=f"the input has these fields: {known}",
        ) from error
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"the input template cannot be filled: {error}", field="input_template") from error


@lru_cache(maxsize=256)
def variables(template: str) -> frozenset[str]:
    """Names of the fields that a template mentions. Raises UserError on a syntax error."""
    _compiled(template)
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(template)))


@lru_cache(maxsize=256)
def _compiled(template: str) -> Template:
    try:
        return _ENVIRONMENT.from_string(template)
    except TemplateSyntaxError as error:
        raise UserError(
            f"the input template is not valid Jinja: {error.message}",
            line=error.lineno,
            field="input_template",
        ) from error
