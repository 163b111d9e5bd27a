"""Many recordings are aligned at once, in the model's batches and in one trellis, as each would be alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_checkpoints import RATE, TOKENS, noise, processor, talkative_model, write_noise

from wav2vec2.alignment import aligned_words, forced_alignment
from wav2vec2.alignment.aligned_words import AlignedWord, Utterance, align_utterances, align_words
from wav2vec2.inference import Transcriber
from wav2vec2.inference.aligning import AlignedRecording, align_each, align_recording
from wav2vec2.inference.listener import Launched, Listener

WORDS = ("abc", "a", "de", "fgh", "7", "...", "b4b", "aa", "hgfedcba")


def utterance(generator: np.random.Generator, frames: int) -> Utterance:
    """Random frames and words; some of the words have no letters, some frames are too few for theirs."""
    log_probs = torch.from_numpy(generator.normal(0, 3, (frames, len(TOKENS)))).float().log_softmax(-1)
    words = [str(word) for word in generator.choice(WORDS, generator.integers(0, 9))]
    return Utterance(log_probs, words, frames / 50 if generator.random() < 0.5 else None)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 90), max_size=9), st.sampled_from([1 << 22, 20_000, 1]))
def test_utterances_share_trellises_and_nothing_changes(seed: int, sizes: list[int], cells: int) -> None:
    """Bit for bit, in their order, however many fit into one table."""
    generator = np.random.default_rng(seed)
    utterances = [utterance(generator, frames) for frames in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned_words, "CELLS", cells)
        together = align_utterances(utterances, TOKENS, device=torch.device("cpu"))
    assert together == [align_words(one.log_probs, one.words, TOKENS, duration=one.duration) for one in utterances]


def test_a_table_holds_what_fits_and_a_long_utterance_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def watched(log_probs: Any, *arguments: Any) -> Any:
        shapes.append(tuple(log_probs.shape))
        return forced_alignment.align(log_probs, *arguments)

    monkeypatch.setattr(aligned_words, "align", watched)
    monkeypatch.setattr(aligned_words, "CELLS", 100 * 3 * 11)
    generator = np.random.default_rng(0)
    sizes = (100, 90, 1000, 40, 80, 85)
    letters = [Utterance(utterance(generator, frames).log_probs, ["ab"]) for frames in sizes]
    align_utterances(letters, TOKENS)
    assert shapes == [(3, 85, 11), (2, 100, 11), (1, 1000, 11)]


def transcriber(batch_seconds: float | None = None) -> Transcriber:
    return Transcriber(
        talkative_model(), processor(), window_seconds=10, context_seconds=2, batch_seconds=batch_seconds
    )


def assert_same(found: Sequence[AlignedWord], expected: Sequence[AlignedWord]) -> None:
    """The same frames for every word and letter, confidences but for the rounding of batches."""
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.text, ours.start, ours.end, ours.aligned) == (
            theirs.text,
            theirs.start,
            theirs.end,
            theirs.aligned,
        )
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)
        assert [(part.text, part.start, part.end) for part in ours.parts] == [
            (part.text, part.start, part.end) for part in theirs.parts
        ]


@pytest.mark.slow
@pytest.mark.parametrize("batch_seconds", [None, 10.0])
def test_recordings_together_are_as_each_alone(
    batch_seconds: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short ones, one of several windows, one without a frame, and four that cannot be used, in order."""
    seconds = (2.0, 31.0, 3.3, 0.02, 7.7, 2.0, 5.0)
    audio: list[object] = [(noise(each, n), RATE) for n, each in enumerate(seconds)]
    texts = ["abc de", "fgh " * 20, "a 7 b", "ab", "cab bad", "hg", "..."]
    (tmp_path / "bad.wav").write_text("no audio")
    faulty: list[tuple[object, str]] = [
        (tmp_path / "bad.wav", "abc"),
        (write_noise(tmp_path / "good.wav", 2.0), "  "),
        (None, "abc"),
        ((np.full(9000, np.nan), RATE), "abc"),
    ]
    pairs = [pair for pair in zip(audio, texts, strict=True)]
    mixed = [faulty[0], *pairs[:3], faulty[1], *pairs[3:5], faulty[2], *pairs[5:], faulty[3]]
    sizes: list[int] = []
    launch = Listener.launch

    def counted(listener: Listener, windows: list[Any]) -> Launched:
        sizes.append(len(windows))
        return launch(listener, windows)

    monkeypatch.setattr(Listener, "launch", counted)
    advanced: list[float] = []
    found = list(align_each(transcriber(batch_seconds), iter(mixed), advanced.append))
    assert max(sizes) > 1
    assert sum(advanced) == pytest.approx(sum(seconds), abs=0.03 * len(seconds))
    for pair, one in zip(mixed, found, strict=True):
        sound, text = pair
        if any(pair is bad for bad in faulty):
            assert one.words == [] and one.error is not None
            with pytest.raises(type(one.error)) as alone:
                align_recording(transcriber(), sound, text)
            assert str(alone.value) == str(one.error)
        else:
            words, duration = align_recording(transcriber(), sound, text)
            assert (one.error, one.duration) == (None, duration)
            assert [word.text for word in words] == text.split()
            assert_same(one.words, words)


def test_a_fault_in_one_trellis_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model makes of one recording is no probability: the others, in the same batch, have their words."""
    launch = Listener.launch

    def broken(listener: Listener, windows: list[Any]) -> Launched:
        launched = launch(listener, windows)
        for row, window in zip(launched.log_probs, windows, strict=True):
            if len(window.samples) == 2 * RATE:
                with torch.inference_mode():
                    row.fill_(torch.nan)
        return launched

    pairs: list[tuple[object, str]] = [((noise(each, 3), RATE), "abc de") for each in (1.5, 2.0, 2.5)]
    expected = list(align_each(transcriber(), pairs))
    monkeypatch.setattr(Listener, "launch", broken)
    first, second, third = align_each(transcriber(), pairs)
    assert (first, third) == (expected[0], expected[2])
    assert second == AlignedRecording(error=second.error)
    assert isinstance(second.error, ValueError) and "log_probs: nan in frame 0" in str(second.error)


def test_recordings_are_taken_and_given_as_they_are_done() -> None:
    """Of an endless list only so many are asked for as are read ahead, and the first are there at once."""
    asked: list[int] = []

    def endless() -> Any:
        while True:
            asked.append(len(asked))
            yield (noise(1.0, len(asked)), RATE), "abc"

    small = transcriber(batch_seconds=10)
    found = align_each(small, endless())
    for _ in range(3):
        assert len(next(found).words) == 1
    assert len(asked) < 100
    found.close()  # type: ignore[attr-defined]
