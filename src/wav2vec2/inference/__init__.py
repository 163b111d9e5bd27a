"""Files in, transcripts out. Read `transcriber.py` first: windows, batches of windows, frames, segments, words."""

from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.inference.transcript import Transcript

__all__ = ["Transcriber", "Transcript"]
