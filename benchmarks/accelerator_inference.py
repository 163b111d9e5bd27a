"""Parts of `on_accelerator.py`: logits beside stock's, transcripts, alignment, and decoding."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import finetuning_step
import numpy as np
import torch
from accelerator_rows import Bench, Row, beside, figure
from numpy.typing import NDArray
from pretraining_step import interleave
from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.inference.aligning import align_each, align_recording
from wav2vec2.inference.transcriber import Transcriber

SAMPLING_RATE = 16000

#: Clips of one batch, where clips are sorted by length first.
_TOGETHER = 16

Batch = tuple[Tensor, Tensor]


def inference(bench: Bench) -> Iterator[Row]:
    """Logits of clips of 1 to 20 s: sorted batches, and one batch of all, as they come; then whole transcripts."""
    clips = mixed_clips(3 if bench.quick else 64, 0.6 if bench.quick else 20.0)
    audio = sum(len(clip) for clip in clips) / SAMPLING_RATE
    what = f"{len(clips)} clips of 1 to {max(len(clip) for clip in clips) / SAMPLING_RATE:.0f} s"
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        setting = finetuning_step.Setting(
            preset="tiny" if bench.quick else "base", batch=1, seconds=1.0, seed=0, rounds=bench.rounds, attention=None
        )
        built = dict(zip(("ours", "stock"), finetuning_step.models(setting), strict=True))
        models = {side: model.eval().to(bench.device, dtype) for side, model in built.items()}
        yield encoder_pass(bench, models["ours"], dtype, name)
        by_length = [padded(part, bench.device, dtype) for part in in_parts(sorted(clips, key=len))]
        yield logits_beside(
            bench, f"logits of {what}, sorted, batches of {_TOGETHER}, {name}", models, by_length, audio
        )
        yield transcripts(bench, models["ours"], clips, f"Transcriber on {what}, samples to text, {name}")
        yield transcripts(bench, models["ours"], clips, f"the same by beam search, 25 texts, {name}", beam=25)
        at_once = [padded(clips, bench.device, dtype)]
        yield logits_beside(bench, f"logits of {what}, unsorted, one batch, {name}", models, at_once, audio)


def mixed_clips(count: int, longest: float) -> list[NDArray[np.float32]]:
    """Noise of 1 s to `longest` seconds."""
    generator = np.random.default_rng(0)
    lengths = generator.uniform(min(1.0, longest / 2), longest, count)
    return [generator.standard_normal(int(seconds * SAMPLING_RATE)).astype(np.float32) for seconds in lengths]


def in_parts(clips: list[NDArray[np.float32]]) -> list[list[NDArray[np.float32]]]:
    """So many at a time as a batch holds."""
    return [clips[start : start + _TOGETHER] for start in range(0, len(clips), _TOGETHER)]


def padded(clips: list[NDArray[np.float32]], device: str, dtype: torch.dtype) -> Batch:
    """Values (clips, samples) on the device, and which of them are real."""
    tensors = [torch.from_numpy(clip) for clip in clips]
    values = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips])
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
    return values.to(device, dtype), mask.to(device)


def logits_beside(bench: Bench, what: str, models: dict[str, Any], batches: list[Batch], audio: float) -> Row:
    """Forward passes of both sides; the batches lie on the device."""

    def run_of(model: Any) -> Callable[[], None]:
        @torch.inference_mode()
        def run() -> None:
            for values, mask in batches:
                model(values, attention_mask=mask)

        return run

    runs = {side: run_of(model) for side, model in models.items()}
    return beside(what, interleave(runs, bench.rounds, bench.device, bench.warm_up), audio=audio)


def encoder_pass(bench: Bench, model: Any, dtype: torch.dtype, name: str) -> Row:
    """The logits of a batch such as beam search decodes."""
    count, seconds = (1, 0.5) if bench.quick else (32, 15.0)
    values = torch.randn(count, int(seconds * SAMPLING_RATE), device=bench.device, dtype=dtype)

    @torch.inference_mode()
    def run() -> None:
        model(values)

    taken = interleave({"ours": run}, bench.rounds, bench.device, bench.warm_up)
    return beside(f"logits of {count} x {seconds:g} s, {name}", taken, audio=count * seconds)


def transcripts(bench: Bench, model: Any, clips: list[NDArray[np.float32]], what: str, beam: int | None = None) -> Row:
    """Samples in, texts out, greedy ones without a beam: normalisation, batches, logits, decoding."""
    processor = finetuning_step.processor()
    decoder = None if beam is None else CTCDecoder(processor.tokenizer.tokens, beam=beam)
    transcriber = Transcriber(model, processor, decoder)
    inputs = [(clip, SAMPLING_RATE) for clip in clips]
    taken = by_the_clock(bench, {"ours": lambda: transcriber.transcribe(inputs, timestamps=None)})
    return beside(what, taken, audio=sum(len(clip) for clip in clips) / SAMPLING_RATE)


def alignment(bench: Bench) -> Iterator[Row]:
    """Words with times of clips of 1 to 10 s: all of them at once, and one by one."""
    clips = mixed_clips(3 if bench.quick else 64, 0.6 if bench.quick else 10.0)
    setting = finetuning_step.Setting(
        preset="tiny" if bench.quick else "base", batch=1, seconds=1.0, seed=0, rounds=bench.rounds, attention=None
    )
    dtype = torch.float32 if bench.device == "cpu" else torch.bfloat16
    model = finetuning_step.models(setting)[0].eval().to(bench.device, dtype)
    transcriber = Transcriber(model, finetuning_step.processor())
    spoken = [((clip, SAMPLING_RATE), "SO MUCH IS SAID " * (len(clip) // SAMPLING_RATE + 1)) for clip in clips]
    audio = sum(len(clip) for clip in clips) / SAMPLING_RATE

    def one_by_one() -> None:
        for pair in spoken:
            align_recording(transcriber, *pair)

    taken = by_the_clock(bench, {"ours": lambda: list(align_each(transcriber, spoken)), "alone": one_by_one})
    yield beside(f"alignment of {len(clips)} clips, all at once", {"ours": taken["ours"]}, audio=audio)
    yield beside("the same clips one by one", {"ours": taken["alone"]}, audio=audio)


def by_the_clock(bench: Bench, works: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each, whatever the device does meanwhile: medians of interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(bench.warm_up + bench.rounds):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times[bench.warm_up :]) for name, times in taken.items()}


def decoding(bench: Bench) -> Iterator[Row]:
    """What `decoding.py` measures of decoders on this device."""
    for name, value in flat(import_module("decoding").measure(bench.device, bench.quick)):
        yield figure(name, value)


def flat(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float | str]]:
    """Figures inside of figures, by names that say where they stand."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}: ")
        else:
            yield f"{before}{name}", value if isinstance(value, int | float) else str(value)
