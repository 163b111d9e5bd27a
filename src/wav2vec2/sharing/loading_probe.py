"""What a fresh process makes of a model folder and a clip, with this package or with Transformers alone ("stock").

Run as a file, so that Transformers alone sees nothing of this package:

    python loading_probe.py own|stock FOLDER CLIP.npy ANSWER.npz

The clip is float32 at 16 kHz. The answer holds `inputs` (1, S), `outputs` (1, T, V or C), and `facts`: JSON with `text`
(greedy, by the tokenizer), `transcript` (by the `Transcriber`), `model` and `note`.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BatchFeature, FeatureExtractionMixin, PreTrainedModel, ProcessorMixin

    Parts = tuple[type[PreTrainedModel], ProcessorMixin | FeatureExtractionMixin, str]

RATE = 16_000

#: The Auto class of each head of stock Transformers.
AUTO_CLASSES = {
    "Wav2Vec2ForCTC": "AutoModelForCTC",
    "Wav2Vec2ForPreTraining": "AutoModelForPreTraining",
    "Wav2Vec2Model": "AutoModel",
    "Wav2Vec2ForSequenceClassification": "AutoModelForAudioClassification",
    "Wav2Vec2ForAudioFrameClassification": "AutoModelForAudioFrameClassification",
    "Wav2Vec2ForXVector": "AutoModelForAudioXVector",
}


def architecture_of(folder: Path) -> str:
    """The class that a folder was saved from; a ValueError if `config.json` names none that others know."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = config.get("architectures") or []
    if config.get("model_type") != "wav2vec2" or len(names) != 1 or names[0] not in AUTO_CLASSES:
        raise ValueError(
            f"config.json: model_type {config.get('model_type')!r}, architectures {names}: needs 'wav2vec2' and one of "
            + ", ".join(AUTO_CLASSES)
        )
    return str(names[0])


def own_parts(folder: Path, name: str) -> "Parts":
    """Model class and processor of this package, and no note; the feature extractor for models without text."""
    from wav2vec2 import modeling
    from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
    from wav2vec2.processing.processor import Wav2Vec2Processor

    loader = Wav2Vec2Processor if name == "Wav2Vec2ForCTC" else Wav2Vec2FeatureExtractor
    return getattr(modeling, name), loader.from_pretrained(folder), ""


def stock_parts(folder: Path, name: str) -> "Parts":
    """Model class and processor of Transformers by its Auto classes, and a note on what could not be tried.

    Phonemes need a library there that may not be installed.
    """
    import transformers

    model = getattr(transformers, AUTO_CLASSES[name])
    if name != "Wav2Vec2ForCTC":
        return model, transformers.AutoFeatureExtractor.from_pretrained(folder), ""
    try:
        return model, transformers.AutoProcessor.from_pretrained(folder), ""
    except ImportError as error:
        note = f"the tokenizer could not be tried with Transformers alone: {' '.join(str(error).split())}"
        return model, transformers.AutoFeatureExtractor.from_pretrained(folder), note


def outputs_of(model: "PreTrainedModel", inputs: "BatchFeature") -> "Tensor":
    """The logits of a model; if it has none, its hidden states, projected where pretraining projects them."""
    import torch

    with torch.inference_mode():
        if hasattr(model, "project_hid"):  # its forward pass draws masks
            return model.project_hid(model.wav2vec2(**inputs).last_hidden_state)
        found = model(**inputs)
        return found.logits if hasattr(found, "logits") else found.last_hidden_state


def probe(kind: str, folder: Path, clip: Path, answer: Path) -> None:
    """Load, run, write what came out."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    name = architecture_of(folder)
    model_class, processor, note = (own_parts if kind == "own" else stock_parts)(folder, name)
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    samples = np.load(clip)
    inputs = processor(samples, sampling_rate=RATE, return_tensors="pt")
    outputs = outputs_of(model, inputs)
    facts: dict[str, Any] = {"text": None, "transcript": None, "model": type(model).__name__, "note": note}
    if hasattr(processor, "batch_decode"):
        facts["text"] = processor.batch_decode(outputs.argmax(-1))[0]
    if kind == "own" and name == "Wav2Vec2ForCTC":
        from wav2vec2.inference.transcriber import Transcriber

        found: Any = Transcriber.from_pretrained(folder, device="cpu").transcribe((samples, RATE))
        facts["transcript"] = found.text
    np.savez(answer, inputs=inputs["input_values"].numpy(), outputs=outputs.numpy(), facts=json.dumps(facts))


if __name__ == "__main__":
    probe(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
