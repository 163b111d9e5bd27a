"""Endpoints of streams, and streams of an hour: what a second costs, in time and memory, does not grow."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import warm_processes
from recognition_checkpoints import RATE, TOKENS, noise, processor, talkative_model
from streamed_hour import SHALLOW
from torch import Tensor

from wav2vec2 import EndpointRules, StreamingRecogniser
from wav2vec2.decoding.spelling import Speller
from wav2vec2.inference.streaming.endpoints import EndpointDetector
from wav2vec2.inference.streaming.spoken_tokens import SpokenTokens
from wav2vec2.inference.windows_and_segments import LONGEST

SPEAKER = SpokenTokens(Speller(TOKENS, 0, "|"))


def said(tokens: str, certain: float = 0.9) -> Tensor:
    """Log-probabilities of frames whose best tokens these are; a dot is the blank."""
    numbers = [TOKENS.index("<pad>" if token == "." else token) for token in tokens]
    rows = torch.full((len(numbers), len(TOKENS)), (1 - certain) / (len(TOKENS) - 1))
    rows[range(len(numbers)), numbers] = certain
    return rows.log()


def ends(rules: EndpointRules, tokens: str, loud: str | None = None) -> list[int]:
    """Where utterances end in frames of 0.1 s, which are as loud as a mark says: `-` silent, `+` not."""
    levels = np.array([-20.0 if mark == "+" else -90.0 for mark in loud or "+" * len(tokens)], np.float32)
    return list(EndpointDetector(rules, 0.1, SPEAKER).ends(said(tokens), levels))


def test_silence_after_text_ends_an_utterance_once() -> None:
    rules = EndpointRules(silence_after_text=0.3, longest=None)
    assert ends(rules, ".....ab.a|.......c...") == [12, 21]
    assert ends(rules, "..a..b..c..") == []


def test_silence_without_text_ends_one_only_where_that_is_asked_for() -> None:
    assert ends(EndpointRules(silence_after_text=0.3), "..........") == []
    assert ends(EndpointRules(silence_after_text=0.3, silence_without_text=0.4), "........a...") == [4, 8, 12]


def test_the_level_shows_silence_where_the_model_does_not() -> None:
    rules = EndpointRules(silence_after_text=0.3, longest=None)
    assert ends(rules, "aaaaaaaaaa", "+++++---++") == [8]
    assert ends(rules, "aaaaaaaaaa", "----------") == []  # what a model sees in silence is no text
    assert ends(EndpointRules(0.3, longest=None, quiet=-100.0), "aaaaaaaaaa", "+++++---++") == []


def test_a_long_utterance_ends_between_words_or_at_its_limit() -> None:
    rules = EndpointRules(silence_after_text=None, longest=1.0)
    assert ends(rules, ".abcabca|bcabcab") == [9]
    assert ends(rules, ".abcabcabcabcab") == [11]


def test_endpoints_are_detected_wherever_blocks_are_cut() -> None:
    rules = EndpointRules(silence_after_text=0.3)
    tokens = "..ab..|...c.|......ab...."
    detector, found, place = EndpointDetector(rules, 0.1, SPEAKER), [], 0
    for size in (1, 6, 2, 9, 7):
        rows = said(tokens[place : place + size])
        found += [place + end for end in detector.ends(rows, np.zeros(len(rows), np.float32))]
        place += size
    assert found == ends(rules, tokens)
    assert len(found) == 3


def test_a_stream_ends_utterances_where_it_is_silent() -> None:
    """The times are those of the silence in the stream, and every word lies in its utterance."""
    live = StreamingRecogniser(
        talkative_model("base"),
        processor(),
        latency=0.5,
        endpoint=EndpointRules(silence_after_text=0.4, blank_share=1.0),
    )
    recording = np.concatenate([noise(2.0, seed=6), np.zeros(RATE, np.float32)] * 2)
    stream = live.open()
    updates = [stream.feed(recording[place : place + 1000]) for place in range(0, len(recording), 1000)]
    found = [end for update in (*updates, stream.finish()) for end in update.ends]
    assert [round(end, 1) for end in found] == [2.4, 5.4]
    for update in updates:
        assert update.endpoint == bool(update.ends)
        assert all(2.4 < update.seconds <= 2.4 + 0.6 or update.seconds > 5.4 for _ in update.ends)


def test_a_word_that_never_ends_is_handed_out_after_a_minute() -> None:
    """Without rules for endpoints, and of a model without pauses, what waits would grow for ever."""
    model = talkative_model("large_lv60k", **SHALLOW)
    with torch.no_grad():
        model.lm_head.bias[TOKENS.index("|")] = -1e4
    stream = StreamingRecogniser(model, processor(), latency=11.52, left_context=2.0, endpoint=None).open()
    words = list(stream.feed(np.tile(noise(10.0), 13)).final)
    assert stream.state.text.waiting <= LONGEST
    assert [round(word.end, -1) for word in (*words, *stream.finish().final)] == [60.0, 130.0]


@pytest.mark.slow
def test_an_hour_costs_a_constant_a_second(tmp_path: Path) -> None:
    """Memory grows by less than 5 MB from the second minute of an hour to its last, and the minutes after it take no
    longer than the second to sixth of a fresh stream."""
    report = tmp_path / "report.json"
    warm_processes.server("streamed_hour").run(1, tmp_path / "stderr", "streamed_hour:measure", report)
    found = json.loads(report.read_text())
    assert found["words"] > 60 and len(found["memory"]) == 60
    assert found["memory"][-1] - found["memory"][1] < 5e6
    assert len(found["old"]) == len(found["fresh"]) == 6
    assert sorted(found["old"][1:])[2] <= 1.3 * sorted(found["fresh"][1:])[2]
