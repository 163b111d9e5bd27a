"""Word error rates beside torch: what is a change, what is chance, and what the command makes of it."""

import json
import random
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from recognition_checkpoints import noise, save_checkpoint
from typer.testing import CliRunner

from wav2vec2 import export
from wav2vec2.command_line.app import app
from wav2vec2.evaluation.bootstrap import Interval
from wav2vec2.export import Exported, ExportError
from wav2vec2.export.agreement import Agreement
from wav2vec2.export.checkpoint import Checkpoint, load_checkpoint
from wav2vec2.export.export_card import Figures
from wav2vec2.export.exporting import TARGETS
from wav2vec2.export.targets import Outputs, Precision
from wav2vec2.export.word_errors import WordErrors, word_errors

Array = NDArray[np.float32]

EXACT = WordErrors(0.1, 0.1, 0.0, Interval(0.0, 0.0), 10, 10, 90, "none")


class Deaf:
    """A runtime that hears what torch hears, and writes an "x" instead of some of the texts."""

    what, takes_batches = "a test", True

    def __init__(self, checkpoint: Checkpoint, wrong: int) -> None:
        self.checkpoint, self.wrong, self.heard = checkpoint, wrong, 0

    def outputs(self, clips: Any) -> list[Outputs]:
        return [self.checkpoint.outputs(clip) for clip in clips]

    def texts(self, clips: Any) -> list[str]:
        found = [self.checkpoint.text(one["logits"]) for one in self.outputs(clips)]
        self.heard += len(found)
        return ["x" if number < self.wrong else text for number, text in enumerate(found)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return load_checkpoint(str(save_checkpoint(tmp_path / "model")))


def manifest(checkpoint: Checkpoint, folder: Path, clips: int) -> Path:
    """Clips whose transcripts are what the model reads in them."""
    lines = ["path\ttranscript"]
    for number in range(clips):
        soundfile.write(folder / f"{number}.wav", noise(0.5, number), 16_000, subtype="FLOAT")
        lines.append(f"{number}.wav\t{checkpoint.text(checkpoint.outputs(noise(0.5, number))['logits'])}")
    (folder / "data.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "data.tsv"


def test_rates_are_of_the_same_recordings_and_their_change_is_paired(checkpoint: Checkpoint, tmp_path: Path) -> None:
    data = manifest(checkpoint, tmp_path, 12)
    runtimes = {Precision.float32: Deaf(checkpoint, 0), Precision.int8: Deaf(checkpoint, 9)}
    found = word_errors(checkpoint, runtimes, data)
    same, worse = found[Precision.float32], found[Precision.int8]
    assert (same.torch, same.runtime, same.change, same.same_texts, same.recordings) == (0, 0, 0, 12, 12)
    assert same.interval == Interval(0.0, 0.0)
    assert not same.too_much
    assert worse.torch == 0
    assert worse.change == worse.runtime > 0.5
    assert worse.same_texts == 3
    assert worse.interval is not None
    assert worse.interval.low > 0.2
    assert worse.too_much
    assert runtimes[Precision.int8].heard == 12


@pytest.mark.parametrize(
    ("change", "interval", "too_much"),
    [
        (0.0051, Interval(0.0001, 0.01), True),
        (0.0049, Interval(0.0001, 0.01), False),
        (0.0051, Interval(-0.0001, 0.01), False),
        (0.5, None, False),
        (-0.3, Interval(-0.4, -0.2), False),
    ],
    ids=["clearly worse", "worse by less than half a point", "may be chance", "one recording", "better"],
)
def test_too_much_is_more_than_half_a_point_and_no_chance(
    change: float, interval: Interval | None, too_much: bool
) -> None:
    assert replace(EXACT, change=change, interval=interval).too_much is too_much


@pytest.mark.parametrize("low", [0.001, -0.001])
def test_the_command_ends_with_1_where_the_rate_rose(low: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported is told either way."""
    errors = replace(EXACT, runtime=0.12, change=0.02, interval=Interval(low, 0.04))
    beside_torch = Agreement("ONNX Runtime 9", 10, 1e-6, 1e-7, 5, 5, 20.0, 30.0)
    figures = {Precision.float32: Figures(["model.onnx"], 1_500_000, beside_torch, errors)}
    monkeypatch.setattr(export, "export_model", lambda *_: Exported(Path("there"), "onnx", figures))
    ran = CliRunner().invoke(app, ["export", "small", "--to", "onnx"])
    assert ran.exit_code == (1 if low > 0 else 0)
    assert "float32: 1.5 MB, outputs within 1e-06 of torch's, 5 of 5 texts the same (ONNX Runtime 9)" in ran.output
    assert "WER 12.00 %, in torch 10.00 %, change +2.00 %" in ran.output
    assert ("rose by more than 0.5 points" in ran.output) is (low > 0)


@pytest.mark.slow
def test_convolutions_in_eight_bits_are_refused_by_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph as onnxruntime quantises it unless told otherwise, on transcripts that torch reads without error."""
    for module in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(module, reason=f"{module}, of the extra `export`, is not installed")
    onnx, quantization = import_module("onnx"), import_module("onnxruntime.quantization")
    sizes: dict[str, Any] = {"conv_dim": (16, 16, 16), "conv_stride": (10, 8, 4), "conv_kernel": (20, 8, 5)}
    model = save_checkpoint(tmp_path / "model", num_hidden_layers=1, **sizes)
    data = manifest(load_checkpoint(str(model)), tmp_path, 30)
    monkeypatch.setattr("wav2vec2.export.for_onnx.quantise", quantization.quantize_dynamic)
    command = ["export", str(model), "--to", "onnx", "--int8", "--data", str(data), "-o", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, command)
    operations = Counter(node.op_type for node in onnx.load(str(tmp_path / "out" / "model.int8.onnx")).graph.node)
    assert operations["ConvInteger"] >= len(sizes["conv_dim"])
    assert ran.exit_code == 1, ran.output
    assert "export: the error rate rose by more than 0.5 points, and not by chance" in ran.output
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert [line for line in card.splitlines() if "**too much**" in line and line.startswith("| int8 |")]
    assert [line for line in card.splitlines() if line.startswith("| float32 | 0.00 % | 0.00 % | +0.00 %")]


def test_each_language_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One language goes into the folder that was named, several into folders below it."""
    asked: list[tuple[Any, ...]] = []

    def remembered(*arguments: Any) -> Exported:
        asked.append(arguments)
        return Exported(Path(arguments[2]), "onnx", {})

    monkeypatch.setattr(export, "export_model", remembered)
    for languages in (["eng"], ["eng", "deu"]):
        options = [part for one in languages for part in ("--language", one)]
        assert CliRunner().invoke(app, ["export", "m", "--to", "onnx", "-o", "out", *options]).exit_code == 0
    assert [(one[2], one[4]) for one in asked] == [
        (Path("out"), "eng"),
        (Path("out/eng"), "eng"),
        (Path("out/deu"), "deu"),
    ]


def broken(content: bytes, seed: int) -> bytes:
    """A file of settings with other bytes, or with a value that stands for nothing."""
    generator = random.Random(seed)
    if seed % 2:
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        return bytes(damaged)
    values = json.loads(content)
    name = generator.choice(list(values))
    values[name] = generator.choice([None, -1, 1e300, "x", [], {}, True, 10**12, [1, "a"], "../../etc/passwd"])
    return json.dumps(values).encode()


@pytest.mark.slow
def test_broken_settings_are_taken_or_refused_in_a_sentence(checkpoint: Checkpoint) -> None:
    """Of the files of a checkpoint that is to be exported, whatever is in them; no weights are touched."""
    folder = Path(checkpoint.source)
    kept = {path: path.read_bytes() for path in sorted(folder.glob("*.json"))}
    outcomes = Counter[str]()
    for seed in range(150):
        path = list(kept)[seed // 2 % len(kept)]
        path.write_bytes(broken(kept[path], seed))
        try:
            found = load_checkpoint(str(folder))
            for target in TARGETS.values():
                target.refuse(found)
            outcomes["taken"] += 1
        except (ValueError, OSError) as error:
            assert str(error), path.name
            outcomes["refused"] += 1
        path.write_bytes(kept[path])
    assert min(outcomes["taken"], outcomes["refused"]) > 20


@pytest.mark.slow
def test_an_exported_folder_is_no_checkpoint(tmp_path: Path) -> None:
    """It has the settings of one, and no weights: what asks for a model says that it found none."""
    save_checkpoint(tmp_path / "folder")
    (tmp_path / "folder" / "model.safetensors").rename(tmp_path / "folder" / "model.onnx")
    command = ["export", str(tmp_path / "folder"), "--to", "onnx", "-o", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 1
    assert ran.output.startswith("export: ")
    assert str(tmp_path / "folder") in ran.output and "Traceback" not in ran.output
    assert not (tmp_path / "out").exists()


def test_faults_are_one_line(tmp_path: Path) -> None:
    """Another folder than a model's, a pretrained model with too few words in it, an option that is none."""
    (tmp_path / "empty").mkdir()
    ran = CliRunner().invoke(app, ["export", str(tmp_path / "empty"), "--to", "onnx", "-o", str(tmp_path / "out")])
    assert ran.exit_code == 1
    assert ran.output.startswith("export: ")
    assert "Traceback" not in ran.output
    assert CliRunner().invoke(app, ["export", "small", "--to", "tflite"]).exit_code == 2


@pytest.mark.parametrize(
    ("target", "why"), [("sherpa-onnx", "sherpa-onnx reads no second one"), ("transformers.js", "a browser's memory")]
)
def test_weights_that_need_a_second_file_are_refused_where_there_can_be_none(
    target: str, why: str, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    TARGETS[target].refuse(checkpoint)
    monkeypatch.setattr("wav2vec2.export.targets.ONE_FILE", 1000)
    with pytest.raises(ExportError, match=rf"GB of weights .*{why}.*; the targets onnx and openvino take it"):
        TARGETS[target].refuse(checkpoint)
    TARGETS["onnx"].refuse(checkpoint)
