"""An exported ONNX file gives what torch gives: every head and norm, any clips and samples, padded or alone."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from damaged_exports import damage
from language_folders import LANGUAGES, write_languages
from numpy.typing import NDArray
from recognition_checkpoints import TOKENS, noise, processor, talkative_model
from small_models import CALM, small_config, waveforms

from wav2vec2 import (
    Transcriber,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
)
from wav2vec2.export import Exported, ExportError, check_export, export_model, onnx_graph
from wav2vec2.export.compared_folder import Comparison
from wav2vec2.export.targets import Precision
from wav2vec2.inference import Transcript

onnx = pytest.importorskip("onnx", reason="onnx, of the extra `export`, is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `export`, is not installed")
pytest.importorskip("onnxscript", reason="onnxscript, of the extra `export`, is not installed")

pytestmark = pytest.mark.slow

Array = NDArray[np.float32]

#: One layer, as the exporter takes its time for each operation. A frame is still 320 samples, and hears 410.
SHALLOW: dict[str, Any] = {
    "num_hidden_layers": 1, "conv_dim": (16, 16, 16), "conv_stride": (10, 8, 4), "conv_kernel": (20, 8, 5),
}  # fmt: skip

#: Samples of one frame, one more, one less than two frames, a second, and what no stride divides.
LENGTHS = (410, 411, 729, 16_000, 24_001)


class Case(NamedTuple):
    """A model, and what was made of it."""

    model: Any
    exported: Exported

    @property
    def graph(self) -> Path:
        """In single precision."""
        return self.exported.folder / "model.onnx"


def run(path: Path, values: torch.Tensor, mask: torch.Tensor) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, {"input_values": values.numpy(), "attention_mask": mask.numpy()})
    return found


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A recogniser with group norm, also in 8 bits."""
    place = tmp_path_factory.mktemp("recogniser")
    return Case(recogniser(place / "model"), export_model(place / "model", "onnx", place / "out", int8=True))


def recogniser(folder: Path, architecture: str = "base", **overrides: Any) -> Wav2Vec2ForCTC:
    if "ctc_head" in overrides:
        torch.manual_seed(0)
        sizes = CALM | SHALLOW | {"vocab_size": len(TOKENS), "pad_token_id": 0}
        model: Wav2Vec2ForCTC = Wav2Vec2ForCTC(small_config(architecture, **(sizes | overrides))).eval()
    else:
        model = talkative_model(architecture, **(SHALLOW | overrides))
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return model


def check_logits(model: Wav2Vec2ForCTC, graph: Path) -> None:
    """Alone, and in a batch that is padded to the longest, against the model alone."""
    values, mask = waveforms(list(LENGTHS))
    (batch,) = run(graph, values, mask)
    with torch.inference_mode():
        together = model(values, attention_mask=mask).logits.numpy()
    assert batch.shape == together.shape
    for row, length in enumerate(LENGTHS):
        with torch.inference_mode():
            alone = model(values[row : row + 1, :length]).logits[0].numpy()
        (single,) = run(graph, values[row : row + 1, :length], mask[row : row + 1, :length])
        np.testing.assert_allclose(single[0], alone, atol=1e-4)
        wanted = alone if model.config.padding_invariant_norm else together[row][: len(alone)]
        np.testing.assert_allclose(batch[row][: len(alone)], wanted, atol=1e-4)


def test_a_recogniser_gives_torchs_logits(case: Case) -> None:
    check_logits(case.model, case.graph)


@pytest.mark.parametrize(
    ("architecture", "overrides"),
    [
        ("large_lv60k", {}),
        ("base", {"ctc_head": "recurrent", "ctc_head_size": 12}),
        ("base", {"padding_invariant_norm": False}),
    ],
    ids=["layer norm", "recurrent head", "group norm as in stock"],
)
def test_other_recognisers_do_too(tmp_path: Path, architecture: str, overrides: dict[str, Any]) -> None:
    """An earlier export in the same place is replaced whole."""
    (tmp_path / "out").mkdir()
    for name in ("export.json", "model.int8.onnx"):
        (tmp_path / "out" / name).write_text("{}", encoding="utf-8")
    model = recogniser(tmp_path / "model", architecture, **overrides)
    folder = export_model(tmp_path / "model", "onnx", tmp_path / "out").folder
    check_logits(model, folder / "model.onnx")
    assert not (folder / "model.int8.onnx").exists()


@pytest.mark.parametrize(
    ("head", "outputs", "overrides"),
    [
        (Wav2Vec2ForPreTraining, ["last_hidden_state", "extract_features"], {}),
        (Wav2Vec2ForSequenceClassification, ["logits"], {"use_weighted_layer_sum": True}),
        (Wav2Vec2ForAudioFrameClassification, ["logits"], {}),
        (Wav2Vec2ForXVector, ["logits", "embeddings"], {}),
    ],
)
def test_every_other_head_gives_torchs_outputs(
    tmp_path: Path, head: Any, outputs: list[str], overrides: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = head(small_config("large_lv60k", **(CALM | SHALLOW | {"num_labels": 3} | overrides))).eval()
    model.save_pretrained(tmp_path / "model")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "model")
    graph = export_model(tmp_path / "model", "onnx", tmp_path / "out").folder / "model.onnx"
    body = model.wav2vec2 if head is Wav2Vec2ForPreTraining else model
    values, mask = waveforms([16_000, 5_000])
    found = dict(zip(outputs, run(graph, values, mask), strict=True))
    for row, length in enumerate([16_000, 5_000]):
        with torch.inference_mode():
            right = body(values[row : row + 1, :length])
        for name in outputs:
            wanted = right[name][0].numpy()
            got = found[name][row][: len(wanted)] if wanted.ndim == 2 else found[name][row]
            np.testing.assert_allclose(got, wanted, atol=1e-4, err_msg=name)


def test_the_file_says_what_it_is_and_nothing_of_this_machine(case: Case) -> None:
    """Axes have names, the positional weight is a constant, no path and no line of source is in it."""
    content = onnx.load(str(case.graph))
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*content.graph.input, *content.graph.output)
    }
    assert axes == {
        "input_values": ["batch", "samples"],
        "attention_mask": ["batch", "samples"],
        "logits": ["batch", "frames", 11],
    }
    shapes = [list(one.dims) for one in content.graph.initializer]
    assert [48, 12, 16] in shapes  # the folded weight: channels, channels of a group, kernel
    assert [1, 1, 16] not in shapes  # its norms
    for path in case.exported.folder.iterdir():
        raw = path.read_bytes()
        for trace in (b"site-packages", b".py", str(Path(__file__).parents[1]).encode(), str(path.parent).encode()):
            assert trace not in raw, path.name


def test_only_linear_layers_are_in_eight_bits(case: Case) -> None:
    """The second file has no convolution in 8 bits; the card tells how far each is from torch."""
    content = onnx.load(str(case.exported.folder / "model.int8.onnx"))
    kinds = {one.name: one.data_type for one in content.graph.initializer}
    convolved = [kinds[node.input[1]] for node in content.graph.node if node.op_type == "Conv"]
    assert len(convolved) > 2
    assert set(convolved) == {onnx.TensorProto.FLOAT}
    assert not any(node.op_type == "ConvInteger" for node in content.graph.node)
    assert sum(node.op_type == "MatMulInteger" for node in content.graph.node) >= 6  # of a layer
    narrow, wide = (case.exported.figures[one] for one in (Precision.int8, Precision.float32))
    assert narrow.bytes < wide.bytes
    assert wide.agreement.largest_difference < 1e-4 < narrow.agreement.largest_difference
    assert wide.agreement.same_texts == wide.agreement.texts == 5
    card = (case.exported.folder / "README.md").read_text("utf-8")
    assert f"{narrow.bytes / 1e6:.1f} MB" in card
    record = json.loads((case.exported.folder / "export.json").read_text("utf-8"))
    assert record["figures"]["int8"]["agreement"]["same_texts"] == narrow.agreement.same_texts


def test_lines_of_the_card_run(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of `README.md` reads a file as the model does."""
    samples = noise(2.0, seed=4)
    folder = case.exported.folder
    soundfile.write(folder / "speech.wav", samples, 16_000, subtype="FLOAT")
    code = (folder / "README.md").read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(folder)
    exec(compile(code, "README.md", "exec"), {})
    said = Transcriber(case.model, processor()).transcribe((samples, 16_000))
    assert isinstance(said, Transcript)
    assert capsys.readouterr().out.strip() == said.text != ""


def test_weights_beyond_one_file_lie_in_a_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both precisions, with the limit lowered; the folder can be moved, and gives the model's logits."""
    monkeypatch.setattr(onnx_graph, "ONE_FILE", 1000)
    model = recogniser(tmp_path / "model")
    exported = export_model(tmp_path / "model", "onnx", tmp_path / "out", int8=True)
    files = [figures.files for figures in exported.figures.values()]
    assert files == [["model.onnx", "model.onnx.data"], ["model.int8.onnx", "model.int8.onnx.data"]]
    folder = exported.folder.rename(tmp_path / "moved")
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert (folder / "model.onnx.data").stat().st_size > 0.8 * weights
    assert (folder / "model.onnx").stat().st_size < 0.8 * weights
    check_logits(model, folder / "model.onnx")
    values, mask = waveforms([16_000])
    (found,), (wide,) = (run(folder / name, values, mask) for name in ("model.int8.onnx", "model.onnx"))
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - wide) < 0.1 * np.linalg.norm(wide)


def test_a_graph_that_is_wrong_does_not_take_the_place_of_a_right_one(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folded weight that is a tenth too large nothing is left, and what was there before is there still."""

    class Wrong(onnx_graph.ConstantWeight):
        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__(weight * 1.1)

    shutil.copytree(case.exported.folder, tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    monkeypatch.setattr(onnx_graph, "ConstantWeight", Wrong)
    with pytest.raises(ExportError, match="not exported"):
        export_model(case.exported.folder.with_name("model"), "onnx", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


def test_damaged_folders_give_values_or_one_clear_error(case: Case, tmp_path: Path) -> None:
    """One line, which begins with the name of a file; what has none gives the model's logits."""
    soundfile.write(tmp_path / "short.wav", noise(0.1), 16_000, subtype="FLOAT")
    comparison = Comparison.of(str(case.exported.folder.with_name("model")), None, [str(tmp_path / "short.wav")], None)
    outcomes = []
    for seed in range(30):
        folder = tmp_path / str(seed)
        shutil.copytree(case.exported.folder, folder, ignore=shutil.ignore_patterns("*int8*", "speech.wav"))
        what = damage(folder, seed)
        faults = comparison.settings("onnx", str(folder))
        if (folder / "model.onnx").is_file():
            found = comparison.figures("onnx", str(folder), "float32", lambda: None)
            faults += [found] if isinstance(found, str) else []
        else:
            faults.append("model.onnx: is missing")
        names = [fault.partition(":")[0] for fault in faults]
        assert names in ([], [what.partition(":")[0]]), (what, faults)
        assert all(len(fault.splitlines()) == 1 for fault in faults), (what, faults)
        outcomes.append(bool(faults))
        if not faults:
            values, mask = waveforms([2_000])
            (got,), (right,) = (run(place / "model.onnx", values, mask) for place in (folder, case.exported.folder))
            np.testing.assert_allclose(got, right, atol=2e-4, err_msg=what)
    assert 15 < sum(outcomes) < 30


def test_a_folder_that_asks_for_all_memory_is_refused_and_its_other_file_checked(case: Case, tmp_path: Path) -> None:
    """By another process, which has no more than so much; the file in 8 bits is as it was when it was exported."""
    shutil.copytree(case.exported.folder, tmp_path / "out")
    path = tmp_path / "out" / "model.onnx"
    model = onnx.load(str(path))
    size = onnx.numpy_helper.from_array(np.array([1 << 33]), "size")
    model.graph.initializer.append(size)
    greedy = onnx.helper.make_node("ConstantOfShape", ["size"], ["logits"])
    for node in model.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    model.graph.node.append(greedy)
    onnx.save(model, str(path))
    checked = check_export(case.exported.folder.with_name("model"), tmp_path / "out")
    (fault,) = checked.faults
    assert fault.startswith("model.onnx: cannot be run (") and fault.endswith("; export the model again")
    before, now = case.exported.figures[Precision.int8], checked.figures[Precision.int8]
    assert (now.files, now.bytes, now.word_errors) == (before.files, before.bytes, None)
    assert now.agreement.same_texts == before.agreement.same_texts
    assert list(checked.figures) == [Precision.int8]


def test_what_cannot_be_asked_for_is_refused_at_once(case: Case, tmp_path: Path) -> None:
    """Folders with something else in them, unknown targets, languages of a model that has one, other models."""
    model = case.exported.folder.with_name("model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ExportError, match="is not empty, and no export"):
        export_model(model, "onnx", tmp_path / "full")
    with pytest.raises(ExportError, match="thesis.txt: is a file: give a folder"):
        export_model(model, "onnx", tmp_path / "full" / "thesis.txt" / "exported")
    with pytest.raises(ExportError, match="must be one of onnx, sherpa-onnx"):
        export_model(model, "tflite", tmp_path / "out")
    with pytest.raises(ExportError, match="is a model of one language"):
        export_model(model, "onnx", tmp_path / "out", language="eng")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": ["WhisperModel"]}', encoding="utf-8")
    with pytest.raises(ExportError, match="is a WhisperModel; what can be exported: Wav2Vec2ForCTC"):
        export_model(tmp_path / "other", "onnx", tmp_path / "out")
    recogniser(tmp_path / "adapter", add_adapter=True)
    with pytest.raises(ValueError, match="their times are not known"):
        export_model(tmp_path / "adapter", "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_each_language_of_a_model_has_a_file_of_its_own(tmp_path: Path) -> None:
    """With that language's adapters, head and vocabulary; without a language none is written."""
    write_languages(tmp_path / "model")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "model")
    with pytest.raises(ExportError, match="has 4 languages, say which language: deu, eng, fra"):
        export_model(tmp_path / "model", "onnx", tmp_path / "out")
    values, mask = waveforms([16_000])
    folder = export_model(tmp_path / "model", "onnx", tmp_path / "out", language="fra").folder
    (found,) = run(folder / "model.onnx", values, mask)
    with torch.inference_mode():
        model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "model", target_lang="fra").eval()
        wanted = model(values).logits.numpy()
    assert found.shape[2] == LANGUAGES["fra"] != LANGUAGES["eng"]  # in which the model was saved
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))
    written = json.loads((folder / "tokens.json").read_text("utf-8"))
    assert len(written) == LANGUAGES["fra"] - 1
    assert "language `fra`" in (folder / "README.md").read_text("utf-8")
