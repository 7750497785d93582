"""Which programs decide a result: what a module does, and all that it imports.

Comments, docstrings and line breaks decide nothing, nor do modules that are not imported. So a page
in other colours, or a sentence more in a docstring, runs no case again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path

OURS = ("advgan", "speakerguard")


def code_of(modules: Iterable[str]) -> str:
    """Changes with what any of the modules does, or imports of this project: 16 hex digits.

    Of other packages all files count, since nobody knows what they load and how.
    """
    content = hashlib.sha256()
    for name in sorted(reached(modules)):
        content.update(f"{name}\n{_module(name)[0]}\n".encode())
    return content.hexdigest()[:16]


def reached(modules: Iterable[str]) -> set[str]:
    """The modules themselves, and those of this project that they import, in functions too."""
    pending = [name for module in modules for name in _whole(module)]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in found and _file(name) is not None:
            found.add(name)
            pending += [*_parents(name), *_module(name)[1]]
    return found


def meaning(text: str) -> str:
    """A program without what does nothing: comments, docstrings, line breaks.

    >>> meaning("def one():  # of many\\n    '''Gives 1.'''\\n    return  1")
    'def one():\\n    return 1'
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _idle(part)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _idle(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """What a module does, and what it may import of this project."""
    path = _file(name)
    text = path.read_text(encoding="utf-8", errors="replace") if path else ""
    try:
        return meaning(text), tuple(_imports(ast.parse(text)))
    except (SyntaxError, ValueError):  # it cannot be loaded either
        return text, ()


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in OURS)


def _parents(name: str) -> list[str]:
    """The packages that are imported with a module."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _whole(module: str) -> list[str]:
    """A module of this project; every module of the package of another."""
    top = module.partition(".")[0]
    root = _file(top)
    if top in OURS or root is None or root.name != "__init__.py":
        return [module]
    names = (path.relative_to(root.parents[1]) for path in root.parent.rglob("*.py"))
    return [".".join(name.with_suffix("").parts).removesuffix(".__init__") for name in names]


@cache
def _file(module: str) -> Path | None:
    """Where a module lies; it is not imported."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # typed at a prompt
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.has_location and spec.origin else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None
