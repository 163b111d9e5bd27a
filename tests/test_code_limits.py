"""The limits of the code itself: its length, its names, and which room may import which."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "wav2vec2"
FOLDERS = ("src", "tests", "benchmarks", "examples", "docs")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Which rooms a room may import besides itself. A room of a room stands under its path.
MAY_IMPORT: dict[str, set[str]] = {}

#: From the ground up: each room, and what it may import. "all above" are the rooms of the lines before.
for room, below in (
    ("files", ""),
    ("configuration", "files"),
    ("modeling", "configuration files"),
    ("baselines", "modeling configuration files"),
    ("processing", "configuration files"),
    ("shards", "processing configuration files"),
    ("language_models", "files"),
    ("alignment", "configuration files"),
    ("decoding", "language_models alignment configuration files"),
    ("inference", "all above"),
    ("inference/streaming", "all above"),
    ("serving", "all above"),
    ("metrics", ""),  # scripts that `evaluate` copies elsewhere
    ("evaluation", "all above"),
    ("pronunciation", "all above"),
    ("spotting", "all above"),
    ("export", "all above"),
    ("training/settings", "all above"),
    ("training/saving", "all above"),
    ("training/data", "all above"),
    ("training/progress", "all above"),
    ("training/checks", "all above"),
    ("training/tasks", "all above"),
    ("training", "all above"),
    ("sharing", "all above but training"),
    ("quickstart", "all above"),
    ("command_line", "all above"),
):
    allowed = set(MAY_IMPORT) if below.startswith("all above") else set(below.split())
    MAY_IMPORT[room] = {
        name for name in allowed if below != "all above but training" or not name.startswith("training")
    }

ROOMS = tuple(MAY_IMPORT)

#: What the rooms that every user of a model needs may import from outside.
OUTSIDE: dict[str, set[str]] = {
    "configuration": {"transformers"},
    "modeling": {"torch", "transformers", "safetensors"},
    "baselines": {"torch", "transformers", "safetensors"},
}

#: Names that say nothing about what a file holds.
EMPTY_NAMES = {"util", "utils", "common", "helper", "helpers", "misc", "base"}


@cache
def tree_of(path: Path) -> ast.Module:
    """A file as Python reads it."""
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, at the top or inside a function, and the line."""
    package = path.relative_to(ROOT / "src").parent.parts
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            # `from wav2vec2 import modeling` names a room after the import
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def room_of(path: Path) -> str | None:
    """The room a module stands in; None for the package's own `__init__`, which opens all of them."""
    return room_at("/".join(path.relative_to(PACKAGE).parent.parts))


def room_at(place: str) -> str | None:
    """The innermost room at a path inside the package; a folder that is no room is given back as it is."""
    if not place or place in ROOMS or "/" not in place:
        return place or None
    return room_at(place.rpartition("/")[0])


def room_named(module: str) -> str | None:
    """The room that an imported name belongs to, None if it is not ours."""
    parts = module.split(".")
    if parts[0] != "wav2vec2":
        return None
    found = room_at("/".join(parts[1:]))
    return found if found in ROOMS else "the whole package"


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Modules that import each other in a circle, each circle as large as it is."""
    reached: dict[str, set[str]] = {}
    for start in arrows:
        seen, waiting = set[str](), [start]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        reached[start] = seen
    found: list[set[str]] = []
    for start in arrows:
        around = {other for other in reached[start] if start in reached.get(other, set())}
        if around and around not in found:
            found.append(around)
    return found


def functions_in(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a file with its length in lines, decorators left out."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.name, node.end_lineno - node.lineno + 1


def test_the_sources_were_found() -> None:
    """The tests below look at something."""
    assert len(MODULES) > 20
    assert Path(__file__) in SOURCES


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_function_is_longer_than_50_lines() -> None:
    lengths = [(name_of(path), name, lines) for path in SOURCES for name, lines in functions_in(path)]
    assert len(lengths) > 1000
    assert [one for one in lengths if one[2] > 50] == []


def test_every_file_name_says_what_the_file_holds() -> None:
    assert [name_of(path) for path in SOURCES if {*path.relative_to(ROOT).with_suffix("").parts} & EMPTY_NAMES] == []


def test_every_folder_of_the_package_is_a_known_room() -> None:
    rooms = {room for path in MODULES if (room := room_of(path)) is not None}
    assert rooms == set(ROOMS)


def test_a_room_imports_only_the_rooms_it_may() -> None:
    wrong = []
    for path in MODULES:
        if (room := room_of(path)) is not None:
            imported = [(line, module, room_named(module)) for line, module in imports_of(path)]
            allowed = MAY_IMPORT[room] | {room, None}
            wrong += [f"{name_of(path)}:{line}: {module}" for line, module, of in imported if of not in allowed]
    assert wrong == []


def test_no_module_is_imported_by_what_it_imports() -> None:
    """Not even inside of a function or for types alone."""
    named = {".".join(path.relative_to(ROOT / "src").with_suffix("").parts): path for path in MODULES}
    arrows: dict[str, set[str]] = {}
    for name, path in named.items():
        imported = {module for _, module in imports_of(path)}
        imported |= {module.rpartition(".")[0] for module in imported}
        arrows[name] = (imported & set(named)) - {name}
    assert sum(map(len, arrows.values())) > 500
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]
    assert circles(arrows) == []


def test_models_need_no_library_but_torch_transformers_and_safetensors() -> None:
    wrong = []
    for path in MODULES:
        if (room := room_of(path)) in OUTSIDE:
            allowed = OUTSIDE[room] | set(sys.stdlib_module_names) | {"wav2vec2"}
            outside = [(line, module) for line, module in imports_of(path) if module.split(".")[0] not in allowed]
            wrong += [f"{name_of(path)}:{line}: {module}" for line, module in outside]
    assert wrong == []


def test_the_import_checker_sees_every_way_of_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`import a.b`, `from a import b`, relative imports and imports inside functions."""
    room = tmp_path / "src" / "wav2vec2" / "modeling"
    room.mkdir(parents=True)
    file = room / "example.py"
    file.write_text(
        "import wav2vec2.training.loop\nfrom wav2vec2 import decoding\nfrom . import attention\n"
        "def f():\n    from ..processing import audio\n",
        encoding="utf-8",
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    found = [module for _, module in imports_of(file)]
    assert found == [
        "wav2vec2.training.loop",
        "wav2vec2.decoding",
        "wav2vec2.modeling.attention",
        "wav2vec2.processing.audio",
    ]
    assert [room_named(module) for module in found] == ["training", "decoding", "modeling", "processing"]
    assert room_named("wav2vec2.training.data.streams.Stream") == "training/data"
    assert room_of(PACKAGE / "training" / "data" / "deeper" / "file.py") == "training/data"
