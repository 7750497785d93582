"""Which room imports from which. Imports inside functions and for types alone count as well."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]

# A room, and the rooms that it imports from; "ground" and "doors" are files beside the rooms.
ARROWS = {
    "speakerguard/ground": "",
    "speakerguard/decoding": "ground",
    "speakerguard/sound": "ground decoding",
    "speakerguard/network": "ground sound",
    "speakerguard/embedders": "ground sound network",
    "speakerguard/export": "ground sound network embedders",
    "speakerguard/verification": "ground sound network embedders",
    "speakerguard/evaluation": "ground sound network embedders export verification",
    "speakerguard/training": "ground sound network embedders verification evaluation",
    "speakerguard/cli": "ground sound network embedders export verification evaluation training "
    "doors",
    "speakerguard/doors": "ground sound network verification evaluation training cli",
    "advgan/ground": "",
    "advgan/networks": "",
    "advgan/victim": "ground networks",
    "advgan/judging": "ground networks",
    "advgan/attacks": "victim",
    "advgan/training": "ground networks victim judging",
    "advgan/conversion": "ground networks victim judging attacks training",
    "advgan/report": "ground networks victim judging attacks",
    "advgan/doors": "ground networks victim judging attacks training conversion report",
}
# Rooms of speakerguard that advgan imports from; never the other way round.
ACROSS = {
    "advgan/ground": "ground sound evaluation cli",
    "advgan/networks": "ground sound network",
    "advgan/victim": "ground sound network embedders verification",
    "advgan/judging": "ground sound embedders verification evaluation",
    "advgan/attacks": "ground sound",
    "advgan/training": "ground sound network verification evaluation training",
    "advgan/conversion": "ground sound network verification",
    "advgan/report": "ground sound embedders verification evaluation training cli",
    "advgan/doors": "ground sound network evaluation training cli doors",
}
GROUND = {
    "speakerguard": {"errors", "extras", "files", "folders", "journal", "processes", "progress",
                     "seal", "settings", "strict", "workers"},
    "advgan": {"command", "manifest", "pairs"},
}  # fmt: skip
DOORS = {
    "speakerguard": {"__init__", "__main__", "demo", "reseal", "train"},
    "advgan": {"__init__", "demo", "generate", "infer", "legacy", "programs", "train"},
}
# What is still to be put right; whoever does so deletes the line.
CIRCLES: list[set[str]] = []
EXCEPTIONS = {
    "speakerguard.decoding.with_av -> speakerguard.sound.sources",
}

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    found = (path for wing in GROUND for path in sorted((ROOT / wing).rglob("*.py")))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in found}


def imported(tree: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    """The modules that a module names; a package stands for its ``__init__``."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            inside = {f"{base}.{alias.name}" for alias in node.names}
            names = [name for name in inside if name in known or f"{name}.__init__" in known]
            names += [base] if len(names) < len(inside) else []
        for name in names:
            yield from {name, f"{name}.__init__"} & known.keys()


def graph() -> Graph:
    known = modules()
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in known.items()}
    return {name: {*imported(tree, known)} - {name} for name, tree in trees.items()}


def room(module: str) -> str:
    wing, *middle, last = module.split(".")
    if middle:
        return f"{wing}/{middle[0]}"
    places = {"ground": GROUND, "doors": DOORS}
    return next((f"{wing}/{p}" for p, files in places.items() if last in files[wing]), module)


def circles(edges: Graph) -> list[set[str]]:
    """Groups of modules that reach each other."""
    reach = {start: set(ends) for start, ends in edges.items()}
    while any(reach[end] - ends for ends in reach.values() for end in ends):
        reach = {start: ends.union(*(reach[end] for end in ends)) for start, ends in reach.items()}
    groups = {frozenset(e for e in ends if start in reach[e]) for start, ends in reach.items()}
    return sorted(map(set, filter(None, groups)), key=min)


def plain(module: str) -> str:
    return module.removesuffix(".__init__")


def test_every_module_is_in_a_room() -> None:
    assert {room(module) for module in modules()} <= ARROWS.keys()


def test_rooms_import_only_along_the_arrows() -> None:
    allowed = {(a, f"{a.split('/')[0]}/{b}") for a, ends in ARROWS.items() for b in ends.split()}
    allowed |= {(a, f"speakerguard/{b}") for a, ends in ACROSS.items() for b in ends.split()}
    arrows = {(a, b) for a, ends in graph().items() for b in ends if room(a) != room(b)}
    others = {f"{plain(a)} -> {plain(b)}" for a, b in arrows if (room(a), room(b)) not in allowed}
    assert others - EXCEPTIONS == set(), "an arrow between rooms that is not listed"
    assert EXCEPTIONS - others == set(), "put right; delete these lines"


def test_modules_import_each_other_in_no_circle() -> None:
    assert circles(graph()) == sorted(CIRCLES, key=min)


def test_the_listed_arrows_themselves_run_one_way() -> None:
    edges = {a: {f"{a.split('/')[0]}/{b}" for b in ends.split()} for a, ends in ARROWS.items()}
    edges["speakerguard/cli"] -= {"speakerguard/doors"}  # `speakerguard train` opens that door
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        raise AssertionError(error.args[1]) from None


def test_a_circle_and_what_only_types_need_are_seen() -> None:
    source = (
        "if TYPE_CHECKING:\n    from a.b import c\ndef f():\n    import a.d\n    from a.e import x"
    )
    known = dict.fromkeys(["a.__init__", "a.b.__init__", "a.b.c", "a.d", "a.e"], Path())
    assert {*imported(ast.parse(source), known)} == {"a.b.c", "a.d", "a.e"}
    edges: Graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(edges) == [{"a", "b", "c"}]
