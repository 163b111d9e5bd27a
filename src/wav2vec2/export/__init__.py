"""Models for other runtimes. Read `exporting.py` first: what is written for a target, and how it is checked."""

from wav2vec2.export.checking import Checked, check_export
from wav2vec2.export.exporting import Exported, export_model
from wav2vec2.export.refusal import ExportError

__all__ = ["Checked", "ExportError", "Exported", "check_export", "export_model"]
