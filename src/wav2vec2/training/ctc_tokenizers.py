"""Which tokens a run spells with: those that are given, those of the checkpoint, or those of the training text."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.phone_vocabulary import phone_tokenizer
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import load_tokenizer
from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.texts_and_paths import OneIdPerLogitTokenizer
from wav2vec2.processing.tokenizer_files import TokenizerFileError
from wav2vec2.processing.vocabulary import VocabularyError, VocabularyReport, build_vocabulary, letter_case
from wav2vec2.training.checks.clips import ClipSource
from wav2vec2.training.checks.texts import spell
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.settings.run_config import FinetuneModelSection, FinetuneRun, TextSection


@dataclass(frozen=True)
class ChosenTokenizer:
    """The `tokenizer` of a run, `notes` on where it is from, and the `head_tokens` that the checkpoint's head was
    trained for, None if the head is new."""

    tokenizer: OneIdPerLogitTokenizer
    notes: list[str]
    head_tokens: list[str] | None

    @property
    def keeps_head(self) -> bool:
        """Whether the checkpoint's head was trained for just these tokens."""
        return self.head_tokens is not None


def choose_tokenizer(run: FinetuneRun, texts: ClipSource) -> ChosenTokenizer:
    """In this order: `text.vocabulary`; the checkpoint's own, if it has a head for tokens that spell all of the
    training text (`texts`); a vocabulary of the characters in that text, or of its phones."""
    saved, why_not = tokenizer_of_head(run.model, run.tuning.language)
    if saved is not None and run.text.phonemes is not None:
        if isinstance(saved, Wav2Vec2PhonemeCTCTokenizer):
            saved = saying(saved, run.text)
        else:
            saved, why_not = None, "the checkpoint's tokens are no phones, so head and vocabulary are new"
    if run.text.vocabulary is not None:
        given, notes = with_choices(tokenizer_at(run.text.vocabulary, run.text), run.text)
        same = saved is not None and (saved.tokens, saved.blank) == (given.tokens, given.blank)
        kept = list(given.tokens) if same else None
        return ChosenTokenizer(given, [f"vocabulary: {len(given)} tokens, as given", *notes], kept)
    if saved is not None:
        kept = list(saved.tokens)
        saved, notes = with_choices(saved, run.text)
        any_will_do = run.text.on_unknown == "unknown"
        lacking = "" if any_will_do else characters_without_token(texts, saved)
        if not lacking:
            return ChosenTokenizer(saved, [f"vocabulary: the checkpoint's {len(saved)} tokens", *notes], kept)
        why_not = f"the checkpoint's vocabulary cannot spell {lacking}, so head and vocabulary are new"
    built, report = tokenizer_for(texts, run.text)
    lines = [*([why_not] if why_not else []), *f"vocabulary of the training text: {report}".splitlines()]
    return ChosenTokenizer(built, lines, None)


def tokenizer_of_head(model: FinetuneModelSection, language: str | None) -> tuple[OneIdPerLogitTokenizer | None, str]:
    """The tokenizer that a checkpoint's CTC head was trained with; else None, and why if that is a surprise.

    Checkpoints that were only pretrained may have a tokenizer too, but no head that knows its tokens.
    """
    if model.checkpoint is None:
        return None, ""
    said, _ = Wav2Vec2Config.get_config_dict(model.checkpoint)
    if not any(str(name).endswith("ForCTC") for name in said.get("architectures") or []):
        return None, ""
    try:
        return load_tokenizer(model.checkpoint, strict=True), ""
    except (TokenizerFileError, VocabularyError) as error:
        if language is not None:  # the checkpoint of many languages, of which this is a new one
            return None, ""
        return None, f"the checkpoint's own tokenizer cannot be used, so head and vocabulary are new: {error}"


def tokenizer_at(path: str, text: TextSection) -> OneIdPerLogitTokenizer:
    """The tokenizer in a folder, or of a `vocab.json` under the choices of `text`."""
    if "/" not in path and not Path(path).exists():
        raise TokenizerFileError(f"text.vocabulary={path}: no such file or folder")
    if not Path(path).is_file():
        try:
            found = load_tokenizer(path, strict=True)
        except (TokenizerFileError, VocabularyError) as error:
            raise type(error)(f"text.vocabulary={path}: {str(error).removeprefix(f'{path}: ')}") from error
        if text.phonemes is None:
            return found
        if not isinstance(found, Wav2Vec2PhonemeCTCTokenizer):
            raise TokenizerFileError(
                f"text.vocabulary={path}: its tokens are no phones, and text.phonemes asks for some"
            )
        return saying(found, text)
    if text.phonemes is not None:
        return saying(Wav2Vec2PhonemeCTCTokenizer(path, strict=True), text)
    return Wav2Vec2CTCTokenizer(
        path, word_delimiter_token=text.word_delimiter, normalization=normalization_of(text), strict=True
    )


def saying(tokenizer: Wav2Vec2PhonemeCTCTokenizer, text: TextSection) -> Wav2Vec2PhonemeCTCTokenizer:
    """A copy that says texts in the language of the run, or takes them as phones."""
    other = copy.copy(tokenizer)
    other.phonemizer_lang, other.do_phonemize = str(text.phonemes), not text.phonemes_given
    return other


def normalization_of(text: TextSection) -> TextNormalization:
    """The choices of a run as the tokenizer keeps them."""
    spaces = "remove" if text.word_delimiter is None else "single"
    return TextNormalization(text.apostrophes, text.unicode_form, text.punctuation, text.digits, text.case, spaces)


def with_choices(tokenizer: OneIdPerLogitTokenizer, text: TextSection) -> tuple[OneIdPerLogitTokenizer, list[str]]:
    """The tokenizer with what a run chooses under `text`, and what is to be said of that.

    A tokenizer that says how it treats text stays as it is. One of a release that could not say so gets the choices of
    the run, but the case of its letters is the vocabulary's: "lower" cannot be meant of upper-case tokens.
    """
    if not isinstance(tokenizer, Wav2Vec2CTCTokenizer):
        return tokenizer, []
    own = tokenizer.normalization
    if own not in (TextNormalization(), normalization_of(text)):
        kept = ", ".join(f"{name}={value}" for name, value in own.to_dict().items())
        return tokenizer, [f"  texts are treated as the vocabulary says, not as text.* would: {kept}"]
    choices, case = normalization_of(text), letter_case(tokenizer.encoder)
    notes = []
    if case is not None and choices.case not in ("keep", case):
        choices = replace(choices, case=case)
        notes = [f"  its letters are {case} case, so texts are taken to {case} case"]
    tokenizer.normalization = choices
    return tokenizer, notes


def characters_without_token(texts: ClipSource, tokenizer: OneIdPerLogitTokenizer) -> str:
    """The characters of the texts that the tokenizer lacks, the most frequent ones; empty if there are none."""
    return " ".join(repr(character) for character, _ in spell(texts, tokenizer).unknown.most_common(10))


def tokenizer_for(texts: ClipSource, text: TextSection) -> tuple[OneIdPerLogitTokenizer, VocabularyReport]:
    """A tokenizer for the training texts under the choices of the run, and what was counted in them."""
    if not texts.complete:
        raise TrainingDataError(
            "data.train: the vocabulary cannot be built from a stream, whose text is not known before it is read; give "
            "text.vocabulary, a vocab.json or a folder with a tokenizer"
        )
    transcripts = (texts.transcripts[index] or "" for index in texts.usable())
    if text.phonemes is not None:
        return phone_tokenizer(transcripts, text.phonemes, given=text.phonemes_given, min_count=text.min_count)
    built = build_vocabulary(
        transcripts,
        unicode_form=text.unicode_form,
        case=text.case,
        punctuation=text.punctuation,
        digits=text.digits,
        apostrophes=text.apostrophes,
        min_count=text.min_count,
        word_delimiter=text.word_delimiter,
        slots=text.slots,
    )
    return Wav2Vec2CTCTokenizer.from_vocabulary(built, strict=True), built.report


@dataclass(frozen=True)
class CanBeSpelled:
    """Whether a tokenizer has tokens for all of a text. Copies go to worker processes."""

    tokenizer: OneIdPerLogitTokenizer

    def __call__(self, text: str) -> bool:
        """True if it has."""
        try:
            self.tokenizer.tokenize(text)
        except ValueError:
            return False
        return True


def lenient(tokenizer: OneIdPerLogitTokenizer) -> OneIdPerLogitTokenizer:
    """A copy that writes the token for unknown characters instead of refusing a text."""
    if tokenizer.unk_token is None:
        raise VocabularyError("text.on_unknown=unknown: the vocabulary has no token for what is unknown; use skip")
    other = copy.copy(tokenizer)
    other.strict = False
    return other


def strict(tokenizer: OneIdPerLogitTokenizer) -> OneIdPerLogitTokenizer:
    """A copy that refuses a text with a character that has no token."""
    other = copy.copy(tokenizer)
    other.strict = True
    return other
