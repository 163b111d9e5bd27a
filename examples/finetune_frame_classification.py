"""One label per frame: voice activity, music and speech, who of a few known people speaks.

    python examples/finetune_frame_classification.py data.train.0.path=train.tsv data.valid.0.path=valid.tsv \\
        model.checkpoint=facebook/wav2vec2-base run.output=outputs/voice_activity

A manifest has the columns `path` and `label`, where a label is a list of stretches in seconds, `0.35-1.20 speech;
2.1-3 speech`; all other frames are `background` (background=silence gives it a name). With

    python examples/finetune_frame_classification.py --segments segments.tsv manifest.tsv with_labels.tsv

such a manifest is made from one without labels and a table `path start end label`.
"""

import sys
from pathlib import Path

from wav2vec2.training.classification import (
    classify,
    confusion_lines,
    last_evaluation,
    read_classification,
)
from wav2vec2.training.labels_of_clips import manifest_with_segments
from wav2vec2.training.saving.interruption import exit_code

#: What is given on the command line comes after, and wins.
DEFAULTS = [
    "data.max_seconds=30",
    "data.seconds_per_update=120",
    "data.seconds_per_batch=120",
    "optimizer.learning_rate=1e-4",
    "run.updates=2000",
    "run.log_every=20",
    "run.evaluate_every=200",
    "run.save_every=200",
]


def main(arguments: list[str]) -> None:
    """Train, and show what was taken for what; or make a manifest."""
    if arguments[:1] == ["--segments"]:
        segments, manifest, target = map(Path, arguments[1:])
        print(manifest_with_segments(manifest, segments, target))
        return
    output = classify(read_classification("frames", [*DEFAULTS, *arguments]))
    figures = last_evaluation(output)
    if figures:
        print(*confusion_lines(figures), f"{figures['accuracy']:.2%} of the frames", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.exit(exit_code())  # not 0 if a signal stopped it
