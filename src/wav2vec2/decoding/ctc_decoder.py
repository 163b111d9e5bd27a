"""`CTCDecoder`: from log-probabilities to texts with times, by greedy search or beam search with a language model.

Shapes: B utterances, T frames, V tokens, K hypotheses in the beam.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wav2vec2.alignment.device_kernels import usable
from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.beam import LanguageModel, SearchSpace
from wav2vec2.decoding.beam_search_kernel import holds
from wav2vec2.decoding.confidences import Calibration
from wav2vec2.decoding.decoder_files import load_decoder, push_decoder, save_decoder
from wav2vec2.decoding.frame_preparation import IMPOSSIBLE, PreparedFrames, checked, prepare
from wav2vec2.decoding.greedy_search import greedy_paths
from wav2vec2.decoding.lexicon import HOTWORD_WEIGHT
from wav2vec2.decoding.prefix_beam_search import Found, search
from wav2vec2.decoding.search_space import Weights, WordKnowledge
from wav2vec2.decoding.spelling import Speller
from wav2vec2.decoding.transcripts import JURY, Hypothesis, Reader, locate, measure, support, words_of_beams
from wav2vec2.decoding.weight_tuning import Tell, TuningReport, tune_decoder
from wav2vec2.language_models.hub_language_model import local_folder
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

Lengths = Tensor | Sequence[int]


class CTCDecoder:
    """Decodes batches of CTC log-probabilities, on the device they are on.

    `vocabulary` lists the tokens by id. `special_tokens` are never output: those of the tokenizer; by default what is
    written like one (`<s>`, `[UNK]`, ...). With a `lexicon`, words
    or a mapping from words to spellings ("k ae t"), no other word is; without one any spelling is, and what the
    `language_model` does not know costs `unknown_penalty` and the model's own probability of an unknown word.
    A score is acoustics + `alpha` x language model + `beta` x words, in natural logs; alpha and beta count only with a
    language model. `hotwords` are words or phrases, with weights if a mapping, that add `hotword_weight` for each time
    they are said; their words are known in every search, and are taken in the vocabulary's case where it has one
    alone. `word_delimiter=None` makes each token a word.

    `known_words` are those that count as known among the language model's, by default all; `score_boundary=False` is
    for texts that are no whole sentences, whose beginning and end the model does not judge. (pyctcdecode's `unigrams`
    and `score_boundary`.) `unknown_word` is written for every word that neither lexicon, language model nor
    hotwords know; by default its letters are.

    `beam` texts are kept a frame. A frame extends them by its `candidates` best letters within `token_threshold` of its
    best token (natural log).

    >>> decoder = CTCDecoder(["<pad>", "|", "a", "b"])
    >>> log_probs = torch.tensor([[[0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7], [0.1, 0.7, 0.1, 0.1]]]).log()
    >>> decoder.decode(log_probs)[0][0].text
    'ab'
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        blank: int = 0,
        word_delimiter: str | None = "|",
        language_model: LanguageModel | None = None,
        lexicon: Iterable[str] | Mapping[str, Iterable[str]] | None = None,
        hotwords: Iterable[str] | Mapping[str, float] | None = None,
        beam: int = 100,
        alpha: float = 0.5,
        beta: float = 1.5,
        hotword_weight: float = HOTWORD_WEIGHT,
        unknown_penalty: float = -10.0,
        candidates: int = 16,
        token_threshold: float = 12.0,
        frame_times: FrameTimes | None = None,
        calibration: Calibration | None = None,
        special_tokens: Iterable[str] | None = None,
        known_words: Iterable[str] | None = None,
        score_boundary: bool = True,
        unknown_word: str | None = None,
    ) -> None:
        if beam < 1 or candidates < 1 or token_threshold <= 0:
            raise ValueError(
                f"beam={beam}, candidates={candidates}, token_threshold={token_threshold}: must be positive"
            )
        self.speller = Speller(vocabulary, blank, word_delimiter, special_tokens)
        if isinstance(hotwords, str) or isinstance(lexicon, str) or isinstance(known_words, str):
            raise ValueError("hotwords, lexicon and known_words: need a list of words, not one string")
        if hotwords is not None and not isinstance(hotwords, Mapping):
            hotwords = dict.fromkeys(hotwords, hotword_weight)
        self.hotwords = {self.speller.in_case(phrase): weight for phrase, weight in (hotwords or {}).items()}
        self.lexicon = lexicon if lexicon is None or isinstance(lexicon, Mapping) else list(lexicon)
        self.language_model, self.score_boundary = language_model, score_boundary
        self.known_words = None if known_words is None else list(known_words)
        asked = language_model if score_boundary else _without_boundary(language_model)
        self.unknown_word = unknown_word
        self.knowledge = WordKnowledge(self.speller, asked, self.lexicon, self.hotwords, self.known_words, unknown_word)
        self.beam, self.candidates, self.token_threshold = beam, candidates, token_threshold
        self.frame_times = frame_times or FrameTimes()
        self.calibration = calibration or Calibration()
        self.weights = Weights(alpha, beta, unknown_penalty)

    @property
    def weights(self) -> Weights:
        """Alpha, beta and the penalty of unknown words; to change them, set new ones."""
        return self._weights

    @weights.setter
    def weights(self, weights: Weights) -> None:
        self._weights = weights
        self._spaces: dict[torch.device, SearchSpace] = {torch.device("cpu"): self.knowledge.space(weights)}

    @property
    def alpha(self) -> float:
        """The weight of the language model."""
        return self.weights.alpha

    @property
    def beta(self) -> float:
        """The bonus of each word."""
        return self.weights.beta

    def decode(self, log_probs: Tensor, lengths: Lengths | None = None, nbest: int = 1) -> list[list[Hypothesis]]:
        """The `nbest` most probable texts of each utterance, best first, by beam search.

        `log_probs` (B, T, V) are natural logs, `lengths` (B,) say how many frames of each are real. NaN, infinity and
        frames in which nothing is possible are a ValueError; where no path spells anything allowed the answer is an
        empty text with the score -inf, where a lexicon finds no whole word at the end the unfinished one is left out.
        """
        if not 1 <= nbest <= self.beam:
            raise ValueError(f"nbest={nbest}: must be between 1 and the beam, {self.beam}")
        log_probs, frames = checked(log_probs, lengths, len(self.speller.vocabulary))
        found, offset = self.search(log_probs, frames)
        return self.hypotheses(log_probs, frames, found, offset, nbest)

    def search(self, log_probs: Tensor, frames: Tensor) -> tuple[Found, Tensor]:
        """The beam of each utterance of checked log_probs (B, T, V), and what its scores lack: see `PreparedFrames`."""
        prepared = self.prepared(log_probs, frames)
        return search(prepared, self.space(log_probs.device), self.beam), prepared.offset

    def prepared(self, log_probs: Tensor, frames: Tensor) -> PreparedFrames:
        """What the search reads of checked log_probs (B, T, V)."""
        speller, allowed = self.speller, self._allowed(log_probs.device)
        kept = (self.candidates, self.token_threshold)
        return prepare(log_probs, frames, speller.blank, speller.delimiter, allowed, *kept)

    def is_one_kernel_on(self, device: torch.device) -> bool:
        """Whether a search there is a single kernel, and not some hundred operations a frame, which suit a CPU."""
        columns = min(self.candidates, len(self.speller.vocabulary)) + 3
        return usable(device) and holds(self._spaces[torch.device("cpu")], self.beam, columns)

    def greedy(self, log_probs: Tensor, lengths: Lengths | None = None) -> list[list[Hypothesis]]:
        """The text of the best path of each utterance, in the form of `decode`: one hypothesis each."""
        log_probs, frames = checked(log_probs, lengths, len(self.speller.vocabulary))
        paths = greedy_paths(log_probs, frames, self.speller.blank, self._allowed(log_probs.device))
        texts = [self.speller.split(span.token for span in path.spans) for path in paths]
        spans = [[span for span in path.spans if span.token != self.speller.delimiter] for path in paths]
        nobody = [[0.5] * len(text) for text in texts]
        measured = measure(log_probs.cpu(), range(len(texts)), texts, spans, self.speller, nobody)
        answers = []
        for path, text, of_text, found, length in zip(paths, texts, spans, measured, frames.tolist(), strict=True):
            words, tokens = self._reader().words(text, of_text, length, found)
            joined = " ".join(word.text for word in words)
            answers.append([Hypothesis(joined, path.score, words, tokens, acoustic_score=path.score)])
        return answers

    def tune(
        self,
        log_probs: Tensor | Sequence[Tensor],
        references: Sequence[str],
        lengths: Lengths | None = None,
        tell: Tell | None = None,
    ) -> TuningReport:
        """Find alpha and beta on a dev set, calibrate the confidences there, and keep both; see `tune_decoder`.

        `log_probs` is one padded batch (B, T, V) with `lengths`, or a list of utterances (T, V); `references` are their
        texts, words between blanks. `tell` is called with what is done, and the share of the work that is done at most.
        """
        return tune_decoder(self, log_probs, references, None if lengths is None else torch.as_tensor(lengths), tell)

    def settings(self) -> dict[str, Any]:
        """The arguments that make this decoder again, by their names."""
        return {
            "vocabulary": self.speller.vocabulary,
            "blank": self.speller.blank,
            "word_delimiter": self.speller.word_delimiter,
            "lexicon": self.lexicon,
            "hotwords": self.hotwords,
            "beam": self.beam,
            **asdict(self.weights),
            "candidates": self.candidates,
            "token_threshold": self.token_threshold,
            "frame_times": self.frame_times,
            "calibration": self.calibration,
            "language_model": self.language_model,
            "special_tokens": self.speller.special_tokens,
            "known_words": self.known_words,
            "score_boundary": self.score_boundary,
            "unknown_word": self.unknown_word,
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the decoder beside the checkpoint: `decoder.json`, and the language model's compact file."""
        save_decoder(self.settings(), Path(folder))

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, revision: str | None = None, token: str | None = None
    ) -> str:
        """Publish the decoder beside the checkpoint `repo_id` on the Hub, in one commit; its address.

        A repository that is not there is made, and a branch `revision` as well.
        """
        return push_decoder(self.settings(), repo_id, private, revision, token)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, revision: str | None = None) -> "CTCDecoder":
        """Read what `save_pretrained` wrote, or the layout of the Hub: `alphabet.json` and `language_model/`; from a
        folder, or of a repository on the Hub (at a branch or commit `revision`)."""
        return load_decoder(local_folder(name_or_path, revision), cls)

    def _allowed(self, device: torch.device) -> Tensor:
        allowed = torch.ones(len(self.speller.vocabulary), dtype=torch.bool, device=device)
        allowed[sorted(self.speller.special)] = False
        return allowed

    def space(self, device: torch.device) -> SearchSpace:
        """What may be spelled and what it earns, for a search there."""
        if device not in self._spaces:
            self._spaces[device] = self._spaces[torch.device("cpu")].to(device)
        return self._spaces[device]

    def _reader(self) -> Reader:
        return Reader(self.speller, self.knowledge.name, self.frame_times, self.calibration)

    def hypotheses(
        self, log_probs: Tensor, frames: Tensor, found: Found, offset: Tensor, nbest: int
    ) -> list[list[Hypothesis]]:
        """The `nbest` texts of each beam that was found in checked log_probs (B, T, V), located in them and read."""
        jury = max(nbest, min(JURY, self.beam))
        scores = (found.score[:, :jury].double() + offset[:, None]).tolist()
        rows = words_of_beams(found.tokens[:, :jury], self.speller)
        agreement = [support(texts, of_row, nbest) for texts, of_row in zip(rows, scores, strict=True)]
        places = [(row, k) for row, of_row in enumerate(scores) for k in range(nbest) if of_row[k] > IMPOSSIBLE]
        texts = [[spelling for spelling, _, _ in rows[row][k]] for row, k in places]
        which = torch.tensor([row for row, _ in places], dtype=torch.long, device=log_probs.device)
        spans = locate(log_probs[which], frames[which], texts, self.speller)
        extras, languages, lengths = found.extra.tolist(), found.language.tolist(), frames.tolist()
        agreed = [agreement[row][k] for row, k in places]
        measured = measure(log_probs.cpu(), which.tolist(), texts, spans, self.speller, agreed)
        answers: list[list[Hypothesis]] = [[] for _ in scores]
        for (row, k), text, of_text, of_words in zip(places, texts, spans, measured, strict=True):
            words, tokens = self._reader().words(text, of_text, lengths[row], of_words)
            joined, score = " ".join(word.text for word in words), scores[row][k]
            answers[row].append(Hypothesis(joined, score, words, tokens, score - extras[row][k], languages[row][k]))
        return [answer or [Hypothesis("", IMPOSSIBLE, acoustic_score=IMPOSSIBLE)] for answer in answers]


def _without_boundary(model: LanguageModel | None) -> LanguageModel | None:
    if model is None or isinstance(model, NgramLanguageModel):
        return None if model is None else model.without_boundary()
    raise ValueError(f"score_boundary=False: a {type(model).__name__} has no state before a text but its own `begin`")
