"""What has been decoded of recordings that are not finished, so that a run that is stopped can go on from there.

A recording is decoded a minute at a time, cut in pauses; how it is cut depends on its frames alone. So the parts that
are there already, and the rest decoded later, are what one run would have found. Between two parts lies what was
skipped as silence, if anything was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from wav2vec2.decoding.transcripts import Hypothesis, Token, Word
from wav2vec2.files.replaced_file import replaced_file


@dataclass(frozen=True)
class Part:
    """What was found in `frames` frames of a recording, from frame `offset` on."""

    offset: int
    frames: int
    found: Hypothesis

    @property
    def end(self) -> int:
        """The frame behind the last of it."""
        return self.offset + self.frames


class Keeper(Protocol):
    """Where parts are kept, by the name of their recording."""

    def parts_of(self, name: str) -> list[Part]:
        """The parts of a recording that were kept, in order, and all that there are until the last of them."""

    def keep(self, name: str, part: Part) -> None:
        """Keep one more part of a recording, which follows the others."""


class KeptInMemory:
    """Keeps the parts in memory, for the transcript of what was heard before a stop."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Part]] = {}

    def parts_of(self, name: str) -> list[Part]:
        return list(self.parts.get(name, ()))

    def keep(self, name: str, part: Part) -> None:
        self.parts.setdefault(name, []).append(part)

    def finished(self, name: str) -> None:
        """Nothing more of this recording is needed."""
        self.parts.pop(name, None)


class KeptInFiles(KeptInMemory):
    """A file of JSON lines for each recording: first what the text depends on, then a part a line, as it is found.

    Parts that were found under other conditions (another model, a changed recording) are thrown away. A line that a
    stop has cut off is as if it had not been written.
    """

    def __init__(self, files: Mapping[str, Path], conditions: Mapping[str, Any]) -> None:
        super().__init__()
        self.files = files
        self._heads = {
            name: {"conditions": dict(conditions), "recording": _state(Path(name))} for name, path in files.items()
        }
        for name, path in files.items():
            self.parts[name] = _read(path, self._heads[name]) if path.is_file() else []

    def keep(self, name: str, part: Part) -> None:
        path = self.files[name]
        if not self.parts[name]:
            path.parent.mkdir(parents=True, exist_ok=True)
            _rewrite(path, [self._heads[name]])
        super().keep(name, part)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(_line(asdict(part)))

    def finished(self, name: str) -> None:
        super().finished(name)
        self.files[name].unlink(missing_ok=True)


def _state(recording: Path) -> list[int]:
    """The size and the time of a file: where they differ, it is another recording."""
    if not recording.is_file():
        return []
    stat = recording.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def _read(path: Path, head: Mapping[str, Any]) -> list[Part]:
    """The parts of a file whose first line is `head`; afterwards it ends with the last whole one."""
    parts: list[Part] = []
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        if not lines or json.loads(lines[0]) != head:
            return []
        for line in lines[1:]:
            part = _part(json.loads(line))
            if part.offset < (parts[-1].end if parts else 0):
                break
            parts.append(part)
    except (ValueError, KeyError, TypeError):
        pass
    _rewrite(path, [head, *map(asdict, parts)])
    return parts


def _rewrite(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with replaced_file(path) as stream:
        stream.write("".join(map(_line, lines)).encode())


def _part(content: dict[str, Any]) -> Part:
    found = content["found"]
    words = [Word(**word | {"evidence": tuple(word["evidence"])}) for word in found["words"]]
    tokens = [Token(**token) for token in found["tokens"]]
    return Part(content["offset"], content["frames"], Hypothesis(**found | {"words": words, "tokens": tokens}))
