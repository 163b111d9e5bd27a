"""A card from files: the record of an evaluation, and the folder that a run has left."""

import json
import shutil
from pathlib import Path

from wav2vec2.sharing.model_card import CardError, CardFacts, facts_of_log, write_card

_CONFIG = "config.json"
_LOG = "log.jsonl"
_CURVES = "report.png"
_EVALUATION = "evaluation.json"


def write_card_from_files(
    folder: Path, facts: CardFacts, evaluation: Path | None = None, run: Path | None = None, data: str | None = None
) -> Path:
    """Write the card of a model folder; the evaluation and the picture of the run's curves are put beside it.

    `data` says in a sentence what the audio is. The card is refused, or written whole.
    """
    for path, needed in ((folder / _CONFIG, True), (evaluation, False), (run and run / _LOG, False)):
        if path is not None and not path.is_file():
            what = "is no folder of a model: it has no config.json" if needed else "no such file"
            raise CardError(f"{folder if needed else path}: {what}")
    measured = None if evaluation is None else json.loads(evaluation.read_text(encoding="utf-8"))
    told = {} if run is None else facts_of_log(run / _LOG)
    if measured is not None and "parameters" in told:
        refuse_other_model(measured["model"]["parameters"], told["parameters"])
    if data is not None:
        told["data"] = data
    if run is not None and (run / _CURVES).is_file():
        shutil.copyfile(run / _CURVES, folder / _CURVES)
    written = write_card(folder, facts, measured, told)
    if evaluation is not None and evaluation.resolve() != (folder / _EVALUATION).resolve():
        shutil.copyfile(evaluation, folder / _EVALUATION)
    return written


def refuse_other_model(measured: int, trained: int) -> None:
    """An evaluation and a run that are not of one model. Low-rank additions, which the run counts too, are a few
    hundredths."""
    if abs(measured - trained) > 0.1 * measured:
        raise CardError(
            f"the evaluation is of a model of {measured:,} parameters, the run of one of {trained:,}: they are not of "
            "the same model"
        )
