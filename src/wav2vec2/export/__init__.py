"""Models for other runtimes. Read `exporting.py` first: what is written for a target, and how it is checked."""

from wav2vec2.export.exporting import Exported, export_model
from wav2vec2.export.refusal import ExportError

__all__ = ["ExportError", "Exported", "export_model"]
