"""silero-vad's model is given what its own package gives it, whatever the packets; the package's answers are ours."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from shared_data import SHARED_DATA, needs_shared_data

from wav2vec2.inference import speech_by_silero
from wav2vec2.inference.speech_by_silero import SileroDetector, silero_file
from wav2vec2.inference.voice_activity import SilenceRules, VoiceActivity

onnx = pytest.importorskip("onnx", reason="onnx, of the extra `export`, is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `export`, is not installed")

RATE = 16_000


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A silero_vad with a model of the same inputs and outputs, which adds up the first and the last sample of all."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["input", "ends"], ["both"], axis=1),
            helper.make_node("ReduceSum", ["both", "second"], ["sums"], keepdims=0),
            helper.make_node("CumSum", ["sums", "zero"], ["run"]),
            helper.make_node("ReduceSum", ["sums"], ["total"], keepdims=0),
            helper.make_node("Add", ["h", "total"], ["hn"]),
            helper.make_node("Identity", ["c"], ["cn"]),
            helper.make_node("ReduceMax", ["h"], ["before"], keepdims=0),
            helper.make_node("Add", ["run", "before"], ["speech_probs"]),
        ],
        "sums",
        [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, ["frames", 576]),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 1, 128]),
            helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 1, 128]),
        ],
        [
            helper.make_tensor_value_info("speech_probs", TensorProto.FLOAT, ["frames"]),
            helper.make_tensor_value_info("hn", TensorProto.FLOAT, [1, 1, 128]),
            helper.make_tensor_value_info("cn", TensorProto.FLOAT, [1, 1, 128]),
        ],
        [
            helper.make_tensor("ends", TensorProto.INT64, [2], [0, 575]),
            helper.make_tensor("second", TensorProto.INT64, [1], [1]),
            helper.make_tensor("zero", TensorProto.INT64, [], [0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data = tmp_path / "silero_vad" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise AssertionError('the package was imported')")
    onnx.save(model, data / "silero_vad_16k_sequence.onnx")
    monkeypatch.syspath_prepend(str(tmp_path))
    return data


def in_packets(detector: SileroDetector, sound: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    generator, found, place = np.random.default_rng(seed), [], 0
    while place < len(sound):
        size = int(generator.integers(1, 3000))
        found.append(detector.push(sound[place : place + size]))
        place += size
    return np.concatenate([*found, detector.finish()])


@pytest.mark.parametrize("length", [0, 1, 512, 5120, 9999])
def test_frames_follow_each_other_with_what_was_before(package: Path, length: int) -> None:
    """The slow way: frames of 512, each after the last 64 of the one before; sums of whole numbers, which are exact."""
    sound = np.random.default_rng(length).integers(-9, 9, length).astype(np.float32)
    padded = np.concatenate([np.zeros(64), sound, np.zeros(-length % 512)])
    expected, total = [], 0.0
    for place in range(0, length, 512):
        total += padded[place] + padded[place + 575]
        expected.append(total)
    for seed in range(3):
        np.testing.assert_array_equal(in_packets(SileroDetector(RATE), sound, seed), expected)
    assert "silero_vad" not in sys.modules


def test_what_is_missing_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="hears 16000 Hz, and the model for speech wants 8000"):
        SileroDetector(8000)
    silero_file().unlink()
    with pytest.raises(ImportError, match="has no silero_vad_16k_sequence.onnx"):
        silero_file()
    monkeypatch.setattr(speech_by_silero, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'wav2vec2\[vad\]'"):
        VoiceActivity(SilenceRules("silero"), RATE)


@needs_shared_data("fsdd")
@pytest.mark.parametrize(("silence", "least", "padding"), [(2.0, 0.25, 0.5), (0.5, 0.1, 0.2), (1.0, 0.5, 0.0)])
def test_sections_are_those_of_the_package(silence: float, least: float, padding: float) -> None:
    """Spoken digits with pauses of up to three seconds, in noise: to the sample, by any packets."""
    silero = pytest.importorskip("silero_vad", reason="silero-vad, of the extra `vad`, is not installed")
    import torch

    generator = np.random.default_rng(3)
    clips = [soundfile.read(path, dtype="float32")[0] for path in sorted((SHARED_DATA / "fsdd").glob("*.flac"))[::80]]
    pauses = [np.zeros(int(generator.integers(0, 3 * RATE)), np.float32) for _ in clips]
    sound = np.concatenate([piece for pair in zip(pauses, clips, strict=True) for piece in pair])
    samples = (sound + 0.001 * generator.standard_normal(len(sound))).astype(np.float32)
    voice = VoiceActivity(SilenceRules("silero", silence, least, padding), RATE)
    found = [section for packet in np.array_split(samples, 77) for section in voice.push(packet)] + voice.finish()
    expected = silero.get_speech_timestamps(
        torch.from_numpy(samples),
        silero.load_silero_vad(onnx=True),
        min_silence_duration_ms=round(silence * 1000),
        min_speech_duration_ms=round(least * 1000),
        speech_pad_ms=round(padding * 1000),
    )
    assert [tuple(section) for section in found] == [(one["start"], one["end"]) for one in expected]
    assert len(found) > 1
