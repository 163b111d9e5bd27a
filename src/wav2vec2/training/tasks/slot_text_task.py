"""CTC whose texts mark slots: what is said and what of it fills which slot, from one head."""

from typing import Any

import torch
from torch import Tensor

from wav2vec2.processing.slot_texts import read_slots
from wav2vec2.training.tasks.ctc_task import CTCTask
from wav2vec2.training.tasks.task import Inputs, Sums, exact


class SlotTextTask(CTCTask):
    """Error rates are of the texts without their marks; beside them stands the F1 of slots and their values."""

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """Also: how many slots were said, heard, and heard as they were said."""
        self._slots = torch.zeros(3)
        return super().evaluation_part(model, inputs) | {"slots": exact(self._slots.to(inputs["labels"].device))}

    def texts(self, logits: Tensor, inputs: Inputs) -> tuple[list[str], list[str]]:
        """Without marks. What they marked is counted."""
        said, heard = ([read_slots(text) for text in texts] for texts in super().texts(logits, inputs))
        for one, other in zip(said, heard, strict=True):
            asked, got = ([(slot.name, slot.value) for slot in text.slots] for text in (one, other))
            right = sum(min(asked.count(slot), got.count(slot)) for slot in set(asked))
            self._slots += torch.tensor([right, len(asked), len(got)])
        return [one.text for one in said], [one.text for one in heard]

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """With the F1 of slots."""
        right, said, heard = sums["slots"]
        f1 = 2 * right / (said + heard) if said + heard else 1.0
        return super().evaluation_figures(sums) | {"slot_f1": f1, "slot_error": 1.0 - f1}
