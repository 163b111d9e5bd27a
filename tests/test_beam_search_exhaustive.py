"""With a beam that holds everything, beam search is exhaustive summation over all paths."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from decoding_oracles import DictionaryModel, Text, all_texts, expected_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_models import BackOffModel
from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.inference.decoder_choice import Wanted, beam_decoder
from wav2vec2.language_models.hub_language_model import read_hub_folder
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

VOCABULARY = ["<pad>", "|", "a", "b"]
WIDE = 700  # more than the texts of 5 frames
KNOWN = ["a", "ab", "ba", "bb"]


def random_log_probs(seed: int, frames: int = 5, batch: int = 1, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(batch, frames, size, generator=generator)).log_softmax(-1)


def decode_all(decoder: CTCDecoder, log_probs: Tensor) -> dict[Text, float]:
    texts = decoder.decode(log_probs[None], nbest=decoder.beam)[0]
    found = {tuple(text.text.split()): text.score for text in texts}
    assert len(found) == len(texts), "a text was found twice"
    assert [text.score for text in texts] == sorted((text.score for text in texts), reverse=True)
    return found


def wide_decoder(
    model: DictionaryModel | None = None,
    lexicon: Sequence[str] | None = None,
    hotwords: Mapping[str, float] | None = None,
) -> CTCDecoder:
    return CTCDecoder(
        VOCABULARY, 0, "|", model, lexicon, hotwords, beam=WIDE, alpha=0.7, beta=0.4, unknown_penalty=-1.5,
        token_threshold=1e9,
    )  # fmt: skip


@pytest.mark.parametrize("with_model", [False, True], ids=["no model", "model"])
@pytest.mark.parametrize("lexicon", [None, ["a", "ab", "bba"]], ids=["open", "lexicon"])
@pytest.mark.parametrize(
    "hotwords",
    [None, {"ab": 2.0}, {"a b": 1.5, "b": -0.5}, {"a": 1.0, "ba": 3.0, "a ba": 2.0}],
    ids=["no hotwords", "word", "phrase", "nested"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_text_has_its_score(
    with_model: bool, lexicon: list[str] | None, hotwords: dict[str, float] | None, seed: int
) -> None:
    log_probs = random_log_probs(seed)[0]
    model = DictionaryModel(KNOWN, seed) if with_model else None
    expected = expected_scores(all_texts(log_probs, VOCABULARY), model, lexicon, hotwords, 0.7, 0.4, -1.5)
    found = decode_all(wide_decoder(model, lexicon, hotwords), log_probs)
    assert found.keys() == expected.keys()
    assert [found[text] for text in expected] == pytest.approx(list(expected.values()), abs=2e-4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), frames=st.integers(0, 5), impossible=st.floats(0, 0.5))
def test_impossible_tokens(seed: int, frames: int, impossible: float) -> None:
    """Probabilities of 0 and runs of certain blanks, which the search folds, change nothing in the sums."""
    log_probs = random_log_probs(seed, frames)[0]
    generator = torch.Generator().manual_seed(seed)
    removed = torch.rand(log_probs.shape, generator=generator) < impossible
    removed[torch.rand(frames, generator=generator) < impossible, 1:] = True  # nothing but the blank
    removed[:, 0] = False
    log_probs = log_probs.masked_fill(removed, float("-inf"))
    acoustic = all_texts(log_probs, VOCABULARY)
    expected = {text: score for text, score in acoustic.items() if score > float("-inf")}
    found = decode_all(wide_decoder(), log_probs)
    assert found.keys() == expected.keys()
    assert [found[text] for text in expected] == pytest.approx(list(expected.values()), abs=2e-4)


def test_scores_have_their_parts() -> None:
    log_probs = random_log_probs(3)
    acoustic, model = all_texts(log_probs[0], VOCABULARY), DictionaryModel(KNOWN)
    found = wide_decoder(model).decode(log_probs, nbest=20)[0]
    assert len(found) > 1
    for text in found:
        words = tuple(text.text.split())
        assert text.acoustic_score == pytest.approx(acoustic[words], abs=2e-4)
        assert text.language_score == pytest.approx(model.text(words), abs=2e-4)


def test_special_tokens_are_never_output() -> None:
    """Special tokens have logits in many checkpoints, and are never output."""
    vocabulary = ["<pad>", "|", "a", "<unk>", "</s>"]
    log_probs = torch.tensor([[[0.05, 0.05, 0.2, 0.3, 0.4]]]).log()
    decoder = CTCDecoder(vocabulary)
    assert decoder.decode(log_probs)[0][0].text == decoder.greedy(log_probs)[0][0].text == "a"


def test_spellings_of_a_lexicon() -> None:
    """Words need not be spelled with their own letters."""
    log_probs = random_log_probs(5)
    acoustic = all_texts(log_probs[0], VOCABULARY)
    decoder = CTCDecoder(VOCABULARY, lexicon={"one": ["a b", "b"], "two": "a"}, beam=WIDE, token_threshold=1e9)
    found = {text.text: text.score for text in decoder.decode(log_probs, nbest=WIDE)[0]}
    assert found["two"] == pytest.approx(acoustic["a",], abs=2e-4)
    assert {word for text in found for word in text.split()} == {"one", "two"}


def test_narrow_beam_finds_the_best_of_clear_speech() -> None:
    path = [2, 0, 3, 1, 1, 0, 3, 3, 0, 3, 2]
    log_probs = torch.full((1, len(path), 4), 0.02).scatter_(2, torch.tensor(path)[None, :, None], 0.94).log()
    best = CTCDecoder(VOCABULARY, beam=3).decode(log_probs)[0][0]
    assert best.text == "ab bba"


@pytest.mark.parametrize("boundary", [True, False])
@pytest.mark.parametrize("unigrams", [None, ["a", "ab", "bb", "bab"]], ids=["all words known", "unigrams.txt"])
def test_a_decoder_of_the_hub_scores_as_pyctcdecode_does(
    tmp_path: Path, boundary: bool, unigrams: list[str] | None
) -> None:
    """By its definition there, in log10: each word has the n-gram model's own score, and the offset on top unless it is
    both in `unigrams.txt` and in the model; <s> and </s> are part of a text only where `score_boundary` says so."""
    folder = tmp_path / "language_model"
    folder.mkdir()
    NgramLanguageModel.train(["a ab ba", "ab a bb", "a a ba bb"], order=3, prune=(0,)).to_arpa(folder / "3gram.arpa")
    (tmp_path / "alphabet.json").write_text(json.dumps({"labels": ["", " ", "a", "b"], "is_bpe": False}))
    attributes = {"alpha": 0.7, "beta": 0.4, "unk_score_offset": -1.5, "score_boundary": boundary}
    (folder / "attrs.json").write_text(json.dumps(attributes))
    if unigrams is not None:
        (folder / "unigrams.txt").write_text("\n".join(unigrams))
    slow = BackOffModel(folder / "3gram.arpa")

    def language_score(words: Text) -> float:
        context: Text = ("<s>",) if boundary else ()
        total = 0.0
        for word in words:
            total += slow.log_prob(context, word)
            if (word,) not in slow.log_probs or (unigrams is not None and word not in unigrams):
                total -= 1.5
            context = (*context, word if (word,) in slow.log_probs else "<unk>")
        return total + (slow.log_prob(context, "</s>") if boundary else 0.0)

    log_probs = random_log_probs(1, frames=5)[0]
    expected = {
        words: score + 0.7 * math.log(10) * language_score(words) + 0.4 * len(words)
        for words, score in all_texts(log_probs, ["", " ", "a", "b"], delimiter=" ").items()
    }
    settings_here: dict[str, Any] = {"vocabulary": VOCABULARY, "beam": WIDE, "token_threshold": 1e9}
    model = NgramLanguageModel.from_file(read_hub_folder(tmp_path).model_file)
    greedy = CTCDecoder(VOCABULARY)
    chosen = beam_decoder(tmp_path, greedy, Wanted(beam=WIDE), {})
    assert chosen is not None
    loaded = CTCDecoder.from_pretrained(tmp_path)
    same = CTCDecoder(
        language_model=model, alpha=loaded.alpha, beta=loaded.beta, known_words=loaded.known_words,
        unknown_penalty=loaded.weights.unknown_penalty, score_boundary=loaded.score_boundary, **settings_here,
    )  # fmt: skip
    for decoder in (same, chosen):
        decoder.token_threshold = 1e9
        found = decode_all(decoder, log_probs)
        assert found.keys() == expected.keys()
        assert [found[text] for text in expected] == pytest.approx(list(expected.values()), abs=3e-4)
