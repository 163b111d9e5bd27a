"""What every target has in common: what it refuses, how its folder is written and opened, what its graph gives.

Shapes: S samples of a clip.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.onnx_graph import ONE_FILE, MaskedGraph, write_graph
from wav2vec2.export.onnx_session import OnnxSession
from wav2vec2.export.refusal import DisagreementError, ExportError

Array = NDArray[np.float32]

#: What a model gives for one clip, by the names of its outputs.
Outputs = dict[str, Array]


class Precision(StrEnum):
    """What the linear layers of a file compute with."""

    float32 = "float32"
    int8 = "int8"


class Runtime(Protocol):
    """A folder that is opened by the runtime it is for."""

    #: What made the texts, with its version.
    what: str
    #: Whether clips of several lengths can be one batch.
    takes_batches: bool

    def outputs(self, clips: Sequence[Array]) -> list[Outputs]:
        """What the graph gives for clips (S,) in one batch: for each of them, without padding."""

    def texts(self, clips: Sequence[Array]) -> list[str]:
        """What the runtime reads in each of the clips (S,)."""


class Target(Protocol):
    """A runtime that models are written for."""

    #: What `--to` calls it.
    name: str
    #: The file of each precision that its runtime opens, by its path in the folder.
    files: Mapping[Precision, str]
    #: Whether the runtime itself reads the files beside those: with wrong ones there is nothing to compare.
    reads_settings: bool

    def refuse(self, checkpoint: Checkpoint) -> None:
        """Raise `ExportError` for a model that the runtime cannot hold, with the reason."""

    def write(self, checkpoint: Checkpoint, folder: Path, int8: bool) -> None:
        """Write the files with the weights, in 8 bits too where that is asked for."""

    def write_settings(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Write the other files that the runtime, or who prepares samples for it and reads its tokens, needs."""

    def opened(self, checkpoint: Checkpoint, folder: Path, precision: Precision) -> Runtime:
        """The folder in its runtime."""

    def expected(self, checkpoint: Checkpoint, outputs: Mapping[str, Array]) -> Outputs:
        """What torch gives for a clip, in the form in which the graph gives it."""

    def notes(self, checkpoint: Checkpoint) -> list[str]:
        """What a user of this folder has to know, in sentences."""

    def usage(self, checkpoint: Checkpoint, name: str) -> str:
        """Ten lines that run the folder, which is called `name`, as Markdown."""


def weight_files_of(target: Target, folder: Path) -> dict[Precision, list[str]]:
    """The files with weights that are there, for each precision whose own file is: that one, then those beside it."""
    found = {}
    for precision, name in target.files.items():
        names = [name, f"{name}.data", Path(name).with_suffix(".bin").as_posix()]
        if (folder / name).is_file():
            found[precision] = [one for one in names if (folder / one).is_file()]
    return found


#: Two clips of noise, the second one half as long: what the exporter follows through the model.
def example_inputs() -> dict[str, torch.Tensor]:
    """Names and examples of what a masked graph is given."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(2, 9_000, dtype=torch.long)
    mask[1, 5_000:] = 0
    return {"input_values": torch.randn(2, 9_000, generator=generator), "attention_mask": mask}


def write_masked_graph(checkpoint: Checkpoint, path: Path) -> None:
    """The model as a graph with a mask, whose outputs have the names of the model's."""
    inputs, names = example_inputs(), list(checkpoint.head.outputs)
    with torch.no_grad():
        found = checkpoint.model(inputs["input_values"])
    axes: dict[str, list[str | int]] = {}
    for name in names:
        frames = checkpoint.head.outputs[name] is not None
        axes[name] = ["batch", *(["frames"] if frames else []), int(found[name].shape[-1])]
    metadata = {"made_from": checkpoint.name, "sampling_rate": str(checkpoint.extractor.sampling_rate)}
    write_graph(MaskedGraph(checkpoint.model, names), path, inputs, axes, metadata)


def only_text(checkpoint: Checkpoint, what: str) -> None:
    """Refuse what writes no text."""
    if not checkpoint.writes_text:
        raise ExportError(
            f"{checkpoint.source}: {what} recognises speech; a model for {checkpoint.head.purpose} goes to onnx"
        )


def only_one_file(checkpoint: Checkpoint, why: str) -> None:
    """Refuse weights that need a second file."""
    size = sum(tensor.nbytes for tensor in checkpoint.model.state_dict().values())
    if size > ONE_FILE:
        raise ExportError(
            f"{checkpoint.source}: {size / 1e9:.1f} GB of weights {why}; the targets onnx and openvino take it"
        )


def check_names(inputs: Sequence[str], outputs: Sequence[str], given: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a graph that takes or gives something else than an export of this model does."""
    if set(inputs) != set(given) or not set(wanted) <= set(outputs):
        raise DisagreementError(
            f"takes {', '.join(inputs) or 'nothing'} and gives {', '.join(outputs) or 'nothing'}; an export of this "
            f"model takes {', '.join(given)} and gives {', '.join(wanted)}"
        )


def without_padding(checkpoint: Checkpoint, clips: Sequence[Array], found: Sequence[Array]) -> list[Outputs]:
    """What a batch gave, in the order of the model's outputs, for each of its clips (S,)."""
    rows: list[Outputs] = []
    for row, clip in enumerate(clips):
        rows.append({})
        for name, of_batch in zip(checkpoint.head.outputs, found, strict=True):
            if np.shape(of_batch)[:1] != (len(clips),):
                raise DisagreementError(f"{name} is {np.shape(of_batch)} for {len(clips)} clips")
            rows[-1][name] = of_batch[row][: checkpoint.frames(name, len(clip))]
    return rows


class MaskedRuntime:
    """A graph with a mask, whose texts are read by this package's greedy search."""

    takes_batches = True

    def __init__(self, checkpoint: Checkpoint, what: str, run: Callable[[Sequence[Array]], list[Array]]) -> None:
        self.checkpoint, self.what, self._run = checkpoint, what, run

    def outputs(self, clips: Sequence[Array]) -> list[Outputs]:
        """What the graph gives for each clip of a batch."""
        found = self._run([self.checkpoint.values(clip) for clip in clips])
        return without_padding(self.checkpoint, clips, found)

    def texts(self, clips: Sequence[Array]) -> list[str]:
        """The texts of clips, each computed alone."""
        return [self.checkpoint.text(self.outputs([clip])[0]["logits"]) for clip in clips]


def onnx_runtime(checkpoint: Checkpoint, path: Path) -> MaskedRuntime:
    """A file with a mask in ONNX Runtime, on as many threads as torch has."""
    from wav2vec2.files.versions import versions_of

    session = OnnxSession(path, torch.get_num_threads())
    check_names(session.inputs, session.outputs, ["input_values", "attention_mask"], list(checkpoint.head.outputs))
    version = versions_of(["onnxruntime"]).get("onnxruntime", "")
    return MaskedRuntime(checkpoint, f"ONNX Runtime {version}", session.masked)
