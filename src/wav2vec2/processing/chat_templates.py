"""Chat templates of a tokenizer: no recogniser has a use for them, but what is saved with one must come back.

They lie in `chat_template.jinja`, others than the default in `additional_chat_templates/`, or, as older releases wrote
them, in `tokenizer_config.json`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wav2vec2.processing.tokenizer_files import SETTINGS_FILE, TokenizerFileError, find_file

_DEFAULT_FILE, _OTHERS = "chat_template.jinja", "additional_chat_templates"


def read_chat_template(source: str | os.PathLike[str], written: Any, hub: Mapping[str, Any]) -> Any:
    """One template, several by name, or None. A file goes before `written`, what the settings say. Templates beside the
    default are looked for in folders alone: each would be a question to the Hub."""
    default = find_file(source, _DEFAULT_FILE, hub)
    folder = Path(source, hub.get("subfolder") or "", _OTHERS)
    others = sorted(folder.glob("*.jinja")) if folder.is_dir() else []
    if default is None and not others:
        return _of_settings(written, source)
    if default is not None and not others:
        return _text(default)
    named = {"default": default} if default is not None else {}
    return {name: _text(path) for name, path in (named | {path.stem: path for path in others}).items()}


def _of_settings(written: Any, source: str | os.PathLike[str]) -> Any:
    if isinstance(written, list):
        pairs = [(one.get("name"), one.get("template")) for one in written if isinstance(one, dict)]
        if len(pairs) == len(written) and all(isinstance(part, str) for pair in pairs for part in pair):
            return dict(pairs)
    if written is None or isinstance(written, str):
        return written
    raise TokenizerFileError(f"{source}: {SETTINGS_FILE}: chat_template must be a text or a list of named ones")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerFileError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
