"""`wav2vec2 pronounce`: what it prints and writes, its calibration beside the model, and what it refuses."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from driven_browser import BROWSER, browsing
from planted_speech import PHONES, plant, save_planted, write_sound
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app
from wav2vec2.command_line.learnable import calibrate
from wav2vec2.pronunciation.azure_json import NO_CLAIM
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

pytestmark = pytest.mark.slow

RUNNER = CliRunner()

SPOKEN = ". h . ə . k . oʊ .*20 k . æ . t . s ."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        yield save_planted(tmp_path_factory.mktemp("planted"), phones=True)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return write_sound(tmp_path / "a.wav", SPOKEN, PHONES)


def run(checkpoint: Path, *arguments: object, given: bytes | None = None) -> Result:
    words = ["pronounce", *map(str, arguments), "--model", str(checkpoint), "--device", "cpu"]
    result: Result = RUNNER.invoke(app, words, input=given)
    return result


def test_prints_words_with_what_to_change(checkpoint: Path, audio: Path) -> None:
    result = run(checkpoint, audio, "--phones", "həloʊ kæts", "--text", "Hello cats")
    assert result.exit_code == 0, result.stderr
    hello, cats, shares, pauses, claim = result.stdout.splitlines()
    assert hello.startswith("Hello") and hello.endswith("h ə l oʊ  Say l, not k.")
    assert cats.startswith("cats ") and cats.endswith("k æ t s")
    assert shares.startswith("accuracy ") and shares.endswith("(scores not calibrated)")
    assert "Pauses: 0.4 s before “cats”." in pauses and claim == NO_CLAIM


def test_writes_json_and_a_page(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    files = tmp_path / "out" / "a.json", tmp_path / "out" / "a.html"
    done = run(checkpoint, audio, "--phones", "həloʊ kæts", "--json", files[0], "--html", files[1], "--embed-audio")
    assert done.exit_code == 0, done.stderr
    printed = run(checkpoint, "-", "--phones", "həloʊ kæts", "--json", "-", given=audio.read_bytes())
    written, heard = json.loads(files[0].read_text("utf-8")), json.loads(printed.stdout)
    assert (written.pop("Recording"), heard.pop("Recording")) == (str(audio), "standard input")
    assert written == heard
    assert "<audio" in files[1].read_text("utf-8")


def test_a_calibration_lies_beside_the_model(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    """It is found there by itself, named in what is printed, and can be elsewhere."""
    rows = ["path\tphones\tsaid", *["a.wav\thəloʊ kæts\thəkoʊ kæts"] * 12]
    manifest = tmp_path / "held_out.tsv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    made = run(checkpoint, "--calibrate", manifest)
    assert made.exit_code == 0, made.stderr
    assert "held_out.tsv: 12 recordings, 96 sounds of which 12 were said otherwise (AUC 1.000)" in made.stdout
    file = checkpoint / "pronunciation_calibration.json"
    elsewhere = file.replace(tmp_path / "curve.json")
    assert "not calibrated" in run(checkpoint, audio, "--phones", "kæts").stdout
    assert "calibrated on held_out.tsv" in run(checkpoint, audio, "--phones", "kæts", "--calibration", elsewhere).stdout
    elsewhere.replace(file)
    assert "calibrated on held_out.tsv" in run(checkpoint, audio, "--phones", "kæts").stdout
    file.unlink()


def test_a_finished_run_of_phones_is_calibrated_by_itself(
    checkpoint: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On what its validation data say, whose phones are right; where they do not suffice, that is told and no more."""
    shutil.copytree(checkpoint, tmp_path / "run" / "model")
    write_sound(tmp_path / "b.wav", ". h . ə . l . oʊ . k . æ . t . s .", PHONES)
    given = [f"data.train.0.path={tmp_path}", f"data.valid.0.path={tmp_path / 'dev.tsv'}", "text.phonemes_given=true"]
    run_read = read_run(FinetuneRun, "ctc_phonemes", [*given, f"run.output={tmp_path / 'run'}"])
    file = tmp_path / "run" / "model" / "pronunciation_calibration.json"
    for clips in (1, 30):
        rows = ["path\ttranscript\tspeaker", *["b.wav\th ə l oʊ k æ t s\tanna"] * clips]
        (tmp_path / "dev.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        calibrate(run_read)
        assert file.is_file() == (clips > 1)
        told = capsys.readouterr().err
        assert ("warning: scores of pronunciation are not calibrated: " in told) == (clips == 1)
    assert "pronunciation: calibrated on dev.tsv: 30 recordings of 1 speaker, " in told
    assert "0 of 60 words that were said well are marked" in told  # four phones are taken for a word
    heard = run(tmp_path / "run" / "model", audio, "--phones", "həloʊ kæts").stdout
    assert "Say l, not k." in heard and "calibrated on dev.tsv" in heard
    gone = "gone.wav\th ə l oʊ k æ t s\tben"
    for bad, others in (("b.wav\th ə l oʊ ʒ\tben", 30), (gone, 30), (gone, 0)):
        (tmp_path / "dev.tsv").write_text("\n".join([rows[0], bad, *rows[1 : 1 + others]]) + "\n", encoding="utf-8")
        calibrate(run_read)
        told = capsys.readouterr().err
        assert ("without 1 of 31 recordings; the first of them: " in told) == (others > 0), told
        assert ("calibrated on dev.tsv: 30 recordings of 1 speaker, " in told) == (others > 0)
        assert ("gone.wav" in told) == (bad == gone) and ("scores of pronunciation are not calibrated: " in told) == (
            others == 0
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say with --text or --phones what was to be said"),
        (("--phones", "kæts", "--embed-audio"), "--embed-audio is for the page"),
        (("--phones", "pɪt"), "the model has no phone that 'pɪt'"),
        (("--text", " "), "the text is empty"),
        (("--phones", "kæts", "--text-language", "xx-yy", "--text", "a b"), "the text has 2 words and the phones 1"),
        (("--phones", "kæts" * 20), "80 phones need 80 of them at least"),
        (("--phones", "kæts", "--calibration", "gone.json"), "gone.json"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], message: str, checkpoint: Path, audio: Path, tmp_path: Path
) -> None:
    result = run(checkpoint, audio, *arguments)
    assert result.exit_code == 1 and result.stderr.startswith("pronounce: ") and message in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not result.stdout


def test_missing_audio_and_too_much_are_refused(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    assert "no such file" in run(checkpoint, tmp_path / "b.wav", "--phones", "kæts").stderr
    assert run(checkpoint, audio, "--calibrate", audio, "--phones", "kæts").exit_code == 2
    assert run(checkpoint, "--phones", "kæts").exit_code == 2
    assert "writes a calibration alone" in run(checkpoint, "--calibrate", audio, "--phones", "kæts").stderr


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_page_fits_a_telephone_and_plays_words(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    assert run(checkpoint, audio, "--phones", "həloʊ kæts", "--html", page, "--embed-audio").exit_code == 0
    with browsing(page.as_uri(), tmp_path) as tab:
        tab.wait("document.readyState === 'complete' && document.querySelector('script') !== null")
        for width in (1280, 360):
            tab.show(width, 800, mobile=width < 500)
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.run("document.querySelectorAll('.word').length") == 2
        tab.wait("document.querySelector('audio').readyState >= 3")
        tab.run("played = []; sound = document.querySelector('audio'); button = document.querySelectorAll('button')[1]")
        tab.run("sound.addEventListener('play', () => played.push(sound.currentTime)); button.click()")
        tab.wait("played.length && sound.paused")
        start, end = float(tab.run("button.dataset.start")), float(tab.run("button.dataset.end"))
        assert abs(tab.run("played[0]") - start) < 0.05 and abs(tab.run("sound.currentTime") - end) < 0.3
