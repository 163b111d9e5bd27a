"""`StreamingRecogniser`: packets and neighbours leave no trace, what is final stays, nothing final knows the future."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_checkpoints import RATE, TOKENS, noise, processor, talkative_model
from small_models import small_config
from transformers import Wav2Vec2ForCTC as StockForCTC

from wav2vec2 import EndpointRules, StreamingRecogniser, StreamUpdate, Transcriber, Transcript, Wav2Vec2ForCTC
from wav2vec2.decoding.transcripts import Word
from wav2vec2.processing.processor import Wav2Vec2Processor

ARCHITECTURES = ("large_lv60k", "base", "layer_norm_post_norm")

#: Models that were tuned in chunks, whose streams keep keys and values.
TUNED = ("tuned large_lv60k", "tuned base")


@cache
def model(architecture: str = "large_lv60k") -> Any:
    if architecture in TUNED:
        return talkative_model(architecture.removeprefix("tuned "), tuned_in_chunks=True, attention_sinks=2)
    return talkative_model(architecture)


def recogniser(architecture: str = "large_lv60k", **options: Any) -> StreamingRecogniser:
    return StreamingRecogniser(
        model(architecture), processor(), **({"latency": 0.96, "left_context": 2.0, "endpoint": None} | options)
    )


def unnormalised() -> Wav2Vec2Processor:
    found = processor()
    found.feature_extractor.do_normalize = False
    return found


def packets(samples: Any, sizes: Sequence[int]) -> Iterator[Any]:
    """The samples cut into packets of these sizes, over and over."""
    place = number = 0
    while place < len(samples):
        size = sizes[number % len(sizes)]
        yield samples[place : place + size]
        place, number = place + size, number + 1


def updates_of(by: StreamingRecogniser, samples: Any, sizes: Sequence[int] = (3200,)) -> list[StreamUpdate]:
    stream = by.open()
    return [*(stream.feed(packet) for packet in packets(samples, sizes)), stream.finish()]


def words_of(updates: Sequence[StreamUpdate]) -> list[Word]:
    return [word for update in updates for word in update.final]


def offline(samples: Any, architecture: str = "large_lv60k", by: Wav2Vec2Processor | None = None) -> Transcript:
    found = Transcriber(model(architecture), by or processor()).transcribe((samples, RATE))
    assert isinstance(found, Transcript)
    return found


def assert_same_words(found: Sequence[Word], expected: Sequence[Word]) -> None:
    """The same texts and times; confidences within what batches round."""
    assert [word.text for word in found] == [word.text for word in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=1e-9)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalise", [True, False])
def test_with_latency_as_long_as_the_clip_it_is_the_offline_transcriber(architecture: str, normalise: bool) -> None:
    """Also where the model wants normalised samples or has a group norm: the moments are then those of the clip."""
    samples, by = (noise(7.3), processor()) if normalise else (15 * noise(7.3), unnormalised())
    live = StreamingRecogniser(model(architecture), by, latency=10.0, left_context=None, endpoint=None)
    expected = offline(samples, architecture, by)
    assert len(expected.words) > 10
    found = updates_of(live, samples)
    assert_same_words(words_of(found), expected.words)
    assert found[-1].seconds == expected.duration


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *TUNED])
def test_packets_leave_no_trace(architecture: str) -> None:
    samples, live = noise(5.1, seed=4), recogniser(architecture)
    expected = words_of(updates_of(live, samples, (len(samples),)))
    assert len(expected) > 5
    generator = np.random.default_rng(0)
    for sizes in ((320,), (16000,), (7, 0, 3333, 1), tuple(generator.integers(0, 9000, 40).tolist())):
        assert words_of(updates_of(live, samples, sizes)) == expected


@pytest.mark.parametrize("architecture", ["large_lv60k", TUNED[0]])
def test_packets_of_one_sample_leave_no_trace(architecture: str) -> None:
    samples, live = noise(1.6, seed=5), recogniser(architecture, latency=0.48)
    expected = words_of(updates_of(live, samples, (len(samples),)))
    assert expected
    assert words_of(updates_of(live, samples, (1,))) == expected


def test_integers_are_what_they_are_as_floats() -> None:
    samples = np.round(noise(3.0) * 2**15).astype(np.int16)
    live = recogniser()
    assert words_of(updates_of(live, samples)) == words_of(updates_of(live, samples / np.float32(2**15)))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from([*ARCHITECTURES, *TUNED]),
    st.sampled_from([0.1, 0.48, 1.5]),
    st.floats(0.1, 2.0),
    st.sampled_from([None, 0.1]),
)
def test_what_is_final_knows_nothing_of_the_sound_after_its_latency(
    architecture: str, latency: float, second: float, block: float | None
) -> None:
    """Two recordings that differ from t + latency on: the words that end before t are final in time, and the same."""
    live = recogniser(architecture, latency=latency, block=block)
    same = noise(second + latency, seed=6)
    tails = [noise(1.0, seed=7), 0.5 * noise(1.0, seed=8)]
    streams = [live.open() for _ in tails]
    in_time = [words_of([stream.feed(same)]) for stream in streams]
    rest = [words_of([stream.feed(tail), stream.finish()]) for stream, tail in zip(streams, tails, strict=True)]
    assert in_time[0] == in_time[1]
    for late in rest:
        assert all(word.end > second - 0.021 or word is late[0] for word in late)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_final_words_are_in_order_and_where_they_are_offline(architecture: str) -> None:
    """Words that both find, in places where both agree on the neighbours, lie within 20 ms of each other."""
    samples = noise(20.0, seed=9)
    found = words_of(updates_of(recogniser(architecture, latency=1.92, left_context=4.0), samples))
    clock = 0.0
    for word in found:
        assert clock <= word.start <= word.end <= 20.0
        clock = word.end
    expected = offline(samples, architecture).words
    agreeing = 0
    for word in found:
        twin = min(expected, key=lambda other: abs(other.start - word.start))
        if twin.text == word.text:
            assert abs(twin.start - word.start) <= 0.0201
            assert abs(twin.end - word.end) <= 0.0201
            agreeing += 1
    assert agreeing > 0.7 * len(found)


def test_the_partial_text_begins_behind_the_final_words() -> None:
    """At every moment final words and partial text are what a recogniser says of all that was heard."""
    samples, live = noise(6.0, seed=10), recogniser()
    stream, final = live.open(), list[str]()
    seen = set()
    for packet in packets(samples, (4000,)):
        update = stream.feed(packet)
        final += [word.text for word in update.final]
        seen.add(update.partial)
    assert len(seen) > 5
    last = update.partial
    rest = [word.text for word in stream.finish().final]
    assert last
    assert rest[0] == last.split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["large_lv60k", "base", TUNED[0]])
def test_streams_that_share_batches_say_what_they_say_alone(architecture: str) -> None:
    live = recogniser(architecture, batch_seconds=20)
    recordings = [noise(3.0 + 0.7 * number, seed=20 + number) for number in range(8)]
    alone = [words_of(updates_of(live, samples)) for samples in recordings]
    streams = [live.open() for _ in recordings]
    together: dict[Any, list[Word]] = {stream: [] for stream in streams}
    cut = [list(packets(samples, (1000 + 777 * number,))) for number, samples in enumerate(recordings)]
    while any(cut):
        for stream, left in zip(streams, cut, strict=True):
            if left:
                stream.push(left.pop(0))
        for stream, update in live.step():
            together[stream] += update.final
    while pending := live.step():
        for stream, update in pending:
            together[stream] += update.final
    for stream, expected in zip(streams, alone, strict=True):
        assert_same_words([*together[stream], *stream.finish().final], expected)
    assert live.step() == []


def recurrent_model() -> Any:
    torch.manual_seed(0)
    config = small_config("large_lv60k", vocab_size=len(TOKENS), pad_token_id=0, ctc_head="recurrent", ctc_head_size=8)
    found = Wav2Vec2ForCTC(config).eval()
    with torch.no_grad():
        found.lm_head.weight.normal_(0, 3)
        found.lm_head.bias[1] = -9.0
    return found


def test_a_recurrent_head_is_run_anew_over_each_window() -> None:
    """Its stride makes frames of 40 ms, and the times know it."""
    heads = recurrent_model()
    samples = noise(6.0, seed=11)
    live = StreamingRecogniser(heads, processor(), latency=10.0, left_context=None, endpoint=None)
    expected = Transcriber(heads, processor()).transcribe((samples, RATE))
    assert isinstance(expected, Transcript)
    assert_same_words(words_of(updates_of(live, samples)), expected.words)
    short = StreamingRecogniser(heads, processor(), latency=1.0, left_context=1.0, endpoint=None)
    assert words_of(updates_of(short, samples, (777,))) == words_of(updates_of(short, samples, (96000,)))


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 719, 721])
def test_streams_of_hardly_any_samples_end_well(samples: int) -> None:
    live = recogniser()
    found = updates_of(live, noise(1.0)[:samples], (100,))
    assert found[-1].seconds == samples / RATE
    assert_same_words(words_of(found), offline(noise(1.0)[:samples]).words)


def test_wrong_inputs_are_one_clear_error_each_and_nothing_of_them_is_heard() -> None:
    live = recogniser()
    stream = live.open()
    for samples, told in (
        (np.zeros((2, 100), np.float32), "one channel"),
        (np.array([0.0, math.nan], np.float32), "nan at sample 1"),
        (np.array([0.0, math.inf], np.float32), "inf at sample 1"),
        (np.array([1, 2]), "int64: samples are floats"),
        (np.array([0.0, 12000.0]), "up to 12000: floats are in"),
        ("speech.wav", "not samples"),
        (None, "not an array of samples"),
    ):
        with pytest.raises(ValueError, match=told):
            stream.push(samples)
    assert stream.finish() == StreamUpdate()
    for call in (lambda: stream.push(noise(0.1)), lambda: stream.feed(noise(0.1)), stream.finish):
        with pytest.raises(ValueError, match="finished: open another"):
            call()
    other = live.open()
    other.close()
    with pytest.raises(ValueError, match="closed: open another"):
        other.push(noise(0.1))
    with pytest.raises(ValueError, match="language='eng': the model is a model of one language"):
        live.open(language="eng")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"latency": 0.02}, "latency=0.02: must be at least 0.025"),
        ({"latency": math.inf}, "latency=inf: must be"),
        ({"left_context": -1.0}, "left_context=-1.0"),
        ({"block": 2.0}, "block=2.0: must be positive, and no longer than latency"),
    ],
)
def test_settings_that_can_have_no_meaning_are_refused(options: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recogniser(**options)


def test_models_that_write_no_text_are_refused() -> None:
    body = model().wav2vec2
    with pytest.raises(ValueError, match="is a Wav2Vec2Model; only a Wav2Vec2ForCTC"):
        StreamingRecogniser(body, processor())
    with pytest.raises(ValueError, match="only a Wav2Vec2ForCTC"):
        StreamingRecogniser(StockForCTC(model().config), processor())
    with pytest.raises(ValueError, match="add_adapter=True"):
        StreamingRecogniser(talkative_model_with_adapter(), processor())
    gaps = Wav2Vec2ForCTC(
        small_config(vocab_size=len(TOKENS), conv_kernel=(10, 3, 2), conv_stride=(5, 4, 2), conv_dim=(16,) * 3)
    )
    with pytest.raises(ValueError, match="a stride that is longer than its kernel leaves samples out"):
        StreamingRecogniser(gaps, processor())


def talkative_model_with_adapter() -> Any:
    changed = talkative_model()
    changed.config.add_adapter = True
    return changed


def test_rules_for_endpoints_are_checked() -> None:
    with pytest.raises(ValueError, match="silence_after_text=0: must be positive"):
        EndpointRules(silence_after_text=0)
    with pytest.raises(ValueError, match="blank_share=0.0"):
        EndpointRules(blank_share=0.0)


def test_from_pretrained_reads_what_the_transcriber_reads(tmp_path: Any) -> None:
    model().save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    samples = noise(4.0)
    live = StreamingRecogniser.from_pretrained(
        tmp_path, latency=5.0, left_context=None, endpoint=None, device="cpu", dtype=torch.float32
    )
    assert live.sampling_rate == RATE
    assert_same_words(words_of(updates_of(live, samples)), offline(samples).words)
