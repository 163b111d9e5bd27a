"""A run that saves after every update is killed twenty times, on a disk that is full now and then."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import warm_processes
from pretraining_runs import RANDOM, assert_same_run, last_checkpoint, recipe, run, start, write_clips

from wav2vec2.training.saving.checkpoint_folders import problem_with, update_of

KILLS = 20
UPDATES = 45


@pytest.mark.parametrize("workers", [1])
def test_twenty_kills_at_any_instant_cost_nothing_saved(workers: int, tmp_path: Path) -> None:
    """What was the newest checkpoint before a kill, or a newer one, is there after it; the end is bit-equal."""
    audio = write_clips(tmp_path / "clips", [0.5 + 0.02 * n for n in range(12)])
    often: dict[str, Any] = {
        "model__config": RANDOM,
        "data__seconds_per_update": 2.0,
        "data__workers": workers,
        "run__updates": UPDATES,
        "run__save_every": 1,
        "run__keep_best": 0,
    }
    straight = run(recipe(tmp_path / "straight", audio, **often))
    values = recipe(tmp_path / "broken", audio, **often)
    broken, chance, saved = tmp_path / "broken", random.Random(4), 0
    while_saving = 0
    for kill in range(KILLS):
        process = start(broken, 1, "train_on_a_full_disk", values, kill, 0.02)[0]
        # at least one checkpoint further, or until the end; then at any instant within an update
        end = time.monotonic() + 60
        while newest(broken) <= saved and process.wait(0) is None and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        before = newest(broken)
        process.kill()
        status = process.wait()
        warm_processes.server("pretraining_runs", "datasets").end_orphans()
        assert status in (-9, 0, 1), process.said()[-2000:]
        left = list((broken / "checkpoints").glob(".*")) if (broken / "checkpoints").exists() else []
        while_saving += bool(left)
        saved = newest(broken)
        assert saved >= before
    assert while_saving, "no kill met a checkpoint being written: the test would show nothing"
    assert "could not be written" in broken.with_suffix(".stderr").read_text(encoding="utf-8")
    run(values)
    assert update_of(last_checkpoint(broken)) == UPDATES
    assert_same_run(straight, broken)


def newest(folder: Path) -> int:
    """The update of the newest checkpoint that is whole."""
    found = [(update_of(path) or 0, path) for path in (folder / "checkpoints").glob("update-*")]
    return max((update for update, path in found if problem_with(path, contents=False) is None), default=0)
