"""What each of several processes does in `test_models_in_parts.py` and `test_weights_handed_out.py`.

A forked process finds its work by this module.
"""

import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from accelerate.utils import set_seed
from checkpointed_runs import Run, new_run, restore, save, whole

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining
from wav2vec2.training import starting
from wav2vec2.training.model_making import make_model, start_afresh
from wav2vec2.training.saving import checkpoint_folders, parts
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import PretrainRun

#: Runs are saved after this update.
SAVED = 3


def begun(wrap: str, seed: int = 0) -> Run:
    """A run on all processes that were launched, trained if it has the first seed."""
    torch.set_num_threads(1)
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    run = new_run(seed, wrap)
    if seed == 0:
        run.train(0, SAVED)
    return run


def checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(folder, in_parts=True)


def save_parts(root: Path, name: str, *wraps: str) -> None:
    """A checkpoint `<name>-<wrap>` in each wrapper, and how many bytes this process held."""
    for wrap in wraps:
        run = begun(wrap)
        save(run, checkpoints(root / f"{name}-{wrap}"), SAVED)
        (root / f"{name}-{wrap}.{os.environ['RANK']}.held").write_text(str(held(run)))


def restore_parts(root: Path, name: str, *saved: str) -> None:
    """Checkpoints that other processes have written, in other weights; what came out, and after two more updates."""
    for one in saved:
        run = begun("fsdp", seed=1)
        assert restore(run, checkpoints(root / one)).update == SAVED
        restored = run.state()
        run.train(SAVED, SAVED + 2)
        found = {"restored": restored, "trained": run.state()}
        if os.environ["RANK"] == "0":
            torch.save(found, root / f"{one} on {name}.pt")


def save_and_restore_parts(root: Path, name: str, *saved: str) -> None:
    """Both, in both wrappers."""
    save_parts(root, name, "fsdp", "hsdp")
    restore_parts(root, name, *saved)


def restore_and_fail(root: Path, name: str, *saved: str) -> None:
    """What others have saved, and a checkpoint that cannot be written."""
    restore_parts(root, name, *saved)
    fail_to_save(root, saved[0])


def fail_to_save(root: Path, name: str) -> None:
    """A checkpoint that one process has no room for; what each of them says."""

    def full(*_: Any) -> list[Path]:
        if os.environ["RANK"] == "1":
            raise OSError(28, "No space left on device")
        return []

    run = begun("fsdp")
    with patch.object(parts, "write_parts", full):
        try:
            save(run, checkpoints(root / name), SAVED + 1)
        except OSError as error:
            (root / f"told.{os.environ['RANK']}").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


def die_while_saving(root: Path, name: str) -> None:
    """All processes are killed when the parts are on the disk, but not yet listed."""
    run = begun("fsdp")
    with patch.object(checkpoint_folders, "measured", lambda _: os.kill(os.getpid(), signal.SIGKILL)):
        save(run, checkpoints(root / name), SAVED + 1)


def held(run: Run) -> int:
    """Bytes of weights, gradients and the optimizer's averages that are in this process."""
    total = 0
    for parameter in run.optimizer.param_groups[0]["params"] + run.optimizer.param_groups[1]["params"]:
        states = [value for value in run.optimizer.state.get(parameter, {}).values() if value.ndim]
        total += sum(local(one).nbytes for one in (parameter.detach(), parameter.grad, *states) if one is not None)
    return total


def local(tensor: Any) -> torch.Tensor:
    """What this process has of a tensor."""
    own: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own


def begin(root: Path, name: str, head: bool, values: dict[str, Any]) -> None:
    """What each process has when a divided run begins: whole weights, buffers, the next random number, and by how much
    making the model let its own memory grow."""
    torch.set_num_threads(1)
    run = from_dict(PretrainRun, values)
    accelerator = starting.make_accelerator("fp32", run.run.shard_over)
    set_seed(run.run.seed)
    before = private_bytes()
    model = made(run, head)
    grown = private_bytes() - before
    wrapped, _ = starting.prepare(accelerator, model, run)
    state = {name: whole(tensor) for name, tensor in (*wrapped.named_parameters(), *wrapped.named_buffers())}
    found = {"state": state, "next": torch.rand(()), "grown": grown}
    torch.save(found, root / f"{name}.{accelerator.process_index}.pt")


def made(run: Any, head: bool) -> Any:
    """A model for pretraining, or with a head for CTC that starts afresh."""
    if not head:
        return make_model(Wav2Vec2ForPreTraining, run.model, None)[0]
    model, *_ = make_model(Wav2Vec2ForCTC, run.model, None, head=("lm_head",), vocab_size=7)
    start_afresh(model.lm_head, run.run.seed, 0.02)
    return model


def private_bytes() -> int:
    """Memory of this process that no other has."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private"))
