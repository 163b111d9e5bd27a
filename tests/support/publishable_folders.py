"""Folders that can be published: a small recogniser with its decoder and its card. Its evaluation is made up."""

import hashlib
from pathlib import Path
from typing import Any

from recognition_checkpoints import TOKENS, save_checkpoint

from wav2vec2 import CTCDecoder, NgramLanguageModel
from wav2vec2.evaluation.bootstrap import Improvement, Interval, Resampling
from wav2vec2.evaluation.evaluation import (
    FORMAT,
    Decoding,
    DecodingComparison,
    ErrorRate,
    EvaluatedData,
    EvaluatedModel,
    Evaluation,
    Failure,
    Setting,
)
from wav2vec2.sharing.loading_check import Loaded
from wav2vec2.sharing.model_card import CardFacts, write_card

FACTS = CardFacts(license="apache-2.0", languages=["en"], datasets=["tester/corpus"], limitations=["Not for singing."])
RUN: dict[str, Any] = {
    "kind": "run",
    "recipe": "finetune-base",
    "hours": 9.5,
    "clips": 1234,
    "seconds_per_update": 320.0,
    "updates": 2000,
    "parameters": 79012,
    "precision": "bf16",
    "hardware": "a processor, 2 cores",
    "seed": 7,
    "commit": "0123abc",
    "wall_seconds": 4321.4,
    "versions": {"torch": "2.13.0", "python": "3.11.7"},
    "config": {"_name_or_path": "/home/somebody/base"},
}


def rate(hits: int, substitutions: int, deletions: int, insertions: int, speakers: bool = True) -> ErrorRate:
    """A rate that fits its counts, with intervals around it."""
    reference = hits + substitutions + deletions
    value = (substitutions + deletions + insertions) / reference
    low_high = Interval(value * 0.9, value * 1.1)
    wider = Interval(value * 0.8, value * 1.2) if speakers else None
    return ErrorRate(value, substitutions, deletions, insertions, hits, reference, low_high, wider)


def evaluation(beam: bool = True, speakers: bool = True, weights: str = "ab" * 32) -> Evaluation:
    """Greedy, and beam search with a language model; `weights`: the SHA-256 of the file that was measured."""
    words, letters = rate(871, 90, 39, 17, speakers), rate(4701, 170, 60, 41, speakers)
    greedy = Decoding("greedy", {"search": "greedy"}, words, letters, 55, 3600.0, 90.0)
    settings: dict[str, Setting] = {
        "search": "beam",
        "beam": 100,
        "alpha": 0.5,
        "beta": 1.5,
        "language_model": "3gram",
        "lexicon": False,
    }
    words, letters = rate(931, 50, 19, 9, speakers), rate(4801, 90, 40, 21, speakers)
    better = Decoding("beam", settings, words, letters, 35, 3600.0, 252.0)
    gain = Improvement(0.99, -0.068, Interval(-0.09, -0.05))
    return Evaluation(
        format=FORMAT,
        model=EvaluatedModel("model", {"model.safetensors": weights}, 79012, "float32", None),
        data=EvaluatedData("tester/corpus", "clean", "test", "1f2e3d", "test.tsv", "cd" * 32),
        utterances=100,
        hours=1.0,
        speakers=8 if speakers else None,
        normalizer="english",
        normalizer_steps="lower case, no punctuation",
        resampling=Resampling(2000, 3, 0.95),
        decodings=[greedy, better] if beam else [greedy],
        comparison=DecodingComparison("beam", "greedy", gain, None) if beam else None,
        failures=[Failure("clip7", "not audio")],
        versions={"torch": "2.13.0", "transformers": "5.23.0"},
        hardware="a processor, 2 cores",
        date="2026-11-21",
        seconds=342.0,
    )


def decoder() -> CTCDecoder:
    """With a language model of a few words."""
    model = NgramLanguageModel.train(["ab cd", "ab ef gh", "cd ab"] * 3, order=2, prune=(0,))
    return CTCDecoder(TOKENS, language_model=model, beam=20, alpha=0.4, beta=1.1)


def publishable_folder(folder: Path, **overrides: Any) -> Path:
    """Model, processor, decoder, card; and what a training run leaves beside them."""
    save_checkpoint(folder, **overrides)
    decoder().save_pretrained(folder)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    write_card(folder, FACTS, evaluation(weights=weights), RUN)
    (folder / "training_state").mkdir()
    (folder / "training_state" / "files.json").write_text('{"output": "/home/somebody/runs"}')
    (folder / "optimizer.pt").write_bytes(b"\0" * 64)
    (folder / "log.jsonl").write_text('{"kind": "training", "update": 1, "loss": 2.0}\n')
    (folder / "run.json").write_text('{"data": {"train": [{"path": "/home/somebody/speech"}]}}')
    return folder


#: What of such a folder is published.
PUBLISHED = {
    "README.md",
    "config.json",
    "decoder.json",
    "language_model.ngrams",
    "log.jsonl",
    "model.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "vocab.json",
}


def taken_as_loaded(*_: Any) -> Loaded:
    """In place of the check by fresh processes, which has tests of its own and takes seconds."""
    return Loaded("Wav2Vec2ForCTC", "abc", 0.0, "")
