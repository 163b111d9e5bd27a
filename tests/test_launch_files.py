"""What starts large runs fits together: recipes, Accelerate's configurations, SLURM's jobs and exit codes."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.configuration import presets
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.sharding import held_bytes, shards_of

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "examples" / "launch"
CARDS = (1, 8, 64, 512)
RECIPES = ("xls_r_1b", "xls_r_2b", "omniasr_3b")


def header(cards: int) -> dict[str, str]:
    """What `#SBATCH` says in a job's file."""
    text = (LAUNCH / f"slurm_{cards}.sh").read_text(encoding="utf-8")
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("cards", CARDS)
def test_files_are_of_so_many_cards(cards: int) -> None:
    """Accelerate reads its own; both say as many processes as there are cards, eight to a machine."""
    config: Any = load_config_from_file(str(LAUNCH / f"accelerate_{cards}.yaml"))
    said = header(cards)
    per_machine = int(said["ntasks-per-node"])
    assert config.num_processes == cards == int(said["nodes"]) * per_machine
    assert config.num_machines == int(said["nodes"]) and per_machine == int(said["gpus-per-node"]) == min(cards, 8)
    assert "requeue" in said and re.fullmatch(r"USR1@\d+", said["signal"])  # without B: the tasks get it, not the shell
    assert (config.mixed_precision, config.use_cpu) == ("bf16", False)
    assert config.distributed_type == ("NO" if cards == 1 else "MULTI_GPU")


def test_jobs_differ_in_their_cards_alone() -> None:
    texts = [re.sub(r"(?m)^# .*|(nodes?)=\d+|\d+\.sh", "", (LAUNCH / f"slurm_{n}.sh").read_text()) for n in CARDS]
    assert len(set(texts)) == 1


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_divide_over_the_cards(name: str) -> None:
    """Whole copies of the model, whole seconds of an update, whole parts, and states that an 80 GB card can hold."""
    run = read_run(PretrainRun, name, ["data.train.0.path=a"])
    with torch.device("meta"):
        model = Wav2Vec2ForPreTraining(getattr(presets, name)())
    assert run.run.save_in_parts and run.run.gradient_checkpointing and run.run.precision == "bf16"
    for cards in CARDS[1:]:
        shards = shards_of(cards, run.run.shard_over)
        assert shards == 8 and cards % shards == 0
        seconds = run.data.seconds_per_update / cards
        assert seconds.is_integer() and seconds >= run.data.max_seconds
        assert (seconds / run.data.seconds_per_batch).is_integer() or seconds < run.data.seconds_per_batch
        assert sum(held_bytes(model, shards)) < 10e9


#: What the table of docs/scale.md says: parameters in millions, GiB of states on one card, of eight, put together.
TOLD = {
    "xls_r_1b": (965.5, 14.4, 1.8, 0.376),
    "xls_r_2b": (2162.9, 32.2, 4.03, 0.781),
    "omniasr_3b": (3064.1, 45.7, 5.71, 0.88),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_documented_memory_is_the_computed(name: str) -> None:
    with torch.device("meta"):
        model = Wav2Vec2ForPreTraining(getattr(presets, name)())
    held, together = held_bytes(model, 8)
    found = (model.num_parameters() / 1e6, held_bytes(model, 1)[0] / 2**30, held / 2**30, together / 2**30)
    assert found == pytest.approx(TOLD[name], rel=2e-3)
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
    assert [float(number.replace(",", "")) for number in re.findall(r"[\d,.]*\d", row.split("|", 2)[2])] == list(
        TOLD[name]
    )


# --- a job ---------------------------------------------------------------------------------------------------------

#: Programs of a cluster, and the command. `srun` starts its tasks here and gives the highest of their exit codes.
PROGRAMS = {
    "srun": """#!/bin/bash
echo "srun $1" >> "$SAID"; shift
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & pids="$pids $!"; done
worst=0; for pid in $pids; do wait $pid; code=$?; [ $code -gt $worst ] && worst=$code; done; exit $worst
""",
    "scontrol": """#!/bin/bash
if [ "$1" = show ]; then printf 'first\\nsecond\\n'; else echo "scontrol $*" >> "$SAID"; fi
""",
    "wav2vec2": """#!/bin/bash
echo "task $RANK/$WORLD_SIZE local $LOCAL_RANK/$LOCAL_WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT: $*" >> "$SAID"
exit "$LEAVES_WITH"
""",
}


@pytest.mark.parametrize(("code", "again"), [(138, True), (143, True), (0, False), (1, False)])
def test_a_job_is_started_again_if_its_run_was_asked_to_leave(code: int, again: bool, tmp_path: Path) -> None:
    """The exit codes are those of test_ends_of_runs.py and test_models_in_parts.py; every task is told its place."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n[1-2]"}
    slurm |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    own = {"SAID": str(tmp_path / "said"), "LEAVES_WITH": str(code), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
    job = ["bash", str(LAUNCH / "slurm_8.sh"), "xls_r_1b", "data.train.0.path=two words"]
    done = subprocess.run(job, env=environment | slurm | own, capture_output=True, text=True, check=False)
    said = sorted((tmp_path / "said").read_text().splitlines())
    assert (done.returncode, done.stderr) == (code, "")
    assert said[-2:] == [
        f"task {rank}/2 local {rank}/2 at first:24711: pretrain xls_r_1b data.train.0.path=two words"
        for rank in range(2)
    ]
    assert said[:-2] == [*(["scontrol requeue 4711"] if again else []), "srun --wait=120"]
