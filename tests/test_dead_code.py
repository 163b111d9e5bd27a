"""No function, class or method of the package is there for its tests alone."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import transformers

import wav2vec2
from wav2vec2.baselines import presets as ancestors
from wav2vec2.configuration import presets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
#: What stands here is a use; what stands in tests is none.
USERS = ("src", "benchmarks", "examples", "docs")
#: Modules whose functions a recipe or a library picks by name.
PICKED_BY_NAME = (presets.__name__, ancestors.__name__, "wav2vec2.metrics.")
#: Methods that a library looks for on an object of any class.
LOOKED_FOR = {
    "readinto",  # soundfile, on what it reads
    "inputs_to_logits_ratio",  # pipelines of Transformers, on a configuration
    "_ddp_params_and_buffers_to_ignore",  # torch's DistributedDataParallel, on the model
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def names_in(tree: ast.AST) -> Counter[str]:
    """How often each name is used: as a variable, an attribute, or a text that is nothing but the name."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                found[name] += 1
    return found


def definitions(tree: ast.Module) -> Iterator[tuple[str | None, Definition]]:
    """The functions and classes of a module, and the methods of its classes with the name of their class."""
    for outer in tree.body:
        if isinstance(outer, Definition):
            yield None, outer
        if isinstance(outer, ast.ClassDef):
            yield from ((outer.name, inner) for inner in outer.body if isinstance(inner, Definition))


def unused(trees: dict[str, ast.Module], uses: Counter[str]) -> list[tuple[str, int, str | None, str]]:
    """Module, line, class and name of what nothing uses but itself."""
    return [
        (module, node.lineno, owner, node.name)
        for module, tree in trees.items()
        for owner, node in definitions(tree)
        if not node.name.startswith("__") and uses[node.name] == names_in(node)[node.name]
    ]


def is_called_from_outside(module: ModuleType, owner: str | None, name: str) -> bool:
    """Part of the public names, or of what Transformers, torch or another library calls by that name."""
    if module.__name__.startswith(PICKED_BY_NAME):
        return True
    if owner is None:
        return name in wav2vec2.__all__
    related: set[type] = {base for one in with_subclasses(vars(module)[owner]) for base in one.__mro__}
    outside = [one for one in related if not one.__module__.startswith("wav2vec2")]
    stock: list[type] = [getattr(transformers, one.__name__, object) for one in related]
    return name in LOOKED_FOR or any(hasattr(one, name) for one in outside + stock)


def with_subclasses(cls: type) -> Iterator[type]:
    """A class, and all that inherit what it adds to them."""
    yield cls
    below: list[type] = cls.__subclasses__()
    for one in below:
        yield from with_subclasses(one)


def test_everything_is_used_by_more_than_tests() -> None:
    """Or it is public, or a library calls it: the methods of stock Transformers, of torch, of Python's protocols."""
    trees = {path: ast.parse(path.read_text("utf-8")) for user in USERS for path in (ROOT / user).rglob("*.py")}
    uses = sum(map(names_in, trees.values()), Counter[str]())
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        uses.update(re.findall(r"\w+", " ".join(re.findall(r"```\w*\n(.*?)```", page.read_text("utf-8"), re.DOTALL))))
    named = {
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts): tree
        for path, tree in trees.items()
        if path.is_relative_to(ROOT / "src") and path.stem != "__main__"
    }
    modules = {name: import_module(name) for name in named}
    found = unused(named, uses)
    assert sum(map(len, map(list, map(definitions, named.values())))) > 1000 and len(found) > 5
    dead = [one for one in found if not is_called_from_outside(modules[one[0]], one[2], one[3])]
    said = [f"{module}:{line} {'.'.join(filter(None, (owner, name)))}" for module, line, owner, name in dead]
    assert not said, "\n".join(sorted(said))


def test_dead_code_is_seen() -> None:
    """Also where it calls itself; not where it is called, handed on, or named in a text."""
    code = (
        "def alone(n):\n    return alone(n - 1)\n"
        "class Used:\n    def __len__(self): ...\n    def idle(self): ...\n    def called(self): ...\n"
        "def by_name(): ...\nvalues = [Used().called(), 'by_name']\n"
    )
    tree = ast.parse(code)
    found = unused({"example": tree}, names_in(tree))
    assert [(owner, name) for _, _, owner, name in found] == [(None, "alone"), ("Used", "idle")]


@pytest.mark.parametrize(
    ("module", "owner", "name", "answer"),
    [
        ("wav2vec2.processing.audio_files", None, "load_audio", True),
        ("wav2vec2.modeling.outputs", "StockTuple", "to_tuple", True),
        ("wav2vec2.modeling.outputs", "StockTuple", "from_tuple", False),
        ("wav2vec2.modeling.for_ctc", "Wav2Vec2ForCTC", "freeze_base_model", True),
        ("wav2vec2.modeling.for_ctc", None, "freeze_base_model", False),
    ],
)
def test_what_is_called_from_outside(module: str, owner: str | None, name: str, answer: bool) -> None:
    assert is_called_from_outside(import_module(module), owner, name) is answer
