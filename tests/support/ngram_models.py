"""Small language models for tests, and slow obvious versions of what the package does with them."""

import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import torch
from shared_data import SHARED_DATA

from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

Ngram = tuple[str, ...]
LN_10 = math.log(10.0)


def reference_texts(name: str) -> list[str]:
    """The sentences of LibriSpeech `test-clean` or `test-other`, from the shared data."""
    path = SHARED_DATA / "wer_reference" / f"{name}.ref.tsv"
    return [line.split("\t")[1] for line in path.read_text("utf-8").splitlines()]


def assert_usable(model: NgramLanguageModel) -> None:
    """Every word can be scored after every other, and no score is infinite or NaN."""
    words = torch.arange(len(model.vocabulary))
    states = torch.full_like(words, model.begin())
    for _ in range(3):
        scores, states = model.score(states, words.flip(0))
        assert scores.isfinite().all()


def zipf_sentences(count: int, words: int, seed: int, length: int = 12) -> list[str]:
    """Sentences of unequally frequent words, some of which depend on the two before."""
    draw = random.Random(seed)
    sentences = []
    for _ in range(count):
        before, word, sentence = 0, 0, list[str]()
        for _ in range(draw.randint(1, 2 * length)):
            fresh = int(draw.paretovariate(0.6)) % words
            before, word = word, (3 * word + 5 * before) % words if draw.random() < 0.4 else fresh
            sentence.append(f"w{word}")
        sentences.append(" ".join(sentence))
    return sentences


class BackOffModel:
    """p(word | context) of an ARPA file by its definition, from dictionaries."""

    def __init__(self, path: Path) -> None:
        self.log_probs: dict[Ngram, float] = {}
        self.back_offs: dict[Ngram, float] = defaultdict(float)
        order = 0
        for line in path.read_text("utf-8").splitlines():
            if line.endswith("-grams:"):
                order = int(line[1:-7])
            elif order and line and not line.startswith("\\"):
                fields = line.split()
                ngram = tuple(fields[1 : order + 1])
                self.log_probs[ngram] = float(fields[0])
                if len(fields) > order + 1:
                    self.back_offs[ngram] = float(fields[-1])
        self.order = order

    def log_prob(self, context: Ngram, word: str) -> float:
        """log10, by the back-off recursion."""
        context = context[max(0, len(context) - self.order + 1) :]
        if (word,) not in self.log_probs:
            word = "<unk>"
        if (*context, word) in self.log_probs:
            return self.log_probs[*context, word]
        if not context:
            return -100.0
        return self.back_offs[context] + self.log_prob(context[1:], word)


class SlowKneserNey:
    """Interpolated modified Kneser-Ney with pruning, term by term from its definition."""

    def __init__(self, texts: list[str], order: int, prune: list[int], fallback: tuple[float, float, float]) -> None:
        self.order = order
        self.prune = prune
        sentences = [["<s>", *text.split(), "</s>"] for text in texts]
        self.words = sorted({word for sentence in sentences for word in sentence} - {"<s>"} | {"<unk>"})
        self.counts: Counter[Ngram] = Counter()
        for sentence in sentences:
            for length in range(1, order + 1):
                for start in range(len(sentence) - length + 1):
                    self.counts[tuple(sentence[start : start + length])] += 1
        self.adjusted = {ngram: self._adjusted(ngram) for ngram in self.counts if ngram != ("<s>",)}
        self.discounts = {length: self._discounts(length, fallback) for length in range(1, order + 1)}
        self.followers: dict[Ngram, list[Ngram]] = defaultdict(list)
        for ngram in self.adjusted:
            self.followers[ngram[:-1]].append(ngram)

    def _adjusted(self, ngram: Ngram) -> int:
        if len(ngram) == self.order or ngram[0] == "<s>":
            return self.counts[ngram]
        if not hasattr(self, "_left"):
            self._left = Counter(longer[1:] for longer in self.counts)
        return self._left[ngram]

    def _discounts(self, length: int, fallback: tuple[float, float, float]) -> tuple[float, ...]:
        of = Counter(count for ngram, count in self.adjusted.items() if len(ngram) == length)
        if not all(of[count] for count in (1, 2, 3, 4)):
            return (0.0, *fallback)
        y = of[1] / (of[1] + 2 * of[2])
        found = tuple(c - (c + 1) * y * of[c + 1] / of[c] for c in (1, 2, 3))
        return (0.0, *(found if all(0 <= d <= c for c, d in enumerate(found, 1)) else fallback))

    def kept(self, ngram: Ngram) -> bool:
        return len(ngram) == 1 or self.counts[ngram] > self.prune[len(ngram) - 1]

    def probability(self, context: Ngram, word: str) -> float:
        """p(word | context) for a context of less than `order` words."""
        lower = self.probability(context[1:], word) if context else 1 / len(self.words)
        followers = self.followers[context]
        if not followers:
            return lower
        discounts = self.discounts[len(context) + 1]
        total = sum(self.adjusted[ngram] for ngram in followers)
        freed = 0.0
        for ngram in followers:
            count = self.adjusted[ngram]
            freed += discounts[min(count, 3)] if self.kept(ngram) else count
        own = 0.0
        ngram = (*context, word)
        if ngram in self.adjusted and self.kept(ngram):
            own = self.adjusted[ngram] - discounts[min(self.adjusted[ngram], 3)]
        return (own + freed * lower) / total


def absolute_discounting_perplexity(texts: list[str], held_out: list[str], discount: float = 0.75) -> float:
    """Of a bigram with absolute discounting over add-one unigrams: the baseline."""
    unigrams: Counter[str] = Counter()
    bigrams: Counter[tuple[str, str]] = Counter()
    for text in texts:
        sentence = ["<s>", *text.split(), "</s>"]
        unigrams.update(sentence[1:])
        bigrams.update(zip(sentence, sentence[1:], strict=False))
    contexts: Counter[str] = Counter()
    followers: Counter[str] = Counter()
    for (first, _), count in bigrams.items():
        contexts[first] += count
        followers[first] += 1
    size, total = len(unigrams) + 1, unigrams.total()
    log_likelihood, count = 0.0, 0
    for text in held_out:
        before = "<s>"
        for word in [*text.split(), "</s>"]:
            p = (unigrams[word] + 1) / (total + size)
            if contexts[before]:
                own = max(bigrams[before, word] - discount, 0)
                p = (own + discount * followers[before] * p) / contexts[before]
            log_likelihood += math.log(p)
            count += 1
            before = word if word in unigrams else "<unk>"
    return math.exp(-log_likelihood / count)
