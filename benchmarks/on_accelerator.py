"""What this package reaches on one GPU, beside stock Transformers, in one command of less than eight minutes.

    python benchmarks/on_accelerator.py --audio FOLDER        # of parquet shards: audio, speaker, duration
    python benchmarks/on_accelerator.py --parts base,profile
    python benchmarks/on_accelerator.py --quick               # every part at tiny size on a CPU: does it still run?

Steps are forward and backward under bf16 autocast, LayerDrop 0; medians of 7 interleaved rounds by the device's events
after two calls to warm up. Shares are of the device's own product of two bf16 matrices. A part that would not end
within `--seconds` is left out and says so; one that takes much longer than it should is broken off. The results are
written after every row, so that a run that is killed leaves what it had.
"""

import argparse
import gc
import json
import os
import re
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerator_inference
import accelerator_loop
import accelerator_steps
import torch
import transformers
from accelerator_rows import Bench, Row, tables

from wav2vec2.evaluation.provenance import hardware, versions
from wav2vec2.files.replaced_file import replaced_file


@dataclass(frozen=True)
class Part:
    """A part: what it is called, what it does, and how many seconds it may take on a GPU."""

    name: str
    work: Callable[[Bench], Iterator[Row]]
    seconds: float


#: In the order of what is missed most: where time runs out, the last ones are left out. The first gives what all
#: shares are shares of, the loop's speed is a share of base's.
PARTS = (
    Part("machine", accelerator_steps.machine, 15),
    Part("base", accelerator_steps.base, 30),
    Part("loop", accelerator_loop.loop, 185),
    Part("update", accelerator_steps.update, 15),
    Part("profile", accelerator_steps.profile, 15),
    Part("ctc", accelerator_steps.ctc, 20),
    Part("inference", accelerator_inference.inference, 40),
    Part("alignment", accelerator_inference.alignment, 15),
    Part("large", accelerator_steps.large, 35),
    Part("decoding", accelerator_inference.decoding, 40),
    Part("compiled base", accelerator_steps.compiled_base, 60),
    Part("compiled large", accelerator_steps.compiled_large, 60),
)


class OverrunError(BaseException):
    """A part took much longer than it should. No exception that whatever it is about could take for its own."""


@contextmanager
def broken_off_after(seconds: float) -> Iterator[None]:
    """OverrunError inside, once so many seconds have passed."""

    def stop(*_: object) -> None:
        raise OverrunError(f"broken off after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Results:
    """The parts so far; the file has them as soon as they are there."""

    def __init__(self, bench: Bench, output: Path | None, seconds: float) -> None:
        self.bench, self.output, self.seconds = bench, output, seconds
        self.begun = time.perf_counter()
        self.parts: dict[str, dict[str, Any]] = {}

    def measure(self, part: Part) -> None:
        """Do a part, unless too little time is left for it. The first is done always: the others need it."""
        begun = time.perf_counter()
        left = self.seconds - (begun - self.begun)
        rows = self.bench.rows.setdefault(part.name, [])
        entry = self.parts[part.name] = {"seconds": 0.0, "problem": None, "failed": False, "rows": rows}
        if left < part.seconds and len(self.parts) > 1:
            entry["problem"] = f"{max(left, 0):.0f} s were left, it may take {part.seconds:.0f}"
            self.write()
            return
        print(f"{part.name} ...", flush=True)
        try:
            with broken_off_after(max(part.seconds, min(left, 1.5 * part.seconds))):
                for row in part.work(self.bench):
                    rows.append(row)
                    self.write()
                    if row["kind"] != "kernel":
                        print(f"  {json.dumps(row)}", flush=True)
        except OverrunError as error:
            entry["problem"] = str(error)
        except Exception as error:  # the others are measured all the same
            traceback.print_exc()
            entry["problem"], entry["failed"] = f"{type(error).__name__}: {str(error)[:300]}", True
        entry["seconds"] = time.perf_counter() - begun
        self.write()
        if self.bench.device == "cuda":
            gc.collect()  # models that stand in circles
            torch.cuda.empty_cache()

    def write(self) -> None:
        """The file, whole at any moment."""
        if self.output is None:
            return
        device = torch.device(self.bench.device)
        report = {
            "machine": {"hardware": hardware(device), "cuda": torch.version.cuda, "versions": versions()},
            "quick": self.bench.quick,
            "seconds": time.perf_counter() - self.begun,
            "parts": self.parts,
        }
        with replaced_file(self.output) as stream:
            stream.write(json.dumps(report, indent=1).encode() + b"\n")


def file_name(device: str) -> str:
    """Of the results, by the name of the device: on_accelerator.nvidia-h100-80gb-hbm3.json."""
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return f"on_accelerator.{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def main() -> int:
    """Measure, write, show; 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", help=f"by default all: {','.join(names)}; machine always goes first")
    parser.add_argument("--seconds", type=float, help="in all (390; with --quick as long as it takes)")
    parser.add_argument("--loop-seconds", type=float, help="of the loop, its start included (120)")
    parser.add_argument("--audio", type=Path, help="folder of parquet shards; without it the loop hears noise")
    parser.add_argument("--output", type=Path, help="JSON, or a folder for it; by default that of this file")
    parser.add_argument("--work", type=Path, help="new folder that keeps the clips and the loop's log and checkpoint")
    parser.add_argument("--quick", action="store_true", help="tiny sizes on the CPU; written only to --output")
    options = parser.parse_args()
    chosen = names if options.parts is None else ["machine", *options.parts.split(",")]
    if unknown := set(chosen) - set(names):
        parser.error(f"--parts: no {', '.join(sorted(unknown))} among {', '.join(names)}")
    if options.quick:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    device = "cpu" if not torch.cuda.is_available() else "cuda"
    if device == "cpu" and not options.quick:
        parser.error("there is no GPU; --quick tries every part on the CPU")
    transformers.logging.set_verbosity_error()
    output = options.output or (None if options.quick else Path(__file__).parent)
    if output is not None and output.is_dir():
        output /= file_name(device)
    if options.work is not None:
        options.work.mkdir(parents=True)  # what an earlier run has left there would be resumed
    with tempfile.TemporaryDirectory(prefix="on-accelerator-") as work:
        seconds = options.loop_seconds or (1.0 if options.quick else 120.0)
        bench = Bench(device, options.quick, options.audio, options.work or Path(work), seconds)
        in_all = options.seconds if options.seconds is not None else 3600.0 if options.quick else 390.0
        results = Results(bench, output, in_all)
        for part in PARTS:
            if part.name in chosen:
                results.measure(part)
    print(f"\n{hardware(torch.device(device))}, torch {torch.__version__}\n\n{tables(results.parts)}")
    return int(any(part["failed"] for part in results.parts.values()))


if __name__ == "__main__":
    raise SystemExit(main())
