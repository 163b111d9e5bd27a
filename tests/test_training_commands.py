"""`wav2vec2 pretrain` and `wav2vec2 finetune` as they are typed, with the training itself left out."""

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import wav2vec2.command_line.app as command_line_app
from wav2vec2.command_line.app import app
from wav2vec2.training import pretraining
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun

ROOT = Path(__file__).parents[1]
AUDIO = "data.train.0.path=audio"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, bool]]:
    """What was started: the command, the run, and whether it may resume."""
    calls: list[tuple[str, Any, bool]] = []
    for module, function in (("pretraining", "pretrain"), ("finetuning", "finetune")):
        stand_in = types.ModuleType(f"wav2vec2.training.{module}")

        def start(run: Any, resume: bool = True, name: str = function) -> None:
            calls.append((name, run, resume))

        setattr(stand_in, function, start)
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
        monkeypatch.setattr(f"wav2vec2.training.{module}", stand_in, raising=False)
    return calls


def type_in(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_a_recipe_and_overrides_start_a_run(started: list[tuple[str, Any, bool]]) -> None:
    assert type_in("pretrain", "tiny_cpu", AUDIO, "optimizer.learning_rate=1e-3") == (0, "", "")
    assert type_in("finetune", "ctc_tiny_cpu", AUDIO, "--no-resume") == (0, "", "")
    expected = read_run(PretrainRun, "tiny_cpu", [AUDIO, "optimizer.learning_rate=1e-3"])
    assert started[0] == ("pretrain", expected, True)
    assert started[1] == ("finetune", read_run(FinetuneRun, "ctc_tiny_cpu", [AUDIO]), False)


def test_a_recipe_may_be_a_path(started: list[tuple[str, Any, bool]], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: base_960h\nrun: {seed: 9}\n", encoding="utf-8")
    assert type_in("pretrain", str(recipe), AUDIO)[0] == 0
    assert (started[0][1].run.seed, started[0][1].model.preset) == (9, "base")


def test_mistakes_are_told_and_nothing_starts(started: list[tuple[str, Any, bool]]) -> None:
    code, output, errors = type_in("pretrain", "tiny_cpu", "run.sed=3")
    assert (code, output, started) == (1, "", [])
    assert errors == (
        "pretrain: tiny_cpu cannot be started (2 to correct):\n"
        "  data.train=[]: no audio to train on: give a folder, a manifest or a data set, such as "
        "data.train.0.path=FOLDER\n"
        "  run.sed=3 (override run.sed=3): is not known: did you mean seed?\n"
    )
    code, _, errors = type_in("finetune", "ctc_base_10")
    assert code == 1
    assert "neither a file nor the name of a shipped recipe: did you mean ctc_base_10" in errors


def test_ctrl_c_outside_of_the_updates_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first there is nothing to save, after the last everything is."""

    def start(run: PretrainRun, resume: bool = True) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "pretrain", start)
    code, out, errors = type_in("pretrain", "tiny_cpu", AUDIO)
    assert (code, out) == (130, "") and errors.startswith("stopped; the same command goes on")


@pytest.mark.parametrize("fault", [RuntimeError("stopped"), ValueError("stopped"), ImportError("stopped")])
def test_an_error_of_the_run_is_one_message(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.ModuleType("wav2vec2.training.pretraining")

    def start(run: PretrainRun, resume: bool = True) -> None:
        raise fault

    stand_in.pretrain = start  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr("wav2vec2.training.pretraining", stand_in, raising=False)
    assert type_in("pretrain", "tiny_cpu", AUDIO) == (1, "", "pretrain: stopped\n")
    assert CliRunner().invoke(app, ["pretrain", "tiny_cpu", AUDIO, "--traceback"]).exception is fault


def test_a_dry_run_shows_every_value_and_its_source(started: list[tuple[str, Any, bool]], tmp_path: Path) -> None:
    """And what it shows is itself a recipe of the same run."""
    code, output, _ = type_in("pretrain", "large_lv60k", AUDIO, "run.seed=4", "--dry-run")
    assert (code, started) == (0, [])
    lines = [line.strip() for line in output.splitlines()]
    assert "seed: 4  # override run.seed=4" in lines
    assert "- path: audio  # override data.train.0.path=audio" in lines
    assert "epsilon: 1.0e-06  # default" in lines
    assert any(line.startswith("updates: 600000  # large_lv60k.yaml, line ") for line in lines)
    assert any(line.startswith("learning_rate: 0.0003  # large_960h.yaml, line ") for line in lines)
    saved = tmp_path / "saved.yaml"
    saved.write_text(output, encoding="utf-8")
    assert read_run(PretrainRun, saved) == read_run(PretrainRun, "large_lv60k", [AUDIO, "run.seed=4"])


@pytest.mark.slow
@pytest.mark.parametrize(("command", "recipe"), [("pretrain", "tiny_cpu"), ("finetune", "ctc_tiny_cpu")])
def test_what_launchers_start_is_the_same_run(command: str, recipe: str) -> None:
    """`accelerate launch -m wav2vec2 ...` runs the package as a module."""
    launched = [sys.executable, "-m", "wav2vec2", command, recipe, AUDIO, "--dry-run"]
    shown = subprocess.run(launched, capture_output=True, text=True, check=True).stdout
    assert shown == type_in(command, recipe, AUDIO, "--dry-run")[1]


def test_help_says_how_to_begin() -> None:
    for command, recipe in (("pretrain", "tiny_cpu"), ("finetune", "ctc_tiny_cpu")):
        code, output, _ = type_in(command, "--help")
        assert code == 0
        assert f"wav2vec2 {command} {recipe} data.train.0.path=" in output
        assert "--dry-run" in output


def test_threads_of_a_command_sleep_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside other work on the same cores, threads that wait in a loop for long make every operation many times slower.
    What the user has chosen stays."""
    seen = []
    monkeypatch.setattr(command_line_app, "app", lambda **_: seen.append(os.environ.get("GOMP_SPINCOUNT")))
    for policy, given, expected in ((None, None, "3000"), (None, "7", "7"), ("ACTIVE", None, None)):
        for name, value in (("OMP_WAIT_POLICY", policy), ("GOMP_SPINCOUNT", given)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        command_line_app.main()
        assert seen.pop() == expected


def test_large_tensors_of_a_command_lie_in_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user has chosen otherwise."""
    seen = []
    monkeypatch.setattr(command_line_app, "app", lambda **_: seen.append(os.environ.get("THP_MEM_ALLOC_ENABLE")))
    monkeypatch.setenv("GOMP_SPINCOUNT", "3000")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    command_line_app.main()
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    command_line_app.main()
    assert seen == ["0", "1"]
