"""Streams by beam search: the carried beam is the whole search, and what it hands out is final."""

from typing import Any

import pytest
import torch
from recognition_checkpoints import RATE, TOKENS, noise, processor, talkative_model
from torch import Tensor

from wav2vec2 import CTCDecoder, EndpointRules, NgramLanguageModel, StreamingRecogniser, Transcriber, Transcript
from wav2vec2.decoding.ongoing_search import OngoingSearch
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.beam_text import BeamText
from wav2vec2.inference.streaming.words_in_stream import Writing

WORDS = ["ab", "abba", "bad", "cab", "dad", "fade", "gab", "had", "bag", "a"]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> NgramLanguageModel:
    grams = "".join(f"-1.{number}\t{word}\t-0.2\n" for number, word in enumerate(WORDS))
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    header = f"ngram 1={len(WORDS) + 3}\nngram 2=3\n\n\\1-grams:\n-1.5\t<unk>\n-99\t<s>\t-0.3\n-1.1\t</s>\n"
    path.write_text(
        f"\\data\\\n{header}{grams}\n\\2-grams:\n-0.2\t<s> bad\n-0.1\tbad cab\n-0.3\tcab </s>\n\n\\end\\\n",
        encoding="utf-8",
    )
    return NgramLanguageModel.from_file(path)


def decoder(language_model: NgramLanguageModel | None = None, **options: Any) -> CTCDecoder:
    return CTCDecoder(TOKENS, **({"beam": 30, "language_model": language_model} | options))


def random_frames(frames: int, seed: int) -> Tensor:
    """Log-probabilities (T, V) of which many frames are hardly anything but blank."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(frames, len(TOKENS), generator=generator)
    logits[:, 0] += 15.0 * (torch.rand(frames, generator=generator) < 0.5)
    logits[:, 2] += 2.0
    return logits.log_softmax(-1)


@pytest.mark.parametrize("options", [{}, {"hotwords": {"bad cab": 4.0}}, {"lexicon": WORDS}, {"word_delimiter": None}])
@pytest.mark.parametrize("with_model", [True, False])
def test_a_search_in_pieces_finds_what_the_search_of_the_whole_finds(
    options: Any, with_model: bool, language_model: NgramLanguageModel
) -> None:
    has_words = options.get("word_delimiter", "|") is not None  # without words a word model has no say
    searches = decoder(language_model if with_model and has_words else None, **options)
    for seed in range(4):
        log_probs = random_frames(60, seed)
        whole, _ = searches.search(log_probs[None], torch.tensor([60]))
        ongoing = OngoingSearch(searches)
        for piece in log_probs.split([7, 1, 0, 20, 13, 19]):
            ongoing = ongoing.extended(piece)
        found = ongoing.found()
        size = len(TOKENS)
        for place in (whole.score[0, :5] > -torch.inf).nonzero().view(-1).tolist():
            ours, theirs = ([one for one in f.tokens[0, place].tolist() if one != size] for f in (found, whole))
            assert ours == theirs
        gaps = [f.score[0, :5] - f.score[0, 0] for f in (found, whole)]  # what is never, is never in both
        torch.testing.assert_close(*gaps, atol=1e-3, rtol=1e-4)


def words_of(live: StreamingRecogniser, samples: Any, size: int, **options: Any) -> list[Word]:
    stream = live.open(**options)
    found = [
        word for place in range(0, len(samples), size) for word in stream.feed(samples[place : place + size]).final
    ]
    return [*found, *stream.finish().final]


def test_with_latency_as_long_as_the_clip_it_is_the_offline_beam_search(language_model: NgramLanguageModel) -> None:
    model, samples, searches = talkative_model(), noise(5.0), decoder(language_model)
    expected = Transcriber(model, processor(), searches).transcribe((samples, RATE))
    assert isinstance(expected, Transcript)
    live = StreamingRecogniser(model, processor(), searches, latency=6.0, left_context=None, endpoint=None)
    found = words_of(live, samples, 1600)
    assert [word.text for word in found] == [word.text for word in expected.words]
    for ours, theirs in zip(found, expected.words, strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=1e-9)
    assert [word.confidence for word in found] == pytest.approx([word.confidence for word in expected.words], abs=1e-3)


@pytest.mark.parametrize("architecture", ["large_lv60k", "base"])
def test_packets_leave_no_trace_and_times_are_in_order(architecture: str, language_model: NgramLanguageModel) -> None:
    model, samples = talkative_model(architecture), noise(6.0, seed=3)
    live = StreamingRecogniser(model, processor(), decoder(language_model), latency=0.96, endpoint=None)
    expected = words_of(live, samples, len(samples))
    assert words_of(live, samples, 320) == expected
    assert len(expected) > 5
    clock = 0.0
    for word in expected:
        assert clock <= word.start <= word.end <= 6.0
        clock = word.end


def test_words_are_handed_out_while_the_stream_goes_on_and_the_text_is_near_the_offline_one(
    language_model: NgramLanguageModel,
) -> None:
    model, samples, searches = talkative_model(), noise(12.0, seed=4), decoder(language_model)
    live = StreamingRecogniser(model, processor(), searches, latency=1.92, endpoint=None)
    stream = live.open()
    early = stream.feed(samples)
    late = stream.finish()
    assert early.final[-1].end > 8.0
    assert early.partial
    assert late.final
    offline = Transcriber(model, processor(), searches).transcribe((samples, RATE))
    assert isinstance(offline, Transcript)
    ours, theirs = [word.text for word in (*early.final, *late.final)], [word.text for word in offline.words]
    assert len(set(ours) & set(theirs)) > 0.8 * len(set(theirs))


def test_hotwords_of_one_stream_are_not_those_of_another() -> None:
    model, samples = talkative_model(), noise(5.0, seed=5)
    live = StreamingRecogniser(model, processor(), latency=1.0, endpoint=None)
    plain = [word.text for word in words_of(live, samples, 1600)]
    favoured = [word.text for word in words_of(live, samples, 1600, hotwords={"Ab": 30.0})]  # in the model's case
    assert favoured.count("ab") > plain.count("ab")
    assert [word.text for word in words_of(live, samples, 1600)] == plain


def test_what_is_kept_of_a_text_does_not_grow_with_its_time() -> None:
    """Frames of blanks, and words that were handed out, leave nothing behind."""
    search = OngoingSearch(decoder())
    blank = torch.full((50, len(TOKENS)), -20.0)
    blank[:, 0] = 0.0
    for _ in range(20):
        search = search.extended(blank.log_softmax(-1))
    assert search.open.shape == (0, 1, 30)
    for seed in range(10):
        search = search.extended(random_frames(40, seed))
        tokens = [token for token in search.found().tokens[0, 0].tolist() if token != len(TOKENS)]
        search.settle(tokens[: len(tokens) // 2])
    assert len(search.open) < 200


def test_silence_ends_an_utterance_once(language_model: NgramLanguageModel) -> None:
    """Silence after speech ends an utterance once, however long it is."""
    model, rules = talkative_model("base"), EndpointRules(silence_after_text=0.4, blank_share=1.0, quiet=-60.0)
    speech, silence = noise(2.0, seed=6), 0.0 * noise(1.0)
    live = StreamingRecogniser(model, processor(), decoder(language_model), latency=0.5, endpoint=rules)
    stream = live.open()
    updates = [stream.feed(part) for part in (speech, silence, speech, silence)]
    ends = [end for update in (*updates, stream.finish()) for end in update.ends]
    assert [round(end, 1) for end in ends] == [2.4, 5.4]


def spoken(frames: list[dict[str, float]]) -> Tensor:
    """Log-probabilities of frames with these probabilities; the blank has most of the rest."""
    rows = torch.full((len(frames), len(TOKENS)), 1e-3)
    for row, probabilities in zip(rows, frames, strict=True):
        row[0] = 1 - sum(probabilities.values()) - 1e-3 * (len(TOKENS) - 1 - len(probabilities))
        for token, probability in probabilities.items():
            row[TOKENS.index(token)] = probability
    return rows.log()


def test_a_word_that_goes_on_beyond_the_final_frames_is_not_over() -> None:
    """Though the beam has its end, from a frame in which that was improbable. What was left of the word would be taken
    for the beginning of the next one: times and confidences would not be those of the whole."""
    said = [{"a": 0.97}, {"b": 0.97}, {"b": 0.9, "|": 0.05}, {"b": 0.96, "|": 0.01}, {"|": 0.97}]
    log_probs = spoken([*said, {"b": 0.8, "|": 0.1}, {"a": 0.97}, {"d": 0.97}, {"|": 0.97}, {"|": 0.97}])
    searches = decoder()
    expected = searches.decode(log_probs[None])[0][0].words
    text = BeamText(searches, Writing())
    found = [*text.add(log_probs[:3], log_probs[3:8]), *text.add(log_probs[3:], log_probs[:0]), *text.close()]
    assert [word.text for word in found] == [word.text for word in expected] == ["ab", "bad"]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=1e-9)
        assert ours.evidence[:3] == pytest.approx(theirs.evidence[:3], abs=1e-5)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=0.02)
