"""Before the first update: do the data go with the model and the processor? Everything that is wrong, in one message.

What cannot be seen here: a transcript of another clip of about the same length, wrong words, a wrong rate of less than
1.9 times, or of voices so high that they stay in the range of others. Of large data, headers are a sample of
`headers.HEADERS` and the sound of some thirty clips is heard; texts and lengths are all read.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramCTCConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.training.checks.clips import ClipSource
from wav2vec2.training.checks.duplicates import duplicate_findings, repeated_findings
from wav2vec2.training.checks.headers import header_findings, read_some_headers
from wav2vec2.training.checks.lengths import length_findings
from wav2vec2.training.checks.report import Finding, ValidationReport
from wav2vec2.training.checks.sound import sound_findings
from wav2vec2.training.checks.texts import spell, text_findings, unused_tokens
from wav2vec2.training.data.audio_clips import SAMPLING_RATE

if TYPE_CHECKING:
    from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
    from wav2vec2.training.checks.texts import Tokenizer


def examine(
    train: ClipSource,
    valid: ClipSource | None,
    tokenizer: "Tokenizer",
    feature_extractor: "Wav2Vec2FeatureExtractor",
    config: Wav2Vec2Config | SpectrogramCTCConfig,
    *,
    on_unknown: str = "error",
    max_bad_share: float = 0.01,
    saved_tokens: Sequence[str] | None = None,
    seed: int = 0,
) -> ValidationReport:
    """Check training and validation clips against tokenizer, feature extractor and the model's config.

    `on_unknown` as in `TextSection`: only "error" makes unknown characters a problem. Clips that cannot be used are a
    problem when they are more than `max_bad_share`, else a warning: they are left out. `saved_tokens` are the tokens
    that a kept head was trained for. The sample is drawn from `seed`.
    """
    if on_unknown not in ("error", "skip", "unknown"):
        raise ValueError(f"on_unknown={on_unknown!r}: must be 'error', 'skip' or 'unknown'")
    report = ValidationReport()
    report.findings += model_findings(tokenizer, feature_extractor, config, saved_tokens)
    for source in filter(None, (train, valid)):
        spelled = spell(source, tokenizer)
        report.findings += text_findings(source, spelled, tokenizer, on_unknown=on_unknown, max_bad_share=max_bad_share)
        if source is train:
            report.findings += unused_tokens(spelled, tokenizer)
        report.findings += length_findings(source, spelled, config, max_bad_share)
        headers = read_some_headers(source, seed)
        report.findings += header_findings(source, headers, max_bad_share)
        heard, amount = sound_findings(source, spelled, seed, max_bad_share)
        report.findings += [*heard, *repeated_findings(source)]
        checked = {"clips": len(source), "usable": len(spelled.clips), "headers": len(headers), **amount}
        report.checked[source.where] = checked if source.complete else checked | {"first_of_a_stream": True}
        if not source.complete:
            message = f"a stream or shards: {len(source)} clips were checked, not all"
            report.findings.append(Finding("stream", "note", source.where, message))
    if valid is not None:
        report.findings += duplicate_findings(train, valid)
    return report


def model_findings(
    tokenizer: "Tokenizer",
    feature_extractor: "Wav2Vec2FeatureExtractor",
    config: Wav2Vec2Config | SpectrogramCTCConfig,
    saved_tokens: Sequence[str] | None,
) -> Iterator[Finding]:
    """What would make the model spell other tokens than the tokenizer means. `saved_tokens` are those of the processor
    that was saved with a checkpoint whose head is kept, None if the head is new."""
    if config.pad_token_id != tokenizer.blank_id:
        taken = None if config.pad_token_id is None else tokenizer.decoder.get(config.pad_token_id)
        stands = f"stands for {taken!r}" if taken is not None else "stands for nothing"
        yield _problem(
            "wrong_blank",
            f"wrong blank: the model's pad_token_id is {config.pad_token_id}, which in the vocabulary {stands}; the "
            f"tokenizer's blank {tokenizer.blank!r} has the id {tokenizer.blank_id}",
            f"model.config.pad_token_id={tokenizer.blank_id}",
        )
    if len(tokenizer) != config.vocab_size:
        yield _problem(
            "wrong_vocab_size",
            f"the model has {config.vocab_size} logits, the vocabulary {len(tokenizer)} tokens",
            f"model.config.vocab_size={len(tokenizer)}, with a new head",
        )
    if len(tokenizer.blank) == 1 and tokenizer.blank.isalnum():
        yield _problem(
            "blank_is_a_letter",
            f"the blank {tokenizer.blank!r} is an ordinary character",
            "a blank that no text holds, as '<pad>'",
        )
    if saved_tokens is not None and list(saved_tokens) != tokenizer.tokens:
        yield from _other_tokens(tokenizer, list(saved_tokens))
    rate = getattr(feature_extractor, "sampling_rate", SAMPLING_RATE)
    if rate != SAMPLING_RATE:
        yield _problem(
            "wrong_sampling_rate",
            f"the feature extractor is for {rate} Hz, audio is loaded at {SAMPLING_RATE} Hz",
            f"sampling_rate={SAMPLING_RATE} in preprocessor_config.json",
        )


def _other_tokens(tokenizer: "Tokenizer", saved: list[str]) -> Iterator[Finding]:
    moved = [
        f"{index}: {old!r} -> {new!r}"
        for index, (old, new) in enumerate(zip(saved, tokenizer.tokens, strict=False))
        if old != new
    ]
    how = "in another order" if sorted(saved) == sorted(tokenizer.tokens) else "others"
    yield _problem(
        "other_tokens_than_head",
        f"the head of the checkpoint was trained for {len(saved)} tokens, the vocabulary has {len(tokenizer)}, "
        f"{how}: {', '.join(moved[:5])}{' …' if len(moved) > 5 else ''}",
        "the tokenizer that was saved with the checkpoint (text.vocabulary=its folder), or a new head",
    )


def _problem(kind: str, message: str, right: str) -> Finding:
    return Finding(kind, "problem", "model", message, right=right)
