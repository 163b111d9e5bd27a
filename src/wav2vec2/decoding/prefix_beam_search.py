"""Prefix beam search for CTC, all utterances and hypotheses of a batch at once.

A hypothesis is a text so far: its words, their letters. Its acoustic mass is the sum over all paths that spell it, kept
in two parts, paths that end in a blank and paths that end in its last token (Hannun et al. 2014, arXiv:1408.2873). A
word delimiter at the start or after another one changes nothing, so that two paths to the same text always meet.
What a text earns beside its acoustics (`extra`: language model, words, hotwords) depends on the text alone, so
hypotheses with one text can be merged by adding their masses. The only two candidates of a frame with the same text are
a hypothesis that stays and its parent in the beam extended by its last token; that one pair is merged in place.
(Merging by `scatter_` with duplicate indices would keep any one of them, and lose the others' mass.)

Shapes: B utterances, K hypotheses each (the beam), T frames, V tokens, D columns of a frame (see `PreparedFrames`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wav2vec2.alignment.device_kernels import usable
from wav2vec2.decoding.beam import DEAD, NOBODY, Beam, LanguageModel, SearchSpace
from wav2vec2.decoding.beam_search_kernel import fits, trace, walk
from wav2vec2.decoding.frame_preparation import IMPOSSIBLE, PreparedFrames
from wav2vec2.decoding.lexicon import SpellingTables

#: The multiplier of a linear congruential generator modulo 2^64 (Knuth).
_MULTIPLIER = 6364136223846793005


@dataclass
class Found:
    """The beam at the end, best first."""

    #: (B, K) acoustic mass and what the text earned beside it.
    score: Tensor
    #: (B, K) of it, the language model's log-probability, not weighted.
    language: Tensor
    #: (B, K) what the text earned beside its acoustics.
    extra: Tensor
    #: (B, K, T), V where none was added.
    tokens: Tensor


@torch.inference_mode()
def search(frames: PreparedFrames, space: SearchSpace, beam: int) -> Found:
    """The best `beam` texts of each utterance."""
    run = BeamSearch(frames, space, beam)
    if run.in_kernels:
        run.beam = walk(frames, space, run.beam, run.added, run.source, run.fingerprints)
    else:
        for frame in range(len(frames.log_probs)):
            run.advance(frame)
    return run.finish()


class BeamSearch:
    """The beam of one batch, and how it got there."""

    def __init__(self, frames: PreparedFrames, space: SearchSpace, beam: int) -> None:
        self.frames, self.space, self.size = frames, space, beam
        steps, self.batch, self.width = frames.tokens.shape
        device, shape = frames.tokens.device, (self.batch, beam)
        self.beam = Beam.start(self.batch, beam, space, device)
        self.added = torch.full((steps, *shape), space.size, dtype=torch.int32, device=device)
        self.source = torch.zeros((steps, *shape), dtype=torch.int32, device=device)
        generator = torch.Generator().manual_seed(0)
        self.fingerprints = torch.randint(-(2**62), 2**62, (space.size + 1,), generator=generator).to(device)
        self.bonus = torch.zeros(*shape, self.width, device=device)
        self.rows = (torch.arange(self.batch, device=device) * beam)[:, None]
        self.in_kernels = usable(device) and fits(frames, space, beam)
        self.ordinals = torch.arange(1, beam + 1, dtype=torch.float, device=device)

    def grid(self, values: Tensor) -> Tensor:
        """Values of the hypotheses (B * K,) as a table (B, K), a row for each utterance."""
        return values.view(self.batch, self.size)

    def advance(self, frame: int) -> None:
        """Take every hypothesis through one frame and keep the best."""
        beam = self.beam
        blank, token, extra, last = map(self.grid, (beam.blank, beam.token, beam.extra, beam.last))
        column = self.frames.column[frame].gather(1, last)  # (B, K) where each one's last token is a candidate
        repeated = self.frames.log_probs[frame].gather(1, last)  # (B, K) its log-probability
        mass = torch.logaddexp(blank, token)
        if self.space.delimiter is not None:
            token = torch.where(last == self.space.delimiter, mass, token)
        stay_blank, stay_token = mass + self.frames.blank[frame], token + repeated
        score = mass + extra
        least = (torch.maximum(stay_blank, stay_token) + extra).amin(1, keepdim=True)
        candidates = score[..., None] + self.frames.column_log_probs[frame][:, None]  # (B, K, D)
        candidates.scatter_(2, column[..., None], (blank + repeated + extra)[..., None])  # needs a blank in between
        self._look_up_bonuses(frame, score, least)
        candidates += self.bonus
        candidates[..., -1] = IMPOSSIBLE
        flat = candidates.view(self.batch, -1)
        stay_token = torch.logaddexp(stay_token, self._take_from_parent(flat, column) - extra)
        candidates[..., 0] = torch.logaddexp(stay_blank, stay_token) + extra
        beam.blank, beam.token = stay_blank.view(-1), stay_token.view(-1)
        self._select(frame, flat)

    def _look_up_bonuses(self, frame: int, score: Tensor, least: Tensor) -> None:
        """What each column's token adds to each hypothesis beside its acoustics."""
        space, tokens = self.space, self.frames.tokens[frame][:, None]  # (B, 1, D)
        hot = None if space.hotwords is None else space.hotwords.arcs.earn(self.grid(self.beam.hot)[..., None], tokens)
        if space.spelling is not None:
            self.bonus = space.spelling.arcs.earn(self.grid(self.beam.node)[..., None], tokens)  # (B, K, D)
            if hot is not None:
                self.bonus += hot
        elif hot is not None:
            self.bonus = hot.clone()
        if self.frames.delimiter[frame]:
            score = score + self.frames.column_log_probs[frame][:, 1, None]
            if hot is not None:
                score = score + hot[..., 1]
            end = self._end_of_word(score, least)
            self.bonus[..., 1] = end if hot is None else end + hot[..., 1]

    def _end_of_word(self, score: Tensor, least: Tensor) -> Tensor:
        """What ending its word adds to each hypothesis (B, K), hotwords aside; -inf where no word can end.

        The language model is only asked about words that have a chance: with a probability of 1 their score would be
        above `least` (B, 1), which all hypotheses reach without doing anything. The others get no word at all.
        """
        space = self.space
        if space.spelling is None:
            within = torch.ne(self.grid(self.beam.last), space.delimiter or 0)
            return torch.where(within, 0.0, IMPOSSIBLE)
        ends = self.grid(space.spelling.end_bonus.index_select(0, self.beam.node))
        if space.language_model is None:
            return ends
        hopeful = (score + ends >= least) & (ends > IMPOSSIBLE)
        self._ask_language_model(space.language_model, space.spelling, hopeful.view(-1))
        ends = ends.masked_fill(~self.grid(self.beam.scored), IMPOSSIBLE)
        return ends + space.alpha * self.grid(self.beam.word_score)

    def _ask_language_model(self, model: LanguageModel, spelling: SpellingTables, wanted: Tensor) -> None:
        """Score the wanted words that have not been scored yet."""
        beam = self.beam
        places = (wanted > beam.scored).nonzero().view(-1)
        if not len(places):
            return
        words = spelling.word.index_select(0, beam.node.index_select(0, places))
        scores, states = model.score(beam.state.index_select(0, places), words)
        beam.word_score[places] = scores.float()
        beam.next_state[places] = states.long()
        beam.scored[places] = True

    def _take_from_parent(self, flat: Tensor, column: Tensor) -> Tensor:
        """Move to each hypothesis the candidate with the same text: its parent, if in the beam, with its last token."""
        same = self.grid(self.beam.parent)[:, :, None] == self.grid(self.beam.text)[:, None, :]  # (B, K, K)
        number = torch.matmul(same.float(), self.ordinals).long()  # (B, K) 1 + the parent's place, 0 if it is gone
        cell = torch.where(number > 0, (number - 1) * self.width + column, self.width - 1)
        score = flat.gather(1, cell)
        flat.scatter_(1, cell, IMPOSSIBLE)
        return score

    def _select(self, frame: int, flat: Tensor) -> None:
        """Keep the best candidates (B, K * D) as the new beam."""
        score, cell = flat.topk(self.size, 1, sorted=False)
        source = cell // self.width
        token = self.frames.tokens[frame].gather(1, cell - source * self.width)  # (B, K) V where none is added
        earned = self.bonus.view(self.batch, -1).gather(1, cell).view(-1)
        self.added[frame], self.source[frame] = token, source
        beam = self.beam = self.beam.take((source + self.rows).view(-1), self.space)
        score, token = score.view(-1), token.view(-1)
        grows = token != self.space.size
        beam.extra = torch.where(grows, beam.extra + earned, beam.extra)
        beam.blank = beam.blank.masked_fill_(grows, IMPOSSIBLE)
        beam.token = torch.where(grows, score - beam.extra, beam.token)
        self._grow(beam, token, grows)
        dead = score == IMPOSSIBLE
        if dead.any():
            self._bury(beam, dead)

    def _grow(self, beam: Beam, token: Tensor, grows: Tensor) -> None:
        """Write the tokens of this frame into the hypotheses."""
        longer = beam.text * _MULTIPLIER + self.fingerprints.index_select(0, token)
        beam.parent = torch.where(grows, beam.text, beam.parent)
        beam.text = torch.where(grows, longer, beam.text)
        beam.last = torch.where(grows, token, beam.last)
        if self.space.spelling is not None:
            beam.node = self.space.spelling.arcs.follow(beam.node, token)
        if self.space.hotwords is not None:
            beam.hot = self.space.hotwords.arcs.follow(beam.hot, token)
        if self.space.language_model is not None:
            ends = token.eq(self.space.delimiter or 0)
            beam.language = torch.where(ends, beam.language + beam.word_score, beam.language)
            beam.state = torch.where(ends, beam.next_state, beam.state)
            beam.scored = torch.where(grows, ends, beam.scored)

    def _bury(self, beam: Beam, dead: Tensor) -> None:
        """Keep places which nothing could fill from being taken for a text, or for the parent of one."""
        beam.text.masked_fill_(dead, DEAD)
        beam.parent.masked_fill_(dead, NOBODY)
        beam.scored = beam.scored | dead
        beam.blank.masked_fill_(dead, IMPOSSIBLE)
        beam.token.masked_fill_(dead, IMPOSSIBLE)
        beam.extra.masked_fill_(dead, 0.0)

    def finish(self) -> Found:
        """End the last word and the sentence of every hypothesis, merge what has one text then, and order the beam."""
        space, beam = self.space, self.beam
        mass = self.grid(torch.logaddexp(beam.blank, beam.token))
        extra, language = self.grid(beam.extra), self.grid(beam.language)
        unfinished = score = mass + extra
        if space.delimiter is not None:
            open_word = self.grid(beam.last) != space.delimiter
            extra, language = self._finish_words(mass, open_word)
            score = self._merge_closed(mass + extra, ~open_word)
        # Where a lexicon allows no hypothesis, because all stand within a word, the best is cut after its last word.
        hopeless = (score == IMPOSSIBLE).all(1, keepdim=True)
        score, order = torch.where(hopeless, unfinished, score).sort(1, descending=True)
        tokens = self._trace(order)
        if space.delimiter is not None:
            closed = (tokens == space.delimiter).flip(-1).cumsum(-1).flip(-1) > 0
            tokens = torch.where(hopeless[..., None] & ~closed, space.size, tokens)
        return Found(score, language.gather(1, order), extra.gather(1, order), tokens)

    def _finish_words(self, mass: Tensor, open_word: Tensor) -> tuple[Tensor, Tensor]:
        """What each text has earned at its end (B, K), and its language score."""
        space, beam = self.space, self.beam
        end = self._end_of_word(mass, torch.full_like(mass[:, :1], IMPOSSIBLE))
        extra, language, hot = self.grid(beam.extra), self.grid(beam.language), beam.hot
        if space.hotwords is not None:
            delimiter = torch.full_like(hot, space.delimiter or 0)
            end = end + self.grid(space.hotwords.arcs.earn(hot, delimiter))
            hot = torch.where(open_word.view(-1), space.hotwords.arcs.follow(hot, delimiter), hot)
            extra = extra - self.grid(space.hotwords.worth[hot])
        extra = torch.where(open_word, extra + end, extra)
        if space.language_model is not None:
            language = torch.where(open_word, language + self.grid(beam.word_score), language)
            state = torch.where(open_word.view(-1), beam.next_state, beam.state)
            of_end = self.grid(space.language_model.end(state).float())
            extra, language = extra + space.alpha * of_end, language + of_end
        return extra, language

    def _merge_closed(self, score: Tensor, closed: Tensor) -> Tensor:
        """Add up the scores of a text and of the same with a delimiter behind it, which are one text at the end."""
        same = self.grid(self.beam.parent)[:, :, None] == self.grid(self.beam.text)[:, None]
        same &= closed[..., None]  # (B, K closed, K open)
        of_closed = torch.where(same, score[..., None], IMPOSSIBLE).amax(1)
        return torch.where(same.any(2), IMPOSSIBLE, torch.logaddexp(score, of_closed))

    def _trace(self, place: Tensor) -> Tensor:
        """The tokens (B, K, T) of the hypotheses at these places of the last beam."""
        if self.in_kernels:
            return trace(self.added, self.source, place, self.space.size)
        tokens = torch.full((*place.shape, len(self.added)), self.space.size, dtype=torch.int32, device=place.device)
        for frame in range(len(self.added) - 1, -1, -1):
            tokens[..., frame] = self.added[frame].gather(1, place)
            place = self.source[frame].gather(1, place).long()
        return tokens
