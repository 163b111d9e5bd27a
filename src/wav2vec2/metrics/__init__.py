"""Metric scripts for `evaluate.load`, which without a network finds none by name.

    import evaluate
    from wav2vec2.metrics import metric_path

    wer = evaluate.load(str(metric_path("wer")))

A script is copied by `evaluate` before it runs, so it needs nothing of this package.
"""

from pathlib import Path

#: The metrics there are scripts for.
METRICS = ("wer", "cer")


def metric_path(name: str) -> Path:
    """The file of a metric script, to be loaded by `evaluate`.

    >>> metric_path("wer").name
    'wer.py'
    """
    if name not in METRICS:
        raise ValueError(f"metric {name!r}: must be one of {', '.join(METRICS)}")
    return Path(__file__).parent / name / f"{name}.py"
