"""The text of one stream by greedy search: words are handed out when their last frame is final, and forgotten.

A word ends where the best token of a frame is the word delimiter. All frames up to there are read by the decoder as one
segment, which is what it would find in the whole recording, since a cut inside a run of delimiters changes nothing.

Shapes: T frames, V tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.spoken_tokens import SpokenTokens
from wav2vec2.inference.streaming.words_in_stream import WordsInStream, Writing


class GreedyText:
    """The frames of a stream whose words are not final yet, and those that were heard beyond."""

    def __init__(self, decoder: CTCDecoder, tokens: SpokenTokens, writing: Writing) -> None:
        self._decoder, self._tokens, self._writing = decoder, tokens, writing
        self._words = WordsInStream(decoder.frame_times, writing)
        self._frames = torch.zeros(0, len(decoder.speller.vocabulary))
        self._ahead = self._frames

    @property
    def waiting(self) -> int:
        """How many final frames it keeps, because their words are not final."""
        return len(self._frames)

    def add(self, log_probs: Tensor, ahead: Tensor) -> list[Word]:
        """Append final frames (T, V), which those `ahead` (T', V) follow; the words that are final now."""
        self._frames, self._ahead = torch.cat([self._frames, log_probs]), ahead
        return self._hand_out(_settled(self._tokens.best(self._frames), self._tokens))

    def close(self) -> list[Word]:
        """The utterance ends here: all that is left is final."""
        return self._hand_out(len(self._frames))

    def partial(self) -> str:
        """The text that is not final, with that of the frames ahead."""
        return self._writing.text([word.text for word in self._read(torch.cat([self._frames, self._ahead]))])

    def _hand_out(self, count: int) -> list[Word]:
        """The words of the first so many frames, which are forgotten."""
        final = self._words.placed(self._read(self._frames[:count]))
        self._frames = self._frames[count:].clone()
        self._words.move(count)
        return final

    def _read(self, frames: Tensor) -> list[Word]:
        return self._decoder.greedy(frames[None])[0][0].words if len(frames) else []


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
