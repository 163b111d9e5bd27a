"""When was each word, and each letter or phone, of a known text said? A transcriber's model, and no search."""

from wav2vec2.alignment.aligned_words import AlignedWord, align_words
from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.inference.transcriber import Progress, Transcriber
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer


def align_recording(
    transcriber: Transcriber, audio: object, text: str, progress: Progress | None = None
) -> tuple[list[AlignedWord], float]:
    """The words of a text with their times in a recording of any length, and its duration.

    Parts of words are letters, or phones where the model has those: espeak-ng says which a word has, and a text that is
    phones already (`do_phonemize=False` of the tokenizer) is taken as it is. What has no token gets a guess, whatever
    the tokenizer would do with it.
    """
    tokenizer, config = transcriber.processor.tokenizer, transcriber.model.config
    words = text.split()
    if not words:
        raise ValueError("the transcript is empty: there is nothing to align")
    pronunciations = _phones(tokenizer, words) if part_name(transcriber) == "phones" else None
    special = set(tokenizer.all_special_tokens) - {tokenizer.word_delimiter_token}
    rate = transcriber.processor.feature_extractor.sampling_rate
    log_probs, duration = transcriber.log_probs(audio, progress=progress)
    found = align_words(
        log_probs,
        words,
        {token: number for number, token in enumerate(tokenizer.tokens) if token not in special},
        word_delimiter=tokenizer.word_delimiter_token,
        blank=config.pad_token_id,
        times=FrameTimes(tuple(config.conv_kernel), tuple(config.conv_stride), rate),
        duration=duration,
        pronunciations=pronunciations,
    )
    return found, duration


def part_name(transcriber: Transcriber) -> str:
    """What the model's tokens are: "characters" or "phones"."""
    return "phones" if isinstance(transcriber.processor.tokenizer, Wav2Vec2PhonemeCTCTokenizer) else "characters"


def _phones(tokenizer: Wav2Vec2PhonemeCTCTokenizer, words: list[str]) -> list[list[str]]:
    """The phones of each word, said on its own."""
    if not tokenizer.do_phonemize:
        return [[word] for word in words]
    silent = {tokenizer.word_delimiter_token, ""}
    spoken = [tokenizer.phonemize(word).split(tokenizer.phone_delimiter_token) for word in words]
    return [[phone.strip() for phone in phones if phone.strip() not in silent] for phones in spoken]
