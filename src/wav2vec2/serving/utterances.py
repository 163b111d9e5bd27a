"""What a stream says, utterance by utterance: words that are final, and the text behind them that is not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.stream_state import StreamUpdate


@dataclass(frozen=True)
class Utterance:
    """Words that belong together, and when they ended, in seconds of the stream."""

    words: tuple[Word, ...]
    end: float


class Utterances:
    """Follows a stream by its updates."""

    def __init__(self, separator: str) -> None:
        self.separator = separator
        #: The words of the utterance that has not ended.
        self.words: list[Word] = []
        #: The text behind them.
        self.partial = ""
        #: When the stream began.
        self._begin = 0.0

    @property
    def text(self) -> str:
        """All of the utterance that has not ended, as it looks now."""
        return self.separator.join(part for part in (self.text_of(self.words), self.partial) if part)

    def text_of(self, words: Iterable[Word]) -> str:
        """Words as a text."""
        return self.separator.join(word.text for word in words)

    def add(self, updates: Sequence[StreamUpdate]) -> list[Utterance]:
        """Take in what is new; the utterances that ended. Silence alone is none."""
        ended: list[Utterance] = []
        for update in updates:
            self.words += [_later(word, self._begin) for word in update.final]
            self.partial = update.partial
            for end in (one + self._begin for one in update.ends):
                words = tuple(word for word in self.words if word.start < end)
                self.words = self.words[len(words) :]
                if words:
                    ended.append(Utterance(words, end))
        return ended

    def end(self, seconds: float) -> Utterance:
        """The stream is over, after so many seconds, and with it the utterance. What is added from now on comes from a
        new stream, and is as much later."""
        words, self.words, self.partial = tuple(self.words), [], ""
        self._begin = seconds
        return Utterance(words, seconds)


def _later(word: Word, seconds: float) -> Word:
    return replace(word, start=word.start + seconds, end=word.end + seconds)
