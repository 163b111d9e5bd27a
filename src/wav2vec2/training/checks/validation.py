"""Before the first update: do the data go with the model and the processor? Everything that is wrong, in one message.

What cannot be seen here: a transcript of another clip of about the same length, wrong words, a wrong rate of less than
1.9 times, or of voices so high that they stay in the range of others. Of large data, headers are a sample of
`validation_headers.HEADERS` and the sound of some thirty clips is heard; texts and lengths are all read.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from wav2vec2.training.checks.validation_clips import ClipRecord, ClipSource, clip_sources, source_of_files
from wav2vec2.training.checks.validation_duplicates import duplicate_findings, repeated_findings
from wav2vec2.training.checks.validation_headers import header_findings, read_some_headers
from wav2vec2.training.checks.validation_lengths import length_findings
from wav2vec2.training.checks.validation_model import model_findings
from wav2vec2.training.checks.validation_report import DataProblemsError, Example, Finding, ValidationReport
from wav2vec2.training.checks.validation_sound import sound_findings
from wav2vec2.training.checks.validation_text import spell, text_findings, unused_tokens

__all__ = [
    "ClipRecord",
    "ClipSource",
    "DataProblemsError",
    "Example",
    "Finding",
    "ValidationReport",
    "clip_sources",
    "examine",
    "source_of_files",
    "validate",
]


def validate(
    train: ClipSource,
    valid: ClipSource | None,
    tokenizer: Any,
    feature_extractor: Any,
    config: Any,
    *,
    on_unknown: str = "error",
    max_bad_share: float = 0.01,
    saved_tokens: Sequence[str] | None = None,
    seed: int = 0,
) -> ValidationReport:
    """The report of `examine`; with a problem in it, a `DataProblemsError` that says all of it and has the report."""
    report = examine(
        train,
        valid,
        tokenizer,
        feature_extractor,
        config,
        on_unknown=on_unknown,
        max_bad_share=max_bad_share,
        saved_tokens=saved_tokens,
        seed=seed,
    )
    if report.problems:
        raise DataProblemsError(report)
    return report


def examine(
    train: ClipSource,
    valid: ClipSource | None,
    tokenizer: Any,
    feature_extractor: Any,
    config: Any,
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
    for where, source in (("train", train), ("valid", valid)):
        if source is not None:
            report.findings += _of_source(where, source, tokenizer, config, report, on_unknown, max_bad_share, seed)
    if valid is not None:
        report.findings += duplicate_findings(train, valid)
    return report


def _of_source(
    where: str,
    source: ClipSource,
    tokenizer: Any,
    config: Any,
    report: ValidationReport,
    on_unknown: str,
    allowed: float,
    seed: int,
) -> Iterator[Finding]:
    """The findings of one source; `report.checked` gets what was looked at."""
    spelled = spell(source, tokenizer)
    yield from text_findings(where, source, spelled, tokenizer, on_unknown=on_unknown, max_bad_share=allowed)
    if where == "train":
        yield from unused_tokens(spelled, tokenizer)
    yield from length_findings(where, source, spelled, config, allowed)
    headers = read_some_headers(source, seed)
    yield from header_findings(where, source, headers, allowed)
    heard, amount = sound_findings(where, source, spelled, seed, allowed)
    yield from heard
    yield from repeated_findings(where, source)
    checked = {"clips": len(source), "usable": len(spelled.clips), "headers": len(headers), **amount}
    report.checked[where] = checked if source.complete else checked | {"first_of_a_stream": True}
    if not source.complete:
        message = f"a stream: its first {len(source)} clips were checked, not all"
        yield Finding("stream", "note", where, message)
