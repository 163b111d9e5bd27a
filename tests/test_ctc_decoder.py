"""CTCDecoder: batches, lengths, times, bad input, what it refuses to be built from, its files."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from decoding_oracles import DictionaryModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.confidences import Calibration
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.decoder_files import DecoderFileError
from wav2vec2.decoding.transcripts import Hypothesis
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGH"]
WORDS = ["A", "BAD", "CAB", "BEAD", "FACE", "HE", "HEAD", "BEE", "ADD", "GAFFE"]


def speech(seed: int, frames: int, batch: int = 1, noise: float = 1.5) -> Tensor:
    """Noisy log-probabilities of random words of the lexicon."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, frames, len(VOCABULARY), generator=generator) * noise
    for row in range(batch):
        path: list[int] = []
        while len(path) < frames:
            word = WORDS[int(torch.randint(len(WORDS), (), generator=generator))]
            path += [token for letter in f"{word}|" for token in (0, VOCABULARY.index(letter))]
        logits[row, torch.arange(frames), torch.tensor(path[:frames], dtype=torch.long)] += 6.0
    return logits.log_softmax(-1)


def small_model() -> NgramLanguageModel:
    sentences = [f"{first} {second} {third}" for first in WORDS for second in WORDS[::2] for third in WORDS[1::3]]
    return NgramLanguageModel.train(sentences, order=2, prune=(0,))


@pytest.mark.parametrize("kind", ["open", "lexicon", "model", "model and lexicon", "hotwords"])
def test_a_batch_is_the_same_as_its_items(kind: str) -> None:
    decoder = CTCDecoder(
        VOCABULARY,
        language_model=DictionaryModel(WORDS) if "model" in kind else None,
        lexicon=WORDS if "lexicon" in kind else None,
        hotwords={"HEAD BEE": 3.0} if kind == "hotwords" else None,
        beam=20,
    )
    lengths = [60, 1, 37, 0, 52]
    batch = speech(7, 60, len(lengths))
    for row, length in enumerate(lengths):
        batch[row, length:] = float("nan")  # nobody may look there
    together = decoder.decode(batch, lengths, nbest=3)
    greedy = decoder.greedy(batch, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        same(decoder.decode(batch[row : row + 1, :length], nbest=3)[0], together[row])
        same(decoder.greedy(batch[row : row + 1, :length])[0], greedy[row])


def same(texts: list[Hypothesis], others: list[Hypothesis]) -> None:
    """Equal but for the last bits, since sums over vectors depend on their layout."""
    assert len(texts) == len(others)
    for text, other in zip(texts, others, strict=True):
        assert text.text == other.text
        assert text.score == pytest.approx(other.score, abs=1e-4)
        assert [(t.start, t.end) for t in text.tokens] == [(t.start, t.end) for t in other.tokens]
        confidences = [word.confidence for word in other.words]
        assert [word.confidence for word in text.words] == pytest.approx(confidences, abs=1e-5)


def test_no_frames_and_no_utterances() -> None:
    decoder = CTCDecoder(VOCABULARY)
    size = len(VOCABULARY)
    for answer in (decoder.decode(torch.zeros(1, 0, size)), decoder.greedy(torch.zeros(1, 0, size))):
        assert [(text.text, text.score, text.words, text.tokens) for text in answer[0]] == [("", 0.0, [], [])]
    assert decoder.decode(torch.zeros(0, 5, size)) == decoder.greedy(torch.zeros(0, 5, size)) == []


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), frames=st.integers(0, 60), noise=st.floats(0.1, 6.0))
def test_times_grow_and_stay_inside(seed: int, frames: int, noise: float) -> None:
    log_probs = speech(seed, frames, noise=noise)
    decoder = CTCDecoder(VOCABULARY, beam=8)
    duration = FrameTimes().duration(frames)
    for text in [*decoder.decode(log_probs, nbest=2)[0], *decoder.greedy(log_probs)[0]]:
        assert "".join(token.text for token in text.tokens) == text.text.replace(" ", "")
        assert " ".join(word.text for word in text.words) == text.text
        for parts in (text.words, text.tokens):
            edges = [time for part in parts for time in (part.start, part.end)]
            assert edges == sorted(edges)
            assert all(0.0 <= time <= duration for time in edges)
            assert all(0.0 <= part.confidence <= 1.0 for part in parts)


def test_times_of_planted_tokens() -> None:
    """Frame f stands for the samples 320 f + 40 to 320 f + 360."""
    path = [4, 4, 0, 6, 6, 0, 7, 4, 4, 4, 0, 6, 0, 0]
    log_probs = torch.full((1, len(path), len(VOCABULARY)), 0.01).scatter_(2, torch.tensor(path)[None, :, None], 0.87)
    decoder = CTCDecoder(VOCABULARY)
    for text in (decoder.decode(log_probs.log())[0][0], decoder.greedy(log_probs.log())[0][0]):
        assert text.text == "AB A"
        spans = [(round(16000 * token.start), round(16000 * token.end)) for token in text.tokens]
        assert spans == [(3 * 320 + 40, 5 * 320 + 40), (6 * 320 + 40, 7 * 320 + 40), (11 * 320 + 40, 12 * 320 + 40)]
        assert (text.words[0].start, text.words[0].end) == (text.tokens[0].start, text.tokens[1].end)


def test_greedy_says_what_stock_says(tmp_path: Path) -> None:
    from transformers import Wav2Vec2CTCTokenizer

    (tmp_path / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(VOCABULARY)}))
    stock = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    log_probs = speech(3, 80, batch=4, noise=2.5)
    log_probs[..., 1:4] = -30.0
    for row, answer in zip(log_probs, CTCDecoder(VOCABULARY).greedy(log_probs), strict=True):
        assert answer[0].text == " ".join(stock.decode(row.argmax(-1)).split())
        assert answer[0].score == pytest.approx(float(row.amax(-1).sum()), abs=1e-3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[0], "shape"),
        (lambda x: x[..., :5], "vocabulary has 14 tokens"),
        (lambda x: x.long(), "floating-point"),
        (lambda x: x.index_fill(1, torch.tensor([3]), float("nan")), "frame 3 of utterance 0 holds NaN"),
        (lambda x: x.index_fill(1, torch.tensor([2]), float("-inf")), "frame 2 of utterance 0 gives every token"),
        (lambda x: x + 1.0, "log_softmax"),
    ],
)
def test_bad_log_probs(spoil: Any, message: str) -> None:
    decoder = CTCDecoder(VOCABULARY)
    for decode in (decoder.decode, decoder.greedy):
        with pytest.raises(ValueError, match=message):
            decode(spoil(speech(0, 10)))


def test_bad_lengths_and_nbest() -> None:
    decoder = CTCDecoder(VOCABULARY, beam=4)
    with pytest.raises(ValueError, match="between 0 and 10"):
        decoder.decode(speech(0, 10), [11])
    with pytest.raises(ValueError, match="nbest=5"):
        decoder.decode(speech(0, 10), nbest=5)


def test_hotwords_are_in_the_case_of_the_vocabulary() -> None:
    """Where it has one alone; with both, or without any, they are what they are."""
    for letters, phrase, expected in (
        ("ABDEH'", "Bad Head", "BAD HEAD"),
        ("abdeh'", "BAD head", "bad head"),
        ("ABDEHabdeh", "Bad heaD", "Bad heaD"),
        ("הדב", "דב", "דב"),
    ):
        decoder = CTCDecoder(["<pad>", "|", *letters], hotwords={phrase: 3.0})
        assert decoder.hotwords == {expected: 3.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": ["<pad>", "|", "a", "a"]}, "different tokens"),
        ({"blank": 20}, "blank=20"),
        ({"word_delimiter": " "}, "word_delimiter"),
        ({"blank": 4}, "word delimiter"),
        ({"lexicon": ["BAD", "bad"]}, "upper or lower case"),
        ({"lexicon": []}, "holds no word"),
        ({"lexicon": {"X": "B A", "Y": ["B A"]}}, "one spelling"),
        ({"lexicon": {"X": "B Z"}}, "not in the vocabulary"),
        ({"hotwords": ["ZOO"]}, "hotwords.*'OZ'"),
        ({"hotwords": "BAD"}, "list of words"),
        ({"language_model": DictionaryModel(["bad", "head"])}, "0.0% of its words.*100.0% in upper case"),
        ({"language_model": DictionaryModel(["bad"]), "lexicon": ["BAD"]}, "0 of its 1 words, but 1 in lower case"),
        (
            {"language_model": DictionaryModel(["bad", "head", "'"]), "lexicon": ["BAD", "HEAD", "'"]},
            "1 of its 3 words",
        ),
        ({"language_model": DictionaryModel(["XYZ"])}, "none of its words"),
        ({"language_model": DictionaryModel(["BAD"]), "score_boundary": False}, "no state before a text"),
        ({"word_delimiter": None, "lexicon": ["BAD"]}, "need a word_delimiter"),
        ({"beam": 0}, "must be positive"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CTCDecoder(**({"vocabulary": VOCABULARY} | arguments))


def test_a_model_in_the_wrong_case_is_told_by_what_it_expects() -> None:
    """A stray apostrophe is spelled in any case, and makes no model of lower-case text one of upper case."""
    letters = ["<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    lower = NgramLanguageModel.train(["hello world ' hello", "rock ' n ' roll"], order=2, prune=(0,))
    with pytest.raises(ValueError, match=r"language_model: \d+\.\d% of its words .* but 100\.0% in upper case"):
        CTCDecoder(letters, language_model=lower)
    upper = NgramLanguageModel.train(["HELLO WORLD ' HELLO", "ROCK ' N ' ROLL"], order=2, prune=(0,))
    CTCDecoder(letters, language_model=upper)


def test_words_that_can_never_be_found_are_said_and_counted() -> None:
    """A model of which a part is spelled differently is only unusual; one of which little is lost is nothing at all."""
    texts = ["BAD HEAD CAB"] * 10
    with pytest.warns(UserWarning, match=r"language_model: \d\d\.\d% of its words.*such as \['X\d"):
        mixed = NgramLanguageModel.train([*texts, *(f"X{n} Y{n} Z{n}" for n in range(2))], order=1)
        CTCDecoder(VOCABULARY, language_model=mixed)
    many = [f"{first}{second}{third}" for first in "ABCD" for second in "EFGH" for third in "ABCD"]
    CTCDecoder(VOCABULARY, language_model=NgramLanguageModel.train([*many, "X1"], order=1))


def test_special_tokens_are_those_that_are_named() -> None:
    """A tokenizer may call its unknown token anything, and have letters that look like special tokens."""
    vocabulary = ["[pad]", "|", "a", "*unknown*", "<laugh>"]
    log_probs = torch.tensor([[[0.05, 0.05, 0.2, 0.4, 0.3], [0.05, 0.05, 0.2, 0.3, 0.4]]]).log()
    named = CTCDecoder(vocabulary, special_tokens=["[pad]", "*unknown*", "</s>"])
    guessed = CTCDecoder([*vocabulary[:3], "[unk]", "<laugh>"])
    for decode in ("decode", "greedy"):
        assert getattr(named, decode)(log_probs)[0][0].text == "<laugh>"
        assert getattr(guessed, decode)(log_probs)[0][0].text == "a"


def test_nothing_allowed_is_an_empty_text() -> None:
    """Where every path spells something outside the lexicon, the answer is empty, and says so by its score."""
    log_probs = torch.full((1, 3, len(VOCABULARY)), float("-inf"))
    log_probs[..., VOCABULARY.index("G")] = 0.0
    answer = CTCDecoder(VOCABULARY, lexicon=["BAD"]).decode(log_probs)[0]
    assert [(text.text, text.score) for text in answer] == [("", float("-inf"))]


def test_an_unfinished_word_is_left_out() -> None:
    path = [VOCABULARY.index(token) for token in "BAD|BA"]
    log_probs = torch.full((1, 6, len(VOCABULARY)), float("-inf"))
    log_probs[0, torch.arange(6), torch.tensor(path)] = 0.0
    assert CTCDecoder(VOCABULARY, lexicon=["BAD"]).decode(log_probs)[0][0].text == "BAD"


def test_tokens_are_words_without_a_delimiter() -> None:
    log_probs = torch.tensor([[[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]]).log()
    decoder = CTCDecoder(["<pad>", "ə", "tʃ"], word_delimiter=None)
    assert decoder.decode(log_probs)[0][0].text == decoder.greedy(log_probs)[0][0].text == "ə tʃ"


@pytest.mark.slow
def test_memory_does_not_grow() -> None:
    model = small_model()
    decoder = CTCDecoder(VOCABULARY, language_model=model, lexicon=WORDS, hotwords=["BAD"], beam=4)
    log_probs = speech(0, 2)
    process = psutil.Process()
    for _ in range(200):
        decoder.decode(log_probs)
    before = process.memory_info().rss
    for _ in range(2000):
        decoder.decode(log_probs)
    assert process.memory_info().rss - before < 8 * 2**20


def test_saved_and_loaded(tmp_path: Path) -> None:
    decoder = CTCDecoder(
        VOCABULARY, language_model=small_model(), lexicon=WORDS, hotwords={"BAD": 2.0}, beam=12, alpha=0.7, beta=0.1,
        calibration=Calibration(1.0, 2.0, 3.0, -4.0, 0.1), frame_times=FrameTimes(sampling_rate=8000),
    )  # fmt: skip
    decoder.save_pretrained(tmp_path / "checkpoint")
    loaded = CTCDecoder.from_pretrained(tmp_path / "checkpoint")
    log_probs = speech(1, 50)
    assert loaded.decode(log_probs, nbest=5) == decoder.decode(log_probs, nbest=5)
    assert (loaded.alpha, loaded.beta, loaded.hotwords) == (0.7, 0.1, {"BAD": 2.0})


@pytest.mark.parametrize("boundary", [True, False])
def test_hub_layout(tmp_path: Path, boundary: bool) -> None:
    """`alphabet.json` calls the blank "" and the delimiter " ". The penalty there is a log10, weighted as the model."""
    model = small_model()
    (tmp_path / "language_model").mkdir()
    model.to_arpa(tmp_path / "language_model" / "4gram.arpa")
    labels = ["", "<s>", "</s>", "⁇", " ", *VOCABULARY[5:]]
    (tmp_path / "alphabet.json").write_text(json.dumps({"labels": labels, "is_bpe": False}))
    (tmp_path / "language_model" / "unigrams.txt").write_text("\n".join(WORDS[1:]))
    settings_of_hub = {"alpha": 0.9, "beta": 0.2, "unk_score_offset": -5.0, "score_boundary": boundary}
    (tmp_path / "language_model" / "attrs.json").write_text(json.dumps(settings_of_hub))
    loaded = CTCDecoder.from_pretrained(tmp_path)
    same = CTCDecoder(
        VOCABULARY, language_model=model, alpha=0.9, beta=0.2, unknown_penalty=0.9 * -5.0 * math.log(10),
        known_words=WORDS[1:], score_boundary=boundary,
    )  # fmt: skip
    log_probs = speech(1, 50)
    found, expected = loaded.decode(log_probs)[0][0], same.decode(log_probs)[0][0]
    assert found.text == expected.text
    assert found.score == pytest.approx(expected.score, abs=1e-3)
    loaded.save_pretrained(tmp_path / "ours")
    assert CTCDecoder.from_pretrained(tmp_path / "ours").decode(log_probs)[0][0] == found


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no decoder is saved here"):
        CTCDecoder.from_pretrained(tmp_path)
    CTCDecoder(VOCABULARY).save_pretrained(tmp_path)
    path = tmp_path / "decoder.json"
    saved = json.loads(path.read_text())
    for content, message in (
        ("{", "not JSON"),
        ("[]", "missing"),
        (json.dumps(saved | {"beams": 3}), "unknown"),
        (json.dumps(saved | {"beam": "3"}), "decoder.json"),
        (json.dumps(saved | {"calibration": {"slope": 1}}), "slope"),
        (json.dumps(saved | {"language_model": "../../secret"}), "secret"),
    ):
        path.write_text(content)
        with pytest.raises(DecoderFileError, match=message):
            CTCDecoder.from_pretrained(tmp_path)
    shutil.rmtree(tmp_path)


def test_device_of_the_log_probs() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    decoder = CTCDecoder(VOCABULARY, language_model=small_model(), lexicon=WORDS, hotwords=["BAD"])
    log_probs = speech(2, 60, 3)
    for here, there in zip(decoder.decode(log_probs), decoder.decode(log_probs.cuda()), strict=True):
        assert here[0].text == there[0].text
        assert here[0].score == pytest.approx(there[0].score, abs=1e-2)
