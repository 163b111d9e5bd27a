"""The text of one stream by beam search with a language model, hotwords or a lexicon.

The beam is carried over the final frames. From there a copy looks ahead over the frames of the right context, whose
log-probabilities may still change, and its best text decides: the words that this text ended within the final frames
are handed out, and what disagrees with them leaves the beam. So final words come no later than by greedy search, and
are never taken back.

Shapes: T frames, V tokens.
"""

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
        settled = self._settled(found, looking.columns_before)
        count = len(self._decoder.speller.split(settled))
        self._partial = self._writing.text([word.text for word in words[count:]])
        if not settled:
            return []
        self._search.settle(settled)
        final = self._words.placed(words[:count])
        self._forget(min(self._words.between(words, count), len(self._frames)) if count else 0)
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

    def _settled(self, found: Found, columns: int) -> list[int]:
        """The tokens that the best text had added when the last final frame was heard, which are in its first columns,
        up to the end of a word."""
        size, delimiter = self._search.space.size, self._search.space.delimiter
        added = [token for token in found.tokens[0, 0, :columns].tolist() if token != size]
        if delimiter is None:
            return added
        return added[: len(added) - added[::-1].index(delimiter)] if delimiter in added else []

    def _forget(self, frames: int) -> None:
        self._frames = self._frames[frames:].clone()
        self._words.move(frames)
