"""Character error rate for `evaluate.load`: errors of a whole corpus per character of the references, from jiwer.

`compute(predictions=[...], references=[...])` gives a float, as the metric of that name on the Hub does, and as
`wav2vec2 score` without a normaliser. Empty references count their insertions; where all are empty the answer is the
number of insertions.
"""

from typing import Any

# `evaluate` finds what a script needs by looking for lines with one import each.
import datasets
import evaluate
import jiwer


class CharacterErrorRate(evaluate.Metric):
    """Character error rate, characters being those of the words with one space between them."""

    def _info(self) -> Any:
        texts = datasets.Value("string", id="sequence")
        return evaluate.MetricInfo(
            description="Character error rate: errors per character of the references",
            citation="",
            inputs_description="predictions: list of texts; references: list of texts, one for each prediction.",
            features=datasets.Features({"predictions": texts, "references": texts}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> float:
        said, heard = ([list(" ".join(text.split())) for text in texts] for texts in (references, predictions))
        return float(jiwer.process_words(said, heard, list, list).wer)
