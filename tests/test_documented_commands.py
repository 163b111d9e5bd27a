"""Every command line in the README and the guides: it is one that the programs take, and what can run offline runs."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from documented_blocks import PAGES, ROOT, blocks, lines, words
from recognition_checkpoints import save_checkpoint, write_noise
from sound_models import save_hearing_model
from training_audio import write_parquet
from typer.testing import CliRunner

from wav2vec2 import NgramLanguageModel
from wav2vec2.command_line.app import app
from wav2vec2.command_line.learnable import FinetuneTask, learnable
from wav2vec2.serving.api_description import description
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.training.settings.recipes import resolve, task_said
from wav2vec2.training.settings.run_config import PretrainRun

LINES = [pytest.param(line, id=f"{page.stem}-{number}") for page in PAGES for number, line in enumerate(lines(page))]
#: Lines that describe a run.
TRAININGS = ("pretrain", "examples/pretrain.py", "finetune")
#: Those that need a model and audio alone.
OFFLINE = ("build-lm", "transcribe", "align", "evaluate", "score", "tune")

#: Files of the guides that a command wants to be there before it begins.
NAMED = [
    "corpus.txt",
    "words.lm",
    "words.txt",
    "names.txt",
    "test.tsv",
    "dev.tsv",
    "train.tsv",
    "held_out.tsv",
    "talk.flac",
    "keys.txt",
    "references.tsv",
    "hypotheses.tsv",
    "recordings/one.wav",
    "outputs/ctc/model/config.json",
    "outputs/ctc/log.jsonl",
    "outputs/evaluation/evaluation.json",
    "outputs/pretrained/log.jsonl",
    "outputs/mine/model/config.json",
    "site/models/mine/export.json",
    "dict.ltr.txt",
    "tokenizer.model",
    "labels.txt",
]


def check_command(arguments: Sequence[str]) -> None:
    """The real command line reads it; of a training, the run as well."""
    group: Any = typer.main.get_command(app)
    command = group.commands[arguments[0]]
    command.make_context(arguments[0], list(arguments[1:]))  # an option that is not there raises
    if arguments[0] in TRAININGS:
        check_run(arguments[0], arguments[1:])


def check_run(what: str, arguments: Sequence[str]) -> None:
    """Recipe and overrides make a run that could start."""
    words_of = list(arguments)
    task = None
    if "--task" in words_of:
        place = words_of.index("--task")
        task = FinetuneTask(words_of[place + 1])
        del words_of[place : place + 2]
    given = [word for word in words_of if not word.startswith("--") and word != "..."]
    recipe, *overrides = given
    if "..." in arguments:
        overrides += ["data.train.0.path=recordings/"]
    kind = learnable(task, task_said(recipe, overrides)).kind if what == "finetune" else PretrainRun
    resolve(kind, recipe, overrides)  # what is wrong raises, all of it


def check_python(arguments: Sequence[str]) -> None:
    """A script of the repository that knows the options."""
    script = ROOT / arguments[0]
    code = script.read_text("utf-8")
    for option in (word for word in arguments[1:] if word.startswith("--")):
        assert f'"{option}"' in code, f"{script.name} has no {option}"
    if arguments[0] in TRAININGS:
        check_run(arguments[0], arguments[1:])


def check_launch(arguments: Sequence[str]) -> None:
    """`accelerate launch` and `torchrun`, before a script of ours or the package itself."""
    if "-m" in arguments:
        name, *rest = arguments[arguments.index("-m") + 1 :]
        assert name == "wav2vec2"
        check_command([word for word in rest if word != "..."])
        return
    first = next(number for number, word in enumerate(arguments) if word.endswith(".py"))
    check_python(arguments[first:])


def check_pip(arguments: Sequence[str]) -> None:
    """Extras that are named exist."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in re.findall(r"\[(\w+)\]", " ".join(arguments)):
        assert re.search(rf"^{extra} = \[", project, re.M), extra


def check_curl(arguments: Sequence[str]) -> None:
    """What is asked of `wav2vec2 serve` is a place that there is, and fields that it knows."""
    (address,) = [word for word in arguments if word.startswith("http://127.0.0.1:8000")]
    described = description(ServiceSettings(names=("mine",)))["paths"][address.removeprefix("http://127.0.0.1:8000")]
    fields = [arguments[place + 1].partition("=")[0] for place, word in enumerate(arguments) if word == "-F"]
    known: set[str] = set()
    if "post" in described:
        known |= set(described["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"])
    assert set(fields) <= known and ("post" in described) == bool(fields)


def check_make(arguments: Sequence[str]) -> None:
    """Targets of the Makefile."""
    for target in arguments:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.M), target


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every file that a line may name is there, since commands look for them first."""
    folder = tmp_path_factory.mktemp("named")
    for name in NAMED:
        folder_of(folder / name).touch()
    return folder


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_one_that_its_program_takes(line: str, named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is left out: a program that is not known here is a failure."""
    monkeypatch.chdir(named)
    program, *arguments = words(line)
    if program == "git":
        assert line == "git clone <this repository> && cd wav2vec2"
        return
    checks = {
        "wav2vec2": check_command,
        "python": check_python,
        "accelerate": check_launch,
        "torchrun": check_launch,
        "pip": check_pip,
        "curl": check_curl,
        "make": check_make,
    }
    checks[program](arguments)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the guides name, and a small model."""
    folder = tmp_path_factory.mktemp("workplace")
    save_checkpoint(folder / "checkpoint")
    save_hearing_model(folder / "outputs/sounds/model")
    for number, name in enumerate(("interview.mp3", "talk.flac", "recordings/one.wav", "recordings/two.wav")):
        write_noise(folder / "sound.wav", 2.0, number).replace(folder_of(folder / name))
    write_parquet(folder / "shards" / "one.parquet", [{"id": "one", "audio": (folder / "talk.flac").read_bytes()}])
    (folder / "talk.txt").write_text("abc de fgh\n")
    (folder / "corpus.txt").write_text("abc de\nde fgh\nabc fgh de\n" * 5)
    NgramLanguageModel.train(["abc de", "de fgh", "abc fgh de"] * 5, order=2, prune=(0,)).save(folder / "words.lm")
    (folder / "test.tsv").write_text("path\ttranscript\nrecordings/one.wav\tabc de\nrecordings/two.wav\tfgh\n")
    shutil.copy(folder / "test.tsv", folder / "dev.tsv")
    (folder / "words.txt").write_text("abc\nde\nfgh\n")
    (folder / "names.txt").write_text("abc de\t15\n")
    (folder / "references.tsv").write_text("one\tabc de\ntwo\tfgh\n")
    (folder / "hypotheses.tsv").write_text("one\tabc ef\ntwo\tfgh\n")
    return folder


def folder_of(path: Path) -> Path:
    """The path, once its folder is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def runnable() -> list[list[str]]:
    """Command lines of ours that run without a network, each once."""
    found = {tuple(words(line)[1:]) for page in PAGES for line in lines(page) if line.startswith("wav2vec2 ")}
    chosen = [list(one) for one in found if one[0] in OFFLINE and "--language" not in one]
    return sorted(chosen, key=lambda one: (OFFLINE.index(one[0]), one))


def test_there_is_a_line_for_every_command() -> None:
    """The README shows each on one screen."""
    shown = {words(line)[1] for line in lines(PAGES[0]) if line.startswith("wav2vec2 ")}
    group: Any = typer.main.get_command(app)
    assert shown == set(group.commands)
    assert {one[0] for one in runnable()} == set(OFFLINE)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", runnable(), ids=lambda arguments: " ".join(arguments)[:60])
def test_what_can_run_offline_runs(arguments: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with a small model in place of the published one, whose texts are nonsense but written."""
    monkeypatch.chdir(workplace)
    if "--model" in arguments:
        arguments[arguments.index("--model") + 1] = "checkpoint"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    if "--output" in arguments:
        assert Path(arguments[arguments.index("--output") + 1]).exists()
    else:
        assert done.stdout.strip()


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "yaml" for b in blocks(page))])
def test_yaml_is_part_of_a_run(page: Path, tmp_path: Path) -> None:
    """With a model and an output beside it, it is a run that could start."""
    for block in blocks(page):
        if block.language == "yaml":
            recipe = {"model": {"preset": "tiny"}, "run": {"output": "outputs/x"}} | yaml.safe_load(block.text)
            (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            assert resolve(PretrainRun, tmp_path / "recipe.yaml", []).run.data.train
