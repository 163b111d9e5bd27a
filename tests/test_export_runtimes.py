"""Exported recognisers in sherpa-onnx, OpenVINO and transformers.js: their texts are the model's."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recognition_checkpoints import TOKENS, noise, talkative_model

from wav2vec2 import (
    Transcriber,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2PhonemeCTCTokenizer,
    Wav2Vec2Processor,
)
from wav2vec2.export import ExportError, export_model
from wav2vec2.export.checkpoint import load_checkpoint
from wav2vec2.export.for_sherpa_onnx import SherpaRuntime, as_trained
from wav2vec2.export.node_runtime import installed_for_node

for module in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(module, reason=f"{module}, of the extra `export`, is not installed")

pytestmark = pytest.mark.slow

SHALLOW: dict[str, Any] = {
    "num_hidden_layers": 2, "conv_dim": (16, 16, 16), "conv_stride": (10, 8, 4), "conv_kernel": (20, 8, 5),
}  # fmt: skip

Array = NDArray[np.float32]


def swapped(folder: Path, kind: str = "characters", **of_extractor: Any) -> Transcriber:
    """A recogniser whose blank is the last of its tokens, as tutorials of Transformers make them."""
    model = talkative_model("large_lv60k", **SHALLOW)
    order = [*range(1, len(TOKENS)), 0]
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight[order])
        model.lm_head.bias.copy_(model.lm_head.bias[order])
        model.lm_head.bias[0] += 12.0  # the unknown token is often the best, and is in no text
    model.config.pad_token_id = len(TOKENS) - 1
    model.save_pretrained(folder)
    vocabulary = {token: number for number, token in enumerate(["[UNK]", *TOKENS[2:], "[PAD]"])}
    options: dict[str, Any] = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": None, "eos_token": None}
    if kind == "phonemes":
        tokenizer: Any = Wav2Vec2PhonemeCTCTokenizer(vocabulary, do_phonemize=False, **options)
    else:
        tokenizer = Wav2Vec2CTCTokenizer(vocabulary, **options)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(**of_extractor), tokenizer).save_pretrained(folder)
    return Transcriber.from_pretrained(folder, device="cpu")


def said(transcriber: Transcriber, clips: list[Array]) -> list[str]:
    found = transcriber.transcribe([(clip, 16_000) for clip in clips])
    assert isinstance(found, list)
    return [one.text for one in found]


@pytest.mark.parametrize("kind", ["characters", "phonemes"])
def test_sherpa_onnx_writes_what_torch_writes(tmp_path: Path, kind: str) -> None:
    """A blank that is not the first token, unknown tokens, recordings a thousand times too quiet, several lengths."""
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx, of the extra `sherpa-onnx`, is not installed")
    transcriber = swapped(tmp_path / "model", kind)
    folder = export_model(tmp_path / "model", "sherpa-onnx", tmp_path / "out", int8=kind == "characters").folder
    clips = [noise(seconds, seed) for seed, seconds in enumerate((0.6, 1.3, 3.0))]
    clips += [clip * np.float32(1e-3) for clip in clips]
    runtime = SherpaRuntime(folder / "model.onnx", folder / "tokens.txt", 16_000)
    texts = said(transcriber, clips)
    assert [" ".join(text.split()) for text in runtime.texts(clips)] == texts
    assert all(texts)
    lines = (folder / "tokens.txt").read_text("utf-8").splitlines()
    assert lines[:2] == ["[PAD] 0", "▁ 1" if kind == "characters" else "▁| 1"]
    assert len(lines) == len(TOKENS) - 1


def test_sherpa_onnx_gives_samples_as_they_were_trained() -> None:
    """Whatever their loudness, of what was normalised with 1e-5 the graph makes what is normalised with 1e-7."""
    for scale in (1.0, 1e-2, 1e-3, 1e-4):
        clip = noise(1.0) * np.float32(scale)
        clip = (clip - clip.mean()).astype(np.float64)
        given = torch.from_numpy((clip / np.sqrt(clip.var() + 1e-5)).astype(np.float32))[None]
        wanted = clip / np.sqrt(clip.var() + 1e-7)
        np.testing.assert_allclose(as_trained(given)[0].numpy(), wanted, atol=1e-4)
    assert torch.equal(as_trained(torch.zeros(1, 9)), torch.zeros(1, 9))


def test_sherpa_onnx_is_not_given_what_it_cannot_hold(tmp_path: Path) -> None:
    swapped(tmp_path / "loud", do_normalize=False)
    with pytest.raises(ExportError, match="do_normalize=False, but sherpa-onnx gives every clip zero mean"):
        export_model(tmp_path / "loud", "sherpa-onnx", tmp_path / "out")
    model = Wav2Vec2ForSequenceClassification(talkative_model(**SHALLOW).config)
    model.save_pretrained(tmp_path / "labels")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "labels")
    for target in ("sherpa-onnx", "transformers.js"):
        with pytest.raises(ExportError, match="recognises speech; a model for one label for each clip goes to onnx"):
            export_model(tmp_path / "labels", target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_openvino_gives_torchs_logits_and_texts(tmp_path: Path) -> None:
    """In single precision, also where the processor would rather have bfloat16; without normalised samples too."""
    pytest.importorskip("openvino", reason="openvino, of the extra `openvino`, is not installed")
    swapped(tmp_path / "model", do_normalize=False)
    exported = export_model(tmp_path / "model", "openvino", tmp_path / "out", int8=True)
    for figures in exported.figures.values():
        assert figures.agreement.texts == 5
        assert figures.agreement.clips == 10
    wide, narrow = exported.figures.values()
    assert wide.agreement.largest_difference < 1e-4 < narrow.agreement.largest_difference
    assert wide.agreement.same_texts == 5
    names = {path.name for path in exported.folder.iterdir()}
    assert {"model.xml", "model.bin", "model.int8.xml", "model.int8.bin", "tokens.json"} <= names
    traces = (b"site-packages", str(tmp_path).encode(), b".onnx")
    for path in exported.folder.glob("model*"):
        assert not any(trace in path.read_bytes() for trace in traces), path.name


@pytest.mark.parametrize("kind", ["characters", "phonemes"])
def test_the_folder_for_transformers_js_spells_as_the_model_does(tmp_path: Path, kind: str) -> None:
    """`tokenizer.json` read as its decoder reads: repeats folded by their text, no blanks, spaces for delimiters."""
    transcriber = swapped(tmp_path / "model", kind)
    folder = export_model(tmp_path / "model", "transformers.js", tmp_path / "out").folder
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    decoder, table = content["decoder"], content["model"]["vocab"]
    assert (decoder["type"], decoder["cleanup"], content["added_tokens"]) == ("CTC", True, [])
    tokens = {number: token for token, number in table.items()}
    assert sorted(tokens) == list(range(len(TOKENS)))

    def spelled(logits: Array) -> str:
        path = [tokens[int(token)] for token in logits.argmax(-1)]
        folded = [token for before, token in zip([None, *path], path, strict=False) if token != before]
        text = "".join(token for token in folded if token != decoder["pad_token"])
        return " ".join(text.replace(decoder["word_delimiter_token"], " ").split())

    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    checkpoint = load_checkpoint(str(tmp_path / "model"))
    clips = [noise(seconds, seed) for seed, seconds in enumerate((0.6, 1.3, 3.0))]
    found = []
    for clip in clips:
        values = checkpoint.values(clip)[None]
        inputs = {"input_values": values, "attention_mask": np.ones(values.shape, np.int64)}
        found.append(spelled(session.run(None, inputs)[0][0]))
    assert found == said(transcriber, clips)
    assert all(found)
    assert "target_lang" not in json.loads((folder / "tokenizer_config.json").read_text("utf-8"))


def test_transformers_js_writes_what_torch_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Node, if WAV2VEC2_NODE names a folder in which transformers.js is installed."""
    import os

    place = os.environ.get("WAV2VEC2_NODE")
    if place is None:
        pytest.skip("WAV2VEC2_NODE names no folder with node_modules/@huggingface/transformers")
    transcriber = swapped(tmp_path / "model")
    monkeypatch.chdir(place)
    found = installed_for_node()
    assert isinstance(found, tuple), found
    exported = export_model(tmp_path / "model", "transformers.js", tmp_path / "out", int8=True)
    for figures in exported.figures.values():
        assert figures.agreement.runtime.startswith("transformers.js ")
    assert (exported.folder / "onnx" / "model_quantized.onnx").is_file()
    assert transcriber is not None


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that could not be tried in Node says so; a Python package that is missing is asked for by its extra."""
    swapped(tmp_path / "model")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    folder = export_model(tmp_path / "model", "transformers.js", tmp_path / "out").folder
    assert "transformers.js itself was not run: there is no `node` here" in (folder / "README.md").read_text("utf-8")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ImportError, match=r"openvino is needed: pip install 'wav2vec2\[openvino\]'"):
        export_model(tmp_path / "model", "openvino", tmp_path / "other")
    assert not (tmp_path / "other").exists()
