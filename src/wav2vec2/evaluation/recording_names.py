"""What the recordings of a manifest are called where results are published: nothing that tells of this machine."""

import os
from pathlib import Path

from wav2vec2.evaluation.text_tables import check_once
from wav2vec2.processing.manifests import Recording, read_manifest


def named_recordings(manifest: Path) -> dict[str, Recording]:
    """The recordings of a manifest with transcripts, by the column `id` or their path relative to the manifest.

    Paths outside the manifest's folder keep only what they do not have in common.
    """
    recordings = list(read_manifest(manifest))
    if any(one.transcript is None for one in recordings):
        raise ValueError(f"{manifest}: has no column `transcript`, so there is nothing to compare with")
    outside = [one.path.parent for one in recordings if not one.path.is_relative_to(manifest.parent)]
    common = Path(os.path.commonpath(outside)) if outside else manifest.parent
    names = [one.others.get("id") or _name(one.path, manifest.parent, common) for one in recordings]
    check_once(manifest.name, names)
    return dict(zip(names, recordings, strict=True))


def without_paths(reason: str, name: str, path: Path, manifest: Path) -> str:
    """The reason for a failure, with the name of the recording where its path was."""
    for spelling in dict.fromkeys((str(path), str(path.absolute()), str(path.resolve()))):
        reason = reason.replace(spelling, name)
    for folder in (manifest.parent.absolute(), manifest.parent.resolve(), Path.home()):
        reason = reason.replace(f"{folder}{os.sep}", "")
    return reason


def _name(path: Path, folder: Path, common: Path) -> str:
    return path.relative_to(folder if path.is_relative_to(folder) else common).as_posix()
