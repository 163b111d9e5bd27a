"""Run in a process of its own by any stock Transformers, without this package: what it makes of models on a Hub.

Arguments: a JSON list of what to load (`name`, `kind`, `languages`), `.npy` files of clips, the file for the answers
(`.npz`: tensors by `<name>/<what>/<clip>`, and `facts`, a JSON object).
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

RATE = 16_000
#: What a model of one kind may leave unread: of a pretrained one its quantizer and projections, for its encoder alone.
LEFT_OVER = ("quantizer.", "project_hid.", "project_q.")


class Answers:
    """Collects what models say to all clips."""

    def __init__(self, clips: list[Any]) -> None:
        self.clips = clips
        self.tensors: dict[str, Any] = {}
        self.facts: dict[str, Any] = {
            "versions": {"transformers": transformers.__version__, "torch": torch.__version__}
        }

    def run(self, what: str, model: Any, prepare: Any, outputs: Any) -> None:
        """The tensors of each clip by itself."""
        with torch.inference_mode():
            for number, clip in enumerate(self.clips):
                inputs = prepare(clip, sampling_rate=RATE, return_tensors="pt")
                self.tensors[f"{what}/{number}"] = outputs(model, inputs).float().numpy()

    def say(self, what: str, said: Any) -> None:
        """One thing for each clip."""
        self.facts[what] = [said({"raw": clip, "sampling_rate": RATE}) for clip in self.clips]


def load(kind: Any, name: str, **options: Any) -> Any:
    """A model in evaluation mode, all tensors of which were there."""
    model, info = kind.from_pretrained(name, output_loading_info=True, **options)
    unread = [key for key in info["unexpected_keys"] if not key.startswith(LEFT_OVER)]
    if info["missing_keys"] or unread:
        raise ValueError(f"{name} as {kind.__name__}: missing {info['missing_keys']}, not read {unread}")
    return model.eval()


def logits(model: Any, inputs: Any) -> Any:
    """Of any model with a head."""
    return model(**inputs).logits


def recognition(name: str, answers: Answers) -> None:
    """By Auto classes, and by a pipeline that is given the name."""
    processor = transformers.AutoProcessor.from_pretrained(name)
    answers.run(f"{name}/logits", load(transformers.AutoModelForCTC, name), processor, logits)
    paths = [answers.tensors[f"{name}/logits/{number}"].argmax(-1) for number in range(len(answers.clips))]
    answers.facts[f"{name}/text"] = [processor.batch_decode(path)[0] for path in paths]
    recogniser = transformers.pipeline("automatic-speech-recognition", model=name)
    answers.say(f"{name}/pipeline", lambda clip: recogniser(clip)["text"])


def languages(name: str, answers: Answers, names: list[str]) -> None:
    """One model with the adapters, head and vocabulary of each language."""
    for language in names:
        options = {"target_lang": language, "ignore_mismatched_sizes": True}
        model = load(transformers.AutoModelForCTC, name, **options)
        processor = transformers.AutoProcessor.from_pretrained(name, target_lang=language)
        what = f"{name}/{language}"
        answers.run(f"{what}/logits", model, processor, logits)
        paths = [answers.tensors[f"{what}/logits/{number}"].argmax(-1) for number in range(len(answers.clips))]
        answers.facts[f"{what}/text"] = [processor.batch_decode(path)[0] for path in paths]


def pretraining(name: str, answers: Answers) -> None:
    """With quantizer, and as the bare encoder that others build on."""
    prepare = transformers.AutoFeatureExtractor.from_pretrained(name)
    whole = load(transformers.Wav2Vec2ForPreTraining, name)
    answers.run(f"{name}/projected", whole, prepare, lambda model, inputs: model(**inputs).projected_states)
    answers.run(f"{name}/quantized", whole, prepare, lambda model, inputs: model(**inputs).projected_quantized_states)
    for kind in (transformers.AutoModel, transformers.Wav2Vec2Model):
        encoder = load(kind, name)
        answers.run(
            f"{name}/{kind.__name__}", encoder, prepare, lambda model, inputs: model(**inputs).last_hidden_state
        )


def classification(name: str, answers: Answers) -> None:
    """By Auto class and by pipeline."""
    prepare = transformers.AutoFeatureExtractor.from_pretrained(name)
    answers.run(f"{name}/logits", load(transformers.AutoModelForAudioClassification, name), prepare, logits)
    classifier = transformers.pipeline("audio-classification", model=name)
    answers.say(f"{name}/pipeline", lambda clip: classifier(clip)[0]["label"])


def main(wanted: list[dict[str, Any]], clips: list[Any], target: Path) -> None:
    """Everything that is asked for."""
    answers = Answers(clips)
    for one in wanted:
        if one["kind"] == "languages":
            languages(one["name"], answers, one["languages"])
        else:
            globals()[one["kind"]](one["name"], answers)
    np.savez(target, facts=json.dumps(answers.facts), **answers.tensors)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(json.loads(sys.argv[1]), [np.load(path) for path in sys.argv[2:-1]], Path(sys.argv[-1]))
