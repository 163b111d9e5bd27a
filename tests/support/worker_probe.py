"""Data for worker processes, and collate functions that tell what goes on in one. Imports no more than a worker has."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from training_audio import write_manifest

from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.division import AS_THE_CLIPS, Shape
from wav2vec2.training.settings.run_config import DataSection, Source

#: What a worker has no need of.
HEAVY = ("transformers", "accelerate", "wav2vec2.modeling", "wav2vec2.inference")


def data_of(folder: Path, workers: int, clips: int = 12) -> TrainingData:
    """Clips of half a second, two to an update."""
    section = DataSection(
        train=[Source(str(write_manifest(folder, [0.4 + 0.01 * number for number in range(clips)])))],
        min_seconds=0.2,
        max_seconds=1.0,
        seconds_per_update=1.0,
        seconds_per_batch=1.0,
        workers=workers,
        cache=str(folder / "durations"),
    )
    return TrainingData(section, 1)


def batches_of(data: TrainingData, collate: Any) -> Any:
    """The batches of a run of one process from its first update on."""
    return data.batches(collate, processes=1, process=0, start_update=0, position={})


@dataclass(frozen=True)
class Loaded:
    """Beside a task's waveforms, which of the heavy packages the process has imported (the bytes of their names), and
    which signals never reach it."""

    waveforms: Any

    def __call__(self, clips: list[LoadedClip], shape: Shape = AS_THE_CLIPS) -> dict[str, torch.Tensor]:
        """In a worker."""
        found = " ".join(name for name in HEAVY if name in sys.modules)
        blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        loaded = torch.tensor(list(found.encode()), dtype=torch.uint8)
        made: dict[str, torch.Tensor] = self.waveforms(clips, shape)
        return made | {"loaded": loaded, "blocked": torch.tensor(blocked)}


@dataclass(frozen=True)
class Slow:
    """The first batch of a worker comes at once, the next ones take so many seconds."""

    seconds: float

    def __call__(self, clips: list[LoadedClip], shape: Shape = AS_THE_CLIPS) -> dict[str, torch.Tensor]:
        """In a worker."""
        if hasattr(sys, "_slow_has_begun"):
            time.sleep(self.seconds)
        sys._slow_has_begun = True  # type: ignore[attr-defined]
        return {"process": torch.tensor(os.getpid())}


@dataclass(frozen=True)
class Memory:
    """How many bytes the process has that it shares with no other."""

    def __call__(self, clips: list[LoadedClip], shape: Shape = AS_THE_CLIPS) -> dict[str, torch.Tensor]:
        """In a worker."""
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
        kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty", "Private_Clean")))
        return {"own_bytes": torch.tensor(1024 * kilobytes)}
