"""Training against a slow obvious version, its sums, its perplexity and its memory."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_models import SlowKneserNey, absolute_discounting_perplexity, reference_texts, zipf_sentences
from shared_data import needs_shared_data

from wav2vec2.language_models.external_sorting import CountingSorter
from wav2vec2.language_models.kneser_ney import FALLBACK_DISCOUNTS, discounts_of, train_compact
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.language_models.ngram_trie import LanguageModelError

sentences = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=12)


def all_contexts(slow: SlowKneserNey) -> list[tuple[str, ...]]:
    """Every context that occurs, and some that do not."""
    seen = {ngram[:-1] for ngram in slow.counts} | {("<unk>",) * min(1, slow.order - 1)}
    return sorted(context for context in seen if "</s>" not in context)


def state_after(model: NgramLanguageModel, context: tuple[str, ...]) -> int:
    """Of words that need not begin a sentence."""
    state = torch.tensor([0])
    for word in context:
        following = model.score(state, model.word_ids([word]))[1]
        state = torch.tensor([model.begin()]) if word == "<s>" else following
    return int(state)


def distribution(model: NgramLanguageModel, context: tuple[str, ...]) -> torch.Tensor:
    size = len(model.vocabulary)
    states = torch.full((size,), state_after(model, context))
    return model.score(states, torch.arange(size))[0].double().exp()


@pytest.mark.filterwarnings("ignore")
@given(sentences, st.integers(1, 4), st.lists(st.integers(0, 2), max_size=3).map(sorted))
@settings(max_examples=40, deadline=None)
def test_equals_the_slow_version_and_sums_to_one(texts: list[str], order: int, prune: list[int]) -> None:
    prune = [0, *prune]
    model = NgramLanguageModel.train(texts, order=order, prune=prune, memory=1 << 20)
    slow = SlowKneserNey(texts, order, (prune + prune[-1:] * order)[:order], FALLBACK_DISCOUNTS)
    for context in all_contexts(slow):
        found = distribution(model, context)
        expected = [slow.probability(context, word) if word != "<s>" else 0.0 for word in model.vocabulary]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=2e-6, atol=1e-12)
        assert float(found.sum()) == pytest.approx(1.0, abs=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("prune", [(0,), (0, 0, 1), (0, 1, 2, 3)])
def test_sums_to_one_for_every_context_of_a_larger_model(prune: tuple[int, ...]) -> None:
    model = NgramLanguageModel.train(zipf_sentences(300, 40, seed=1), order=4, prune=prune)
    words = torch.arange(len(model.vocabulary))
    for state in range(len(model.trie.back_offs)):
        scores, _ = model.score(torch.full_like(words, state), words)
        assert float(scores.double().exp().sum()) == pytest.approx(1.0, abs=5e-6)


def test_estimated_discounts_are_used_and_equal_the_slow_version() -> None:
    texts = zipf_sentences(150, 30, seed=2)
    slow = SlowKneserNey(texts, 3, [0, 0, 1], FALLBACK_DISCOUNTS)
    assert all(slow.discounts[order][1:] != FALLBACK_DISCOUNTS for order in (2, 3))
    model = NgramLanguageModel.train(texts, order=3, prune=(0, 0, 1))
    for context in all_contexts(slow)[::7]:
        expected = [slow.probability(context, word) if word != "<s>" else 0.0 for word in model.vocabulary]
        torch.testing.assert_close(
            distribution(model, context), torch.tensor(expected, dtype=torch.float64), rtol=2e-6, atol=1e-12
        )


def test_discounts_follow_chen_and_goodman_or_are_said_to_be_replaced(caplog: pytest.LogCaptureFixture) -> None:
    share = 100 / 180
    expected = [0, 1 - 2 * share * 40 / 100, 2 - 3 * share * 20 / 40, 3 - 4 * share * 10 / 20]
    np.testing.assert_allclose(discounts_of(np.array([100, 40, 20, 10]), 2), expected)
    with caplog.at_level(logging.WARNING, "wav2vec2"):
        assert discounts_of(np.array([5, 0, 1, 1]), 3).tolist() == [0, *FALLBACK_DISCOUNTS]
    assert "3-grams" in caplog.text


@pytest.mark.slow
@needs_shared_data("wer_reference")
def test_beats_absolute_discounting_on_held_out_text() -> None:
    texts, held_out = reference_texts("test-clean"), reference_texts("test-other")
    model = NgramLanguageModel.train(texts, order=3, prune=(0,))
    pruned = NgramLanguageModel.train(texts, order=3, prune=(0, 0, 1))
    baseline = absolute_discounting_perplexity(texts, held_out)
    assert model.perplexity(held_out) < 0.9 * baseline
    assert pruned.perplexity(held_out) < 0.9 * baseline
    assert model.perplexity(texts) < 40


def test_beats_absolute_discounting_on_synthetic_text() -> None:
    texts, held_out = zipf_sentences(1500, 300, seed=3), zipf_sentences(300, 300, seed=4)
    model = NgramLanguageModel.train(texts, order=3, prune=(0,))
    assert model.perplexity(held_out) < absolute_discounting_perplexity(texts, held_out)


@pytest.mark.slow
def test_memory_changes_nothing_but_memory(tmp_path: Path) -> None:
    texts = zipf_sentences(6000, 2000, seed=5)
    little = NgramLanguageModel.train(texts, order=4, memory=1 << 20)  # many runs, merged in rounds
    much = NgramLanguageModel.train(texts, order=4, path=tmp_path / "much.ngrams")
    assert little.vocabulary == much.vocabulary
    for name in ("keys", "log_probs", "back_offs", "after", "fallback"):
        torch.testing.assert_close(getattr(little.trie, name), getattr(much.trie, name), rtol=0, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["much.ngrams"]


@pytest.mark.slow
def test_sorted_runs_are_merged_in_rounds(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    keys = draw.integers(0, 500, (100, 200))
    sorter = CountingSorter(tmp_path, rows=64)
    for part in keys:
        sorter.add(part, np.full(len(part), 2), part + 7)
    table = np.concatenate(list(sorter.result()))
    expected, counts = np.unique(keys, return_counts=True)
    assert table["key"].tolist() == expected.tolist()
    assert table["count"].tolist() == (2 * counts).tolist()
    assert table["payload"].tolist() == (expected + 7).tolist()
    assert not list(tmp_path.iterdir())


_CHILD = """
import resource, sys
import torch
from wav2vec2.language_models.kneser_ney import train_compact
train_compact(["a b c"], sys.argv[2], order=3, memory=1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
train_compact(__import__("pathlib").Path(sys.argv[1]), sys.argv[2], order=3, prune=(0, 1, 2), memory=16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_memory_stays_bounded_on_a_large_text(tmp_path: Path) -> None:
    """1.5 million words whose rows alone are several times the stated 16 MB."""
    draw = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(3000)])
    with (tmp_path / "text").open("w") as stream:
        for _ in range(100):
            ids = np.minimum(draw.pareto(0.8, (1000, 15)), 2999).astype(int)
            stream.writelines(" ".join(row) + "\n" for row in words[ids])
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "text"), str(tmp_path / "model")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    model_bytes = (tmp_path / "model").stat().st_size
    assert grown * 1024 < 2 * 16_000_000 + model_bytes


def test_text_comes_from_files_gzipped_or_not_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "one.txt").write_text("a b\n\n  \nb c\n", "utf-8")
    (tmp_path / "two.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfc a\n"))
    from_files = NgramLanguageModel.train([tmp_path / "one.txt", tmp_path / "two.txt.gz"], order=2, prune=(0,))
    from_text = NgramLanguageModel.train(["a b", "b c", "c a"], order=2, prune=(0,))
    assert from_files.vocabulary == from_text.vocabulary == ["<unk>", "<s>", "</s>", "a", "b", "c"]
    assert torch.equal(from_files.trie.log_probs, from_text.trie.log_probs)


def test_bad_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "marked.txt").write_text("a b\n<s> a b </s>\n")
    with pytest.raises(LanguageModelError, match=r"marked.txt: line 2.*<s>"):
        NgramLanguageModel.train(tmp_path / "marked.txt")
    (tmp_path / "latin.txt").write_bytes(b"a b\n\xe9t\xe9\n")
    with pytest.raises(LanguageModelError, match=r"latin.txt.*UTF-8"):
        NgramLanguageModel.train(tmp_path / "latin.txt")
    with pytest.raises(LanguageModelError, match="no word"):
        NgramLanguageModel.train(["", " "])
    with pytest.raises(FileNotFoundError):
        NgramLanguageModel.train(tmp_path / "absent.txt")


@pytest.mark.parametrize("wrong", [{"order": 0}, {"order": 99}, {"prune": (1,)}, {"prune": (0, 2, 1)}, {"memory": 10}])
def test_bad_arguments_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        train_compact(["a b"], tmp_path / "model", **wrong)  # type: ignore[arg-type]
