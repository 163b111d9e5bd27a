"""Micro-batches in memory that a GPU reads by itself: every tensor, by another thread, to the end of an evaluation."""

import multiprocessing
import threading
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
from training_audio import joined, write_manifest

from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.settings.run_config import DataSection, Source


def section(path: Path, workers: int) -> DataSection:
    """Ten clips to train on, the same to evaluate on: 4 s an update, 2 s a micro-batch."""
    source = Source(str(path))
    return DataSection(
        train=[source],
        valid=[source],
        min_seconds=0.2,
        seconds_per_update=4,
        seconds_per_batch=2,
        workers=workers,
        max_seconds=1,
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Clips of 0.3 to 1.2 s."""
    return write_manifest(tmp_path / "data", [0.3 + 0.1 * number for number in range(10)])


class Pinned(torch.Tensor):
    """Stands for a tensor in memory that a GPU reads."""


@dataclass
class Pinning:
    """What was pinned, and by which threads."""

    tensors: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def pin(self, tensor: torch.Tensor, device: object = None) -> torch.Tensor:
        """Stands for `Tensor.pin_memory`."""
        self.tensors.append(tensor.data_ptr())
        self.threads.add(threading.current_thread().name)
        return tensor.as_subclass(Pinned)


@pytest.fixture
def pinning(monkeypatch: pytest.MonkeyPatch) -> Pinning:
    """No GPU is here, so what pins is a fake, and the DataLoader is told that there is one."""
    pinned = Pinning()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, device=None: pinned.pin(tensor, device))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda *_: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda *_: None)
    return pinned


@pytest.mark.slow
def test_an_evaluation_is_pinned_to_its_end(manifest: Path, pinning: Pinning) -> None:
    """What is read to the end has ended its own workers; closing it then is nothing."""
    data = TrainingData(section(manifest, 2), 3)
    for _ in range(2):
        batches = data.evaluation_batches(joined, processes=1, process=0, seconds_per_batch=3.0, pin=True)
        with closing(batches):
            found = list(batches)
        assert len(found) > 2 and all(type(tensor) is Pinned for batch in found for tensor in batch.inputs.values())
    assert not multiprocessing.active_children()
    assert pinning.threads and "MainThread" not in pinning.threads


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_are_pinned_where_that_is_asked_for(workers: int, manifest: Path, pinning: Pinning) -> None:
    """Every tensor once, by a thread of this process where there are workers."""
    plain = TrainingData(section(manifest, 0), 3)
    where: dict[str, Any] = {"processes": 1, "process": 0, "start_update": 0, "position": {}}
    data = TrainingData(section(manifest, workers), 3)
    with closing(data.batches(Waveforms(True), **where, pin=True)) as batches:
        found = list(takewhile(lambda batch: batch.update < 2, batches))
    assert all(type(tensor) is Pinned for batch in found for tensor in batch.inputs.values())
    pinned = len(pinning.tensors)
    assert pinned >= 3 * len(found) and (workers or pinned == 3 * (len(found) + 1))
    assert pinning.threads == {"MainThread"} if not workers else "MainThread" not in pinning.threads
    with closing(plain.batches(Waveforms(True), **where)) as batches:
        expected = list(takewhile(lambda batch: batch.update < 2, batches))
    assert not any(isinstance(tensor, Pinned) for batch in expected for tensor in batch.inputs.values())
    assert [batch.ids for batch in found] == [batch.ids for batch in expected]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(tensor, other.inputs[name]) for name, tensor in one.inputs.items())
