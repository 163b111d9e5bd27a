"""Processor and model against each other: as many logits as tokens, the same blank, the same order of tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

from wav2vec2.training.checks.validation_report import Finding
from wav2vec2.training.data.audio_clips import SAMPLING_RATE


def model_findings(
    tokenizer: Any, feature_extractor: Any, config: Any, saved_tokens: Sequence[str] | None
) -> Iterator[Finding]:
    """What would make the model spell other tokens than the tokenizer means. `saved_tokens` are those of the processor
    that was saved with a checkpoint whose head is kept, None if the head is new."""
    if config.pad_token_id != tokenizer.blank_id:
        taken = tokenizer.decoder.get(config.pad_token_id)
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


def _other_tokens(tokenizer: Any, saved: list[str]) -> Iterator[Finding]:
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
