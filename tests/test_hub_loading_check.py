"""What the check before a push compares: answers of two processes, made up here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wav2vec2.sharing import loading_check
from wav2vec2.sharing.loading_check import LoadingError, ProbeAnswer, check_loading, synthetic_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}')
    return tmp_path


def answer(**changes: Any) -> ProbeAnswer:
    outputs = np.random.default_rng(0).standard_normal((1, 20, 5)).astype(np.float32)
    made: dict[str, Any] = {"inputs": np.ones((1, 400), np.float32), "outputs": outputs}
    made |= {"text": "a", "transcript": "b", "note": ""}
    return ProbeAnswer(**made | changes)


def answers(monkeypatch: pytest.MonkeyPatch, own: ProbeAnswer, stock: ProbeAnswer) -> None:
    monkeypatch.setattr(loading_check, "_probe", lambda kind, *_: {"own": own, "stock": stock}[kind])


def test_equal_answers_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = answer().outputs
    answers(monkeypatch, answer(outputs=outputs + 1e-6 * np.abs(outputs).max()), answer(note="no phonemes"))
    found = check_loading(folder, ["config.json"])
    assert (found.text, found.note, found.architecture) == ("b", "no phonemes", "Wav2Vec2ForCTC")
    assert found.difference == pytest.approx(1e-6, rel=0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.zeros((1, 400), np.float32)}, "prepare the audio differently"),
        ({"inputs": np.ones((1, 401), np.float32)}, "prepare the audio differently"),
        ({"outputs": np.ones((1, 20, 6), np.float32)}, r"\(1, 20, 5\) here, \(1, 20, 6\)"),
        ({"outputs": np.full((1, 20, 5), np.nan, np.float32)}, "not finite"),
        ({"outputs": answer().outputs * 1.001}, "differ from stock Transformers' by 0.00"),
        ({"text": "c"}, "'a' here and 'c'"),
    ],
)
def test_different_answers_do_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    answers(monkeypatch, answer(), answer(**changes))
    with pytest.raises(LoadingError, match=message):
        check_loading(folder, ["config.json"])


@pytest.mark.parametrize(
    "config",
    ["", "{}", '{"model_type": "wav2vec2"}', '{"model_type": "hubert", "architectures": ["Wav2Vec2ForCTC"]}'],
)
def test_a_folder_that_says_nothing_of_its_model(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(LoadingError, match="no complete checkpoint"):
        check_loading(folder, ["config.json"])


def test_the_synthetic_clip_sounds_the_same_every_time() -> None:
    clip = synthetic_clip(2.0)
    assert clip.shape == (32_000,) and clip.dtype == np.float32
    assert 0.05 < np.abs(clip).max() < 1.0 and np.array_equal(clip, synthetic_clip(2.0))
    spectrum = np.abs(np.fft.rfft(clip))
    assert spectrum[:8000].sum() > 3 * spectrum[8000:].sum()  # below 4 kHz, as speech
