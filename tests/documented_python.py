"""Runs the Python of a page, in a process that has imported what such pages import."""

import os
import warnings

import torch  # noqa: F401 (for the fork)
import transformers  # noqa: F401

from wav2vec2 import Transcriber, Wav2Vec2ForPreTraining, Wav2Vec2Processor

#: What takes long to import, and is in memory when a page starts.
IMPORTED = (Transcriber, Wav2Vec2ForPreTraining, Wav2Vec2Processor)


def run(code: str, name: str, folder: str) -> None:
    """As a script of its own would, with warnings as errors."""
    os.chdir(folder)
    warnings.simplefilter("error")
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
