"""The list of recordings that could not be read, and when there are too many of them to go on."""

from collections.abc import Sequence
from pathlib import Path

from wav2vec2.files.tab_separated import table
from wav2vec2.training.data.audio_clips import Skipped

#: So many clips must have failed before their share says anything.
_LEAST = 10

#: So many of them are named in the message.
_EXAMPLES = 3


class TooManyBadFiles(RuntimeError):  # noqa: N818
    """More of the data cannot be read than the run allows."""


class BadFiles:
    """Counts clips that could not be read, and lists each once in a file as soon as it is met."""

    def __init__(self, path: Path, most: float) -> None:
        """`path` is the list (TAB separated: id, reason), `most` the share of clips that may be unreadable."""
        self.path = path
        self.most = most
        self.tried = 0
        self.bad = 0

    @property
    def share(self) -> float:
        """The share of all clips so far, each use counted, that could not be read."""
        return self.bad / max(1, self.tried)

    def add(self, skipped: Sequence[Skipped], used: int, bad: int | None = None) -> None:
        """Count `used` clips that were read and list `skipped` that were not. On several processes, each lists its own
        and all count those of all: `used` and `bad` are then sums over them, so that all stop at the same update.

        Raises `TooManyBadFiles` once at least 10 uses and more than the allowed share of all have failed.
        """
        bad = len(skipped) if bad is None else bad
        self.tried += used + bad
        self.bad += bad
        if skipped:
            self._list(skipped)
        if bad and self.bad >= _LEAST and self.share > self.most:
            examples = "; ".join(f"{one.id}: {one.reason}" for one in skipped[:_EXAMPLES])
            shown = f", such as {examples}" if examples else ""
            raise TooManyBadFiles(
                f"{self.bad} of {self.tried} clips ({self.share:.1%}) could not be read, more than "
                f"data.max_bad_share={self.most:g} allows{shown}. All are listed in {self.path}: repair or "
                "remove them, check that the disk is reachable, or raise data.max_bad_share"
            )

    def _list(self, skipped: Sequence[Skipped]) -> None:
        """Append those not in the list yet. Other processes may append to the same file: it is read again each time."""
        known: set[str] = set()
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            known = {line.split("\t")[0] for line in lines}
        fresh = {one.id: one for one in skipped if " ".join(one.id.split()) not in known}
        if not fresh:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            head = [] if self.path.stat().st_size else [("id", "reason")]
            stream.write(table([*head, *((one.id, one.reason) for one in fresh.values())]))
