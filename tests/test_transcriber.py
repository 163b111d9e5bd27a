"""`Transcriber`: windows, batches and segments leave no trace; short, bad and long recordings; decoders; languages."""

import gc
import json
import os
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from language_folders import write_languages
from recognition_checkpoints import RATE, TOKENS, noise, processor, save_checkpoint, talkative_model, write_noise
from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.inference import Transcriber, Transcript
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.windows_and_segments import Moments, Segment, WaitingFrames, cut_place
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.processing.audio_sources import AudioError
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.processor import Wav2Vec2Processor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def local_model() -> Any:
    """Without Transformer layers: what a frame depends on, 16 frames of positional convolution, fits in a context."""
    model = talkative_model()
    model.wav2vec2.encoder.layers = torch.nn.ModuleList()
    return model


def log_probs_of(transcriber: Transcriber, samples: Any) -> Tensor:
    listener = transcriber.listener
    windows = listener.plan.windows(AudioInput("noise", samples, RATE), Moments())
    return torch.cat([rows for window in windows for rows in listener.launch([window]).read()])


def one(transcriber: Transcriber, audio: Any, **options: Any) -> Transcript:
    found = transcriber.transcribe(audio, **options)
    assert isinstance(found, Transcript)
    return found


def several(transcriber: Transcriber, audio: Any, **options: Any) -> list[Transcript]:
    found = transcriber.transcribe(audio, **options)
    assert isinstance(found, list)
    return found


def assert_same(found: Transcript, expected: Transcript) -> None:
    """The same words at the same times, confidences within 1e-3 (batches round differently)."""
    assert (found.text, found.duration) == (expected.text, expected.duration)
    for ours, theirs in zip(found.words, expected.words, strict=True):
        assert (ours.text, ours.start, ours.end) == (theirs.text, theirs.start, theirs.end)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-3)


def assert_times_in_order(transcript: Transcript) -> None:
    for timed in (transcript.words, transcript.characters):
        clock = 0.0
        for each in timed:
            assert clock <= each.start <= each.end <= transcript.duration
            clock = each.end
            assert 0 <= each.confidence <= 1


def test_one_window_is_what_processor_model_and_decoder_give() -> None:
    model, samples = talkative_model(), noise(3.0)
    found = one(Transcriber(model, processor()), (samples, RATE))
    with torch.inference_mode():
        logits = model(**processor()(samples, sampling_rate=RATE, return_tensors="pt")).logits
    expected = CTCDecoder(TOKENS).greedy(logits.log_softmax(-1))[0][0]
    assert found.text == expected.text
    assert [(word.text, word.start, word.end) for word in found.words] == [
        (word.text, word.start, word.end) for word in expected.words
    ]
    assert found.duration == 3.0
    assert len(found.words) > 5


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 16000 * 20), st.sampled_from([(4.0, 1.0), (5.5, 0.9), (9.98, 2.0)]))
def test_windows_leave_no_trace(samples: int, cut: tuple[float, float]) -> None:
    """Of a model that sees no further than the context: the same log-probabilities within 1e-3, the same words."""
    model, sound = local_model(), noise(21.0)[:samples]
    whole = Transcriber(model, processor())
    windowed = Transcriber(model, processor(), window_seconds=cut[0], context_seconds=cut[1], batch_seconds=15)
    if samples >= 400:
        expected = log_probs_of(whole, sound)
        torch.testing.assert_close(log_probs_of(windowed, sound), expected, atol=1e-3, rtol=1e-3)
        assert len(expected) == (samples - 400) // 320 + 1
    assert_same(one(windowed, (sound, RATE)), one(whole, (sound, RATE)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "most_frames", "most_characters"), [("large_lv60k", 0.005, 0.005), ("base", 0.03, 0.04)]
)
def test_with_attention_windows_change_little(architecture: str, most_frames: float, most_characters: float) -> None:
    """Attention, and the group norm of the base architecture, see the whole window: the rate of edge errors."""
    model, sound = talkative_model(architecture), noise(75.0, seed=3)
    whole = Transcriber(model, processor(), window_seconds=100)
    windowed = Transcriber(model, processor(), window_seconds=20)
    best, expected = (log_probs_of(transcriber, sound).argmax(-1) for transcriber in (windowed, whole))
    assert (best != expected).float().mean() <= most_frames
    texts = [one(transcriber, (sound, RATE)).text for transcriber in (windowed, whole)]
    assert characters_wrong(*texts) <= most_characters


def characters_wrong(found: str, expected: str) -> float:
    """Levenshtein distance as a share of the expected characters."""
    row = list(range(len(expected) + 1))
    for number, character in enumerate(found, 1):
        last, row[0] = row[0], number
        for place, other in enumerate(expected, 1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (character != other))
    return row[-1] / len(expected)


@pytest.mark.slow
@pytest.mark.parametrize("beam", [None, 4])
def test_a_batch_of_files_is_the_same_as_its_items(tmp_path: Path, beam: int | None) -> None:
    paths = [write_noise(tmp_path / f"{n}.wav", seconds, n) for n, seconds in enumerate([0.5, 31.0, 3.0, 0.02, 7.7])]
    decoder = None if beam is None else CTCDecoder(TOKENS, beam=beam)
    transcriber = Transcriber(talkative_model(), processor(), decoder, window_seconds=10, context_seconds=2)
    together = several(transcriber, [str(path) for path in paths], timestamps="char")
    assert [transcript.path for transcript in together] == [str(path) for path in paths]
    small = Transcriber(transcriber.model, processor(), decoder, 10, 2, batch_seconds=1)
    for path, transcript in zip(paths, together, strict=True):
        assert_same(transcript, one(small, path, timestamps="char"))
        assert_times_in_order(transcript)
    assert together[3].text == ""


@pytest.mark.slow
def test_a_minute_and_more_is_decoded_in_segments_that_leave_no_trace() -> None:
    transcriber = Transcriber(local_model(), processor())
    sound = noise(130.0)
    found = one(transcriber, (sound, RATE), timestamps="char")
    log_probs = log_probs_of(transcriber, sound)
    assert len(log_probs) > 2 * 3000
    expected = CTCDecoder(TOKENS).greedy(log_probs[None])[0][0]
    assert found.text == expected.text
    times = [[(word.start, word.end) for word in words] for words in (found.words, expected.words)]
    np.testing.assert_allclose(times[0], times[1], atol=1e-9)
    assert [token.text for token in found.characters] == [token.text for token in expected.tokens]
    assert_times_in_order(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 2500), min_size=1, max_size=6))
def test_segments_do_not_depend_on_how_frames_came(seed: int, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(sum(sizes), 4, generator=generator).log_softmax(-1)

    def segments(pieces: Any) -> list[tuple[int, int]]:
        waiting = WaitingFrames(0, 1)
        places = accumulate([0, *map(len, pieces)])
        cut = [Segment(place, piece) for place, piece in zip(places, pieces, strict=False)]
        found = [segment for piece in cut for segment in waiting.add(piece)] + list(waiting.rest())
        torch.testing.assert_close(torch.cat([segment.log_probs for segment in found]), frames, atol=0, rtol=0)
        return [(segment.offset, len(segment.log_probs)) for segment in found]

    whole = segments([frames])
    assert segments(frames.split(sizes)) == whole
    assert all(length <= 3000 for _, length in whole)


def test_the_cut_is_in_the_longest_pause() -> None:
    path = [2] * 10 + [0] * 4 + [2] * 2 + [0, 1, 0] + [3]  # the longer run is inside a word
    log_probs = torch.nn.functional.one_hot(torch.tensor(path), 4).float().log_softmax(-1)
    assert cut_place(log_probs, blank=0, delimiter=1) == 17
    assert cut_place(log_probs, blank=0, delimiter=None) == 12
    assert 10 <= cut_place(torch.zeros(20, 4), blank=3, delimiter=2) < 20


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_lengths_from_0_to_800_samples(architecture: str) -> None:
    transcriber = Transcriber(talkative_model(architecture), processor())
    lengths = [*range(0, 801, 37), 1, 399, 400, 401, 719, 720, 800]
    together = several(transcriber, [noise(1.0)[:length] for length in lengths], sampling_rate=RATE)
    for length, transcript in zip(lengths, together, strict=True):
        assert transcript.error is None
        assert transcript.duration == length / RATE
        assert_same(one(transcriber, (noise(1.0)[:length], RATE)), transcript)
        assert_times_in_order(transcript)
        if length < 400:
            assert transcript.text == ""


def test_what_may_be_given(checkpoint: Path, tmp_path: Path) -> None:
    transcriber = Transcriber.from_pretrained(checkpoint, device="cpu")
    path = write_noise(tmp_path / "folder" / "inner" / "a.flac", 2.0)
    samples, _ = soundfile.read(path, dtype="int16")
    expected = one(transcriber, path)
    for audio in (str(path), path.read_bytes(), (samples, RATE), (torch.from_numpy(samples), np.int64(RATE))):
        assert_same(one(transcriber, audio), expected)
    assert_same(one(transcriber, samples, sampling_rate=RATE), expected)
    called = transcriber(path)
    assert isinstance(called, Transcript)
    assert_same(called, expected)
    (tmp_path / "folder" / "notes.md").write_text("no audio")
    (in_folder,) = several(transcriber, tmp_path / "folder")
    assert_same(in_folder, expected)
    assert one(transcriber, path, timestamps=None) == Transcript(str(path), expected.text, duration=2.0)
    twice = np.repeat(samples, 2)  # at 32 kHz it lasts as long
    assert one(transcriber, (twice, 32_000)).duration == 2.0
    with pytest.raises(ValueError, match="array without its rate"):
        transcriber.transcribe(samples)
    with pytest.raises(ValueError, match="timestamps='sentence'"):
        transcriber.transcribe(path, timestamps="sentence")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is NoneType"):
        transcriber.transcribe(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no audio files"):
        transcriber.transcribe(tmp_path / "empty")


def test_bad_files_among_good_ones(tmp_path: Path) -> None:
    transcriber = Transcriber(talkative_model(), processor(), batch_seconds=30)
    good = [write_noise(tmp_path / f"{n}.wav", 2.0, n) for n in range(3)]
    bad = {"empty.wav": b"", "text.wav": b"this is no audio", "cut.wav": good[0].read_bytes()[:3000]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    faulty = [*(tmp_path / name for name in bad), tmp_path / "silent.wav", tmp_path / "missing.wav"]
    mixed = [good[0], *faulty, *good[1:]]
    found = several(transcriber, [*mixed, (np.full(100, np.nan), RATE)])
    for path, transcript in zip(mixed, found[:-1], strict=True):
        if path in good:
            assert_same(transcript, one(transcriber, path))
        else:
            assert transcript.error is not None
            assert path.name in transcript.error
            assert transcript.text == ""
            with pytest.raises((AudioError, OSError)):
                transcriber.transcribe(path)
    assert "nan" in (found[-1].error or "")


def test_a_model_that_gives_nan_is_an_error_of_its_recordings() -> None:
    model = talkative_model()
    with torch.no_grad():
        model.lm_head.bias[0] = torch.nan
    with pytest.raises(ValueError, match="the model's output is NaN"):
        Transcriber(model, processor()).transcribe((noise(1.0), RATE))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_an_hour_stays_within_200_megabytes(tmp_path: Path) -> None:
    """Of resident memory above what a minute needs; the samples alone would be 230 MB, as float32."""
    path, minute = tmp_path / "hour.wav", noise(60.0)
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for _ in range(60):
            file.write(minute)
    model = talkative_model(conv_dim=(8,) * 7, num_hidden_layers=1)
    transcriber = Transcriber(model, processor())
    transcriber.transcribe((np.tile(minute, 4), RATE))
    gc.collect()
    before, highest = resident(), 0

    def watch(seconds: float) -> None:
        nonlocal highest
        highest = max(highest, resident())

    (found,) = transcriber.transcribe_each([path], "word", watch)
    assert found.error is None
    assert found.duration == 3600
    assert len(found.words) > 3600
    assert highest - before < 200e6
    assert_times_in_order(found)


def test_a_language_model_and_the_saved_decoder(checkpoint: Path, tmp_path: Path) -> None:
    language_model = tmp_path / "lm.arpa"
    sentences = ["a b c", "ab ba abc", "cab a bad gag", "ace cafe bag"]
    NgramLanguageModel.train(sentences, order=2, prune=(0,)).to_arpa(language_model)
    sound = (noise(4.0), RATE)
    greedy = Transcriber.from_pretrained(checkpoint, device="cpu")
    assert greedy.decoder is None
    fused = Transcriber.from_pretrained(checkpoint, device="cpu", language_model=language_model, beam=8)
    assert fused.decoder is not None
    assert fused.decoder.beam == 8
    expected = fused.decoder.decode(log_probs_of(fused, sound[0])[None])[0][0]
    assert one(fused, sound).text == expected.text
    folder = save_checkpoint(tmp_path / "with decoder")
    CTCDecoder(TOKENS, language_model=NgramLanguageModel.from_file(language_model), beam=8, alpha=0.9).save_pretrained(
        folder
    )
    saved = Transcriber.from_pretrained(folder, device="cpu")
    assert saved.decoder is not None
    assert (saved.decoder.beam, saved.decoder.alpha) == (8, 0.9)
    other = Transcriber.from_pretrained(folder, device="cpu", beam=3, hotwords=["bad"])
    assert other.decoder is not None
    assert (other.decoder.beam, set(other.decoder.hotwords)) == (3, {"bad"})
    CTCDecoder([*TOKENS[:-1], "z"]).save_pretrained(folder)
    with pytest.raises(ValueError, match="another vocabulary"):
        Transcriber.from_pretrained(folder, device="cpu")


def test_special_tokens_of_the_tokenizer_are_never_written() -> None:
    """Whatever they are called: nothing is guessed from how they look."""
    model = talkative_model()
    with torch.inference_mode():
        model.lm_head.bias[1] += 13.0  # the unknown token wins most frames
    renamed = dict(zip(["[pad]", "unknown", *TOKENS[2:]], range(len(TOKENS)), strict=True))
    for tokens, names in (
        (dict(zip(TOKENS, range(len(TOKENS)), strict=True)), ("<pad>", "<unk>")),
        (renamed, ("[pad]", "unknown")),
    ):
        tokenizer = Wav2Vec2CTCTokenizer(tokens, pad_token=names[0], unk_token=names[1], bos_token=None, eos_token=None)
        transcriber = Transcriber(model, Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer))
        found = one(transcriber, (noise(3.0), RATE))
        assert set(found.text) <= set("abcdefgh ")
        assert len(found.text) > 20


def test_a_lower_precision(checkpoint: Path) -> None:
    sound = (noise(5.0), RATE)
    exact, rough = (
        one(Transcriber.from_pretrained(checkpoint, "cpu", dtype), sound) for dtype in (None, torch.bfloat16)
    )
    assert characters_wrong(rough.text, exact.text) < 0.1


def test_wrong_settings_are_named() -> None:
    model = talkative_model()
    with pytest.raises(ValueError, match="window_seconds=8.0, context_seconds=4"):
        Transcriber(model, processor(), window_seconds=8.0)
    with pytest.raises(ValueError, match="a context at least 0.040 s"):
        Transcriber(model, processor(), context_seconds=0.0)
    with pytest.raises(ValueError, match="batch_seconds=-1"):
        Transcriber(model, processor(), batch_seconds=-1)
    tokenizer = type(processor().tokenizer)({"<pad>": 0, "|": 1, "a": 2}, unk_token=None)
    with pytest.raises(ValueError, match="not of one checkpoint"):
        Transcriber(model, Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer))


def test_languages_of_a_multilingual_checkpoint(tmp_path: Path) -> None:
    write_languages(tmp_path)
    nested = json.loads((tmp_path / "vocab.json").read_text())
    Wav2Vec2CTCTokenizer(nested, target_lang="eng", unk_token=None).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    for language, first in (("fra", 0x4E00 + 256), ("eng", 0x4E00)):
        transcriber = Transcriber.from_pretrained(tmp_path, device="cpu", language=language)
        assert transcriber.model.target_lang == language
        letters = set(one(transcriber, (noise(2.0), RATE)).text) - {" "}
        assert letters <= {chr(first + number) for number in range(50)}


def test_the_stock_pipeline_reads_the_folder(checkpoint: Path) -> None:
    """Stock's model and our processor, from one folder: words with times, whole and in chunks."""
    ours = Wav2Vec2Processor.from_pretrained(checkpoint)
    recognise = transformers.pipeline(
        "automatic-speech-recognition",
        model=transformers.Wav2Vec2ForCTC.from_pretrained(checkpoint),
        tokenizer=ours.tokenizer,
        feature_extractor=ours.feature_extractor,
        device="cpu",
    )
    sound = noise(12.0)
    found = recognise(sound, return_timestamps="word")
    expected = one(Transcriber.from_pretrained(checkpoint, device="cpu"), (sound, RATE))
    assert found["text"].split() == expected.text.split()  # stock writes a delimiter twice where it is said twice
    assert [chunk["text"] for chunk in found["chunks"]] == [word.text for word in expected.words]
    times = np.array([chunk["timestamp"] for chunk in found["chunks"]])
    np.testing.assert_allclose(times, [(word.start, word.end) for word in expected.words], atol=0.0026)  # no centres
    chunked = recognise(sound, return_timestamps="word", chunk_length_s=6, stride_length_s=1)
    assert characters_wrong(" ".join(chunked["text"].split()), expected.text) < 0.1
    assert sys.modules.get("pyctcdecode") is None
