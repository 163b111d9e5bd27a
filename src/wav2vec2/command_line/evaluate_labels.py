"""`wav2vec2 evaluate` of models that give labels."""

from wav2vec2.command_line.evaluation_request import Request, Shown


def evaluate_labels(asked: Request) -> Shown:
    """Of a model that gives labels to whole clips."""
    asked.refuse("labels", "lm", "beam", "hotwords", "lexicon", "language", "window", "dtype")
    raise NotImplementedError
