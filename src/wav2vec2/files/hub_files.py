"""Files of a checkpoint in a folder or on the Hub: which options say where they come from, and where one of them is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wav2vec2.files.shipped_checkpoints import known_names_told

#: Options of `from_pretrained` that say where files come from.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def hub_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options of `from_pretrained` that say where files come from.

    >>> hub_options({"revision": "main", "dtype": "auto"})
    {'revision': 'main'}
    """
    return {name: value for name, value in options.items() if name in HUB_OPTIONS}


def local_path(source: str | os.PathLike[str], name: str, hub: Mapping[str, Any]) -> Path | None:
    """Where a file of the folder or repository `source` is on this machine, fetched if need be; None if it has none."""
    from transformers.utils import cached_file

    with known_names_told(source):
        found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False, **hub)
    return None if found is None else Path(found)
