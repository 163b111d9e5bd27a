"""Inference of base on a CPU: this package, stock Transformers and ONNX Runtime side by side, in one run.

    python benchmarks/cpu_inference.py                                # 10 s of audio, two threads, seconds of the clock
    python benchmarks/cpu_inference.py --threads 1 --clock cpu        # seconds of one core: beside other work, too
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/cpu_inference.py   # torch without AVX-512

All have the same random weights and the same noise; what they say is compared before it is timed. ONNX Runtime runs the
export of this package's model (`pip install onnx onnxscript onnxruntime`; without, its row is missing). It has no
setting for the instructions it may use, so under the last command it alone has AVX-512. In every round each takes its
turn; medians are given.
"""

import argparse
import copy
import importlib
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.wav2vec2 import modeling_wav2vec2 as stock

import wav2vec2
from wav2vec2.configuration import presets
from wav2vec2.modeling.int8_linear import quantise_linear_layers

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Logits(torch.nn.Module):
    """A model as a function of one tensor."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Samples (1, S) -> logits (1, T, V)"""
        logits: Tensor = self.model(x).logits
        return logits


def onnx_session(model: Any, x: Tensor, threads: int) -> Callable[[Tensor], Tensor] | None:
    """The model as ONNX Runtime runs it; None if that is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        return None
    runtime = importlib.import_module("onnxruntime")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "model.onnx"
        exported: Any = torch.onnx.export(Logits(model).eval(), (x,), dynamo=True, verbose=False)
        exported.save(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda samples: torch.from_numpy(session.run(None, {name: samples.numpy()})[0])


def sides(preset: str, x: Tensor, threads: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Everything that is timed, by name."""
    torch.manual_seed(0)
    ours: Any = wav2vec2.Wav2Vec2ForCTC(getattr(presets, preset)(vocab_size=32, pad_token_id=0)).eval()
    theirs = stock.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**ours.config.to_dict())).eval()
    theirs.load_state_dict(ours.state_dict())
    narrow = copy.deepcopy(ours)
    quantise_linear_layers(narrow)
    found = {"stock": Logits(theirs), "ours": Logits(ours), "ours, int8": Logits(narrow)}
    onnx = onnx_session(ours, x, threads)
    return found | ({} if onnx is None else {"ONNX Runtime": onnx})


@torch.inference_mode()
def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds, and how far the logits are from stock's relative to their norm."""
    x = torch.randn(1, int(options.seconds * 16000), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False):
        runs = sides(options.preset, x.clone(), options.threads)
    expected = runs["stock"](x)
    errors = {name: float((run(x) - expected).norm() / expected.norm()) for name, run in runs.items()}
    clock = CLOCKS[options.clock]
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            began = clock()
            run(x)
            taken[name].append(clock() - began)
    return {
        name: {"seconds": statistics.median(taken[name]), "quickest": min(taken[name]), "difference": errors[name]}
        for name in runs
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """As Markdown."""
    lines = ["| | seconds | of ours | difference from stock |", "|---|---|---|---|"]
    for name, row in results.items():
        ratio = row["seconds"] / results["ours"]["seconds"]
        lines.append(f"| {name} | {row['seconds']:.3g} | {ratio:.2f} | {row['difference']:.1e} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: seconds of the processor, all threads")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = measure(options)
    print(table(results))
    if options.output:
        setting = {name: value for name, value in vars(options).items() if name != "output"}
        machine = {
            "device": platform.processor() or platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "oneDNN at most": os.environ.get("ONEDNN_MAX_CPU_ISA"),
            "huge pages": os.environ.get("THP_MEM_ALLOC_ENABLE"),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        options.output.write_text(
            json.dumps({"setting": setting, "machine": machine, "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
