"""How many phones does a recogniser get wrong that was trained on a few minutes of one reader? Other sentences of hers.

    python examples/studies/phone_error_rates.py DATA WORK english 5

The tasks are `english`, `german` and `dutch` of `labelled_speech.py`, with its split; the model is that of the recipe
`ctc_phonemes`, from `small`. More arguments change the run (`run.updates=400`). A run that was stopped goes on.
"""

import sys
from pathlib import Path

from labelled_speech import labelled, recordings
from perturbed_speech import write_table

from wav2vec2.evaluation.evaluation_run import evaluate_manifest, evaluated_model
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

LANGUAGES = {"english": "en-us", "german": "de", "dutch": "nl"}
SEED = 1


def main() -> None:
    """Train, and print the phone error rate on the sentences that test, with its interval."""
    data, work, task, minutes, *changes = sys.argv[1:]
    folder = Path(work).resolve() / f"{task}-{minutes}"
    found = recordings(task, Path(data), Path(work).resolve())
    parts = {"train": labelled(found.train, float(minutes), SEED), "dev": found.development, "test": found.test}
    manifests = {name: write_table(folder / f"{name}.tsv", rows) for name, rows in parts.items()}
    settings = {
        "data.train.0.path": manifests["train"],
        "data.valid.0.path": manifests["dev"],
        "text.phonemes": LANGUAGES[task],
        "run.output": folder / "run",
        "run.seed": SEED,
        "run.report": "false",
    }
    finetune(read_run(FinetuneRun, "ctc_phonemes", [*(f"{key}={value}" for key, value in settings.items()), *changes]))
    model = str(folder / "run" / "model")
    transcriber = Transcriber.from_pretrained(model)
    evaluation = evaluate_manifest(transcriber, evaluated_model(model, transcriber), manifests["test"]).evaluation
    (folder / "evaluation.json").write_text(evaluation.to_json(), encoding="utf-8")
    rate = evaluation.best.wer
    assert rate.interval is not None
    print(  # noqa: T201
        f"{task}, {minutes} minutes: {100 * rate.rate:.1f} % of {rate.reference} phones wrong "
        f"({100 * rate.interval.low:.1f} to {100 * rate.interval.high:.1f}), {evaluation.utterances} sentences"
    )


if __name__ == "__main__":
    main()
