"""Run as a program with TRITON_INTERPRET=1: the kernel of the beam search against the search as operations of torch.

    TRITON_INTERPRET=1 python tests/support/beam_kernel_probe.py model

Equal beams of random frames are asserted: scores, their parts, and the tokens of every hypothesis. `alignment` is the
kernel of the forced alignment, which locates the words, against the trellis.
"""

import sys
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from wav2vec2.alignment.forced_alignment import align
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.prefix_beam_search import Found
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

LETTERS = ["<pad>", "|", "a", "b", "c"]
MODEL = NgramLanguageModel.train(["a ab ba", "ab a bb", "a a ba bb", "cab a b"], order=3, prune=(0,))
KINDS: dict[str, dict[str, Any]] = {
    "letters": {},
    "lexicon": {"lexicon": ["a", "ab", "bba", "cab"]},
    "hotwords": {"hotwords": {"ab": 2.0, "a b": 1.5}},
    "model": {"language_model": MODEL},
    "all": {"language_model": MODEL, "lexicon": ["a", "ab", "bba", "cab"], "hotwords": {"cab a": -1.0}},
}


def beams(decoder: CTCDecoder, log_probs: Tensor, lengths: list[int], kernel: bool) -> Found:
    with patch("wav2vec2.decoding.prefix_beam_search.usable", lambda device: kernel):
        return decoder.search(log_probs, torch.tensor(lengths))[0]


def main(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for beam, threshold, impossible in ((1, 12.0, 0.0), (7, 3.0, 0.3), (24, 1e9, 0.1)):
        log_probs = (2 * torch.randn(2, 9, len(LETTERS), generator=generator)).log_softmax(-1)
        removed = torch.rand(log_probs.shape, generator=generator) < impossible
        log_probs = log_probs.masked_fill(removed & (torch.arange(len(LETTERS)) > 0), float("-inf"))
        decoder = CTCDecoder(LETTERS, beam=beam, alpha=0.7, beta=0.4, token_threshold=threshold, **KINDS[kind])
        slow, fast = (beams(decoder, log_probs, [9, 6], kernel) for kernel in (False, True))
        alive = slow.score > float("-inf")
        assert alive.any()
        assert torch.equal(fast.score > float("-inf"), alive)
        for found, expected in ((fast.score, slow.score), (fast.extra, slow.extra), (fast.language, slow.language)):
            torch.testing.assert_close(found[alive], expected[alive], atol=1e-5, rtol=0)
        assert torch.equal(fast.tokens[alive], slow.tokens[alive])


def alignments() -> None:
    """The best path through a trellis: mixed lengths, a star, equal neighbours, an impossible token."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([[1, 2, 2, 3], [4, 9, 1, -100], [1, -100, -100, -100]])
    log_probs = (3 * torch.randn(3, 14, 6, generator=generator)).log_softmax(-1)
    log_probs[0, 3, 2] = float("-inf")
    for star in (9, None):
        found = []
        for kernel in (False, True):
            with patch("wav2vec2.alignment.alignment_trellis.usable", lambda device, kernel=kernel: kernel):
                found.append(align(log_probs, targets if star else targets.clamp(max=5), [14, 11, 5], star=star))
        assert found[0] == found[1]
        assert [one.score for one in found[0]] == [one.score for one in found[1]]


alignments() if sys.argv[1] == "alignment" else main(sys.argv[1])
