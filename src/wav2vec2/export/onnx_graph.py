"""A model as an ONNX file: one graph for any number of clips and samples.

torch's exporter writes into every operation where in the source it came from, with the paths of the machine; all of it
is taken out. The weight of the positional convolution is folded: quantisation wants a constant there, and runtimes
would compute it anew for every clip.

Shapes: B clips, S samples, T frames, V tokens.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wav2vec2.export.recurrent_operation import recurrence_in_one_operation
from wav2vec2.export.refusal import ExportError, library
from wav2vec2.modeling.positional_convolution import WeightNormedConvolution

#: Version of ONNX's operations: layer norm is one since 17, and every runtime of today reads 18.
OPSET = 18

#: A file of ONNX holds 2 GiB at most; larger weights go into a second file beside it.
ONE_FILE = 1_900_000_000


class MaskedGraph(nn.Module):
    """Waveforms (B, S) as the feature extractor gives them, and their mask, to some fields of a model's output."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """(B, S) twice -> what was asked for, in order."""
        found = self.model(input_values, attention_mask=attention_mask)
        return tuple(found[name] for name in self.names)


class ConstantWeight(nn.Module):
    """A weight that nothing has to be computed for."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self) -> Tensor:
        """The weight."""
        return self.get_buffer("weight")


@contextmanager
def folded_positions(model: nn.Module) -> Iterator[None]:
    """Inside, positional convolutions have a constant for their weight."""
    convolutions = [module for module in model.modules() if isinstance(module, WeightNormedConvolution)]
    before = [one.parametrizations["weight"] for one in convolutions]
    try:
        for one, weight in zip(convolutions, before, strict=True):
            one.parametrizations["weight"] = ConstantWeight(weight().detach())
        yield
    finally:
        for one, weight in zip(convolutions, before, strict=True):
            one.parametrizations["weight"] = weight


@contextmanager
def chosen_tokens(model: Any, rows: Sequence[int], silenced: Sequence[int] = ()) -> Iterator[None]:
    """Inside, the linear layer over the vocabulary has these of its rows, in this order, and those that are `silenced`
    are never the best."""
    before = model.lm_head
    chosen = nn.Linear(before.in_features, len(rows))
    with torch.no_grad():
        chosen.weight.copy_(before.weight[list(rows)])
        chosen.bias.copy_(before.bias[list(rows)])
        silent = [place for place, row in enumerate(rows) if row in silenced]
        chosen.weight[silent] = 0.0
        chosen.bias[silent] = -1e4  # beside logits of tens; half precision can still hold it
    try:
        model.lm_head = chosen
        yield
    finally:
        model.lm_head = before


def write_graph(
    graph: nn.Module,
    path: Path,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Sequence[str | int]],
    metadata: Mapping[str, str],
) -> None:
    """Write a module, whose inputs are all (B, S), to `path`. `inputs` are examples, `outputs` the names of their axes;
    `metadata` is what runtimes read from the file. What cannot be written is an `ExportError`."""
    library("onnxscript", "export")
    free = dict.fromkeys(range(2), torch.export.Dim.DYNAMIC)
    with folded_positions(graph), recurrence_in_one_operation(graph), _quietly(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                graph.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(free,) * len(inputs),
                verbose=False,
            )
        except Exception as error:  # of many kinds, and none documented
            raise ExportError(f"this model cannot be written as an ONNX graph: {_reason(error)}") from error
        _name_axes(program.model, outputs)
        _forget_origins(program.model)
        program.model.metadata_props.update(metadata)
        size = sum(tensor.nbytes for tensor in graph.state_dict().values())
        program.save(path, external_data=size > ONE_FILE)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong in the first place: around it the exporter puts advice for its developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _name_axes(model: Any, outputs: Mapping[str, Sequence[str | int]]) -> None:
    """Axes that may have any length are called what they are; torch names them s77 or writes out a formula."""
    shape = library("onnx_ir", "export").Shape
    for value in model.graph.inputs:
        value.shape = shape(["batch", "samples"])
    for value, axes in zip(model.graph.outputs, outputs.values(), strict=True):
        value.shape = shape(list(axes))


def _forget_origins(model: Any) -> None:
    """Take out the paths, lines and class names that torch's exporter leaves in a graph."""
    nodes = [*model.graph.all_nodes(), *(node for one in model.functions.values() for node in one.all_nodes())]
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = model.doc_string = None
    values = [value for node in nodes for value in node.outputs]
    for holder in (*nodes, *values, *model.graph.inputs, *model.graph.initializers.values()):
        holder.metadata_props.clear()
        holder.doc_string = None


@contextmanager
def _quietly() -> Iterator[None]:
    """torch's exporter tells of packages that are missing and of what torch itself will change: nothing a user can act
    upon."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
