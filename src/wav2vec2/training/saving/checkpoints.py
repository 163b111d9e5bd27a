"""Checkpoints of a run: each a complete `from_pretrained` folder plus what resuming needs, whole or not there at all.

`<folder>/update-00001000/` holds `config.json`, `model.safetensors` and the feature extractor or processor, and under
`training_state/` the run's record (`state.json`), the optimizer by names of parameters (`optimizer.safetensors`, or
DeepSpeed's own folder) and the list of all files (`files.json`). How folders stay whole: `checkpoint_folders.py`.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from accelerate.utils import DistributedType, broadcast_object_list, gather_object
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils import logging as transformers_logging

from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training.saving import checkpoint_folders as folders
from wav2vec2.training.saving.named_states import (
    gather_optimizer,
    gather_weights,
    restore_optimizer,
    restore_weights,
    write_optimizer,
)
from wav2vec2.training.saving.training_state import TrainingState, versions

logger = logging.getLogger("wav2vec2")

_WEIGHTS = "model.safetensors"
_OPTIMIZER = f"{folders.STATE_FOLDER}/optimizer.safetensors"
_STATE = f"{folders.STATE_FOLDER}/state.json"
#: Weights as they are trained, where the model's file holds them merged (LoRA).
TRAINING_WEIGHTS = f"{folders.STATE_FOLDER}/weights.safetensors"
_DEEPSPEED = f"{folders.STATE_FOLDER}/deepspeed"
_GIB = 2**30

T = TypeVar("T")


class CheckpointWriteError(OSError):
    """A checkpoint that could not be written. Those before it are as they were, and nothing of it is left."""


class HasSavePretrained(Protocol):
    """A feature extractor, tokenizer or processor: what makes a model's folder complete."""

    def save_pretrained(self, save_directory: Any, /) -> Any:
        """Write its files into the folder."""


class Checkpoints:
    """The checkpoints under a folder: the `keep_last` newest and the `keep_best` best are kept."""

    def __init__(self, folder: Path | str, keep_last: int = 2, keep_best: int = 1) -> None:
        if keep_last < 1 or keep_best < 0:
            raise ValueError(f"keep_last={keep_last}, keep_best={keep_best}: must be at least 1 and 0")
        self.folder = Path(folder)
        self.keep_last = keep_last
        self.keep_best = keep_best

    def save(
        self,
        accelerator: Any,
        model: Any,
        optimizer: Any,
        state: TrainingState,
        extras: Sequence[HasSavePretrained] = (),
        metric: float | None = None,
    ) -> Path:
        """Write a checkpoint; its folder. All processes must call, the main one writes, an error reaches all.

        `metric` (lower is better) decides which are the best. Raises `CheckpointWriteError` if the folder cannot take
        it.
        """
        state = replace(
            state, processes=accelerator.num_processes, versions=versions(), scaler=_scaler_state(accelerator)
        )
        deepspeed = _is_deepspeed(accelerator)
        weights = gather_weights(accelerator, model)
        tensors, numbers = ({}, {}) if deepspeed else gather_optimizer(accelerator, model, optimizer)
        needed = sum(tensor.nbytes for tensor in (*weights.values(), *tensors.values()))
        temporary = _main_does(accelerator, lambda: self._begin(state.update, needed))
        if deepspeed:
            try:
                _all_do(accelerator, lambda: _write_deepspeed(accelerator, temporary, needed))
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

        def write() -> Path:
            with _written_or_removed(temporary, needed):
                _write_model(_inside(accelerator, model), weights, extras, temporary)
                if not deepspeed:
                    write_optimizer(temporary / _OPTIMIZER, tensors, numbers)
                with (temporary / _STATE).open("w", encoding="utf-8") as file:
                    file.write(state.to_json())
                folders.seal(temporary, state.update, metric)
                final = self.folder / folders.name_of(state.update)
                folders.publish(temporary, final)
            self._thin_out(final)
            return final

        return _main_does(accelerator, write)

    def restore(self, path: Path | str, accelerator: Any, model: Any, optimizer: Any) -> TrainingState:
        """Load a checkpoint into a prepared model and its optimizer, on all processes; where the run stands.

        `CheckpointError` if the folder is damaged, or not of this model. What is saved of it: `save`.
        """
        path = Path(path)
        problem = _main_does(accelerator, lambda: folders.problem_with(path))
        if problem is not None:
            raise CheckpointError(f"{path}: cannot be resumed from: {problem}")
        if (path / _DEEPSPEED).is_dir() != _is_deepspeed(accelerator):
            raise CheckpointError(f"{path}: the state of DeepSpeed can be resumed by DeepSpeed alone, and only that")
        state = TrainingState.from_json((path / _STATE).read_bytes(), path / _STATE)
        if _is_deepspeed(accelerator):
            accelerator.load_state(str(path / _DEEPSPEED))
            return state
        own = path / TRAINING_WEIGHTS
        restore_weights(accelerator, model, own if own.is_file() else path / _WEIGHTS)
        restore_optimizer(accelerator, model, optimizer, path / _OPTIMIZER)
        if accelerator.scaler is not None and state.scaler is not None:
            accelerator.scaler.load_state_dict(state.scaler)
        return state

    def newest(self) -> Path | None:
        """The newest whole checkpoint. Damaged ones are named and passed over; nothing is changed."""
        return next(self._whole(folders.checkpoints_in(self.folder)), None)

    def best(self) -> Path | None:
        """The whole checkpoint with the lowest metric, the newer one of equals; None if none was saved with one."""
        return next(self._whole(self._by_metric(folders.checkpoints_in(self.folder))), None)

    def are_improved_by(self, accelerator: Any, metric: float | None) -> bool:
        """Whether a checkpoint with this metric would be kept as one of the best. All processes must call."""
        return bool(_main_does(accelerator, lambda: self._improved_by(metric)))

    def _improved_by(self, metric: float | None) -> bool:
        if metric is None or not math.isfinite(metric):
            return False
        rated = self._by_metric(self._complete())[: self.keep_best]
        worst = folders.read_list(rated[-1]).metric if rated else None
        return len(rated) < self.keep_best or (worst is not None and metric < worst)

    def _whole(self, paths: Sequence[Path]) -> Iterator[Path]:
        for path in paths:
            problem = folders.problem_with(path)
            if problem is None:
                yield path
            else:
                logger.warning("%s: is damaged (%s), so it is passed over", path, problem)

    def _by_metric(self, paths: Sequence[Path]) -> list[Path]:
        """Those that were saved with a metric, best first; of equals, the newest first."""
        rated = []
        for path in paths:
            try:
                metric = folders.read_list(path).metric
            except (OSError, ValueError):
                continue
            if metric is not None:
                rated.append((metric, path))
        return [path for _, path in sorted(rated, key=lambda pair: pair[0])]

    def _begin(self, update: int, needed: int) -> Path:
        with _written_or_removed(self.folder, needed, remove=False):
            folders.tidy(self.folder)
            return folders.temporary_folder(self.folder, update)

    def _complete(self) -> list[Path]:
        """Those whose files are all there; what is in them is not read."""
        return [p for p in folders.checkpoints_in(self.folder) if folders.problem_with(p, contents=False) is None]

    def _thin_out(self, saved: Path) -> None:
        """Delete what is neither among the last nor among the best. Damaged folders are left for a person to judge."""
        whole = self._complete()
        keep = {saved, *whole[: self.keep_last], *self._by_metric(whole)[: self.keep_best]}
        for path in whole:
            if path not in keep:
                folders.delete(path)


def _write_model(model: Any, weights: dict[str, Tensor], extras: Sequence[HasSavePretrained], folder: Path) -> None:
    """The folder that `from_pretrained` reads, one file of weights with today's names of parameters."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model.save_pretrained(folder, state_dict=weights, max_shard_size="10TB", save_original_format=False)
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    for extra in extras:
        extra.save_pretrained(folder)


def _write_deepspeed(accelerator: Any, folder: Path, needed: int) -> None:
    with _written_or_removed(folder, needed, remove=False):
        accelerator.save_state(str(folder / _DEEPSPEED), safe_serialization=True)


@contextmanager
def _written_or_removed(folder: Path, needed: int, remove: bool = True) -> Iterator[None]:
    """Leave nothing behind if writing fails, and say what was needed and what there was."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        free = _free_bytes(folder)
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointWriteError(
            f"{folder.parent if remove else folder}: the checkpoint could not be written ({error}): it needs "
            f"{needed / _GIB:.3g} GiB, and {free} free. Earlier checkpoints are as they were"
        ) from error
    except BaseException:
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _free_bytes(folder: Path) -> str:
    """How much a folder can still take, in words; its nearest ancestor that is there answers for it."""
    for place in (folder, *folder.absolute().parents):
        try:
            return f"{shutil.disk_usage(place).free / _GIB:.3g} GiB were"
        except OSError:
            continue
    return "an unknown number were"


def _inside(accelerator: Any, model: Any) -> Any:
    return accelerator.unwrap_model(model, keep_torch_compile=False)


def _is_deepspeed(accelerator: Any) -> bool:
    return bool(accelerator.distributed_type == DistributedType.DEEPSPEED)


def _scaler_state(accelerator: Any) -> dict[str, Any] | None:
    return None if accelerator.scaler is None else dict(accelerator.scaler.state_dict())


def _main_does(accelerator: Any, work: Callable[[], T]) -> T:
    """What `work` returns on the main process, on all of them; or its error, on all of them."""
    result: list[Any] = [None, None]
    failure: Exception | None = None
    if accelerator.is_main_process:
        try:
            result[0] = work()
        except Exception as error:
            failure = error
            result[1] = (isinstance(error, CheckpointWriteError), str(error))
    broadcast_object_list(result)
    if failure is not None:
        raise failure
    if result[1] is not None:
        expected, text = result[1]
        raise CheckpointWriteError(text) if expected else RuntimeError(f"the main process failed to save: {text}")
    value: T = result[0]
    return value


def _all_do(accelerator: Any, work: Callable[[], None]) -> None:
    """Do `work` on every process, and fail on all if it failed on one."""
    failure: Exception | None = None
    try:
        work()
    except Exception as error:
        failure = error
    failed = [text for text in gather_object([str(failure) if failure is not None else ""]) if text]
    if failure is not None:
        raise failure
    if failed:
        raise CheckpointWriteError(failed[0])
