"""Fine-tuning with CTC as the loop sees it.

The loss of an update is the sum over its utterances divided by their number, whatever parts and processes they came in
(fairseq's `sentence_avg`, with which the paper's learning rates were chosen). An utterance whose target needs more
frames than its audio has is as if it were not there; the loop lists it.

Shapes: B clips, S samples, T frames, V tokens, U labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wav2vec2.baselines import SpectrogramModel
from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramCTCConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import frames_needed, logits_length
from wav2vec2.evaluation.scoring import error_rates
from wav2vec2.modeling.attention_in_chunks import Chunks
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.tasks.supervised_task import NO_LABEL, SupervisedTask
from wav2vec2.training.tasks.task import Inputs, Sums, exact

#: Decoded samples of an evaluation that are shown.
_SAMPLES = 3

#: So many transcripts are remembered with their labels: those of most runs, a few dozen MB.
_REMEMBERED = 1 << 16

#: Stands in a reference for a character without a token. No hypothesis has it, so it counts as the error that it is.
_UNKNOWN = "\ufffd"


@dataclass(frozen=True)
class Stages:
    """Where a run changes: so long only the head is trained (None: always), so long the learning rate rises, so long
    it lasts."""

    freeze_updates: int | None = 0
    warmup_updates: int = 0
    total_updates: int | None = None


class CTCTask(SupervisedTask):
    """Spell what is said."""

    criterion = "wer"

    def __init__(
        self,
        config: Wav2Vec2Config | SpectrogramCTCConfig,
        feature_extractor: Wav2Vec2FeatureExtractor,
        tokenizer: Wav2Vec2CTCTokenizer,
        seed: int,
        stages: Stages | None = None,
        chunks: Callable[[int], Chunks] | None = None,
    ) -> None:
        super().__init__(config, feature_extractor, seed, stages.freeze_updates if stages else 0)
        self.tokenizer = tokenizer
        self.stages = stages or Stages()
        #: What a frame sees in each update, if it is drawn.
        self.chunks = chunks
        #: Tokens that are never written, such as "<s>": no path goes through them.
        self.unwritten = sorted({int(index) for index in tokenizer.all_special_ids} - {tokenizer.blank_id})
        #: Words of phones are phones, so that their error rate is that of phones, and the only one.
        self.of_phones = isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer)
        if self.of_phones:
            self.criterion = "per"
        self._labels: dict[str, list[int]] = {}
        self._updates_done = 0
        self._samples: list[dict[str, str]] = []

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With the labels of their transcripts. A row without a clip: an utterance of no frame and no label."""
        spelled = [self._labels_of(clip.transcript or "") for clip in clips]
        rows, longest = len(waveforms["sample_lengths"]), max([1, *map(len, spelled)])
        labels = torch.full((rows, longest), NO_LABEL)
        for row, ids in zip(labels, spelled, strict=False):
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        lengths = (labels != NO_LABEL).sum(1)
        frames = logits_length(waveforms["sample_lengths"], self.config)
        impossible = frames < frames_needed(labels, frames_within(lengths, longest))
        dropped = impossible & torch.tensor(self.config.ctc_drop_infeasible)
        counted = ~dropped & (frames > 0)
        return waveforms | {
            "labels": labels,
            "dropped": dropped,
            "counted": counted,
            "clips": torch.tensor(len(clips)),
        }

    def _labels_of(self, transcript: str) -> list[int]:
        """The labels of a transcript. They are made once: espeak-ng takes half a millisecond for a sentence."""
        if transcript not in self._labels:
            if len(self._labels) == _REMEMBERED:
                self._labels.clear()
            self._labels[transcript] = list(self.tokenizer(transcript).input_ids)
        return self._labels[transcript]

    def counts(self, inputs: Inputs) -> Tensor:
        """Utterances."""
        return inputs["counted"].sum().float()[None]

    def begin(self, model: Wav2Vec2PreTrainedModel | SpectrogramModel, update: int) -> None:
        """The plateau of an evaluation is explained by how many updates are done; and what frames see is drawn."""
        super().begin(model, update)
        if self.chunks is not None and isinstance(model, Wav2Vec2PreTrainedModel):
            model.see_in_training(self.chunks(update))
        self._updates_done = update + 1

    def sums(self, output: Any, inputs: Inputs) -> Sums:
        """What figures are made of."""
        counted = inputs["counted"]
        real = frames_within(self.frames(inputs), output.logits.shape[1])
        blank = (output.logits.detach().argmax(-1) == self.config.pad_token_id) & real
        return {
            "loss": exact(output.loss),
            "utterances": exact(counted.sum()),
            "labels": exact(((inputs["labels"] >= 0) & counted[:, None]).sum()),
            "dropped": exact(inputs["dropped"].sum()),
            "frames": exact(real.sum()),
            "blank": exact(blank.sum()),
        }

    def frames(self, inputs: Inputs) -> Tensor:
        """Real frames of the logits of each clip (B,)."""
        return logits_length(inputs["sample_lengths"], self.config)

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Means over utterances, labels and frames."""
        return {
            "loss": sums["loss"] / max(sums["utterances"], 1.0),
            "loss_per_label": sums["loss"] / max(sums["labels"], 1.0),
            "blank_share": sums["blank"] / max(sums["frames"], 1.0),
            "dropped": int(sums["dropped"]),
        }

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """The same, and the errors of the greedy texts. Ids are kept, never logits."""
        output = self.forward(model, inputs)
        said, heard = self.texts(output.logits, inputs)
        self._samples += [{"reference": a, "hypothesis": b} for a, b in zip(said, heard, strict=True)]
        self._samples = self._samples[:_SAMPLES]
        rates = error_rates(said, heard)
        errors = {
            f"{unit}_{kind}": torch.tensor(float(getattr(counts, kind)))
            for unit, counts in (("word", rates.words), ("character", rates.characters))
            for kind in ("errors", "reference")
        }
        device = output.logits.device
        return self.sums(output, inputs) | {key: exact(value.to(device)) for key, value in errors.items()}

    def texts(self, logits: Tensor, inputs: Inputs) -> tuple[list[str], list[str]]:
        """What was said and what is heard in each clip. A clip that is too short for its text counts all the same."""
        count = int(inputs["clips"])
        unwritten = torch.tensor(self.unwritten, dtype=torch.long, device=logits.device)
        paths = logits.index_fill(-1, unwritten, float("-inf")).argmax(-1).tolist()
        frames = self.frames(inputs).tolist()
        heard = [str(self.tokenizer.decode(path[:length])) for path, length in zip(paths, frames, strict=True)]
        said = [self.said([index for index in row if index >= 0]) for row in inputs["labels"].tolist()]
        return said[:count], heard[:count]

    def said(self, labels: list[int]) -> str:
        """The text of labels."""
        text, unknown = str(self.tokenizer.decode_labels(labels)), self.tokenizer.unk_token
        return text.replace(unknown, _UNKNOWN) if unknown else text

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """With error rates of the whole corpus, some texts of the main process's share, and what to make of it all."""
        samples, self._samples = self._samples, []
        figures = self.figures(sums)
        plateau = describe_plateau(
            figures["blank_share"],
            self._updates_done,
            warmup_updates=self.stages.warmup_updates,
            freeze_updates=self.stages.freeze_updates,
            total_updates=self.stages.total_updates,
        )
        of_words, of_characters = (
            sums[f"{unit}_errors"] / max(sums[f"{unit}_reference"], 1.0) for unit in ("word", "character")
        )
        rates = {"per": of_words} if self.of_phones else {"wer": of_words, "cer": of_characters}
        return figures | rates | {"samples": samples, "plateau": plateau}


def describe_plateau(
    blank_share: float,
    update: int,
    *,
    warmup_updates: int = 0,
    freeze_updates: int | None = 0,
    total_updates: int | None = None,
) -> str | None:
    """A sentence on the plateau at the start of CTC training in which nearly every frame is blank; None elsewhere.

    It is named, never stopped: every CTC run goes through it, since the blank is the most frequent label by far. It
    can end only once the learning rate has risen and the encoder is being trained, where it ever is.
    """
    if blank_share < 0.95:
        return None
    begin = max(warmup_updates, freeze_updates or 0)
    margin = max(500, total_updates // 10) if total_updates is not None else 2000
    end = begin + margin
    seen = f"{blank_share:.1%} of the frames are blank, so that texts are empty or nearly so, and WER is near 100 %"
    if update <= end:
        reasons = [
            f"the learning rate rises until update {warmup_updates}" if update < warmup_updates else "",
            f"only the head is trained until update {freeze_updates}" if update < (freeze_updates or 0) else "",
        ]
        why = "; " + " and ".join(filter(None, reasons)) if any(reasons) else ""
        expected = f"it should end by about update {end}"
        if total_updates is not None and end > total_updates:
            expected = f"it may take until about update {end}, and this run ends after {total_updates}: run.updates"
            expected += " may be too few"
        return f"blank plateau: {seen}. Every CTC run begins so{why}; {expected}."
    return (
        f"blank plateau: {seen}. It should have ended by about update {end}. Look at the letters' case and the blank's "
        "id, at whether texts belong to their audio, and at the learning rate (try three times and a third of it)."
    )
