"""KenLM's binary files, read through the optional `kenlm` package.

Shapes: N hypotheses.
"""

import mmap
from collections.abc import Iterable
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wav2vec2.language_models.language_model_error import LanguageModelError
from wav2vec2.language_models.ngram_language_model import LN_10, NgramLanguageModel

#: How every KenLM binary begins.
KENLM_MAGIC = b"mmap lm http://kheafield.com/code"

#: States that are remembered before `begin` forgets them.
_MOST_STATES = 1 << 18


class KenlmLanguageModel(NgramLanguageModel):
    """A KenLM binary behind the interface of `NgramLanguageModel`.

    KenLM has no way to list its n-grams, so the model cannot be written in another format, and it is asked word by
    word on the CPU: where there is an ARPA file, read that instead. A state is a number for one of KenLM's own; when
    many are known, `begin` forgets them, so states are not to be kept from one decoding to the next, and one model
    serves one thread.
    """

    def __init__(self, path: Path | str, words: Iterable[str] = ()) -> None:
        """`words` is the vocabulary for a file that was built without one."""
        kenlm = _kenlm(path)
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


def _kenlm(path: Path | str) -> Any:
    try:
        return import_module("kenlm")
    except ImportError as error:
        raise LanguageModelError(
            f"{path}: a KenLM binary is read by the `kenlm` package, which is not installed; `pip install kenlm` "
            "(it needs a C++ compiler), or use the ARPA file that the binary was made from"
        ) from error


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
