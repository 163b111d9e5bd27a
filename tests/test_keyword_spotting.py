"""Hits depend on the audio alone: not on packets, batches, or on hearing it live; thresholds keep what they promise."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recognition_checkpoints import RATE, noise, processor, talkative_model, write_noise

from wav2vec2 import KeywordSpotter, LiveSpotter, Transcriber
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.spotting.calibrating import calibrate
from wav2vec2.spotting.keyword_spotter import Hit
from wav2vec2.spotting.keywords import keywords_for
from wav2vec2.spotting.thresholds import LEAST, KeptScores, chosen_threshold, poisson_limit, read_thresholds

KEYWORDS = ["ab", "ha ge"]


def spotter(thresholds: float = 0.2, **windows: Any) -> KeywordSpotter:
    transcriber = Transcriber(talkative_model(), processor(), **windows)
    found = keywords_for(transcriber.processor.tokenizer, KEYWORDS)
    return KeywordSpotter(transcriber, found, [thresholds] * len(found))


@pytest.fixture(scope="module")
def patient() -> KeywordSpotter:
    return spotter()


def packets(samples: Any, size: int) -> Iterator[Any]:
    yield from (samples[begin : begin + size] for begin in range(0, len(samples), size))


def live_hits(live: LiveSpotter, samples: Any, size: int) -> list[Hit]:
    stream = live.open()
    return [hit for packet in packets(samples, size) for hit in stream.feed(packet)] + stream.finish()


def test_packets_do_not_change_hits(patient: KeywordSpotter) -> None:
    live, sound = LiveSpotter(patient, latency=0.48), noise(6.0)
    whole = live_hits(live, sound, len(sound))
    assert len(whole) > 3 and {hit.keyword for hit in whole} <= {"ab", "ha ge"}
    for size in (640, 1777, 16000):
        assert live_hits(live, sound, size) == whole
    recording = AudioInput("noise", sound, RATE)
    found = list(live.spot_each([recording]))
    assert [hit for one in found for hit in one.hits] == whole and found[-1].complete


def test_streams_in_one_batch_are_streams_alone(patient: KeywordSpotter) -> None:
    live, sounds = LiveSpotter(patient, latency=0.48), [noise(4.0, seed) for seed in (1, 2, 3)]
    streams = [live.open() for _ in sounds]
    hits: list[list[Hit]] = [[] for _ in sounds]
    for part in range(4):
        for stream, sound in zip(streams, sounds, strict=True):
            stream.push(sound[part * RATE : (part + 1) * RATE])
        while advanced := live.step():
            for stream, found in advanced:
                hits[streams.index(stream)] += found
    for stream, sound, found in zip(streams, sounds, hits, strict=True):
        _same(found + stream.finish(), live_hits(live, sound, 3200))


def test_live_is_offline_where_all_was_heard(patient: KeywordSpotter) -> None:
    sound = noise(5.0)
    offline = patient.spot(sound, RATE)
    live = LiveSpotter(patient, latency=6.0, left_context=None)
    assert len(offline) > 3
    _same(live_hits(live, sound, 1600), offline)


def test_a_hit_is_told_within_the_latency(patient: KeywordSpotter) -> None:
    live, sound = LiveSpotter(patient, latency=0.48), noise(6.0)
    stream, heard, late = live.open(), 0, []
    for packet in packets(sound, 160):
        heard += len(packet)
        late += [heard / RATE - hit.end for hit in stream.feed(packet)]
    assert len(late) > 3 and max(late) <= 0.48 + 0.3 + 0.025  # a frame hears 25 ms


def test_long_files_and_batches(tmp_path: Path) -> None:
    """Files come in their order, each with the hits that it has alone; one that cannot be read stops no other."""
    long, short, broken = (
        write_noise(tmp_path / "long.wav", 9.0),
        write_noise(tmp_path / "short.wav", 2.0, 3),
        tmp_path / "x.wav",
    )
    broken.write_bytes(b"RIFF no audio")
    small = spotter(window_seconds=3.0, context_seconds=0.5, batch_seconds=6.0)
    each = list(small.spot_each([AudioInput(str(path), path) for path in (long, broken, short)]))
    assert list(dict.fromkeys(one.name for one in each)) == [str(long), str(broken), str(short)]
    assert [one.error is not None for one in each if one.complete] == [False, True, False]
    for path in (long, short):
        _same([hit for one in each if one.name == str(path) for hit in one.hits], small.spot(path))
    with pytest.raises(ValueError, match=r"x\.wav"):
        small.spot(broken)


def _same(found: list[Hit], wanted: list[Hit]) -> None:
    assert [(hit.keyword, hit.start, hit.end) for hit in found] == [(hit.keyword, hit.start, hit.end) for hit in wanted]
    np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in wanted], atol=1e-4)


def kept(scores: Any) -> KeptScores:
    one = KeptScores("background")
    rows = np.asarray(scores)
    one.add(rows, np.arange(len(rows)))
    return one


@pytest.mark.parametrize("allowed", [0, 1, 3, 20])
def test_the_threshold_is_the_lowest_with_so_few_hits(allowed: int) -> None:
    scores = [kept(np.random.default_rng(seed).beta(1, 6, 500)) for seed in range(2)]

    def count(threshold: float) -> int:
        return sum(len(one.hits(threshold, patience=4)) for one in scores)

    threshold = chosen_threshold(scores, allowed, patience=4)
    levels = np.unique(np.concatenate([one.scores() for one in scores]))
    assert threshold is not None and count(threshold) <= allowed
    assert count(levels[levels < threshold].max()) > allowed


def test_thresholds_where_nothing_or_everything_is_heard() -> None:
    assert chosen_threshold([kept(np.zeros(50))], 0, 4) == LEAST
    assert chosen_threshold([kept([0.0, 1.0, 0.0])], 1, 4) == LEAST
    assert chosen_threshold([kept([0.0, 1.0, 0.0])], 0, 4) is None


def test_limits_are_the_published_ones() -> None:
    """One-sided 95 % limits of a Poisson rate: half the 0.95 quantile of chi-square with 2 n + 2 degrees of freedom."""
    quantiles = {0: 5.991, 1: 9.488, 4: 18.307, 9: 31.410, 14: 43.773}
    for count, quantile in quantiles.items():
        assert poisson_limit(count) == pytest.approx(quantile / 2, abs=5e-4)


def test_calibrated_on_audio_it_keeps_its_promise_there(patient: KeywordSpotter, tmp_path: Path) -> None:
    sound = AudioInput("noise", noise(12.0), RATE)
    patient = KeywordSpotter(patient.transcriber, keywords_for(patient.transcriber.processor.tokenizer, ["badge"]))
    found = calibrate(patient, [sound], "noise", false_alarms_per_hour=2 * 300)
    (one,) = found.thresholds.thresholds
    assert (one.keyword, one.tokens, one.false_alarms) == ("badge", [*"badge"], 2)
    again = KeywordSpotter(patient.transcriber, patient.keywords, [one.threshold])
    assert len(again.spot(noise(12.0), RATE)) == 2
    assert one.doubt() is None and "2 false alarms in 0.00 h of noise: below 1.9e+03 an hour" in one.in_words()
    few = calibrate(patient, [sound], "noise", false_alarms_per_hour=1).thresholds.thresholds[0]
    assert few.false_alarms == 0 and "say nothing of 1 false alarms an hour: give at least 1 h" in str(few.doubt())
    found.thresholds.save(tmp_path / "thresholds.json")
    sha256 = found.thresholds.model_sha256
    assert read_thresholds(tmp_path / "thresholds.json", sha256) == found.thresholds
    with pytest.raises(ValueError, match=r"thresholds\.json: the thresholds are of another model"):
        read_thresholds(tmp_path / "thresholds.json", "0" * 64)
    assert found.thresholds.with_others([few]).of([*"badge"]) == few


def test_what_the_model_cannot_say_is_named(patient: KeywordSpotter) -> None:
    tokenizer = patient.transcriber.processor.tokenizer
    assert keywords_for(tokenizer, ["Bad", "HA ge"])[0].tokens == tuple(tokenizer.convert_tokens_to_ids([*"bad"]))
    with pytest.raises(ValueError, match=r"keyword 'xylo': the model has no letters for xylo"):
        keywords_for(tokenizer, ["xylo"])
    with pytest.raises(ValueError, match=r"keyword '\?': .*nothing in it that is said"):
        keywords_for(tokenizer, ["?"])
    with pytest.raises(ValueError, match=r"keyword 'AB': the model says it as it says 'a b'"):
        keywords_for(tokenizer, ["a b", "AB"])
    with pytest.raises(ValueError, match=r"keyword 'æ': the tokens of this model are letters"):
        keywords_for(tokenizer, phones=["æ"])
    with pytest.raises(ValueError, match="no keyword"):
        keywords_for(tokenizer)
    with pytest.raises(ValueError, match="threshold=1.5"):
        spotter(1.5)
