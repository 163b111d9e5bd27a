"""One label per clip: keywords, commands, intents, emotions, languages.

    python examples/finetune_classification.py data.train.0.path=train.tsv data.valid.0.path=valid.tsv \\
        model.checkpoint=facebook/wav2vec2-base run.output=outputs/commands

A manifest has the columns `path` and `label` (or `transcript`; data.train.0.text_column names another). Any field of
`ClassificationRun` (`wav2vec2.training.settings.classification_run`) can be given. On several processes:
`accelerate launch` instead of `python`. Afterwards:

    pipeline("audio-classification", model="outputs/commands/model")("clip.wav")
"""

import sys

from wav2vec2.training.classification import classify, confusion_lines, last_evaluation, read_classification
from wav2vec2.training.saving.interruption import exit_code

#: A clip of a second or two, a few thousand updates. What is given on the command line comes after, and wins.
DEFAULTS = [
    "data.max_seconds=20",
    "data.seconds_per_update=64",
    "data.seconds_per_batch=64",
    "optimizer.learning_rate=1e-4",
    "run.updates=2000",
    "run.log_every=20",
    "run.evaluate_every=200",
    "run.save_every=200",
]


def main(overrides: list[str]) -> None:
    """Train, and show what was taken for what."""
    output = classify(read_classification("clips", [*DEFAULTS, *overrides]))
    figures = last_evaluation(output)
    if figures:
        print(*confusion_lines(figures), f"accuracy {figures['accuracy']:.2%}", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.exit(exit_code())  # not 0 if a signal stopped it
