"""What a figure was measured with: the weight files by their SHA-256, the versions, the machine. No paths, no users."""

import hashlib
import json
import os
import platform
from pathlib import Path

import torch

from wav2vec2.files.versions import versions_of
from wav2vec2.processing.tokenizer_files import find_file

#: Packages that texts and times depend on.
PACKAGES = ("wav2vec2", "torch", "transformers", "accelerate", "numpy", "jiwer", "rapidfuzz", "soundfile", "soxr")

#: Where Transformers looks for weights, in its order; an index names the pieces.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, as `sha256sum` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weight_files(checkpoint: str, language: str | None = None) -> dict[str, str]:
    """The SHA-256 of each weight file of a checkpoint, a folder or a name on the Hub; with those of its language."""
    names: list[str] = []
    for name in _WEIGHTS:
        found = find_file(checkpoint, name, {})
        if found is not None:
            is_index = name.endswith(".json")
            names = sorted(set(json.loads(found.read_text("utf-8"))["weight_map"].values())) if is_index else [name]
            break
    if language is not None:
        names += [f"adapter.{language}.safetensors", f"adapter.{language}.bin"]
    files = {name: find_file(checkpoint, name, {}) for name in names}
    return {name: sha256_of(path) for name, path in files.items() if path is not None}


def versions() -> dict[str, str]:
    """Python and the packages that matter, with their versions."""
    return versions_of(PACKAGES)


def hardware(device: torch.device) -> str:
    """The processor, how many cores this process may use, and the accelerator if it is one that computes.

    >>> hardware(torch.device("cpu")).endswith((" core", " cores"))
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = f"{_processor()}, {cores} core{'s' if cores > 1 else ''}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {text}"
    return text if device.type == "cpu" else f"{device.type}; {text}"


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine()
