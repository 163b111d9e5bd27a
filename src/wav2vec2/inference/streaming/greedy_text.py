"""The text of one stream by greedy search: words are handed out when their last frame is final, and forgotten.

A word ends where the best token of a frame is the word delimiter. All frames up to there are read by the decoder as one
segment, which is what it would find in the whole recording, since a cut inside a run of delimiters changes nothing.

Shapes: T frames, V tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.spoken_tokens import SpokenTokens


@dataclass(frozen=True)
class Writing:
    """How a tokenizer writes texts: what stands between words, and whether all is in lower case."""

    separator: str = " "
    lower_case: bool = False

    def text(self, words: Sequence[str]) -> str:
        """Words as one text."""
        joined = self.separator.join(words)
        return joined.lower() if self.lower_case else joined


class GreedyText:
    """The frames of a stream, from `offset` on, whose words are not final yet."""

    def __init__(self, decoder: CTCDecoder, tokens: SpokenTokens, writing: Writing) -> None:
        self._decoder, self._tokens, self._writing = decoder, tokens, writing
        self._frames = torch.zeros(0, len(decoder.speller.vocabulary))
        self._offset = 0
        #: Where the last word ended, in seconds.
        self._clock = 0.0

    def add(self, log_probs: Tensor) -> list[Word]:
        """Append final frames (T, V); the words that are final now."""
        self._frames = torch.cat([self._frames, log_probs])
        return self._hand_out(_settled(self._tokens.best(self._frames), self._tokens))

    def close(self) -> list[Word]:
        """The utterance ends here: all that is left is final."""
        return self._hand_out(len(self._frames))

    def partial(self, ahead: Tensor) -> str:
        """The text that is not final, with that of frames (T, V) whose right context has not been heard."""
        frames = torch.cat([self._frames, ahead])
        if not len(frames):
            return ""
        return self._writing.text([word.text for word in self._decoder.greedy(frames[None])[0][0].words])

    def _hand_out(self, count: int) -> list[Word]:
        """The words of the first so many frames, which are forgotten."""
        if not count:
            return []
        found = self._decoder.greedy(self._frames[None, :count])[0][0].words
        times = self._decoder.frame_times
        start = self._offset * times.stride / times.sampling_rate
        self._frames = self._frames[count:].clone()
        self._offset += count
        return [self._in_stream(word, start) for word in found]

    def _in_stream(self, word: Word, start: float) -> Word:
        """The word with its times in the stream, none before the end of the word that it follows."""
        begin = max(word.start + start, self._clock)
        self._clock = max(word.end + start, begin)
        return replace(word, text=self._writing.text([word.text]), start=begin, end=self._clock)


def _settled(best: Sequence[int], tokens: SpokenTokens) -> int:
    """How many of the frames with these best tokens belong to words that nothing can change any more.

    With a delimiter: those up to the last one, and silence alone. Without one every token is a word, and the last one
    may go on.
    """
    if tokens.delimiter is None:
        last = len(best) - 1
        while last > 0 and best[last] == best[last - 1]:
            last -= 1
        return len(best) if not best or best[last] == tokens.blank else last
    place = next((number for number in range(len(best), 0, -1) if best[number - 1] == tokens.delimiter), 0)
    return len(best) if all(token == tokens.blank for token in best[place:]) else place
