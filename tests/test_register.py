"""`register()` makes Auto classes and pipelines use this package, twice is as once, and without it nothing changes."""

import ast
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

PARTS = ("CTCTokenizer", "FeatureExtractor", "Processor")
LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def save_processor(folder: Path) -> None:
    """Stock's processor with 30 characters."""
    vocabulary = ["<pad>", "<unk>", "|", *LETTERS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json", bos_token=None, eos_token=None)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)


def save_processors(folder: Path) -> None:
    """Processors as releases and other models leave them; the name says which, and where there is no configuration."""
    theirs = {"wav2vec2": transformers.Wav2Vec2Config, "hubert": transformers.HubertConfig}
    for name in ("release 4", "release 5", "ours", "phonemes", "with a language model", "hubert", "features alone"):
        save_processor(folder / name)
        if name != "phonemes":
            theirs.get(name, transformers.Wav2Vec2Config)(vocab_size=30).save_pretrained(folder / name)
    for name in ("release 4 alone", "release 5 alone"):
        save_processor(folder / name)
    for name in ("release 4", "release 4 alone", "with a language model"):
        (folder / name / "processor_config.json").unlink()
        extractor = transformers.Wav2Vec2FeatureExtractor().to_dict()
        with_model = {"processor_class": "Wav2Vec2Processor" + ("WithLM" if "language" in name else "")}
        (folder / name / "preprocessor_config.json").write_text(json.dumps(extractor | with_model))
    wav2vec2.Wav2Vec2Processor.from_pretrained(folder / "ours").save_pretrained(folder / "ours")
    phonemes = wav2vec2.Wav2Vec2PhonemeCTCTokenizer({"<pad>": 0, "<unk>": 1, "a": 2}, bos_token=None, eos_token=None)
    wav2vec2.Wav2Vec2Processor(wav2vec2.Wav2Vec2FeatureExtractor(), phonemes).save_pretrained(folder / "phonemes")
    for path in (folder / "features alone").glob("*.json"):
        path.unlink()
    transformers.Wav2Vec2Config().save_pretrained(folder / "features alone")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / "features alone")


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
            model.lm_head.bias.data[1] = -50.0  # where <unk> is best, Transcriber takes the best letter
        model.save_pretrained(folder / head)
        save_processor(folder / head)
    save_processors(folder / "processors")
    probe, answers = Path(__file__).with_name("support") / "registration_probe.py", folder / "answers.json"
    command = [sys.executable, str(probe), str(folder), str(answers)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread)
    assert done.returncode == 0, done.stderr
    assert "has no option" not in done.stderr
    found: dict[str, Any] = json.loads(answers.read_text())
    return found


@pytest.mark.slow
def test_stock_stays_untouched_before(seen: dict[str, Any]) -> None:
    """Importing this package changes no Auto class."""
    expected = {"AutoConfig": "transformers.Wav2Vec2Config"}
    for auto, head in AUTO_CLASSES.items():
        expected |= {auto: f"transformers.{head}", f"{auto}.from_config(stock)": f"transformers.{head}"}
    assert seen["before"] == expected
    assert type(transformers.AutoModel.from_config(transformers.Wav2Vec2Config(**SMALL))) is transformers.Wav2Vec2Model


@pytest.mark.slow
@pytest.mark.parametrize("time", ["after", "again"])
def test_auto_classes_give_ours_after(time: str, seen: dict[str, Any]) -> None:
    """From a folder and from either configuration; a second call changes nothing."""
    expected = {"AutoConfig": "wav2vec2.Wav2Vec2Config"}
    for auto, head in AUTO_CLASSES.items():
        for name in (auto, f"{auto}.from_config(stock)", f"{auto}.from_config(ours)"):
            expected[name] = f"wav2vec2.{head}"
    assert seen[time] == expected


@pytest.mark.slow
def test_stocks_own_classes_stay_stocks(seen: dict[str, Any]) -> None:
    """Who names stock's class gets it."""
    assert seen["stock_class"] == "transformers.Wav2Vec2ForCTC"
    assert seen["stock_processor"] == "transformers.Wav2Vec2Processor"


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["release 4", "release 5", "ours", "phonemes", "release 4 alone", "release 5 alone"])
def test_tokenizers_extractors_and_processors_are_ours_after(folder: str, seen: dict[str, Any]) -> None:
    """Whoever saved them, with or without the configuration of a model beside them."""
    tokenizer = "Wav2Vec2PhonemeCTCTokenizer" if folder == "phonemes" else "Wav2Vec2CTCTokenizer"
    names = {"AutoTokenizer": tokenizer, "AutoFeatureExtractor": "Wav2Vec2FeatureExtractor"}
    names["AutoProcessor"] = "Wav2Vec2Processor"
    if folder != "phonemes":  # stock's needs a phonemizer even to load
        assert seen["components_before"][folder] == {auto: f"transformers.{name}" for auto, name in names.items()}
    assert seen["components_after"][folder] == {auto: f"wav2vec2.{name}" for auto, name in names.items()}


@pytest.mark.slow
def test_other_models_keep_what_they_had(seen: dict[str, Any]) -> None:
    """HuBERT names the same classes. A processor with a language model has methods that ours has not; its parts are
    ours. Without vocabulary there is no tokenizer, here or there."""
    before, after = seen["components_before"], seen["components_after"]
    assert after["hubert"] == before["hubert"]
    assert set(after["hubert"].values()) == {f"transformers.Wav2Vec2{name}" for name in PARTS}
    with_model, unchanged = "with a language model", "ImportError"  # pyctcdecode is not installed
    assert after[with_model]["AutoProcessor"] == before[with_model]["AutoProcessor"] == unchanged
    assert after[with_model]["AutoTokenizer"] == "wav2vec2.Wav2Vec2CTCTokenizer"
    assert after["features alone"]["AutoFeatureExtractor"] == "wav2vec2.Wav2Vec2FeatureExtractor"
    assert after["features alone"]["AutoTokenizer"] == "TokenizerFileError"


@pytest.mark.slow
def test_a_pipeline_says_what_transcriber_says(seen: dict[str, Any]) -> None:
    """Of a folder: the same text, with times and in chunks too."""
    found = seen["transcripts"]
    names = ("ForCTC", "CTCTokenizer", "FeatureExtractor")
    assert found["parts"] == [f"wav2vec2.Wav2Vec2{name}" for name in names]
    assert all(len(text) > 5 for text in found["transcriber"])
    assert found["single"] == found["in chunks"] == found["transcriber"]
    assert found["timed words"] == found["words"]
    assert found["timed letters"] == found["letters"]


@pytest.mark.slow
def test_speech_recognition_says_the_same(seen: dict[str, Any]) -> None:
    """The same text for single clips, in a batch the same as alone, and with times for overlapping chunks."""
    task = "automatic-speech-recognition"
    before, after = seen["before_pipelines"][task], seen["after_pipelines"][task]
    assert (before.pop("class"), after.pop("class")) == ("transformers.Wav2Vec2ForCTC", "wav2vec2.Wav2Vec2ForCTC")
    assert after["single"] == before["single"]
    assert after["batch"] == after["single"] != before["batch"], "stock reads letters out of padding"
    texts = [answer["text"] for answer in after["single"]]
    assert len(texts[0]) > 10 and len(texts[1]) > 5 and texts[0] != texts[1]
    assert seen["after_pipelines"]["chunks"] == seen["before_pipelines"]["chunks"]
    assert len(seen["after_pipelines"]["chunks"]["chunks"]) > 5


@pytest.mark.slow
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


@pytest.mark.slow
def test_stocks_models_are_imported_without_complaint() -> None:
    """Transformers writes the examples in their docstrings from the registered configuration, when it first needs them;
    where that names no checkpoint, it prints errors."""
    script = "import wav2vec2; wav2vec2.register(); import transformers; print(transformers.Wav2Vec2ForCTC.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Wav2Vec2ForCTC\n"), done.stderr
    assert "ERROR" not in done.stderr


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


def test_type_checkers_see_the_public_names_where_they_are() -> None:
    """The imports that only type checkers follow name what the package gives, from the same modules."""
    (block,) = (
        node for node in ast.parse(Path(str(wav2vec2.__file__)).read_text("utf-8")).body if isinstance(node, ast.If)
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: f"{node.module}" for node in imports for alias in node.names}
    assert seen == {name: f"wav2vec2.{module}" for name, module in wav2vec2._MODULE_OF.items()}
