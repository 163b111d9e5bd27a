"""The studies of what is built with the model, from audio to their figures, at a size of seconds."""

import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from training_audio import encoded, write_parquet

from wav2vec2.pronunciation.asked_for import AskedWord

pytestmark = pytest.mark.slow

STUDIES = Path(__file__).parents[1] / "examples" / "studies"


@pytest.fixture
def run_edited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Run a study as a reader would who has changed the constants at its top; results are below `tmp_path`."""
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(STUDIES))
    (tmp_path / "results").mkdir()

    def run(script: str, arguments: list[Any], changes: dict[str, str]) -> None:
        code = (STUDIES.parent / script).read_text(encoding="utf-8")
        for before, after in changes.items():
            assert code.count(before) == 1, before
            code = code.replace(before, after)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        exec(compile(code, script, "exec"), {"__name__": "__main__", "__file__": str(tmp_path / "study.py")})

    yield run
    torch.set_num_threads(threads)
    AcceleratorState._reset_state()


def clip(seed: int) -> dict[str, Any]:
    return {"bytes": encoded(seed, 1.2, "FLAC"), "path": f"{seed}.flac"}


def test_coffee_orders(tmp_path: Path, run_edited: Any) -> None:
    """Five networks and the most frequent answer; what is done is not done again."""
    rows: list[dict[str, object]] = [
        {"id": f"pv_intent/{number}", "audio": clip(number), "duration": 1.2} for number in range(12)
    ]
    speech = tmp_path / "speech"
    write_parquet(speech / "train-0.parquet", rows[:10])
    write_parquet(speech / "valid.parquet", rows[10:])
    lines = [f"{row['id']}\torderDrink\t{json.dumps({'size': 'small'})}" for row in rows]
    (speech / "intent_slots.tsv").write_text("\n".join(["id\tintent\tslots", *lines]) + "\n", encoding="utf-8")
    for _ in range(2):
        arguments = [speech, "--work", tmp_path / "work", "--seeds", 1, "--updates", 2]
        run_edited("studies/coffee_orders.py", arguments, {"UPDATES = 16000, 48, 400": "UPDATES = 16000, 3, 400"})
    majority, *found = json.loads((tmp_path / "results" / "coffee_orders.json").read_text(encoding="utf-8"))
    assert majority["slot_f1"] == 100.0
    kinds = ["wav2vec 2.0 small", "CRNN", "YAMNet-like", "wav2vec 2.0 small, CTC with marks", "CRNN, CTC with marks"]
    assert [(one["kind"], one["seed"], one["updates"]) for one in found] == [(kind, 1, 2) for kind in kinds]
    marked = (tmp_path / "work" / "train_marked.tsv").read_text(encoding="utf-8").splitlines()
    assert len(marked) == 7 and all(line.endswith("\t<size>small</size>") for line in marked[1:])


def test_command_words(tmp_path: Path, run_edited: Any) -> None:
    """Speakers are in one part alone."""
    words = ["bed", "cat", "happy"]
    rows: list[dict[str, object]] = [
        {"id": f"speech_commands/{number}", "audio": clip(number), "duration": 1.2, "speaker": f"s{number}"}
        | {"source": "speech_commands", "transcript": words[number % 3]}
        for number in range(24)
    ]
    write_parquet(tmp_path / "speech" / "train-0.parquet", rows)
    arguments = ["run", "--data", tmp_path / "speech", "--work", tmp_path / "work", "--part", "words"]
    arguments += ["--seeds", 1, "--updates", 2, "--network", "wav2vec 2.0, small", "CRNN"]
    for _ in range(2):
        run_edited("studies/command_words.py", arguments, {"(240, 90, 300)": "(12, 6, 6)"})
    found = json.loads((tmp_path / "results" / "command_words.json").read_text(encoding="utf-8"))
    assert [one["network"] for one in found] == ["wav2vec 2.0, small", "CRNN"]
    assert all(one["trained_on"] == 12 and 0 <= one["accuracy"] <= 1 for one in found)
    assert "| words | 12, 6 |" in (tmp_path / "results" / "command_words.md").read_text(encoding="utf-8")


def test_readers_phones(tmp_path: Path, run_edited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a reader's sentences to errors of phones, and to what is told where another was asked for."""
    pytest.importorskip("espeakng_loader")
    import labelled_speech

    for name in ("TEST_SENTENCES", "DEVELOPMENT_SENTENCES"):
        monkeypatch.setattr(labelled_speech, name, 12)
    words = ("red", "big", "sad", "old", "shy"), ("cat", "dog", "bee", "fox", "hen", "cow"), ("ran", "sat", "ate")
    texts = [" ".join(three) for three in itertools.product(*words)]
    rows: list[dict[str, object]] = [
        {"id": f"kathleen/{number}", "audio": clip(number), "duration": 1.2, "speaker": "kathleen", "transcript": text}
        for number, text in enumerate(texts)
    ]
    write_parquet(tmp_path / "data" / "speech" / "train-0.parquet", rows)
    arguments = ["--data", tmp_path / "data", "--work", tmp_path / "work", "--tasks", "english"]
    changes = {'["run.updates=3200"]': '["run.updates=2", "run.evaluate_every=2", "data.max_bad_share=1"]'}
    for _ in range(2):
        run_edited("studies/readers_phones.py", [*arguments, "--recipes", "ctc_crnn"], changes)
    found = json.loads((tmp_path / "results" / "readers_phones.json").read_text(encoding="utf-8"))["english ctc_crnn"]
    assert found["right words"] == 36 and found["asked otherwise"] == 12 and found["phone error rate"][0] > 0.5
    import readers_phones

    others = readers_phones.confused({"k": 5, "ɡ": 6, "æ": 7, "t": 8})  # of æ and t the other of each pair is missing
    assert others == {5: [6], 6: [5]}
    asked = [AskedWord("at", (7, 8)), AskedWord("cat", (5, 7, 8))]
    assert readers_phones.otherwise(asked, others, random.Random(0)) == ([asked[0], AskedWord("cat", (6, 7, 8))], 2, 5)
    page = (tmp_path / "results" / "readers_phones.md").read_text(encoding="utf-8")
    assert "| kathleen (english) | `ctc_crnn` | 1 | " in page


def test_planted_errors(tmp_path: Path, run_edited: Any) -> None:
    """From sentences of a reader to how well each kind of planted error is found."""
    pytest.importorskip("espeakng_loader")
    one = ("the", "a", "some", "every"), ("old", "small", "green", "quiet"), ("horse", "river", "garden", "window")
    texts = [f"{first} {second} {third} was here today" for first in one[0] for second in one[1] for third in one[2]]
    rows: list[dict[str, object]] = [
        {"id": f"kathleen/{number}", "audio": clip(number), "duration": 1.2, "speaker": "kathleen"}
        | {"source": "kathleen", "language": "en", "transcript": text}
        for number, text in enumerate(texts)
    ]
    write_parquet(tmp_path / "data" / "speech" / "train-0.parquet", rows)
    changes = {
        "TRAINING = 40, 15, 60, 12": "TRAINING = 4, 4, 3, 12",
        '"run.report=false"]': '"run.report=false", "run.updates=2", "run.evaluate_every=2", "run.save_every=2"]',
        "in enumerate(map(american, TRAINING_VOICES))": "in enumerate(map(american, TRAINING_VOICES[:6]))",
    }
    run_edited("studies/planted_errors.py", [tmp_path / "data", tmp_path / "work"], changes)
    found = json.loads((tmp_path / "results" / "planted_errors.json").read_text(encoding="utf-8"))
    tested = (tmp_path / "work" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert set(found) == {"recipe"} and found["recipe"]["utterances"] == len(tested) > 12
    assert "right words flagged, calibrated" in found["recipe"]
