"""Slots of clips, as the loop sees them: what an order asks for, in the place where other data has the transcript.

Shapes: B clips, K slots, N labels of all slots together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wav2vec2.baselines import SpectrogramConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.slot_values import NO_CLIP, SlotValues
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.slot_tables import slots_of_text
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.tasks.supervised_task import SupervisedTask
from wav2vec2.training.tasks.task import Inputs, Sums, exact


class SlotTask(SupervisedTask):
    """A value of each slot, or none; judged by the F1 of the values that were said and of those that were heard."""

    criterion = "slot_error"

    def __init__(
        self,
        config: Wav2Vec2Config | SpectrogramConfig,
        feature_extractor: Wav2Vec2FeatureExtractor,
        values: SlotValues,
        seed: int,
        freeze_updates: int | None = 0,
    ) -> None:
        super().__init__(config, feature_extractor, seed, freeze_updates)
        self.values = values

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With the numbers of the values (B, K)."""
        rows = [self.values.numbers(slots_of_text(clip.transcript or "")) for clip in clips]
        nothing = [[NO_CLIP] * len(self.values.slots)] * (len(waveforms["sample_lengths"]) - len(rows))
        return waveforms | {"labels": torch.tensor(rows + nothing, dtype=torch.long)}

    def counts(self, inputs: Inputs) -> Tensor:
        """Clips."""
        return _clips(inputs["labels"]).sum().float()[None]

    def sums(self, output: Any, inputs: Inputs) -> Sums:
        """What figures are made of: for each slot how often a value was said, heard, and heard as it was said."""
        labels, chosen = inputs["labels"], self.values.chosen(output.logits.detach())
        clips = _clips(labels)
        said, heard = (labels != 0) & clips[:, None], (chosen != 0) & clips[:, None]
        right = (labels == chosen) & clips[:, None]
        return {
            "loss": exact(output.loss),
            "clips": exact(clips.sum()),
            "whole": exact(right.all(-1).sum()),
            "said": exact(said.sum(0)),
            "heard": exact(heard.sum(0)),
            "right": exact((right & said).sum(0)),
        }

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Over the clips."""
        clips = max(sums["clips"], 1.0)
        right, both = sum(sums["right"]), sum(sums["said"]) + sum(sums["heard"])
        return {
            "loss": sums["loss"] / clips,
            "slot_f1": 2 * right / both if both else 1.0,
            "accuracy": sums["whole"] / clips,
        }

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """The same."""
        return self.sums(self.forward(model, inputs), inputs)

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """With what is wrong, and the F1 of each slot."""
        figures = self.figures(sums)
        counted = zip(self.values.slots, sums["right"], sums["said"], sums["heard"], strict=True)
        each: Mapping[str, float] = {
            name: 2 * right / (said + heard) if said + heard else 1.0 for name, right, said, heard in counted
        }
        return figures | {"slot_error": 1.0 - figures["slot_f1"], "f1_of_slots": each}


def _clips(labels: Tensor) -> Tensor:
    """Which rows (B,) of labels (B, K) are clips."""
    return (labels != NO_CLIP).any(-1)
