"""A run that saves after every update is killed twenty times, on a disk that is full now and then.

Instants are counted in events, not in seconds: a slow or busy machine kills at the same ones.
"""

import random
import signal
from pathlib import Path
from typing import Any

import pytest
from pretraining_runs import RANDOM, assert_same_run, last_checkpoint, recipe, run, start, write_clips

from wav2vec2.training.saving.checkpoint_folders import problem_with, update_of

pytestmark = pytest.mark.slow

KILLS = 20
UPDATES = 45

#: Kills are at the first, second ... of so many events after a checkpoint; an update with its checkpoint has as many.
EVENTS = 15


@pytest.mark.parametrize("workers", [1])
def test_twenty_kills_at_any_instant_cost_nothing_saved(workers: int, tmp_path: Path) -> None:
    """What was saved before a kill is there after it; the end is bit-equal."""
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
    instants = [*range(1, EVENTS + 1), *chance.choices(range(1, EVENTS + 1), k=KILLS - EVENTS)]
    chance.shuffle(instants)
    while_saving = 0
    for kill, event in enumerate(instants):
        process = start(broken, 1, "train_until_killed", values, kill, 0.02, event)[0]
        assert process.wait() == -signal.SIGKILL, process.said()[-2000:]
        while_saving += bool(list((broken / "checkpoints").glob(".*")))
        before, saved = saved, newest(broken)
        assert saved > before  # the one after which the events were counted
    assert 0 < while_saving < KILLS
    assert "could not be written" in broken.with_suffix(".stderr").read_text(encoding="utf-8")
    run(values)
    assert update_of(last_checkpoint(broken)) == UPDATES
    assert_same_run(straight, broken)


def newest(folder: Path) -> int:
    """The update of the newest checkpoint that is whole."""
    found = [(update_of(path) or 0, path) for path in (folder / "checkpoints").glob("update-*")]
    return max((update for update, path in found if problem_with(path, contents=False) is None), default=0)
