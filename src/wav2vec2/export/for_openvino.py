"""A folder for OpenVINO: its own two files for each precision, which it makes of the ONNX graph."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.for_onnx import OnnxTarget, python_usage, write_processor
from wav2vec2.export.int8_graph import quantise
from wav2vec2.export.onnx_session import padded
from wav2vec2.export.refusal import library
from wav2vec2.export.targets import (
    Array,
    MaskedRuntime,
    Outputs,
    Precision,
    Runtime,
    check_names,
    write_masked_graph,
)
from wav2vec2.files.versions import versions_of

#: On processors with instructions for it, OpenVINO computes in bfloat16 unless it is told not to: a logit was 0.2 off.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoTarget:
    """Any model, on processors and accelerators of Intel and on ARM."""

    name = "openvino"
    reads_settings = False
    files: Mapping[Precision, str] = {Precision.float32: "model.xml", Precision.int8: "model.int8.xml"}

    def refuse(self, checkpoint: Checkpoint) -> None:
        """Nothing beyond what the exporter itself cannot write."""

    def write(self, checkpoint: Checkpoint, folder: Path, int8: bool) -> None:
        """`model.xml` and `model.bin`, in 8 bits `model.int8.xml` and `model.int8.bin`."""
        core = library("openvino", "openvino").Core()
        with TemporaryDirectory() as place:
            graph = Path(place) / "model.onnx"
            write_masked_graph(checkpoint, graph)
            for precision in Precision if int8 else [Precision.float32]:
                if precision is Precision.int8:
                    quantise(graph, graph := graph.with_name("int8.onnx"))
                library("openvino", "openvino").save_model(
                    core.read_model(graph), folder / self.files[precision], compress_to_fp16=False
                )

    def write_settings(self, checkpoint: Checkpoint, folder: Path) -> None:
        """The same as for ONNX Runtime."""
        write_processor(checkpoint, folder)

    def opened(self, checkpoint: Checkpoint, folder: Path, precision: Precision) -> Runtime:
        """In OpenVINO on the CPU, in single precision, on as many threads as torch has."""
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = (
            library("openvino", "openvino")
            .Core()
            .compile_model(folder / self.files[precision], "CPU", _EXACT | threads)
        )
        inputs, outputs = ([one.any_name for one in ports] for ports in (compiled.inputs, compiled.outputs))
        check_names(inputs, outputs, ["input_values", "attention_mask"], list(checkpoint.head.outputs))

        def run(clips: Sequence[Array]) -> list[Array]:
            values, mask = padded(clips)
            found = compiled({"input_values": values, "attention_mask": mask})
            return [found[name].copy() for name in checkpoint.head.outputs]

        return MaskedRuntime(checkpoint, f"OpenVINO {versions_of(['openvino']).get('openvino', '')}", run)

    def expected(self, checkpoint: Checkpoint, outputs: Mapping[str, Array]) -> Outputs:
        """The same."""
        return dict(outputs)

    def notes(self, checkpoint: Checkpoint) -> list[str]:
        """As for ONNX Runtime, and what OpenVINO computes in."""
        return [
            *OnnxTarget().notes(checkpoint),
            "Without `INFERENCE_PRECISION_HINT` OpenVINO computes in bfloat16 where the processor has it, which the "
            "check here has not looked at.",
        ]

    def usage(self, checkpoint: Checkpoint, name: str) -> str:
        """With NumPy, soundfile and OpenVINO."""
        opened = [
            f'options = {{"INFERENCE_PRECISION_HINT": "{_EXACT["INFERENCE_PRECISION_HINT"]}"}}',
            'model = openvino.Core().compile_model("model.xml", "CPU", options)',
        ]
        return python_usage(checkpoint, "openvino", opened, "model(inputs).values()")
