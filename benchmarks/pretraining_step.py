"""One pretraining step of this package beside stock Transformers', in one run.

    python benchmarks/pretraining_step.py                                # base, batch 4 x 10 s, this machine's CPU
    python benchmarks/pretraining_step.py --device cuda --batch 16 --seconds 15.6 --dtypes bf16

Both models have the same weights, the same masks and the same dropouts. A step is forward and backward. "loss and
quantizer" is the same forward and backward with the encoder's output handed in. Measurements are interleaved and given
as medians and as ratios, with the machine's own matrix product beside them. Stock's masks and distractors are drawn
beforehand, as its collator does; ours are drawn inside the step. Peak memory is that of a process which runs one step.
"""

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.wav2vec2 import modeling_wav2vec2 as stock

import wav2vec2
from wav2vec2.configuration import presets
from wav2vec2.modeling.outputs import Wav2Vec2ModelOutput
from wav2vec2.training.progress import throughput
from wav2vec2.training.progress.throughput import matmul_peak, update_operations

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Setting(SimpleNamespace):
    """What is measured: model size, batch, device."""

    preset: str
    batch: int
    seconds: float
    device: str
    seed: int

    @property
    def samples(self) -> int:
        return int(self.seconds * 16000)

    def config(self) -> dict[str, Any]:
        """The preset's fields; no layer is dropped, so that both sides do the same work."""
        return dict(getattr(presets, self.preset)(layerdrop=0.0).to_dict())

    def waveforms(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(self.batch, self.samples, generator=generator).to(self.device)


def build(side: str, setting: Setting) -> nn.Module:
    """One side's model with seeded weights."""
    torch.manual_seed(setting.seed)
    if side == "ours":
        model: Any = wav2vec2.Wav2Vec2ForPreTraining(wav2vec2.Wav2Vec2Config(**setting.config()))
    else:
        model = stock.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**setting.config()))
    trained: nn.Module = model.to(setting.device).train()
    return trained


def draw_for_stock(config: Any, batch: int, frames: int, device: str, real: Tensor | None = None) -> dict[str, Tensor]:
    """Masks and distractors by stock's own functions, among the `real` frames (batch, frames)."""
    mask = stock._compute_mask_indices(
        (batch, frames), config.mask_time_prob, config.mask_time_length, attention_mask=real, min_masks=2
    )
    negatives = stock._sample_negative_indices((batch, frames), config.num_negatives, mask)
    return {
        "mask_time_indices": torch.tensor(mask, device=device),
        "sampled_negative_indices": torch.tensor(negatives, device=device, dtype=torch.long),
    }


def whole_step(
    side: str, model: Any, setting: Setting, dtype: torch.dtype, mask: Tensor | None = None
) -> Callable[[], Tensor]:
    """A function that runs forward and backward once. `mask` (batch, samples) says which samples are no padding."""
    waveforms = setting.waveforms()
    frames = int(model._get_feat_extract_output_lengths(setting.samples))
    given: dict[str, Tensor] = {} if mask is None else {"attention_mask": mask}
    if side != "ours":
        real = None if mask is None else model._get_feature_vector_attention_mask(frames, mask).cpu()
        given |= draw_for_stock(model.config, setting.batch, frames, setting.device, real)

    def step() -> Tensor:
        with autocast(setting, dtype):
            loss: Tensor = model(waveforms, **given).loss
        loss.backward()
        model.zero_grad(set_to_none=True)
        return loss

    return step


class GivenEncoder(nn.Module):
    """Stands in for the encoder: hands out a fixed context and fixed features."""

    def __init__(self, context: Tensor, features: Tensor) -> None:
        super().__init__()
        self.output = Wav2Vec2ModelOutput(
            last_hidden_state=context, extract_features=features, conv_features=features.detach()
        )

    def forward(self, *_: Any, **__: Any) -> Wav2Vec2ModelOutput:
        return self.output


def loss_and_quantizer(side: str, model: Any, setting: Setting, dtype: torch.dtype) -> Callable[[], Tensor]:
    """The same step with the encoder's output handed in."""
    frames = int(model._get_feat_extract_output_lengths(setting.samples))
    shape, device = (setting.batch, frames), setting.device
    context = torch.randn(*shape, model.config.hidden_size, device=device, dtype=dtype, requires_grad=True)
    features = torch.randn(*shape, model.config.conv_dim[-1], device=device, dtype=dtype, requires_grad=True)
    step = whole_step(side, model, setting, dtype)
    encoder = model.wav2vec2
    stand_in = GivenEncoder(context, features)

    def part() -> Tensor:
        model.wav2vec2 = stand_in
        try:
            return step()
        finally:
            model.wav2vec2 = encoder

    return part


def autocast(setting: Setting, dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(setting.device, dtype=dtype)


def timed(function: Callable[[], Any], device: str) -> float:
    """Seconds that one call takes, on a GPU by its own events."""
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1000
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleave(functions: dict[str, Callable[[], Any]], rounds: int, device: str, warm_up: int = 1) -> dict[str, float]:
    """Median seconds of each, after so many calls to warm up."""
    for function in functions.values():
        for _ in range(warm_up):
            timed(function, device)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            seconds[name].append(timed(function, device))
    return {name: statistics.median(values) for name, values in seconds.items()}


def step_operations(setting: Setting) -> float:
    """Operations in the matrix products and convolutions of one step, forward and backward."""
    config = getattr(presets, setting.preset)(**setting.config())
    return update_operations(config, [setting.samples] * setting.batch)


def peak_memory(side: str, dtype: str, setting: Setting) -> int:
    """Peak bytes of a process of its own that runs one step."""
    command = [sys.executable, __file__, "--child", side, "--dtypes", dtype, "--preset", setting.preset]
    command += ["--batch", str(setting.batch), "--seconds", str(setting.seconds), "--device", setting.device]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.strip().splitlines()[-1])


def child(side: str, dtype: str, setting: Setting) -> None:
    """Run one step and print the peak: resident memory on a CPU, allocated memory on an accelerator."""
    step = whole_step(side, build(side, setting), setting, DTYPES[dtype])
    step()
    print(throughput.peak_memory(setting.device))


def compare(setting: Setting, dtype: str, rounds: int) -> dict[str, Any]:
    """All figures of one precision."""
    models = {side: build(side, setting) for side in ("stock", "ours")}
    result: dict[str, Any] = {}
    for name, part in (("loss and quantizer", loss_and_quantizer), ("whole step", whole_step)):
        functions = {side: part(side, model, setting, DTYPES[dtype]) for side, model in models.items()}
        seconds = interleave(functions, rounds, setting.device)
        result[name] = seconds | {"ratio": seconds["stock"] / seconds["ours"]}
    peak = matmul_peak(DTYPES[dtype], setting.device)
    rate = step_operations(setting) / result["whole step"]["ours"]
    result["matmul peak, TFLOP/s"] = peak / 1e12
    result["fraction of the peak"] = rate / peak
    memory = {side: peak_memory(side, dtype, setting) for side in ("stock", "ours")}
    result["peak memory"] = memory | {"ratio": memory["ours"] / memory["stock"]}
    return result


def drawing(setting: Setting, rounds: int) -> dict[str, float]:
    """Seconds for drawing one batch of masks and distractors."""
    model: Any = build("ours", setting)
    frames = int(model._get_feat_extract_output_lengths(setting.samples))
    lengths = torch.full((setting.batch,), frames, device=setting.device)

    def ours() -> None:
        model.choose_distractors(model.choose_mask(lengths, frames, None, None), None, None)

    functions = {
        "stock": lambda: draw_for_stock(model.config, setting.batch, frames, setting.device),
        "ours": ours,
    }
    seconds = interleave(functions, max(rounds, 5), setting.device)
    return seconds | {"ratio": seconds["stock"] / seconds["ours"]}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["| precision | what | stock | ours | ratio |", "|---|---|---|---|---|"]
    for dtype, result in results.items():
        for name, row in result.items():
            if not isinstance(row, dict):
                lines.append(f"| {dtype} | {name} | | {row:.3f} | |")
                continue
            scale, unit = (2**30, "GiB") if "memory" in name else (1, "s")
            stock_value, our_value = (f"{row[side] / scale:.3g} {unit}" for side in ("stock", "ours"))
            lines.append(f"| {dtype} | {name} | {stock_value} | {our_value} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def machine(setting: Setting) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if setting.device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--child", choices=["stock", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    setting = Setting(**{name: getattr(options, name) for name in Setting.__annotations__})
    if options.child:
        child(options.child, options.dtypes[0], setting)
        return
    results = {dtype: compare(setting, dtype, options.rounds) for dtype in options.dtypes}
    results["any"] = {"drawing masks and distractors": drawing(setting, options.rounds)}
    report = {"setting": vars(setting), "machine": machine(setting), "results": results}
    print(json.dumps({key: report[key] for key in ("setting", "machine")}), table(results), sep="\n\n")
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
