"""`register()` makes Auto classes and pipelines use this package, twice is as once, and without it nothing changes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from registration_probe import AUTO_CLASSES
from small_models import SMALL

import wav2vec2

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def save_processor(folder: Path) -> None:
    """Stock's processor with 30 characters."""
    vocabulary = ["<pad>", "<unk>", "|", *LETTERS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json", bos_token=None, eos_token=None)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of its own saw before and after registering."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    # Layer norm: batches of stock's group norm depend on their padding, so there would be nothing to compare with.
    config = transformers.Wav2Vec2Config(**(SMALL | {"feat_extract_norm": "layer", "vocab_size": 30, "num_labels": 3}))
    for head in AUTO_CLASSES.values():
        model = getattr(transformers, head)(config)
        if head == "Wav2Vec2ForCTC":
            torch.nn.init.normal_(model.lm_head.weight)  # so that it says something
        model.save_pretrained(folder / head)
        save_processor(folder / head)
    probe, answers = Path(__file__).with_name("registration_probe.py"), folder / "answers.json"
    command = [sys.executable, str(probe), str(folder), str(answers)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(answers.read_text())
    return found


def test_stock_stays_untouched_before(seen: dict[str, Any]) -> None:
    """Importing this package changes no Auto class."""
    expected = {"AutoConfig": "transformers.Wav2Vec2Config"}
    for auto, head in AUTO_CLASSES.items():
        expected |= {auto: f"transformers.{head}", f"{auto}.from_config(stock)": f"transformers.{head}"}
    assert seen["before"] == expected
    assert type(transformers.AutoModel.from_config(transformers.Wav2Vec2Config(**SMALL))) is transformers.Wav2Vec2Model


@pytest.mark.parametrize("time", ["after", "again"])
def test_auto_classes_give_ours_after(time: str, seen: dict[str, Any]) -> None:
    """From a folder and from either configuration; a second call changes nothing."""
    expected = {"AutoConfig": "wav2vec2.Wav2Vec2Config"}
    for auto, head in AUTO_CLASSES.items():
        for name in (auto, f"{auto}.from_config(stock)", f"{auto}.from_config(ours)"):
            expected[name] = f"wav2vec2.{head}"
    assert seen[time] == expected


def test_stocks_own_classes_stay_stocks(seen: dict[str, Any]) -> None:
    """Who names stock's class gets it, and the processor is found as before."""
    assert seen["stock_class"] == "transformers.Wav2Vec2ForCTC"
    assert seen["processor"] == "transformers.Wav2Vec2Processor"


def test_speech_recognition_says_the_same(seen: dict[str, Any]) -> None:
    """The same text for single clips, and with times for overlapping chunks; a batch has that of its clips, where stock
    writes into the padding."""
    task = "automatic-speech-recognition"
    before, after = seen["before_pipelines"][task], seen["after_pipelines"][task]
    assert (before.pop("class"), after.pop("class")) == ("transformers.Wav2Vec2ForCTC", "wav2vec2.Wav2Vec2ForCTC")
    assert after["single"] == after["batch"] == before["single"] != before["batch"]
    texts = [answer["text"] for answer in after["single"]]
    assert len(texts[0]) > 10 and len(texts[1]) > 5 and texts[0] != texts[1]
    assert seen["after_pipelines"]["chunks"] == seen["before_pipelines"]["chunks"]
    assert len(seen["after_pipelines"]["chunks"]["chunks"]) > 5


def test_classification_gives_the_same_scores(seen: dict[str, Any]) -> None:
    """The same labels in the same order, with the same scores."""
    task, head = "audio-classification", "Wav2Vec2ForSequenceClassification"
    before, after = seen["before_pipelines"][task], seen["after_pipelines"][task]
    assert (before["class"], after["class"]) == (f"transformers.{head}", f"wav2vec2.{head}")
    for way in ("single", "batch"):
        for own, other in zip(after[way], before[way], strict=True):
            assert [entry["label"] for entry in own] == [entry["label"] for entry in other]
            scores = [entry["score"] for entry in own]
            assert scores == pytest.approx([entry["score"] for entry in other], rel=1e-5)
            assert sum(scores) == pytest.approx(1) and len(set(scores)) == 3


def test_importing_the_package_imports_no_library() -> None:
    """`import wav2vec2` costs nothing; the first name that is used does."""
    script = (
        "import sys, wav2vec2; heavy = {'torch', 'transformers', 'numpy', 'safetensors', 'accelerate'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert 'Wav2Vec2ForCTC' in dir(wav2vec2) and not heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_exists() -> None:
    """What `__all__` promises can be imported, and nothing else pretends to exist."""
    for name in wav2vec2.__all__:
        assert getattr(wav2vec2, name).__name__ == name
    with pytest.raises(AttributeError, match="Wav2Vec3"):
        _ = wav2vec2.Wav2Vec3
