"""`wav2vec2 tune`: the weights that Python finds, saved where `transcribe` and `evaluate` look for them."""

import json
import random
import shutil
from pathlib import Path

import pytest
from recognition_checkpoints import save_checkpoint, write_noise
from typer.testing import CliRunner, Result

from wav2vec2.command_line import progress
from wav2vec2.command_line.app import app
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.inference import Transcriber, Transcript
from wav2vec2.inference.tuning import as_spelled
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, noise, and texts that are what the model says with a letter in ten changed; and a language model of half
    their words, turned round, that should count less than it does by default."""
    folder = tmp_path_factory.mktemp("material")
    transcriber = Transcriber.from_pretrained(save_checkpoint(folder / "model"), device="cpu")
    draw, rows = random.Random(0), []
    for number in range(6):
        path = write_noise(folder / f"{number}.wav", 3.0, number)
        found = transcriber.transcribe(path)
        assert isinstance(found, Transcript)
        text = "".join(draw.choice("abcdefgh") if c != " " and draw.random() < 0.1 else c for c in found.text)
        rows.append(f"{path.name}\t{text}")
    (folder / "dev.tsv").write_text("path\ttranscript\n" + "\n".join(rows) + "\n")
    texts = [" ".join(word[::-1] for word in row.split("\t")[1].split()[::2]) for row in rows]
    NgramLanguageModel.train(texts, order=2, prune=(0,)).to_arpa(folder / "words.arpa")
    return folder


@pytest.fixture
def workplace(material: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(material, tmp_path / "workplace"))


def run(*arguments: object) -> Result:
    result: Result = RUNNER.invoke(app, ["tune", *map(str, arguments), "--device", "cpu"])
    return result


@pytest.mark.slow
def test_the_weights_are_those_of_python_and_are_found_again(workplace: Path) -> None:
    lm = workplace / "words.arpa"
    python = Transcriber.from_pretrained(workplace / "model", device="cpu", language_model=lm, beam=8)
    assert python.decoder is not None
    rows = [row.split("\t") for row in (workplace / "dev.tsv").read_text().splitlines()[1:]]
    log_probs = [python.log_probs(workplace / name)[0] for name, _ in rows]
    expected = python.decoder.tune(log_probs, [text for _, text in rows])
    assert expected.error_rate < expected.error_rate_before

    result = run("-m", workplace / "model", "-d", workplace / "dev.tsv", "--lm", lm, "--beam", 8)
    assert result.exit_code == 0, result.output
    assert f"alpha {expected.alpha:.2f}, beta {expected.beta:.2f}: " in result.stdout
    assert f"WER {expected.error_rate_before:.2%} -> {expected.error_rate:.2%} on the 6 recordings" in result.stdout
    found = Transcriber.from_pretrained(workplace / "model", device="cpu").decoder
    assert found is not None
    assert (found.weights, found.beam) == (python.decoder.weights, 8)
    assert found.calibration == python.decoder.calibration
    named = Transcriber.from_pretrained(workplace / "model", device="cpu", language_model=lm).decoder
    assert named is not None
    assert (named.weights, named.beam, named.calibration) == (found.weights, 8, found.calibration)
    another = workplace / "other.arpa"
    NgramLanguageModel.train(["abc abd", "acd"], order=2, prune=(0,)).to_arpa(another)
    other = Transcriber.from_pretrained(workplace / "model", device="cpu", language_model=another).decoder
    assert other is not None
    assert (other.weights, other.calibration) != (found.weights, found.calibration)
    evaluated = RUNNER.invoke(
        app,
        ["evaluate", "-m", str(workplace / "model"), "-d", str(workplace / "dev.tsv"), "--device", "cpu", "--json"],
    )
    decodings = json.loads(evaluated.stdout)["decodings"]
    assert decodings[-1]["wer"]["rate"] == pytest.approx(expected.error_rate)


@pytest.mark.slow
def test_another_folder_is_what_lm_is_given_then(workplace: Path, tmp_path: Path) -> None:
    """The model's folder stays as it is; what cannot be used is left out and listed."""
    before = sorted(path.name for path in (workplace / "model").iterdir())
    (workplace / "bad.wav").write_text("no audio")
    with (workplace / "dev.tsv").open("a") as manifest:
        manifest.write("bad.wav\tabc\n0.wav\t\n")
    arguments = ("-m", workplace / "model", "-d", workplace / "dev.tsv", "--lm", workplace / "words.arpa", "--beam", 4)
    result = run(*arguments, "-o", tmp_path / "decoder")
    assert result.exit_code == 1
    assert "tune: 2 recordings were left out:" in result.stderr
    assert "bad.wav: " in result.stderr
    assert "0.wav: no transcript" in result.stderr
    assert sorted(path.name for path in (workplace / "model").iterdir()) == before
    saved = CTCDecoder.from_pretrained(tmp_path / "decoder")
    used = Transcriber.from_pretrained(workplace / "model", device="cpu", language_model=tmp_path / "decoder").decoder
    assert used is not None
    assert (used.weights, used.beam) == (saved.weights, 4)
    again = run(*arguments[:4], "--lm", tmp_path / "decoder", "-o", tmp_path / "decoder")
    assert again.exit_code == 1
    assert "WER " in again.stdout  # starts from what was saved


def test_what_cannot_be_tuned_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = workplace / "model", workplace / "dev.tsv"
    (workplace / "silent.tsv").write_text("path\n0.wav\n")
    (workplace / "upper.tsv").write_text(
        data.read_text().upper().replace("PATH\tTRANSCRIPT", "path\ttranscript").replace(".WAV", ".wav")
    )
    lm = ["--lm", workplace / "words.arpa", "--beam", 2]
    for arguments, code, message in (
        (["-m", model, "-d", data], 1, "no language model is saved beside it"),
        (["-m", model, "-d", workplace / "silent.tsv", *lm], 1, "no recording has a transcript"),
        (["-m", model, "-d", workplace / "upper.tsv", *lm], 1, "Is upper or lower case mistaken?"),
        (["-m", model, "-d", workplace / "none.tsv", *lm], 2, "--data"),
        (["-m", "user/name", "-d", data, *lm], 1, "say with --output where the decoder is to be saved"),
        (["-m", model, "-d", data, *lm, "-o", "/proc/nothing"], 1, "--output /proc/nothing: cannot be written to"),
    ):
        result = run(*arguments)
        assert result.exit_code == code, result.output
        assert message in result.stderr
    assert not (model / "decoder.json").exists()


def test_how_long_it_takes_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    arguments = ("-m", workplace / "model", "-d", workplace / "dev.tsv", "--lm", workplace / "words.arpa", "--beam", 2)
    assert "tune: decoding, round 1 of 5 at most; 20% of the work in " in run(*arguments).stderr


def test_references_get_the_form_that_the_model_writes() -> None:
    upper = Wav2Vec2CTCTokenizer(
        {"<pad>": 0, "|": 1, "A": 2, "B": 3},
        unk_token=None,
        do_lower_case=True,
        normalization={"punctuation": "remove"},
    )
    assert as_spelled(upper)("ab, ba 7!").split() == ["AB", "BA", "7"]
    plain = Wav2Vec2CTCTokenizer({"<pad>": 0, "|": 1, "a": 2}, unk_token=None, normalization={"digits": "refuse"})
    assert as_spelled(plain)("Aa 7") == "Aa 7"
