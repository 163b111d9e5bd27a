"""`README.md` of an exported folder: what it is, how it runs, how far it is from the model; and the same as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from wav2vec2.evaluation.figures_in_words import percent
from wav2vec2.evaluation.provenance import hardware
from wav2vec2.export.agreement import Agreement
from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.targets import Precision, Target
from wav2vec2.export.word_errors import WordErrors
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.versions import versions_of
from wav2vec2.processing.tokenizer_files import write_json

CARD, RECORD = "README.md", "export.json"

_PACKAGES = ("wav2vec2", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "sherpa-onnx")


@dataclass(frozen=True)
class Figures:
    """What was measured of the files of one precision."""

    #: Their names.
    files: list[str]
    #: How large they are together.
    bytes: int
    #: Beside torch, on a few clips.
    agreement: Agreement
    #: On a manifest; None without one.
    word_errors: WordErrors | None


def write_card(
    target: Target, checkpoint: Checkpoint, folder: Path, name: str, figures: Mapping[Precision, Figures]
) -> None:
    """Write both files into a folder that will be called `name`."""
    record = {
        "target": target.name,
        "model": checkpoint.name,
        "language": checkpoint.language,
        "weights": dict(checkpoint.weights),
        "figures": {precision.value: asdict(one) for precision, one in figures.items()},
        "versions": versions_of(_PACKAGES),
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
    }
    write_json(folder / RECORD, record)
    of_language = f", language `{checkpoint.language}`" if checkpoint.language else ""
    parts = [
        f"# {checkpoint.name} for {target.name}",
        f"A wav2vec 2.0 model for {checkpoint.head.purpose}{of_language}, exported from `{checkpoint.name}` by "
        f"`wav2vec2 export --to {target.name}`. Its licence is that of the model.",
        "## Running it",
        target.usage(checkpoint, name),
        "\n".join(f"- {note}" for note in target.notes(checkpoint)),
        "## Beside the model in torch",
        _agreement_table(figures),
        _word_error_table(figures),
        f"All of it on {record['hardware']}, {record['threads']} thread(s). `{RECORD}` has the figures and the SHA-256 "
        "of the weights they are of. Speeds are of this machine, one clip after the other, without the time that "
        "texts take.",
    ]
    with replaced_file(folder / CARD) as stream:
        stream.write(("\n\n".join(part for part in parts if part) + "\n").encode())


def _agreement_table(figures: Mapping[Precision, Figures]) -> str:
    lines = [
        "| | size | largest difference | relative difference | same texts | times as fast as speech (torch) |",
        "|---|---|---|---|---|---|",
    ]
    for precision, one in figures.items():
        found = one.agreement
        texts = f"{found.same_texts} of {found.texts}" if found.texts else "-"
        lines.append(
            f"| {precision.value}, {found.runtime} | {one.bytes / 1e6:.1f} MB | {found.largest_difference:.2g} | "
            f"{found.relative_difference:.2g} | {texts} | {found.speed:.0f} ({found.torch_speed:.0f}) |"
        )
    clips = next(iter(figures.values())).agreement.clips
    return (
        "\n".join(lines) + f"\n\nOf {clips} clips and cuts of clips, alone and in padded batches where it takes them."
    )


def _word_error_table(figures: Mapping[Precision, Figures]) -> str:
    measured = {precision: one.word_errors for precision, one in figures.items() if one.word_errors is not None}
    if not measured:
        return "The error rate was not measured (`--data MANIFEST` does)."
    lines = [
        "| | WER | in torch | change (95 % interval, paired) | same texts |",
        "|---|---|---|---|---|",
    ]
    for precision, one in measured.items():
        drawn = one.interval
        between = "" if drawn is None else f" ({percent(drawn.low, True)} to {percent(drawn.high, True)})"
        warning = " **too much**" if one.too_much else ""
        lines.append(
            f"| {precision.value} | {percent(one.runtime)} | {percent(one.torch)} | "
            f"{percent(one.change, True)}{between}{warning} | {one.same_texts} of {one.recordings} |"
        )
    first = next(iter(measured.values()))
    return "\n".join(lines) + f"\n\n{first.recordings} recordings, {first.words} words, normaliser {first.normaliser}."
