"""Weights found on a dev set, and confidences that mean what they say."""

import numpy as np
import pytest
import torch
from decoding_oracles import DictionaryModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wav2vec2.decoding.confidences import Calibration, ReliabilityBin, reliability_curve
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.weight_tuning import compare_words
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

VOCABULARY = ["<pad>", "|", *"abcdefgh"]
WORDS = ["bad", "cab", "bead", "face", "hebe", "head", "bee", "add", "fad", "fed", "bed", "dad"]


def calibration_error(curve: list[ReliabilityBin]) -> float:
    """The mean distance of a word's bin from the diagonal."""
    return sum(one.count * abs(one.confidence - one.accuracy) for one in curve) / max(
        sum(one.count for one in curve), 1
    )


def spoken(seed: int, count: int, noise: float) -> tuple[list[Tensor], list[str]]:
    """Noisy utterances (T, V) of sentences in which every word likes one other to follow."""
    generator = np.random.default_rng(seed)
    utterances, texts = [], []
    for _ in range(count):
        number = int(generator.integers(len(WORDS)))
        sentence = []
        for _ in range(6):
            sentence.append(WORDS[number])
            number = (5 * number + 1) % len(WORDS) if generator.random() < 0.8 else int(generator.integers(len(WORDS)))
        path = [token for letter in "|".join(sentence) for token in (0, VOCABULARY.index(letter))]
        logits = torch.from_numpy(generator.normal(0.0, noise, (len(path), len(VOCABULARY)))).float()
        logits[torch.arange(len(path)), torch.tensor(path)] += 4.0
        utterances.append(logits.log_softmax(-1))
        texts.append(" ".join(sentence))
    return utterances, texts


@pytest.fixture(scope="module")
def model() -> NgramLanguageModel:
    return NgramLanguageModel.train(spoken(0, 300, 1.0)[1], order=2, prune=(0,))


@pytest.fixture(scope="module")
def tuned(model: NgramLanguageModel) -> CTCDecoder:
    decoder = CTCDecoder(VOCABULARY, language_model=model, alpha=0.0, beta=0.0, beam=16)
    report = decoder.tune(*spoken(1, 40, 2.4))
    assert report.error_rate < report.error_rate_before - 0.05
    assert (decoder.alpha, decoder.beta) == (report.alpha, report.beta)
    assert decoder.alpha > 0.0
    return decoder


@pytest.mark.slow
def test_tuned_weights_are_better_elsewhere(tuned: CTCDecoder, model: NgramLanguageModel) -> None:
    utterances, texts = spoken(2, 24, 2.4)

    def errors(decoder: CTCDecoder) -> int:
        best = [decoder.decode(utterance[None])[0][0].text for utterance in utterances]
        return sum(compare_words(b.split(), t.split()).errors for b, t in zip(best, texts, strict=True))

    assert errors(tuned) < errors(CTCDecoder(VOCABULARY, language_model=model, alpha=0.0, beta=0.0, beam=16))


@pytest.mark.slow
def test_confidences_are_calibrated_on_held_out_words(tuned: CTCDecoder) -> None:
    """On the diagonal within 0.08 on average, and better informed than the share of right words alone."""
    utterances, texts = spoken(3, 60, 2.4)
    confidences: list[float] = []
    correct: list[bool] = []
    for utterance, text in zip(utterances, texts, strict=True):
        best = tuned.decode(utterance[None])[0][0]
        confidences += [word.confidence for word in best.words]
        correct += compare_words(best.text.split(), text.split()).correct
    share = sum(correct) / len(correct)
    assert 0.1 < share < 0.97
    assert calibration_error(reliability_curve(confidences, correct)) < 0.08
    brier = float(np.mean((np.array(confidences) - np.array(correct)) ** 2))
    assert brier < 0.9 * share * (1 - share)


@pytest.mark.slow
def test_a_dev_set_needs_one_reference_each(tuned: CTCDecoder) -> None:
    with pytest.raises(ValueError, match="2 utterances and 1 references"):
        tuned.tune(spoken(0, 2, 1.0)[0], ["bad"])


def test_without_a_language_model_only_confidences_are_fitted() -> None:
    decoder = CTCDecoder(VOCABULARY, beam=8)
    before = decoder.weights, decoder.calibration
    utterances, texts = spoken(4, 10, 2.0)
    lengths = torch.tensor([len(utterance) for utterance in utterances])
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    report = decoder.tune(padded, texts, lengths)
    assert decoder.weights == before[0]
    assert decoder.calibration != before[1]
    assert report.error_rate == report.error_rate_before


def test_calibration_recovers_planted_weights() -> None:
    generator = np.random.default_rng(0)
    measured = generator.normal(0.0, 1.5, (20_000, 4))
    planted = Calibration(0.5, 1.0, -0.5, 0.25, 0.75)
    chances = np.array([planted.confidence(row) for row in measured])
    fitted = Calibration.fit(measured.tolist(), (generator.random(len(chances)) < chances).tolist())
    for name in ("constant", "mean", "least", "lag", "support"):
        assert getattr(fitted, name) == pytest.approx(getattr(planted, name), abs=0.06)
    with pytest.raises(ValueError, match="right and words that are wrong"):
        Calibration.fit([(0.0, 0.0, 0.0, 0.0)], [True])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 12))
def test_reliability_counts_every_word(words: list[tuple[float, bool]], bins: int) -> None:
    confidences, correct = [word[0] for word in words], [word[1] for word in words]
    curve = reliability_curve(confidences, correct, bins)
    assert sum(entry.count for entry in curve) == len(words)
    assert sum(entry.count * entry.accuracy for entry in curve) == pytest.approx(sum(correct))
    assert 0.0 <= calibration_error(curve) <= 1.0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_word_errors_are_those_of_jiwer(hypothesis: list[str], reference: list[str]) -> None:
    import jiwer

    errors, correct = compare_words(hypothesis, reference)
    assert len(correct) == len(hypothesis)
    if reference:
        found = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
        assert errors == found.substitutions + found.insertions + found.deletions
    substitutions_and_insertions = correct.count(False)
    assert errors - substitutions_and_insertions >= 0


def test_search_asks_the_model_as_the_protocol_says() -> None:
    """Any model with the protocol works: here a dictionary, told apart from none by a text that it forbids."""
    dictionary = DictionaryModel(WORDS)
    dictionary.table[:, dictionary.vocabulary.index("bad")] = -100.0
    path = [VOCABULARY.index(letter) for letter in "bad"]
    log_probs = torch.full((1, 3, len(VOCABULARY)), 0.02).scatter_(2, torch.tensor(path)[None, :, None], 0.82).log()
    assert CTCDecoder(VOCABULARY, lexicon=WORDS).decode(log_probs)[0][0].text == "bad"
    assert CTCDecoder(VOCABULARY, lexicon=WORDS, language_model=dictionary).decode(log_probs)[0][0].text != "bad"
