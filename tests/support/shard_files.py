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


def write_shar(folder: Path, number: int | None, clips: Clips) -> None:
    """As `SharWriter` of Lhotse 1.33.0 with `recording: "wav"`, `target_recording: "wav"` and `dialect: "jsonl"` does,
    with a `shard_size` or, where `number` is None, without. A clip without audio has the mark of one."""
    folder.mkdir(parents=True, exist_ok=True)
    part = "" if number is None else f".{number:06d}"
    for field in ("recording", "target_recording"):
        with tarfile.open(folder / f"{field}{part}.tar", "w") as archive:
            for clip in clips:
                stored = clip["audio"] is not None
                about = json.dumps(_recording(clip)) + "\n" if stored else ""
                _add(archive, f"{clip['id']}.{'wav' if stored else 'nodata'}", clip["audio"] or b"")
                _add(archive, f"{clip['id']}.{'json' if stored else 'nometa'}", about.encode())
    for name, lines in (("cuts", map(_cut, clips)), ("dialect", ({"cut_id": clip["id"]} for clip in clips))):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}{part}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def _cut(clip: Mapping[str, Any]) -> dict[str, Any]:
    """A cut, said in as many segments as its transcript has words, the last one first."""
    words = list(enumerate((clip.get("transcript") or "").split()))
    said = {name: clip[name] for name in ("speaker", "language") if name in clip}
    place = {"recording_id": "talk", "duration": 0.01, "channel": 0}
    return {
        "id": clip["id"],
        "start": 0,
        "duration": clip["seconds"],
        "channel": 0,
        "supervisions": [
            {"id": f"{clip['id']}-{at}", "start": 0.01 * at, **place, "text": word, **said} for at, word in words[::-1]
        ],
        **({"recording": _recording(clip)} if clip["audio"] is not None else {}),
        "custom": {"snr": 3.5} | {name: clip[name] for name in ("corpus", "label") if name in clip},
        "type": "MonoCut",
    }


def _recording(clip: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "talk",
        "sources": [{"type": "shar", "channels": [0], "source": ""}],
        "sampling_rate": 16000,
        "num_samples": round(16000 * clip["seconds"]),
        "duration": clip["seconds"],
        "channel_ids": [0],
    }


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
