"""The same clips as WebDataset tars, parquet and Lhotse Shar, and a file system that counts what is read of it."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from training_audio import encoded

#: A clip of a test: what is known of it and its encoded audio.
Clips = Sequence[Mapping[str, Any]]


def some_clips(count: int, first: int = 0, seconds: float = 0.1) -> list[dict[str, Any]]:
    """Clips of different lengths and contents."""
    return [
        {
            "id": f"clip{number:05d}",
            "audio": encoded(number, seconds * (1 + number % 4 / 4)),
            "seconds": seconds * (1 + number % 4 / 4),
            "transcript": f"WORD {number}",
            "speaker": f"s{number % 3}",
        }
        for number in range(first, first + count)
    ]


def write_tar(path: Path, clips: Clips) -> None:
    """As WebDataset has it: the audio, and what is known of it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for clip in clips:
            known = {name: clip[name] for name in clip if name not in ("id", "audio", "seconds")}
            _add(archive, f"{clip['id']}.json", json.dumps(known | {"duration": clip["seconds"]}).encode())
            _add(archive, f"{clip['id']}.wav", clip["audio"])


def write_shar(folder: Path, number: int, clips: Clips) -> None:
    """As `lhotse.shar.SharWriter` with `recording: "wav"` has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"recording.{number:06d}.tar", "w") as archive:
        for clip in clips:
            _add(archive, f"{clip['id']}.wav", clip["audio"])
            _add(archive, f"{clip['id']}.json", b'{"id": "x"}')
    cuts = [
        {
            "id": clip["id"],
            "start": 0.0,
            "duration": clip["seconds"],
            "supervisions": [
                {"id": "s", "start": 0.0, "text": clip.get("transcript"), "speaker": clip.get("speaker")}
                | {name: clip[name] for name in ("language",) if name in clip}
            ],
            "type": "MonoCut",
        }
        for clip in clips
    ]
    text = "".join(json.dumps(cut) + "\n" for cut in cuts)
    (folder / f"cuts.{number:06d}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def write_shard_parquet(path: Path, clips: Clips, row_group: int = 4, *, seconds: bool = True) -> None:
    """As `datasets` writes it."""
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {name: clip[name] for name in clip if name not in ("id", "audio", "seconds")}
        | {"audio": {"bytes": clip["audio"], "path": f"{clip['id']}.wav"}}
        | ({"duration": clip["seconds"]} if seconds else {})
        for clip in clips
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=row_group)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class CountingFiles(LocalFileSystem):  # type: ignore[misc]
    """A disk behind the protocol `counted://`: what is read stands in the file that COUNTED_READS names, a line for
    each read. Processes may read at once."""

    protocol = "counted"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("counted://")))

    def unstrip_protocol(self, name: str) -> str:
        return f"counted://{self._strip_protocol(name)}"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        content: bytes = super().cat_file(self._strip_protocol(path), start=start, end=end, **options)
        name = os.environ.get("COUNTED_READS")
        if name:
            with open(name, "a", encoding="utf-8") as file:
                file.write(f"{path}\t{start}\t{len(content)}\n")
        return content


def counted_in(path: Path) -> None:
    """Begin to count, in this file, also in processes that begin from now on."""
    path.write_text("", encoding="utf-8")
    os.environ["COUNTED_READS"] = str(path)


def count_reads() -> None:
    """Make the protocol known to fsspec."""
    registry = import_module("fsspec.registry")
    registry.register_implementation("counted", CountingFiles, clobber=True)
