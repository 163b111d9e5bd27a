"""`wav2vec2 transcribe`: what Python has is an option, JSON is a document, and wrong options are named at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from language_folders import LANGUAGES, write_languages
from recognition_checkpoints import save_checkpoint, write_noise
from typer.testing import CliRunner, Result

import wav2vec2
from wav2vec2.command_line.app import app
from wav2vec2.command_line.recogniser import read_hotwords, read_lexicon
from wav2vec2.decoding.lexicon import HOTWORD_WEIGHT
from wav2vec2.inference import Transcriber, Transcript
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise(tmp_path_factory.mktemp("audio") / "talk.wav", 4.0)


def run(checkpoint: Path, *arguments: object, given: bytes | None = None) -> Result:
    words = ["transcribe", *map(str, arguments), "--model", str(checkpoint)]
    result: Result = RUNNER.invoke(app, words if "--device" in words else [*words, "--device", "cpu"], input=given)
    return result


def in_python(checkpoint: Path, audio: Path, **options: Any) -> Transcript:
    found = Transcriber.from_pretrained(checkpoint, device="cpu", **options).transcribe(audio)
    assert isinstance(found, Transcript)
    return found


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr(Transcriber, "from_pretrained", loaded)


@pytest.mark.parametrize("format", ["srt", "vtt", "tsv"])
def test_captions_of_several_recordings_need_a_folder(
    checkpoint: Path, audio: Path, nothing_is_loaded: None, format: str
) -> None:
    """One behind the other, their numbers and times would begin anew in the middle of what looks like one file."""
    result = run(checkpoint, audio, audio, "--format", format)
    assert result.exit_code == 2
    assert "--output" in result.stderr and f"{format} of several recordings" in result.stderr


def test_options_do_what_they_do_in_python(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("bad\nabc\nfed\n\nhad\n")
    plain = run(checkpoint, audio).stdout
    for options, same in (
        (["--hotwords", "bad=30, fed cab", "--hotwords", "had"], {"hotwords": {"bad": 30.0, "fed cab": 10, "had": 10}}),
        (["--lexicon", words], {"lexicon": ["bad", "abc", "fed", "had"]}),
        (["--window", "2"], {"window_seconds": 2.0, "context_seconds": 0.5}),
        (["--dtype", "bfloat16"], {"dtype": torch.bfloat16}),
    ):
        found = run(checkpoint, audio, *options)
        assert found.exit_code == 0, found.output
        assert found.stdout == in_python(checkpoint, audio, **same).text + "\n"
        assert found.stdout != plain
    assert set(run(checkpoint, audio, "--lexicon", words).stdout.split()) <= {"bad", "abc", "fed", "had"}


@pytest.mark.slow
def test_standard_input(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    expected = in_python(checkpoint, audio)
    found = run(checkpoint, "-", "-f", "json", given=audio.read_bytes())
    assert found.exit_code == 0, found.output
    content = json.loads(found.stdout)
    assert (content["path"], content["text"], content["duration"]) == ("standard input", expected.text, 4.0)
    assert run(checkpoint, "-", "-o", tmp_path, given=audio.read_bytes()).exit_code == 0
    assert (tmp_path / "stdin.txt").read_text() == expected.text + "\n"
    broken = run(checkpoint, "-", given=b"no audio")
    assert broken.exit_code == 1
    assert "standard input: " in broken.stderr


def test_json_of_several_files_is_an_array_and_of_one_an_object(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    other = write_noise(folder / "b.wav", 1.0)
    (tmp_path / "bad.wav").write_text("no audio")
    assert json.loads(run(checkpoint, audio, "-f", "json").stdout)["path"] == str(audio)
    for arguments, names in (
        ((audio, other), [str(audio), str(other)]),
        ((folder,), [str(other)]),
        ((audio, tmp_path / "bad.wav", other), [str(audio), str(other)]),
        ((tmp_path / "bad.wav", tmp_path / "bad.wav"), []),
    ):
        found = run(checkpoint, *arguments, "-f", "json").stdout
        assert [one["path"] for one in json.loads(found)] == names
    lines = run(checkpoint, audio, other, "-f", "jsonl").stdout.splitlines()
    assert [json.loads(line)["path"] for line in lines] == [str(audio), str(other)]
    assert json.loads(lines[0]) == json.loads(run(checkpoint, audio, "-f", "json").stdout)


@pytest.mark.usefixtures("nothing_is_loaded")
def test_wrong_options_are_named_before_the_model_is_loaded(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    (tmp_path / "lexicon").write_text("two words\n")
    several = tmp_path / "several"
    write_languages(several)
    nested = json.loads((several / "vocab.json").read_text())
    Wav2Vec2CTCTokenizer(nested, target_lang="eng", unk_token=None).save_pretrained(several)
    Wav2Vec2FeatureExtractor().save_pretrained(several)
    for place, options, code, message in (
        (checkpoint, ["--lm", "nolm.arpa"], 2, "--lm"),
        (checkpoint, ["--lexicon", "none.txt"], 2, "--lexicon"),
        (checkpoint, ["--lexicon", tmp_path / "lexicon"], 1, "lexicon, line 1: 'two words' is no word"),
        (checkpoint, ["--hotwords", "bad,,"], 1, "--hotwords: '': no phrase"),
        (checkpoint, ["--hotwords", "names.txt"], 1, "--hotwords names.txt: no such file"),
        (checkpoint, ["--hotwords", "bad=much"], 1, "'much' is no weight"),
        (checkpoint, ["--device", "gpu"], 1, "--device gpu: there is none here; there are: cpu"),
        (checkpoint, ["--device", "cuda:77"], 1, "--device cuda:77: there is none here; there are: cpu"),
        (checkpoint, ["--language", "eng"], 1, "--language eng: " + f"{checkpoint} is a model of one language"),
        (several, ["--language", "xyz"], 1, f"not one of the {len(LANGUAGES)} languages of {several}: deu, eng, fra"),
        (tmp_path / "no", [], 1, "no such folder"),
    ):
        result = run(place, audio, *options)
        assert result.exit_code == code, options
        assert message in result.stderr


@pytest.mark.usefixtures("nothing_is_loaded")
def test_files_that_are_not_there_are_named_before_the_model_is_loaded(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, tmp_path / "a.wav", tmp_path / "b.wav")
    assert result.exit_code == 1
    assert result.stderr == f"transcribe: no such file: {tmp_path / 'a.wav'}, {tmp_path / 'b.wav'}\n"


def test_of_several_files_the_missing_ones_are_named_first(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    result = run(checkpoint, audio, tmp_path / "b.wav")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"transcribe: no such file: {tmp_path / 'b.wav'}; going on with the others\n")
    assert len(result.stdout.split()) > 3


def test_hotwords_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("North Sea\t3.5\n\nmat\n")
    expected = {"North Sea": 3.5, "mat": HOTWORD_WEIGHT, "cat": 2.0}
    assert read_hotwords([str(tmp_path / "names.txt"), "cat=2"]) == expected


def test_a_lexicon_with_spellings(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("cat\tk æ t\nthe\tð ə\nthe\tð iː\n", encoding="utf-8")
    assert read_lexicon(path) == {"cat": ["k æ t"], "the": ["ð ə", "ð iː"]}
    path.write_text("cat\tk æ t\ndog\n", encoding="utf-8")
    with pytest.raises(ValueError, match="such as 'dog', have none"):
        read_lexicon(path)


@pytest.mark.slow
def test_speed_and_time_left_are_said(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wav2vec2.command_line import progress

    monkeypatch.setattr(progress, "_FIRST", 0.0)
    long = write_noise(tmp_path / "long.wav", 100.0)
    plain = run(checkpoint, long, "--batch-seconds", "30").stderr
    assert "of 2 minutes of audio in " in plain
    assert "times as fast as speech: about " in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "x real time" in run(checkpoint, long, "--batch-seconds", "30").stderr


def test_a_language_model_beside_a_checkpoint(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    NgramLanguageModel.train(["a b c", "ab ba abc", "cab a bad gag"], order=2, prune=(0,)).save(tmp_path / "lm")
    found = run(checkpoint, audio, "--lm", tmp_path / "lm", "--beam", "4")
    assert found.stdout == in_python(checkpoint, audio, language_model=tmp_path / "lm", beam=4).text + "\n"


def test_version() -> None:
    assert RUNNER.invoke(app, ["--version"]).stdout == f"wav2vec2 {wav2vec2.__version__}\n"
