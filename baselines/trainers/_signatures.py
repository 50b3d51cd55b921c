"""The parameters of functions and dataclasses of an installed package, read from its source.

For packages that cannot be imported here: because they want a GPU, or live in another environment.
"""

from __future__ import annotations

import ast
from pathlib import Path

from breakeven.harness.errors import UserError


def parameters(site: Path, module: str, name: str) -> frozenset[str]:
    """Names that a call may give.

    Args:
        site: the site-packages folder.
        module: "package.module".
        name: "function", "Class.method", or "Class": a dataclass, whose fields count, with those of its bases
            in the same module.

    Raises:
        UserError: there is no such module or name.
    """
    file = site.joinpath(*module.split(".")).with_suffix(".py")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        raise UserError(f"the module {module} cannot be read: {error}", file=file) from error
    scope: list[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in _definitions(scope) if node.name == part), None)
        if found is None:
            raise UserError(f"{module} has no {name}", file=file, hint="another version is installed")
        scope = found.body
    if isinstance(found, ast.ClassDef):
        return _fields(found, tree)
    assert isinstance(found, ast.FunctionDef)
    given = found.args
    return frozenset(a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)) - {"self", "cls"}


def _definitions(scope: list[ast.stmt]) -> list[ast.ClassDef | ast.FunctionDef]:
    return [node for node in scope if isinstance(node, ast.ClassDef | ast.FunctionDef)]


def _fields(found: ast.ClassDef, tree: ast.Module) -> frozenset[str]:
    own = {n.target.id for n in found.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    names = {base.id for base in found.bases if isinstance(base, ast.Name)}
    bases = [
        node for node in _definitions(tree.body) if node.name in names and isinstance(node, ast.ClassDef)
    ]
    return frozenset(own).union(*(_fields(base, tree) for base in bases))
