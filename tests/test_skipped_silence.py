"""What the model hears of a recording whose silence is skipped is what it hears there of the whole: text and times."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from recognition_checkpoints import RATE, noise, processor, save_checkpoint, talkative_model
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app
from wav2vec2.inference import Transcriber, Transcript
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.kept_parts import KeptInFiles, KeptInMemory
from wav2vec2.inference.listener import Heard, Listener
from wav2vec2.inference.voice_activity import SilenceRules, VoiceActivity

#: Where there is sound, in seconds: one is longer than a window, and none begins on a frame of the model.
SOUNDS = [(3.013, 4.5), (9.007, 15.3), (21.0, 22.11), (27.777, 31.0)]
LENGTH = 36.2
RULES = SilenceRules(shortest_silence=1.5, padding=0.4)

Samples = NDArray[np.float32]


@cache
def recording() -> Samples:
    """Noise that a model finds words in, with silence (16 bits) before, between and behind."""
    sound, loud = np.zeros(round(LENGTH * RATE), np.float32), noise(LENGTH)
    for start, end in SOUNDS:
        place = slice(round(start * RATE), round(end * RATE))
        sound[place] = loud[place] - 0.02
    return (np.round(sound * 32768) / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    """Its model looks 16 frames to either side, so that the silence it does not hear reaches none of the words."""
    model: Any = talkative_model()
    model.wav2vec2.encoder.layers = torch.nn.ModuleList()
    return Transcriber(model, processor(), window_seconds=4, context_seconds=1, batch_seconds=4)


def one(transcriber: Transcriber, audio: Any, **options: Any) -> Transcript:
    found = transcriber.transcribe(audio, **options)
    assert isinstance(found, Transcript)
    return found


@cache
def sections() -> list[tuple[int, int]]:
    voice = VoiceActivity(RULES, RATE)
    return [*voice.push(recording()), *voice.finish()]


def inside(timed: Any, margin: float = 0.35) -> list[list[Any]]:
    """By section, what lies so far from where silence begins that the model hears the same around it."""
    return [
        [
            (each.text, round(each.start, 6), round(each.end, 6))
            for each in timed
            if start / RATE + margin < each.start and each.end < end / RATE - margin
        ]
        for start, end in sections()
    ]


def test_frames_are_those_of_the_whole_recording(transcriber: Transcriber) -> None:
    ((whole, _),) = [transcriber.log_probs((recording(), RATE))]
    skipped = Heard(AudioInput("noise", recording(), RATE), silence=RULES)
    pieces = [segment for of in transcriber.listener.hear(iter([skipped])) for _, segment in of.of]
    assert [piece.offset for piece in pieces] == sorted(piece.offset for piece in pieces)
    compared = 0
    for start, end in sections():
        mine = [piece for piece in pieces if start // 320 <= piece.offset < end // 320]
        assert mine[0].offset == start // 320
        assert [piece.end for piece in mine[:-1]] == [piece.offset for piece in mine[1:]]
        assert end // 320 - 1 <= mine[-1].end <= -(-end // 320)
        frames = torch.cat([piece.log_probs for piece in mine])[17:-17]
        first = mine[0].offset + 17
        torch.testing.assert_close(frames, whole[first : first + len(frames)], atol=1e-3, rtol=1e-3)
        compared += len(frames)
    assert compared > 500
    assert skipped.complete and skipped.seconds(RATE) == LENGTH


@pytest.mark.parametrize("timestamps", ["word", "char"])
def test_words_have_the_times_of_the_whole_recording(transcriber: Transcriber, timestamps: str) -> None:
    whole = one(transcriber, (recording(), RATE), timestamps=timestamps)
    found = one(transcriber, (recording(), RATE), timestamps=timestamps, skip_silence=RULES)
    assert found.duration == whole.duration == LENGTH
    compared = 0
    for ours, theirs in zip(inside(found.words), inside(whole.words), strict=True):
        assert set(ours[1:-1]) <= set(theirs)  # the first and the last may go on in what is silence
        compared += len(ours) - 2
    assert compared > 15
    assert inside(found.characters) == inside(whole.characters)
    for timed in (found.words, found.characters):
        assert all(any(s / RATE <= one.start <= one.end <= e / RATE for s, e in sections()) for one in timed)


def test_several_recordings_share_batches_and_change_nothing(transcriber: Transcriber) -> None:
    """Sections of many lengths are sorted into batches, and every recording still has its own in order."""
    sounds = [(np.roll(recording(), 5000 * number), RATE) for number in range(3)]
    large = Transcriber(transcriber.model, processor(), window_seconds=4, context_seconds=1, batch_seconds=30)
    together = large.transcribe(sounds, skip_silence=RULES)
    alone = [one(transcriber, sound, skip_silence=RULES) for sound in sounds]
    assert isinstance(together, list)
    assert [found.text for found in together] == [found.text for found in alone]
    times = [[[(word.start, word.end) for word in found.words] for found in each] for each in (together, alone)]
    assert times[0] == times[1]


def test_the_model_hears_little_more_than_the_speech(transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    launch = Listener.launch

    def counted(listener: Listener, windows: list[Any]) -> Any:
        heard.extend(len(window.samples) for window in windows)
        return launch(listener, windows)

    monkeypatch.setattr(Listener, "launch", counted)
    spoken = sum(end - start for start, end in sections())
    seconds: list[float] = []
    inputs = [AudioInput("noise", recording(), RATE)]
    (found,) = transcriber.transcribe_each(inputs, progress=seconds.append, skip_silence=RULES)
    cuts = 2 * (2 * RATE) * 2  # the longest sections are two windows more, which overlap by two contexts
    assert spoken <= sum(heard) <= spoken + cuts + 4 * 640
    assert found.text and spoken < 0.6 * LENGTH * RATE
    assert sum(seconds) == pytest.approx(max(end for _, end in sections()) / RATE, abs=0.05)


@pytest.mark.parametrize("sound", ["digital silence", "noise", "nothing at all"])
def test_a_recording_without_speech_has_an_empty_transcript(
    transcriber: Transcriber, tmp_path: Path, sound: str
) -> None:
    count = 0 if sound == "nothing at all" else 5 * RATE
    samples = np.random.default_rng(0).normal(0, 0.01, count) if sound == "noise" else np.zeros(count)
    soundfile.write(tmp_path / "still.wav", samples, RATE, subtype="PCM_16")
    if sound == "nothing at all":  # no recording
        with pytest.raises(ValueError, match="still.wav"):
            one(transcriber, tmp_path / "still.wav", skip_silence=True)
        return
    found = one(transcriber, tmp_path / "still.wav", skip_silence=True)
    assert (found.text, found.words, found.duration, found.error) == ("", [], 5.0, None)
    if sound == "digital silence":
        with pytest.raises(ValueError, match="silent: all samples are equal"):
            one(transcriber, tmp_path / "still.wav")


def test_a_recording_that_becomes_shorter_while_it_is_read_is_an_error(transcriber: Transcriber) -> None:
    class Shrinking(AudioInput):
        readings = 0

        def blocks(self, rate: int, size: int, overlap: int) -> Iterator[Samples]:
            Shrinking.readings += 1
            sound = self.content if Shrinking.readings == 1 else self.content[: 25 * rate]
            return AudioInput(self.name, sound, rate).blocks(rate, size, overlap)

    inputs = [Shrinking("noise", recording(), RATE), AudioInput("other", recording(), RATE)]
    shorter, other = transcriber.transcribe_each(inputs, skip_silence=RULES)
    assert shorter.error is not None and "noise: the recording is shorter than when" in shorter.error
    assert other.text and other.error is None


def test_what_a_stopped_run_has_found_is_used(transcriber: Transcriber) -> None:
    class Kept(KeptInMemory):
        def finished(self, name: str) -> None:
            """Nothing is thrown away."""

    sound = AudioInput("noise", recording(), RATE)
    kept = Kept()
    (whole,) = transcriber.transcribe_each([sound], keeper=kept, skip_silence=RULES)
    parts = kept.parts["noise"]
    assert [part.offset for part in parts] == [start // 320 for start, _ in sections()]
    for count in range(1, len(parts) + 1):
        some = KeptInMemory()
        some.parts["noise"] = parts[:count]
        beginning = transcriber.transcript_of("noise", parts[:count])
        assert beginning.duration == pytest.approx(parts[count - 1].end * 0.02)
        assert beginning.words[:-1] == whole.words[: len(beginning.words) - 1]
        assert whole.text.startswith(beginning.text)
        (again,) = transcriber.transcribe_each([sound], keeper=some, skip_silence=RULES)
        assert (again.text, again.words, again.duration) == (whole.text, whole.words, whole.duration)


def test_parts_with_silence_between_them_are_read_back(transcriber: Transcriber, tmp_path: Path) -> None:
    place = {"noise": tmp_path / "noise.txt.unfinished"}
    kept = KeptInFiles(place, {"skip_silence": "level"})
    list(transcriber.transcribe_each([AudioInput("noise", recording(), RATE)], keeper=kept, skip_silence=RULES))
    assert len(kept.parts["noise"]) == len(SOUNDS)
    assert KeptInFiles(place, {"skip_silence": "level"}).parts == kept.parts
    assert KeptInFiles(place, {}).parts == {"noise": []}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Path]:
    soundfile.write(tmp_path / "talk.wav", recording(), RATE, subtype="PCM_16")
    yield tmp_path / "talk.wav"


def run(checkpoint: Path, *arguments: object) -> Result:
    words = ["transcribe", *map(str, arguments), "--model", str(checkpoint), "--device", "cpu"]
    result: Result = CliRunner().invoke(app, words)
    return result


def test_the_command_skips_silence(checkpoint: Path, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Python; and what is kept of an unfinished file says so, since it is of no use to a run that skips none."""
    conditions: list[Any] = []
    made = KeptInFiles.__init__

    def noted(kept: KeptInFiles, files: Any, of: Any) -> None:
        conditions.append(of)
        made(kept, files, of)

    monkeypatch.setattr(KeptInFiles, "__init__", noted)
    output = talk.parent / "out"
    for options in (["--skip-silence", "level"], ["--again"]):
        result = run(checkpoint, talk, "--format", "json", "--output", output, *options)
        assert result.exit_code == 0, result.output
        written = json.loads((output / "talk.json").read_text())
        skip = "level" if options[0] == "--skip-silence" else False
        expected = one(Transcriber.from_pretrained(checkpoint, device="cpu"), talk, skip_silence=skip)
        assert (written["text"], written["duration"]) == (expected.text, round(LENGTH, 4))
    assert conditions[0]["skip_silence"]["by"] == "level" and "skip_silence" not in conditions[1]


def test_a_missing_package_is_said_before_the_model_is_loaded(
    checkpoint: Path, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wav2vec2.inference.speech_by_silero.find_spec", lambda name: None)
    monkeypatch.setattr(Transcriber, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    result = run(checkpoint, talk, "--skip-silence", "silero")
    assert result.exit_code == 1
    assert "silero-vad, which is not installed: pip install 'wav2vec2[vad]'" in result.output
