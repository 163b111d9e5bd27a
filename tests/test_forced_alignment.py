"""Alignment against every path there is, against planted boundaries, and in the memory that was promised."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import planted_tokens
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_tokens import planted
from torch import Tensor

import wav2vec2
from wav2vec2.alignment import alignment_trellis
from wav2vec2.alignment.forced_alignment import STAR_COST, Alignment, Span, align

STAR = -1


class Case(NamedTuple):
    """A batch of utterances, small enough to try all of their paths."""

    log_probs: Tensor
    targets: Tensor
    lengths: list[int]
    target_lengths: list[int]
    blank: int


@st.composite
def cases(draw: st.DrawFn, star: bool = False, frames: int = 6, tokens: int = 3) -> Case:
    """Mixed lengths, repeats, any blank, and values from flat to peaked."""
    batch, vocab = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    blank = draw(st.integers(0, vocab - 1))
    letters = [token for token in range(vocab) if token != blank] + ([STAR] if star else [])
    lengths = draw(st.lists(st.integers(0, frames), min_size=batch, max_size=batch))
    target_lengths = draw(st.lists(st.integers(0, tokens), min_size=batch, max_size=batch))
    row = st.lists(st.sampled_from(letters), min_size=tokens, max_size=tokens)
    targets = torch.tensor(draw(st.lists(row, min_size=batch, max_size=batch)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    values = torch.randn(batch, frames, vocab, generator=generator, dtype=torch.double) * scale
    return Case(values.log_softmax(-1), targets, lengths, target_lengths, blank)


def pattern(targets: list[int], blank: int) -> str:
    """A regular expression for the strings of tokens, written as letters, that spell the targets."""
    parts = [f"{letter(blank)}*"]
    for before, token in zip([None, *targets], targets, strict=False):
        separated = "+" if token == before and token != STAR else "*"
        parts[-1] = parts[-1][:-1] + separated
        parts += [f"{letter(token)}+", f"{letter(blank)}*"]
    return "".join(parts)


def letter(token: int) -> str:
    return chr(ord("a") + token + 1)


def emission(log_probs: Tensor, frame: int, token: int) -> float:
    return float(log_probs[frame].max()) - STAR_COST if token == STAR else float(log_probs[frame, token])


def best_score(log_probs: Tensor, targets: list[int], blank: int) -> float:
    """The best of all paths, by trying all of them."""
    allowed = re.compile(pattern(targets, blank))
    symbols = sorted({blank, *targets})
    best = -float("inf")
    for path in itertools.product(symbols, repeat=len(log_probs)):
        if allowed.fullmatch("".join(map(letter, path))):
            best = max(best, sum(emission(log_probs, frame, token) for frame, token in enumerate(path)))
    return best


def check_against_all_paths(case: Case, star: int | None) -> None:
    found = align(*case[:4], blank=case.blank, star=star)
    assert len(found) == len(case.lengths)
    for row, alignment in enumerate(found):
        targets = case.targets[row, : case.target_lengths[row]].tolist()
        log_probs = case.log_probs[row, : case.lengths[row]]
        best = best_score(log_probs, targets, case.blank)
        assert [span.token for span in alignment] == targets
        assert alignment.score == pytest.approx(best, abs=1e-4)
        if best == -float("inf"):
            assert f"utterance {row}" in str(alignment.reason)
        else:
            assert alignment.reason is None
            check_spans(alignment, log_probs, targets, case.blank)


def check_spans(alignment: Alignment, log_probs: Tensor, targets: list[int], blank: int) -> None:
    """The spans are a path, it is the one that was scored, and confidences are mean probabilities."""
    path = [blank] * len(log_probs)
    for span in alignment:
        assert 0 <= span.start < span.end <= len(path)
        path[span.start : span.end] = [span.token] * (span.end - span.start)
        mean = 0.0 if span.token == STAR else float(log_probs[span.start : span.end, span.token].exp().mean())
        assert span.confidence == pytest.approx(mean, abs=1e-6)
    assert re.fullmatch(pattern(targets, blank), "".join(map(letter, path)))
    score = sum(emission(log_probs, frame, token) for frame, token in enumerate(path))
    assert alignment.score == pytest.approx(score, abs=1e-4)


@given(case=cases())
@settings(deadline=None, max_examples=100)
def test_equals_the_best_of_all_paths(case: Case) -> None:
    check_against_all_paths(case, star=None)


@given(case=cases(star=True, frames=5))
@settings(deadline=None, max_examples=60)
def test_equals_the_best_of_all_paths_with_stars(case: Case) -> None:
    check_against_all_paths(case, star=STAR)


@given(case=cases(star=True, frames=90, tokens=20), cells=st.sampled_from([1, 4000, 40_000]))
@settings(deadline=None, max_examples=30)
def test_by_blocks_as_in_one_table(case: Case, cells: int) -> None:
    whole = align(*case[:4], blank=case.blank, star=STAR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment_trellis, "CELLS", cells)
        parts = align(*case[:4], blank=case.blank, star=STAR)
    for one, other in zip(whole, parts, strict=True):
        assert other.score == pytest.approx(one.score, abs=1e-4)
        assert list(other) == list(one)


@pytest.mark.parametrize(("frames", "tokens"), [(200, 20), (1000, 300), (3000, 100)])
def test_planted_boundaries_are_found(frames: int, tokens: int) -> None:
    log_probs, targets, starts = planted(frames, tokens, 32)
    spans = align(log_probs, targets[None])[0]
    late = torch.tensor([(span.start, span.end) for span in spans]) - torch.stack([starts, starts + 2], 1)
    assert float((late.abs() <= 1).double().mean()) >= 0.99
    assert sum(span.confidence > 0.2 for span in spans) >= 0.99 * tokens


def test_leading_and_trailing_silence_belong_to_no_token() -> None:
    log_probs = torch.full((1, 100, 3), 0.01)
    log_probs[..., 0] = 0.98
    for frame, token in ((40, 1), (41, 1), (50, 2)):
        log_probs[0, frame] = torch.tensor([0.1, 0.05, 0.05])
        log_probs[0, frame, token] = 0.85
    spans = align(log_probs.log(), torch.tensor([[1, 2]]))[0]
    assert [span[:3] for span in spans] == [(1, 40, 42), (2, 50, 51)]


def test_a_star_takes_what_its_neighbours_leave() -> None:
    said = [0, 1, 1, 0, 3, 4, 0, 5, 3, 0, 0, 2, 2, 0]  # 3 4 5 3 is unknown
    probabilities = torch.nn.functional.one_hot(torch.tensor(said), 6).float() * 0.94 + 0.01
    first, star, last = align(probabilities.log()[None], torch.tensor([[1, STAR, 2]]), star=STAR)[0]
    assert (first[:3], star, last[:3]) == ((1, 1, 3), Span(STAR, 4, 9, 0.0), (2, 11, 13))


def test_an_utterance_too_short_is_flagged_and_the_others_are_not_touched() -> None:
    log_probs, _, _ = planted(30, 3, 5)
    targets = torch.tensor([[1, 2, 3], [1, 1, 2], [4, -100, -100]])
    batch = log_probs.expand(3, -1, -1)
    found = align(batch, targets, lengths=[30, 3, 0])
    assert found[1].reason == (
        "utterance 1: 3 frames cannot hold 3 tokens, which need 4 frames "
        "(one each, and a blank between equal neighbours)"
    )
    assert list(found[1]) == [Span(1, 0, 1, 0.0), Span(1, 1, 2, 0.0), Span(2, 2, 3, 0.0)]
    assert list(found[2]) == [Span(4, 0, 0, 0.0)]
    assert (found[1].score, found[2].score) == (-float("inf"), -float("inf"))
    assert list(found[0]) == list(align(log_probs, targets[:1])[0])
    assert found[0].reason is None


def test_an_impossible_token_spoils_itself_alone() -> None:
    log_probs, targets, _ = planted(60, 6, 12, seed=3)
    possible = align(log_probs, targets[None])[0]
    token = int(targets[2])
    log_probs[..., token] = -float("inf")
    spoiled = align(log_probs, targets[None])[0]
    for before, after in zip(possible, spoiled, strict=True):
        if after.token == token:
            assert after.confidence == 0.0
        else:
            assert after == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_precision(dtype: torch.dtype) -> None:
    log_probs, targets, starts = planted(300, 20, 32)
    spans = align(log_probs.to(dtype), targets[None])[0]
    assert max(abs(span.start - int(start)) for span, start in zip(spans, starts, strict=True)) <= 1


def test_log_probs_of_a_model_in_training() -> None:
    log_probs, targets, _ = planted(100, 10, 32)
    assert list(align(log_probs.requires_grad_(), targets[None])[0]) == list(
        align(log_probs.detach(), targets[None])[0]
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_as_on_the_cpu() -> None:
    log_probs, targets, _ = planted(500, 60, 32)
    assert [list(a) for a in align(log_probs.cuda(), targets[None])] == [
        list(a) for a in align(log_probs, targets[None])
    ]


GOOD = torch.zeros(2, 5, 4).log_softmax(-1)
TARGETS = torch.ones(2, 2, dtype=torch.long)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD[0], TARGETS), r"log_probs: torch.float32 of shape \(5, 4\)"),
        ((GOOD, TARGETS[0]), r"targets: torch.int64 of shape \(2,\)"),
        ((GOOD, TARGETS.float()), "need integers"),
        ((GOOD + 1.4, TARGETS), "frame 0 of utterance 0; log-probabilities are at most 0: apply log_softmax"),
        ((GOOD * torch.tensor([1.0, torch.nan])[:, None, None], TARGETS), "nan in frame 0 of utterance 1"),
        (
            (GOOD, TARGETS * 4),
            "targets: 4 at position 0 of utterance 0; must be a token 0 ... 3 other than the blank 0",
        ),
        ((GOOD, TARGETS * 0), "targets: 0 at position 0"),
        ((GOOD, TARGETS, [5, 6]), "lengths: 6 for utterance 1; must be between 0 and 5"),
        ((GOOD, TARGETS, [5]), r"lengths: \(1,\) of torch.int64; need 2 integers"),
        ((GOOD, TARGETS, None, [3, 2]), "target_lengths: 3 for utterance 0"),
        ((GOOD, TARGETS, None, None, 4), "blank=4: must be one of the tokens 0 ... 3"),
        ((GOOD, TARGETS, None, None, 0, 3), "star=3: must be outside the vocabulary"),
        ((GOOD, TARGETS, None, None, 0, 4, -0.5), "star_cost=-0.5"),
    ],
)
def test_bad_input_is_named(arguments: tuple[Tensor, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align(*arguments)


ONE_HOUR = """
import resource, torch
from planted_tokens import planted
from wav2vec2.alignment.forced_alignment import align

align(*(part[None] if part.ndim == 1 else part for part in planted(300, 20, 32)[:2]))
log_probs, targets, starts = planted(180_000, 1500, 32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spans = align(log_probs, targets[None])[0]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
found = sum(abs(span.start - int(start)) <= 1 for span, start in zip(spans, starts)) / len(spans)
print(grown // 1024, found)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read in kilobytes, as Linux gives it")
def test_an_hour_in_400_megabytes() -> None:
    folders = f"{Path(wav2vec2.__file__).parents[1]}:{Path(planted_tokens.__file__).parent}"
    command = [sys.executable, "-c", ONE_HOUR]
    environment = {"PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    megabytes, found = done.stdout.split()
    assert int(megabytes) < 400
    assert float(found) > 0.99
