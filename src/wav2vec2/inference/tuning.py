"""Weights of a transcriber's decoder from recordings with their texts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.weight_tuning import Tell, TuningReport
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.listener import Progress
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.language_models.ngram_language_model import KenlmLanguageModel
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.vocabulary import letter_case


@dataclass
class DevRecordings:
    """What the model makes of recordings, their texts as the decoder would spell them, and what could not be used."""

    log_probs: list[Tensor] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check_tunable(transcriber: Transcriber, name: str) -> None:
    """A ValueError for a decoder that has no weights, or that could not be saved with them."""
    model = None if transcriber.decoder is None else transcriber.decoder.language_model
    if model is None:
        raise ValueError(f"{name}: no language model is saved beside it, so there are no weights to tune: give --lm")
    if isinstance(model, KenlmLanguageModel):
        raise ValueError("a KenLM binary cannot be saved beside a model: give --lm the ARPA file it was made from")


def hear(
    transcriber: Transcriber, recordings: Iterable[tuple[AudioInput, str]], progress: Progress | None = None
) -> DevRecordings:
    """Run the model on recordings; those that cannot be read, or have no text, are left out and listed."""
    spelled = as_spelled(transcriber.processor.tokenizer)
    found = DevRecordings()
    for audio, text in recordings:
        try:
            reference = spelled(text)
            if not reference.split():
                raise ValueError(f"{audio.name}: no transcript")
            log_probs, _ = transcriber.log_probs(audio, progress=progress)
        except (ValueError, OSError) as error:
            found.faults.append(str(error) if audio.name in str(error) else f"{audio.name}: {error}")
            continue
        found.log_probs.append(log_probs)
        found.references.append(reference)
    return found


def as_spelled(tokenizer: Wav2Vec2CTCTokenizer | Wav2Vec2PhonemeCTCTokenizer) -> TextNormalization:
    """What takes a text to the form that the model's tokens have: the choices of its training, and its case."""
    choices: TextNormalization = tokenizer.normalization
    if choices.digits == "refuse":  # here a digit is no fault of the data, but a word that is not found
        choices = replace(choices, digits="keep")
    case = letter_case(tokenizer.encoder) if getattr(tokenizer, "do_lower_case", False) else None
    return replace(choices, case=case) if case is not None else choices


def tune(transcriber: Transcriber, heard: DevRecordings, tell: Tell | None = None) -> TuningReport:
    """Find the weights with the fewest word errors, and keep them in the transcriber's decoder."""
    assert transcriber.decoder is not None
    if not heard.references:
        raise ValueError("no recording could be used, so there is nothing to tune on")
    _check_spelling(transcriber.decoder, heard.references)
    return transcriber.decoder.tune(heard.log_probs, heard.references, tell=tell)


def _check_spelling(decoder: CTCDecoder, references: Iterable[str]) -> None:
    """Where most words cannot be written, all weights are as bad as each other."""
    words = [word for reference in references for word in reference.split()]
    lost = [word for word in words if decoder.speller.spell(word) is None]
    if 2 * len(lost) > len(words) and not isinstance(decoder.lexicon, Mapping):
        raise ValueError(
            f"{len(lost)} of {len(words)} words of the transcripts, such as {lost[:5]}, have characters that the model "
            f"has no token for: {decoder.speller.vocabulary[:40]}. Is upper or lower case mistaken?"
        )
