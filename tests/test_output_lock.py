"""Two runs cannot write into one folder."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from pretraining_runs import recipe

from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.pretraining import pretrain
from wav2vec2.training.run_output import StartError, take_output
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import PretrainRun

HOLD = """
import sys, time
from pathlib import Path
from wav2vec2.training.run_output import take_output
held = take_output(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_has_ended_in_whatever_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StartError, match="another run is at work"):
            take_output(tmp_path / "out")
        other.kill()
        other.wait()
    mine = take_output(tmp_path / "out")
    assert mine is not None
    mine.close()


def test_a_folder_is_free_again_when_the_file_is_closed(tmp_path: Path) -> None:
    for _ in range(2):
        held = take_output(tmp_path)
        assert held is not None
        with pytest.raises(StartError):
            take_output(tmp_path)
        held.close()


def test_a_run_is_refused_before_its_data_are_read(tmp_path: Path) -> None:
    """Which are not there; and the folder is free again after that has been said."""
    run = from_dict(PretrainRun, recipe(tmp_path / "run", tmp_path / "absent"))
    with pytest.raises(TrainingDataError, match="nothing there"):
        pretrain(run)
    with take_output(tmp_path / "run") or nullcontext(), pytest.raises(StartError, match="another run is at work"):
        pretrain(run)
