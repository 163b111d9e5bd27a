"""Live text as it is shown: on a terminal, line by line, or as JSON lines."""

import json
import shutil
from typing import Protocol, TextIO

from wav2vec2.inference.streaming.stream_state import StreamUpdate
from wav2vec2.inference.subtitle_formats import timed_row

#: What a terminal does: forget what stands right of the cursor, write dimly, write as before, go left.
_ERASE, _DIM, _PLAIN, _LEFT = "\x1b[K", "\x1b[2m", "\x1b[0m", "\x1b[{}D"


class LiveText(Protocol):
    """Shows the updates of a stream."""

    def show(self, update: StreamUpdate) -> None:
        """What is new."""

    def close(self) -> None:
        """Nothing more comes."""


class JsonLines:
    """One line for each update that says anything new."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._partial = stream, ""

    def show(self, update: StreamUpdate) -> None:
        """Final words with their times, the text behind them, when utterances ended, and the seconds heard."""
        if not (update.final or update.ends or update.partial != self._partial):
            return
        self._partial = update.partial
        content = {
            "final": [timed_row(word) for word in update.final],
            "partial": update.partial,
            "ends": [round(end, 3) for end in update.ends],
            "seconds": round(update.seconds, 3),
        }
        self._stream.write(json.dumps(content, ensure_ascii=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Every line was written when it was said."""


class Utterances:
    """Final text, a line for each utterance."""

    def __init__(self, stream: TextIO, separator: str) -> None:
        self.stream, self.separator = stream, separator
        #: How many characters stand in the line.
        self.column = 0

    def show(self, update: StreamUpdate) -> None:
        """Write the final words, each as soon as it comes."""
        ends = list(update.ends)
        for word in update.final:
            while ends and word.start >= ends[0]:
                ends.pop(0)
                self.end_line()
            self.write(word.text)
        for _ in ends:
            self.end_line()
        self.stream.flush()

    def write(self, text: str) -> None:
        """One more word in the line."""
        text = self.separator * (self.column > 0) + text
        self.stream.write(text)
        self.column += len(text)

    def end_line(self) -> None:
        """Begin a new line, unless this one is empty."""
        if self.column:
            self.stream.write("\n")
        self.column = 0

    def close(self) -> None:
        """End the last line."""
        self.end_line()
        self.stream.flush()


class OnTerminal(Utterances):
    """The same, with the text that is not final dimly behind it, as far as the line is wide."""

    def show(self, update: StreamUpdate) -> None:
        """Write the final words over the dim text, then what is dim now."""
        self.stream.write(_ERASE)
        super().show(update)
        room = self._width() - self.column - len(self.separator) - 1
        partial = (self.separator * (self.column > 0) + update.partial)[: max(room, 0)]
        if partial.strip():
            self.stream.write(f"{_DIM}{partial}{_PLAIN}{_LEFT.format(len(partial))}")
        self.stream.flush()

    def write(self, text: str) -> None:
        """One more word, in a line of its own if it has no room."""
        if self.column + len(self.separator) + len(text) >= self._width():
            self.end_line()
        super().write(text)

    def close(self) -> None:
        """Leave nothing that is not final."""
        self.stream.write(_ERASE)
        super().close()

    def _width(self) -> int:
        return shutil.get_terminal_size().columns
