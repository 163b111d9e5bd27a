"""What is expected at a point of a conversation: its words alone are heard, as Vosk's `phrase_list` has it."""

import logging
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_checkpoints import noise, processor, talkative_model
from torch import Tensor

from wav2vec2 import CTCDecoder, StreamingRecogniser
from wav2vec2.decoding.expected_phrases import expecting
from wav2vec2.language_models.phrase_bigrams import MOST_WORDS, PhraseBigrams

LETTERS = ["<pad>", "|", *"abcd"]
#: Texts with spaces, as phrases have them.
PHRASES = st.lists(
    st.lists(st.sampled_from(["a", "ab", "cd", "b", "dad"]), min_size=1, max_size=3), min_size=1, max_size=5
)


def slow_share(phrases: list[list[str]], before: str, word: str) -> float:
    """The probability of a word by counting pairs, half a count of each given to the words by themselves."""
    pairs: Counter[tuple[str, str]] = Counter()
    for phrase in [*phrases, ["<unk>"]]:
        pairs.update(zip(["<s>", *phrase], [*phrase, "</s>"], strict=True))
    alone = sum(count for (_, second), count in pairs.items() if second == word) / pairs.total()
    seen = {second: count for (first, second), count in pairs.items() if first == before}
    total = sum(seen.values())
    return (max(seen.get(word, 0) - 0.5, 0) + 0.5 * len(seen) * alone) / total


@settings(deadline=None, max_examples=40)
@given(PHRASES)
def test_the_bigrams_are_those_of_counting(phrases: list[list[str]]) -> None:
    model = PhraseBigrams([" ".join(phrase) for phrase in phrases])
    words = [*model.vocabulary, "<unk>"]
    for state, before in [*enumerate(words), (model.begin(), "<s>")]:
        states = torch.full((len(words),), state)
        scores, following = model.score(states, model.word_ids(words))
        assert following.tolist() == model.word_ids(words).tolist()
        found = [*scores.tolist(), float(model.end(states)[0])]
        expected = [slow_share(phrases, before, word) for word in [*words, "</s>"]]
        assert [math.exp(value) for value in found] == pytest.approx(expected, abs=1e-6)
        assert sum(expected) == pytest.approx(1.0)


def test_too_many_words_and_none() -> None:
    with pytest.raises(ValueError, match=f"{MOST_WORDS + 1} different words; must be from 1 to {MOST_WORDS}"):
        PhraseBigrams([str(number) for number in range(MOST_WORDS + 1)])
    with pytest.raises(ValueError, match="0 different words"):
        PhraseBigrams([" "])


def frames(seed: int) -> Tensor:
    """Something like speech: (1, T, V), in which single tokens stand out."""
    return (3 * torch.randn(1, 14, len(LETTERS), generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


@settings(deadline=None, max_examples=40)
@given(PHRASES, st.integers(0, 10_000))
def test_no_other_word_is_heard(phrases: list[list[str]], seed: int) -> None:
    """Without "[unk]" only the words of the phrases; with it every other word has that name."""
    known = {word for phrase in phrases for word in phrase}
    texts = [" ".join(phrase) for phrase in phrases]
    decoder = CTCDecoder(LETTERS, beam=10, unknown_penalty=-2)
    for expected, allowed in ((texts, known), ([*texts, "[unk]"], known | {"[unk]"})):
        for hypothesis in expecting(decoder, expected).decode(frames(seed), nbest=5)[0]:
            assert {word.text for word in hypothesis.words} <= allowed


def spelled(text: str) -> Tensor:
    """Frames that say a text: (1, T, V)."""
    said = torch.full((1, 2 * len(text), len(LETTERS)), -9.0)
    for place, letter in enumerate(text.replace(" ", "|")):
        said[0, 2 * place, LETTERS.index(letter)] = 0.0
        said[0, 2 * place + 1, 0] = 0.0
    return said.log_softmax(-1)


def test_other_speech_is_unknown_or_forced() -> None:
    decoder = CTCDecoder(LETTERS)
    for said, heard in (("cab ab", "cab ab"), ("cab dad", "cab [unk]"), ("dad", "[unk]")):
        assert expecting(decoder, ["cab ab", "[unk]"]).decode(spelled(said))[0][0].text == heard
    closed = expecting(decoder, ["CAB ab"]).decode(spelled("dad"))[0][0]  # in the case that the letters have
    assert set(closed.text.split()) <= {"cab", "ab"}
    assert max((word.confidence for word in closed.words), default=0.0) < 0.2
    favoured = expecting(CTCDecoder(LETTERS, hotwords=["dad"]), ["cab", "[unk]"]).decode(spelled("dad"))[0][0]
    assert favoured.text == "dad"  # a hotword is known in every search


def test_words_without_letters_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wav2vec2"):
        decoder = expecting(CTCDecoder(LETTERS), ["cab xylophone", "ab"])
    assert "['xylophone'] cannot be spelled" in caplog.text
    assert decoder.lexicon == ["cab", "ab"]
    with pytest.raises(ValueError, match="0 different words"):
        expecting(CTCDecoder(LETTERS), ["xylophone", "[unk]"])


def test_the_name_of_unknown_words_is_kept(tmp_path: Path) -> None:
    """And a decoder without one is saved as before, so that earlier versions read it."""
    CTCDecoder(LETTERS, lexicon=["ab"], unknown_word="?").save_pretrained(tmp_path / "named")
    assert CTCDecoder.from_pretrained(tmp_path / "named").unknown_word == "?"
    CTCDecoder(LETTERS).save_pretrained(tmp_path / "plain")
    assert "unknown_word" not in (tmp_path / "plain" / "decoder.json").read_text()
    assert CTCDecoder.from_pretrained(tmp_path / "plain").unknown_word is None


def test_a_stream_hears_its_own_phrases() -> None:
    """Each stream of a recogniser its own, and one that expects nothing is as it was."""
    recogniser = StreamingRecogniser(talkative_model(), processor(), latency=0.96)
    sound = noise(2.0)

    def words(phrases: list[str] | None) -> list[str]:
        stream = recogniser.open(phrases=phrases)
        stream.push(sound)
        return [word.text for word in stream.finish().final]

    free = words(None)
    assert len(free) > 1 and not {"ace", "bad", "[unk]"} & {*free}
    assert {*words(["ace", "bad"])} <= {"ace", "bad"}
    assert {*words(["ace", "[unk]"])} <= {"ace", "[unk]"}
    assert words(None) == free
