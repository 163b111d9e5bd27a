"""Sums over paths, and the goodness of pronunciation made of them, against every path there is."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wav2vec2.alignment.goodness_of_pronunciation import SpokenInstead, spoken_instead
from wav2vec2.alignment.path_sums import PathSums, path_sums

Text = tuple[int, ...]


class Case(NamedTuple):
    """A batch of utterances, small enough to try all of their paths."""

    log_probs: Tensor
    targets: Tensor
    lengths: Tensor
    target_lengths: Tensor
    blank: int

    @property
    def tokens(self) -> list[int]:
        return [token for token in range(self.log_probs.shape[2]) if token != self.blank]

    def sums(self) -> PathSums:
        return path_sums(*self)

    def text(self, row: int) -> Text:
        return tuple(self.targets[row, : int(self.target_lengths[row])].tolist())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Mixed lengths, repeats, any blank, texts that do not fit, and values from flat to peaked."""
    batch, vocab, frames, tokens = draw(st.integers(1, 3)), draw(st.integers(2, 4)), 5, 3
    blank = draw(st.integers(0, vocab - 1))
    letters = st.sampled_from([token for token in range(vocab) if token != blank])
    rows = st.lists(st.lists(letters, min_size=tokens, max_size=tokens), min_size=batch, max_size=batch)
    lengths = draw(st.lists(st.integers(1, frames), min_size=batch, max_size=batch))
    counts = draw(st.lists(st.integers(0, tokens), min_size=batch, max_size=batch))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.randn(batch, frames, vocab, generator=generator, dtype=torch.double)
    scale = draw(st.sampled_from([0.1, 1.0, 5.0, 50.0]))
    log_probs = (values * scale).log_softmax(-1)
    return Case(log_probs, torch.tensor(draw(rows)), torch.tensor(lengths), torch.tensor(counts), blank)


def all_texts(log_probs: Tensor, blank: int) -> dict[Text, float]:
    """The log-probability of every text that the frames can spell, by trying all paths."""
    found: dict[Text, list[float]] = {}
    rows = log_probs.tolist()
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(rows)):
        text = tuple(token for token, _ in itertools.groupby(path) if token != blank)
        found.setdefault(text, []).append(sum(row[token] for row, token in zip(rows, path, strict=True)))
    return {text: logsumexp(scores) for text, scores in found.items()}


def logsumexp(scores: list[float]) -> float:
    highest = max(scores, default=-math.inf)
    if highest == -math.inf:
        return highest
    return highest + math.log(math.fsum(math.exp(score - highest) for score in scores))


def together(known: dict[Text, float], texts: list[Text]) -> float:
    """How likely it is that one of the texts was said, each counted once."""
    return logsumexp([known.get(text, -math.inf) for text in set(texts)])


def check(found: Tensor, expected: float) -> None:
    assert (float(found) == expected) if math.isinf(expected) else abs(float(found) - expected) < 1e-9, expected


def places(case: Case) -> tuple[Tensor, Tensor]:
    """Every pair of places in the targets, the first not behind the last."""
    pairs = list(itertools.combinations_with_replacement(range(case.targets.shape[1] + 1), 2))
    first, last = torch.tensor(pairs).T
    return first.expand(len(case.targets), -1), last.expand(len(case.targets), -1)


@settings(max_examples=25, deadline=None)
@given(cases())
def test_sums_equal_those_over_all_paths(case: Case) -> None:
    """Of the targets, of the targets without some, and with any one token in the place of some, or of none."""
    sums, (first, last) = case.sums(), places(case)
    without, replaced = sums.without(first, last), sums.replaced(first, last, torch.tensor(case.tokens))
    for row, length in enumerate(case.lengths.tolist()):
        known = all_texts(case.log_probs[row, :length], case.blank)
        text = case.text(row)
        check(sums.likelihood()[row], known.get(text, -math.inf))
        for number, (begin, end) in enumerate(zip(first[row].tolist(), last[row].tolist(), strict=True)):
            if end <= len(text):
                check(without[row, number], known.get(text[:begin] + text[end:], -math.inf))
                for token, found in zip(case.tokens, replaced[row, number], strict=True):
                    check(found, known.get((*text[:begin], token, *text[end:]), -math.inf))


def substitutions(text: Text, at: int, tokens: list[int]) -> list[Text]:
    """The texts in which something else, or nothing, stands in one place."""
    others = [(token,) for token in tokens if token != text[at]]
    return [text[:at] + other + text[at + 1 :] for other in [*others, ()]]


def insertions(text: Text, at: int, tokens: list[int]) -> list[Text]:
    return [(*text[:at], token, *text[at:]) for token in tokens]


def ratio(over: float, under: float) -> float:
    return math.nan if over == under == -math.inf else over - under


def check_goodness(found: SpokenInstead, row: int, text: Text, known: dict[Text, float], tokens: list[int]) -> None:
    """The scores of one utterance against the texts that they are defined by."""
    changed = [substitutions(text, at, tokens) for at in range(len(text))]
    for at in range(len(text)):
        others = together(known, changed[at])
        goodness = ratio(together(known, [text]), logsumexp([together(known, [text]), others]))
        said = together(known, [text, *insertions(text, at, tokens), *insertions(text, at + 1, tokens)])
        for value, expected in ((found.goodness(), goodness), (found.log_odds(), ratio(said, others))):
            if not math.isnan(expected):
                check(value[row, at], expected)


@settings(max_examples=25, deadline=None)
@given(cases())
def test_goodness_equals_what_all_paths_say(case: Case) -> None:
    """The share of the paths that say it as asked, whatever lies beside in the batch."""
    found = spoken_instead(case.sums(), torch.tensor(case.tokens))
    for row, length in enumerate(case.lengths.tolist()):
        known = all_texts(case.log_probs[row, :length], case.blank)
        check_goodness(found, row, case.text(row), known, case.tokens)


def test_an_utterance_is_the_same_alone_and_among_longer_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = (torch.randn(4, 60, 30, generator=generator, dtype=torch.double) * 4).log_softmax(-1)
    lengths, counts = torch.tensor([60, 23, 41, 5]), torch.tensor([12, 3, 12, 1])
    targets = torch.randint(1, 30, (4, 12), generator=generator)
    tokens = torch.arange(1, 30)
    together = spoken_instead(path_sums(log_probs, targets, lengths, counts, 0), tokens)
    for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        frames, asked = log_probs[row : row + 1, :length], targets[row : row + 1, :count]
        alone = spoken_instead(path_sums(frames, asked, lengths[row : row + 1], counts[row : row + 1], 0), tokens)
        for name, one in alone._asdict().items():
            many = getattr(together, name)[row]
            kept = many if many.ndim == 0 else many[: one.shape[1]]
            assert torch.allclose(kept.double(), one[0].double(), rtol=0, atol=1e-9), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_as_on_the_cpu() -> None:
    log_probs = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    targets, tokens = torch.tensor([[1, 2, 2, 5], [3, 1, 1, 1]]), torch.arange(1, 8)
    arguments = (targets, torch.tensor([30, 20]), torch.tensor([4, 2]), 0)
    here = spoken_instead(path_sums(log_probs, *arguments), tokens)
    there = spoken_instead(path_sums(log_probs.cuda(), *arguments), tokens)
    for one, other in zip(here, there, strict=True):
        assert torch.allclose(one.double(), other.cpu().double(), rtol=0, atol=1e-9)
