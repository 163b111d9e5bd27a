"""Run in a process of its own, because registration lasts: what Auto classes and pipelines give before and after it.

Arguments: a folder with one checkpoint per head, and the file for the answers.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import transformers

import wav2vec2

#: Auto classes and the heads that they stand for.
AUTO_CLASSES = {
    "AutoModel": "Wav2Vec2Model",
    "AutoModelForPreTraining": "Wav2Vec2ForPreTraining",
    "AutoModelForCTC": "Wav2Vec2ForCTC",
    "AutoModelForAudioClassification": "Wav2Vec2ForSequenceClassification",
    "AutoModelForAudioFrameClassification": "Wav2Vec2ForAudioFrameClassification",
    "AutoModelForAudioXVector": "Wav2Vec2ForXVector",
}


def origin(thing: Any) -> str:
    """Class and package of an object."""
    return f"{type(thing).__module__.split('.')[0]}.{type(thing).__name__}"


def classes(folder: Path) -> dict[str, str]:
    """What every Auto class makes of a folder, and of both configurations."""
    given = {"AutoConfig": origin(transformers.AutoConfig.from_pretrained(folder / "Wav2Vec2ForCTC"))}
    for name, head in AUTO_CLASSES.items():
        auto = getattr(transformers, name)
        given[name] = origin(auto.from_pretrained(folder / head))
        stocks = transformers.Wav2Vec2Config.from_pretrained(folder / head)
        given[f"{name}.from_config(stock)"] = origin(auto.from_config(stocks))
    return given


def classes_from_our_configuration(folder: Path) -> dict[str, str]:
    """What every Auto class makes of our configuration."""
    given = {}
    for name, head in AUTO_CLASSES.items():
        config = wav2vec2.Wav2Vec2Config.from_pretrained(folder / head)
        given[f"{name}.from_config(ours)"] = origin(getattr(transformers, name).from_config(config))
    return given


def pipelines(folder: Path) -> dict[str, Any]:
    """What the two pipelines say to two clips in one batch, and which class spoke."""
    generator = np.random.default_rng(0)
    clips = [generator.standard_normal(samples).astype(np.float32) for samples in (16000, 9000)]
    answers: dict[str, Any] = {}
    for task, head in (
        ("automatic-speech-recognition", "Wav2Vec2ForCTC"),
        ("audio-classification", "Wav2Vec2ForSequenceClassification"),
    ):
        pipe = transformers.pipeline(task, model=str(folder / head))
        answers[task] = {
            "class": origin(pipe.model),
            "single": [pipe(clip) for clip in clips],
            "batch": pipe(clips, batch_size=2),
        }
    pipe = transformers.pipeline("automatic-speech-recognition", model=str(folder / "Wav2Vec2ForCTC"))
    answers["chunks"] = pipe(clips[0], chunk_length_s=0.5, stride_length_s=0.1, return_timestamps="char")
    return answers


def components(folder: Path) -> dict[str, dict[str, str]]:
    """What the three Auto classes without a model make of each folder; an error by its name."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((folder / "processors").iterdir()):
        found[path.name] = {}
        for name in ("AutoTokenizer", "AutoFeatureExtractor", "AutoProcessor"):
            try:
                found[path.name][name] = origin(getattr(transformers, name).from_pretrained(path))
            except (ImportError, OSError, TypeError) as error:
                found[path.name][name] = type(error).__name__
    return found


def transcripts(folder: Path) -> dict[str, Any]:
    """Texts and words of the pipeline, and of `Transcriber`."""
    pipe = transformers.pipeline("automatic-speech-recognition", model=str(folder / "Wav2Vec2ForCTC"))
    transcriber = wav2vec2.Transcriber.from_pretrained(folder / "Wav2Vec2ForCTC", device="cpu")
    generator = np.random.default_rng(1)
    clips = [generator.standard_normal(samples).astype(np.float32) for samples in (16000, 9000, 24000, 5000)]
    said: list[Any] = [transcriber.transcribe(clip, sampling_rate=16000) for clip in clips]
    letters: list[Any] = [transcriber.transcribe(clip, timestamps="char", sampling_rate=16000) for clip in clips]
    return {
        "parts": [origin(part) for part in (pipe.model, pipe.tokenizer, pipe.feature_extractor)],
        "transcriber": [one.text for one in said],
        "words": [[word.text for word in one.words] for one in said],
        "letters": [[token.text for token in one.characters if token.text.strip("| ")] for one in letters],
        "single": [pipe(clip)["text"] for clip in clips],
        "in chunks": [pipe(clip, chunk_length_s=30)["text"] for clip in clips],
        "timed words": [[one["text"] for one in pipe(c, return_timestamps="word")["chunks"]] for c in clips],
        "timed letters": [
            [one["text"] for one in pipe(c, return_timestamps="char")["chunks"] if one["text"].strip()] for c in clips
        ],
    }


def main(folder: Path, answers: Path) -> None:
    """Look before, after registering once, and after registering again."""
    seen: dict[str, Any] = {"before": classes(folder), "before_pipelines": pipelines(folder)}
    seen["components_before"] = components(folder)
    wav2vec2.register()
    seen["after"] = classes(folder) | classes_from_our_configuration(folder)
    wav2vec2.register()
    seen["again"] = classes(folder) | classes_from_our_configuration(folder)
    seen["after_pipelines"] = pipelines(folder)
    seen["components_after"] = components(folder)
    seen["transcripts"] = transcripts(folder)
    seen["stock_processor"] = origin(transformers.Wav2Vec2Processor.from_pretrained(folder / "Wav2Vec2ForCTC"))
    seen["stock_class"] = origin(transformers.Wav2Vec2ForCTC.from_pretrained(folder / "Wav2Vec2ForCTC"))
    answers.write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
