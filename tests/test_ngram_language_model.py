"""The interface that the decoders use, and the compact file behind it."""

import math
import struct
import time
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ngram_models import BackOffModel, assert_usable, zipf_sentences

from wav2vec2.language_models.ngram_language_model import LN_10, NgramLanguageModel
from wav2vec2.language_models.ngram_trie import LanguageModelError


@pytest.fixture(scope="module")
def model() -> NgramLanguageModel:
    return NgramLanguageModel.train(zipf_sentences(200, 50, seed=1), order=4, prune=(0, 0, 1))


def test_words_have_ids_and_unknown_ones_share_one(model: NgramLanguageModel) -> None:
    assert model.word_ids(model.vocabulary).tolist() == list(range(len(model.vocabulary)))
    assert model.word_ids(["zzz", "w1"]).tolist() == [model.unknown_id, model.vocabulary.index("w1")]
    assert model.word_ids([]).dtype == torch.int64
    assert {"<unk>", "<s>", "</s>"} <= set(model.vocabulary)


def test_a_batch_is_its_items_and_long_histories_need_no_more_than_their_end(
    model: NgramLanguageModel, tmp_path: Path
) -> None:
    model.to_arpa(tmp_path / "model.arpa")
    slow = BackOffModel(tmp_path / "model.arpa")
    histories = [("<s>", *text.split()[:9]) for text in zipf_sentences(200, 60, seed=2)]
    histories = [tuple(w if w in model.vocabulary else "<unk>" for w in history) for history in histories]
    states = torch.full((len(histories),), model.begin())
    for position in range(1, 10):
        alive = [i for i, history in enumerate(histories) if len(history) > position]
        if not alive:
            break
        words = model.word_ids([histories[i][position] for i in alive])
        scores, states[alive] = model.score(states[alive], words)
        expected = [slow.log_prob(histories[i][:position], histories[i][position]) * LN_10 for i in alive]
        assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    expected = [slow.log_prob(history, "</s>") * LN_10 for history in histories]
    assert model.end(states).tolist() == pytest.approx(expected, abs=1e-5)


def test_states_that_say_the_same_are_the_same(model: NgramLanguageModel) -> None:
    """A context that starts no n-gram is replaced by its ending, so that hypotheses merge."""
    trie = model.trie
    starts = set((trie.keys[1:] // trie.vocabulary_size).tolist())
    reached = set(trie.after.tolist())
    assert len(reached) > 1
    assert all(state in starts or trie.back_offs[state] != 0 for state in reached - {0})
    unknown = torch.tensor([model.unknown_id])
    for state in reached:
        assert model.score(torch.tensor([state]), unknown)[1].tolist() == [0]


def test_perplexity_is_the_mean_over_words_and_ends(model: NgramLanguageModel) -> None:
    texts = [*zipf_sentences(30, 60, seed=3), "", "zzz"]
    total, count = 0.0, 0
    for text in texts:
        state = torch.tensor([model.begin()])
        for word in text.split():
            score, state = model.score(state, model.word_ids([word]))
            total, count = total + float(score), count + 1
        total, count = total + float(model.end(state)), count + 1
    assert model.perplexity(iter(texts)) == pytest.approx(math.exp(-total / count), rel=1e-5)
    with pytest.raises(ValueError, match="no text"):
        model.perplexity([])


def test_another_device_gives_the_same(model: NgramLanguageModel) -> None:
    assert model.to("cpu").device.type == "cpu"
    if not torch.cuda.is_available():
        pytest.skip("no accelerator to compare with")
    states, words = torch.arange(40), torch.arange(40) + 3
    scores, following = model.to("cuda").score(states.cuda(), words.cuda())
    expected = model.score(states, words)
    torch.testing.assert_close(scores.cpu(), expected[0])
    assert torch.equal(following.cpu(), expected[1])


def test_the_compact_file_holds_the_same_model(model: NgramLanguageModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model.ngrams")
    for again in (
        NgramLanguageModel.load(tmp_path / "model.ngrams"),
        NgramLanguageModel.from_file(tmp_path / "model.ngrams"),
    ):
        assert again.vocabulary == model.vocabulary
        for name in ("keys", "log_probs", "back_offs", "after", "fallback"):
            assert torch.equal(getattr(again.trie, name), getattr(model.trie, name))
    assert [path.name for path in tmp_path.iterdir()] == ["model.ngrams"]


def test_a_loaded_model_never_changes_its_file(model: NgramLanguageModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model.ngrams")
    before = (tmp_path / "model.ngrams").read_bytes()
    NgramLanguageModel.load(tmp_path / "model.ngrams").trie.log_probs.fill_(-1.0)
    assert (tmp_path / "model.ngrams").read_bytes() == before


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "model.ngrams").write_bytes(b"old")
    with pytest.raises(LanguageModelError):
        NgramLanguageModel.train(["<s>"], path=tmp_path / "model.ngrams")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.ngrams", b"old")]


@pytest.mark.slow
def test_250_000_ngrams_load_in_under_a_second(tmp_path: Path) -> None:
    texts = zipf_sentences(40_000, 5000, seed=5)
    large = NgramLanguageModel.train(texts, order=3, prune=(0,), path=tmp_path / "large.ngrams")
    assert sum(large.trie.level_sizes) > 250_000
    start = time.process_time()
    NgramLanguageModel.load(tmp_path / "large.ngrams")
    assert time.process_time() - start < 1


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), max_size=4),
    st.one_of(st.none(), st.integers(0, 2**20)),
    st.booleans(),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_compact_file_gives_a_model_or_an_error_of_ours(
    tmp_path: Path, edits: list[tuple[int, bytes]], cut: int | None, checksum_forged: bool
) -> None:
    path = tmp_path / "model.ngrams"
    NgramLanguageModel.train(["a b a", "b a c a"], order=2, prune=(0,), path=path)
    content = bytearray(path.read_bytes())
    for place, inserted in edits:
        start = place % len(content) if place % 3 else place % 64  # a third of them hit the header
        content[start : start + len(inserted)] = inserted
    if cut is not None:
        content = content[: cut % len(content)]
    if checksum_forged and len(content) > 56:
        struct.pack_into("<I", content, 32, zlib.crc32(content[56:]))
    path.write_bytes(content)
    try:
        damaged = NgramLanguageModel.load(path)
    except LanguageModelError as error:
        assert "model.ngrams" in str(error)
        return
    assert_usable(damaged)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_as_a_compact_file(tmp_path: Path, content: bytes) -> None:
    for data in (content, b"W2VNGRAM" + content, b"W2VNGRAM\1\0\0\0" + content):
        (tmp_path / "any").write_bytes(data)
        with pytest.raises(LanguageModelError):
            NgramLanguageModel.load(tmp_path / "any")


def test_a_header_that_promises_too_much_is_refused(model: NgramLanguageModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model.ngrams")
    content = bytearray((tmp_path / "model.ngrams").read_bytes())
    struct.pack_into("<Q", content, 40, 2**60)
    (tmp_path / "model.ngrams").write_bytes(content)
    with pytest.raises(LanguageModelError, match="the header says"):
        NgramLanguageModel.load(tmp_path / "model.ngrams")
    with pytest.raises(FileNotFoundError):
        NgramLanguageModel.load(tmp_path / "absent")
