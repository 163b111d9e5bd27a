"""What a run names outside of itself, looked at before hours of audio are looked through."""

import os
import tempfile
from pathlib import Path
from typing import Any

from transformers.utils import is_flash_attn_2_available

from wav2vec2.training.chosen_checkpoint import require_checkpoint
from wav2vec2.training.starting import StartError


def require_what_is_named(run: Any) -> None:
    """The checkpoint is one, the output folder takes files, the implementation of attention is installed."""
    require_checkpoint(run.model)
    require_output(Path(run.run.output))
    if run.run.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise StartError("run.attention=flash_attention_2: the package flash-attn is not installed, or has no GPU here")


def require_output(output: Path) -> None:
    """Writing is tried, since permissions say little: a disk may be full, a file system read-only."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StartError(
            f"run.output={output}: cannot be written to ({error.strerror}); give another folder"
        ) from error
