"""`NgramLanguageModel`: what the decoders ask of a language model, for n-grams with back-off.

The n-grams are our own (`ngram_trie.py`), read from whatever file holds them, or those of a KenLM binary, which the
optional `kenlm` package is asked about.

Shapes: N hypotheses.
"""

import math
import mmap
from collections.abc import Iterable, Sequence
from copy import copy
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wav2vec2.language_models.arpa_files import read_arpa, write_arpa
from wav2vec2.language_models.compact_model_file import MAGIC, read_compact, write_compact
from wav2vec2.language_models.counting import Tell
from wav2vec2.language_models.hub_language_model import read_hub_folder
from wav2vec2.language_models.kneser_ney import train_compact, train_in_memory
from wav2vec2.language_models.ngram_trie import LanguageModelError, NgramTrie

LN_10 = math.log(10.0)

#: How every KenLM binary begins.
KENLM_MAGIC = b"mmap lm http://kheafield.com/code"

#: States of a KenLM model that are remembered before `begin` forgets them.
_MOST_STATES = 1 << 18


class NgramLanguageModel:
    """Probabilities of words after a state, in batches, on any device.

    A state is a number: the longest end of the text so far that the model knows something about. Hypotheses with the
    same state can be merged, the model will never tell them apart.

        >>> model = NgramLanguageModel.train(["one two three", "one two four"], order=3, prune=(0,))
        >>> state = torch.tensor([model.begin()])
        >>> log_probability, state = model.score(state, model.word_ids(["one"]))
    """

    #: The word of each id, with <unk>, <s> and </s>.
    vocabulary: list[str]
    #: Length of the longest n-grams.
    order: int
    #: The id of every word that the model does not know.
    unknown_id: int
    #: Whether texts are sentences: begun after <s>, and </s> counted at their end.
    scores_boundary: bool = True

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
    def from_file(cls, path: Path | str, words: Iterable[str] = ()) -> "NgramLanguageModel":
        """Read a compact file, a KenLM binary or an ARPA file (plain, gz): whichever it is by its first bytes.

        `words` is the vocabulary of a KenLM binary that was built without one.
        """
        with Path(path).open("rb") as stream:
            start = stream.read(len(KENLM_MAGIC))
        if start == KENLM_MAGIC:
            return KenlmLanguageModel(path, words)
        return cls.load(path) if start.startswith(MAGIC) else cls.from_arpa(path)

    @classmethod
    def from_arpa(cls, path: Path | str) -> "NgramLanguageModel":
        """Read an ARPA file, plain or gzipped."""
        return NgramLanguageModel(*read_arpa(path))

    @classmethod
    def from_folder(cls, folder: Path | str) -> "NgramLanguageModel":
        """The model of a checkpoint's folder or of a repository on the Hub, as `hub_language_model.py` describes it."""
        found = read_hub_folder(folder)
        return cls.from_file(found.model_file, found.unigrams or ())

    @classmethod
    def load(cls, path: Path | str) -> "NgramLanguageModel":
        """Map a compact file, as `save` writes it, into memory."""
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
        if path is None:
            return NgramLanguageModel(*train_in_memory(texts, order, prune, memory, tell))
        train_compact(texts, path, order, prune, memory, tell)
        return cls.load(path)

    def save(self, path: Path | str) -> None:
        """Write the compact file."""
        write_compact(path, self.vocabulary, self.trie.to("cpu"))

    def to_arpa(self, path: Path | str) -> None:
        """Write an ARPA file (gzipped if the name ends in .gz) from which `from_arpa` gets this very model."""
        write_arpa(path, self.vocabulary, self.trie.to("cpu"))

    def same_as(self, other: "NgramLanguageModel") -> bool:
        """Whether the other one has the same words and the same n-grams, bit for bit."""
        if self.vocabulary != other.vocabulary or self.trie.level_sizes != other.trie.level_sizes:
            return False
        ours, theirs = self.trie.to("cpu"), other.trie.to("cpu")
        names = ("keys", "log_probs", "back_offs")  # the rest follows from these
        return all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in names)

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
        """The perplexity of sentences, words between blanks, with the end of each and with unknown words counted."""
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
        """The log-probability of all sentences, longest first: they take each step from word to word side by side."""
        states = torch.full((len(sentences),), self.begin(), device=self.device)
        total = 0.0
        for position in range(len(sentences[0])):
            words = [sentence[position] for sentence in sentences if position < len(sentence)]
            scores, following = self.score(states[: len(words)], self.word_ids(words))
            total += float(scores.double().sum())
            states = torch.cat([following, states[len(words) :]])
        return total + float(self.end(states).double().sum())


class KenlmLanguageModel(NgramLanguageModel):
    """A KenLM binary behind the interface of `NgramLanguageModel`.

    KenLM has no way to list its n-grams, so the model cannot be written in another format, and it is asked word by
    word on the CPU: where there is an ARPA file, read that instead. A state is a number for one of KenLM's own; when
    many are known, `begin` forgets them, so states are not to be kept from one decoding to the next, and one model
    serves one thread.
    """

    def __init__(self, path: Path | str, words: Iterable[str] = ()) -> None:
        """`words` is the vocabulary for a file that was built without one."""
        try:
            kenlm = import_module("kenlm")
        except ImportError as error:
            raise LanguageModelError(
                f"{path}: a KenLM binary is read by the `kenlm` package, which is not installed; `pip install kenlm` "
                "(it needs a C++ compiler), or use the ARPA file that the binary was made from"
            ) from error
        Path(path).open("rb").close()  # an OSError that says why, where KenLM would only say "not loaded"
        try:
            self._model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise LanguageModelError(f"{path}: {error}") from error
        vocabulary = stored_vocabulary(Path(path)) or [w for w in dict.fromkeys(words) if w in self._model]
        if not vocabulary:
            raise LanguageModelError(f"{path}: holds no list of its words; put a unigrams.txt beside it")
        specials = [word for word in ("<unk>", "<s>", "</s>") if word not in vocabulary]
        self._set_vocabulary([*vocabulary, *specials])
        self.order = self._model.order
        self._new_state = kenlm.State
        self._device = torch.device("cpu")
        self._states: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self.begin()

    def without_boundary(self) -> "KenlmLanguageModel":
        model = copy(self)
        model.scores_boundary, model._states, model._numbers = False, [], {}
        return model

    def begin(self) -> int:
        if not self._states or len(self._states) > _MOST_STATES:
            start = self._new_state()
            (self._model.BeginSentenceWrite if self.scores_boundary else self._model.NullContextWrite)(start)
            self._states, self._numbers = [start], {start: 0}
        return 0

    def score(self, states: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        scores, following = [], []
        for state, word in zip(states.tolist(), words.tolist(), strict=True):
            after = self._new_state()
            scores.append(self._model.BaseScore(self._states[state], self.vocabulary[word], after) * LN_10)
            number = self._numbers.setdefault(after, len(self._states))
            if number == len(self._states):
                self._states.append(after)
            following.append(number)
        return torch.tensor(scores, device=self._device), torch.tensor(following, device=self._device)

    def same_as(self, other: NgramLanguageModel) -> bool:
        """Never known: KenLM does not list its n-grams."""
        return False

    def to(self, device: torch.device | str) -> "KenlmLanguageModel":
        """Take and give tensors on `device`; the model itself stays where it is."""
        self._device = torch.device(device)
        return self

    @property
    def device(self) -> torch.device:
        return self._device

    def save(self, path: Path | str) -> None:
        raise LanguageModelError("a KenLM binary cannot be written in another format: start from its ARPA file")

    def to_arpa(self, path: Path | str) -> None:
        self.save(path)


def stored_vocabulary(path: Path) -> list[str]:
    """The words at the end of a KenLM binary in the order of their ids; empty if it was built without."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(b"<unk>\0")
        if start < 0 or content[-1:] != b"\0":
            return []
        try:
            words = content[start:-1].decode("utf-8").split("\0")
        except UnicodeDecodeError as error:
            raise LanguageModelError(f"{path}: its words are not UTF-8: {error}") from error
    return words if len(set(words)) == len(words) else []
