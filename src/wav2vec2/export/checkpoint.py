"""The model that is exported, with all that its exports are compared with: its outputs for a clip, and its text.

Shapes: S samples, T frames, V tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import logits_length, output_length
from wav2vec2.decoding.transcripts import Hypothesis
from wav2vec2.evaluation.provenance import weight_files
from wav2vec2.export.refusal import ExportError
from wav2vec2.inference.checkpoint_check import languages_of, reach
from wav2vec2.inference.kept_parts import Part
from wav2vec2.inference.transcriber import Transcriber, greedy_decoder
from wav2vec2.modeling import (
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    Wav2Vec2Model,
)
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import Wav2Vec2Processor
from wav2vec2.processing.tokenizer_files import CONFIG_FILE, find_file, read_json

Array = NDArray[np.float32]

#: How many frames an output has for so many samples; None for an output with one row per clip.
Frames = Callable[[int, Wav2Vec2Config], int] | None


@dataclass(frozen=True)
class Head:
    """A class of models, what it computes by the names of its output's fields, and what it is for, in a sentence."""

    kind: Any
    outputs: Mapping[str, Frames]
    purpose: str


def _before_adapter(samples: int, config: Wav2Vec2Config) -> int:
    return output_length(samples, config, False)


_FEATURES = Head(
    Wav2Vec2Model,
    {"last_hidden_state": output_length, "extract_features": _before_adapter},
    "features of speech, one vector every 20 ms",
)

#: By the architecture that `config.json` names.
HEADS: dict[str, Head] = {
    "Wav2Vec2ForCTC": Head(Wav2Vec2ForCTC, {"logits": logits_length}, "speech recognition (CTC)"),
    "Wav2Vec2ForSequenceClassification": Head(
        Wav2Vec2ForSequenceClassification, {"logits": None}, "one label for each clip"
    ),
    "Wav2Vec2ForAudioFrameClassification": Head(
        Wav2Vec2ForAudioFrameClassification, {"logits": output_length}, "labels for each frame of 20 ms"
    ),
    "Wav2Vec2ForXVector": Head(
        Wav2Vec2ForXVector, {"logits": None, "embeddings": None}, "one vector for each clip, which tells speakers apart"
    ),
    "Wav2Vec2Model": _FEATURES,
    "Wav2Vec2ForPreTraining": _FEATURES,
}


@dataclass(frozen=True)
class Checkpoint:
    """A model that is loaded, in float32 on the CPU, and what belongs to it."""

    #: Folder or name on the Hub.
    source: str
    #: What it is called in cards: the last name of a folder.
    name: str
    head: Head
    model: Any
    extractor: Wav2Vec2FeatureExtractor
    #: None for a model that writes no text.
    processor: Wav2Vec2Processor | None
    #: Which of its languages, of a checkpoint with several.
    language: str | None
    #: The SHA-256 of each of its weight files as it was loaded; a training run may write others meanwhile.
    weights: Mapping[str, str]

    @property
    def config(self) -> Wav2Vec2Config:
        """That of the model."""
        config: Wav2Vec2Config = self.model.config
        return config

    @property
    def writes_text(self) -> bool:
        """Whether it recognises speech."""
        return self.processor is not None

    def values(self, waveform: Array) -> Array:
        """What the model is given for a clip (S,)."""
        given = self.extractor(waveform, sampling_rate=self.extractor.sampling_rate)
        values: Array = given["input_values"][0]
        return values

    @torch.inference_mode()
    def outputs(self, waveform: Array) -> dict[str, Array]:
        """What torch computes for a clip (S,), by name: (T, ...), or one row."""
        found = self.model(torch.from_numpy(self.values(waveform))[None])
        return {name: found[name][0].numpy() for name in self.head.outputs}

    def frames(self, output: str, samples: int) -> int | None:
        """How many frames an output has for a clip of so many samples; None for an output with one row per clip."""
        count = self.head.outputs[output]
        return None if count is None else count(samples, self.config)

    @cached_property
    def transcriber(self) -> Transcriber:
        """The same model with greedy search, whose texts are the model's."""
        assert self.processor is not None
        return Transcriber(self.model, self.processor)

    def text(self, logits: Array) -> str:
        """What the best token of each frame of (T, V) spells."""
        assert self.processor is not None
        log_probs = torch.from_numpy(np.ascontiguousarray(logits)).float().log_softmax(-1)
        ((found,),) = self._greedy.greedy(log_probs[None]) if len(log_probs) else (([Hypothesis("", 0.0)]),)
        return self.transcriber.transcript_of("", [Part(0, len(log_probs), found)], None).text

    @cached_property
    def _greedy(self) -> Any:
        assert self.processor is not None
        return greedy_decoder(self.model, self.processor)

    @cached_property
    def written_tokens(self) -> dict[int, str]:
        """The tokens that texts are made of, by their ids in the model, as a runtime has to write them: without the
        blank and special tokens, which no text holds; with a space for the word delimiter, and before every phoneme."""
        assert self.processor is not None
        tokenizer, speller = self.processor.tokenizer, self._greedy.speller
        apart = isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer) and speller.delimiter is None
        lower = bool(getattr(tokenizer, "do_lower_case", False))
        written = {}
        for number, token in enumerate(speller.vocabulary):
            if number == speller.delimiter:
                written[number] = " "
            elif number != speller.blank and number not in speller.special:
                written[number] = f"{' ' if apart else ''}{token.lower() if lower else token}"
        return written

    @property
    def blank(self) -> int:
        """The id of the CTC blank."""
        return int(self._greedy.speller.blank)


def load_checkpoint(source: str, language: str | None = None) -> Checkpoint:
    """Load a checkpoint of any head, from a folder or the Hub. One of several languages needs one of them."""
    hub = reach(source)
    path = find_file(source, CONFIG_FILE, hub)
    if path is None:
        raise ExportError(f"{source}: has no {CONFIG_FILE}, so it is no model: give the folder that one was saved in")
    content = read_json(path)
    named = content.get("architectures") if isinstance(content, dict) else None
    architecture = str(named[0]) if isinstance(named, list) and named else "Wav2Vec2ForCTC"
    if architecture not in HEADS:
        raise ExportError(f"{source}: is a {architecture}; what can be exported: {', '.join(HEADS)}")
    head = HEADS[architecture]
    name = Path(source).resolve().name if Path(source).is_dir() else source
    if head.kind is not Wav2Vec2ForCTC:
        if language is not None:
            raise ExportError(f"{source}: is a {architecture}, which has no languages: leave {language!r} out")
        model = head.kind.from_pretrained(source, dtype=torch.float32, **hub).eval()
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(source, **hub)
        return Checkpoint(source, name, head, model, extractor, None, None, weight_files(source))
    _check_language(source, language, languages_of(source, hub))
    chosen = hub if language is None else hub | {"target_lang": language}
    processor = Wav2Vec2Processor.from_pretrained(source, **chosen)
    model = Wav2Vec2ForCTC.from_pretrained(source, dtype=torch.float32, **chosen).eval()
    greedy_decoder(model, processor)  # refuses a tokenizer and a model that do not belong together
    weights = weight_files(source, language)
    return Checkpoint(source, name, head, model, processor.feature_extractor, processor, language, weights)


def _check_language(source: str, language: str | None, there: list[str] | None) -> None:
    if there is None and language is not None:
        raise ExportError(f"{source}: is a model of one language; leave {language!r} out")
    if there is not None and language not in there:
        shown = ", ".join(there[:20]) + (" ..." if len(there) > 20 else "")
        asked = "say which language" if language is None else f"{language!r} is not among them"
        raise ExportError(f"{source}: has {len(there)} languages, {asked}: {shown}")
