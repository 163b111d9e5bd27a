"""The phoneme tokenizer: against stock on phonemes and paths, against phonemizer on text."""

import json
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import transformers

from wav2vec2.processing import espeak
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.tokenizer_files import TokenizerFileError
from wav2vec2.processing.vocabulary import UnknownCharactersError

TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "h", "ə", "l", "oʊ", "b", "ɔ̃", "ʒ", "u", "ʁ", "ɔː", "n", "ʊɹ", "|"]
VOCABULARY = {token: index for index, token in enumerate(TOKENS)}
SENTENCES = {
    "en-us": ["hello how are you", "it's twenty-seven cats, isn't it? 3.5!", "a well-known (and loved) naïve café"],
    "fr-fr": ["bonjour le monde", "qu'est-ce que c'est"],
    "de": ["guten tag, wie geht es ihnen"],
    "sv": ["hej världen"],
    "cmn": ["你好 hello 世界"],
    "ar": ["مرحبا بالعالم"],
}


@pytest.fixture(scope="module")
def tokenizer() -> Wav2Vec2PhonemeCTCTokenizer:
    return Wav2Vec2PhonemeCTCTokenizer(VOCABULARY)


@pytest.fixture
def with_espeak() -> None:
    pytest.importorskip("espeakng_loader", reason="the extra 'phonemes' is not installed")


def stock(folder: Path, **options: Any) -> Any:
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    return loaded_by_stock(lambda: transformers.Wav2Vec2PhonemeCTCTokenizer(str(folder / "vocab.json"), **options))


def loaded_by_stock(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"this release of stock Transformers needs espeak even to load a vocabulary: {error}")


@pytest.mark.parametrize("delimiter", [None, "|"])
def test_phonemes_and_paths_as_in_stock(delimiter: str | None, tmp_path: Path) -> None:
    options: dict[str, Any] = {"do_phonemize": False, "word_delimiter_token": delimiter}
    ours, theirs = Wav2Vec2PhonemeCTCTokenizer(VOCABULARY, **options), stock(tmp_path, **options)
    assert len(ours) == len(VOCABULARY)
    generator = random.Random(0)
    for _ in range(50):
        phonemes = " ".join(generator.choices(TOKENS[4:], k=6))
        assert ours(phonemes).input_ids == theirs(phonemes).input_ids
        path = generator.choices(range(len(TOKENS)), k=15)
        assert ours.decode(path) == theirs.decode(path)
        assert ours.decode(path, filter_word_delimiter_token=False) == theirs.decode(
            path, filter_word_delimiter_token=False
        )
        asked = ours.decode(path, output_char_offsets=True), theirs.decode(path, output_char_offsets=True)
        assert dict(asked[0]) == dict(asked[1])
        assert ours.decode_labels(path) == theirs.decode(path, group_tokens=False)


def test_small_things(tokenizer: Wav2Vec2PhonemeCTCTokenizer) -> None:
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([4, 1, 4], skip_special_tokens=True) == "h h"
    assert tokenizer.convert_tokens_to_string(["h", "h", "ə"])["text"] == "h ə"
    assert tokenizer.batch_decode([[4], [5]], output_char_offsets=True)["text"] == ["h", "ə"]
    assert tokenizer("h zz", do_phonemize=False).input_ids == [4, 3]
    with pytest.raises(UnknownCharactersError, match=r"'zz' \(U\+007A U\+007A\) x1"):
        Wav2Vec2PhonemeCTCTokenizer(VOCABULARY, strict=True)("h zz", do_phonemize=False)
    with pytest.raises(ValueError, match="only 'espeak'"):
        Wav2Vec2PhonemeCTCTokenizer(VOCABULARY, phonemizer_backend="festival")
    with pytest.raises(ValueError, match="phone_delimiter_token"):
        Wav2Vec2PhonemeCTCTokenizer(VOCABULARY, phone_delimiter_token="")


def test_files_go_to_stock_and_back(tmp_path: Path) -> None:
    ours = Wav2Vec2PhonemeCTCTokenizer(VOCABULARY, phonemizer_lang="fr-fr", word_delimiter_token="|")
    ours.save_pretrained(tmp_path / "ours")
    theirs = loaded_by_stock(lambda: transformers.Wav2Vec2PhonemeCTCTokenizer.from_pretrained(tmp_path / "ours"))
    assert (len(theirs), theirs.phonemizer_lang, theirs.word_delimiter_token) == (len(VOCABULARY), "fr-fr", "|")
    assert theirs("h ə", do_phonemize=False).input_ids == [4, 5]
    theirs.save_pretrained(tmp_path / "theirs")
    again = Wav2Vec2PhonemeCTCTokenizer.from_pretrained(tmp_path / "theirs")
    assert again.get_vocab() == VOCABULARY
    assert (again.phonemizer_lang, again.word_delimiter_token, again.phone_delimiter_token) == ("fr-fr", "|", " ")
    from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer

    with pytest.raises(TokenizerFileError, match="is a Wav2Vec2PhonemeCTCTokenizer, not a Wav2Vec2CTCTokenizer"):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "ours")


@pytest.mark.usefixtures("with_espeak")
def test_each_call_has_its_own_language(tokenizer: Wav2Vec2PhonemeCTCTokenizer) -> None:
    english = tokenizer("hello").input_ids
    assert tokenizer.decode_labels(english) == "h ə l oʊ"
    assert tokenizer.decode(tokenizer("bonjour", phonemizer_lang="fr-fr").input_ids) == "b ɔ̃ ʒ u ʁ"
    assert tokenizer("hello").input_ids == english
    assert tokenizer.phonemizer_lang == "en-us"
    tokenizer.phonemizer_lang = "fr-fr"
    try:
        assert tokenizer.phonemize("bonjour") == "b ɔ̃ ʒ u ʁ"
    finally:
        tokenizer.phonemizer_lang = "en-us"


@pytest.mark.usefixtures("with_espeak")
def test_added_tokens_are_not_pronounced() -> None:
    tokenizer = Wav2Vec2PhonemeCTCTokenizer(VOCABULARY)
    tokenizer.add_tokens(["[noise]"])
    expected = [*tokenizer("hello").input_ids, len(VOCABULARY), *tokenizer("hello").input_ids]
    assert tokenizer("hello [noise] hello").input_ids == expected


def test_no_delimiter_is_missed_where_stock_has_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The phoneme tokenizer's default is none; the characters' is "|"."""
    Wav2Vec2PhonemeCTCTokenizer({"<pad>": 0, "<unk>": 1, "h": 2}).save_pretrained(tmp_path)
    assert Wav2Vec2PhonemeCTCTokenizer.from_pretrained(tmp_path).word_delimiter_token is None
    assert not caplog.messages
    asked = Wav2Vec2PhonemeCTCTokenizer.from_pretrained(tmp_path, word_delimiter_token="|")
    assert (asked.word_delimiter_token_id, len(asked)) == (3, 4)


@pytest.mark.usefixtures("with_espeak")
def test_threads_do_not_share_a_language() -> None:
    jobs = [(language, text) for language, texts in SENTENCES.items() for text in texts] * 4
    alone = {job: espeak.phonemize(job[1], job[0]) for job in set(jobs)}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: espeak.phonemize(job[1], job[0]), jobs))
    assert together == [alone[job] for job in jobs]


@pytest.mark.usefixtures("with_espeak")
def test_unknown_language_is_named() -> None:
    with pytest.raises(ValueError, match=r"no language 'fr_FR' \(of \d+\); closest: .*fr-fr \(French \(France\)\)"):
        espeak.phonemize("bonjour", "fr_FR")
    assert {"en-us", "fr-fr", "de"} <= set(espeak._languages())
    for text in ("", " ", "?!", "\0", "\ud800"):
        assert isinstance(espeak.phonemize(text, "en-us"), list)


@pytest.mark.usefixtures("with_espeak")
@pytest.mark.parametrize("language", SENTENCES)
def test_phonemes_equal_phonemizer(language: str) -> None:
    backend = pytest.importorskip("phonemizer.backend", reason="phonemizer is not installed")
    import espeakng_loader

    wrapper = sys.modules["phonemizer.backend.espeak.wrapper"].EspeakWrapper
    wrapper.set_library(espeakng_loader.get_library_path())
    wrapper.set_data_path(espeakng_loader.get_data_path())
    separator = sys.modules["phonemizer.separator"].Separator(phone=" ", word="", syllable="")
    oracle = backend.EspeakBackend(language, language_switch="remove-flags")
    for text in SENTENCES[language]:
        expected = oracle.phonemize([text], separator=separator)[0].split()
        assert [phoneme for word in espeak.phonemize(text, language) for phoneme in word] == expected


def test_without_the_extra_the_error_says_so(
    tokenizer: Wav2Vec2PhonemeCTCTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._library.cache_clear()
    espeak._languages.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'wav2vec2\[phonemes\]'"):
        tokenizer("hello")
    assert tokenizer("h ə", do_phonemize=False).input_ids == [4, 5]
