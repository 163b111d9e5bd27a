"""`wav2vec2 align` over a manifest, from standard input, and with tiers of letters and of phones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recognition_checkpoints import TOKENS, save_checkpoint, talkative_model, write_noise
from textgrids import read_textgrid
from typer.testing import CliRunner, Result

from wav2vec2.alignment.aligned_words import align_words
from wav2vec2.command_line.app import app
from wav2vec2.inference import Transcriber
from wav2vec2.inference.aligning import align_recording
from wav2vec2.inference.listener import Launched, Listener
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import Wav2Vec2Processor

pytestmark = pytest.mark.slow

RUNNER = CliRunner()

#: One window of two seconds is a batch.
SMALL_BATCHES = {"window_seconds": 2.0, "context_seconds": 0.5, "batch_seconds": 2.0}


def test_a_folder_in_place_of_a_file_is_refused_first(checkpoint: Path, tmp_path: Path) -> None:
    audio = write_noise(tmp_path / "a.wav", 1.0)
    arguments = ["align", str(audio), "abc", "--model", str(checkpoint), "-o", str(tmp_path)]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 1
    assert f"--output {tmp_path}: is a folder; give the name of a file in it" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def run(checkpoint: Path, *arguments: object, given: bytes | None = None) -> Result:
    words = ["align", *map(str, arguments), "--model", str(checkpoint)]
    words += [] if "--device" in words else ["--device", "cpu"]
    result: Result = RUNNER.invoke(app, words, input=given)
    return result


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four recordings, of which one is no audio and one has no text; one lies elsewhere."""
    folder = tmp_path / "data"
    for number, name in enumerate(("clips/a.wav", "clips/b.wav", "silence.wav", "../elsewhere/a.wav")):
        write_noise(folder / name, 2.0, number)
    (folder / "bad.wav").write_text("no audio")
    rows = ["clips/a.wav\tabc de", "clips/b.wav\tfgh", "bad.wav\tabc", "silence.wav\t", "../elsewhere/a.wav\tcab"]
    (folder / "test.tsv").write_text("path\ttranscript\n" + "\n".join(rows) + "\n")
    return folder / "test.tsv"


def test_one_bad_recording_never_stops_the_rest(checkpoint: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(checkpoint, "--data", manifest, "-o", out, "-f", "textgrid")
    assert result.exit_code == 1
    end = result.stderr[result.stderr.index("2 of 5 recordings failed:") :]
    assert "bad.wav: " in end
    assert "silence.wav: the transcript is empty" in end
    assert result.stderr.count("bad.wav") == 1
    assert sorted(str(path.relative_to(tmp_path)) for path in out.rglob("*.*")) == [
        "out/a.TextGrid",
        "out/clips/a.TextGrid",
        "out/clips/b.TextGrid",
    ]
    alone = run(checkpoint, manifest.parent / "clips" / "a.wav", "abc de", "-f", "textgrid")
    assert (out / "clips" / "a.TextGrid").read_text("utf-8") == alone.stdout

    write_noise(manifest.parent / "bad.wav", 1.0)
    again = run(checkpoint, "--data", manifest, "-o", out, "-f", "textgrid")
    assert "3 of 5 are finished" in again.stderr
    assert (out / "bad.TextGrid").is_file()
    assert "1 of 2 recordings failed" in again.stderr


def test_ctrl_c_keeps_what_is_finished(
    checkpoint: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch of one recording each is never computed; the first is written all the same."""
    launch, calls = Listener.launch, []

    def stopped(listener: Listener, windows: list[Any]) -> Launched:
        calls.append(len(windows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return launch(listener, windows)

    monkeypatch.setattr(Listener, "launch", stopped)
    load = Transcriber.from_pretrained
    monkeypatch.setattr(Transcriber, "from_pretrained", lambda *given, **more: load(*given, **more | SMALL_BATCHES))
    result = run(checkpoint, "--data", manifest, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert "align: stopped; 1 of 5 are finished, and the same command does the rest" in result.stderr
    assert [path.name for path in (tmp_path / "out").rglob("*.json")] == ["a.json"]
    assert calls == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "test.tsv"], "--data with --output"),
        (["clips/a.wav"], "give AUDIO and TEXT"),
        ([], "give AUDIO and TEXT"),
        (["--data", "none.tsv", "-o", "out"], "--data"),
        (["-", "-"], "only one of them can be standard input"),
        (["--data", "twice.tsv", "-o", "out"], "listed twice"),
        (["--data", "silent.tsv", "-o", "out"], "no recording has a transcript"),
        (["no.wav", "abc"], "no.wav: no such file"),
        (["clips/a.wav", "abc", "--device", "gpu"], "--device gpu: there is none here"),
        (["clips/a.wav", "abc", "--language", "eng"], "is a model of one language"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_loaded(
    checkpoint: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(Transcriber, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    monkeypatch.chdir(manifest.parent)
    Path("twice.tsv").write_text("path\ttranscript\nclips/a.wav\tabc\nclips/a.wav\tabc\n")
    Path("silent.tsv").write_text("path\nclips/a.wav\n")
    result = run(checkpoint, *arguments)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_standard_input_is_the_audio_or_the_text(checkpoint: Path, manifest: Path) -> None:
    audio = manifest.parent / "clips" / "a.wav"
    expected = json.loads(run(checkpoint, audio, "abc de").stdout)
    assert json.loads(run(checkpoint, audio, "-", given=b"abc de\n").stdout) == expected
    piped = json.loads(run(checkpoint, "-", "abc de", given=audio.read_bytes()).stdout)
    assert piped == expected | {"recording": "stdin"}


def test_letters_have_times_inside_their_words(checkpoint: Path, manifest: Path) -> None:
    audio = manifest.parent / "clips" / "a.wav"
    content = json.loads(run(checkpoint, audio, "Abc 42 de").stdout)
    assert [[one["text"] for one in word.get("characters", [])] for word in content["words"]] == [
        ["a", "b", "c"],
        [],
        ["d", "e"],
    ]
    for word in content["words"]:
        for letter in word.get("characters", []):
            assert word["start"] <= letter["start"] < letter["end"] <= word["end"]
    total, tiers = read_textgrid(run(checkpoint, audio, "Abc 42 de", "-f", "textgrid").stdout)
    assert set(tiers) == {"words", "confidence", "characters"}
    assert [text for _, _, text in tiers["characters"] if text] == list("abcde")
    for rows in tiers.values():
        assert (rows[0][0], rows[-1][1]) == (0.0, total)
        assert all(before[1] == after[0] for before, after in zip(rows, rows[1:], strict=False))


def test_the_parts_of_a_word_are_the_spans_of_its_tokens() -> None:
    """Planted frames: each part is where its token was put, whatever a word's tokens are called."""
    vocabulary = ["<pad>", "|", "h", "aɪ", "ʃ"]
    path = [0, 2, 2, 3, 1, 0, 4, 3, 3, 1, 2, 0]
    log_probs = torch.full((len(path), 5), 0.01).scatter_(1, torch.tensor(path)[:, None], 0.96).log()
    words = align_words(log_probs, ["hi", "shy", "x"], vocabulary, pronunciations=[["h", "aɪ"], ["ʃ", "aɪ"], ["?"]])
    samples = [[(round(part.start * 16000), round(part.end * 16000)) for part in word.parts] for word in words]
    frames = [[(1, 3), (3, 4)], [(6, 7), (7, 9)], []]
    assert samples == [[(320 * first + 40, 320 * end + 40) for first, end in word] for word in frames]
    assert [[part.text for part in word.parts] for word in words] == [["h", "aɪ"], ["ʃ", "aɪ"], []]
    assert [word.aligned for word in words] == [True, True, False]
    with pytest.raises(ValueError, match="1 for 2 words"):
        align_words(log_probs, ["a", "b"], vocabulary, pronunciations=[["h"]])


def phone_recogniser(folder: Path, phonemize: bool) -> Path:
    """The same random model, whose tokens are phones."""
    phones = ["<pad>", "<unk>", "|", "h", "ə", "l", "oʊ", "k", "æ", "t", "s"]
    assert len(phones) == len(TOKENS)
    tokenizer = Wav2Vec2PhonemeCTCTokenizer(
        {phone: number for number, phone in enumerate(phones)}, do_phonemize=phonemize, bos_token=None, eos_token=None
    )
    talkative_model().save_pretrained(folder)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def test_phones_are_a_tier_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the extra 'phonemes' is not installed")
    audio = write_noise(tmp_path / "a.wav", 3.0)
    folder = phone_recogniser(tmp_path / "model", phonemize=True)
    content = json.loads(run(folder, audio, "Hello, cats").stdout)
    assert [(word["text"], [phone["text"] for phone in word["phones"]]) for word in content["words"]] == [
        ("Hello,", ["h", "ə", "l", "oʊ"]),
        ("cats", ["k", "æ", "t", "s"]),
    ]
    _, tiers = read_textgrid(run(folder, audio, "Hello, cats", "-f", "textgrid").stdout)
    assert [text for _, _, text in tiers["phones"] if text] == ["h", "ə", "l", "oʊ", "k", "æ", "t", "s"]


def test_a_text_of_phones_needs_no_espeak(tmp_path: Path) -> None:
    audio = write_noise(tmp_path / "a.wav", 3.0)
    content = json.loads(run(phone_recogniser(tmp_path / "model", phonemize=False), audio, "k æ t").stdout)
    assert [[phone["text"] for phone in word["phones"]] for word in content["words"]] == [["k"], ["æ"], ["t"]]


@pytest.mark.parametrize("strict", [True, False])
def test_unknown_characters_are_guesses_whatever_the_tokenizer_does_with_them(strict: bool) -> None:
    """A star, and never the tokenizer's unknown token, even where a text spells that out."""
    tokenizer = Wav2Vec2CTCTokenizer(
        {token: number for number, token in enumerate(TOKENS)}, strict=strict, bos_token=None, eos_token=None
    )
    transcriber = Transcriber(talkative_model(), Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer))
    sound = np.random.default_rng(0).normal(0, 0.1, 32000).astype("float32")
    words, duration = align_recording(transcriber, (sound, 16000), "abc <unk> 7 de")
    assert duration == 2.0
    assert [word.text for word in words] == ["abc", "<unk>", "7", "de"]
    assert [len(word.parts) for word in words] == [3, 0, 0, 2]
    assert [word.aligned for word in words][1:3] == [False, False]
