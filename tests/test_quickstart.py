"""`wav2vec2 quickstart`: all stages in miniature, going on after a stop, own recordings."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
from quickstart_runs import SETTINGS, SIZE, TRAINING, few_voices, own_recordings
from typer.testing import CliRunner

from wav2vec2 import CTCDecoder, Transcriber
from wav2vec2.command_line.app import app
from wav2vec2.evaluation.evaluation import Evaluation
from wav2vec2.processing.manifests import read_manifest
from wav2vec2.quickstart import training_stages, whole_path
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.quickstart.own_recordings import RecordingsError, take_recordings
from wav2vec2.quickstart.resumable_stages import StoppedError
from wav2vec2.quickstart.sentences import vocabulary
from wav2vec2.quickstart.spoken_corpus import make_corpus
from wav2vec2.quickstart.training_stages import TrainingSize
from wav2vec2.quickstart.whole_path import Quickstart, Settings, SettingsError, quickstart
from wav2vec2.training import starting
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.update_step import Updater

pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
pytestmark = pytest.mark.slow

PARTS = ("labelled", "development", "test")
STAGES = [
    "make_recordings",
    "pretrain",
    "finetune",
    "train_from_scratch",
    "build_language_model",
    "measure",
    "transcribe",
    "write_card",
]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with few_voices():
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder, SIZE, seed=1)
    return Corpus(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    """A quickstart that was stopped once in every stage, and in the middle of each training; what it said at last, and
    the stages that were worked on, in order."""
    output = tmp_path_factory.mktemp("runs") / "quickstart"
    worked: list[str] = []
    for name in STAGES:
        with interrupted(name, worked), pytest.raises((KeyboardInterrupt, StoppedError)):
            quickstart(SETTINGS, output)
    said: list[str] = []
    with interrupted(None, worked):
        quickstart(SETTINGS, output, say=said.append)
    return output, said, worked


class interrupted:  # noqa: N801 (reads as a sentence)
    """Ctrl-C in a stage; in the trainings after their first update, elsewhere at the end of the work."""

    def __init__(self, stage: str | None, worked: list[str]) -> None:
        self.stage, self.worked = stage, worked
        self.patches = [patch.object(Quickstart, name, self.watched(name)) for name in STAGES]
        if stage in ("pretrain", "finetune", "train_from_scratch"):
            self.patches.append(patch.object(starting, "Updater", Interrupted))

    def watched(self, name: str) -> Any:
        real = getattr(Quickstart, name)

        def work(quickstart: Quickstart) -> list[str]:
            self.worked.append(name)
            lines: list[str] = real(quickstart)
            if name == self.stage:
                raise KeyboardInterrupt
            return lines

        return work

    def __enter__(self) -> None:
        for one in self.patches:
            one.start()

    def __exit__(self, *error: object) -> None:
        for one in self.patches:
            one.stop()


class Interrupted(Updater):
    """Asks for the end in its first update."""

    def __call__(self, update: int, *rest: Any) -> Any:
        if update == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__call__(update, *rest)


# --- the whole path ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stage_that_is_done_is_not_done_again(finished: tuple[Path, list[str], list[str]]) -> None:
    _, said, worked = finished
    assert worked == [name for name in STAGES for _ in range(2)], "each stopped once, then finished, then left alone"
    assert any("What it took" in line for line in said)


@pytest.mark.slow
def test_trainings_went_on_from_their_checkpoints(finished: tuple[Path, list[str], list[str]]) -> None:
    output, _, _ = finished
    spelling = TRAINING.finetuning_updates
    for name, updates in (
        ("pretraining", TRAINING.pretraining_updates),
        ("finetuning", spelling),
        ("scratch", spelling),
    ):
        lines = read_log(output / name)
        assert [line["kind"] for line in lines].count("resume") == 1
        assert max(line.get("update", 0) for line in lines) == updates
        assert [line["update"] for line in lines if line["kind"] == "training"] == list(range(1, updates + 1))


@pytest.mark.slow
def test_everything_is_there_and_loads(finished: tuple[Path, list[str], list[str]]) -> None:
    output, said, _ = finished
    for name in ("pretraining/report.html", "finetuning/report.png", "evaluation/evaluation.html"):
        assert (output / name).stat().st_size > 0
    assert list((output / "transcripts").glob("*.srt"))
    model = output / "model"
    transcriber = Transcriber.from_pretrained(model, device="cpu")
    decoder = CTCDecoder.from_pretrained(model)
    assert transcriber.decoder is not None and decoder.language_model is not None
    assert set(decoder.language_model.vocabulary) - {"<unk>", "<s>", "</s>"} <= vocabulary()
    heard = transcriber.transcribe(next(read_manifest(output / "corpus" / "test.tsv")).path)
    assert not isinstance(heard, list) and heard.duration > 0.5
    assert any(line.strip().startswith("heard:") for line in said)


@pytest.mark.slow
def test_card_and_words_on_the_screen_have_the_figures_of_the_evaluation(
    finished: tuple[Path, list[str], list[str]],
) -> None:
    output, said, _ = finished
    found = Evaluation.from_json((output / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert (found.utterances, found.speakers, found.normalizer) == (4, 2, "basic")
    assert [one.name for one in found.decodings] == ["greedy", "beam"]
    card = (output / "model" / "README.md").read_text(encoding="utf-8")
    text = "\n".join(said)
    for one in found.decodings:
        assert f"**{100 * one.wer.rate:.2f}**" in card
        assert f"WER {one.wer.rate:.1%}" in text
    beside = Evaluation.from_json((output / "evaluation" / "scratch" / "evaluation.json").read_text(encoding="utf-8"))
    assert [one.name for one in beside.decodings] == ["greedy"] and beside.utterances == 4
    assert f"from random weights, greedy: WER {beside.decodings[0].wer.rate:.1%}" in text
    assert f"from random weights give {100 * beside.decodings[0].wer.rate:.1f} % of word errors" in card
    assert beside.model.parameters == found.model.parameters > 8.5e6  # four layers of the small model
    assert "report_pretraining.png" in card and "Synthetic voices alone" in card
    assert "`small`, the pretrained model that comes with wav2vec2" in card and "license: cc-by-sa-4.0" in card
    assert f"pretrained on for {TRAINING.pretraining_updates} updates of 8 s" in card
    assert str(output) not in card


def test_other_settings_are_refused_and_fresh_starts_over(tmp_path: Path) -> None:
    output = tmp_path / "run"
    begun: list[str] = []
    with patch.object(Quickstart, "run", lambda self: begun.append("run")):
        quickstart(SETTINGS, output)
        (output / "model").mkdir()
        (output / "notes.txt").write_text("mine", encoding="utf-8")
        other = Settings(seed=2, corpus=SIZE, training=TRAINING)
        with pytest.raises(SettingsError, match="seed: 1 there, 2 asked for"):
            quickstart(other, output)
        assert (output / "model").is_dir()
        quickstart(other, output, fresh=True)
    assert begun == ["run", "run"]
    assert not (output / "model").exists() and (output / "notes.txt").is_file()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(SettingsError, match="holds other files"):
        quickstart(SETTINGS, tmp_path, fresh)
    assert (tmp_path / "model").is_dir()


# --- one's own recordings ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_own_recordings_go_the_whole_path(corpus: Corpus, tmp_path: Path) -> None:
    audio, manifest = own_recordings(corpus, tmp_path)
    said: list[str] = []
    settings = Settings(audio=str(audio), transcripts=str(manifest), corpus=SIZE, training=TRAINING)
    quickstart(settings, tmp_path / "out", say=said.append)
    text = "\n".join(said)
    assert "by speaker: 1 of 6 are only measured on" in text
    assert "`unknown`" in text and "own recordings, test" in text
    card = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "license: unknown" in card and str(tmp_path) not in card
    assert Transcriber.from_pretrained(tmp_path / "out" / "model", device="cpu").decoder is not None


@pytest.mark.parametrize("speakers", [True, False])
def test_what_is_measured_on_is_trained_on_nowhere(corpus: Corpus, tmp_path: Path, speakers: bool) -> None:
    audio, manifest = own_recordings(corpus, tmp_path, speakers)
    lines = take_recordings(tmp_path / "out", audio, manifest, seed=1)
    parts = {part: list(read_manifest(getattr(Corpus(tmp_path / "out"), part))) for part in (*PARTS, "audio")}
    files = {part: {one.path.resolve() for one in parts[part]} for part in parts}
    assert not (files["test"] | files["development"]) & (files["audio"] | files["labelled"])
    assert not files["test"] & files["development"]
    assert files["labelled"] < files["audio"] and len(files["audio"] - files["labelled"]) == 1  # extra.flac
    assert sum(len(files[part]) for part in PARTS) == 18
    trained, tested = ({one.speaker for one in parts[part]} for part in ("labelled", "test"))
    assert (not trained & tested) if speakers else (trained | tested == {None})
    assert any(("by speaker" if speakers else "by recording, since") in line for line in lines)
    again = take_recordings(tmp_path / "again", audio, manifest, seed=1)
    assert again == lines


def test_one_bad_recording_is_told_and_the_others_are_used(corpus: Corpus, tmp_path: Path) -> None:
    audio, manifest = own_recordings(corpus, tmp_path)
    (audio / "003.flac").write_bytes(b"nothing that sounds")
    (audio / "004.flac").unlink()
    soundfile.write(audio / "005.flac", np.random.default_rng(1).normal(0, 0.1, 17 * 16000), 16000)
    lines = take_recordings(tmp_path / "out", audio, manifest, seed=1)
    assert "3 recordings cannot be used" in lines[-1] and "005.flac: 17.0 s long, must be 0.1 to 16 s" in lines[-1]
    assert all(f"{name}.flac" in lines[-1] for name in ("003", "004"))
    used = {one.path.name for part in PARTS for one in read_manifest(getattr(Corpus(tmp_path / "out"), part))}
    assert used == {f"{number:03d}.flac" for number in range(18)} - {"003.flac", "004.flac", "005.flac"}


def test_paths_may_be_relative_to_the_folder_with_audio(corpus: Corpus, tmp_path: Path) -> None:
    audio, manifest = own_recordings(corpus, tmp_path)
    elsewhere = tmp_path / "texts" / "list.tsv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(manifest.read_text(encoding="utf-8").replace("audio/", ""), encoding="utf-8")
    take_recordings(tmp_path / "out", audio, elsewhere, seed=1)
    assert len(list(read_manifest(Corpus(tmp_path / "out").labelled))) > 5


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("file\ttext\n001.flac\thello\n", "no column `path`"),
        ("path\tspeaker\n001.flac\tme\n", "no text in a column `transcript`"),
        ("path,transcript\n001.flac,hello\n", "no column `path`"),
        ("path\ttranscript\nnowhere.flac\thello\n", "none can be read"),
        ("path\ttranscript\n000.flac\thello\n001.flac\tthere\n", "2 usable recordings with a transcript"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_explained(
    corpus: Corpus, tmp_path: Path, content: str, complaint: str
) -> None:
    audio, manifest = own_recordings(corpus, tmp_path)
    manifest.write_text(content, encoding="utf-8")
    with pytest.raises(RecordingsError, match=complaint):
        take_recordings(tmp_path / "out", audio, manifest, seed=1)


# --- as it is typed ------------------------------------------------------------------------------------------------


def test_the_command_passes_on_what_is_typed(tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    with patch.object(whole_path, "quickstart", lambda *given: calls.append(given)):
        result = CliRunner().invoke(app, ["quickstart", "-o", str(tmp_path / "q"), "--minutes", "3", "--seed", "7"])
    assert result.exit_code == 0
    assert calls[0][:3] == (Settings(seed=7, minutes=3.0), tmp_path / "q", False)
    assert f"--model {tmp_path / 'q' / 'model'}" in result.stdout and "--audio FOLDER" in result.stdout
    assert (
        Quickstart(Settings(minutes=3.0, training=TRAINING), tmp_path, print).training_size().pretraining_updates == 1
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--audio", "here"], "--audio and --transcripts go together"),
        (["--audio", "nowhere", "--transcripts", "nothing.tsv"], "nothing.tsv"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["quickstart", "-o", str(tmp_path / "q"), *options])
    assert result.exit_code == 1 and complaint in result.stderr and "Traceback" not in result.stderr


def test_it_says_first_how_long_it_will_take(tmp_path: Path) -> None:
    """In proportion to what a step takes on this machine; not when most of it may be done."""
    said: list[str] = []
    fresh = Quickstart(Settings(), tmp_path / "fresh", said.append)
    with patch.object(training_stages, "seconds_of_a_step", lambda _: 0.06):
        fresh.say_how_long()
        quick = training_stages.expected_minutes(TrainingSize())
    with patch.object(training_stages, "seconds_of_a_step", lambda _: 0.18):
        assert training_stages.expected_minutes(TrainingSize()) == pytest.approx(3 * quick)
    assert said == [f"about {quick:.0f} minutes on this machine; what is done is kept if it is stopped"]
    (tmp_path / "fresh" / "stages").mkdir(parents=True)
    fresh.say_how_long()
    assert len(said) == 1


@pytest.mark.slow
def test_a_step_that_is_timed_takes_longer_with_more_audio() -> None:
    assert 0 < training_stages.seconds_of_a_step(1.0) < training_stages.seconds_of_a_step(8.0)
