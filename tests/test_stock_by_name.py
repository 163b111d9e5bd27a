"""Models of every kind, pushed by this package, loaded by name by stock Transformers: equal tensors, equal texts.

The stock is the installed one; `make test-compat` names in WAV2VEC2_STOCK_PYTHON the interpreter of an environment with
Transformers 4.57, which does not have this package.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_connections import connected, environment_for
from hub_routes import READER
from loopback_hub import running_hub
from publishable_folders import FACTS, publishable_folder, taken_as_loaded
from recognition_checkpoints import RATE, TOKENS, noise, processor, talkative_model
from small_models import CALM, small_config
from stock_twins import scatter_weights

from wav2vec2 import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    Wav2Vec2Processor,
)
from wav2vec2.modeling.language_adapters import language_parameters
from wav2vec2.sharing.model_card import write_card
from wav2vec2.sharing.push import push_folder
from wav2vec2.training.tuning_methods import write_language_adapter

#: Largest difference from stock's tensor, relative to its largest value.
TOLERANCE = 1e-5
STOCK_PYTHON = os.environ.get("WAV2VEC2_STOCK_PYTHON", sys.executable)
CLIPS = [noise(2.0, seed=1), noise(3.3, seed=2)]
VOCABULARIES = {"eng": TOKENS, "fra": ["<pad>", "<unk>", "|", *"uvwxyz"]}
RECOGNITION = {"tester/ctc-base": "base", "tester/ctc-large": "large_lv60k"}
PRETRAINED = {"tester/pretrained-base": "base", "tester/pretrained-large": "large_lv60k"}
CLASSIFIERS = {"tester/classifier-base": "base", "tester/classifier-large": "large_lv60k"}
LANGUAGES = "tester/languages"

# huggingface_hub 2.4 sends files by an argument that the HTTP library under it is about to rename.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]


@dataclass
class Answers:
    """What the stock process found, and the models as they were before they were pushed."""

    tensors: dict[str, Any]
    facts: dict[str, Any]
    models: dict[str, Any]
    told: list[str] = field(default_factory=list)

    def compare(self, what: str, expected: list[Any]) -> None:
        """One tensor for each clip, and a line on how far they are apart."""
        differences = []
        for number, tensor in enumerate(expected):
            theirs, ours = self.tensors[f"{what}/{number}"], tensor.float().numpy()
            assert theirs.shape == ours.shape and np.isfinite(theirs).all(), what
            assert theirs.std() > 0.01 * np.abs(theirs).max(), f"{what}: the model says the same of everything"
            differences.append(float(np.abs(theirs - ours).max() / np.abs(theirs).max()))
        self.told.append(f"{what}: {len(expected)} clips differ by {max(differences):.1e} of the largest value at most")
        assert max(differences) <= TOLERANCE, self.told[-1]

    def compare_texts(self, what: str, expected: list[str]) -> None:
        """One text for each clip, which says something."""
        assert self.facts[what] == expected and all(expected)
        self.told.append(f"{what}: {len(expected)} texts are equal ({', '.join(map(repr, expected))})")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """Push everything, and let one process load all of it."""
    place = tmp_path_factory.mktemp("by_name")
    with running_hub() as hub:
        with connected(hub, place / "home"):
            models = push_all(place)
        clips = [str(place / f"{number}.npy") for number in range(len(CLIPS))]
        for path, clip in zip(clips, CLIPS, strict=True):
            np.save(path, clip)
        wanted = [
            *({"name": name, "kind": "recognition"} for name in RECOGNITION),
            *({"name": name, "kind": "pretraining"} for name in PRETRAINED),
            *({"name": name, "kind": "classification"} for name in CLASSIFIERS),
            {"name": LANGUAGES, "kind": "languages", "languages": list(VOCABULARIES)},
        ]
        script, found = Path(__file__).with_name("support") / "stock_by_name_probe.py", place / "answers.npz"
        done = subprocess.run(
            [STOCK_PYTHON, "-P", str(script), json.dumps(wanted), *clips, str(found)],
            env=environment_for(hub, place / "stock_home", READER) | {"PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    with np.load(found) as content:
        tensors = dict(content)
    yield Answers(tensors, json.loads(str(tensors.pop("facts"))), models)


@pytest.fixture(autouse=True)
def shown(answers: Answers, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """With another stock than the installed one, what was compared is said."""
    yield
    told, answers.told = answers.told, []
    if "WAV2VEC2_STOCK_PYTHON" in os.environ:
        with capsys.disabled():
            versions = " and ".join(f"{name} {version}" for name, version in answers.facts["versions"].items())
            sys.stdout.writelines(f"\n  {versions}, {line}" for line in told)


def push_all(place: Path) -> dict[str, Any]:
    """Models by name: those for speech as folders with a card, the others part by part."""
    models: dict[str, Any] = {}
    for name, architecture in RECOGNITION.items():
        folder = publishable_folder(place / name, architecture=architecture)
        push_folder(folder, name, check=taken_as_loaded)
        models[name] = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    push_folder(languages_folder(place / LANGUAGES), LANGUAGES, check=taken_as_loaded)
    for name, architecture in (PRETRAINED | CLASSIFIERS).items():
        torch.manual_seed(0)
        head = Wav2Vec2ForPreTraining if name in PRETRAINED else Wav2Vec2ForSequenceClassification
        labels = {} if name in PRETRAINED else {"id2label": {0: "yes", 1: "no", 2: "maybe"}}
        models[name] = scatter_weights(head(small_config(architecture, **(CALM | labels)))).eval()
        models[name].push_to_hub(name)
        Wav2Vec2FeatureExtractor().push_to_hub(name)
    models[LANGUAGES] = place / LANGUAGES
    return models


def languages_folder(folder: Path) -> Path:
    """As MMS is published: one encoder, adapters and vocabularies of two languages of which one is in place."""
    model = talkative_model("mms")
    model.save_pretrained(folder)
    nested = {name: {token: index for index, token in enumerate(tokens)} for name, tokens in VOCABULARIES.items()}
    (folder / "nested.json").write_text(json.dumps(nested), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(folder / "nested.json", target_lang="eng")
    (folder / "nested.json").unlink()
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    for seed, (name, tokens) in enumerate(VOCABULARIES.items()):
        generator = torch.Generator().manual_seed(seed)
        tensors = {key: value.detach().clone() for key, value in language_parameters(model).items()}
        if seed:
            for value in tensors.values():
                value += 0.05 * torch.randn(value.shape, generator=generator)
            tensors |= {key: tensors[key][: len(tokens)] for key in ("lm_head.weight", "lm_head.bias")}
        write_language_adapter(folder, name, tensors)
    write_card(folder, FACTS)
    return folder


def inputs_of(clip: Any) -> Any:
    return Wav2Vec2FeatureExtractor()(clip, sampling_rate=RATE, return_tensors="pt")


def logits_of(model: Any) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [model(**inputs_of(clip)).logits for clip in CLIPS]


def texts_of(logits: list[torch.Tensor], tokenizer: Any) -> list[str]:
    return [tokenizer.batch_decode(one.argmax(-1))[0] for one in logits]


@pytest.mark.parametrize("name", RECOGNITION)
def test_recognition(name: str, answers: Answers) -> None:
    logits = logits_of(answers.models[name])
    answers.compare(f"{name}/logits", logits)
    for way in ("text", "pipeline"):
        answers.compare_texts(f"{name}/{way}", texts_of(logits, processor().tokenizer))


def test_languages_of_one_model(answers: Answers) -> None:
    texts = []
    for language in VOCABULARIES:
        model = Wav2Vec2ForCTC.from_pretrained(answers.models[LANGUAGES]).eval()
        tokenizer = Wav2Vec2Processor.from_pretrained(answers.models[LANGUAGES]).tokenizer
        model.set_language(language, tokenizer)
        logits = logits_of(model)
        assert logits[0].shape[-1] == len(VOCABULARIES[language])
        answers.compare(f"{LANGUAGES}/{language}/logits", logits)
        answers.compare_texts(f"{LANGUAGES}/{language}/text", texts_of(logits, tokenizer))
        texts.append(answers.facts[f"{LANGUAGES}/{language}/text"])
    assert texts[0] != texts[1]


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretrained_models(name: str, answers: Answers, tmp_path: Path) -> None:
    """Nothing is masked on either side; the codes are the same, so what they stand for is too."""
    model = answers.models[name]
    model.save_pretrained(tmp_path)
    encoder = Wav2Vec2Model.from_pretrained(tmp_path).eval()
    projected, quantized, states = [], [], []
    with torch.inference_mode():
        for clip in CLIPS:
            states.append(encoder(**inputs_of(clip)).last_hidden_state)
            unmasked = torch.zeros(1, states[-1].shape[1], dtype=torch.bool)
            found = model(**inputs_of(clip), mask_time_indices=unmasked)
            projected.append(found.projected_states)
            quantized.append(found.projected_quantized_states)
    answers.compare(f"{name}/projected", projected)
    answers.compare(f"{name}/quantized", quantized)
    for kind in ("AutoModel", "Wav2Vec2Model"):
        answers.compare(f"{name}/{kind}", states)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str, answers: Answers) -> None:
    model = answers.models[name]
    logits = logits_of(model)
    answers.compare(f"{name}/logits", logits)
    answers.compare_texts(f"{name}/pipeline", [model.config.id2label[int(one.argmax())] for one in logits])


def test_the_other_process_is_stocks(answers: Answers) -> None:
    """With the version that was asked for, if one was."""
    wanted = os.environ.get("WAV2VEC2_STOCK_VERSION", "")
    assert answers.facts["versions"]["transformers"].startswith(wanted)
