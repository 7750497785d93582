"""Pages that nobody writes: what each command takes, what each module offers, each model's card.

They are made anew with every build, below ``docs/commands``, ``api``, ``cards`` and ``project``,
and are no part of the repository. A reference in a docstring that leads nowhere is a warning, which
``make docs`` takes for an error; names of other projects in signatures are left as they are.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from unittest import mock

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.nodes import make_refnode

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
PACKAGES = ("speakerguard", "advgan")
LINK = re.compile(r"\]\(((?!https?://|#)[^)\s]+)\)")
PROJECT = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write_all)
    app.connect("missing-reference", lead_on)
    app.connect("source-read", lead)
    # a property's first line is prose here: what stands before its colon is no type
    GoogleDocstring._parse_attribute_docstring = GoogleDocstring._consume_to_end  # type: ignore[method-assign]
    consume = GoogleDocstring._consume_fields
    GoogleDocstring._consume_fields = lambda *a, **k: list(apart(consume(*a, **k)))  # type: ignore[method-assign]
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def apart(fields: list[tuple[str, str, list[str]]]) -> Iterator[tuple[str, str, list[str]]]:
    """``a, b: what they are`` is two fields."""
    for names, kind, said in fields:
        first, *others = names.replace("\\", "").split(", ")
        yield first, kind, said
        for name in others:
            yield name, kind, [f"see ``{first}``."]


def write_all(app: Sphinx) -> None:
    """Write every generated page; what has not changed keeps its time, so it is not read again."""
    pages = dict([*commands(), *api(), *cards(), *project()])
    for folder in ("commands", "api", "cards", "project"):
        (DOCS / folder).mkdir(exist_ok=True)
        for path in (DOCS / folder).iterdir():
            if f"{folder}/{path.name}" not in pages:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, text in pages.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def lead_on(app: Sphinx, env: Any, node: Any, inner: nodes.Node) -> nodes.Node | None:
    """A name that Sphinx does not find: of one thing alone, wherever that lies; or of no matter.

    Types in signatures and names of Python and other projects need not lead anywhere.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if "refwarn" in node:
        domain = env.get_domain("py")
        same = [name for name in domain.objects if f".{name}".endswith(f".{target}")]
        if len(same) == 1:
            found = domain.objects[same[0]]
            page = node["refdoc"]
            return make_refnode(app.builder, page, found.docname, found.node_id, inner, same[0])
    first, _, rest = target.partition(".")
    foreign = hasattr(builtins, target) or (rest and first in sys.modules and first not in PACKAGES)
    private = target.rpartition(".")[2].startswith("_") and not target.startswith("_")
    written = "refwarn" in node or node.get("reftype") == "exc"
    if node.get("reftype") == "attr" and node.get("py:class") and "." not in target:
        written = False  # an attribute of the class itself, that its docstring lists
    return None if written and not foreign and not private else inner


# Commands


class Caught(BaseException):
    """Carries a program's parser out of it, past whatever catches errors."""


def programs() -> Iterator[tuple[str, Any]]:
    """Every program of this project with its parser, a typer app or one of argparse."""

    def catch(parser: Any, *_: object, **__: object) -> None:
        raise Caught(parser)

    entries = [e for e in distribution("speakerguard").entry_points if e.group == "console_scripts"]
    found = [(entry.name, entry.load()) for entry in entries]
    sys.path.insert(0, str(ROOT / "tools"))
    paths = [p for p in sorted((ROOT / "tools").glob("*.py")) if ".parse_args(" in p.read_text()]
    tools = [(f"python tools/{p.name}", importlib.import_module(p.stem).main) for p in paths]
    for name, main in [*sorted(found, key=lambda pair: pair[0] != "speakerguard"), *tools]:
        with (
            mock.patch.object(typer.Typer, "__call__", catch),
            mock.patch.object(argparse.ArgumentParser, "parse_args", catch),
            mock.patch.object(sys, "argv", [name]),
        ):
            try:
                main()
            except Caught as caught:
                yield name, caught.args[0]
            else:
                raise RuntimeError(f"{name}: has no parser to describe")


def commands() -> Iterator[tuple[str, str]]:
    """A page a program, and their list."""
    titles = []
    for name, parser in programs():
        page = Path(name.rpartition(" ")[2]).stem
        titles.append(f"{name} <{page}>")
        body = of_argparse(name, parser) if isinstance(parser, argparse.ArgumentParser) else (
            of_typer(name, parser)
        )  # fmt: skip
        yield f"commands/{page}.md", f"# {name}\n\n{body}\n"
    listed = "\n".join(titles)
    yield (
        "commands/index.md",
        (
            "# Command line\n\nWritten by the programs themselves: `--help` says the same. What "
            "exit codes mean is under {ref}`exit-codes`.\n\n"
            f"```{{toctree}}\n:maxdepth: 2\n\n{listed}\n```\n"
        ),
    )


def of_typer(name: str, app: typer.Typer) -> str:
    """Every command of an app, those of other entry points and groups included."""
    root = typer.main.get_command(app)
    parts = [prose(root.help or "")]
    for title, command in below(root):
        context = command.make_context(title, [], resilient_parsing=True)
        pieces = " ".join(command.collect_usage_pieces(context))
        pieces = re.sub(r"\{(\w+)\}", lambda m: m[1].upper(), pieces)
        parts += [f"## {title}", f"```text\n{name} {title} {pieces}\n```", prose(command.help)]
        described = [p for p in command.params if getattr(p, "help", None) and p.name != "help"]
        rows = [of_parameter(p, context) for p in described]
        parts.append(rows_of(rows))
    return "\n\n".join(part for part in parts if part)


def below(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Commands in the order in which they are listed, with the groups' names before theirs."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from below(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def of_parameter(parameter: Any, context: Any) -> tuple[str, str]:
    """A parameter as it is written, and what it does."""
    if not hasattr(parameter, "is_flag"):
        return parameter.make_metavar(context).upper(), parameter.help
    names = ", ".join(parameter.opts) + "".join(f" / {o}" for o in parameter.secondary_opts)
    if not parameter.is_flag:
        names += f" {parameter.make_metavar(context)}"
    said = parameter.help or ""
    default = parameter.default
    if default not in (None, False, (), []) and not callable(default) and not parameter.is_flag:
        said += f" By default `{default}`."
    if parameter.envvar:
        said += f" Or `{parameter.envvar}`."
    return names, ("Required. " if parameter.required else "") + said.strip()


def of_argparse(name: str, parser: argparse.ArgumentParser) -> str:
    """A program of one command."""
    said = inspect.cleandoc(parser.description or "").partition("\n\n")
    head = re.sub(r"^``[\w-]+``: ", "", said[0])
    usage = re.sub(r"\s+", " ", parser.format_usage().partition("usage: ")[2]).strip()
    usage = name + usage.removeprefix(parser.prog)
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        filled = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
        shown = action.metavar or filled or (action.dest if not action.option_strings else "")
        takes = action.nargs != 0
        shown = shown or (action.dest.upper() if takes else "")
        names = ", ".join(action.option_strings)
        text = parser._get_formatter()._expand_help(action) if action.help else ""
        rows.append((f"{names} {shown}".strip() if takes else names, sentence(text)))
    text = [prose(head[:1].upper() + head[1:]), f"```text\n{usage}\n```"]
    if said[2]:
        text.append(prose(said[2]))
    return "\n\n".join([*text, rows_of(rows)])


def rows_of(rows: list[tuple[str, str]]) -> str:
    """A definition list: it is as narrow as the screen wants it."""
    return "\n\n".join(f"`{what}`\n: {escaped(said) or 'As above.'}" for what, said in rows)


def prose(text: str | None) -> str:
    """A docstring's text as Markdown; indented lines and command lines become code."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text or ""))
    made = []
    for block in blocks:
        code = block.startswith((" ", "advgan-", "speakerguard ", "python "))
        made.append(f"```shell\n{inspect.cleandoc(block)}\n```" if code else escaped(block))
    return "\n\n".join(made)


def escaped(text: str) -> str:
    """Sphinx's marks as Markdown's; angle brackets and stars as themselves."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"(?<![\w`-])(--[a-z][\w-]*)(?![\w`-])", r"`\1`", text)
    parts = text.split("`")
    parts[::2] = [re.sub(r"([<>*_\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = re.sub(r"\s+", " ", text).strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "")[:1]) or not text else ".")


# Python


def api() -> Iterator[tuple[str, str]]:
    """A page a room, that is a package, with all its modules."""
    names = [name for package in PACKAGES for name in [package, *modules_of(package)]]
    rooms = [name for name in names if hasattr(importlib.import_module(name), "__path__")]
    for room in rooms:
        inside = [n for n in names if n.rpartition(".")[0] == room]
        parts = [f"# {room}\n\n{documented(room)}"]
        if below := [name for name in inside if name in rooms]:
            parts += [f"[`{name}`]({name}.md)\n: {first_line(name)}" for name in below]
            listed = "\n".join(f"{n.rpartition('.')[2]} <{n}>" for n in below)
            parts.append(f"```{{toctree}}\n:hidden:\n\n{listed}\n```")
        for name in inside:
            if name not in rooms:
                parts.append(f"## {name.removeprefix(f'{room}.')}\n\n{documented(name)}")
        yield f"api/{room}.md", "\n\n".join(parts) + "\n"
    listed = "\n".join(PACKAGES)
    yield (
        "api/index.md",
        (
            "# Python API\n\nMade from the docstrings, a page a room. Most programs need "
            "{py:class}`~speakerguard.verification.verifier.Verifier` alone, as "
            "`from speakerguard import Verifier`. Who adds to the project finds the rooms in "
            "[Architecture](../architecture.md).\n\n"
            f"```{{toctree}}\n:maxdepth: 2\n\n{listed}\n```\n"
        ),
    )


def documented(name: str) -> str:
    """The directives that have a module's docstrings put in, and its constants."""
    constants = "".join(
        f".. py:data:: {constant}\n   :module: {name}\n   :value: {value}\n\n   {said}\n\n"
        for constant, value, said in constants_of(name)
    )
    return f"```{{eval-rst}}\n.. automodule:: {name}\n\n{constants}```"


def constants_of(name: str) -> Iterator[tuple[str, str, str]]:
    """Public constants and names of types: what they are, and the comment on their line."""
    source = inspect.getsource(importlib.import_module(name))
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        else:
            pairs = [(target, node.value)]
        for one, value in pairs:
            made = ast.unparse(value)
            if isinstance(one, ast.Name) and one.id[0].isupper() and not made.startswith("TypeVar"):
                line = source.splitlines()[node.lineno - 1]
                yield one.id, made if len(made) < 80 else "…", line.partition("  # ")[2]


def modules_of(package: str) -> Iterator[str]:
    """Every module below a package, but for those that run when imported."""
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            yield module.name


def first_line(name: str) -> str:
    """What a module says of itself, in a line."""
    said = inspect.getdoc(importlib.import_module(name)) or ""
    return escaped(re.sub(r"\s+", " ", said.partition("\n\n")[0]))


# Pages that lie elsewhere


def cards() -> Iterator[tuple[str, str]]:
    """The model cards as they lie beside the weights, their links led to this site's pages."""
    found = sorted((ROOT / "checkpoints").glob("*/README.md"))
    for path in found:
        yield f"cards/{path.parent.name}.md", with_links_led(path.read_text("utf-8"), path, "cards")
    listed = "\n".join(sorted((p.parent.name for p in found), key=lambda n: (n != "guard", n)))
    yield (
        "cards/index.md",
        (
            "# Model cards\n\nWhat each network is for, what it was trained on and how, what it "
            "reaches and where it ends. They lie beside the weights in `checkpoints/`.\n\n"
            f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
        ),
    )


def project() -> Iterator[tuple[str, str]]:
    """The files at the top of the repository that people look for."""
    for name in PROJECT:
        if (path := ROOT / name).exists():
            text = with_links_led(path.read_text("utf-8"), path, "project")
            yield f"project/{path.stem.lower()}.md", text


def lead(app: Sphinx, page: str, content: list[str]) -> None:
    """Pages link to files of the repository; where the site has these as pages, to those."""
    if "/" not in page:
        content[0] = with_links_led(content[0], DOCS / f"{page}.md", ".")


def with_links_led(text: str, path: Path, folder: str) -> str:
    """The text of ``path`` with its relative links as they must be in ``folder`` of the site."""

    def led(match: re.Match[str]) -> str:
        target, mark, part = match[1].partition("#")
        found = (path.parent / target).resolve()
        if found.name == "README.md" and found.parent.parent == ROOT / "checkpoints":
            found = DOCS / "cards" / f"{found.parent.name}.md"
        elif found.parent == ROOT and found.name in PROJECT:
            found = DOCS / "project" / f"{found.stem.lower()}.md"
        return f"]({os.path.relpath(found, DOCS / folder)}{mark}{part})"

    return LINK.sub(led, text)
