"""Checkpoints of a run: each a complete `from_pretrained` folder plus what resuming needs, whole or not there at all.

`<folder>/update-00001000/` holds `config.json`, `model.safetensors` and the feature extractor or processor, and under
`training_state/` the run's record (`state.json`), the optimizer by names of parameters (`optimizer.safetensors`, or
DeepSpeed's own folder) and the list of all files (`files.json`). Where the model's file does not hold the weights as
they are trained (LoRA merged, an average of them), those stand there too. How folders stay whole:
`checkpoint_folders.py`.

With `in_parts` every process writes what it holds of weights and optimizer, and nothing is put together (`parts.py`):
the folder has no weights that `from_pretrained` could read until `consolidation.py` makes some. Either kind is restored
on any number of processes, whatever is asked for now.
"""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from wav2vec2.files.versions import versions_of
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training.saving import checkpoint_folders as folders
from wav2vec2.training.saving import parts
from wav2vec2.training.saving.main_process import told_by_main
from wav2vec2.training.saving.named_states import (
    copy_weights,
    gather_optimizer,
    gather_tensors,
    gather_weights,
    live_weights,
    require_same,
    restore_optimizer,
    restore_weights,
    trained_parameters,
    unwrapped,
    write_gathered,
)
from wav2vec2.training.saving.training_state import PACKAGES, TrainingState

logger = logging.getLogger("wav2vec2")

T = TypeVar("T")

_WEIGHTS = "model.safetensors"
_OPTIMIZER = f"{folders.STATE_FOLDER}/optimizer.safetensors"
_STATE = f"{folders.STATE_FOLDER}/state.json"
#: Weights as they are trained, where the model's file holds them merged (LoRA).
TRAINING_WEIGHTS = f"{folders.STATE_FOLDER}/weights.safetensors"
#: Weights as they are trained, where the model's file holds their average: those that have one.
_RAW = f"{folders.STATE_FOLDER}/raw_weights.safetensors"
_DEEPSPEED = f"{folders.STATE_FOLDER}/deepspeed"
_GIB = 2**30


class CheckpointWriteError(OSError):
    """A checkpoint that could not be written. Those before it are as they were, and nothing of it is left."""


class Saveable(Protocol):
    """A feature extractor, tokenizer or processor, or a language adapter: what makes a model's folder complete."""

    def save_pretrained(self, save_directory: str | os.PathLike[str], /) -> Any:
        """Write its files into the folder."""


class Checkpoints:
    """The checkpoints under a folder: the `keep_last` newest and the `keep_best` best are kept."""

    def __init__(self, folder: Path | str, keep_last: int = 2, keep_best: int = 1, *, in_parts: bool = False) -> None:
        if keep_last < 1 or keep_best < 0:
            raise ValueError(f"keep_last={keep_last}, keep_best={keep_best}: must be at least 1 and 0")
        self.folder = Path(folder)
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.in_parts = in_parts

    def save(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Optimizer,
        state: TrainingState,
        extras: Sequence[Saveable] = (),
        metric: float | None = None,
        average: Mapping[str, Tensor] = {},
    ) -> Path:
        """Write a checkpoint, and give its folder. All processes must call, the main one writes, an error reaches all.

        `extras` are written beside the model. `metric` (lower is better) decides which checkpoints are the best. Where
        there is an `average` of weights, by their names, it is what the model's file holds. Raises
        `CheckpointWriteError` if the folder cannot take it.
        """
        scaler = None if accelerator.scaler is None else dict(accelerator.scaler.state_dict())
        state = replace(state, processes=accelerator.num_processes, versions=versions_of(PACKAGES), scaler=scaler)
        if self.in_parts:
            return self._save_parts(accelerator, model, optimizer, state, extras, metric, average)
        deepspeed = _is_deepspeed(accelerator)
        weights, raw = _gather_model(accelerator, model, average)
        gathered: dict[str, Mapping[str, Tensor | float]] = {_RAW: raw} if raw else {}
        if not deepspeed:
            gathered[_OPTIMIZER] = gather_optimizer(accelerator, model, optimizer)
        needed = sum(_bytes_of(tensors) for tensors in (weights, *gathered.values()))
        temporary = self._begin(accelerator, state.update, needed)
        if deepspeed:
            _on_all(
                temporary, needed, lambda: accelerator.save_state(str(temporary / _DEEPSPEED), safe_serialization=True)
            )

        def write() -> Path:
            with _removed_after_failure(temporary), _telling_of_space(self.folder, needed):
                _write_model(unwrapped(accelerator, model), weights, extras, temporary)
                for name, tensors in gathered.items():
                    write_gathered(temporary / name, tensors)
                return self._finish(temporary, state, metric)

        return told_by_main(accelerator, write, _elsewhere)

    def _save_parts(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Optimizer,
        state: TrainingState,
        extras: Sequence[Saveable],
        metric: float | None,
        average: Mapping[str, Tensor],
    ) -> Path:
        """The same, every process its own part. The main one gives the folder its name once all have written."""
        if _is_deepspeed(accelerator):
            raise CheckpointWriteError("DeepSpeed writes parts of its own: set run.save_in_parts=false")
        trained = trained_parameters(accelerator, model, optimizer)
        tensors = {
            parts.WEIGHTS: live_weights(accelerator, model),
            parts.AVERAGE: average,
            parts.OPTIMIZER: parts.optimizer_tensors(trained, optimizer),
        }
        needed = sum(_bytes_of(of_one) for of_one in tensors.values())
        temporary = self._begin(accelerator, state.update, needed)

        def write_own() -> dict[str, tuple[int, int]]:
            process = accelerator.process_index
            written = [parts.write_parts(temporary / name, of_one, process) for name, of_one in tensors.items()]
            return {path.relative_to(temporary).as_posix(): folders.measured(path) for path in chain(*written)}

        answers = _on_all(temporary, needed, write_own)
        known = {name: size_and_sum for of_one in answers for name, size_and_sum in of_one.items()}

        def write() -> Path:
            with _removed_after_failure(temporary), _telling_of_space(self.folder, needed):
                lacking = [name for name in known if not (temporary / name).is_file()]
                if lacking:
                    raise OSError(f"{lacking[0]} is on another machine: all must write to one shared file system")
                _write_configuration(unwrapped(accelerator, model), extras, temporary)
                return self._finish(temporary, state, metric, known)

        return told_by_main(accelerator, write, _elsewhere)

    def _begin(self, accelerator: Accelerator, update: int, needed: int) -> Path:
        """The folder that a checkpoint of so many bytes is written into, made by the main process."""

        def begin() -> Path:
            with _telling_of_space(self.folder, needed):
                folders.tidy(self.folder)
                return folders.temporary_folder(self.folder, update)

        return told_by_main(accelerator, begin, _elsewhere)

    def _finish(
        self,
        temporary: Path,
        state: TrainingState,
        metric: float | None,
        known: Mapping[str, tuple[int, int]] | None = None,
    ) -> Path:
        """The record of the run, and the list of all files, some of which are `known`; then the folder has its name."""
        with (temporary / _STATE).open("w", encoding="utf-8") as file:
            file.write(state.to_json())
        folders.seal(temporary, state.update, metric, known)
        final = self.folder / folders.name_of(state.update)
        folders.publish(temporary, final)
        self._thin_out(final)
        return final

    def restore(
        self,
        path: Path | str,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Optimizer,
        average: Mapping[str, Tensor] = {},
    ) -> TrainingState:
        """Load a checkpoint into a prepared model and its optimizer on all processes, and give where the run stands.

        An `average` of weights that was saved comes back as well; if none was, it begins as the weights.
        `CheckpointError` if the folder is damaged, or not of this model.
        """
        path = Path(path)
        share = (accelerator.process_index, accelerator.num_processes)
        problem = next(filter(None, gather_object([folders.problem_with(path, share=share)])), None)
        if problem is not None:
            raise CheckpointError(f"{path}: cannot be resumed from: {problem}")
        if (path / _DEEPSPEED).is_dir() != _is_deepspeed(accelerator):
            raise CheckpointError(f"{path}: the state of DeepSpeed can be resumed by DeepSpeed alone, and only that")
        state = TrainingState.from_json((path / _STATE).read_bytes(), path / _STATE)
        if _is_deepspeed(accelerator):
            accelerator.load_state(str(path / _DEEPSPEED))
            return state
        if (path / parts.WEIGHTS).is_dir():
            _restore_parts(path, accelerator, model, optimizer, average)
        else:
            own = path / TRAINING_WEIGHTS
            restore_weights(accelerator, model, own if own.is_file() else path / _WEIGHTS)
            copy_weights(accelerator, model, into=average)
            if (path / _RAW).is_file():
                restore_weights(accelerator, model, path / _RAW, some=True)
            restore_optimizer(accelerator, model, optimizer, path / _OPTIMIZER)
        if accelerator.scaler is not None and state.scaler is not None:
            accelerator.scaler.load_state_dict(state.scaler)
        return state

    def newest(self) -> Path | None:
        """The newest whole checkpoint. Damaged ones are named and passed over; nothing is changed."""
        return next(self._whole(folders.checkpoints_in(self.folder)), None)

    def best(self) -> Path | None:
        """The whole checkpoint with the lowest metric, the newer one of equals; None if none was saved with one."""
        return next(self._whole(self.by_metric(folders.checkpoints_in(self.folder))), None)

    def are_improved_by(self, accelerator: Accelerator, metric: float | None) -> bool:
        """Whether a checkpoint with this metric would be kept as one of the best. All processes must call."""

        def judge() -> bool:
            if metric is None or not math.isfinite(metric):
                return False
            rated = self.by_metric(self.complete())[: self.keep_best]
            worst = folders.read_list(rated[-1]).metric if rated else None
            return len(rated) < self.keep_best or (worst is not None and metric < worst)

        return told_by_main(accelerator, judge, _elsewhere)

    def _whole(self, paths: Sequence[Path]) -> Iterator[Path]:
        """Those of which no byte is damaged; the others are named."""
        for path in paths:
            problem = folders.problem_with(path)
            if problem is None:
                yield path
            else:
                logger.warning("%s: is damaged (%s), so it is passed over", path, problem)

    def by_metric(self, paths: Sequence[Path]) -> list[Path]:
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

    def complete(self) -> list[Path]:
        """Those whose files are all there; what is in them is not read."""
        return [p for p in folders.checkpoints_in(self.folder) if folders.problem_with(p, contents=False) is None]

    def _thin_out(self, saved: Path) -> None:
        """Delete what is neither among the last nor among the best. Damaged folders are left for a person to judge."""
        whole = self.complete()
        keep = {saved, *whole[: self.keep_last], *self.by_metric(whole)[: self.keep_best]}
        for path in whole:
            if path not in keep:
                folders.delete(path)


def _gather_model(
    accelerator: Accelerator, model: nn.Module, average: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the model's file holds, and those weights that training goes on from instead of their average."""
    weights, averaged = gather_weights(accelerator, model), gather_tensors(accelerator, average)
    return weights | averaged, {name: weights[name] for name in averaged}


def _restore_parts(
    path: Path, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, average: Mapping[str, Tensor]
) -> None:
    """Weights, optimizer and, where it was saved, their average, each process what it is to hold of them."""
    weights, stored = live_weights(accelerator, model), parts.Pieces(path / parts.WEIGHTS)
    require_same(path / parts.WEIGHTS, weights, {name: stored.kind(name) for name in stored.shapes})
    parts.read_parts(path / parts.WEIGHTS, weights)
    copy_weights(accelerator, model, into=average)
    averaged = parts.Pieces(path / parts.AVERAGE).shapes
    parts.read_parts(path / parts.AVERAGE, {name: one for name, one in average.items() if name in averaged})
    trained = trained_parameters(accelerator, model, optimizer)
    parts.restore_optimizer(path / parts.OPTIMIZER, trained, optimizer)


def _write_configuration(model: PreTrainedModel, extras: Sequence[Saveable], folder: Path) -> None:
    """The folder that `from_pretrained` reads, but for the weights, of which Transformers writes an empty file."""
    _write_model(model, {}, extras, folder)
    (folder / _WEIGHTS).unlink(missing_ok=True)


def _write_model(model: PreTrainedModel, weights: dict[str, Tensor], extras: Sequence[Saveable], folder: Path) -> None:
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


def _bytes_of(tensors: Mapping[str, Tensor | float]) -> int:
    return sum(value.nbytes for value in tensors.values() if isinstance(value, Tensor))


def _is_deepspeed(accelerator: Accelerator) -> bool:
    return bool(accelerator.distributed_type == DistributedType.DEEPSPEED)


def _on_all(folder: Path, needed: int, work: Callable[[], T]) -> list[T]:
    """What each process gives that writes its share into the folder; if one fails, all fail, and nothing is left."""
    failure: Exception | None = None
    done: list[T] = []
    try:
        with _telling_of_space(folder, needed):
            done.append(work())
    except Exception as error:
        failure = error
    answers = gather_object([(done, str(failure) if failure is not None else "")])
    failed = [text for _, text in answers if text]
    if failed:
        shutil.rmtree(folder, ignore_errors=True)
        raise failure or CheckpointWriteError(failed[0])
    return [one for given, _ in answers for one in given]


def _elsewhere(error: Exception) -> Exception:
    """What the other processes raise when the main one fails with `error`."""
    if isinstance(error, CheckpointWriteError):
        return CheckpointWriteError(str(error))
    return RuntimeError(f"the main process failed to save: {error}")


@contextmanager
def _removed_after_failure(folder: Path) -> Iterator[None]:
    """Leave nothing of a folder behind if what is done inside fails, whatever stops it."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _telling_of_space(folder: Path, needed: int) -> Iterator[None]:
    """Make of an error of writing one that says how many bytes were needed and how many there were."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        free = "an unknown number were"
        for place in (folder, *folder.absolute().parents):  # the nearest that is there answers for it
            try:
                free = f"{shutil.disk_usage(place).free / _GIB:.3g} GiB were"
                break
            except OSError:
                continue
        raise CheckpointWriteError(
            f"{folder}: the checkpoint could not be written ({error}): it needs {needed / _GIB:.3g} GiB, and {free} "
            "free. Earlier checkpoints are as they were"
        ) from error
