"""The text of one stream by beam search with a language model, hotwords or a lexicon.

The beam is carried over the final frames. From there a copy looks ahead over the frames of the right context, whose
log-probabilities may still change, and its best text decides: the words that this text ended within the final frames
are handed out, and what disagrees with them leaves the beam. So they are never taken back.

A hypothesis may have ended a word in a frame in which that was improbable, long before the word is over: the beam keeps
no time. So a word counts as ended when all frames that it is aligned to are final. Otherwise the rest of it would be
taken for a part of the word behind it, and give that one a wrong time and hardly any confidence.

Shapes: T frames, V tokens.
"""

from itertools import pairwise

import torch
from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.ongoing_search import OngoingSearch
from wav2vec2.decoding.prefix_beam_search import Found
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.words_in_stream import WordsInStream, Writing


class BeamText:
    """The frames of a stream whose words are not final yet, and the search over its final frames."""

    def __init__(self, decoder: CTCDecoder, writing: Writing) -> None:
        self._decoder, self._writing = decoder, writing
        self._words = WordsInStream(decoder.frame_times, writing)
        self._frames = torch.zeros(0, len(decoder.speller.vocabulary))
        self._search = OngoingSearch(decoder)
        self._partial = ""

    @property
    def waiting(self) -> int:
        """How many final frames it keeps, because their words are not final."""
        return len(self._frames)

    def add(self, log_probs: Tensor, ahead: Tensor) -> list[Word]:
        """Append final frames (T, V), which those `ahead` (T', V) follow; the words that are final now."""
        self._frames = torch.cat([self._frames, log_probs])
        self._search = self._search.extended(log_probs)
        looking = self._search.extended(ahead)
        found = looking.found()
        words = self._read(torch.cat([self._frames, ahead]), found)
        ended = self._words.ended(words, len(self._frames))
        settled = self._settled(found, looking.columns_before)[:ended]
        count = len(settled)
        self._partial = self._writing.text([word.text for word in words[count:]])
        if not settled:
            return []
        self._search.settle([token for word in settled for token in word])
        final = self._words.placed(words[:count])
        self._forget(min(self._words.between(words, count), len(self._frames)))
        return final

    def close(self) -> list[Word]:
        """The utterance ends here: all that is left is final, and the language model begins a new sentence."""
        final = self._words.placed(self._read(self._frames, self._search.found()))
        self._forget(len(self._frames))
        self._search, self._partial = OngoingSearch(self._decoder), ""
        return final

    def partial(self) -> str:
        """The text that is not final."""
        return self._partial

    def _read(self, frames: Tensor, found: Found) -> list[Word]:
        """The words of the best text, with their times from the first of these frames (T, V) on."""
        if not len(frames):
            return []
        return self._decoder.hypotheses(frames[None], torch.tensor([len(frames)]), found, torch.zeros(1), 1)[0][0].words

    def _settled(self, found: Found, columns: int) -> list[list[int]]:
        """The words that the best text had ended when the last final frame was heard, which are in its first columns;
        each as its tokens, with the delimiter behind it."""
        size, delimiter = self._search.space.size, self._search.space.delimiter
        added = [token for token in found.tokens[0, 0, :columns].tolist() if token != size]
        if delimiter is None:
            return [[token] for token in added]
        ends = [0, *(number for number, token in enumerate(added, 1) if token == delimiter)]
        return [added[begin:end] for begin, end in pairwise(ends)]

    def _forget(self, frames: int) -> None:
        self._frames = self._frames[frames:].clone()
        self._words.move(frames)
