"""A folder that was exported before is compared with its model again, by a process that it may end."""

import json
import sys
import time
from pathlib import Path

import pytest
from recognition_checkpoints import save_checkpoint
from typer.testing import CliRunner

from wav2vec2 import export
from wav2vec2.command_line.app import app
from wav2vec2.evaluation.bootstrap import Interval
from wav2vec2.export import Checked, ExportError, check_export, checking_process
from wav2vec2.export.agreement import Agreement
from wav2vec2.export.checking_process import CheckingProcess
from wav2vec2.export.checkpoint import load_checkpoint
from wav2vec2.export.export_card import Figures
from wav2vec2.export.exporting import TARGETS
from wav2vec2.export.right_settings import wrong_settings
from wav2vec2.export.targets import Precision
from wav2vec2.export.word_errors import WordErrors

BESIDE_TORCH = Agreement("ONNX Runtime 9", 10, 1e-6, 1e-7, 5, 5, 20.0, 30.0)
ERRORS = WordErrors(0.1, 0.12, 0.02, Interval(0.001, 0.04), 10, 10, 90, "none")


def plays(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Every process that checks is this code, which has read the first line."""
    begin = "import json, os, sys, time\nline = sys.stdin.readline()\nprint(json.dumps({'faults': []}), flush=True)\n"
    monkeypatch.setattr(checking_process, "COMMAND", [sys.executable, "-c", begin + code])


def exported(folder: Path, target: str = "onnx", **record: object) -> Path:
    """A folder with all names of an export and nothing in them."""
    folder.mkdir()
    (folder / "export.json").write_text(json.dumps({"target": target, "language": None} | record), encoding="utf-8")
    for name in TARGETS[target].files.values():
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (r"sys.stdin.readline(); os.write(2, b'no\x1b[5m token\n'); os._exit(255)", "code 255 (no?[5m token)"),
        ("sys.stdin.readline(); os.kill(os.getpid(), 11)", "ended the process with signal 11"),
        ("print(json.dumps({'seconds': 0.1}), flush=True); time.sleep(60)", "was not done after 0 s"),
        ("", "ended the process with code 0"),
    ],
    ids=["leaves", "crashes", "hangs", "ends before it is asked"],
)
def test_a_file_that_ends_the_process_is_one_fault(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one is asked of another process."""
    plays(monkeypatch, code)
    began = time.monotonic()
    checked = check_export("model", exported(tmp_path / "out"))
    assert time.monotonic() - began < 30
    assert [fault.partition(":")[0] for fault in checked.faults] == ["its files", "model.onnx", "model.int8.onnx"]
    assert all(why in fault and fault.endswith("; export the model again") for fault in checked.faults), checked.faults
    assert not checked.figures


def test_what_the_process_measured_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, faults, and that a manifest takes as long as it takes."""
    figures = Figures(["model.onnx"], 1_500_000, BESIDE_TORCH, ERRORS)
    record = json.dumps(checking_process.answer_of(figures))
    slow = f"print(json.dumps({{'seconds': None}}), flush=True); time.sleep(0.2); print({record!r}, flush=True)"
    wrong = json.dumps({"faults": ["wrong"]})
    answers = f"print({wrong!r}, flush=True) if number != 1 else exec({slow!r})"
    plays(monkeypatch, f"for number in range(3):\n    sys.stdin.readline()\n    {answers}")
    checked = check_export("model", exported(tmp_path / "out"), data="some.tsv")
    assert checked == Checked(tmp_path / "out", "onnx", {Precision.float32: figures}, ["wrong", "wrong"])
    assert checked.too_many_errors == [Precision.float32]


@pytest.mark.parametrize(("answer", "kind"), [("refused", ExportError), ("missing", ImportError)])
def test_what_is_no_fault_of_the_folder_is_an_error(
    answer: str, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model, no runtime, no manifest."""
    plays(monkeypatch, f"sys.stdin.readline(); print({json.dumps({answer: 'the reason'})!r}, flush=True)")
    with pytest.raises(kind, match="the reason"):
        check_export("model", exported(tmp_path / "out"))


def test_nothing_that_it_started_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as Node."""
    mark = tmp_path / "still"
    inner = f"import time; time.sleep(1.5); open({str(mark)!r}, 'w')"
    plays(monkeypatch, f"import subprocess; subprocess.Popen([sys.executable, '-c', {inner!r}]); time.sleep(60)")
    process = CheckingProcess()
    assert process.ask({}) == {"faults": []}
    process.close()
    time.sleep(2)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "has no export.json, which says what runtime it is for: say it"),
        ("{", "export.json is not sound JSON"),
        ("[1]", "target is None: must be one of onnx, sherpa-onnx"),
        ('{"target": ["onnx"]}', "target is ['onnx']: must be one of"),
        ('{"target": "tflite"}', "target is 'tflite': must be one of"),
        ('{"target": "onnx", "language": 5}', "language is 5: must be a name, or null"),
        ('{"target": "openvino"}', "is no export for openvino: has no model.xml and no model.int8.xml"),
    ],
)
def test_a_folder_that_does_not_say_what_it_is_for_is_one_error(content: str | None, why: str, tmp_path: Path) -> None:
    folder = exported(tmp_path / "out")
    (folder / "export.json").unlink()
    if content is not None:
        (folder / "export.json").write_text(content, encoding="utf-8")
    ran = CliRunner().invoke(app, ["export", "model", "--check", str(folder)])
    assert ran.exit_code == 1
    assert ran.output.startswith(f"export: {folder}") and why in ran.output and len(ran.output.splitlines()) == 1


@pytest.mark.parametrize("target", ["onnx", "sherpa-onnx", "transformers.js"])
def test_files_beside_the_weights_must_say_what_the_model_says(target: str, tmp_path: Path) -> None:
    """Each target's own are right; each of them is missed, and seen where something in it is another."""
    checkpoint = load_checkpoint(str(save_checkpoint(tmp_path / "model")))
    folder = tmp_path / "out"
    folder.mkdir()
    TARGETS[target].write_settings(checkpoint, folder)
    assert wrong_settings(TARGETS[target], checkpoint, folder) == []
    for number, path in enumerate(sorted(folder.iterdir())):
        content = path.read_text("utf-8")
        damaged = [(None, "is missing"), (content + " " * 2_000_000, "bytes, and the model's")]
        if path.suffix == ".json":
            values = json.loads(content)
            first = next(iter(values))
            damaged += [("[" * 100_000, "is no JSON"), ("{}", f"has no {first!r}, which is"), ("[]", "it is []")]
            damaged += [(json.dumps(values | {"more": 1}), "has 'more', which the model's has not")]
            damaged += [(json.dumps(values | {first: [7]}), f"{first} is [7], the model's is")]
        else:
            damaged += [
                ("", "line 1 is 'nothing', the model's is '<pad> 0'"),
                (content.replace(" 3", " 9"), "line 4 is"),
            ]
            damaged += [(content.replace("\n", "\r\n"), "has other ends of lines than the model's")]
        for changed, why in damaged if number == 0 else damaged[:1]:
            path.unlink(missing_ok=True)
            if changed is not None:
                path.write_bytes(changed.encode())
            found = wrong_settings(TARGETS[target], checkpoint, folder)
            assert len(found) == 1 and found[0].startswith(f"{path.name}: ") and why in found[0], (found, why)
        path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("faults", "errors", "code"), [([], None, 0), (["model.onnx: is wrong"], None, 1), ([], ERRORS, 1)]
)
def test_the_command_says_what_is_wrong_and_ends_with_1(
    faults: list[str], errors: WordErrors | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {Precision.float32: Figures(["model.onnx"], 1_500_000, BESIDE_TORCH, errors)}
    monkeypatch.setattr(export, "check_export", lambda *_: Checked(tmp_path, "onnx", figures, faults))
    ran = CliRunner().invoke(app, ["export", "small", "--check", str(tmp_path)])
    assert ran.exit_code == code
    assert f"{tmp_path}: compared in onnx with small" in ran.output
    assert "float32: 1.5 MB, outputs within 1e-06 of torch's, 5 of 5 texts the same" in ran.output
    assert [line for line in ran.output.splitlines() if line.startswith("export: ")] == [
        *(f"export: {tmp_path}: {fault}" for fault in faults),
        *(["export: the error rate rose by more than 0.5 points, and not by chance"] if errors else []),
    ]


def test_writing_and_checking_are_not_asked_for_together(tmp_path: Path) -> None:
    for more in (["--int8"], ["-o", "out"], ["--language", "eng", "--language", "deu"]):
        assert CliRunner().invoke(app, ["export", "small", "--check", str(tmp_path), *more]).exit_code == 2
    assert CliRunner().invoke(app, ["export", "small"]).exit_code == 2


def test_with_wrong_tokens_sherpa_onnx_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the process over what is told already."""
    wrong = json.dumps({"faults": ["tokens.txt: is wrong"]})
    plays(monkeypatch, f"sys.stdin.readline(); print({wrong!r}, flush=True); sys.stdin.readline(); os._exit(255)")
    assert check_export("model", exported(tmp_path / "out", "sherpa-onnx")).faults == ["tokens.txt: is wrong"]
