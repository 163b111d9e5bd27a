"""Worker processes: what they load, how they read the plan, and that they end when the training process does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worker_probe
from worker_probe import Memory, Slow, batches_of, data_of

from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.worker_processes import SharedPickle
from wav2vec2.training.settings.run_config import DataSection, Source

TESTS = Path(worker_probe.__file__).parent

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals and descriptors of POSIX")]

BEGIN = """
import sys, os, time, signal
from pathlib import Path
import transformers, accelerate, wav2vec2.modeling  # as a script may, at its top: workers do not import it again
sys.path.insert(0, {tests!r})
from worker_probe import Loaded, Slow, batches_of, data_of
"""


def script(folder: Path, body: str) -> list[str]:
    """A command that runs `body` as the main program of a process of its own."""
    path = folder / "script.py"
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    path.write_text(BEGIN.format(tests=str(TESTS)) + f"if __name__ == '__main__':\n{lines}", encoding="utf-8")
    return [sys.executable, str(path), str(folder)]


@pytest.mark.slow
def test_a_worker_has_neither_transformers_nor_a_model(tmp_path: Path) -> None:
    """Whatever the task is, and whatever the script imports that is the main program. Signals do not reach it, from its
    first instant on."""
    body = (
        "from wav2vec2 import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, build_vocabulary\n"
        "from wav2vec2.configuration import presets\n"
        "from wav2vec2.training.tasks.classification_task import SpeakerTask\n"
        "from wav2vec2.training.tasks.ctc_task import CTCTask\n"
        "from wav2vec2.training.tasks.pretraining_task import PretrainingTask\n"
        "config, e = presets.base(), Wav2Vec2FeatureExtractor()\n"
        "tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(build_vocabulary(['a b']))\n"
        "tasks = PretrainingTask(config, e, 1), CTCTask(config, e, tokenizer, 1), SpeakerTask(config, e, 'ab', 1)\n"
        "for number, task in enumerate(tasks):\n"
        "    batches = batches_of(data_of(Path(sys.argv[1]) / str(number), 2), Loaded(task.waveforms))\n"
        "    first, second = [next(batches).inputs for _ in range(2)]\n"
        "    batches.close()\n"
        "    print([bytes(one['loaded'].tolist()).decode() for one in (first, second)], end=' ')\n"
        "    print(first['blocked'].tolist(), second['blocked'].tolist())\n"
    )
    done = subprocess.run(script(tmp_path, body), capture_output=True, text=True, timeout=120)
    deaf_to = [int(one) for one in sorted((signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))]
    assert (done.returncode, done.stdout) == (0, f"['', ''] {deaf_to} {deaf_to}\n" * 3), done.stderr


def alive(processes: Sequence[int]) -> list[int]:
    """Those that have not ended."""
    return [pid for pid in processes if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """By whatever: the kernel's out-of-memory killer asks no one. They would wait for work for ever."""
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc to see them")
    body = (
        "batches = batches_of(data_of(Path(sys.argv[1]), 2), Slow(0.01))\n"
        "print(*(int(next(batches).inputs['process']) for _ in range(2)), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(script(tmp_path, body), stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    workers = [int(word) for word in done.stdout.split()]
    assert len(set(workers)) == 2
    end = time.monotonic() + 20
    while alive(workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive(workers) == []


def test_closing_waits_for_no_worker(tmp_path: Path) -> None:
    """Three of them are in the middle of a batch that takes a minute."""
    batches = batches_of(data_of(tmp_path, 3), Slow(60))
    with closing(batches):
        workers = [int(next(batches).inputs["process"]) for _ in range(3)]
        begun = time.monotonic()
    assert time.monotonic() - begun < 3 and len(set(workers)) == 3
    assert alive(workers) == []


def test_closing_needs_no_lock_that_a_killed_worker_held(tmp_path: Path) -> None:
    """A worker looks at an event of the DataLoader before each batch, and may be killed while it holds its lock."""
    batches: Any = batches_of(data_of(tmp_path, 1), Slow(0.01))
    next(batches)
    event = batches.gi_frame.f_locals["iterator"]._workers_done_event
    assert event._cond.acquire(timeout=20)
    closes = threading.Thread(target=batches.close, daemon=True)
    closes.start()
    closes.join(20)
    assert not closes.is_alive()
    event._cond.release()


def test_a_stop_takes_seconds_beside_the_checkpoint(tmp_path: Path) -> None:
    """From SIGTERM at the beginning of an update to the end of the process: the update, and that all workers and the
    interpreter end."""
    body = (
        "from unittest.mock import patch\n"
        "from pretraining_runs import recipe, train_until, write_clips\n"
        "from wav2vec2.training.saving.checkpoints import Checkpoints\n"
        "kill, save = os.kill, Checkpoints.save\n"
        "def told(*arguments):\n"
        "    print('signal', time.monotonic(), flush=True)\n"
        "    kill(*arguments)\n"
        "def timed(*arguments):\n"
        "    begun = time.monotonic()\n"
        "    save(*arguments)\n"
        "    print('saved', time.monotonic() - begun, flush=True)\n"
        "folder = Path(sys.argv[1])\n"
        "audio = write_clips(folder / 'clips', [0.9 + 0.01 * number for number in range(40)])\n"
        "values = recipe(folder / 'run', audio, run__updates=500, data__workers=6)\n"
        "with patch('os.kill', told), patch.object(Checkpoints, 'save', timed):\n"
        "    train_until(values, 3, signal.SIGTERM)\n"
    )
    said = tmp_path / "said"
    with said.open("w") as file:  # a pipe would be open until the last of its helpers has ended
        done = subprocess.run(script(tmp_path, body), stdout=file, timeout=120)
    ended = time.monotonic()
    assert done.returncode == 0
    lines = [line.split() for line in said.read_text().splitlines() if line.startswith(("signal", "saved"))]
    signalled = next(float(number) for word, number in lines if word == "signal")
    saved = [float(number) for word, number in lines if word == "saved"]
    assert len(saved) == 1
    assert ended - signalled - saved[0] < 3, lines


def test_the_plan_of_many_clips_is_sent_to_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 clips: what goes through a worker's pipe fits into it, so that all workers are started before any has
    read what it is to do; and in a worker they take no memory that it does not share."""
    sent: list[int] = []
    dump = reduction.dump

    def counted(value: Any, file: Any, protocol: int | None = None) -> None:
        dump(value, file, protocol)
        sent.append(file.tell())

    monkeypatch.setattr(reduction, "dump", counted)
    used = {}
    for clips in (200, 200_000):
        lines = ["path\tduration\ttranscript", *(f"folder/{n}.wav\t{2 + n % 97 / 10}\tTEXT {n}" for n in range(clips))]
        folder = tmp_path / str(clips)
        folder.mkdir()
        (folder / "manifest.tsv").write_text("\n".join(lines), encoding="utf-8")
        section = DataSection(
            train=[Source(str(folder / "manifest.tsv"))], workers=2, cache=str(tmp_path), seconds_per_update=300.0
        )
        with closing(batches_of(TrainingData(section, 1), Memory())) as batches:
            found: list[Batch] = [next(batches) for _ in range(2)]
        assert all("No such file" in one.reason for batch in found for one in batch.skipped)
        used[clips] = max(int(batch.inputs["own_bytes"]) for batch in found)
    assert len(sent) == 2 * 2 * 2 and max(sent) < 16_000  # of each worker, how to begin and what to do
    assert used[200_000] - used[200] < 60e6  # a round of batches; as objects, texts and paths alone took 140 MB


def test_a_pickle_is_written_once_and_shared() -> None:
    """What comes out in another process is equal; arrays are read from the file, and cannot be changed."""
    value: dict[str, Any] = {
        "seconds": np.arange(100_000, dtype=np.float64),
        "names": ["a", "ü"] * 3,
        "empty": np.zeros(0),
    }
    shared: Any = SharedPickle(value)
    code = (
        "import sys, os, pickle\nfrom wav2vec2.training.data.worker_processes import read_pickle\n"
        "value = read_pickle(int(sys.argv[1]))\n"
        "try:\n    value['seconds'][0] = 1\nexcept ValueError:\n    print(value['seconds'].sum(), value['names'])\n"
    )
    for _ in range(2):  # each reader from the beginning
        done = subprocess.run(
            [sys.executable, "-c", code, str(shared.file.fileno())],
            pass_fds=[shared.file.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == f"{value['seconds'].sum()} {value['names']}\n", done.stderr
    shared.file.close()
    assert not shared.names("worker_probe")
    other = SharedPickle(Slow(1))
    other.file.close()
    assert other.names("worker_probe")
