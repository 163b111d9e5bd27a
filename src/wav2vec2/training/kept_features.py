"""Fine-tuning that computes what is held once for each clip.

Where the convolutions are held, as in the paper, their output of a clip is always the same. It is kept the first time,
and from then on the clip is neither read nor convolved. Of the operations of an update of base, which goes through the
convolutions forwards alone, these are 14 %, and 33 % while only the head is trained. A run that never trains anything
but a head, with nothing drawn below it, keeps the Transformer's output instead, or that of each of its layers where the
head listens to them all: an update is then the head alone.

So that a result does not depend on what happens to be kept, a clip's features are a function of the clip alone, to the
last bit: every clip goes through the held part by itself, padded to a length that follows from its own, and is
rounded to 16 bits before its first use too. Batches, processes, limits, and a run that is resumed with nothing kept
all see the same numbers.

Shapes: B rows of a batch, S samples, T frames, C channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import conv_output_length, frame_stride
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.feature_stores import DiskStore, FeatureStore, MemoryStore, Packed, packed
from wav2vec2.training.data.kept_clips import KeptClips
from wav2vec2.training.device_copies import ToHost, to_device
from wav2vec2.training.held_part import (
    CONVOLUTIONS,
    ENCODER,
    LAYERS,
    HeldPart,
    reason_against_convolutions,
    reason_against_encoder,
)
from wav2vec2.training.progress.throughput import frame_operations, wait_for
from wav2vec2.training.settings.run_config import Run, SupervisedRun, TuningSection
from wav2vec2.training.tasks.task import Task

#: Clips are padded to a multiple of so many samples, an eighth of a second: a GPU plans its work anew for every length.
_STEP = 2000

_GIB = 2.0**30


class KeptFeatures:
    """Puts the output of the held `part` of a model in the place of waveforms, computed or kept.

    `store` keeps it, `clips` tells those who read clips what need not be read, `tell` says once if the store fails.
    """

    def __init__(
        self,
        model: Wav2Vec2PreTrainedModel,
        accelerator: Accelerator,
        store: FeatureStore,
        clips: KeptClips,
        tell: Callable[[str], None],
        part: HeldPart = CONVOLUTIONS,
    ) -> None:
        self.part = part
        self.model, self.config = model.base_model, model.config
        self.accelerator = accelerator
        self.store, self.clips, self.tell = store, clips, tell
        with torch.no_grad(), accelerator.autocast():
            like = self.heard(torch.zeros(_STEP))
        wait_for(accelerator.device)  # from here on another queue of the device reads the weights
        #: What the part computes in: whether rounding takes anything away.
        self.dtype = like.dtype

    def __call__(self, batch: Batch) -> Batch:
        """The batch with what the part makes of it (B, T, C) in the place of its waveforms; with `scales` (B,) if that
        is divided."""
        rows, samples = batch.shape
        frames = self.frames(samples)
        new = self.computed(batch)
        scales = torch.ones(rows)
        dtype = self.dtype if self.dtype.itemsize == 2 else torch.float16
        pinned = self.accelerator.device.type == "cuda"
        features = torch.zeros(rows, frames, self.part.channels(self.config), dtype=dtype, pin_memory=pinned)
        for row, clip in enumerate(batch.clips):
            found = new.get(row) or self.kept(clip)
            assert found is not None, "a clip was not read that is not kept"
            features[row, : len(found.features)] = found.features
            scales[row] = found.scale
            if row in new:
                self.keep(clip, found)
        inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "input_values"}
        inputs |= {self.part.name: features} | ({} if self.dtype.itemsize == 2 else {"scales": scales})
        return replace(batch, inputs=inputs, convolved=[batch.clips[row].length for row in new])

    def computed(self, batch: Batch) -> dict[int, Packed]:
        """The features of the clips that are not kept, by their rows. All are given to the device before it is waited
        for."""
        read = [row for row, clip in enumerate(batch.clips) if clip.read]
        waveforms = batch.inputs["input_values"].split([batch.clips[row].length for row in read])
        coming: dict[int, tuple[ToHost, ToHost]] = {}
        with torch.no_grad(), self.accelerator.autocast():
            for row, waveform in zip(read, waveforms, strict=True):
                if self.kept(batch.clips[row]) is None:
                    features, scale = packed(self.heard(waveform))
                    coming[row] = ToHost(features), ToHost(scale)
        return {row: Packed(features.read(), scale.read()) for row, (features, scale) in coming.items()}

    def heard(self, waveform: Tensor) -> Tensor:
        """A clip (S,) through the part by itself: (T, C)."""
        samples = len(waveform)
        padded = F.pad(to_device(waveform, self.accelerator.device), (0, -samples % _STEP))
        lengths = torch.full((1,), samples, device=padded.device)
        return self.part(self.model, padded[None], lengths)[0, : self.frames(samples)]

    def frames(self, samples: int) -> int:
        """Of so many samples."""
        return conv_output_length(samples, self.config.conv_kernel, self.config.conv_stride)

    def operations(self, task: Task, samples: Sequence[int], computed: Sequence[int]) -> float:
        """Of an update of rows of so many samples, for which clips of `computed` samples went through the part. Heads
        count for nothing, as everywhere."""
        if self.part.whole:
            return sum(sum(frame_operations(self.config, length)) for length in computed)
        return task.operations(samples, computed)

    def kept(self, clip: ClipFacts) -> Packed | None:
        """A clip's features, if they are kept."""
        return None if clip.number is None else self.store.get(clip.number)

    def keep(self, clip: ClipFacts, features: Packed) -> None:
        """Keep a clip's features if there is room. That there is none stops nothing."""
        if clip.number is None:
            return
        try:
            if self.store.put(clip.number, features):
                self.clips.add(clip.number, clip.length)
        except OSError as error:
            self.tell(
                f"warning: tuning.keep_features: nothing more is kept on the disk ({error}); the run goes on, and "
                "computes what is not kept"
            )


def keep_features(
    run: Run,
    accelerator: Accelerator,
    model: Wav2Vec2PreTrainedModel,
    data: TrainingData,
    tell: Callable[[str], None],
) -> KeptFeatures | None:
    """What keeps the features of a run, if it was asked for and if the model allows for it; either is told."""
    tuning = run.tuning if isinstance(run, SupervisedRun) else TuningSection()
    if tuning.keep_features is None:
        return None
    against_encoder = reason_against_encoder(run, model.config)
    of_encoder = LAYERS if model.config.use_weighted_layer_sum else ENCODER
    part = CONVOLUTIONS if against_encoder else of_encoder
    against = reason_against(model, data, accelerator.distributed_type, part)
    if against is not None:
        tell(f"warning: tuning.keep_features={tuning.keep_features}: nothing is kept, since {against}")
        return None
    if part is CONVOLUTIONS and tuning.freeze_updates is None:
        tell(f"the Transformer's output is not kept, though it is never trained, since {against_encoder}")
    limit = tuning.keep_features_gib * _GIB
    store = MemoryStore(limit) if tuning.keep_features == "memory" else DiskStore(limit, Path(run.run.output))
    for line in what_is_kept(tuning, part, model.config, data):
        tell(line)
    data.kept = KeptClips(data.numbers)
    return KeptFeatures(model, accelerator, store, data.kept, tell, part)


def reason_against(
    model: Wav2Vec2PreTrainedModel, data: TrainingData, distributed: DistributedType, part: HeldPart = CONVOLUTIONS
) -> str | None:
    """Why a part's output of a clip is not always the same, or cannot be had apart; None if it can be kept."""
    against = reason_against_convolutions(model) if part is CONVOLUTIONS else None
    if against is not None:
        return against
    if not data.numbers:
        return "a stream does not say which of its clips come again"
    if distributed in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return "FSDP and DeepSpeed compute no part of a model by itself"
    return None


def what_is_kept(tuning: TuningSection, part: HeldPart, config: Wav2Vec2Config, data: TrainingData) -> list[str]:
    """What there is room for, and what is not kept."""
    where = {"memory": "in memory", "disk": "on the disk"}[str(tuning.keep_features)]
    bytes_of_hour = 3600 * 16000 / frame_stride(config.conv_stride) * part.channels(config) * 2
    hours = tuning.keep_features_gib * _GIB / bytes_of_hour
    lines = [
        f"{part.output} of up to {hours:.3g} h is kept {where} by each process "
        f"(tuning.keep_features_gib={tuning.keep_features_gib:g}); what is kept is neither read nor computed again"
    ]
    longest = data.limits.longest if data.limits.crop else float("inf")
    cropped = sum(int((table.seconds > longest).sum()) for table in data.train_tables if hasattr(table, "seconds"))
    if cropped:
        lines.append(f"  but not of {cropped} clips above data.max_seconds={longest:g}, cropped elsewhere each time")
    return lines
