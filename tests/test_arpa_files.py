"""Reading and writing ARPA files: bit for bit, against a dictionary version and against KenLM, and with any bytes."""

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ngram_models import LN_10, BackOffModel, assert_usable, zipf_sentences

from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.language_models.ngram_trie import LanguageModelError, NgramTrie

SMALL = r"""
\data\
ngram 1=5
ngram 2=4
ngram 3=2

\1-grams:
-1.5	<unk>
-99	<s>	-0.30103
-0.75	</s>
-0.5	a	-0.25
-0.625	b	-0.125

\2-grams:
-0.25	<s> a	-0.0625
-0.375	a b	-0.5
-0.4375	b a
-0.1	b </s>

\3-grams:
-0.2	<s> a b
-0.3	a b </s>

\end\
"""


def assert_same(one: NgramTrie, other: NgramTrie) -> None:
    assert one.level_sizes == other.level_sizes
    for name in ("keys", "log_probs", "back_offs", "after", "fallback"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def written(tmp_path: Path, text: str | bytes, name: str = "model.arpa") -> Path:
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path / name


def log10(model: NgramLanguageModel, sentence: str) -> list[float]:
    """Of each word and of the end."""
    state, scores = torch.tensor([model.begin()]), []
    for word in sentence.split():
        score, following = model.score(state, model.word_ids([word]))
        scores.append(float(score) / LN_10)
        state = following
    return [*scores, float(model.end(state)) / LN_10]


def test_known_probabilities(tmp_path: Path) -> None:
    model = NgramLanguageModel.from_arpa(written(tmp_path, SMALL))
    assert model.order == 3
    assert model.vocabulary == ["<unk>", "<s>", "</s>", "a", "b"]
    assert log10(model, "a b") == pytest.approx([-0.25, -0.2, -0.3])
    assert log10(model, "b a z") == pytest.approx([-0.30103 - 0.625, -0.4375, -0.25 - 1.5, -0.75])


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7).map(" ".join))
@settings(max_examples=30, deadline=None)
def test_any_sentence_scores_as_the_definition_says(sentence: str) -> None:
    path, model, slow = _trained()
    words = ("<s>", *sentence.split(), "</s>")
    words = tuple(word if word in model.vocabulary else "<unk>" for word in words)
    expected = [slow.log_prob(words[:i], words[i]) for i in range(1, len(words))]
    assert log10(model, sentence) == pytest.approx(expected, abs=1e-5)


_CACHE: list[tuple[Path, NgramLanguageModel, BackOffModel]] = []


def _trained() -> tuple[Path, NgramLanguageModel, BackOffModel]:
    import tempfile

    if not _CACHE:
        texts = [text.replace("w", "") for text in zipf_sentences(80, 5, seed=1)]
        texts = [" ".join("abcde"[int(word)] for word in text.split()) for text in texts]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "trained.arpa")
            NgramLanguageModel.train(texts, order=4, prune=(0, 0, 1, 2)).to_arpa(path)
            _CACHE.append((path, NgramLanguageModel.from_arpa(path), BackOffModel(path)))
    return _CACHE[0]


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    texts = [*zipf_sentences(200, 60, seed=2), "naïve \u3042\u3044 \u0e01\u0e33 a\u0301 😀 <unk>"]
    model = NgramLanguageModel.train(texts, order=5, prune=(0, 0, 1))
    model.to_arpa(tmp_path / name)
    again = NgramLanguageModel.from_arpa(tmp_path / name)
    assert again.vocabulary == model.vocabulary
    assert_same(again.trie, model.trie)
    again.to_arpa(tmp_path / f"again-{name}")
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")


def test_any_float_survives_the_text(tmp_path: Path) -> None:
    """Numbers of every size, the smallest and the negative zero among them."""
    bits = np.random.default_rng(0).integers(0, 255 << 23, 3000, dtype=np.uint32)
    bits = np.append(bits, np.array([0, 1, (255 << 23) - 1], np.uint32))
    numbers = -bits.view(np.float32)
    lines = "".join(f"{number!s}\tw{i}\n" for i, number in enumerate(numbers))
    text = f"\\data\\\nngram 1={len(numbers) + 3}\n\n\\1-grams:\n-1 <s>\n-1 </s>\n-9 <unk>\n{lines}\n\\end\\\n"
    model = NgramLanguageModel.from_arpa(written(tmp_path, text))
    assert np.array_equal(model.trie.log_probs[4:].numpy(), numbers)
    model.to_arpa(tmp_path / "again.arpa")
    assert_same(NgramLanguageModel.from_arpa(tmp_path / "again.arpa").trie, model.trie)


def test_an_ngram_without_its_beginning_means_what_it_says(tmp_path: Path) -> None:
    """Some tools prune `a b` and keep `a b </s>`."""
    text = SMALL.replace("-0.375\ta b\t-0.5\n", "").replace("ngram 2=4", "ngram 2=3")
    path = written(tmp_path, text)
    model, slow = NgramLanguageModel.from_arpa(path), BackOffModel(path)
    for sentence in ("a b", "b a b", "b b a b a"):
        words = ("<s>", *sentence.split(), "</s>")
        expected = [slow.log_prob(words[:i], words[i]) for i in range(1, len(words))]
        assert log10(model, sentence) == pytest.approx(expected, abs=1e-6)


def test_unknown_words_have_a_place_even_where_the_file_gives_none(tmp_path: Path) -> None:
    text = SMALL.replace("-1.5\t<unk>\n", "").replace("ngram 1=5", "ngram 1=4")
    model = NgramLanguageModel.from_arpa(written(tmp_path, text))
    assert model.vocabulary[model.unknown_id] == "<unk>"
    assert log10(model, "z")[0] == pytest.approx(-0.30103 - 100, abs=1e-4)
    capital = NgramLanguageModel.from_arpa(written(tmp_path, SMALL.replace("<unk>", "<UNK>")))
    assert log10(capital, "z")[0] == pytest.approx(-0.30103 - 1.5)


def test_minus_infinity_is_the_formats_log_zero(tmp_path: Path) -> None:
    model = NgramLanguageModel.from_arpa(written(tmp_path, SMALL.replace("-0.4375", "-inf")))
    assert log10(model, "b a")[1] == pytest.approx(-99)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"expected \\data\\"),
        ("ngram 2=4", "ngram 2=5", "header says 5 2-grams, there are 4"),
        ("ngram 2=4", "ngram 4=4", "expected `ngram 2=COUNT`"),
        ("ngram 3=2", "ngram 3=2\nngram 4=99999999999999", r"expected \\4-grams"),
        ("\\end\\", "", "not whole"),
        ("\\3-grams:", "\\4-grams:", r"expected \\3-grams"),
        ("<s> a b", "<s> a z", "'z' is not among the 1-grams"),
        ("-0.2\t", "nothing\t", "not a number"),
        ("-0.2\t", "nan\t", "not finite"),
        ("-0.2\t", "0.2\t", "positive"),
        ("-0.3\ta b </s>", "-0.3\ta b", "a line has 3 fields"),
        ("-0.3\ta b </s>", "-0.3\ta b </s> -1", "a line has 5 fields"),
        ("-0.4375\tb a", "-0.4375\ta b", "listed twice"),
        ("-0.625\tb\t", "-0.625\ta\t", "'a' is listed twice"),
        ("</s>", "</x>", "</s> is not among the 1-grams"),
        ("-0.625\tb", "-0.625\t" + "b" * 1_100_000, "not among|longer"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(LanguageModelError, match=message) as caught:
        NgramLanguageModel.from_arpa(written(tmp_path, SMALL.replace(old, new)))
    assert "model.arpa" in str(caught.value)


def test_a_gzip_bomb_and_a_broken_gzip_file_are_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(SMALL.replace("\\2-grams:", "\n" * 60_000_000 + "\\2-grams:").encode(), compresslevel=1)
    with pytest.raises(LanguageModelError, match="unpacks to more than"):
        NgramLanguageModel.from_arpa(written(tmp_path, bomb))
    packed = gzip.compress(SMALL.encode())
    for broken in (packed[:-20], packed[:12], b"\x1f\x8b", packed[:40] + b"\0" * 40):
        with pytest.raises(LanguageModelError, match=r"model\.arpa"):
            NgramLanguageModel.from_arpa(written(tmp_path, broken))


@given(st.binary(max_size=300))
@example(b"")
@example(b"\\data\\\n\\1-grams:\n\\end\\")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    for data in (content, gzip.compress(content)):
        with pytest.raises(LanguageModelError):
            NgramLanguageModel.from_file(written(tmp_path, data))


@given(
    st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 6), st.binary(max_size=6)), max_size=5),
    st.booleans(),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_gives_a_model_or_an_error_of_ours(
    tmp_path: Path, edits: list[tuple[int, int, bytes]], packed: bool
) -> None:
    content = bytearray(SMALL.encode())
    for start, removed, inserted in edits:
        content[start : start + removed] = inserted
    data = gzip.compress(bytes(content)) if packed else bytes(content)
    try:
        model = NgramLanguageModel.from_file(written(tmp_path, data))
    except LanguageModelError:
        return
    assert_usable(model)


def test_kenlm_gives_the_same_scores(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed")
    texts = zipf_sentences(400, 120, seed=3)
    for order, prune in ((1, (0,)), (2, (0,)), (3, (0, 0, 1)), (5, (0,))):
        path = tmp_path / f"{order}.arpa"
        model = NgramLanguageModel.train(texts, order=order, prune=prune)
        model.to_arpa(path)
        if order == 1:
            continue  # KenLM reads no unigram models
        oracle = kenlm.Model(str(path))
        for sentence in [*zipf_sentences(50, 150, seed=4), "zzz", "w1 zzz w2 w3 zzz"]:
            expected = [score for score, _, _ in oracle.full_scores(sentence)]
            assert log10(model, sentence) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_250_000_ngrams_are_read_from_text_in_seconds(tmp_path: Path) -> None:
    model = NgramLanguageModel.train(zipf_sentences(40_000, 5000, seed=5), order=3, prune=(0,))
    assert sum(model.trie.level_sizes) > 250_000
    model.to_arpa(tmp_path / "large.arpa")
    start = time.process_time()
    NgramLanguageModel.from_arpa(tmp_path / "large.arpa")
    assert time.process_time() - start < 6  # 0.8 s on an idle machine
