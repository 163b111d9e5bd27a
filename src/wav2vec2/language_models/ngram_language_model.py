"""`NgramLanguageModel`: what the decoders ask of a language model, for n-grams with back-off.

Shapes: N hypotheses.
"""

import math
from collections.abc import Iterable, Sequence
from copy import copy
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from wav2vec2.language_models.language_model_error import LanguageModelError
from wav2vec2.language_models.ngram_trie import NgramTrie
from wav2vec2.language_models.training_progress import Tell

LN_10 = math.log(10.0)


class NgramLanguageModel:
    """Probabilities of words after a state, in batches, on any device.

    A state is a number: the longest end of the text so far that the model knows something about. Hypotheses with the
    same state can be merged, the model will never tell them apart.

        >>> model = NgramLanguageModel.train(["one two three", "one two four"], order=3, prune=(0,))
        >>> state = torch.tensor([model.begin()])
        >>> log_probability, state = model.score(state, model.word_ids(["one"]))
    """

    vocabulary: list[str]
    """id -> word, with <unk>, <s> and </s>."""
    order: int
    """Length of the longest n-grams."""
    unknown_id: int
    """The id of every word that the model does not know."""
    scores_boundary: bool = True
    """Whether texts are sentences: begun after <s>, and </s> counted at their end."""

    def __init__(self, vocabulary: list[str], trie: NgramTrie) -> None:
        self._set_vocabulary(vocabulary)
        self.trie = trie
        self.order = trie.order
        self._begin = int(trie.after[self._start_id + 1])

    def _set_vocabulary(self, vocabulary: list[str]) -> None:
        self.vocabulary = vocabulary
        self._ids = {word: number for number, word in enumerate(vocabulary)}
        missing = [word for word in ("<unk>", "<s>", "</s>") if word not in self._ids]
        if missing:
            raise LanguageModelError(f"the vocabulary lacks {', '.join(missing)}")
        self.unknown_id, self._start_id, self._end_id = (self._ids[word] for word in ("<unk>", "<s>", "</s>"))

    @classmethod
    def from_file(cls, path: Path | str) -> "NgramLanguageModel":
        """Read a compact file, a KenLM binary or an ARPA file (plain, gz): whichever it is by its first bytes."""
        from wav2vec2.language_models.hub_language_model import read_language_model

        return read_language_model(path)

    @classmethod
    def from_arpa(cls, path: Path | str) -> "NgramLanguageModel":
        """Read an ARPA file, plain or gzipped."""
        from wav2vec2.language_models.arpa_files import read_arpa

        return NgramLanguageModel(*read_arpa(path))

    @classmethod
    def from_folder(cls, folder: Path | str) -> "NgramLanguageModel":
        """The model of a Hub folder (`language_model/`); `read_hub_folder` gives its settings and alphabet as well."""
        from wav2vec2.language_models.hub_language_model import read_hub_folder

        return read_hub_folder(folder).model

    @classmethod
    def load(cls, path: Path | str) -> "NgramLanguageModel":
        """Map a compact file, as `save` writes it, into memory."""
        from wav2vec2.language_models.compact_model_file import read_compact

        return NgramLanguageModel(*read_compact(path))

    @classmethod
    def train(
        cls,
        texts: Path | str | Iterable[str | Path],
        order: int = 5,
        prune: Sequence[int] = (0, 0, 1),
        memory: int = 1 << 30,
        path: Path | str | None = None,
        tell: Tell | None = None,
    ) -> "NgramLanguageModel":
        """Interpolated modified Kneser-Ney from text; see `kneser_ney.train_compact` for the arguments.

        With `path` the model is written there as a compact file and mapped into memory, else it is held in memory.
        `tell` is called with what is done, and the share of the work that is done.
        """
        from wav2vec2.language_models.kneser_ney import train_compact, train_in_memory

        if path is None:
            return NgramLanguageModel(*train_in_memory(texts, order, prune, memory, tell))
        train_compact(texts, path, order, prune, memory, tell)
        return cls.load(path)

    def save(self, path: Path | str) -> None:
        """Write the compact file."""
        from wav2vec2.language_models.compact_model_file import write_compact

        write_compact(path, self.vocabulary, self.trie.to("cpu"))

    def to_arpa(self, path: Path | str) -> None:
        """Write an ARPA file (gzipped if the name ends in .gz) from which `from_arpa` gets this very model."""
        from wav2vec2.language_models.arpa_files import write_arpa

        write_arpa(path, self.vocabulary, self.trie.to("cpu"))

    def to(self, device: torch.device | str) -> "NgramLanguageModel":
        """The same model on another device."""
        model = copy(self)
        model.trie = self.trie.to(device)
        return model

    @property
    def device(self) -> torch.device:
        """Where the model is; `score` takes and gives tensors there."""
        return self.trie.keys.device

    def word_ids(self, words: Sequence[str]) -> Tensor:
        """The ids of words, `unknown_id` for those that are not in the vocabulary."""
        ids = [self._ids.get(word, self.unknown_id) for word in words]
        return torch.tensor(ids, dtype=torch.int64, device=self.device)

    def without_boundary(self) -> "NgramLanguageModel":
        """The same model for texts that begin and end anywhere: after nothing at all, and their end costs nothing."""
        model = copy(self)
        model.scores_boundary = False
        return model

    def begin(self) -> int:
        """The state at the beginning of a text: after <s>, or the empty context if boundaries are not scored."""
        return self._begin if self.scores_boundary else 0

    def score(self, states: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Natural-log probabilities (N,) of words (N,) after states (N,), and the states (N,) that follow."""
        nodes, given_up = self.trie.find(states, words)
        return (given_up + self.trie.log_probs[nodes]) * LN_10, self.trie.after[nodes].long()

    def end(self, states: Tensor) -> Tensor:
        """Natural-log probabilities (N,) that the sentence ends here; zeros if boundaries are not scored."""
        if not self.scores_boundary:
            return torch.zeros(states.shape, device=states.device)
        return self.score(states, torch.full_like(states, self._end_id))[0]

    def perplexity(self, texts: Iterable[str]) -> float:
        """Of sentences, words between blanks, with the end of each and with unknown words counted."""
        total, count = 0.0, 0
        sentences = iter(texts)
        while batch := [text.split() for text in islice(sentences, 8192)]:
            batch.sort(key=len, reverse=True)
            total += self._log_likelihood(batch)
            count += sum(map(len, batch)) + len(batch)
        if not count:
            raise ValueError("no text to take the perplexity of")
        return math.exp(-total / count)

    def _log_likelihood(self, sentences: list[list[str]]) -> float:
        """Of sentences, longest first, word by word side by side."""
        states = torch.full((len(sentences),), self.begin(), device=self.device)
        total = 0.0
        for position in range(len(sentences[0])):
            words = [sentence[position] for sentence in sentences if position < len(sentence)]
            scores, following = self.score(states[: len(words)], self.word_ids(words))
            total += float(scores.double().sum())
            states = torch.cat([following, states[len(words) :]])
        return total + float(self.end(states).double().sum())
