"""`Transcript` as a file: the ending says what it becomes."""

import json
from pathlib import Path

import pytest

from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference import Transcript
from wav2vec2.inference.subtitle_formats import render

WORDS = [Word("naïve", 0.1, 0.4, 0.9), Word("art", 1.0, 1.5, 0.5)]
TRANSCRIPT = Transcript("in/talk.wav", "naïve art", WORDS, duration=2.0)


def test_the_ending_says_what_is_written(tmp_path: Path) -> None:
    for ending in ("txt", "json", "jsonl", "srt", "vtt", "TSV"):
        TRANSCRIPT.save(tmp_path / "new folder" / f"talk.{ending}")
    written = {path.suffix: path.read_text("utf-8") for path in (tmp_path / "new folder").iterdir()}
    assert written[".txt"] == "naïve art\n"
    assert written[".srt"] == render(WORDS, "srt", "talk", 2.0)
    assert written[".vtt"] == render(WORDS, "vtt", "talk", 2.0)
    assert written[".TSV"].splitlines() == [
        "start\tend\tconfidence\ttext",
        "0.100\t0.400\t0.9000\tnaïve",
        "1.000\t1.500\t0.5000\tart",
    ]
    assert len(written[".jsonl"].splitlines()) == 1
    content = json.loads(written[".json"])
    assert content == json.loads(written[".jsonl"])
    assert content["words"][1] == {"text": "art", "start": 1.0, "end": 1.5, "confidence": 0.5}


def test_what_cannot_be_saved_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    for transcript, name, message in (
        (TRANSCRIPT, "talk.doc", "'doc' is no format of transcripts: take one of txt, json"),
        (TRANSCRIPT, "talk", "no format"),
        (Transcript("a.wav", "text without times", duration=1.0), "talk.srt", "transcribe with timestamps='word'"),
        (Transcript("a.wav", error="a.wav: silent"), "talk.txt", "no transcript to save: a.wav: silent"),
    ):
        with pytest.raises(ValueError, match=message):
            transcript.save(tmp_path / "new" / name)
    assert list(tmp_path.iterdir()) == []
