"""`wav2vec2 card`: a card from an evaluation's record and a run's log, or an error that names the file."""

import json
from pathlib import Path

import pytest
from publishable_folders import evaluation
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app

LOG = {"kind": "run", "updates": 13000, "hours": 9.5, "seed": 4, "parameters": 79_012}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}')
    return folder


def card(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["card", *map(str, arguments)])


def test_from_files(model: Path, tmp_path: Path) -> None:
    measured = evaluation()
    (tmp_path / "evaluation.json").write_text(measured.to_json(), encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    lines = [LOG, {"kind": "training", "wall_seconds": 40.0}, {"kind": "training", "wall_seconds": 2.0}]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (run / "report.png").write_bytes(b"picture")
    said = ["--license", "apache-2.0", "--language", "en", "--limitation", "Not for children.", "--data", "Read books."]
    done = card(model, *said, "--evaluation", tmp_path / "evaluation.json", "--run", run)
    assert done.exit_code == 0, done.output
    text = (model / "README.md").read_text(encoding="utf-8")
    for wanted in ("license: apache-2.0", "| updates | 13000 |", "| wall time of the updates in seconds | 42 |"):
        assert wanted in text
    assert "Not for children." in text and "| audio | Read books. |" in text and "![" in text
    assert f"{100 * measured.decodings[0].wer.rate:.2f}" in text
    assert (model / "report.png").read_bytes() == b"picture"
    assert (model / "evaluation.json").read_text(encoding="utf-8") == measured.to_json()


def test_a_run_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    """By the number of its parameters."""
    measured = evaluation()
    (tmp_path / "evaluation.json").write_text(measured.to_json(), encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    said = ["--license", "mit", "--evaluation", tmp_path / "evaluation.json", "--run", run]
    for parameters, code in ((measured.model.parameters, 0), (2 * measured.model.parameters, 1)):
        (run / "log.jsonl").write_text(json.dumps(LOG | {"parameters": parameters}) + "\n", encoding="utf-8")
        done = card(model, *said)
        assert done.exit_code == code, done.output
    assert "the evaluation is of a model of 79,012 parameters, the run of one of 158,024" in done.stderr


def test_without_figures(model: Path) -> None:
    """What nobody recorded is named."""
    assert card(model, "--license", "mit").exit_code == 0
    assert "Not recorded: recipe," in (model / "README.md").read_text(encoding="utf-8")


def test_a_licence_of_its_own(model: Path) -> None:
    """What the refusal asks for can be given."""
    refused = card(model, "--license", "other")
    assert refused.exit_code == 1 and "license_name" in refused.output
    done = card(model, "--license", "other", "--license-name", "lab-1.0", "--license-link", "https://example.org/lab")
    assert done.exit_code == 0, done.output
    assert "[lab-1.0](https://example.org/lab)" in (model / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--license", "my own"], "licen"),
        (["--license", "mit", "--language", "english"], "english"),
        (["--license", "mit", "--run", "."], "log.jsonl: no such file"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(model: Path, arguments: list[str], problem: str) -> None:
    done = card(model, *arguments)
    assert done.exit_code == 1 and problem in done.output
    assert not (model / "README.md").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["card", ".", "--license", "mit", "--evaluation", "nowhere.json"],
        ["card", ".", "--license", "mit", "--run", "nowhere.json"],
        ["push", ".", "someone/model", "--clip", "nowhere.json"],
        ["score", "nowhere.json", "x.tsv"],
        ["evaluate", "--model", "m", "--data", "nowhere.json"],
        ["evaluate", "--model", "m", "--data", "pyproject.toml", "--lm", "nowhere.json"],
    ],
)
def test_of_what_is_not_there_the_option_is_named(arguments: list[str]) -> None:
    """Before anything is loaded, instead of a bare system error."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    option = next((word for word in reversed(arguments) if word.startswith("--")), "references")
    said = " ".join(done.stderr.lower().split())
    assert "invalid value for" in said and option in said and "nowhere.json" in said and "does not exist" in said


def test_no_model(tmp_path: Path) -> None:
    done = card(tmp_path, "--license", "mit")
    assert done.exit_code == 1 and "is no folder of a model: it has no config.json" in done.output
