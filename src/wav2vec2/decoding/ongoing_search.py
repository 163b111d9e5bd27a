"""Beam search of a text whose frames come piece by piece, and whose beginning becomes final before its end is known.

The beam is carried from one piece to the next, so that pieces leave no trace. Of how it got there only the open text
is kept: the tokens that each hypothesis added since the words that were settled, each in the column of its frame.
Columns in which nobody added anything are dropped, so that what is kept grows with the open text and not with time.

Shapes: K hypotheses (the beam), T frames of a piece, L columns, V tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wav2vec2.decoding.beam import DEAD, NOBODY, Beam
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.frame_preparation import IMPOSSIBLE, checked
from wav2vec2.decoding.prefix_beam_search import BeamSearch, Found


class OngoingSearch:
    """The search for one text, on the CPU."""

    def __init__(self, decoder: CTCDecoder) -> None:
        self.decoder = decoder
        self.space = decoder.space(torch.device("cpu"))
        self.beam = Beam.start(1, decoder.beam, self.space, torch.device("cpu"))
        #: (L, 1, K): the tokens of the open text of each hypothesis, V where it added none.
        self.open = torch.zeros(0, 1, decoder.beam, dtype=torch.int32)
        #: How many of these columns are of frames before the piece that came last.
        self.columns_before = 0

    def extended(self, log_probs: Tensor) -> "OngoingSearch":
        """The search after more frames (T, V); this one stays as it is."""
        after = OngoingSearch.__new__(OngoingSearch)
        after.decoder, after.space = self.decoder, self.space
        after.open, after.columns_before = self.open, len(self.open)
        after.beam = Beam(*(values.clone() for values in vars(self.beam).values()))
        if len(log_probs):
            after._extend(log_probs)
        return after

    def _extend(self, log_probs: Tensor) -> None:
        batch, lengths = checked(log_probs[None], None, self.space.size)
        run = BeamSearch(self.decoder.prepared(batch, lengths), self.space, self.decoder.beam)
        run.beam = self.beam
        for frame in range(len(run.added)):
            run.advance(frame)
        self.beam = run.beam
        place = torch.arange(self.decoder.beam)[None]  # (1, K)
        columns = []
        for frame in range(len(run.added) - 1, -1, -1):
            columns.append(run.added[frame].gather(1, place))
            place = run.source[frame].gather(1, place).long()
        before = self.open.gather(2, place.expand(len(self.open), 1, -1))
        self.columns_before = len(self._used(before))
        self.open = self._used(torch.cat([before, *(column[None] for column in reversed(columns))]))
        self._measure_anew()

    def found(self) -> Found:
        """The beam as if the text ended here: `tokens` are those of the open text, in its columns."""
        after = self.extended(self.open.new_zeros(0, self.space.size))
        nothing = torch.zeros(1, 1, self.space.size).log_softmax(-1)
        run = BeamSearch(self.decoder.prepared(nothing, torch.tensor([0])), self.space, self.decoder.beam)
        run.beam, run.added = after.beam, self.open
        run.source = torch.arange(self.decoder.beam, dtype=torch.int32).expand(self.open.shape).contiguous()
        return run.finish()

    def settle(self, tokens: Sequence[int]) -> None:
        """The open text begins with these tokens, and they are forgotten. What begins otherwise leaves the beam."""
        rows = self.open[:, 0].T  # (K, L)
        added = rows != self.space.size
        count = added.cumsum(1)  # (K, L)
        settled = added & (count <= len(tokens))
        wanted = torch.tensor([*tokens, self.space.size], dtype=rows.dtype)[(count - 1).clamp(0, len(tokens))]
        other = (settled & (rows != wanted)).any(1) | (added.sum(1) < len(tokens))
        self.beam.text.masked_fill_(other, DEAD)
        self.beam.parent.masked_fill_(other, NOBODY)
        self.beam.scored |= other
        for mass in (self.beam.blank, self.beam.token):
            mass.masked_fill_(other, IMPOSSIBLE)
        self.beam.extra.masked_fill_(other, 0.0)
        self.open = self._used(self.open.masked_fill(settled.T[:, None], self.space.size))

    def _used(self, columns: Tensor) -> Tensor:
        """The columns (L, 1, K) in which a hypothesis added something; places that nothing fills have no text."""
        columns = columns.masked_fill(self.beam.text == DEAD, self.space.size)
        return columns[(columns != self.space.size).any(2)[:, 0]]

    def _measure_anew(self) -> None:
        """Take what the best hypothesis has from all, or sums over hours would lose their last digits."""
        mass = torch.logaddexp(self.beam.blank, self.beam.token)
        alive = mass > IMPOSSIBLE
        if alive.any():
            earned, most = self.beam.extra[alive].max(), mass[alive].max()
            self.beam.extra = torch.where(alive, self.beam.extra - earned, self.beam.extra)
            self.beam.blank, self.beam.token = self.beam.blank - most, self.beam.token - most
