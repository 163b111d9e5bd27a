"""The feature extractor: stock's files and numbers where stock is right, a word where stock is silent."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_models import small_config
from transformers import AutoFeatureExtractor

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.processing import feature_extractor
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor

RATE: dict[str, Any] = {"sampling_rate": 16000}


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was not warned yet."""
    monkeypatch.setattr(feature_extractor, "_SAID", set())


def clips(lengths: list[int], seed: int = 0) -> list[NDArray[np.float32]]:
    """Noise of these lengths, each with an offset and a loudness of its own."""
    generator = np.random.default_rng(seed)
    return [
        (generator.normal() + generator.uniform(0.01, 3) * generator.normal(size=length)).astype(np.float32)
        for length in lengths
    ]


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=5),
    padding=st.sampled_from([False, True, "longest", "max_length", "do_not_pad"]),
    max_length=st.none() | st.integers(1, 800),
    truncation=st.booleans(),
    multiple=st.none() | st.integers(1, 130),
    normalize=st.booleans(),
    padding_value=st.sampled_from([0.0, -1.5]),
    tensors=st.sampled_from([None, "np", "pt"]),
    seed=st.integers(0, 1000),
)
def test_stocks_numbers(
    lengths: list[int],
    padding: Any,
    max_length: int | None,
    truncation: bool,
    multiple: int | None,
    normalize: bool,
    padding_value: float,
    tensors: str | None,
    seed: int,
) -> None:
    """Over every option, to the last bit; refused is what makes no tensor or lacks a length."""
    arguments: dict[str, Any] = {"do_normalize": normalize, "padding_value": padding_value}
    ours = Wav2Vec2FeatureExtractor(**arguments)
    stock = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True, **arguments)
    options = RATE | {
        "padding": padding, "max_length": max_length, "truncation": truncation,
        "pad_to_multiple_of": multiple, "return_tensors": tensors,
    }  # fmt: skip
    batch = clips(lengths, seed)
    try:
        found = ours(batch, **options)
    except ValueError as error:
        ragged = tensors is not None and padding in (False, "do_not_pad") and "pass padding=True" in str(error)
        beyond = max_length is not None and not truncation and max(lengths) > max_length and tensors == "pt"
        assert ragged or (beyond and "pass padding=True" in str(error)) or "max_length" in str(error)
        return
    try:
        expected = stock(batch, **options)
    except ValueError:  # clips longer than max_length stay as they are, which stock's mask cannot say
        assert padding == "max_length" and max_length is not None and max_length < max(lengths) and not truncation
        padded = max_length if multiple is None else -(-max_length // multiple) * multiple
        assert [len(row) for row in found["input_values"]] == [max(length, padded) for length in lengths]
        assert [sum(mask) for mask in found["attention_mask"]] == lengths
        return
    assert list(found) == list(expected)
    for name in expected:
        ragged = len({len(row) for row in found[name]}) > 1  # a list here, an array of objects in stock
        assert tensors is None or ragged or type(found[name]) is type(expected[name])
        for own, other in zip(found[name], expected[name], strict=True):
            assert own.dtype == other.dtype and own.shape == other.shape
            np.testing.assert_array_equal(np.asarray(own), np.asarray(other))


@pytest.mark.parametrize("side", ["right", "left"])
def test_statistics_never_see_padding(side: str) -> None:
    """Zero mean and unit variance over the clip itself, alone or in a batch, on whichever side the padding is."""
    extractor = Wav2Vec2FeatureExtractor(padding_side=side, padding_value=7.0)
    batch = clips([400, 150, 900])
    found = extractor(batch, padding=True, return_tensors="np", **RATE)
    for row, mask, clip in zip(found["input_values"], found["attention_mask"], batch, strict=True):
        assert mask.sum() == len(clip)
        np.testing.assert_array_equal(row[mask == 1], extractor(clip, **RATE)["input_values"][0])
        assert abs(row[mask == 1].mean()) < 1e-5 and abs(row[mask == 1].var() - 1) < 1e-4
        assert (row[mask == 0] == 7.0).all()


def test_every_way_of_giving_a_clip() -> None:
    """Arrays, tensors, lists and numbers of any float type: float32 comes out; integers are scaled to [-1, 1)."""
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    wave = (np.round(np.sin(np.arange(1000) / 9) * 2**14) / 2**15).astype(np.float32)
    forms: list[Any] = [
        wave, wave.astype(np.float64), wave.tolist(), tuple(wave.tolist()), torch.tensor(wave), [torch.tensor(wave)],
        torch.tensor(wave, requires_grad=True), [wave], [wave.tolist()], wave[None].tolist(),
        (wave * 2**15).astype(np.int16), (wave.astype(np.float64) * 2**31).astype(np.int32),
        torch.tensor(wave * 2**15).to(torch.int16), np.repeat(wave, 2)[::2],
    ]  # fmt: skip
    for form in forms:
        (values,) = extractor(form, **RATE)["input_values"]
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, wave)
    half = extractor(torch.tensor(wave).bfloat16(), **RATE)["input_values"][0]
    np.testing.assert_allclose(half, wave, rtol=2**-7)
    loud = extractor(np.array([-32768, 32767], np.int16), **RATE)["input_values"][0]
    assert loud.min() == -1.0 and loud.max() == 32767 / 32768


def test_rows_of_an_array_are_clips_unless_they_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    """As in stock; but (1000, 2) is one recording in stereo, not 1000 clips: no model hears anything in two samples."""
    extractor = Wav2Vec2FeatureExtractor()
    stereo = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    for form in (stereo, torch.tensor(stereo), stereo.tolist(), list(stereo), stereo[:, :1].tolist()):
        with pytest.raises(ValueError, match=r"1000 clips of \d samples each look like one recording .*mix them first"):
            extractor(form, **RATE)
    for wrong in ([stereo, stereo], [stereo.T]):
        with pytest.raises(ValueError, match=r"has shape .*: one channel has shape \(samples,\)"):
            extractor(wrong, **RATE)
    with pytest.raises(ValueError, match="one channel"):
        extractor(np.zeros((2, 3, 4)), **RATE)
    assert len(extractor(stereo.tolist(), batched=True, **RATE)["input_values"]) == 1000
    rows = np.random.default_rng(0).normal(size=(20, 500))
    stock = transformers.Wav2Vec2FeatureExtractor()
    for form in (rows, torch.tensor(rows), rows[:1], torch.tensor(rows[:1])):
        found = extractor(form, return_tensors="np", **RATE)["input_values"]
        expected = stock(np.asarray(form), return_tensors="np", **RATE)["input_values"]
        np.testing.assert_array_equal(found, expected)
    assert not caplog.messages
    for options in ({"batched": True}, {}, {}):
        found = extractor(rows[:2], return_tensors="np", **RATE, **options)["input_values"]
        np.testing.assert_array_equal(found, extractor(list(rows[:2]), return_tensors="np", **RATE)["input_values"])
    assert caplog.messages == [
        "an array of shape (2, 500) is taken for 2 clips; if these are channels, mix them first: array.mean(0)"
    ]


def test_a_missing_rate_is_said_once_and_a_wrong_one_refused(caplog: pytest.LogCaptureFixture) -> None:
    """As in stock, which says it at every call."""
    extractor = Wav2Vec2FeatureExtractor()
    clip = clips([1000])[0]
    for _ in range(2):
        found = extractor(clip, return_tensors="np")["input_values"]
        np.testing.assert_array_equal(found, extractor(clip, return_tensors="np", **RATE)["input_values"])
    assert caplog.messages == [
        "sampling_rate is missing: samples are taken to be at 16000 Hz; what is at another rate is misheard"
    ]
    with pytest.raises(ValueError, match=r"at 8000 Hz.*resample\(array, 8000, 16000\)"):
        extractor(np.zeros(1000), sampling_rate=8000)
    assert Wav2Vec2FeatureExtractor(sampling_rate=8000)(np.zeros(1000), sampling_rate=8000)


def test_clips_of_several_lengths_stay_a_list_without_padding() -> None:
    """For NumPy; a tensor of them there is not, here or in stock."""
    extractor, stock = Wav2Vec2FeatureExtractor(), transformers.Wav2Vec2FeatureExtractor()
    batch = clips([500, 900])
    found, expected = (one(batch, return_tensors="np", **RATE)["input_values"] for one in (extractor, stock))
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, other)
    with pytest.raises(ValueError, match="clips of 500 to 900 samples do not form one tensor: pass padding=True"):
        extractor(batch, return_tensors="pt", **RATE)


def test_integers_of_any_scale_will_do_where_it_is_divided_out() -> None:
    """A list of 16 bit samples is int64; their scale matters only without normalisation."""
    samples = np.random.default_rng(0).integers(0, 255, 500)
    stocks = transformers.Wav2Vec2FeatureExtractor()(samples.astype(np.float32), **RATE)["input_values"][0]
    for form in (samples, samples.tolist(), samples.astype(np.uint8), torch.tensor(samples)):
        found = Wav2Vec2FeatureExtractor()(form, **RATE)["input_values"][0]
        np.testing.assert_allclose(found, stocks, atol=1e-5)
        with pytest.raises(ValueError, match="samples are floats in"):
            Wav2Vec2FeatureExtractor(do_normalize=False)(form, **RATE)


def test_options_that_it_does_not_have_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """Stock passes over them without a word."""
    extractor = Wav2Vec2FeatureExtractor()
    found = extractor(np.ones(500), do_normalize=False, device="cpu", **RATE)["input_values"][0]
    assert abs(found).max() < 1e-6, "as in stock, only the constructor decides"
    assert caplog.messages == ["the feature extractor has no option do_normalize, device"]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ([np.zeros(9), np.array([0.0, 1.0, np.nan, 1.0])], "clip 1 of 2 holds nan at sample 2"),
        (np.array([0.0, np.inf]), "the audio holds inf at sample 1"),
        (np.array([0.0, -1e300]), "the audio holds -inf at sample 1"),
        ([np.ones(5), np.array([1e30, -1e30])], r"clip 1 of 2 holds samples up to 1e\+30"),
        (np.zeros(9, dtype=bool), "bool"),
        (np.zeros(9, dtype=np.complex64), "complex64"),
        ([np.zeros(9), "a.wav"], "clip 1 of 2 is str, not samples: read files with load_audio"),
        ("a.wav", "read files with load_audio"),
        (b"RIFF", "read files with load_audio"),
        (None, "NoneType"),
        ([None], "list"),
        ([[0.0, [1.0]]], "different shapes"),
        ([], "no clip was given"),
        (np.float32(1.0), "one channel"),
    ],
)
def test_what_is_no_audio(audio: Any, message: str) -> None:
    """Named: which clip, and what is wrong with it."""
    with pytest.raises(ValueError, match=message):
        Wav2Vec2FeatureExtractor()(audio, **RATE)


@pytest.mark.parametrize("arguments", [{"feature_size": 80}, {"padding_side": "both"}])
def test_settings_that_are_none(arguments: dict[str, Any]) -> None:
    """Refused when the extractor is made."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Wav2Vec2FeatureExtractor(**arguments)


def test_clips_of_every_short_length_reach_the_model() -> None:
    """0 to 800 samples, alone and together: no error, no NaN, and silence stays silence."""
    extractor = Wav2Vec2FeatureExtractor()
    model = Wav2Vec2ForCTC(small_config(num_hidden_layers=1)).eval()
    short = clips([0, 1, 2, 399, 400, 401, 800])
    with torch.inference_mode():
        for batch in [short, *([clip] for clip in short)]:
            made = extractor(batch, padding=True, return_tensors="pt", **RATE)
            assert made["input_values"].isfinite().all()
            assert made["attention_mask"].sum() == sum(len(clip) for clip in batch)
            assert model(**made).logits.isfinite().all()
    assert not extractor(np.zeros(500), return_tensors="np", **RATE)["input_values"].any()


def test_the_mask_is_always_returned() -> None:
    """Whatever a file says; only an explicit False leaves it out of one answer. The same for `pad`."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    made = extractor(clips([10, 20]), padding=True, **RATE)
    assert [mask.tolist() for mask in made["attention_mask"]] == [[1] * 10 + [0] * 10, [1] * 20]
    assert "attention_mask" not in extractor(np.ones(10), return_attention_mask=False, **RATE)
    features = [{"input_values": clip} for clip in clips([10, 20])]
    padded = extractor.pad(features, padding=True, return_tensors="pt")
    assert padded["attention_mask"].tolist() == [[1] * 10 + [0] * 10, [1] * 20]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_files_go_both_ways(normalize: bool, mask: bool, tmp_path: Path) -> None:
    """Stock reads ours, we read stock's, and the file keeps every value."""
    settings_of_both: dict[str, Any] = {
        "do_normalize": normalize, "return_attention_mask": mask, "sampling_rate": 8000, "padding_value": 0.5,
    }  # fmt: skip
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    Wav2Vec2FeatureExtractor(**settings_of_both).save_pretrained(ours)
    transformers.Wav2Vec2FeatureExtractor(**settings_of_both).save_pretrained(stock)
    written = [json.loads((folder / "preprocessor_config.json").read_text()) for folder in (ours, stock)]
    assert written[0] == written[1]
    read = Wav2Vec2FeatureExtractor.from_pretrained(stock)
    assert type(read) is Wav2Vec2FeatureExtractor
    assert type(AutoFeatureExtractor.from_pretrained(ours)) is transformers.Wav2Vec2FeatureExtractor
    for name, value in settings_of_both.items():
        assert getattr(read, name) == value
        assert getattr(transformers.Wav2Vec2FeatureExtractor.from_pretrained(ours), name) == value


def test_stocks_processor_and_pipeline_take_it(tmp_path: Path) -> None:
    """As the feature extractor of stock's processor, and of the speech recognition pipeline, whole and in chunks."""
    vocabulary = ["<pad>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(tmp_path / "vocab.json", bos_token=None, eos_token=None)
    ours, stock = Wav2Vec2FeatureExtractor(), transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    processor = transformers.Wav2Vec2Processor(ours, tokenizer)
    made = processor(clips([500, 900]), padding=True, return_tensors="pt", **RATE)
    assert made["attention_mask"].sum(-1).tolist() == [500, 900]
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(vocab_size=30, num_hidden_layers=1)).eval()
    torch.nn.init.normal_(model.lm_head.weight)
    texts = []
    for extractor in (ours, stock):
        recognise = transformers.pipeline(
            "automatic-speech-recognition", model=model, tokenizer=tokenizer, feature_extractor=extractor
        )
        audio = clips([40_000], seed=3)[0]
        texts.append([recognise(audio)["text"], recognise(audio, chunk_length_s=1.0)["text"]])
    assert texts[0] == texts[1] and len(texts[0][0]) > 5
