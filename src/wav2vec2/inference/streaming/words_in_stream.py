"""Words that were read off a stretch of frames, in the time and the spelling of the stream."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.transcripts import Word


@dataclass(frozen=True)
class Writing:
    """How a tokenizer writes texts: what stands between words, and whether all is in lower case."""

    separator: str = " "
    lower_case: bool = False

    def text(self, words: Sequence[str]) -> str:
        """Words as one text."""
        joined = self.separator.join(words)
        return joined.lower() if self.lower_case else joined


class WordsInStream:
    """Where in a stream the frames begin that are being read, and where its last word ended."""

    def __init__(self, times: FrameTimes, writing: Writing) -> None:
        self._times, self._writing = times, writing
        self._offset = 0
        self._clock = 0.0

    def move(self, frames: int) -> None:
        """So many frames are read, and forgotten."""
        self._offset += frames

    def placed(self, words: Sequence[Word]) -> list[Word]:
        """The words with their times in the stream, none before the end of the word that it follows."""
        start = self._offset * self._times.stride / self._times.sampling_rate
        found = []
        for word in words:
            begin = max(word.start + start, self._clock)
            self._clock = max(word.end + start, begin)
            found.append(replace(word, text=self._writing.text([word.text]), start=begin, end=self._clock))
        return found

    def ended(self, words: Sequence[Word], frames: int) -> int:
        """How many of these words, at their beginning, have ended within so many frames."""
        end = self._times.edge(frames) - self._times.bias.end + 1e-6
        return next((count for count, word in enumerate(words) if word.end > end), len(words))

    def between(self, words: Sequence[Word], count: int) -> int:
        """The frame halfway between the first `count` of these words and those that follow."""
        bias = self._times.bias
        end = words[count - 1].end + bias.end
        middle = (end + words[count].start + bias.start) / 2 if count < len(words) else end
        return max(math.floor(middle * self._times.sampling_rate / self._times.stride), 0)
