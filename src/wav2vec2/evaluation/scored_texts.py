"""Two files of texts, references and hypotheses, and what their comparison gives."""

from dataclasses import dataclass
from pathlib import Path

from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation import ErrorRate, error_rate
from wav2vec2.evaluation.scoring import UtteranceScore, count_columns, count_values, score_utterances
from wav2vec2.evaluation.text_headers import check_first_rows
from wav2vec2.evaluation.text_tables import paired, read_texts
from wav2vec2.files.tab_separated import table


@dataclass(frozen=True)
class ScoredTexts:
    """The rates of a corpus, and its utterances in the order of the references."""

    normalizer: str
    resampling: Resampling
    wer: ErrorRate
    cer: ErrorRate
    ids: list[str]
    references: list[str]
    hypotheses: list[str]
    scores: list[UtteranceScore]


def score_files(
    references: Path, hypotheses: Path, normalizer: str = "none", how: Resampling | None = None
) -> ScoredTexts:
    """Match the texts of two files by their ids and count; ids on one side alone, or twice, are a `TextTableError`."""
    how, said, recognised = how or Resampling(), read_texts(references), read_texts(hypotheses)
    if not (said.has_header or recognised.has_header):
        check_first_rows(said.texts, recognised.texts)
    ids, right, heard = paired(said.texts, recognised.texts)
    scores = score_utterances(right, heard, normalizer)
    speakers = [said.speakers[name] for name in ids] if len(said.speakers) == len(ids) else None
    wer = error_rate([one.words for one in scores], speakers, how)
    cer = error_rate([one.characters for one in scores], speakers, how)
    return ScoredTexts(normalizer, how, wer, cer, ids, right, heard, scores)


def text_table(scored: ScoredTexts) -> str:
    """One line for each utterance: its texts as they were given, its errors as they were counted."""
    header = ["id", "reference", "hypothesis", *count_columns("words"), *count_columns("characters")]
    rows = zip(scored.ids, scored.references, scored.hypotheses, scored.scores, strict=True)
    return table([header, *([*texts, *count_values(one.words), *count_values(one.characters)] for *texts, one in rows)])
