"""Run in a process of its own, because registration lasts: the texts of clips, in every way that users take.

Arguments: a model folder, a folder of clips, and the file for the answers.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

import wav2vec2
from wav2vec2 import Transcriber, Wav2Vec2ForCTC, Wav2Vec2Processor, load_audio

Clip = NDArray[np.float32]


def alone(model: Any, processor: Any, clips: list[Clip]) -> list[str]:
    """One after the other, without padding."""
    texts = []
    for clip in clips:
        inputs = processor(clip, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            texts += processor.batch_decode(model(inputs.input_values).logits.argmax(-1))
    return texts


def in_one_batch(model: Any, processor: Any, clips: list[Clip]) -> list[str]:
    """Padded, and whole rows of logits decoded, as in the documentation of Transformers."""
    inputs = processor(clips, sampling_rate=16_000, padding=True, return_tensors="pt")
    with torch.no_grad():
        texts: list[str] = processor.batch_decode(model(**inputs).logits.argmax(-1))
    return texts


class Padded:
    """The collator of a well-known tutorial of fine-tuning."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        batch = self.processor.pad(
            [{"input_values": one["input_values"]} for one in features], padding=True, return_tensors="pt"
        )
        labels = self.processor.pad(
            labels=[{"input_ids": one["labels"]} for one in features], padding=True, return_tensors="pt"
        )
        batch["labels"] = labels["input_ids"].masked_fill(labels.attention_mask.ne(1), -100)
        return batch


def in_evaluation(model: Any, processor: Any, clips: list[Clip], folder: Path) -> list[str]:
    """What `compute_metrics` of that tutorial sees: the most likely token of every frame of every logit."""
    texts: list[str] = []

    def compute_metrics(prediction: Any) -> dict[str, float]:
        texts.extend(processor.batch_decode(np.argmax(prediction.predictions, axis=-1)))
        return {}

    examples = [
        {"input_values": processor(clip, sampling_rate=16_000).input_values[0], "labels": [3]} for clip in clips
    ]
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(folder),
            per_device_eval_batch_size=8,
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to=[],
            disable_tqdm=True,
        ),
        eval_dataset=examples,
        data_collator=Padded(processor),
        compute_metrics=compute_metrics,
    )
    trainer.evaluate()
    return texts


def in_pipeline(folder: str, clips: list[Clip]) -> list[str]:
    """After `register()`, eight clips at once; of files, a pipeline would need ffmpeg."""
    wav2vec2.register()
    recognise = transformers.pipeline("automatic-speech-recognition", model=folder)
    given = [{"raw": clip, "sampling_rate": 16_000} for clip in clips]
    return [answer["text"] for answer in recognise(given, batch_size=8)]


def main(folder: str, audio: str, output: str) -> None:
    """All of them, in the order of the clips' names."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    paths = sorted(str(path) for path in Path(audio).glob("*.wav"))
    clips = [load_audio(path) for path in paths]
    model, processor = Wav2Vec2ForCTC.from_pretrained(folder).eval(), Wav2Vec2Processor.from_pretrained(folder)
    answers = {
        "alone": alone(model, processor, clips),
        "in one batch": in_one_batch(model, processor, clips),
        "in a Trainer's evaluation": in_evaluation(model, processor, clips, Path(output).parent / "trainer"),
        "by Transcriber": [one.text for one in Transcriber.from_pretrained(folder).transcribe_each(paths)],
        "in a pipeline": in_pipeline(folder, clips),
    }
    Path(output).write_text(json.dumps(answers), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
