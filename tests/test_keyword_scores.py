"""The score of a keyword is that of its best alignment anywhere, beside the best path of all over the same frames."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wav2vec2.alignment.keyword_scores import KeywordScores, KeywordTrellis
from wav2vec2.decoding.spelling import Speller
from wav2vec2.spotting.keyword_search import KeywordSearch
from wav2vec2.spotting.keywords import Keyword
from wav2vec2.spotting.picked_hits import HitPicker, Peak

KEYWORDS = [(1,), (1, 2), (2, 2), (1, 2, 1), (3, 1, 1, 2)]


def log_probs(frames: int, tokens: int = 4, seed: int = 0) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).normal(0, 2, (frames, tokens))
    normal: NDArray[np.float64] = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    return normal


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """What a path spells: repetitions are one token, blanks are none."""
    changes = [path[0]] + [after for before, after in pairwise(path) if after != before]
    return tuple(token for token in changes if token)


def brute_force(rows: NDArray[np.float64], keyword: tuple[int, ...]) -> list[tuple[float, set[int]]]:
    """For every end the best score over all starts and all paths that spell the keyword, and its starts."""
    found: list[tuple[float, set[int]]] = []
    for end in range(1, len(rows) + 1):
        best: tuple[float, set[int]] = (-np.inf, set())
        for start in range(end):
            free = rows[start:end].max(1).sum()
            for path in product(range(rows.shape[1]), repeat=end - start):
                if path[0] != keyword[0] or path[-1] != keyword[-1] or collapsed(path) != keyword:
                    continue
                score = (sum(row[token] for row, token in zip(rows[start:end], path, strict=True)) - free) / len(
                    keyword
                )
                if score > best[0] + 1e-9:
                    best = (score, {start})
                elif score > best[0] - 1e-9:
                    best[1].add(start)
        found.append(best)
    return found


def scored(rows: NDArray[np.float64], keywords: list[tuple[int, ...]], cuts: list[int]) -> KeywordScores:
    """The scores of one stream that comes in pieces."""
    trellis = KeywordTrellis(keywords, blank=0)
    stream = trellis.begin()
    costs = rows - rows.max(1, keepdims=True)
    pieces = [trellis.advance([stream], [piece])[0] for piece in np.split(costs, cuts)]
    return KeywordScores(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


def test_scores_are_those_of_all_starts_ends_and_paths() -> None:
    for seed in range(2):
        rows = log_probs(6, seed=seed)
        found = scored(rows, KEYWORDS, [])
        for number, keyword in enumerate(KEYWORDS):
            for frame, (score, starts) in enumerate(brute_force(rows, keyword)):
                assert found.scores[frame, number] == pytest.approx(score, abs=1e-9)
                assert not starts or found.began[frame, number] in starts


@pytest.mark.parametrize("cuts", [[1], [0, 7, 7, 20], list(range(40))])
def test_it_does_not_matter_in_which_pieces_frames_come(cuts: list[int]) -> None:
    rows = log_probs(40, seed=3)
    whole, pieces = scored(rows, KEYWORDS, []), scored(rows, KEYWORDS, cuts)
    np.testing.assert_array_equal(pieces.scores, whole.scores)
    np.testing.assert_array_equal(pieces.began, whole.began)


def test_streams_side_by_side_are_streams_alone() -> None:
    """Whatever their lengths, one of none included."""
    trellis = KeywordTrellis(KEYWORDS, blank=0)
    rows = [log_probs(length, seed=length) for length in (5, 0, 17, 9)]
    streams = [trellis.begin() for _ in rows]
    for _ in range(2):
        found = trellis.advance(streams, [one - one.max(1, keepdims=True, initial=-99) for one in rows])
    for one, each in zip(rows, found, strict=True):
        alone = scored(np.concatenate([one, one]), KEYWORDS, [len(one)])
        np.testing.assert_array_equal(each.scores, alone.scores[len(one) :])
        np.testing.assert_array_equal(each.began, alone.began[len(one) :])


def test_what_greedy_search_writes_has_the_score_one() -> None:
    """With a pause, as the blank or the delimiter, and where the best token is one that no text holds."""
    speller = Speller(["<pad>", "<unk>", "|", "a", "b", "c"], 0, "|", ["<unk>"])
    said = [0, 3, 3, 2, 2, 0, 4, 2, 5]
    frames = torch.full((len(said), 6), 0.02).scatter_(1, torch.tensor(said)[:, None], 0.9).log()
    frames[6, 1] = 0.0
    search = KeywordSearch([Keyword("ab", (3, 4)), Keyword("bc", (4, 5)), Keyword("ac", (3, 5))], speller)
    (found,) = search.score([search.begin()], [frames])
    assert found.scores[6, 0] == 1.0 and found.began[6, 0] == 1
    assert found.scores[8, 1] == 1.0 and found.began[8, 1] == 6
    assert found.scores[:, 2].max() < 0.2  # half of its tokens lose everything, and the b between them as much


def test_keywords_of_nothing_are_refused() -> None:
    for keywords in ([], [(1,), ()]):
        with pytest.raises(ValueError, match="none may be empty"):
            KeywordTrellis(keywords, 0)


def picked(scores: list[float], began: list[int], cut: int, patience: int = 3) -> list[Peak]:
    picker = HitPicker([0.5], patience)
    rows, starts = np.array(scores)[:, None], np.array(began)[:, None]
    pieces = [picker.add(rows[at : at + cut], starts[at : at + cut]) for at in range(0, len(rows), cut)]
    return [hit for piece in pieces for hit in piece] + picker.finish()


@pytest.mark.parametrize("cut", [1, 2, 5, 100])
def test_one_utterance_is_one_hit(cut: int) -> None:
    """The best place of it; again only for what begins behind it."""
    rising = [0.1, 0.6, 0.9, 0.8, 0.5, 0.1, 0.1, 0.1]
    assert picked(rising, [0] * 8, cut) == [Peak(0, 0, 2, 0.9)]
    late = [0.6, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1]  # a better one three frames later is another hit, unless it overlaps
    assert picked(late, [0] * 7, cut) == [Peak(0, 0, 0, 0.6)]
    assert picked(late, [0, 0, 0, 1, 1, 1, 1], cut) == [Peak(0, 0, 0, 0.6), Peak(0, 1, 3, 0.9)]
    twice = [0.9, 0.1, 0.6, 0.1]  # right behind it, and worse
    assert picked(twice, [0, 1, 1, 1], cut) == [Peak(0, 0, 0, 0.9), Peak(0, 1, 2, 0.6)]
    assert picked([0.49, 0.2], [0, 0], cut) == []
