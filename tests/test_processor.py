"""The processor: against stock, both ways through files, in the stock pipeline."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from small_models import small_config

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import Wav2Vec2Processor
from wav2vec2.processing.tokenizer_files import TokenizerFileError
from wav2vec2.processing.vocabulary import build_vocabulary

RATE = 16_000


def sound(seconds: float, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(int(RATE * seconds)).astype(np.float32)


@pytest.fixture
def processor() -> Wav2Vec2Processor:
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(build_vocabulary(["hello world"]))
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer)


def test_sound_and_text_in_one_call(processor: Wav2Vec2Processor) -> None:
    clips, texts = [sound(0.1), sound(0.2)], ["hello world", "hello"]
    batch = processor(audio=clips, sampling_rate=RATE, text=texts, padding=True, return_tensors="pt")
    assert batch["input_values"].shape == (2, 3200)
    assert batch["attention_mask"].sum(1).tolist() == [1600, 3200]
    assert batch["labels"].shape == (2, 11)
    assert batch["labels"][1].tolist() == [*processor(text="hello").input_ids, *[-100] * 6]
    assert [processor.tokenizer.decode_labels(row) for row in batch["labels"]] == texts
    lists = processor(audio=clips, sampling_rate=RATE, text=texts, padding=True)
    assert lists["labels"] == batch["labels"].tolist()
    one = processor(audio=sound(0.1), sampling_rate=RATE, text="hello")
    assert one["labels"] == processor(text="hello").input_ids
    with pytest.raises(ValueError, match="audio=, text= or both"):
        processor()


def test_each_part_alone_as_in_stock(processor: Wav2Vec2Processor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    stock = transformers.Wav2Vec2Processor.from_pretrained(tmp_path)
    texts = ["hello world", "he"]
    ours, theirs = processor(text=texts, padding=True), stock(text=texts, padding=True)
    assert dict(ours) == dict(theirs)
    clip = sound(0.3)
    values = processor(clip, sampling_rate=RATE, return_tensors="pt").input_values
    torch.testing.assert_close(values, stock(clip, sampling_rate=RATE, return_tensors="pt").input_values)
    features = [{"input_values": sound(0.1)}, {"input_values": sound(0.2)}]
    labels = [{"input_ids": [3, 4]}, {"input_ids": [3]}]
    padded = processor.pad(features, labels=labels, padding=True, return_tensors="pt")
    expected = stock.pad(features, labels=labels, padding=True, return_tensors="pt")
    torch.testing.assert_close(padded["input_values"], expected["input_values"])
    assert padded["labels"].tolist() == [[3, 4], [3, -100]]
    assert dict(processor.pad(labels=labels, padding=True)) == dict(stock.pad(labels=labels, padding=True))
    assert processor.model_input_names == ["input_values", "attention_mask", "labels"]
    assert processor.decode([3, 3, 0, 4]) == stock.decode([3, 3, 0, 4])
    assert processor.batch_decode([[3], [4]]) == stock.batch_decode([[3], [4]])


def test_files_go_to_stock_and_back(processor: Wav2Vec2Processor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path / "ours")
    for load in (transformers.AutoProcessor, transformers.Wav2Vec2Processor):
        stock = load.from_pretrained(tmp_path / "ours")
        assert type(stock).__name__ == "Wav2Vec2Processor"
        assert stock.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        assert stock.feature_extractor.return_attention_mask is True
    stock.save_pretrained(tmp_path / "theirs")  # processor_config.json alone
    assert not (tmp_path / "theirs" / "preprocessor_config.json").exists()
    for folder in ("ours", "theirs"):
        again = Wav2Vec2Processor.from_pretrained(tmp_path / folder)
        assert isinstance(again.tokenizer, Wav2Vec2CTCTokenizer)
        assert isinstance(again.feature_extractor, Wav2Vec2FeatureExtractor)
        assert again.tokenizer.normalization == processor.tokenizer.normalization
        assert again.feature_extractor.return_attention_mask is True
    (tmp_path / "ours" / "processor_config.json").unlink()  # the layout of release 4
    assert Wav2Vec2Processor.from_pretrained(tmp_path / "ours").feature_extractor.sampling_rate == RATE
    assert len(transformers.AutoProcessor.from_pretrained(tmp_path / "ours").tokenizer) == len(processor.tokenizer)


def test_phonemes_are_recognised(tmp_path: Path) -> None:
    tokenizer = Wav2Vec2PhonemeCTCTokenizer({"<pad>": 0, "h": 1, "aɪ": 2}, unk_token=None)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path)
    again = Wav2Vec2Processor.from_pretrained(tmp_path)
    assert isinstance(again.tokenizer, Wav2Vec2PhonemeCTCTokenizer)
    assert again.decode([1, 2]) == "h aɪ"


def test_a_repository_without_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    message = r"no vocab.json.*build_vocabulary\(texts\).*Wav2Vec2FeatureExtractor.from_pretrained"
    with pytest.raises(TokenizerFileError, match=message):
        Wav2Vec2Processor.from_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "|": 1, "a": 2}))
    assert len(Wav2Vec2Processor.from_pretrained(tmp_path, unk_token=None).tokenizer) == 3


def test_the_stock_pipeline_takes_both(processor: Wav2Vec2Processor, tmp_path: Path) -> None:
    tokenizer = processor.tokenizer
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(vocab_size=len(tokenizer))).eval()
    recognise = transformers.pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=tokenizer,
        feature_extractor=processor.feature_extractor,
        device="cpu",
    )
    clip = sound(1.0)
    inputs = processor(clip, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        path = model(**inputs).logits.argmax(-1)[0]
    expected = tokenizer.decode(path, output_char_offsets=True, output_word_offsets=True)
    assert recognise(clip)["text"] == expected.text
    timed = recognise(clip, return_timestamps="word")
    assert timed["text"] == expected.text
    assert timed["chunks"] == [
        {"text": word["word"], "timestamp": (word["start_offset"] * 320 / RATE, word["end_offset"] * 320 / RATE)}
        for word in expected.word_offsets
    ]
    characters = recognise(clip, return_timestamps="char")["chunks"]
    assert [chunk["text"] for chunk in characters] == [one["char"] for one in expected.char_offsets]
    assert recognise(clip, chunk_length_s=5.0)["text"] == expected.text
    processor.save_pretrained(tmp_path)
    stocks = transformers.Wav2Vec2Processor.from_pretrained(tmp_path)
    by_stock = transformers.pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=stocks.tokenizer,
        feature_extractor=stocks.feature_extractor,
        device="cpu",
    )
    in_chunks = recognise(clip, chunk_length_s=0.6)["text"]
    assert in_chunks == by_stock(clip, chunk_length_s=0.6)["text"]
    assert len(in_chunks) > 5 and in_chunks != expected.text


def test_options_of_the_tokenizer_are_defaults_for_text(processor: Wav2Vec2Processor, tmp_path: Path) -> None:
    """As in stock: what it was loaded with holds for the labels, unless the call says otherwise."""
    processor.save_pretrained(tmp_path)
    options: dict[str, Any] = {"max_length": 20, "padding": "max_length"}
    for kind in (Wav2Vec2Processor, transformers.Wav2Vec2Processor):
        tokenizer_kind = type(processor.tokenizer) if kind is Wav2Vec2Processor else transformers.Wav2Vec2CTCTokenizer
        tokenizer = tokenizer_kind.from_pretrained(tmp_path, **options)
        made = kind(kind.from_pretrained(tmp_path).feature_extractor, tokenizer)
        labels = made(audio=sound(0.1), text="hello", sampling_rate=RATE)["labels"]
        assert len(labels) == 20
        assert len(made(text="hello", padding=False).input_ids) == 5
