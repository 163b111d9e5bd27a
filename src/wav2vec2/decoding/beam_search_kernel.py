"""The walk of a beam search through all its frames as one Triton kernel: on a GPU a frame then costs no launch at all.

As operations of torch a frame is some seventy kernels, with a language model twice that, and each waits microseconds
for its launch. Here one program takes each utterance through its frames. The beam stays in memory, since a place must
read what others wrote, but in the cache of one processor. The formulas are those of `prefix_beam_search.py`, whose
search begins and ends the work; the beams are the same but for the last bits and the choice between equal scores.

An impossible log-probability is -1e30 in here: sums of it stay numbers, and nothing possible falls below -1e29. (Both
are written out, since kernels know no constants of their module.)

Shapes: B utterances, K hypotheses each, P places for them (the next power of 2), T frames, V tokens, D columns of a
frame, C cells for all but the last of these (the next power of 2).
"""

# Triton takes kernels without types, but for what is constant in a kernel.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations  # where Triton is missing, they name nothing

import torch
from torch import Tensor

from wav2vec2.alignment.device_kernels import kernel, tl
from wav2vec2.decoding.beam import Beam, SearchSpace
from wav2vec2.decoding.frame_preparation import IMPOSSIBLE, PreparedFrames
from wav2vec2.language_models.ngram_trie import NgramTrie

#: More candidates than this do not fit into the registers of a program, and more columns not into a word of bits.
_MOST_PLACES, _MOST_COLUMNS = 512, 31


def fits(frames: PreparedFrames, space: SearchSpace, beam: int) -> bool:
    """Whether there is anything to search, and a program can hold the beam."""
    return holds(space, beam, frames.tokens.shape[2]) and frames.tokens.numel() > 0


def holds(space: SearchSpace, beam: int, columns: int) -> bool:
    """Whether a program can hold such a beam, and read what the language model knows."""
    readable = space.language_model is None or _trie(space) is not None
    return readable and beam <= _MOST_PLACES and columns <= _MOST_COLUMNS


def walk(frames: PreparedFrames, space: SearchSpace, beam: Beam, added: Tensor, source: Tensor, prints: Tensor) -> Beam:
    """The last beam (B * K,), from the first.

    What each frame did is written into `added` and `source` (T, B, K); `prints` (V + 1,) are fingerprints of tokens.
    """
    steps, batch, kept = added.shape
    width = frames.tokens.shape[2]
    spelling, hotwords, trie = space.spelling, space.hotwords, _trie(space)
    words: tuple[Tensor, ...] = (prints,) * 4  # what is not there is not read
    hot, ngrams = words[:2], (prints,) * 5
    if spelling is not None:
        words = (spelling.arcs.next_state, spelling.arcs.bonus, spelling.end_bonus, spelling.word)
    if hotwords is not None:
        hot = (hotwords.arcs.next_state, hotwords.arcs.bonus)
    if trie is not None:
        ngrams = (trie.keys, trie.log_probs, trie.back_offs, trie.after, trie.fallback)
    places, cells = max(16, _power_of_2(kept)), _power_of_2(width - 1)
    last = Beam(*(value.clone() for value in vars(beam).values()))
    scratch = torch.empty(batch, places * (cells + 6), device=added.device)
    _walk[(batch,)](
        (frames.log_probs, frames.blank, frames.column_log_probs, frames.tokens, frames.column),
        tuple(vars(last).values()),
        (added, source, scratch, scratch.view(torch.int32)),
        (*words, *hot, prints),
        ngrams,
        *(steps, batch, kept, space.size, width, -1 if space.delimiter is None else space.delimiter, space.alpha),
        *((len(trie.keys), trie.vocabulary_size, trie.order) if trie else (0, 0, 0)),
        places=places,
        cells=cells,
        few=min(places, 32),
        has=(spelling is not None, hotwords is not None, trie is not None),
        num_warps=min(16, max(4, places * cells // 512)),
    )
    for mass in (last.blank, last.token):
        mass.masked_fill_(mass < -1e29, IMPOSSIBLE)
    return last


def trace(added: Tensor, source: Tensor, place: Tensor, nothing: int) -> Tensor:
    """The tokens (B, K, T) that led to the places (B, K) of the last beam, `nothing` in frames that added none."""
    steps, batch, kept = added.shape
    tokens = torch.full((batch, kept, steps), nothing, dtype=torch.int32, device=place.device)
    _trace[(batch,)](added, source, place, tokens, steps, batch, kept, places=max(16, _power_of_2(kept)))
    return tokens


def _trie(space: SearchSpace) -> NgramTrie | None:
    """The n-grams of the language model, if it has them in memory."""
    trie = getattr(space.language_model, "trie", None)
    return trie if isinstance(trie, NgramTrie) else None


def _power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()


@kernel
def _trace(added, source, place, tokens, steps, batch, kept, places: tl.constexpr):
    """Follow each hypothesis of one utterance back to its first frame."""
    utterance = tl.program_id(0).to(tl.int64)
    mine = tl.arange(0, places)
    real = mine < kept
    at = tl.load(place + utterance * kept + mine, mask=real, other=0)
    for back in range(steps):
        frame = steps - 1 - back
        row = (frame * batch + utterance) * kept
        token = tl.load(added + row + at, mask=real)
        tl.store(tokens + (utterance * kept + mine) * steps + frame, token, mask=real)
        at = tl.load(source + row + at, mask=real, other=0).to(tl.int64)


@kernel
def _walk(
    frames, beams, trail, tables, ngram_tables, steps, batch, kept, size, width, delimiter, alpha, ngrams, words, order,
    places: tl.constexpr, cells: tl.constexpr, few: tl.constexpr, has: tl.constexpr,
):  # fmt: skip
    """Take one utterance from its first frame to its last."""
    utterance = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, places)
    first, real = utterance * kept, place < kept
    model = (ngram_tables, ngrams, words, order, alpha)
    scratch = (trail[2] + utterance * places * (cells + 6), trail[3] + utterance * places * (cells + 6))
    for frame in range(steps):
        row = frame * batch + utterance
        masses, edges = _listen(frames, beams, first + place, real, scratch, row, size, width, delimiter, cells)
        bonus = _earn(beams, first + place, real, masses, edges, tables, model, size, delimiter, has)
        table = _candidates(beams, first, real, masses, edges, bonus, scratch, kept, width, places, cells, few)
        score, cell, earned = _select(table, bonus, scratch, real, kept, width, places, cells)
        source = cell // cells
        token = tl.load(frames[3] + row * width + (cell - source * cells), mask=real, other=size).to(tl.int32)
        tl.store(trail[0] + row * kept + place, token, mask=real)
        tl.store(trail[1] + row * kept + place, source, mask=real)
        _take(beams, first, source, token, score, earned, real, scratch, tables, size, delimiter, places, has)


@kernel
def _either(a, b):
    """The logarithm of a sum of two exponentials."""
    high = tl.maximum(a, b)
    return high + tl.log(1.0 + tl.exp(tl.minimum(a, b) - high))


@kernel
def _listen(frames, beams, at, real, scratch, row, size, width, delimiter, cells: tl.constexpr):
    """What a frame says.

    First of each hypothesis (P,): the mass of all its paths, of those that its last token may follow once more, and
    what it has if it stays, by what its paths end in. Then of the frame: each hypothesis' column (P,), the tokens (C,)
    and log-probabilities (C,) of the columns, and the log-probability that a word ends.
    """
    log_probs, of_blank, of_columns, tokens, columns = frames
    cell = tl.arange(0, cells)
    used = (cell > 0) & (cell < width - 1)
    blank = tl.maximum(tl.load(beams[0] + at, mask=real, other=-1e30), -1e30)
    token = tl.maximum(tl.load(beams[1] + at, mask=real, other=-1e30), -1e30)
    last = tl.load(beams[5] + at, mask=real, other=0)
    column = tl.load(columns + row * size + last).to(tl.int32)
    repeated = tl.maximum(tl.load(log_probs + row * size + last), -1e30)
    adds = tl.load(tokens + row * width + cell, mask=used, other=size)
    costs = tl.maximum(tl.load(of_columns + row * width + cell, mask=used, other=-1e30), -1e30)
    ends = tl.maximum(tl.load(of_columns + row * width + 1), -1e30)
    mass = _either(blank, token)
    stay_token = tl.where(last == delimiter, mass, token) + repeated
    return (mass, blank + repeated, mass + tl.load(of_blank + row), stay_token), (column, adds, costs, ends)


@kernel
def _earn(beams, at, real, masses, edges, tables, model, size, delimiter, has: tl.constexpr):
    """What each column's token adds to each hypothesis beside its acoustics (P, C).

    The language model is only asked about words that have a chance; see `_end_of_word` in `prefix_beam_search.py`.
    """
    _, token_bonus, end_bonus, word_of, _, hot_bonus, _ = tables
    _, adds, costs, ends = edges
    bonus = tl.zeros([at.shape[0], adds.shape[0]], dtype=tl.float32)
    end = tl.where(tl.load(beams[5] + at, mask=real, other=0) != delimiter, 0.0, -1e30)
    hot_end = tl.zeros_like(end)
    node = tl.load(beams[6] + at, mask=real, other=0)
    if has[0]:
        bonus += tl.maximum(tl.load(token_bonus + node[:, None] * (size + 1) + adds[None, :]), -1e30)
        end = tl.maximum(tl.load(end_bonus + node), -1e30)
    if has[1]:
        hot = tl.load(beams[7] + at, mask=real, other=0)
        bonus += tl.load(hot_bonus + hot[:, None] * (size + 1) + adds[None, :])
        hot_end = tl.load(hot_bonus + hot * (size + 1) + delimiter)
    if has[2]:
        extra = tl.load(beams[2] + at, mask=real, other=0.0)
        least = tl.min(tl.where(real, tl.maximum(masses[2], masses[3]) + extra, float("inf")))
        hope = masses[0] + extra + ends + hot_end + end >= tl.maximum(least, -1e29)
        scored = tl.load(beams[10] + at, mask=real, other=1) != 0
        word_score = tl.load(beams[11] + at, mask=real, other=0.0)
        wanted = hope & (end > -1e29) & (scored == 0) & real
        if tl.max(wanted.to(tl.int32)) > 0:
            state = tl.load(beams[9] + at, mask=wanted, other=0)
            said, behind = _ask(state, tl.load(word_of + node, mask=wanted, other=0), wanted, model)
            word_score = tl.where(wanted, said, word_score)
            tl.store(beams[10] + at, wanted, mask=wanted)
            tl.store(beams[11] + at, said, mask=wanted)
            tl.store(beams[12] + at, behind, mask=wanted)
        end = tl.where(scored | wanted, end + model[4] * word_score, -1e30)
    return tl.where(tl.arange(0, adds.shape[0])[None, :] == 1, (end + hot_end)[:, None], bonus)


@kernel
def _ask(state, word, wanted, model):
    """The language model's log-probabilities of the wanted words after states, and the states behind them.

    See `NgramTrie.find`; each look-up is a search by halves.
    """
    tables, ngrams, words, order, _ = model
    keys, log_probs, back_offs, after, fallback = tables
    node, given_up, pending = word + 1, tl.zeros_like(word).to(tl.float32), wanted
    for _ in range(order - 1):
        key = state * words + word
        low = tl.zeros_like(key)
        high = low + ngrams
        while tl.max(high - low) > 0:
            middle = (low + high) // 2
            open_ = low < high
            below = tl.load(keys + middle, mask=pending & open_, other=0) < key
            low = tl.where(open_ & below, middle + 1, low)
            high = tl.where(open_ & (below == 0), middle, high)
        found = tl.minimum(low, ngrams - 1)
        hit = pending & (tl.load(keys + found, mask=pending, other=-1) == key)
        node = tl.where(hit, found, node)
        pending = pending & (hit == 0)
        given_up += tl.load(back_offs + state, mask=pending, other=0.0)
        state = tl.load(fallback + state, mask=pending, other=0).to(tl.int64)
    said = given_up + tl.load(log_probs + node, mask=wanted, other=0.0)
    return said * 2.302585092994046, tl.load(after + node, mask=wanted, other=0).to(tl.int64)


@kernel
def _candidates(
    beams, first, real, masses, edges, bonus, scratch, kept, width,
    places: tl.constexpr, cells: tl.constexpr, few: tl.constexpr,
):  # fmt: skip
    """The scores (P, C) of all that can be done; what stays leaves its two masses in the scratch memory.

    What stays takes over the candidate with the same text: its parent, if it is in the beam, with its last token.
    """
    column, _, costs, _ = edges
    cell, place = tl.arange(0, cells)[None, :], tl.arange(0, places)
    at = first + place
    extra = tl.load(beams[2] + at, mask=real, other=0.0)
    parent = tl.load(beams[4] + at, mask=real, other=0)
    table = (masses[0] + extra)[:, None] + costs[None, :]
    table = tl.where(column[:, None] == cell, (masses[1] + extra)[:, None], table) + bonus
    number, bit = tl.zeros_like(column), tl.where(column < width - 1, 1 << column, 0)
    for begin in range(0, places, few):  # some possible parents at a time: all would take more than the registers
        other = begin + tl.arange(0, few)
        text = tl.load(beams[3] + first + other, mask=other < kept, other=-1)
        same = parent[:, None] == text[None, :]  # (P, few)
        number = tl.maximum(number, tl.max(tl.where(same, other[None, :] + 1, 0), 1))
        tl.store(scratch[1] + 5 * places + other, tl.sum(tl.where(same, bit[:, None], 0), 0))
    number = tl.where(column < width - 1, number, 0)  # 1 + the parent's place, 0 if it is gone
    tl.store(scratch[0] + 6 * places + place[:, None] * cells + cell, table)
    tl.debug_barrier()  # each place reads what another wrote
    found = tl.load(scratch[0] + 6 * places + tl.where(number > 0, (number - 1) * cells + column, 0))
    joined = _either(masses[3], tl.where(number > 0, found, -1e30) - extra)
    tl.store(scratch[0] + 3 * places + place, masses[2])
    tl.store(scratch[0] + 4 * places + place, joined)
    taken = tl.load(scratch[1] + 5 * places + place)  # the columns that children in the beam took over
    table = tl.where(((taken[:, None] >> cell) & 1) != 0, -1e30, table)
    return tl.where(cell == 0, (_either(masses[2], joined) + extra)[:, None], table)


@kernel
def _select(table, bonus, scratch, real, kept, width, places: tl.constexpr, cells: tl.constexpr):
    """The best `kept` candidates: their scores (P,), cells (P,) and what they earned.

    Scores become integers of the same order. The least that is kept is found by halving the range between what the
    worst that stays has, which as many reach as are kept, and the best.
    """
    place, cell = tl.arange(0, places), tl.arange(0, cells)
    bits = table.to(tl.int32, bitcast=True)
    keys = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    within = real[:, None] & (cell < width - 1)[None, :]
    low = tl.min(tl.where(within & (cell == 0)[None, :], keys, 0x7FFFFFFF))
    keys = tl.where(within, keys, -0x80000000)
    high = tl.max(keys)
    while low < high:
        middle = (low | high) - ((low ^ high) >> 1)
        count = tl.sum((keys >= middle).to(tl.int32))
        low = tl.where(count >= kept, middle, low)
        high = tl.where(count > kept, high, tl.where(count == kept, middle, middle - 1))
    above, equal = (keys > low).to(tl.int32), (keys == low).to(tl.int32)
    counts = tl.reshape(tl.cumsum(tl.reshape(above + (equal << 16), [places * cells]), 0), [places, cells])
    rank = tl.where(above != 0, (counts & 0xFFFF) - 1, tl.sum(above) + (counts >> 16) - 1)
    best = (keys >= low) & (rank < kept)
    tl.store(scratch[1] + rank, place[:, None] * cells + cell[None, :], mask=best)
    tl.store(scratch[0] + places + rank, table, mask=best)
    tl.store(scratch[0] + 2 * places + rank, bonus, mask=best)
    tl.debug_barrier()
    number = tl.load(scratch[1] + place, mask=real, other=0)
    score = tl.load(scratch[0] + places + place, mask=real, other=-1e30)
    earned = tl.load(scratch[0] + 2 * places + place, mask=real, other=0.0)
    return score, number, earned


@kernel
def _take(
    beams, first, source, token, score, earned, real, scratch, tables, size, delimiter,
    places: tl.constexpr, has: tl.constexpr,
):  # fmt: skip
    """The new beam in place of the old: hypotheses from their sources, with the tokens of this frame written in."""
    next_node, _, _, _, next_hot, _, prints = tables
    old, new = first + source, first + tl.arange(0, places)
    grows, dead = token != size, score < -1e29
    extra = tl.load(beams[2] + old)
    extra = tl.where(grows, extra + earned, extra)
    blank = tl.where(grows | dead, -1e30, tl.load(scratch[0] + 3 * places + source))
    mass = tl.where(dead, -1e30, tl.where(grows, score - extra, tl.load(scratch[0] + 4 * places + source)))
    text = tl.load(beams[3] + old)
    longer = text * 6364136223846793005 + tl.load(prints + token)
    parent = tl.where(dead, 0, tl.where(grows, text, tl.load(beams[4] + old)))
    text = tl.where(dead, -1, tl.where(grows, longer, text))
    last = tl.where(grows, token, tl.load(beams[5] + old))
    node, hot = tl.load(beams[6] + old), tl.load(beams[7] + old)
    language, state, scored = tl.load(beams[8] + old), tl.load(beams[9] + old), tl.load(beams[10] + old) != 0
    word_score, next_state, ends = tl.load(beams[11] + old), tl.load(beams[12] + old), token == delimiter
    tl.debug_barrier()  # all have read the old beam
    tl.store(beams[0] + new, blank, mask=real)
    tl.store(beams[1] + new, mass, mask=real)
    tl.store(beams[2] + new, tl.where(dead, 0.0, extra), mask=real)
    tl.store(beams[3] + new, text, mask=real)
    tl.store(beams[4] + new, parent, mask=real)
    tl.store(beams[5] + new, last, mask=real)
    if has[0]:
        tl.store(beams[6] + new, tl.load(next_node + node * (size + 1) + token), mask=real)
    if has[1]:
        tl.store(beams[7] + new, tl.load(next_hot + hot * (size + 1) + token), mask=real)
    if has[2]:
        tl.store(beams[8] + new, tl.where(ends, language + word_score, language), mask=real)
        tl.store(beams[9] + new, tl.where(ends, next_state, state), mask=real)
        tl.store(beams[10] + new, dead | (grows & ends) | ((grows == 0) & scored), mask=real)
        tl.store(beams[11] + new, word_score, mask=real)
        tl.store(beams[12] + new, next_state, mask=real)
    tl.debug_barrier()
