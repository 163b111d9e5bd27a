"""Every block of the README and the guides holds: Python runs, commands are those that exist, names are real."""

import ast
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import readers_files
import warm_processes
from documented_blocks import PAGES, ROOT, blocks

from wav2vec2 import Wav2Vec2Config
from wav2vec2.baselines import VQWav2VecConfig
from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun

PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """All of it in order, in one namespace, in a folder and a process of its own: `register()` would reach others."""
    code = "\n\n".join(block.text for block in blocks(page) if block.language == "python")
    if page.name == "README.md":
        readers_files.lay_out(tmp_path)
    server = warm_processes.server("documented_python")
    process = server.start(tmp_path / "said.log", "documented_python:run", code, page.name, str(tmp_path))
    assert process.wait(240) == 0, process.said()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_one_that_is_tested(page: Path) -> None:
    """Nothing stands in a language that no test looks at."""
    assert {block.language for block in blocks(page)} <= {"python", "sh", "yaml", "text"}


def test_where_text_may_stand() -> None:
    """Plain text is the tree of the README, and messages in the guide to troubles: both have tests of their own."""
    with_text = {page.name for page in PAGES for block in blocks(page) if block.language == "text"}
    assert with_text <= {"README.md", "troubleshooting.md"}


def test_links_between_pages_lead_somewhere() -> None:
    """A path in backticks or a link that names a file of the repository names one that exists."""
    missing = []
    for page in PAGES:
        for name in re.findall(
            r"`((?:src|tests|docs|benchmarks|examples|model_cards)/[\w/.-]+\.\w+|test_\w+\.py)`",
            page.read_text("utf-8"),
        ):
            place = ROOT / ("tests" if name.startswith("test_") else "") / name
            if not place.exists():
                missing.append(f"{page.name}: {name}")
    assert not missing


def test_markdown_links_lead_somewhere() -> None:
    """To files, and to headings in them."""
    links = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))]
    here = [(page, target) for page, target in links if not target.startswith(("http://", "https://"))]
    assert len(here) > 10 and any("#" in target for _, target in here)
    for page, target in here:
        name, _, heading = target.partition("#")
        place = page.parent / name if name else page
        assert place.is_file(), f"{page.name}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", place.read_text("utf-8"), re.M)
            anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page.name}: {target}"


def test_every_guide_can_be_reached_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in re.findall(r"\]\((docs/[^)\s]+)\)", PAGES[0].read_text("utf-8"))}
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked


def settings() -> set[str]:
    """The dotted names of everything that a recipe can hold, but for the model's own configuration."""
    names = set()
    for kind in (PretrainRun, FinetuneRun):
        for section, hint in get_type_hints(kind).items():
            type_ = next((part for part in get_args(hint) if is_dataclass(part)), hint)  # one that may be None
            if is_dataclass(type_):
                names |= {section, *(f"{section}.{field.name}" for field in fields(type_))}
    return names


def test_settings_that_are_named_exist() -> None:
    """In backticks, such as `data.workers` or `model.config.layerdrop=0`."""
    sections = "data|model|optimizer|schedule|run|guards|text|tuning|streaming"
    configs = (Wav2Vec2Config, VQWav2VecConfig)  # which has all that wav2vec has
    known = settings() | {f"model.config.{field.name}" for config in configs for field in fields(config)}
    named = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
        for name in re.findall(rf"`(?:[^`]*\s)?((?:{sections})\.[a-z_.0-9]+)(?:=[^`]*)?`", prose):
            endings = (".json", ".html", ".txt", ".py", ".onnx", ".data", ".xml", ".bin", ".push_to_hub", ".decode")
            if not name.endswith(endings):
                parts = 3 if name.startswith("model.config.") else 2
                named.append((page.name, ".".join(name.split(".")[:parts])))
    assert len(named) > 10
    assert [(page, name) for page, name in named if name not in known] == []


def constants() -> list[str]:
    """Every piece of text in the package's code, as the interpreter has it: pieces that stand together are one."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_in_the_guide_to_troubles_are_ours() -> None:
    """Each paragraph's line is a piece of a message that the code has; a line may go on in the next."""
    known = constants()
    page = ROOT / "docs" / "troubleshooting.md"
    pieces = [line for block in blocks(page) if block.language == "text" for line in block.text.splitlines()]
    assert len(pieces) > 10
    assert [piece for piece in pieces if not any(piece in message for message in known)] == []


def test_the_tree_in_the_readme_is_the_tree() -> None:
    """Every room is listed, and every file and folder that is listed exists."""
    tree = next(block.text for block in blocks(PAGES[0]) if block.language == "text")
    package = ROOT / "src" / "wav2vec2"
    rooms = {path.name for path in package.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert set(re.findall(r"^[|`]-- (\w+)/", tree.partition("docs/ ")[0], re.M)) == rooms
    files: dict[str, list[Any]] = {}
    for path in [*package.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")]:
        files.setdefault(path.name, []).append(path)
    named = set(re.findall(r"\b[a-z]\w*\.py\b", tree))
    assert named and sorted(named - set(files)) == []
    for folder in re.findall(r"^(\w[\w/]*)/ ", tree, re.M):
        assert (ROOT / folder).is_dir(), folder
