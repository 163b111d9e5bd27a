"""A recogniser in torch and in every runtime it can be exported to: how long the same clips take, side by side.

    python benchmarks/exports.py outputs/ctc/model --data test.tsv --folders exports   # exported first, where not there
    python benchmarks/exports.py --quick                                               # random weights, one made clip

Each is timed from samples to text, one clip after the other, in single precision and in 8 bits, on as many threads as
all the others. In every round each takes its turn; medians are given. What is not installed is left out and named;
transformers.js is looked for from the current folder, and runs in one process of Node, which reads each clip from a
file. In single precision all texts must be torch's.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from wav2vec2 import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor
from wav2vec2.configuration import presets
from wav2vec2.evaluation.evaluation_run import named_recordings
from wav2vec2.evaluation.provenance import hardware
from wav2vec2.export import export_model
from wav2vec2.export.checkpoint import Array, Checkpoint, load_checkpoint
from wav2vec2.export.exporting import TARGETS
from wav2vec2.export.node_runtime import installed_for_node
from wav2vec2.export.probe_clips import vowels
from wav2vec2.export.targets import Precision
from wav2vec2.files.versions import versions_of
from wav2vec2.modeling.int8_linear import quantise_linear_layers
from wav2vec2.processing.audio_files import load_audio


class Side(NamedTuple):
    """What is timed: its name, its precision, and what gives the text of the clip with such a number."""

    name: str
    precision: Precision
    recognise: Callable[[int], str]


def in_torch(checkpoint: Checkpoint, precision: Precision, clips: Sequence[Array]) -> Side:
    """The model of this package, whose linear layers can have 8 bits as well."""
    if precision is Precision.int8:
        narrow = copy.deepcopy(checkpoint.model)
        quantise_linear_layers(narrow)
        checkpoint = replace(checkpoint, model=narrow)
    return Side("torch", precision, lambda clip: checkpoint.text(checkpoint.outputs(clips[clip])["logits"]))


def in_runtime(checkpoint: Checkpoint, target: str, folder: Path, precision: Precision, clips: Sequence[Array]) -> Side:
    """An exported folder in its own runtime."""
    runtime = TARGETS[target].opened(checkpoint, folder, precision)
    return Side(target, precision, lambda clip: runtime.texts([clips[clip]])[0])


def exported(model: Path, folders: Path, targets: Sequence[str]) -> dict[str, Path]:
    """Folders by target: those that are there, and others that are exported; not of runtimes that are missing."""
    found = {}
    for target in targets:
        if target == "transformers.js" and isinstance(why := installed_for_node(), str):
            print(f"{target} is left out: {why}")
            continue
        try:
            if not (folders / target).is_dir():
                export_model(model, target, folders / target, int8=True)
        except ImportError as error:
            print(f"{target} is left out: {error}")
            continue
        found[target] = folders / target
    return found


def measure(
    checkpoint: Checkpoint, folders: dict[str, Path], clips: Sequence[Array], rounds: int
) -> list[dict[str, Any]]:
    """Seconds for all clips, and texts that are torch's, of every side."""
    sides = []
    for precision in Precision:
        sides.append(in_torch(checkpoint, precision, clips))
        sides += [in_runtime(checkpoint, target, folder, precision, clips) for target, folder in folders.items()]
    numbers = range(len(clips))
    texts = [[" ".join(side.recognise(clip).split()) for clip in numbers] for side in sides]  # and everything is warm
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, times in zip(sides, taken, strict=True):
            began = time.perf_counter()
            for clip in numbers:
                side.recognise(clip)
            times.append(time.perf_counter() - began)
    rows = []
    for side, times, heard in zip(sides, taken, texts, strict=True):
        same = sum(one == other for one, other in zip(heard, texts[0], strict=True))
        if side.precision is Precision.float32 and same < len(clips):
            raise SystemExit(f"{side.name} reads {heard} where torch reads {texts[0]}")
        shown = {"runtime": side.name, "precision": side.precision.value, "threads": torch.get_num_threads()}
        rows.append(shown | {"seconds": statistics.median(times), "quickest": min(times), "same_texts": same})
    return rows


def table(rows: Sequence[dict[str, Any]], audio: float, clips: int) -> str:
    """As Markdown: times as fast as speech, and the share of torch's time in single precision on as many threads."""
    lines = ["| threads | runtime | precision | times as fast as speech | of torch's time | same texts |"]
    lines.append("|---|---|---|---|---|---|")
    torchs = {
        row["threads"]: row["seconds"] for row in rows if (row["runtime"], row["precision"]) == ("torch", "float32")
    }
    for row in rows:
        speed, share = audio / row["seconds"], row["seconds"] / torchs[row["threads"]]
        start = f"| {row['threads']} | {row['runtime']} | {row['precision']} |"
        lines.append(f"{start} {speed:.0f} | {share:.2f} | {row['same_texts']} of {clips} |")
    return "\n".join(lines)


def random_model(folder: Path) -> Path:
    """A small recogniser with random weights."""
    torch.manual_seed(0)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    sizes: dict[str, Any] = {"conv_dim": (16,) * 7, "hidden_size": 48, "num_hidden_layers": 1, "intermediate_size": 64}
    Wav2Vec2ForCTC(presets.tiny(**sizes, vocab_size=len(tokens), pad_token_id=0)).save_pretrained(folder)
    tokenizer = Wav2Vec2CTCTokenizer({token: row for row, token in enumerate(tokens)})
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def main() -> None:
    """Measure, and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="a folder; needed but for --quick")
    parser.add_argument("--data", type=Path, help="a manifest, whose first recordings are heard; by default vowels")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--folders", type=Path, help="where exports are, or are put, each called as its runtime")
    parser.add_argument("--runtimes", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="whether it runs at all: random weights, one round")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if options.model is None and not options.quick:
        parser.error("which model?")
    with TemporaryDirectory() as place:
        model = options.model or random_model(Path(place) / "model")
        folders = exported(model, options.folders or Path(place), options.runtimes)
        checkpoint = load_checkpoint(str(model))
        rate = checkpoint.extractor.sampling_rate
        recordings = list(named_recordings(options.data).values()) if options.data else []
        clips = [load_audio(one.path, rate) for one in recordings[: options.clips]] or [vowels(rate)]
        rows = []
        for threads in options.threads:
            torch.set_num_threads(threads)
            rows += measure(checkpoint, folders, clips, 1 if options.quick else options.rounds)
    audio = sum(map(len, clips)) / rate
    versions = versions_of(["torch", "onnxruntime", "sherpa-onnx", "openvino"])
    if "transformers.js" in folders:
        versions["transformers.js"] = installed_for_node()[0]
    print(table(rows, audio, len(clips)))
    print(f"{len(clips)} clips, {audio:.1f} s together; {hardware(torch.device('cpu'))}; {versions}")
    if options.output:
        machine = {"hardware": hardware(torch.device("cpu")), "versions": versions}
        content = {"machine": machine, "clips": len(clips), "seconds_of_audio": audio, "rows": rows}
        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
