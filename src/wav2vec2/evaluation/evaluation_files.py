"""The files of an evaluation: `evaluation.json`, `utterances.tsv` and `evaluation.html`."""

from collections.abc import Sequence
from pathlib import Path

from wav2vec2.evaluation.evaluation_page import evaluation_page
from wav2vec2.evaluation.evaluation_run import Evaluated, Utterance
from wav2vec2.evaluation.scoring import count_columns, count_values
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.tab_separated import table


def save_evaluation(evaluated: Evaluated, folder: Path) -> None:
    """Write all three, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "evaluation.json": evaluated.evaluation.to_json(),
        "utterances.tsv": utterance_table(evaluated.utterances),
        "evaluation.html": evaluation_page(evaluated),
    }
    for name, content in contents.items():
        with replaced_file(folder / name) as stream:
            stream.write(content.encode("utf-8"))


def utterance_table(utterances: Sequence[Utterance]) -> str:
    """One line for each utterance: texts as they were before normalisation, errors as they were counted after it."""
    ways = list(utterances[0].hypotheses) if utterances else []
    header = ["id", "speaker", "seconds", "reference", *ways]
    header += [f"{way}_{column}" for way in ways for column in (*count_columns("words"), *count_columns("characters"))]
    lines = [header]
    for one in utterances:
        texts = [one.id, one.speaker or "", f"{one.seconds:.2f}", one.reference, *one.hypotheses.values()]
        scores = [counts for way in ways for counts in (one.scores[way].words, one.scores[way].characters)]
        lines.append([*texts, *(value for counts in scores for value in count_values(counts))])
    return table(lines)
