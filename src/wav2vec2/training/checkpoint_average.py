"""The mean of several checkpoints of a run, as a model folder of its own: what `wav2vec2 average` makes.

It is the mean of the parameters as they are stored: of the positional convolution that of its norms g and of its
directions v, of LoRA that of the additions A and B. What is made of them (g v / |v|, W + B A) follows from the means
and is no mean itself; checkpoints of one run lie near each other, and so the files beside the model agree with it.
Whole numbers are no weights: they are the newest checkpoint's.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from wav2vec2.training.saving import checkpoint_folders as folders
from wav2vec2.training.saving.checkpoints import TRAINING_WEIGHTS, Checkpoints
from wav2vec2.training.saving.consolidation import in_parts
from wav2vec2.training.settings.run_config import RUN_FILE
from wav2vec2.training.tuning_methods import LORA_FOLDER, LanguageAdapterFile, LoraFiles

_WEIGHTS, _VOCABULARY = "model.safetensors", "vocab.json"

#: Which updates the model of a folder is the mean of; the model card tells it.
PROVENANCE = "average.json"


class AverageError(ValueError):
    """Checkpoints that have no mean, and what would be right."""


@dataclass(frozen=True)
class Averaged:
    """The `folder` of a mean, after which `updates` its checkpoints were saved, and the `manifests` that the run was
    evaluated on."""

    folder: Path
    updates: list[int]
    manifests: list[str]


def average_checkpoints(
    run: Path | str,
    last: int | None = None,
    best: int | None = None,
    updates: Sequence[int] = (),
    output: Path | str | None = None,
) -> Averaged:
    """Write the mean of the `last` checkpoints of a run, of its `best`, or of those after certain `updates`.

    The folder is whole or not there; by default it is `average-last-5` or the like in the run's. Of each checkpoint one
    tensor at a time is read, and added up in float64. What cannot be done is an `AverageError`.
    """
    run = Path(run)
    if sum((last is not None, best is not None, bool(updates))) != 1:
        raise AverageError("say which checkpoints: the last (last=5), the best (best=3), or after which updates")
    what = f"last-{last}" if last is not None else f"best-{best}" if best is not None else f"of-{len(set(updates))}"
    target = run / f"average-{what}" if output is None else Path(output)
    chosen = _chosen(run, last, best, updates)
    if target.exists():
        raise AverageError(f"{target}: is there already; delete it, or choose another output")
    paths = list(chosen.values())
    with _opened(paths) as files, folders.written_aside(target) as fresh:
        for path in paths:
            if (problem := folders.problem_with(path)) is not None:
                raise _damaged(path, problem)
        _require_one_model(paths, files)
        ignored = shutil.ignore_patterns(folders.STATE_FOLDER, _WEIGHTS)
        shutil.copytree(paths[-1], fresh, ignore=ignored)
        save_file({name: _mean(files, name) for name in files[-1].keys()}, fresh / _WEIGHTS, {"format": "pt"})  # noqa: SIM118
        _renew_what_is_beside(fresh)
        (fresh / PROVENANCE).write_text(json.dumps({"mean_of_updates": list(chosen)}) + "\n", encoding="utf-8")
    return Averaged(target, list(chosen), _manifests(run))


def _chosen(run: Path, last: int | None, best: int | None, updates: Sequence[int]) -> dict[int, Path]:
    """The checkpoints by their updates, oldest first."""
    checkpoints = Checkpoints(run / "checkpoints")
    if not checkpoints.folder.is_dir():
        hint = f"; did you mean {run.parent}?" if (run.parent / "checkpoints").is_dir() else ""
        raise AverageError(f"{run}: is no folder of a run: it has no checkpoints{hint}")
    # oldest first, and of two after one update the one that stands in for the other before it
    whole = {folders.update_of(path) or 0: path for path in reversed(checkpoints.complete())}
    newest_first = list(reversed(whole.values()))
    if best is not None:
        taken = _first(best, checkpoints.by_metric(newest_first), "whole and were evaluated", "keep_best", run, whole)
    elif last is not None:
        taken = _first(last, newest_first, "whole", "keep_last", run, whole)
    else:
        taken = _after(updates, checkpoints.folder, whole)
    if len(taken) < 2:
        raise AverageError("a mean needs two checkpoints at least")
    return {update: path for update, path in whole.items() if path in taken}


def _first(wanted: int, found: list[Path], what: str, setting: str, run: Path, whole: dict[int, Path]) -> list[Path]:
    """The first so many of those that were found, if there are so many."""
    if len(found) < wanted:
        kept = _run_of(run).get("run", {}).get(setting)
        was = "" if kept is None else f", and here that was {kept}"
        raise AverageError(
            f"{run}: {wanted} checkpoints are asked for, and {len(found)} are {what}; {_there(whole)}. A run keeps as "
            f"many as run.{setting} says{was}"
        )
    return found[:wanted]


def _after(updates: Sequence[int], root: Path, whole: dict[int, Path]) -> list[Path]:
    """Those after certain updates, if all of them are there."""
    if missing := sorted(set(updates) - whole.keys()):
        written = [update for update in missing if list(root.glob(f".writing-{folders.name_of(update)}-*"))]
        hint = f" ({_numbers(written)} being written)" if written else ""
        raise AverageError(f"{root}: no whole checkpoint after update {_numbers(missing)}{hint}; {_there(whole)}")
    return [whole[update] for update in updates]


def _numbers(updates: Sequence[int]) -> str:
    return ", ".join(map(str, updates))


def _there(whole: dict[int, Path]) -> str:
    return f"there are those after {_numbers(sorted(whole))}" if whole else "there is none"


def _run_of(run: Path) -> dict[str, Any]:
    """What the run was asked to be; empty if nobody knows."""
    try:
        values = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _manifests(run: Path) -> list[str]:
    """What a recogniser's run was evaluated on, as `wav2vec2 evaluate` takes it."""
    values = _run_of(run)
    sources = values.get("data", {}).get("valid", []) if values.get("task") == "ctc" else []
    return [source["path"] for source in sources if source["path"].endswith(".tsv")]


@contextmanager
def _opened(chosen: Sequence[Path]) -> Iterator[list[Any]]:
    """The files of weights, as they are trained. Once open, a file can be read to its end, whoever deletes it."""
    with ExitStack() as held:
        files = []
        for path in chosen:
            if in_parts(path):
                raise AverageError(f"{path}: its weights are in parts (run.save_in_parts), of which no mean is made")
            own = path / TRAINING_WEIGHTS
            try:
                files.append(held.enter_context(safe_open(own if own.is_file() else path / _WEIGHTS, "pt")))
            except OSError as error:
                raise _damaged(path, str(error)) from error
        yield files


def _damaged(path: Path, problem: str) -> AverageError:
    if not path.is_dir():
        return AverageError(
            f"{path}: was deleted meanwhile, as a run does that is at work; try again, or raise run.keep_last for it"
        )
    return AverageError(f"{path}: is damaged ({problem}); delete it, or name the others by their updates")


def _require_one_model(chosen: Sequence[Path], files: Sequence[Any]) -> None:
    """The same tensors of the same kind, and the same tokens. No tensor is read for that."""

    def kinds(file: Any) -> dict[str, str]:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: f"{one.get_dtype()} {tuple(one.get_shape())}" for name, one in slices.items()}

    def tokens(path: Path) -> bytes | None:
        return (path / _VOCABULARY).read_bytes() if (path / _VOCABULARY).is_file() else None

    expected = kinds(files[-1])
    for path, file in zip(chosen[:-1], files[:-1], strict=True):
        found = kinds(file)
        for name in sorted(expected.keys() | found.keys()):
            one, other = found.get(name, "not there"), expected.get(name, "not there")
            if one != other:
                raise AverageError(
                    f"{path.name} and {chosen[-1].name} are not of one model: {name} is {one} in the first and {other} "
                    "in the second. Average checkpoints of one shape alone"
                )
        if tokens(path) != tokens(chosen[-1]):
            raise AverageError(
                f"{path.name} and {chosen[-1].name} have other tokens in {_VOCABULARY}: the same logit means another "
                "letter. Average checkpoints of one vocabulary alone"
            )


def _mean(files: Sequence[Any], name: str) -> Tensor:
    """Of one tensor, in its own precision."""
    newest: Tensor = files[-1].get_tensor(name)
    if not newest.is_floating_point():
        return newest
    total = newest.double()
    for file in files[:-1]:
        total += file.get_tensor(name)
    return (total / len(files)).to(newest.dtype)


def _renew_what_is_beside(fresh: Path) -> None:
    """Files that repeat weights of the model, made again from the mean."""
    if (fresh / LORA_FOLDER).is_dir():
        import peft

        config = peft.LoraConfig.from_pretrained(str(fresh / LORA_FOLDER))
        LoraFiles(config, config.base_model_name_or_path or "").save_pretrained(fresh)
        shutil.rmtree(fresh / folders.STATE_FOLDER)
    for path in fresh.glob("adapter.*.safetensors"):
        with safe_open(path, "pt") as file:
            names = list(file.keys())
        LanguageAdapterFile(path.name.split(".")[1], names).save_pretrained(fresh)
