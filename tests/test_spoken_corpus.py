"""The spoken corpus of the quickstart: its sentences, its voices, its files."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
from quickstart_runs import SIZE, few_voices

from wav2vec2.processing.audio_files import load_audio
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.quickstart import whole_path
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.quickstart.sentences import PATTERNS, WORDS, draw_sentences, draw_words, vocabulary
from wav2vec2.quickstart.speech_synthesis import recorded
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, make_corpus

pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
pytestmark = pytest.mark.slow

PARTS = ("labelled", "development", "test")


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with few_voices():
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder, SIZE, seed=1)
    return Corpus(folder)


def test_sentences_are_of_the_grammar_and_all_different() -> None:
    drawn = draw_sentences(500, seed=3)
    assert len(set(drawn)) == 500
    assert {word for sentence in drawn for word in sentence.split()} <= vocabulary()
    kinds = {kind: set(words.split()) for kind, words in WORDS.items()}
    for sentence in drawn[:50]:
        assert any(fits(sentence.split(), pattern.split(), kinds) for pattern in PATTERNS)
    others = draw_sentences(500, seed=3, without=drawn)
    assert not set(drawn) & set(others)
    assert len(set(draw_words(40, seed=1))) == 40


def fits(words: list[str], pattern: list[str], kinds: dict[str, set[str]]) -> bool:
    return len(words) == len(pattern) and all(
        word in (kinds[part.strip("<>")] if part.startswith("<") else {part})
        for word, part in zip(words, pattern, strict=True)
    )


def test_words_are_plain_letters_of_one_kind_and_few_hundred() -> None:
    assert 60 < len(vocabulary()) < 200
    assert all(word.isascii() and word.isalpha() and word.islower() for word in vocabulary())
    parts = {part for pattern in PATTERNS for part in pattern.split() if part.startswith("<")}
    assert parts == {f"<{kind}>" for kind in WORDS}


def test_held_out_voices_are_of_other_throats() -> None:
    voices = [*TRAINING_VOICES, *DEVELOPMENT_VOICES, *TEST_VOICES]
    assert len({voice.name for voice in voices}) == len(voices)
    groups = [{one.throat for one in group} for group in (TRAINING_VOICES, DEVELOPMENT_VOICES, TEST_VOICES)]
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_no_sentence_and_no_voice_of_the_test_is_trained_on(corpus: Corpus) -> None:
    parts = {part: list(read_manifest(getattr(corpus, part))) for part in (*PARTS, "audio")}
    for field in ("speaker", "transcript"):
        groups = [{getattr(one, field) for one in parts[part]} for part in PARTS]
        assert len(set.union(*groups)) == sum(map(len, groups))
    assert {one.speaker for one in parts["audio"]} == {one.speaker for one in parts["labelled"]}
    assert {one.path for one in parts["labelled"]} < {one.path for one in parts["audio"]}
    assert all(not one.transcript for one in parts["audio"])
    assert [len(parts[part]) for part in (*PARTS, "audio")] == [3 * (1 + 3), 2, 2 * 2, 3 * (1 + 4)]


def test_files_are_what_their_manifest_says(corpus: Corpus) -> None:
    assert len(recordings := list(read_manifest(corpus.audio))) > 1
    for one in recordings:
        about = soundfile.info(one.path)
        assert (about.samplerate, about.channels, about.format) == (16000, 1, "FLAC")
        assert one.duration == pytest.approx(about.duration, abs=1e-4)
        samples = load_audio(one.path)
        assert 0.012 < np.sqrt(np.mean(samples**2)) < 0.065 and np.abs(samples).max() < 1.0
        edge = np.sqrt(np.mean(samples[:600] ** 2))
        assert 0 < edge < 0.1 * np.sqrt(np.mean(samples**2)), "noise alone before the first word"


def test_longer_sentences_take_longer_and_voices_differ(corpus: Corpus) -> None:
    spoken = [one for part in PARTS for one in read_manifest(getattr(corpus, part))]
    letters, seconds = zip(*((len(one.transcript or ""), one.duration or 0.0) for one in spoken), strict=True)
    assert np.corrcoef(letters, seconds)[0, 1] > 0.9
    first: dict[str | None, Recording] = {}
    for one in spoken:
        first.setdefault(one.speaker, one)
    assert len(first) == 6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files_and_another_does_not(corpus: Corpus, tmp_path: Path) -> None:
    make_corpus(tmp_path / "again", SIZE, seed=1)
    names = sorted(path.relative_to(corpus.folder) for path in corpus.folder.rglob("*") if path.is_file())
    assert len(names) == 4 + 3 * 5 + 2 + 4
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (corpus.folder / name).read_bytes(), name
    with patch.object(whole_path, "make_corpus", make_corpus):
        make_corpus(tmp_path / "other", SIZE, seed=2)
    texts = [
        [one.transcript for one in read_manifest(Corpus(folder).test)] for folder in (corpus.folder, tmp_path / "other")
    ]
    assert not set(texts[0]) & set(texts[1])


def test_noise_and_loudness_stay_within_their_limits() -> None:
    tone = np.sin(np.arange(16000) * 0.05).astype(np.float32)
    for seed in range(20):
        made = recorded(tone, np.random.default_rng(seed))
        silence = len(made) - len(tone)
        assert 2 * 0.05 * 16000 - 2 <= silence <= 2 * 0.25 * 16000 + 2
        loud = float(np.sqrt(np.mean(made**2) * len(made) / len(tone)))
        assert 0.0145 < loud < 0.0625
        below = 20 * np.log10(loud / np.std(made[: round(0.05 * 16000)]))
        assert 24 < below < 41.5
