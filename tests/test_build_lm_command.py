"""`wav2vec2 build-lm` while it works: how far it is, what a stop leaves, what is wrong with what it is given."""

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ngram_models import zipf_sentences
from typer.testing import CliRunner

from wav2vec2.command_line import progress
from wav2vec2.command_line.app import app
from wav2vec2.language_models.kneser_ney import train_compact
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

RUNNER = CliRunner()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(zipf_sentences(20_000, 500, seed=1)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_every_step_is_told_and_the_share_only_grows(tmp_path: Path, corpus: Path, packed: bool) -> None:
    texts = [corpus, corpus]
    if packed:
        texts[1] = tmp_path / "corpus.gz"
        texts[1].write_bytes(gzip.compress(corpus.read_bytes()))
    told: list[tuple[str, float]] = []
    train_compact(texts, tmp_path / "lm", order=3, memory=2 << 20, tell=lambda *what: told.append(what))
    steps = list(dict.fromkeys(step for step, _ in told))
    assert steps == ["reading the text", "sorting 2-grams", "sorting 3-grams", "estimating"]
    assert all(before[1] <= after[1] for before, after in pairwise(told))
    assert (told[0][1], told[-1][1]) == (0.0, 1.0)
    reading = [share for step, share in told if step == "reading the text"]
    assert len(set(reading)) > 5  # a share that moves, in plain files and packed ones
    assert reading[-1] == pytest.approx(next(share for step, share in told if step == "sorting 2-grams"), rel=0.15)


def test_a_text_so_small_that_an_order_is_pruned_away_is_told(tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text("abc de fgh\nde abc\n")
    arguments = ["build-lm", str(tmp_path / "small.txt"), "-o", str(tmp_path / "lm"), "--order", "3"]
    pruned = RUNNER.invoke(app, arguments)
    assert "build-lm: no 3-grams are left: --prune 0,0,1 takes" in pruned.stderr
    whole = RUNNER.invoke(app, [*arguments, "--prune", "0"])
    assert "are left" not in whole.stderr and "0 3-grams" not in whole.stdout


def test_lines_and_a_bar(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    arguments = ["build-lm", str(corpus), "-o", str(tmp_path / "new" / "lm"), "--order", "3"]
    lines = RUNNER.invoke(app, arguments)
    assert lines.exit_code == 0, lines.output
    assert "build-lm: reading the text; " in lines.stderr
    assert "% of the work in 0 seconds: " in lines.stderr
    assert "3-grams" in lines.stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    bar = RUNNER.invoke(app, arguments)
    assert "estimating" in bar.stderr
    assert "100 %" in bar.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["words.lm", "words.arpa.gz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_stop_leaves_nothing_and_says_so(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, name: str
) -> None:
    """At any time; an older model under that name stays."""
    train: Any = NgramLanguageModel.train

    def stopped(step: str, done: float) -> None:
        if done >= share:
            raise KeyboardInterrupt

    monkeypatch.setattr(NgramLanguageModel, "train", lambda *arguments: train(*arguments[:-1], stopped))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("older")
    result = RUNNER.invoke(app, ["build-lm", str(corpus), "-o", str(tmp_path / "out" / name)])
    assert result.exit_code == 130
    assert f"build-lm: stopped; {tmp_path / 'out' / name} was not written, and nothing is left" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == "older"


@pytest.mark.slow
def test_ctrl_c_itself(tmp_path: Path) -> None:
    """A real signal, once there is something in its temporary folder."""
    (tmp_path / "corpus.txt").write_text("\n".join(zipf_sentences(60_000, 20_000, seed=2)))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "wav2vec2", "build-lm", str(tmp_path / "corpus.txt"), "-o", str(out / "lm")]
    # what a shell starts in the background ignores Ctrl-C, and so would its children
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    until = time.monotonic() + 60
    while not (out.is_dir() and any(out.glob("*/*"))):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, list(out.iterdir())) == (130, []), errors
    assert "build-lm: stopped; " in errors
    assert "Traceback" not in errors


def test_what_is_wrong_is_said_with_its_option(tmp_path: Path) -> None:
    missing = RUNNER.invoke(app, ["build-lm", str(tmp_path / "nofile.txt"), "-o", str(tmp_path / "lm")])
    assert missing.exit_code == 2
    assert "nofile.txt" in re.sub(r"[│\s]", "", missing.stderr)
    assert "texts" in missing.stderr.lower()
    (tmp_path / "text").write_text("a b")
    if os.path.exists("/proc/version"):
        result = RUNNER.invoke(app, ["build-lm", str(tmp_path / "text"), "-o", "/proc/nothing/lm"])
        assert result.exit_code == 1
        assert "build-lm: --output /proc/nothing: cannot be written to" in result.stderr
