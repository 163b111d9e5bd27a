"""Speaker verification: a vector per clip, whose cosine with another's tells whether the same person speaks.

    python examples/finetune_xvector.py data.train.0.path=train.tsv data.valid.0.path=valid.tsv \\
        model.checkpoint=facebook/wav2vec2-base run.output=outputs/voices

Manifests have the columns `path` and `speaker`. The speakers of the validation data should be others than those of the
training data: what is measured is the equal error rate over all pairs of its clips. Afterwards, with the printed
threshold:

    model = Wav2Vec2ForXVector.from_pretrained("outputs/voices/model")
    same = torch.cosine_similarity(model(**first).embeddings, model(**second).embeddings) >= threshold
"""

import sys

from wav2vec2.training.classification import classify, last_evaluation, read_classification
from wav2vec2.training.saving.interruption import exit_code

#: Crops of four seconds. What is given on the command line comes after, and wins.
DEFAULTS = [
    "data.max_seconds=4",
    "data.seconds_per_update=128",
    "data.seconds_per_batch=128",
    "optimizer.learning_rate=1e-4",
    "optimizer.clip_norm=1.0",  # the standard deviation of a channel that hardly varies has a steep gradient
    "run.updates=5000",
    "run.log_every=20",
    "run.evaluate_every=500",
    "run.save_every=500",
]


def main(overrides: list[str]) -> None:
    """Train, and show how often a pair of clips is judged wrongly."""
    output = classify(read_classification("speakers", [*DEFAULTS, *overrides]))
    figures = last_evaluation(output)
    if figures:
        pairs = figures["same_pairs"] + figures["other_pairs"]
        rate, threshold = figures["equal_error_rate"], figures["threshold"]
        print(f"equal error rate {rate:.2%} over {pairs} pairs, at a cosine of {threshold:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.exit(exit_code())  # not 0 if a signal stopped it
