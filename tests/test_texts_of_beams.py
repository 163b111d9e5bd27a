"""Texts with times are made for a whole batch at once; each is what plain loops over its own tokens and frames give."""

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wav2vec2.alignment.forced_alignment import Span, silence_as_blank
from wav2vec2.alignment.frame_times import FrameTimes, TimeBias, in_order
from wav2vec2.decoding.confidences import Calibration, features
from wav2vec2.decoding.spelling import Speller, Spelling
from wav2vec2.decoding.transcripts import measure, words_of_beams

SPELLERS = {delimiter: Speller(["<pad>", "|", "a", "b", "c"], 0, delimiter) for delimiter in ("|", None)}


def words_by_a_loop(added: Sequence[int], speller: Speller) -> list[tuple[Spelling, int, int]]:
    words: list[tuple[Spelling, int, int]] = []
    spelling: list[int] = []
    start = last = 0
    for frame, token in enumerate(added):
        if token >= len(speller.vocabulary):
            continue
        if spelling and (token == speller.delimiter or speller.delimiter is None):
            words.append((tuple(spelling), start, last))
            spelling = []
        if token != speller.delimiter:
            start, last = (start if spelling else frame), frame
            spelling.append(token)
    return [*words, (tuple(spelling), start, last)] if spelling else words


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.integers(0, 12), st.sampled_from(["|", None]))
def test_words_of_beams(seed: int, batch: int, beam: int, frames: int, delimiter: str | None) -> None:
    """5 stands where a frame has added nothing."""
    tokens = torch.from_numpy(np.random.default_rng(seed).integers(1, 6, (batch, beam, frames))).int()
    found = words_of_beams(tokens, SPELLERS[delimiter])
    assert found == [[words_by_a_loop(row, SPELLERS[delimiter]) for row in of_beam] for of_beam in tokens.tolist()]


def measured_alone(
    log_probs: Tensor, text: Sequence[Spelling], spans: Sequence[Span], speller: Speller, agreement: Sequence[float]
) -> list[tuple[float, ...]]:
    quiet = silence_as_blank(log_probs, speller.blank, speller.delimiter, torch.maximum)
    state = torch.full((len(quiet),), speller.blank)
    for span in spans:
        state[span.start : span.end] = span.token
    of_path = quiet.gather(1, state[:, None])[:, 0].clamp(min=-50.0)
    lag = torch.nn.functional.pad((quiet.amax(1) - of_path).cumsum(0), (1, 0)).tolist()
    summed = torch.nn.functional.pad(of_path.cumsum(0), (1, 0)).tolist()
    measured, place = [], 0
    for spelling, agreed in zip(text, agreement, strict=True):
        of_word = spans[place : place + len(spelling)]
        means = [(summed[span.end] - summed[span.start]) / (span.end - span.start) for span in of_word]
        measured.append(features(means, lag[of_word[-1].end] - lag[of_word[0].start], agreed))
        place += len(spelling)
    return measured


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 1), max_size=4), st.sampled_from(["|", None]))
def test_features_and_confidences_of_words(seed: int, of: list[int], delimiter: str | None) -> None:
    """Bit for bit, several texts of one utterance or none, texts without words among them."""
    generator, speller = np.random.default_rng(seed), SPELLERS[delimiter]
    log_probs = torch.from_numpy(generator.normal(0, 4, (2, 40, 5))).float().log_softmax(-1)
    texts: list[list[Spelling]] = []
    spans: list[list[Span]] = []
    for _ in of:
        letters = [tuple(generator.integers(2, 5, size).tolist()) for size in generator.integers(1, 4, 4)]
        texts.append(letters[: int(generator.integers(0, 5))])
        tokens = [token for spelling in texts[-1] for token in spelling]
        edges = np.sort(generator.choice(41, 2 * len(tokens), replace=False)).tolist()
        spans.append([Span(token, edges[2 * n], edges[2 * n + 1], 0.5) for n, token in enumerate(tokens)])
    agreement = [generator.random(len(text)).tolist() for text in texts]
    found = measure(log_probs, of, texts, spans, speller, agreement)
    rows = zip(of, texts, spans, agreement, strict=True)
    assert found == [measured_alone(log_probs[n], text, places, speller, agreed) for n, text, places, agreed in rows]
    for words in found:
        calibration = Calibration(*generator.normal(size=5).tolist())
        assert calibration.confidences(words) == [calibration.confidence(word) for word in words]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=8), st.floats(0.0, 1.3), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_intervals_of_many_frames(frames: list[int], duration: float, start: float, end: float) -> None:
    """Those of each, with overlaps cut where a bias has made some."""
    times = FrameTimes(bias=TimeBias(start, end))
    cuts = sorted(frames)
    starts, ends = cuts[:-1], cuts[1:]
    expected = in_order([times.interval(*one, duration) for one in zip(starts, ends, strict=True)])
    assert times.intervals(starts, ends, duration) == expected
