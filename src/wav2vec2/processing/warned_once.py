"""What is probably a mistake, but has a meaning: said a single time, and gone on with."""

import logging

logger = logging.getLogger("wav2vec2")


def warn_once(said: set[str], kind: str, message: str, *values: object) -> None:
    """Log a warning of this kind, unless `said` has it; whoever owns `said` decides what is once."""
    if kind not in said:
        said.add(kind)
        logger.warning(message, *values)
